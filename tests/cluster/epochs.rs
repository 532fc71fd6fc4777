//! Approvals by identity that were planted while the guard could not see it.

use std::thread;
use std::time::Duration;

use controlplane::{Installation, Options, User};
use serde_json::{Value, json};

use crate::world::{Namespace, World, approval_object, eventually, presenting, text};

const SHARED: &str = "validatingwebhookconfiguration/tagout";

/// Everything an unsigned approval says, by somebody who never heard of it.
fn planted(namespace: &Namespace, what: &str) -> Value {
    namespace.statement(what, User::Alice)
}

/// Writes it as whoever may write anything would.
fn plant(namespace: &Namespace, what: &str, statement: &Value) {
    let patch = presenting(&json!([statement]).to_string());
    eventually("the API server has heard that nobody looks", || {
        namespace.kubectl(User::Agent, &["patch", what, "--type=merge", "-p", &patch]).ok
    });
}

fn another_epoch(world: &World, before: &str) -> String {
    eventually("another epoch begins", || {
        let epoch = text(&world.get(&["protectionrule/production"])["status"]["epoch"]);
        !epoch.is_empty() && epoch != before
    });
    world.epoch()
}

#[test]
fn approvals_planted_while_the_guard_was_weakened_or_away_never_count() {
    let mut world = World::start(&Options::default());
    let name = {
        let namespace = world.production();
        for name in ["weakened", "emptied", "deleted", "dead"] {
            namespace.deployment(name);
        }
        namespace.name
    };
    weakened_with_replicas_up(&world, &name);
    deleted_with_replicas_up(&world, &name);
    changed_while_none_ran(&mut world, &name);
    the_next_epochs_approvals_count(&world, &name);
    world.end();
}

fn weakened_with_replicas_up(world: &World, name: &str) {
    let namespace = world.borrowed(name);
    for (what, patch) in [
        (
            "deployment/weakened",
            json!([{"op": "replace", "path": "/webhooks/0/matchConditions/0/expression", "value": "false"}]),
        ),
        ("deployment/emptied", json!([{"op": "replace", "path": "/webhooks", "value": []}])),
    ] {
        let before = world.epoch();
        let statement = planted(&namespace, what);
        let (patch, shared) = (patch.to_string(), SHARED);
        let weaken = ["patch", shared, "--type=json", "-p", &patch];
        // Tagout puts it back within a second or so; an attacker is as quick, and tries again.
        let annotation = presenting(&json!([statement]).to_string());
        eventually("an approval is planted in the gap", || {
            world.kubectl(User::Agent, &weaken);
            namespace.kubectl(User::Agent, &["patch", what, "--type=merge", "-p", &annotation]).ok
        });
        let refused = || namespace.kubectl(User::Agent, &["delete", what]).is_refused(&["denied Delete"]);
        refused();
        another_epoch(world, &before);
        let words = refused().err;
        assert!(words.contains("it was given before a time at which anybody could have written it"), "{words}");
    }
}

fn deleted_with_replicas_up(world: &World, name: &str) {
    let namespace = world.borrowed(name);
    let before = world.epoch();
    let manifest = world.get(&[SHARED]);
    let statement = planted(&namespace, "deployment/deleted");
    world.kubectl(User::Agent, &["delete", SHARED]).succeeds();
    plant(&namespace, "deployment/deleted", &statement);
    let bare = json!({"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": {
        "name": "tagout", "labels": manifest["metadata"]["labels"], "annotations": manifest["metadata"]["annotations"]}});
    world.apply(User::Admin, &bare).succeeds();
    another_epoch(world, &before);
    eventually("rules are in force again", || {
        let outcome = namespace.kubectl(User::Agent, &["delete", "deployment/deleted", "--dry-run=server"]);
        outcome.err.contains("denied Delete")
    });
    namespace
        .kubectl(User::Agent, &["delete", "deployment/deleted"])
        .is_refused(&["it was given before a time at which anybody could have written it"]);
}

