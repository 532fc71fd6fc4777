//! What is true of the repository itself.

#[path = "../redteam/routes.rs"]
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may know whom. Data flows one way: what decides knows nothing of what asks.
const ARROWS: [(&str, &[&str]); 13] = [
    ("api", &[]),
    ("actions", &["api"]),
    ("guard", &["actions", "api"]),
    ("entries", &["actions", "api"]),
    ("review", &["api"]),
    ("notify", &["api"]),
    ("cluster", &["actions", "api", "entries", "guard"]),
    ("telemetry", &["api", "cluster", "guard", "notify"]),
    ("gate", &["actions", "api", "cluster", "guard", "review", "telemetry"]),
    ("registrar", &["actions", "api", "cluster", "entries", "guard", "telemetry"]),
    ("certificates", &[]),
    ("serve", &["certificates", "cluster", "gate", "notify", "registrar", "telemetry"]),
    ("cli", &["api", "cluster", "entries", "gate", "guard", "notify", "telemetry"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files
}

#[test]
fn modules_know_only_whom_they_may_know() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(module, knows)| (*module, knows.iter().copied().collect())).collect();
    for entry in fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        if !entry.is_dir() || name == "bin" {
            continue;
        }
        let knows = allowed.get(name.as_str()).unwrap_or_else(|| panic!("src/{name} has no place in the map"));
        for file in rust_files(&entry) {
            let text = fs::read_to_string(&file).unwrap();
            for (at, _) in text.match_indices("crate::") {
                let rest = &text[at + "crate::".len()..];
                let other: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(other == name || knows.contains(other.as_str()), "{} uses {other}", file.display());
            }
        }
    }
}

#[test]
fn the_decision_does_no_input_or_output_and_reads_no_clock() {
    for module in ["actions", "guard", "entries", "api"] {
        // What stands in `…_tests` is compiled for tests only.
        let files = rust_files(&root().join("src").join(module));
        for file in files.iter().filter(|file| !file.to_str().unwrap().contains("_tests")) {
            let text = fs::read_to_string(file).unwrap();
            for forbidden in ["kube::Client", "Timestamp::now", "SystemTime", "Instant", "tokio", "std::fs", "std::env"]
            {
                let before_tests = text.split("#[cfg(test)]").next().unwrap();
                assert!(!before_tests.contains(forbidden), "{} uses {forbidden}", file.display());
            }
        }
    }
}

#[test]
fn the_definitions_in_the_chart_are_those_of_the_code() {
    let chart = fs::read_to_string(root().join("charts/tagout/crds/tagout.dev.yaml")).unwrap();
    assert!(chart == tagout::api::crds_yaml().unwrap(), "run `make generate` and commit what changes");
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() {
    let fresh = tempfile::tempdir().unwrap();
    assert!(Command::new(root().join("deploy/generate")).arg(fresh.path()).status().unwrap().success());
    for file in ["tagout.yaml", "crds.yaml", "kustomization.yaml"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap();
        let same = read(fresh.path()) == read(&root().join("deploy"));
        assert!(same, "deploy/{file} is out of date: run `make generate` and commit what changes");
    }
}

#[test]
fn no_file_is_longer_than_a_person_reads_in_one_sitting() {
    for folder in ["src", "tests", "fuzz/src"] {
        for file in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 520, "{} has {lines} lines", file.display());
        }
    }
}

/// The routes of the red team, for those who have to decide what else they need.
fn routes_page() -> String {
    let mut page = String::from(ROUTES_INTRODUCTION);
    for route in routes::ROUTES {
        let ends = match route.ends {
            routes::Ends::Stopped => "stopped",
            routes::Ends::Detected => "detected",
            routes::Ends::OutOfReach => "out of reach",
        };
        writeln!(page, "| {} | {} | {ends} | {} |", route.name, route.how, route.why).expect("a string takes it");
    }
    page
}

const ROUTES_INTRODUCTION: &str = "\
<!-- Made from tests/redteam/routes.rs: `UPDATE=1 cargo test --test house` writes this page. -->

# Routes to destruction

What an agent with every right in the cluster can try, and where it ends. Each route that is stopped or detected is
walked by the tests in `tests/redteam`, on a real control plane, with the rules that the chart installs, unless the
table names another rule. What counts there is what is left in the cluster afterwards.

* **stopped**: Tagout refuses it until a person has approved it. The last column names the action that a rule must list.
* **detected**: it happens, is noticed, and is put right where it can be.
* **out of reach**: Tagout does not stop it, for the reason given.

| route | what the agent does | ends | why |
|---|---|---|---|
";

#[test]
fn the_page_about_routes_is_that_of_the_red_team() {
    let page = root().join("docs/routes.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&page, routes_page()).unwrap();
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    assert!(written == routes_page(), "run `UPDATE=1 cargo test --test house` and commit what changes");
}

/// A patch that does not apply breaks nothing, and a test that is not there notices nothing.
#[test]
fn each_sabotage_still_fits_and_names_tests_that_exist() {
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let folder = fs::read_dir(root().join("tests/sabotage")).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<PathBuf> =
        folder.filter(|path| path.extension().is_some_and(|extension| extension == "patch")).collect();
    assert!(patches.len() >= 10, "{patches:?}");
    for path in patches {
        let (name, patch) = (path.display(), fs::read_to_string(&path).unwrap());
        let noticed: Vec<&str> = patch.lines().filter_map(|line| line.strip_prefix("Noticed by ")).collect();
        assert!(!noticed.is_empty(), "{name} says by which tests it is noticed");
        for test in noticed {
            let (step, test) = test.split_once(": ").unwrap();
            assert!(["unit", "cluster"].contains(&step), "{name}: {step}");
            // A case of a test is a function of no name in the code.
            let exists = test.rsplit("::").take(3).any(|function| code.contains(&format!("fn {function}(")));
            assert!(exists, "{name}: there is no {test}");
        }
        let (_, changes) = patch.split_once("\n--- a/").unwrap();
        for file in changes.split("\n--- a/") {
            let (path, hunks) = file.split_once('\n').unwrap();
            let text = fs::read_to_string(root().join(path)).unwrap();
            for hunk in hunks.split("\n@@ ").skip(1) {
                let before =
                    hunk.lines().skip(1).filter(|line| !line.starts_with('+')).filter_map(|line| line.get(1..));
                let before = before.collect::<Vec<_>>().join("\n");
                assert!(text.contains(&before), "{name} does not fit {path} any more:\n{before}");
            }
        }
    }
}
