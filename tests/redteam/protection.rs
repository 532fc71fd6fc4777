//! What takes an object out of its rule, so that a plain deletion would do.

use controlplane::User;
use serde_json::json;

use super::scene::{Scene, Tried, attack};
use crate::approvals::{claim, uid};
use crate::world::{Namespace, rule, shared, text};

pub const TRIED: &[Tried] = &[
    ("label-taken-off", label_taken_off),
    ("label-taken-off-through-status", label_taken_off_through_status),
    ("exception-put-on", exception_put_on),
    ("condition-made-false", condition_made_false),
    ("rule-weakened-or-deleted", rule_weakened_or_deleted),
    ("approver-added", approver_added),
];

#[test]
fn nothing_leaves_its_rule() {
    attack(TRIED);
}

/// A namespace without a rule, with an object that asks for protection by itself.
fn labelled(what: &str) -> Namespace<'static> {
    let namespace = shared().unprotected();
    namespace.deployment("db");
    namespace.apply(User::Admin, &claim("data")).succeeds();
    namespace.kubectl(User::Admin, &["label", what, "tagout.dev/protect=true"]).succeeds();
    namespace
}

/// The agent does this elsewhere; then what it wanted to delete is still there, and still protected.
fn elsewhere(scene: &Scene, namespace: &Namespace, what: &str, attempts: &[&[&str]]) {
    let before = uid(namespace, what);
    for args in attempts {
        if namespace.kubectl(User::Agent, args).err.contains("denied the request: tagout") {
            scene.refused();
        }
    }
    namespace.kubectl(User::Agent, &["delete", what, "--wait=false"]);
    let live = namespace.get(what);
    assert_eq!(text(&live["metadata"]["uid"]), before, "{what} was replaced");
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{what} is going");
}

fn label_taken_off(scene: &Scene) {
    let namespace = labelled("deployment/db");
    let both = json!({"metadata": {"labels": {"tagout.dev/protect": null}}, "spec": {"replicas": 0}}).to_string();
    let attempts: [&[&str]; 4] = [
        &["label", "deployment/db", "tagout.dev/protect-"],
        &["label", "deployment/db", "tagout.dev/protect=false", "--overwrite"],
        &["patch", "deployment/db", "--type=merge", "-p", &both],
        &["patch", "deployment/db", "--type=json", "-p", r#"[{"op": "remove", "path": "/metadata/labels"}]"#],
    ];
    elsewhere(scene, &namespace, "deployment/db", &attempts);
}

/// A claim's status writes its labels, too.
fn label_taken_off_through_status(scene: &Scene) {
    let namespace = labelled("pvc/data");
    let patch = json!({"metadata": {"labels": {"tagout.dev/protect": null}}}).to_string();
    let attempt = ["patch", "pvc/data", "--subresource=status", "--type=merge", "-p", &patch];
    elsewhere(scene, &namespace, "pvc/data", &[&attempt]);
}

fn exception_put_on(scene: &Scene) {
    for annotation in ["helm.sh/hook=test", "argocd.argoproj.io/hook=Sync", "tagout.dev/disposable=true"] {
        for what in ["secret/key", "configmap/settings", "service/api"] {
            scene.agent(&["annotate", what, annotation]);
        }
    }
    scene.patch_status("service/api", &json!({"metadata": {"annotations": {"tagout.dev/disposable": "true"}}}));
}

fn condition_made_false(scene: &Scene) {
    let mut conditional = rule("redteam-conditional", "redteam-conditional");
    conditional["spec"]["matchConditions"] =
        json!([{"name": "tier", "expression": "object.metadata.?labels['tier'].orValue('') != 'batch'"}]);
    let namespace = crate::approvals::under(&[conditional]);
    namespace.deployment("db");
    elsewhere(scene, &namespace, "deployment/db", &[&["label", "deployment/db", "tier=batch"]]);
}

/// A rule of its own: the one that all tests share is not put at stake.
fn rule_weakened_or_deleted(scene: &Scene) {
    let namespace = crate::approvals::under(&[rule("redteam-loosened", "redteam-loosened")]);
    namespace.deployment("db");
    let patch = |spec: serde_json::Value| json!({"spec": spec}).to_string();
    let (audit, nowhere) =
        (patch(json!({"mode": "Audit"})), patch(json!({"namespaceSelector": {"matchLabels": {"rule": "nothing"}}})));
    let less = patch(json!({"actions": ["Unprotect"]}));
    let what = "protectionrule/redteam-loosened";
    let attempts: [&[&str]; 4] = [
        &["patch", what, "--type=merge", "-p", &audit],
        &["patch", what, "--type=merge", "-p", &nowhere],
        &["patch", what, "--type=merge", "-p", &less],
        &["delete", what, "--wait=false"],
    ];
    elsewhere(scene, &namespace, "deployment/db", &attempts);
}

fn approver_added(scene: &Scene) {
    let patch = json!({"spec": {"members": [{"user": User::Agent.name()}]}}).to_string();
    scene.agent(&["patch", "approverteam/approvers", "--type=merge", "-p", &patch]);
    scene.world.kubectl(User::Agent, &["tagout", "approve", "deployment/api", "-n", &scene.namespace.name, "--yes"]);
    scene.agent(&["delete", "deployment/api", "--wait=false"]);
}
