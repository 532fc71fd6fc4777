//! The cookbook: each of its rules is applied as it stands there, and each line below it comes true.

use std::fs;
use std::thread;
use std::time::Duration;

use controlplane::{ControlPlane, User};
use serde_json::{Value, json};

use super::bare;
use super::page::Page;
use crate::world::{APPROVERS, Outcome, World, deployment, eventually, root};

const PAGE: &str = "docs/cookbook.md";

struct Recipe {
    title: String,
    /// What is applied, of Tagout's kinds.
    manifests: Vec<String>,
    steps: Vec<Step>,
}

struct Step {
    line: usize,
    who: User,
    does: String,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Passes,
    PassesWithAWarning,
    /// By Tagout.
    Refused,
    /// Before anything is asked of the API server.
    Fails,
}

#[test]
fn each_rule_of_the_cookbook_does_what_is_said_of_it() {
    let recipes = recipes(&fs::read_to_string(root().join(PAGE)).expect("the page is there"));
    assert!(recipes.len() >= 12, "{} recipes", recipes.len());
    let cp = bare();
    let page = Page::open(PAGE, cp);
    what_is_there(cp, &page);
    let values = ["protect.namespaceSelector=null", "protect.definitions=false"];
    let world = World::installed(cp, &[&APPROVERS[..], &values].concat());
    for recipe in &recipes {
        recipe.manifests.iter().for_each(|manifest| applied(&world, manifest));
        recipe.steps.iter().for_each(|step| step.is_so(&page));
        // It would warn of everything that follows.
        if recipe.title == "Begin with words" {
            world.kubectl(User::Admin, &["delete", "protectionrule", "everything-warns"]).succeeds();
        }
    }
    world.end();
}

fn what_is_there(cp: &'static ControlPlane, page: &Page) {
    let kubectl = |input: &str, args: &[&str]| {
        let mut command = cp.kubectl(User::Admin);
        Outcome::of(command.args(args), input).succeeds().out
    };
    let apply = |manifest: &str| kubectl(manifest, &["apply", "-f", "-"]);
    for (kind, plural, group) in [
        ("Cluster", "clusters", "postgresql.cnpg.io"),
        ("Application", "applications", "argoproj.io"),
        ("Certificate", "certificates", "cert-manager.io"),
        ("Unused", "unused", "example.com"),
    ] {
        apply(&definition(kind, plural, group).to_string());
        kubectl("", &["wait", "--for=condition=Established", &format!("crd/{plural}.{group}")]);
    }
    apply(&fs::read_to_string(root().join("tests/cluster/docs/cookbook.yaml")).expect("it is there"));
    let workloads = [
        ("sandbox", &["old"][..]),
        ("shop", &["web", "worker"]),
        ("live", &["site"]),
        ("pr-41", &["site"]),
        ("cleaned", &["a", "b", "c", "d"]),
        ("bank", &["teller"]),
        ("travel", &["booking"]),
        ("payments", &["ledger"]),
    ];
    for (namespace, names) in workloads {
        for name in names {
            let mut workload = deployment(name);
            workload["metadata"]["namespace"] = json!(namespace);
            apply(&workload.to_string());
        }
    }
    kubectl("", &["annotate", "-n", "shop", "deployment/worker", "example.com/scales-to-zero=true"]);
    let made = |manifest: Value| -> Value { serde_json::from_str(&apply_json(cp, &manifest)).expect("JSON") };
    let cluster = made(json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "main", "namespace": "databases"}, "spec": {"instances": 3}}));
    for name in ["main-1", "main-2", "main-3"] {
        made(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "databases", "ownerReferences": [controller(&cluster)]},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}));
    }
    made(json!({"apiVersion": "argoproj.io/v1", "kind": "Application", "metadata": {"name": "shop",
        "namespace": "argocd", "finalizers": ["resources-finalizer.argocd.argoproj.io"]}, "spec": {}}));
    let certificate = made(json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {}}));
    let owned = json!({"metadata": {"ownerReferences": [controller(&certificate)]}}).to_string();
    kubectl("", &["patch", "-n", "shop", "secret/web-tls", "-p", &owned]);
    chart(page);
}

