//! `tagout crds apply`, with the rights of the chart's Job.

use std::process::Command;

use controlplane::installation::NAMESPACE;
use controlplane::{ControlPlane, Options, User};
use serde_json::{Value, json};

use crate::world::{Outcome, binary, chart};

/// A control plane on which nothing of Tagout is installed but the account of the Job, with its token.
struct Cluster {
    cp: ControlPlane,
    kubeconfig: std::path::PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let cp = ControlPlane::start(&Options::default()).unwrap();
        let kubectl = |args: &[&str], input: &str| Outcome::of(cp.kubectl(User::Admin).args(args), input).succeeds();
        kubectl(&["create", "namespace", NAMESPACE], "");
        let mut helm = cp.helm(User::Admin);
        helm.arg("template").arg("tagout").arg(chart()).args(["--namespace", NAMESPACE, "--show-only"]);
        helm.args(["templates/crds.yaml", "--set", "approvers.groups={senior-sre}", "--set", "service.port=443"]);
        let hook = Outcome::of(&mut helm, "").succeeds().out;
        let rights =
            hook.split("\n---\n").filter(|text| !text.contains("kind: Job")).collect::<Vec<_>>().join("\n---\n");
        kubectl(&["apply", "-f", "-"], &rights);
        let token = kubectl(&["create", "token", "tagout-crds", "-n", NAMESPACE], "").out;
        let kubeconfig = cp.write_kubeconfig("tagout-crds", token.trim()).unwrap();
        Self { cp, kubeconfig }
    }

    fn kubectl(&self, args: &[&str], input: &str) -> Outcome {
        Outcome::of(self.cp.kubectl(User::Admin).args(args), input)
    }

    fn apply(&self) -> Outcome {
        Outcome::of(Command::new(binary()).args(["crds", "apply"]).env("KUBECONFIG", &self.kubeconfig), "")
    }

    fn definition(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "crd", name, "-o", "json"], "").succeeds().out).unwrap()
    }
}

const RULES: &str = "protectionrules.tagout.dev";

#[test]
fn definitions_are_brought_to_what_the_version_needs_and_objects_stay() {
    let cluster = Cluster::start();
    let first = cluster.apply().succeeds().out;
    assert_eq!(first.matches(": created").count(), 5, "{first}");
    let again = cluster.apply().succeeds().out;
    assert_eq!(again.matches(": unchanged").count(), 5, "{again}");

    // As an older version had them, and as somebody else wrote them.
    let mut older = cluster.definition(RULES);
    let wanted = older["spec"]["versions"].clone();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    older.pointer_mut(&format!("{spec}/properties")).unwrap().as_object_mut().unwrap().remove("freeze").unwrap();
    if let Some(rules) = older.pointer_mut(&format!("{spec}/x-kubernetes-validations")) {
        *rules = json!([]);
    }
    older["metadata"]["managedFields"] = Value::Null;
    cluster.kubectl(&["replace", "-f", "-"], &older.to_string()).succeeds();
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "kept"}, "spec": {"groups": ["a"]}});
    cluster.kubectl(&["apply", "-f", "-"], &team.to_string()).succeeds();

    let upgraded = cluster.apply().succeeds().out;
    assert!(upgraded.contains(&format!("{RULES}: changed")), "{upgraded}");
    assert_eq!(upgraded.matches(": unchanged").count(), 4, "{upgraded}");
    assert_eq!(cluster.definition(RULES)["spec"]["versions"], wanted);
    cluster.kubectl(&["get", "approverteam", "kept"], "").succeeds();

    // Objects of a version that this one does not know would be lost.
    let stored = r#"{"status": {"storedVersions": ["v1alpha1", "v9"]}}"#;
    cluster
        .kubectl(&["patch", "crd", "ledgers.tagout.dev", "--subresource=status", "--type=merge", "-p", stored], "")
        .succeeds();
    cluster
        .kubectl(
            &["replace", "-f", "-"],
            &{
                older["metadata"]["resourceVersion"] = Value::Null;
                older
            }
            .to_string(),
        )
        .succeeds();
    let before = cluster.definition(RULES)["metadata"]["resourceVersion"].clone();
    cluster.apply().is_refused(&["ledgers.tagout.dev", "stored as v9", "Nothing was changed"]);
    assert_eq!(cluster.definition(RULES)["metadata"]["resourceVersion"], before, "half of it was written");
    cluster.cp.end();
}

#[test]
fn without_the_right_or_without_an_api_server_the_error_says_so() {
    let cluster = Cluster::start();
    cluster.kubectl(&["delete", "clusterrolebinding", "tagout-crds"], "").succeeds();
    // RBAC hears of it a moment later.
    crate::world::eventually("the right is gone", || !cluster.apply().ok);
    cluster.apply().is_refused(&["could not read approvals.tagout.dev", "is forbidden"]);
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&cluster.kubeconfig, nowhere.to_string()).unwrap();
    cluster.apply().is_refused(&["could not read approvals.tagout.dev", "onnect"]);
    cluster.cp.end();
}

#[test]
fn a_running_tagout_says_that_it_is_ready_and_a_missing_one_is_an_error() {
    let world = crate::world::shared();
    let check = |url: &str| Outcome::of(Command::new(binary()).args(["check", "--url", url]), "");
    check(&format!("https://{}/readyz", world.tagout.address())).succeeds();
    check("https://127.0.0.1:1/readyz").is_refused(&["https://127.0.0.1:1/readyz"]);
}
