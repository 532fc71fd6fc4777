//! The chart as it is rendered, without a cluster.

mod alerts;
mod expressions;
mod metrics;
mod rendered;
mod values;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::{fs, io::Write};

use controlplane::{Binaries, Program};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/tagout")
}

static BINARIES: LazyLock<Binaries> = LazyLock::new(|| Binaries::ensure().unwrap());

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// All values, none as it is by default.
fn everything() -> Value {
    yaml(&fs::read_to_string(root().join("tests/chart/everything.yaml")).unwrap())
}

/// As few values as there may be.
fn little() -> Value {
    json!({"approvers": {"groups": ["senior-sre"]}})
}

/// What a command says, and whether it went well.
fn said(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(out) } else { Err(out + &err) }
}

fn helm(arguments: &[&str], values: &Value) -> Result<String, String> {
    let mut helm = Command::new(BINARIES.path(Program::Helm));
    helm.arg(arguments[0]).args(&arguments[1..]).args(["--values", "-"]);
    said(&mut helm, &values.to_string())
}

fn rendered(values: &Value) -> Result<String, String> {
    helm(&["template", "tagout", chart().to_str().unwrap(), "--namespace", "tagout-system"], values)
}

fn objects(values: &Value) -> Vec<Value> {
    let rendered = rendered(values).unwrap_or_else(|error| panic!("{error}"));
    let documents = format!("\n{rendered}");
    documents.split("\n---\n").map(yaml).filter(|object| !object.is_null()).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"));
    assert!(found.next().is_none(), "there are two of {kind} {name}");
    object
}

/// `tagout-system` aside, the values with one taken away or put in.
fn with(mut values: Value, path: &str, value: Option<Value>) -> Value {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = &mut values;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        at = &mut at[part];
    }
    match value {
        Some(value) => at[last] = value,
        None => drop(at.as_object_mut().and_then(|at| at.remove(last))),
    }
    values
}
