//! How much passes without approval, how much passes at all, and when nothing does.

use controlplane::User;
use serde_json::{Value, json};

use crate::recreation::labelled;
use crate::world::{Namespace, Outcome, eventually, rule, shared};

fn budgeted(name: &str, spec: &Value) -> Value {
    let mut rule = rule(name, name);
    rule["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["configmaps"]}]);
    rule["spec"]["actions"] = json!(["Delete", "Recreate"]);
    for (field, value) in spec.as_object().expect("fields") {
        rule["spec"][field] = value.clone();
    }
    rule
}

pub fn under(name: &str, spec: &Value) -> Namespace<'static> {
    shared().rule(&budgeted(name, spec));
    labelled(name)
}

pub fn fill(namespace: &Namespace, names: &[&str]) {
    for name in names {
        namespace.kubectl(User::Admin, &["create", "configmap", name]).succeeds();
    }
}

fn delete(namespace: &Namespace, user: User, name: &str) -> Outcome {
    namespace.kubectl(user, &["delete", "configmap", name])
}

/// A statement by alice on all that is in the namespace.
fn approve_contents(namespace: &Namespace) {
    let name = format!("ns/{}", namespace.name);
    shared().kubectl(User::Alice, &["tagout", "approve", &name, "--contents", "--yes"]).succeeds();
}

fn entries(rule: &str) -> Vec<Value> {
    shared().get(&[&format!("ledger/{rule}")])["spec"]["entries"].as_array().expect("entries").clone()
}

#[test]
fn an_allowance_lets_each_requester_delete_so_much_and_then_asks() {
    let namespace = under("allowance", &json!({"allowance": {"count": 2, "window": "10m", "per": "Requester"}}));
    fill(&namespace, &["a", "b", "c", "d", "e"]);
    delete(&namespace, User::Agent, "a").succeeds();
    // A trial takes no place.
    namespace.kubectl(User::Agent, &["delete", "configmap", "c", "--dry-run=server"]).succeeds();
    delete(&namespace, User::Agent, "b").succeeds();
    for _ in 0..2 {
        delete(&namespace, User::Agent, "c").is_refused(&[
            "needs approval by 1 of approvers (rule allowance)",
            "Without approval rule allowance lets 2 in 10m for each requester pass, and they have.",
            "The next is possible at 20",
            "kubectl tagout approve configmaps/c",
        ]);
    }
    delete(&namespace, User::Ci, "c").succeeds();
    // What was let pass by nobody's approval does not return by itself, but for another place.
    namespace
        .kubectl(User::Agent, &["create", "configmap", "a"])
        .is_refused(&["denied Recreate of configmaps \"a\"", "Without approval rule allowance lets 2"]);
    namespace.kubectl(User::Ci, &["create", "configmap", "a"]).succeeds();
    namespace.kubectl(User::Ci, &["create", "configmap", "b"]).is_refused(&["denied Recreate"]);
    // Approval is beside the allowance.
    approve_contents(&namespace);
    delete(&namespace, User::Agent, "d").succeeds();

    let entries = entries("allowance");
    assert_eq!(entries.iter().filter(|entry| entry["allowance"] == true).count(), 4, "{entries:?}");
}

