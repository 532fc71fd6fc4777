//! The guard itself is taken away, weakened or replaced. Walked where Tagout keeps itself as it is, as it does by default.

use std::thread;

use serde_json::json;

use super::scene::{CONTROLLERS, Scene, Tried, attack_on};
use crate::lock::{REFUSED, locked};

pub const TRIED: &[Tried] = &[
    ("webhook-configuration-of-a-rule-edited", webhook_configuration_of_a_rule_edited),
    ("webhook-configuration-of-tagout-deleted", webhook_configuration_of_tagout_deleted),
    ("tagout-stopped-or-replaced", tagout_stopped_or_replaced),
];

/// What cannot be kept from happening, and is noticed and put right.
pub const DETECTED: &[Tried] = &[("policies-of-tagout-deleted", policies_of_tagout_deleted)];

const HOME: &str = "tagout-system";

#[test]
fn nobody_takes_the_guard_away_or_puts_another_in_its_place() {
    attack_on(locked(), TRIED);
}

#[test]
fn policies_that_were_deleted_are_put_back_before_anything_is_lost() {
    let scene = Scene::on(Box::leak(Box::new(crate::lock::start())));
    let (name, run) = DETECTED[0];
    run(&scene);
    thread::sleep(CONTROLLERS);
    scene.survives(name);
}

fn webhook_configuration_of_a_rule_edited(scene: &Scene) {
    let configuration = "validatingwebhookconfiguration/tagout-production";
    for change in [
        json!([{"op": "replace", "path": "/webhooks", "value": []}]),
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        json!([{"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"no": "where"}}}]),
        json!([{"op": "replace", "path": "/metadata/annotations/tagout.dev~1compiler", "value": "999"}]),
    ] {
        scene.agent(&["patch", configuration, "--type=json", "-p", &change.to_string()]).is_refused(&[REFUSED]);
    }
    scene.agent(&["delete", configuration]).is_refused(&[REFUSED]);
}

fn webhook_configuration_of_tagout_deleted(scene: &Scene) {
    for cascade in ["background", "foreground", "orphan"] {
        scene
            .agent(&["delete", "validatingwebhookconfiguration", "tagout", &format!("--cascade={cascade}")])
            .is_refused(&[REFUSED]);
    }
    scene
        .agent(&["delete", "--raw", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"])
        .is_refused(&[REFUSED]);
}

fn tagout_stopped_or_replaced(scene: &Scene) {
    stopped(scene);
    replaced(scene);
}

fn stopped(scene: &Scene) {
    for args in [
        &["delete", "deployment/tagout", "service/tagout", "secret/tagout-certificates"][..],
        &["scale", "deployment/tagout", "--replicas=0"],
        &["delete", "serviceaccount/tagout", "role/tagout", "rolebinding/tagout"],
        &["create", "quota", "none", "--hard=pods=0"],
    ] {
        scene.agent(&[&["-n", HOME], args].concat()).is_refused(&[REFUSED]);
    }
    scene.agent(&["delete", "clusterrole/tagout", "clusterrolebinding/tagout"]).is_refused(&[REFUSED]);
    scene.agent(&["delete", "namespace", HOME, "--wait=false"]).is_refused(&[REFUSED]);
}

fn replaced(scene: &Scene) {
    scene
        .agent(&["-n", HOME, "run", "other", "--image=other", "--labels=app.kubernetes.io/name=tagout"])
        .is_refused(&[REFUSED]);
    scene.agent(&["-n", HOME, "set", "image", "deployment/tagout", "tagout=other"]).is_refused(&[REFUSED]);
    scene.agent(&["-n", HOME, "create", "token", "tagout"]).is_refused(&[REFUSED]);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "other", "namespace": HOME, "labels": {"kubernetes.io/service-name": "tagout"}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "webhook", "port": 8443}]});
    scene
        .world
        .kubectl_with(controlplane::User::Agent, &["create", "-f", "-"], &slice.to_string())
        .is_refused(&[REFUSED]);
    scene.refused();
    let selector = json!({"spec": {"selector": {"app": "other"}}}).to_string();
    scene.agent(&["-n", HOME, "patch", "service", "tagout", "-p", &selector]).is_refused(&[REFUSED]);
}

fn policies_of_tagout_deleted(scene: &Scene) {
    scene.agent(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]);
    scene.agent(&["delete", "validatingadmissionpolicy", "tagout", "tagout-home"]);
    crate::lock::is_locked(scene.world);
}
