//! Data that goes at once, or with the next deletion that looks harmless.

use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};

pub const TRIED: &[Tried] = &[
    ("volume-policy-changed", volume_policy_changed),
    ("volume-claim-cleared", volume_claim_cleared),
    ("volume-claim-changed", volume_claim_changed),
    ("volume-phase-forced", volume_phase_forced),
    ("claims-go-with-their-set", claims_go_with_their_set),
    ("secret-emptied", secret_emptied),
    ("config-map-emptied", config_map_emptied),
    ("finalizer-taken-off", finalizer_taken_off),
];

#[test]
fn no_data_go_and_none_are_made_ready_to_go() {
    attack(TRIED);
}

fn volume_policy_changed(scene: &Scene) {
    for policy in ["Delete", "Recycle"] {
        scene.patch(&scene.volume(), &json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
    }
    scene.agent(&["delete", "pvc/data-db-0", "--wait=false"]);
}

fn volume_claim_cleared(scene: &Scene) {
    scene.patch(&scene.volume(), &json!({"spec": {"claimRef": null}}));
    scene.patch(&scene.volume(), &json!({"spec": {"claimRef": {"uid": null}}}));
}

fn volume_claim_changed(scene: &Scene) {
    for part in [json!({"name": "other"}), json!({"namespace": "default"}), json!({"uid": "another"})] {
        scene.patch(&scene.volume(), &json!({"spec": {"claimRef": part}}));
    }
}

fn volume_phase_forced(scene: &Scene) {
    for phase in ["Released", "Available", "Failed", "Pending"] {
        scene.patch_status(&scene.volume(), &json!({"status": {"phase": phase}}));
        scene.agent(&["delete", &scene.volume(), "--wait=false"]);
    }
}

fn claims_go_with_their_set(scene: &Scene) {
    for policy in [json!({"whenDeleted": "Delete"}), json!({"whenScaled": "Delete"})] {
        scene.patch("statefulset/db", &json!({"spec": {"persistentVolumeClaimRetentionPolicy": policy}}));
    }
}

/// By any route: no data, empty data, other data.
fn emptied() -> [Value; 4] {
    [
        json!({"data": null}),
        json!({"data": {"a": "", "c": ""}}),
        json!({"data": {"a": null, "c": null}}),
        json!({"data": {"a": null, "c": null, "dummy": "eA=="}}),
    ]
}

fn secret_emptied(scene: &Scene) {
    for patch in emptied() {
        scene.patch("secret/key", &patch);
    }
}

fn config_map_emptied(scene: &Scene) {
    for patch in emptied() {
        scene.patch("configmap/settings", &patch);
    }
    scene.patch("configmap/settings", &json!({"data": null, "binaryData": {"a": "Yg=="}}));
}

/// One that the set's operator may need when it goes. It stays on what is not going.
fn finalizer_taken_off(scene: &Scene) {
    let finalizers = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    for what in ["statefulset/db", "deployment/api"] {
        scene.tidy(what, &finalizers(json!(["example.com/backup"])));
        scene.patch(what, &finalizers(Value::Null));
        scene.patch_status(what, &finalizers(Value::Null));
        let left = &scene.namespace.get(what)["metadata"]["finalizers"];
        assert_eq!(left, &json!(["example.com/backup"]), "the finalizer of {what} is gone");
    }
    let claim = "persistentvolumeclaim/data-db-0";
    scene.patch(claim, &finalizers(Value::Null));
    scene.patch_status(claim, &finalizers(Value::Null));
    let left = &scene.namespace.get(claim)["metadata"]["finalizers"];
    assert_eq!(left, &json!(["kubernetes.io/pvc-protection"]), "nothing keeps the claim while a pod uses it");
}