#[test]
fn a_ceiling_holds_whoever_approved_and_an_emergency_passes_it() {
    let spec = json!({"ceiling": {"count": 2, "window": "1h", "per": "Namespace"}, "approval": {
        "require": [{"anyOf": ["approvers"]}], "breakGlass": {"anyOf": ["approvers"]}}});
    let namespace = under("ceiling", &spec);
    fill(&namespace, &["a", "b", "c", "d"]);
    delete(&namespace, User::Agent, "a").is_refused(&["needs approval"]);
    approve_contents(&namespace);
    delete(&namespace, User::Agent, "a").succeeds();
    delete(&namespace, User::Ci, "b").succeeds();
    delete(&namespace, User::Agent, "c").is_refused(&[
        "denied Delete of configmaps \"c\"",
        "the ceiling of rule ceiling is reached (2 in 1h in each namespace)",
        "Approved or not, rule ceiling lets 2 in 1h in each namespace pass, and they have. The next is possible at 20",
        "In an emergency one person of approvers may let it pass at once.",
        "Stop here and hand this to a person",
    ]);
    let other = labelled("ceiling");
    fill(&other, &["a"]);
    approve_contents(&other);
    delete(&other, User::Agent, "a").succeeds();

    let emergency = ["tagout", "approve", "cm/c", "-n", &namespace.name, "--break-glass", "--reason=fire", "--yes"];
    shared().kubectl(User::Bob, &emergency).succeeds();
    delete(&namespace, User::Agent, "c").succeeds();
    delete(&namespace, User::Agent, "d").is_refused(&["the ceiling of rule ceiling is reached"]);
    assert_eq!(entries("ceiling").len(), 4);
}

#[test]
fn what_is_tolerated_counts_too_and_a_storm_of_little_ones_ends() {
    let spec = json!({"tolerate": {"objects": 1}, "ceiling": {"count": 3, "window": "1h", "per": "Rule"}});
    let namespace = under("tolerated-storm", &spec);
    fill(&namespace, &["a", "b", "c", "d", "e"]);
    let all = namespace.kubectl(User::Agent, &["delete", "configmaps", "a", "b", "c", "d", "e"]);
    all.is_refused(&["the ceiling of rule tolerated-storm is reached (3 in 1h)"]);
    let left = namespace.get("configmaps")["items"].as_array().unwrap().len();
    // And the one that Kubernetes put there.
    assert_eq!(left, 2 + 1);
}

#[test]
fn what_follows_from_an_admitted_root_is_neither_counted_nor_refused() {
    let spec = json!({"ceiling": {"count": 1, "window": "1h", "per": "Rule"}, "resources": [
        {"apiGroups": [""], "resources": ["configmaps", "namespaces"]}]});
    let namespace = under("roots", &spec);
    fill(&namespace, &["a", "b", "c"]);
    let name = format!("ns/{}", namespace.name);
    shared().kubectl(User::Alice, &["tagout", "approve", &name, "--yes"]).succeeds();
    shared().kubectl(User::Agent, &["delete", &name, "--timeout=60s"]).succeeds();
    assert_eq!(entries("roots").len(), 1);
}

#[test]
fn volumes_are_counted_by_themselves() {
    let spec = json!({"ceiling": {"count": 10, "volumes": 0, "window": "1h", "per": "Rule"}, "resources": [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"]}]});
    let namespace = under("volumes", &spec);
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": format!("pv-{}", namespace.name),
        "resources": {"requests": {"storage": "1Gi"}}}});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("pv-{}", namespace.name)}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": "", "hostPath": {"path": "/tmp/none"},
        "claimRef": {"namespace": namespace.name, "name": "data"}}});
    shared().apply(User::Admin, &volume).succeeds();
    namespace.apply(User::Admin, &claim).succeeds();
    eventually("it is bound", || namespace.get("pvc/data")["status"]["phase"] == "Bound");
    approve_contents(&namespace);
    namespace
        .kubectl(User::Agent, &["delete", "pvc/data", "--wait=false"])
        .is_refused(&["the ceiling of rule volumes is reached (volumes)", "the data of 0 volumes"]);
}

#[test]
fn a_freeze_keeps_what_people_approved_and_not_what_an_emergency_asks() {
    let frozen =
        json!([{"schedule": "* * * * *", "duration": "1h", "timeZone": "Europe/Berlin", "reason": "peak season"}]);
    let spec = json!({"freeze": frozen, "approval": {
        "require": [{"anyOf": ["approvers"]}], "breakGlass": {"anyOf": ["approvers"]}}});
    let namespace = under("frozen", &spec);
    fill(&namespace, &["a", "b"]);
    approve_contents(&namespace);
    delete(&namespace, User::Agent, "a").is_refused(&[
        "rule frozen is frozen until 20",
        "(\"peak season\")",
        "Until then nobody's approval lets it pass.",
        "In an emergency one person of approvers",
    ]);
    let status = shared().get(&["protectionrule/frozen"])["status"]["freeze"].clone();
    assert!(status["frozen"] == true && status["reason"] == "peak season" && status["changes"].is_string(), "{status}");
    // What is made, and was never destroyed, is no matter of a freeze.
    fill(&namespace, &["c"]);
    let emergency = ["tagout", "approve", "cm/a", "-n", &namespace.name, "--break-glass", "--reason=fire", "--yes"];
    shared().kubectl(User::Bob, &emergency).succeeds();
    delete(&namespace, User::Agent, "a").succeeds();
}

