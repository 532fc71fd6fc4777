//! What controllers and operators do in production beside rollouts, with Tagout enforcing: nothing of it is refused.

use controlplane::User;
use serde_json::{Value, json};

use crate::approvals::{claim, denials, stateful_set};
use crate::routine::rolled_out;
use crate::world::{Namespace, World, deployment, eventually, shared, text};

fn nobody_was_refused(world: &World, namespace: &Namespace) {
    let refused = denials(world, namespace);
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn an_autoscaler_scales_up_and_down_and_not_to_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    let autoscaler = ["--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler", "--as-group=system:masters"];
    for replicas in ["--replicas=5", "--replicas=2"] {
        let scale = ["scale", "deployment/api", replicas];
        namespace.kubectl(User::Agent, &[&scale[..], &autoscaler].concat()).succeeds();
        rolled_out(&namespace, "deployment/api");
    }
    nobody_was_refused(shared(), &namespace);
}

#[test]
fn a_node_is_removed() {
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "spare"}, "spec": {"unschedulable": true}});
    shared().apply(User::Admin, &node).succeeds();
    shared().kubectl(User::Ci, &["delete", "node", "spare"]).succeeds();
}

#[test]
fn a_stateful_set_adopts_its_claims() {
    let namespace = shared().production();
    let mut set = stateful_set("db");
    set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete", "whenScaled": "Retain"});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": claim("data")["spec"]}]);
    namespace.apply(User::Ci, &set).succeeds();
    eventually("the claim is the set's", || {
        let found = namespace
            .kubectl(User::Admin, &["get", "pvc/data-db-0", "-o", "jsonpath={.metadata.ownerReferences[0].kind}"]);
        found.out == "StatefulSet"
    });
    nobody_was_refused(shared(), &namespace);
}

#[test]
fn a_deployment_adopts_what_another_left_behind() {
    let namespace = shared().production();
    namespace.deployment("api");
    rolled_out(&namespace, "deployment/api");
    let set = |namespace: &Namespace| namespace.kubectl(User::Admin, &["get", "rs", "-l", "app=api", "-o", "name"]).out;
    let before = set(&namespace);
    namespace.approve(User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--cascade=orphan"]).succeeds();
    let orphaned = |wanted: bool| {
        let owners = ["get", "rs", "-l", "app=api", "-o", "jsonpath={.items[0].metadata.ownerReferences}"];
        namespace.kubectl(User::Admin, &owners).out.is_empty() == wanted
    };
    eventually("its ReplicaSet is left behind", || orphaned(true));
    namespace.apply(User::Ci, &deployment("api")).succeeds();
    eventually("its ReplicaSet is adopted", || orphaned(false));
    assert_eq!(set(&namespace), before);
    nobody_was_refused(shared(), &namespace);
}

#[test]
fn a_claim_in_use_waits_for_its_pod_and_then_goes() {
    let namespace = shared().production();
    namespace.apply(User::Ci, &claim("data")).succeeds();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": {
        "containers": [{"name": "main", "image": "example.com/main:1"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}});
    namespace.apply(User::Ci, &pod).succeeds();
    namespace.approve(User::Alice, "persistentvolumeclaim/data");
    namespace.kubectl(User::Agent, &["delete", "pvc/data", "--wait=false"]).succeeds();
    namespace.kubectl(User::Ci, &["delete", "pod/user", "--wait=false"]).succeeds();
    eventually("the claim is gone", || !namespace.exists("pvc/data"));
    nobody_was_refused(shared(), &namespace);
}

#[test]
fn an_approved_definition_goes_with_all_its_objects() {
    let world = shared();
    let crd = format!("crd/{}", crate::carriers::define(world, "gizmos"));
    let namespace = world.production();
    for name in ["one", "two"] {
        namespace.apply(User::Ci, &crate::carriers::instance("gizmos", name)).succeeds();
    }
    world.kubectl(User::Agent, &["delete", &crd]).is_refused(&["rule definitions", "2 GIZMOS"]);
    world.kubectl(User::Alice, &["tagout", "approve", &crd, "--yes"]).succeeds();
    world.kubectl(User::Agent, &["delete", &crd, "--timeout=60s"]).succeeds();
    let left: Value = world.get(&["crd"]);
    assert!(!left["items"].as_array().unwrap().iter().any(|one| text(&one["metadata"]["name"]).starts_with("gizmos")));
}
