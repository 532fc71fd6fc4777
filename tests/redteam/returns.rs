//! Deleted and made anew, and many little deletions: each of them allowed, together a disaster.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};
use crate::recreation::{create, delete, returns, under};
use crate::world::{deployment, text};
use controlplane::User;

pub const TRIED: &[Tried] = &[
    ("recreated-in-disguise", recreated_in_disguise),
    ("recreated-with-a-borrowed-controller", recreated_with_a_borrowed_controller),
    ("recreated-while-it-goes", recreated_while_it_goes),
    ("recreated-behind-a-slow-webhook", recreated_behind_a_slow_webhook),
    ("namespace-made-anew-elsewhere", namespace_made_anew_elsewhere),
    ("memory-wiped", memory_wiped),
    ("memory-closed", memory_closed),
    ("storm-of-little-deletions", storm_of_little_deletions),
    ("storm-behind-a-throw-away-owner", storm_behind_a_throw_away_owner),
    ("review-that-cannot-be-read", review_that_cannot_be_read),
];

#[test]
fn nothing_returns_in_disguise_and_no_storm_passes() {
    attack(TRIED);
}

fn heard(scene: &Scene, outcome: &crate::world::Outcome) {
    assert!(!outcome.ok, "it was let pass: {}", outcome.out);
    if outcome.err.contains("denied the request: tagout") {
        scene.refused();
    }
}

fn recreated_in_disguise(scene: &Scene) {
    let mut rule = returns("red-disguise");
    rule["spec"]["objectSelector"] = json!({"matchLabels": {"app": "api"}});
    let namespace = under("red-disguise", &rule);
    create(&namespace, &deployment("api")).succeeds();
    delete(&namespace, "deployment/api");
    let mut disguised = deployment("api");
    disguised["metadata"]["labels"] = json!({"app": "other"});
    disguised["metadata"]["annotations"] = json!({"helm.sh/hook": "pre-install", "tagout.dev/disposable": "true"});
    heard(scene, &create(&namespace, &disguised));
}

fn recreated_with_a_borrowed_controller(scene: &Scene) {
    let namespace = under("red-controller", &returns("red-controller"));
    create(&namespace, &deployment("api")).succeeds();
    create(&namespace, &deployment("living")).succeeds();
    let uid = namespace.get("deployment/living")["metadata"]["uid"].clone();
    let owners =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "living", "controller": true, "uid": uid}]);
    // It is lent a controller that lives, and has that one when it returns.
    let lend = json!({"metadata": {"ownerReferences": owners}}).to_string();
    namespace.kubectl(User::Agent, &["patch", "deployment/api", "--type=merge", "-p", &lend]).succeeds();
    delete(&namespace, "deployment/api");
    let mut owned = deployment("api");
    owned["metadata"]["ownerReferences"] = owners;
    heard(scene, &create(&namespace, &owned));
}

fn recreated_while_it_goes(scene: &Scene) {
    let namespace = under("red-racing", &returns("red-racing"));
    let mut held = deployment("api");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    create(&namespace, &held).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--wait=false"]).succeeds();
    heard(scene, &create(&namespace, &deployment("api")));
    let free = json!({"metadata": {"finalizers": null}}).to_string();
    namespace.kubectl(User::Agent, &["patch", "deployment/api", "--type=merge", "-p", &free]).succeeds();
    heard(scene, &create(&namespace, &deployment("api")));
}

/// The creation is reviewed while the object stands, and stored when it is gone.
fn recreated_behind_a_slow_webhook(scene: &Scene) {
    let namespace = under("red-slow", &returns("red-slow"));
    create(&namespace, &deployment("api")).succeeds();
    // It never answers, and lets pass when its time is over.
    let slow = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/", slow.local_addr().expect("an address"));
    let other = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "red-slow"}, "webhooks": [{"name": "red-slow.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore", "timeoutSeconds": 5, "clientConfig": {"url": url},
        "namespaceSelector": {"matchLabels": {"rule": "red-slow"}}, "rules": [{"apiGroups": ["apps"],
        "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]}]});
    scene.world.apply(User::Agent, &other).succeeds();
    thread::sleep(Duration::from_secs(1));
    let made = thread::scope(|scope| {
        let creating = scope.spawn(|| create(&namespace, &deployment("api")));
        thread::sleep(Duration::from_secs(1));
        delete(&namespace, "deployment/api");
        creating.join().expect("it ends")
    });
    scene.world.kubectl(User::Admin, &["delete", "validatingwebhookconfiguration", "red-slow"]).succeeds();
    assert!(!made.ok && made.err.contains("already exists"), "{}{}", made.out, made.err);
    assert!(!namespace.exists("deployment/api"), "it came back");
    heard(scene, &create(&namespace, &deployment("api")));
}

fn namespace_made_anew_elsewhere(scene: &Scene) {
    let mut rule = returns("red-elsewhere");
    rule["spec"]["resources"] = json!([{"apiGroups": ["apps"], "resources": ["deployments"]}]);
    let namespace = under("red-elsewhere", &rule);
    create(&namespace, &deployment("api")).succeeds();
    delete(&namespace, "deployment/api");
    let world = scene.world;
    world.kubectl(User::Agent, &["delete", "namespace", &namespace.name, "--timeout=60s"]).succeeds();
    heard(scene, &world.kubectl(User::Agent, &["create", "namespace", &namespace.name]));
    let labels: serde_json::Map<String, Value> = (0..4200).map(|number| (format!("k{number}"), json!(""))).collect();
    let padded =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": labels}});
    heard(scene, &world.kubectl_with(User::Agent, &["create", "-f", "-"], &padded.to_string()));
    let back = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name,
        "labels": {"rule": "red-elsewhere"}}});
    world.apply(User::Agent, &back).succeeds();
    heard(scene, &create(&namespace, &deployment("api")));
}