#[test]
fn a_freeze_to_come_is_said_and_one_that_makes_no_sense_is_not_taken() {
    let mut rule = budgeted(
        "freezes",
        &json!({"freeze": [
        {"from": "2099-12-23T18:00", "until": "2100-01-04T08:00", "timeZone": "Europe/Berlin", "reason": "holidays"}]}),
    );
    shared().rule(&rule);
    let status = shared().get(&["protectionrule/freezes"])["status"]["freeze"].clone();
    assert_eq!(status, json!({"frozen": false, "changes": "2099-12-23T17:00:00Z", "reason": "holidays"}));
    rule["spec"]["freeze"][0]["timeZone"] = json!("Europe/Atlantis");
    shared().permit(&rule);
    shared().apply(User::Admin, &rule).is_refused(&["freeze[0]: there is no time zone \"Europe/Atlantis\""]);
    rule["spec"]["freeze"][0]["timeZone"] = json!("Europe/Berlin");
    rule["spec"]["freeze"][0]["schedule"] = json!("0 0 * * *");
    shared().apply(User::Admin, &rule).is_refused(&["say from and until, or schedule and duration"]);
}

#[test]
fn budgets_and_freezes_are_weakened_by_approval_only() {
    let strict = json!({"ceiling": {"count": 5, "window": "1h", "per": "Rule"}, "recreation": {"window": "24h"},
        "freeze": [{"schedule": "0 18 * * 5", "duration": "62h", "reason": "weekend"}]});
    let rule = budgeted("weakened", &strict);
    shared().rule(&rule);
    let change = |field: &str, value: Value| {
        let mut changed = rule.clone();
        changed["spec"][field] = value;
        shared().apply(User::Agent, &changed)
    };
    for (field, value) in [
        ("ceiling", json!({"count": 6, "window": "1h", "per": "Rule"})),
        ("ceiling", json!({"count": 5, "window": "30m", "per": "Rule"})),
        ("ceiling", json!({"count": 5, "window": "1h", "per": "Namespace"})),
        ("ceiling", Value::Null),
        ("allowance", json!({"count": 1, "window": "1h", "per": "Rule"})),
        ("recreation", json!({"window": "1h"})),
        ("freeze", json!([])),
        ("freeze", json!([{"schedule": "0 18 * * 5", "duration": "1h", "reason": "weekend"}])),
    ] {
        change(field, value).is_refused(&["It would be weaker", field]);
    }
    change("ceiling", json!({"count": 4, "window": "2h", "per": "Rule"})).succeeds();
}

#[test]
fn nobody_but_tagout_writes_a_ledger() {
    let spec = json!({"tolerate": {"objects": 1}, "ceiling": {"count": 1, "window": "1h", "per": "Rule"}});
    let namespace = under("own-ledger", &spec);
    fill(&namespace, &["a", "b"]);
    delete(&namespace, User::Agent, "a").succeeds();
    for refused in [
        shared().kubectl(User::Agent, &["delete", "ledger/own-ledger"]),
        shared()
            .kubectl(User::Agent, &["patch", "ledger/own-ledger", "--type=merge", "-p", r#"{"spec":{"entries":[]}}"#]),
    ] {
        refused.is_refused(&["Tagout itself counts and nobody else"]);
    }
    delete(&namespace, User::Agent, "b").is_refused(&["the ceiling"]);
}
