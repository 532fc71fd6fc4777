//! Label selectors, as Tagout and as the API machinery read them.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fuzz::selector::{Case, guard, plain};
use crate::random::Random;

const CASES: usize = 20_000;

/// Keys and values, some of which nobody may use.
const KEYS: [&str; 8] =
    ["tier", "app", "example.com/Team_1", "kubernetes.io/metadata.name", "", "not a key", "-x", "Tier"];
const VALUES: [&str; 9] = ["web", "", "batch", "Web", "a.B-c_d", "not a value!", "-", "web ", "1"];

fn case(random: &mut Random) -> Value {
    // Mostly what may be used, or nothing else would be tried.
    let key =
        |random: &mut Random| if random.below(12) == 0 { random.one_of(&KEYS) } else { random.one_of(&KEYS[..4]) };
    let value =
        |random: &mut Random| if random.below(12) == 0 { random.one_of(&VALUES) } else { random.one_of(&VALUES[..5]) };
    let mut labels = json!({});
    for _ in 0..random.below(4) {
        labels[random.one_of(&KEYS[..4])] = json!(random.one_of(&VALUES[..5]));
    }
    let mut selector = json!({});
    if random.below(3) > 0 {
        selector["matchLabels"] = json!({});
        for _ in 0..random.below(3) {
            let key = key(random);
            selector["matchLabels"][key] = json!(value(random));
        }
    }
    if random.below(3) > 0 {
        let mut expressions = Vec::new();
        for _ in 0..random.below(4) {
            let operator = random.one_of(&["In", "NotIn", "Exists", "DoesNotExist", "In", "NotIn", "Like"]);
            let most = if operator.ends_with("In") { 4 } else { 1 + usize::from(random.below(8) == 0) };
            let values: Vec<_> = (0..random.below(most)).map(|_| value(random)).collect();
            let mut one = json!({"key": key(random), "operator": operator});
            if !values.is_empty() || random.below(2) == 0 {
                one["values"] = json!(values);
            }
            expressions.push(one);
        }
        selector["matchExpressions"] = json!(expressions);
    }
    json!({"selector": selector, "labels": labels})
}

/// What the API machinery says of each: `true`, `false`, or that it does not take it.
fn machinery(cases: &[Value]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for case in cases {
        writeln!(lines, "{case}").unwrap();
    }
    let file = folder.path().join("cases");
    fs::write(&file, lines).unwrap();
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/go");
    let output = Command::new("go")
        .args(["run", "-trimpath", "-mod=readonly", "."])
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .stdin(fs::File::open(file).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .expect("Go 1.26");
    assert!(output.status.success(), "the Go program failed");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_selector_chooses_what_the_api_machinery_says_that_it_chooses() {
    let mut random = Random(3);
    let cases: Vec<Value> = (0..CASES).map(|_| case(&mut random)).collect();
    let said = machinery(&cases);
    assert_eq!(said.len(), CASES);
    let mut counts = std::collections::BTreeMap::new();
    for (case, said) in cases.iter().zip(&said) {
        *counts.entry(said.as_str()).or_insert(0) += 1;
        let read: Case = serde_json::from_value(case.clone()).unwrap();
        let expected = match said.as_str() {
            "true" => true,
            "false" => false,
            // It never comes into force.
            _ => continue,
        };
        assert_eq!(guard(&read), Ok((expected, expected)), "{case}");
        assert_eq!(plain(&read.selector, &read.labels), Some(expected), "{case}");
    }
    for outcome in ["true", "false", "invalid"] {
        assert!(counts.get(outcome).is_some_and(|count| *count > CASES / 20), "{counts:?}");
    }
}