fn memory_closed(scene: &Scene) {
    let closed = json!([{"op": "replace", "path": "/status/conditions", "value": [
        {"type": "Established", "status": "False", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]);
    for definition in ["crd/deletionrecords.tagout.dev", "crd/ledgers.tagout.dev"] {
        let patch = ["patch", definition, "--subresource=status", "--type=json", "-p", &closed.to_string()];
        heard(scene, &scene.world.kubectl(User::Agent, &patch));
    }
}

/// What nobody can read is let pass by entries that are open while Tagout is away.
fn review_that_cannot_be_read(scene: &Scene) {
    let world = scene.world;
    let namespace = world.unprotected();
    create(&namespace, &deployment("keep")).succeeds();
    namespace.kubectl(User::Admin, &["label", "deployment/keep", "tagout.dev/protect=true"]).succeeds();
    let labels: serde_json::Map<String, Value> = (0..4200).map(|number| (format!("k{number}"), json!(""))).collect();
    let patch = json!({"metadata": {"labels": labels}}).to_string();
    let of_namespace = ["patch", "namespace", &namespace.name, "--type=merge", "--patch-file=/dev/stdin"];
    world.kubectl_with(User::Agent, &of_namespace, &patch).succeeds();
    heard(scene, &world.kubectl(User::Agent, &["delete", "namespace", &namespace.name, "--wait=false"]));
    let nobody = format!("--as={}", "a".repeat(1100));
    for asked in [&["scale", "deployment/keep", "--replicas=0"][..], &["delete", "namespace", &namespace.name]] {
        heard(scene, &namespace.kubectl(User::Agent, &[asked, &[&nobody, "--as-group=system:masters"]].concat()));
    }
    assert!(namespace.exists("deployment/keep"), "it went with its namespace");
}

fn memory_wiped(scene: &Scene) {
    let namespace = under("red-memory", &returns("red-memory"));
    create(&namespace, &deployment("api")).succeeds();
    delete(&namespace, "deployment/api");
    let record = tagout::api::record_name("deployments.apps", &namespace.name, "api");
    heard(scene, &scene.world.kubectl(User::Agent, &["delete", "deletionrecord", &record]));
    let empty = json!([{"op": "replace", "path": "/spec/deletions/0/rules", "value": []}]).to_string();
    heard(scene, &scene.world.kubectl(User::Agent, &["patch", "deletionrecord", &record, "--type=json", "-p", &empty]));
    heard(scene, &create(&namespace, &deployment("api")));
}

fn storm_of_little_deletions(scene: &Scene) {
    let mut rule = returns("red-storm");
    rule["spec"]["actions"] = json!(["Delete", "Recreate"]);
    rule["spec"]["tolerate"] = json!({"objects": 1});
    rule["spec"]["ceiling"] = json!({"count": 2, "window": "1h", "per": "Rule"});
    let namespace = under("red-storm", &rule);
    for name in ["a", "b", "c", "d"] {
        create(&namespace, &deployment(name)).succeeds();
    }
    let names: Vec<String> = ["a", "b", "c", "d"].map(|name| format!("deployment/{name}")).into();
    for (name, user) in names.iter().zip([User::Agent, User::Ci, User::Carol, User::Admin]) {
        let outcome = namespace.kubectl(user, &["delete", name, "--wait=false"]);
        if !outcome.ok {
            heard(scene, &outcome);
        }
    }
    namespace.kubectl(User::Agent, &["delete", "deployments", "--all", "--wait=false"]);
    assert!(namespace.exists(&names[2]) && namespace.exists(&names[3]), "the storm passed");
}

/// What is left by an owner goes one by one, and each is little.
fn storm_behind_a_throw_away_owner(scene: &Scene) {
    let mut rule = returns("red-owner");
    rule["spec"]["actions"] = json!(["Delete", "Recreate"]);
    rule["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["configmaps"]}]);
    rule["spec"]["tolerate"] = json!({"objects": 1});
    rule["spec"]["ceiling"] = json!({"count": 2, "window": "1h", "per": "Rule"});
    let namespace = under("red-owner", &rule);
    namespace.kubectl(User::Agent, &["create", "serviceaccount", "boss"]).succeeds();
    let owner = json!([{"apiVersion": "v1", "kind": "ServiceAccount", "name": "boss",
        "uid": namespace.get("serviceaccount/boss")["metadata"]["uid"]}]);
    for name in ["a", "b", "c", "d", "e"] {
        let owned =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owner}});
        create(&namespace, &owned).succeeds();
    }
    namespace.kubectl(User::Agent, &["delete", "serviceaccount", "boss", "--wait=false"]);
    thread::sleep(Duration::from_secs(8));
    let found = namespace.get("configmaps");
    let found = found["items"].as_array().expect("a list").iter().map(|one| text(&one["metadata"]["name"]));
    // One more is what Kubernetes puts there. Which the collector came for first, nobody knows.
    let left: Vec<_> = found.filter(|name| *name != "kube-root-ca.crt").collect();
    assert!(left.len() >= 3, "only {left:?} are left");
    heard(scene, &namespace.kubectl(User::Agent, &["delete", "configmap", &left[0]]));
}
