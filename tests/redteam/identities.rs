//! The names of those whom every guard lets do their work: the agent takes them on.

use controlplane::User;
use serde_json::json;

use super::scene::{Scene, Tried, attack};
use crate::world::Outcome;

pub const TRIED: &[Tried] = &[
    ("as-the-garbage-collector", as_the_garbage_collector),
    ("as-the-namespace-controller", as_the_namespace_controller),
    ("as-other-controllers", as_other_controllers),
    ("token-of-a-controller", token_of_a_controller),
    ("deletion-record-forged", deletion_record_forged),
];

#[test]
fn nobody_is_let_pass_for_their_name() {
    attack(TRIED);
}

const ALL: [&str; 6] = [
    "deployment/api",
    "statefulset/db",
    "persistentvolumeclaim/data-db-0",
    "secret/key",
    "configmap/settings",
    "cronjob/report",
];

fn delete_as(scene: &Scene, account: &str) {
    let user = format!("--as={account}");
    let delete = ["delete", "--wait=false", &user, "--as-group=system:masters", "--as-group=system:authenticated"];
    scene.agent(&[&delete, &ALL[..], &[&scene.volume(), &scene.own()]].concat());
}

fn as_the_garbage_collector(scene: &Scene) {
    delete_as(scene, "system:serviceaccount:kube-system:generic-garbage-collector");
}

fn as_the_namespace_controller(scene: &Scene) {
    delete_as(scene, "system:serviceaccount:kube-system:namespace-controller");
}

fn as_other_controllers(scene: &Scene) {
    for account in [
        "system:kube-controller-manager",
        "system:apiserver",
        "system:node:node-1",
        "system:serviceaccount:kube-system:ttl-after-finished-controller",
        "system:serviceaccount:tagout-system:tagout",
    ] {
        delete_as(scene, account);
    }
}

fn token_of_a_controller(scene: &Scene) {
    for account in ["generic-garbage-collector", "namespace-controller"] {
        let token = scene.world.kubectl(User::Agent, &["create", "token", account, "-n", "kube-system"]).succeeds().out;
        let name = format!("{account}-{}", scene.namespace.name);
        let kubeconfig = scene.world.cp.write_kubeconfig(&name, token.trim()).expect("a kubeconfig");
        let mut kubectl = scene.world.cp.kubectl_with(&kubeconfig);
        kubectl.args(["-n", &scene.namespace.name, "delete", "--wait=false"]).args(ALL).args([scene.own()]);
        if Outcome::of(&mut kubectl, "").err.contains("denied the request: tagout") {
            scene.refused();
        }
    }
}

/// As if the owner that never was had been deleted with alice's approval, which named what goes along.
fn deletion_record_forged(scene: &Scene) {
    let api = scene.uid("deployment/api");
    let never = "11111111-2222-3333-4444-555555555555";
    let mut statement = scene.namespace.statement("deployment/api", User::Alice);
    statement["uid"] = json!(never);
    let protects = tagout::api::Protects::of(&[api].into(), Vec::new());
    statement["protects"] = serde_json::to_value(&protects).expect("it can be written");
    let record = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "DeletionRecord",
        "metadata": {"name": format!("forged-{}", scene.namespace.name)},
        "spec": {"resource": "deployments.apps", "apiVersion": "apps/v1", "namespace": scene.namespace.name,
            "name": "never", "uid": never, "requester": User::Agent.name(), "rules": ["production"],
            "statements": [statement], "protects": protects}});
    scene.agent_with(&["create", "-f", "-"], &record.to_string());
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "never", "uid": never});
    scene.patch("deployment/api", &json!({"metadata": {"ownerReferences": [owner]}}));
}
