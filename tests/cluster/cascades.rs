//! What goes because something else was let go, and what does not.

use controlplane::User;
use serde_json::{Value, json};

use crate::approvals::stateful_set;
use crate::world::{Namespace, Outcome, eventually, shared, text};

fn own(namespace: &Namespace, owner: &str, dependent: &str) {
    let owner = namespace.get(owner);
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"]});
    let patch = json!({"metadata": {"ownerReferences": [reference]}}).to_string();
    namespace.kubectl(User::Admin, &["patch", dependent, "--type=merge", "-p", &patch]).succeeds();
}

fn delete(namespace: &Namespace, what: &str, cascade: &str) -> Outcome {
    namespace.kubectl(User::Agent, &["delete", what, "--wait=false", &format!("--cascade={cascade}")])
}

fn owned() -> Namespace<'static> {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace.apply(User::Admin, &stateful_set("cache")).succeeds();
    own(&namespace, "deployment/api", "statefulset/cache");
    namespace
}

#[test]
fn an_owner_is_refused_until_an_approval_names_what_goes_along() {
    for cascade in ["background", "foreground"] {
        let namespace = owned();
        let silent = namespace.statement("deployment/api", User::Alice);
        namespace.present(User::Alice, "deployment/api", &json!([silent])).succeeds();
        delete(&namespace, "deployment/api", cascade)
            .is_refused(&["it names nothing that may go along, and 1 protected object would", "1 StatefulSet"]);
        let statement = namespace.statement_naming("deployment/api", User::Alice, &["statefulset/cache"]);
        namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
        delete(&namespace, "deployment/api", cascade).succeeds();
        eventually("both are gone", || !namespace.exists("deployment/api") && !namespace.exists("statefulset/cache"));
    }
}

#[test]
fn an_approval_is_void_when_something_protected_has_joined() {
    let namespace = owned();
    let statement = namespace.statement_naming("deployment/api", User::Alice, &["statefulset/cache"]);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.apply(User::Admin, &stateful_set("late")).succeeds();
    own(&namespace, "deployment/api", "statefulset/late");
    delete(&namespace, "deployment/api", "background")
        .is_refused(&["something protected goes along that it does not name"]);
}

#[test]
fn what_was_orphaned_stays_and_is_asked_about_by_itself() {
    let namespace = owned();
    let statement = namespace.statement_naming("deployment/api", User::Alice, &["statefulset/cache"]);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    delete(&namespace, "deployment/api", "orphan").succeeds();
    eventually("the owner is gone", || !namespace.exists("deployment/api"));
    delete(&namespace, "statefulset/cache", "background").is_refused(&["needs approval"]);
}

#[test]
fn a_protected_object_outlives_an_owner_that_no_rule_covers() {
    let namespace = shared().production();
    namespace.deployment("api");
    let before = namespace.get("deployment/api")["metadata"]["uid"].clone();
    let template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "owner"}, "template": {"spec": {
        "containers": [{"name": "main", "image": "example.com/main:1"}]}}});
    namespace.apply(User::Agent, &template).succeeds();
    own(&namespace, "podtemplate/owner", "deployment/api");
    // Where the kind was found as an owner already, it is asked about itself.
    if delete(&namespace, "podtemplate/owner", "background").ok {
        eventually("people are told", || {
            let events = namespace.kubectl(User::Admin, &["get", "events.events.k8s.io", "-o", "json"]).succeeds().out;
            events.contains("ApprovalRequired") && events.contains("generic-garbage-collector")
        });
    }
    assert_eq!(namespace.get("deployment/api")["metadata"]["uid"], before);
}

#[test]
fn a_namespace_goes_whole_once_an_approval_names_what_is_in_it() {
    let namespace = owned();
    let name = format!("namespace/{}", namespace.name);
    let silent = namespace.statement_naming(&name, User::Alice, &[]);
    namespace.present(User::Alice, &name, &json!([silent])).succeeds();
    delete(&namespace, &name, "background")
        .is_refused(&["something protected goes along that it does not name", "1 StatefulSet"]);
    let statement = namespace.statement(&name, User::Alice);
    namespace.present(User::Alice, &name, &json!([statement])).succeeds();
    delete(&namespace, &name, "background").succeeds();
    eventually("it is gone", || !shared().kubectl(User::Admin, &["get", &name]).ok);
}

#[test]
fn a_namespace_with_one_labelled_object_is_not_deleted_and_one_without_is() {
    let namespace = shared().unprotected();
    let name = format!("namespace/{}", namespace.name);
    namespace.deployment("db");
    namespace.kubectl(User::Admin, &["label", "deployment/db", "tagout.dev/protect=true"]).succeeds();
    delete(&namespace, &name, "background").is_refused(&["rule labelled-objects", "1 Deployment"]);
    let other = shared().unprotected();
    other.deployment("api");
    shared().kubectl(User::Agent, &["delete", "namespace", &other.name]).succeeds();
}

#[test]
fn nobody_else_writes_down_what_was_destroyed() {
    let record = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "DeletionRecord", "metadata": {"name": "forged"},
        "spec": {"resource": "deployments.apps", "apiVersion": "apps/v1", "namespace": "n", "name": "d", "deletions": [
            {"uid": "u", "at": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:00:00Z", "requesters": ["agent"], "rules": [], "statements": [],
                "protects": {"digest": ""}}]}});
    shared().apply(User::Agent, &record).is_refused(&["Tagout itself writes down"]);
}

#[test]
fn an_approved_deletion_is_written_down() {
    let namespace = owned();
    let uid = text(&namespace.get("deployment/api")["metadata"]["uid"]);
    let statement = namespace.statement_naming("deployment/api", User::Alice, &["statefulset/cache"]);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    let records = || shared().get(&["deletionrecords"])["items"].as_array().unwrap().clone();
    let is_of = |record: &&Value| record["spec"]["deletions"][0]["uid"] == uid.as_str();
    assert!(!records().iter().any(|record| is_of(&record)), "a dry-run writes nothing");
    delete(&namespace, "deployment/api", "background").succeeds();
    let records = records();
    let deletion = &records.iter().find(is_of).expect("a record")["spec"]["deletions"][0];
    assert_eq!(deletion["statements"][0]["approver"], User::Alice.name());
    assert_eq!(deletion["requesters"], json!([User::Agent.name()]));
    assert_eq!(deletion["radius"]["StatefulSet"], 1);
}