fn changed_while_none_ran(world: &mut World, name: &str) {
    let before = world.epoch();
    world.tagout.kill().expect("it is killed");
    let namespace = world.borrowed(name);
    let statement = planted(&namespace, "deployment/dead");
    let configuration = world.get(&[SHARED]);
    // Taken away, used, and put back just as it was, before anybody who knows it comes up again.
    let empty = json!([{"op": "replace", "path": "/webhooks", "value": []}]).to_string();
    world.kubectl(User::Agent, &["patch", SHARED, "--type=json", "-p", &empty]).succeeds();
    plant(&namespace, "deployment/dead", &statement);
    let back = json!([{"op": "add", "path": "/webhooks", "value": configuration["webhooks"]}]).to_string();
    world.kubectl(User::Agent, &["patch", SHARED, "--type=json", "-p", &back]).succeeds();
    world.tagout.start().expect("it starts");
    another_epoch(world, &before);
    world
        .borrowed(name)
        .kubectl(User::Agent, &["delete", "deployment/dead"])
        .is_refused(&["it was given before a time at which anybody could have written it"]);
}

fn the_next_epochs_approvals_count(world: &World, name: &str) {
    let namespace = world.borrowed(name);
    namespace.approve(User::Alice, "deployment/dead");
    namespace.kubectl(User::Agent, &["delete", "deployment/dead"]).succeeds();
}

#[test]
fn approvals_planted_before_the_installation_never_count() {
    let cp = Box::leak(Box::new(controlplane::ControlPlane::start(&Options::default()).expect("a control plane")));
    let chart = crate::world::chart();
    let kubectl = |args: &[&str], input: &str| {
        let mut command = cp.kubectl(User::Agent);
        command.args(args);
        crate::world::Outcome::of(&mut command, input).succeeds()
    };
    kubectl(&["create", "namespace", "early"], "");
    kubectl(&["label", "namespace", "early", "environment=production"], "");
    kubectl(&["-n", "early", "apply", "-f", "-"], &crate::world::deployment("api").to_string());
    kubectl(&["apply", "--server-side", "-f", &chart.join("crds").display().to_string()], "");
    kubectl(&["wait", "--for=condition=Established", "crd", "approvals.tagout.dev", "--timeout=60s"], "");
    let object: Value =
        serde_json::from_str(&kubectl(&["-n", "early", "get", "deploy", "api", "-o", "json"], "").out).unwrap();
    let system: Value = serde_json::from_str(&kubectl(&["get", "ns", "kube-system", "-o", "json"], "").out).unwrap();
    let now = jiff::Timestamp::now();
    let statement = |epoch: &str| {
        json!({"action": "Delete", "uid": object["metadata"]["uid"], "resource": "deployments.apps",
            "namespace": "early", "name": "api", "cluster": system["metadata"]["uid"], "epoch": epoch,
            "approver": User::Alice.name(), "team": "approvers", "approvedAt": now.to_string(),
            "expires": (now + jiff::SignedDuration::from_mins(20)).to_string()})
    };
    // Whoever plants cannot know the value that will be drawn.
    let planted = [statement(""), statement("0"), statement("00000000000000000000000000000000")];
    let mut without = statement("");
    without.as_object_mut().unwrap().remove("epoch");
    let list = json!([planted[0], planted[1], planted[2], without]);
    kubectl(&["-n", "early", "patch", "deploy", "api", "--type=merge", "-p", &presenting(&list.to_string())], "");
    kubectl(&["create", "-f", "-"], &approval_object(&without).to_string());

    let tagout =
        Installation::helm(cp, &chart, &crate::world::binary(), &crate::world::APPROVERS).expect("it installs");
    let world = World { cp, tagout };
    world.epoch();
    let namespace = world.borrowed("early");
    namespace
        .kubectl(User::Agent, &["delete", "deployment", "api"])
        .is_refused(&["it was given before a time at which anybody could have written it"]);
    namespace.approve(User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    world.end();
}

#[test]
fn restarts_and_new_certificates_carry_the_epoch_on() {
    let mut world = World::start(&Options::default());
    let namespace = world.production();
    namespace.deployment("api");
    let before = world.epoch();
    namespace.approve(User::Alice, "deployment/api");
    let name = namespace.name;
    let first = world.get(&[SHARED])["metadata"]["generation"].as_i64();
    world.tagout.kill().expect("it is killed");
    world
        .kubectl(User::Admin, &["-n", controlplane::installation::NAMESPACE, "delete", "secret", "tagout-certificates"])
        .succeeds();
    world.tagout.start().expect("it starts");
    // A new authority is another caBundle in the shared configuration.
    let generation = || world.get(&[SHARED])["metadata"]["generation"].as_i64();
    eventually("Tagout writes its new authority", || generation() > first);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(world.epoch(), before);
    world.borrowed(&name).kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    world.end();
}
