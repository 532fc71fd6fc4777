//! Two steps, neither of which is destruction by itself.

use serde_json::json;

use super::scene::{Scene, Tried, attack};
use super::workloads::{replica_set, stuck};
use crate::world::eventually;

pub const TRIED: &[Tried] = &[
    ("placed-nowhere-then-recreated", placed_nowhere_then_recreated),
    ("placed-nowhere-all-unavailable", placed_nowhere_all_unavailable),
    ("stateful-set-placed-nowhere", stateful_set_placed_nowhere),
    ("replica-set-released-then-deleted", replica_set_released_then_deleted),
    ("replica-set-given-away-then-deleted", replica_set_given_away_then_deleted),
];

#[test]
fn workloads_are_not_left_without_pods_in_two_steps() {
    // Each in a scene of its own: a rollout that is stuck stays so.
    for one in TRIED {
        attack(std::slice::from_ref(one));
    }
}

const NOWHERE: &str = "no.such/place";

/// First the place, by which no pod goes yet; then the strategy, which asks for no place.
fn placed_nowhere_then_recreated(scene: &Scene) {
    stuck(scene);
    scene.patch("deployment/api", &json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
}

/// As Recreate does, under another name.
fn placed_nowhere_all_unavailable(scene: &Scene) {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}});
    let pod = json!({"spec": {"nodeSelector": {NOWHERE: "yes"}}});
    scene.patch("deployment/api", &json!({"spec": {"strategy": rolling, "template": pod}}));
}

fn stateful_set_placed_nowhere(scene: &Scene) {
    let pod = json!({"spec": {"nodeSelector": {NOWHERE: "yes"}}});
    scene.patch("statefulset/db", &json!({"spec": {"template": pod}}));
}

/// A set whose labels are not its Deployment's is let go by it; a paused Deployment makes no other.
fn replica_set_released_then_deleted(scene: &Scene) {
    let set = replica_set(scene);
    scene.agent(&["rollout", "pause", "deployment/api"]);
    scene.agent(&["label", &set, "app-"]);
    eventually("it is let go", || scene.namespace.get(&set)["metadata"].get("ownerReferences").is_none());
    scene.agent(&["delete", &set, "--wait=false"]);
}

/// With a controller of the agent's, it is no Deployment's any more.
fn replica_set_given_away_then_deleted(scene: &Scene) {
    let set = replica_set(scene);
    scene.agent(&["rollout", "pause", "deployment/api"]);
    scene.agent(&["create", "configmap", "controller"]);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "controller", "controller": true,
        "uid": scene.uid("configmap/controller")});
    scene.patch(&set, &json!({"metadata": {"ownerReferences": [owner]}}));
    scene.agent(&["delete", &set, "--wait=false"]);
}
