//! The other half: what is stopped goes through in one try once a person has approved it.

use controlplane::User;
use serde_json::json;

use super::scene::Scene;
use crate::world::Outcome;

/// Alice approves it, the agent does it once, and it is done.
fn passes(scene: &Scene, what: &str, action: &str, attempt: impl Fn() -> Outcome) {
    attempt().is_refused(&[&format!("tagout: denied {action} of ")]);
    let mut statement = scene.namespace.statement(what, User::Alice);
    statement["action"] = json!(action);
    scene.namespace.present(User::Alice, what, &json!([statement])).succeeds();
    attempt().succeeds();
}

#[test]
fn what_was_approved_passes_at_once() {
    let scene = Scene::new();
    passes(&scene, "deployment/api", "ScaleToZero", || scene.agent(&["scale", "deployment/api", "--replicas=0"]));
    let policy = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    passes(&scene, "statefulset/db", "DiscardData", || scene.patch("statefulset/db", &policy));
    passes(&scene, "deployment/api", "Delete", || scene.agent(&["delete", "deployment/api", "--wait=false"]));
    let own = scene.own();
    passes(&scene, &own, "Unprotect", || scene.agent(&["label", &own, "environment-"]));
}

#[test]
fn what_was_approved_with_the_plugin_passes_at_once() {
    let scene = Scene::new();
    for what in ["secret/key", "service/api", "daemonset/log"] {
        let delete = ["delete", what, "--wait=false"];
        scene.agent(&delete).is_refused(&["tagout: denied Delete of "]);
        scene.namespace.approve(User::Bob, what);
        scene.agent(&delete).succeeds();
    }
}
