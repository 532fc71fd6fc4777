//! What people find where they look: that something was refused.

use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::Value;

use crate::world::{Namespace, eventually, shared, text};

fn events(namespace: &Namespace) -> Vec<Value> {
    let found = namespace.kubectl(User::Admin, &["get", "events.events.k8s.io", "-o", "json"]).succeeds().out;
    let found: Value = serde_json::from_str(&found).unwrap();
    let ours = |event: &&Value| event["reason"] == "ApprovalRequired";
    found["items"].as_array().unwrap().iter().filter(ours).cloned().collect()
}

#[test]
fn a_denial_makes_one_event_with_the_request_however_often_it_is_tried() {
    let namespace = shared().production();
    namespace.deployment("api");
    let refused = namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["Request: to-"]).err;
    let id = refused.split("Request: ").nth(1).unwrap()[..11].to_owned();
    for _ in 0..3 {
        namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[&id]);
    }
    eventually("an Event says where to look", || !events(&namespace).is_empty());
    thread::sleep(Duration::from_secs(2));
    let found = events(&namespace);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["type"], "Warning");
    assert_eq!(found[0]["action"], "Delete");
    assert_eq!(found[0]["regarding"]["name"], "api");
    assert!(text(&found[0]["note"]).ends_with(&format!("Request: {id} by {}", User::Agent.name())), "{found:?}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).is_refused(&["denied Delete"]);
    thread::sleep(Duration::from_secs(3));
    assert!(events(&namespace).is_empty());
}
