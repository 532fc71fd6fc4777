//! While Tagout is upgraded, and after it was rolled back, replicas of two versions see the same entries.

use std::thread;
use std::time::{Duration, Instant};

use controlplane::installation::NAMESPACE;
use controlplane::{Options, User};
use serde_json::{Value, json};

use crate::world::{World, eventually};

const ENTRIES: [&str; 2] = ["tagout", "tagout-production"];

/// A newer version is played: it has written entries in its own way, and says so. Both replicas are of this version.
#[test]
fn replicas_leave_a_newer_ones_entries_alone_while_an_upgrade_may_take_and_take_over_after_a_rollback() {
    let mut world = World::start(&Options::default());
    let production = world.production();
    production.deployment("api");
    let name = production.name.clone();
    let entry = |world: &World, name: &str| world.get(&["validatingwebhookconfiguration", name]);
    let ours = ENTRIES.map(|name| entry(&world, name));
    let epoch = world.epoch();

    world.tagout.kill().expect("it is killed");
    let slower = json!({"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 7});
    let newer = json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1compiler", "value": "999"});
    for (name, change) in ENTRIES.iter().zip([json!([slower]), json!([slower, newer])]) {
        let patch = ["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", &change.to_string()];
        world.kubectl(User::Admin, &patch).succeeds();
    }
    let shared = entry(&world, "tagout")["metadata"].clone();
    let record = json!({"epoch": epoch, "uid": shared["uid"], "generation": shared["generation"], "compiler": 999});
    let record = json!({"stringData": {"record": record.to_string()}}).to_string();
    world.kubectl(User::Admin, &["-n", NAMESPACE, "patch", "secret", "tagout-epoch", "-p", &record]).succeeds();
    let theirs = ENTRIES.map(|name| entry(&world, name)["metadata"]["resourceVersion"].clone());

    let started = Instant::now();
    world.tagout.start().expect("it starts");
    let mut other = world.tagout.replica("of-this-version").expect("it starts");
    let production = world.borrowed(&name);
    let refused = || production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    while started.elapsed() < Duration::from_secs(45) {
        let now = ENTRIES.map(|name| entry(&world, name)["metadata"]["resourceVersion"].clone());
        assert_eq!(now, theirs, "two versions fight over entries");
        assert_eq!(world.epoch(), epoch, "what people approved counts on");
        refused();
        thread::sleep(Duration::from_secs(4));
    }
    let compiled = |entry: &Value| json!([entry["webhooks"], entry["metadata"]["annotations"]["tagout.dev/compiler"]]);
    for (name, ours) in ENTRIES.iter().zip(&ours) {
        eventually("this version takes over", || compiled(&entry(&world, name)) == compiled(ours));
    }
    refused();
    other.kill().and_then(|()| other.wait()).expect("it is killed");
    world.end();
}