fn apply_json(cp: &'static ControlPlane, manifest: &Value) -> String {
    let mut command = cp.kubectl(User::Admin);
    Outcome::of(command.args(["apply", "-o", "json", "-f", "-"]), &manifest.to_string()).succeeds().out
}

fn definition(kind: &str, plural: &str, group: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn controller(owner: &Value) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true})
}

/// A chart of a Deployment and a Service, where `helm` finds it.
fn chart(page: &Page) {
    page.file("front/Chart.yaml", "{apiVersion: v2, name: front, version: 0.1.0}");
    page.file("front/values.yaml", "replicas: 1");
    let mut front = deployment("front");
    front["spec"]["replicas"] = json!("REPLICAS");
    let front = front.to_string().replace("\"REPLICAS\"", "{{ .Values.replicas }}");
    page.file("front/templates/deployment.yaml", &front);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app": "front"}, "ports": [{"port": 80}]}});
    page.file("front/templates/service.yaml", &service.to_string());
}

/// Until all rules that there are now are in force.
fn applied(world: &World, manifest: &str) {
    // The holidays are always.
    let manifest = manifest.replace("2026-12-23T18:00", "2020-01-01T00:00").replace("2027-01-04", "2099-01-04");
    world.kubectl_with(User::Admin, &["apply", "-f", "-"], &manifest).succeeds();
    eventually("the rules are in force", || {
        let all = world.get(&["protectionrules"]);
        let rules = all["items"].as_array().expect("a list");
        rules.iter().all(|rule| {
            let ready =
                rule["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
            rule["status"]["observedGeneration"] == rule["metadata"]["generation"]
                && ready.is_some_and(|ready| ready["status"] == "True")
        })
    });
    // The API server hears of a changed configuration by a watch of its own.
    thread::sleep(Duration::from_millis(500));
}

impl Step {
    fn is_so(&self, page: &Page) {
        let outcome = page.types(self.who, &self.does);
        let said = format!("{PAGE}:{}: {}\n{}{}", self.line, self.does, outcome.out, outcome.err);
        match self.then {
            Then::Passes => assert!(outcome.ok && !outcome.err.contains("tagout: "), "{said}"),
            Then::PassesWithAWarning => assert!(outcome.ok && outcome.err.contains("Warning: tagout: "), "{said}"),
            // Helm does not say why.
            Then::Refused if self.does.starts_with("helm ") => assert!(!outcome.ok, "{said}"),
            Then::Refused => assert!(!outcome.ok && outcome.err.contains("tagout: denied"), "{said}"),
            Then::Fails => assert!(!outcome.ok && !outcome.err.contains("tagout: denied"), "{said}"),
        }
    }
}

fn recipes(page: &str) -> Vec<Recipe> {
    let mut found: Vec<Recipe> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            found.push(Recipe { title: title.to_owned(), manifests: Vec::new(), steps: Vec::new() });
        }
        let Some(recipe) = found.last_mut() else { continue };
        if line == "```yaml" {
            let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let block = block.join("\n");
            recipe.manifests.extend(block.contains("apiVersion: tagout.dev/").then_some(block));
        } else if line.starts_with("| `") {
            recipe.steps.push(step(at + 1, line));
        }
    }
    for recipe in &found {
        assert!(!recipe.manifests.is_empty() && !recipe.steps.is_empty(), "{} is tried by nobody", recipe.title);
    }
    found
}

fn step(line: usize, row: &str) -> Step {
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let [who, does, then] = cells[..] else { panic!("{PAGE}:{line}: not three cells: {row}") };
    let who = match who.trim_matches('`') {
        "admin" => User::Admin,
        "alice" => User::Alice,
        "bob" => User::Bob,
        "carol" => User::Carol,
        "ci-deployer" => User::Ci,
        "agent-7" => User::Agent,
        other => panic!("{PAGE}:{line}: who is {other}?"),
    };
    let then = match then {
        "passes" => Then::Passes,
        "passes, with a warning" => Then::PassesWithAWarning,
        "refused" => Then::Refused,
        "fails" => Then::Fails,
        other => panic!("{PAGE}:{line}: what is {other}?"),
    };
    Step { line, who, does: does.trim_matches('`').to_owned(), then }
}
