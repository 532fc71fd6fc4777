//! Namespaces: deleted, taken out of production, or given up by their controller.

use controlplane::User;
use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};
use crate::world::{shared, text};

pub const TRIED: &[Tried] = &[
    ("namespace-deleted", namespace_deleted),
    ("namespace-with-one-protected-object", namespace_with_one_protected_object),
    ("namespace-label-taken-off", namespace_label_taken_off),
    ("namespace-label-through-status", namespace_label_through_status),
    ("namespace-label-through-finalize", namespace_label_through_finalize),
    ("namespace-finalizers-emptied", namespace_finalizers_emptied),
];

#[test]
fn no_namespace_goes_or_leaves_production() {
    attack(TRIED);
}

fn namespace_deleted(scene: &Scene) {
    for cascade in ["background", "foreground", "orphan"] {
        scene.agent(&["delete", &scene.own(), "--wait=false", &format!("--cascade={cascade}")]);
    }
    scene.agent(&["delete", &scene.own(), "--force", "--grace-period=0", "--wait=false"]);
}

fn namespace_with_one_protected_object(scene: &Scene) {
    let other = shared().unprotected();
    other.deployment("db");
    other.kubectl(User::Admin, &["label", "deployment/db", "tagout.dev/protect=true"]).succeeds();
    let name = format!("namespace/{}", other.name);
    scene.agent(&["delete", &name, "--wait=false"]);
    // Its finalizers are its controller's to take off.
    finalize(scene, &other.name, |namespace| namespace["spec"]["finalizers"] = json!([]));
    scene.agent(&["delete", &name, "--wait=false"]);
    let (own, inside) = (other.get(&name), other.get("deployment/db"));
    for live in [&own, &inside] {
        assert!(live["metadata"]["deletionTimestamp"].is_null(), "{} is going", text(&live["metadata"]["name"]));
    }
}

fn namespace_label_taken_off(scene: &Scene) {
    scene.agent(&["label", &scene.own(), "environment-"]);
    scene.agent(&["label", &scene.own(), "environment=test", "--overwrite"]);
    let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.namespace.name}});
    scene.agent_with(&["replace", "-f", "-"], &manifest.to_string());
    // Under the name of the one namespace in which Tagout guards nothing.
    scene.agent(&["label", &scene.own(), "kubernetes.io/metadata.name=tagout-system", "--overwrite"]);
}

fn namespace_label_through_status(scene: &Scene) {
    for label in [Value::Null, json!("test")] {
        scene.patch_status(&scene.own(), &json!({"metadata": {"labels": {"environment": label}}}));
    }
}

/// Writes a changed namespace through `/finalize`, which writes labels, too.
fn finalize(scene: &Scene, name: &str, change: impl FnOnce(&mut Value)) {
    let mut namespace = scene.namespace.get(&format!("namespace/{name}"));
    change(&mut namespace);
    let path = format!("/api/v1/namespaces/{name}/finalize");
    scene.agent_with(&["replace", "--raw", &path, "-f", "-"], &namespace.to_string());
}

fn namespace_label_through_finalize(scene: &Scene) {
    let change = |namespace: &mut Value| namespace["metadata"]["labels"]["environment"] = json!("test");
    finalize(scene, &scene.namespace.name, change);
}

/// What is in it would be left behind, and come back with the next namespace of this name.
fn namespace_finalizers_emptied(scene: &Scene) {
    finalize(scene, &scene.namespace.name, |namespace| namespace["spec"]["finalizers"] = json!([]));
    scene.agent(&["delete", &scene.own(), "--wait=false"]);
}
