//! The garbage collector deletes what follows from an approved deletion, and nothing else for anybody.

use std::thread;
use std::time::Duration;

use controlplane::User;
use rstest::rstest;
use serde_json::{Value, json};

use crate::approvals::{claim, denials, stateful_set, uid};
use crate::world::{Namespace, eventually, shared};

#[test]
fn an_approved_owner_deleted_in_the_foreground_takes_its_dependents_along() {
    let namespace = shared().production();
    namespace.deployment("api");
    let mut dependent = stateful_set("cache");
    dependent["metadata"]["ownerReferences"] = json!([owner(&namespace, "deployment/api", false)]);
    namespace.apply(User::Admin, &dependent).succeeds();
    let statement = namespace.statement_naming("deployment/api", User::Alice, &["statefulset/cache"]);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--cascade=foreground", "--wait=false"]).succeeds();
    eventually("the dependent is gone", || !namespace.exists("statefulset/cache"));
    eventually("the owner is gone", || !namespace.exists("deployment/api"));
}

#[rstest]
#[case::in_the_foreground("foreground")]
#[case::in_the_background("background")]
fn a_throw_away_owner_deleted_opens_nothing(#[case] cascade: &str) {
    let namespace = shared().production();
    namespace.deployment("api");
    let before = uid(&namespace, "deployment/api");
    namespace.apply(User::Agent, &template("throw-away")).succeeds();
    adopt(&namespace, "podtemplate/throw-away", "deployment/api", false);
    let deleted = throw_away(&namespace, User::Agent, cascade);
    it_stays(&namespace, deleted, "deployment/api", &before);
}

#[test]
fn a_throw_away_owner_with_a_forged_approval_opens_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    let before = uid(&namespace, "deployment/api");
    namespace.apply(User::Agent, &template("throw-away")).succeeds();
    let mut statement = namespace.statement("deployment/api", User::Alice);
    statement["uid"] = json!(uid(&namespace, "podtemplate/throw-away"));
    statement["resource"] = json!("podtemplates");
    statement["name"] = json!("throw-away");
    namespace
        .present(User::Agent, "podtemplate/throw-away", &json!([statement]))
        .is_refused(&["approve in your own name"]);
    // Even an approval that is alice's own says nothing about objects under a rule that does not cover the owner.
    namespace.present(User::Alice, "podtemplate/throw-away", &json!([statement])).succeeds();
    adopt(&namespace, "podtemplate/throw-away", "deployment/api", false);
    let deleted = throw_away(&namespace, User::Agent, "foreground");
    it_stays(&namespace, deleted, "deployment/api", &before);
}

#[test]
fn whoever_impersonates_the_collector_is_refused_while_the_owner_lives() {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["create", "configmap", "owner"]).succeeds();
    adopt(&namespace, "configmap/owner", "deployment/api", true);
    for collector in COLLECTORS {
        namespace
            .kubectl(User::Agent, &["delete", "deployment/api", "--as", collector, "--as-group=system:masters"])
            .is_refused(&["needs approval by 1 of approvers (rule production)"]);
    }
    assert!(namespace.exists("deployment/api"));
}

#[test]
fn the_claim_of_a_pods_ephemeral_volume_goes_with_its_pod() {
    let namespace = shared().production();
    let mut pod = pod("worker");
    pod["spec"]["volumes"] =
        json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim("any")["spec"]}}}]);
    namespace.apply(User::Admin, &pod).succeeds();
    eventually("the claim is made", || namespace.exists("persistentvolumeclaim/worker-scratch"));
    namespace.kubectl(User::Agent, &["delete", "pod/worker", "--wait=false"]).succeeds();
    eventually("the claim is gone", || !namespace.exists("persistentvolumeclaim/worker-scratch"));
}

#[test]
fn a_throw_away_pod_named_like_the_beginning_of_a_claim_opens_nothing() {
    let namespace = shared().production();
    namespace.apply(User::Admin, &claim("data-db-0")).succeeds();
    let before = uid(&namespace, "persistentvolumeclaim/data-db-0");
    namespace.apply(User::Agent, &pod("data")).succeeds();
    // As Kubernetes marks the claim of a pod's ephemeral volume, by any route, and with a pod that never was.
    let never = r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"data","controller":true,
        "uid":"00000000-0000-0000-0000-000000000000"}]}}"#;
    let patch = json!({"metadata": {"ownerReferences": [owner(&namespace, "pod/data", true)]}}).to_string();
    // And behind more owners than anybody would read.
    let mut many: Vec<Value> = (0..40)
        .map(|number| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": format!("uid-{number}")}))
        .collect();
    many.push(owner(&namespace, "pod/data", true));
    let many = json!({"metadata": {"ownerReferences": many}}).to_string();
    for patch in [never, &patch, &many] {
        for route in [&[][..], &["--subresource=status"]] {
            let args = ["patch", "persistentvolumeclaim/data-db-0", "--type=merge", "-p", patch];
            namespace
                .kubectl(User::Agent, &[&args, route].concat())
                .is_refused(&["the garbage collector would delete this claim"]);
        }
    }
    adopt(&namespace, "pod/data", "persistentvolumeclaim/data-db-0", false);
    namespace.kubectl(User::Agent, &["delete", "pod/data", "--wait=false"]).succeeds();
    the_collector_is_refused(&namespace, "persistentvolumeclaim/data-db-0", &before);
}

#[test]
fn an_owner_brought_under_a_rule_after_its_deletion_opens_nothing() {
    let world = shared();
    let namespace = world.unprotected();
    namespace.deployment("guarded");
    namespace.deployment("decoy");
    namespace.kubectl(User::Admin, &["label", "deployment/guarded", "tagout.dev/protect=true"]).succeeds();
    let before = uid(&namespace, "deployment/guarded");
    // Alice alone: she approves a deployment that no rule covers, deletes it herself, and labels it while it goes.
    let statement = namespace.statement("deployment/decoy", User::Alice);
    namespace.present(User::Alice, "deployment/decoy", &json!([statement])).succeeds();
    adopt(&namespace, "deployment/decoy", "deployment/guarded", true);
    namespace.kubectl(User::Alice, &["delete", "deployment/decoy", "--cascade=foreground", "--wait=false"]).succeeds();
    namespace.kubectl(User::Alice, &["label", "deployment/decoy", "tagout.dev/protect=true"]).succeeds();
    the_collector_is_refused(&namespace, "deployment/guarded", &before);
}

#[test]
fn an_approver_who_has_the_collector_ask_still_approves_their_own_request() {
    let namespace = shared().production();
    namespace.deployment("solo");
    let before = uid(&namespace, "deployment/solo");
    namespace.apply(User::Alice, &template("throw-away")).succeeds();
    adopt(&namespace, "podtemplate/throw-away", "deployment/solo", false);
    let statement = namespace.statement("deployment/solo", User::Alice);
    namespace.present(User::Alice, "deployment/solo", &json!([statement])).succeeds();
    let deleted = throw_away(&namespace, User::Alice, "background");
    it_stays(&namespace, deleted, "deployment/solo", &before);
    // It is still good for what it says: somebody else may delete the object itself.
    namespace.kubectl(User::Ci, &["delete", "deployment/solo"]).succeeds();
}

#[test]
fn what_is_hung_on_an_approved_throw_away_owner_voids_the_approval() {
    let namespace = shared().production();
    namespace.deployment("database");
    namespace.deployment("scratch");
    let statement = namespace.statement("deployment/scratch", User::Alice);
    namespace.present(User::Alice, "deployment/scratch", &json!([statement])).succeeds();
    adopt(&namespace, "deployment/scratch", "deployment/database", false);
    namespace
        .kubectl(User::Agent, &["delete", "deployment/scratch", "--cascade=foreground", "--wait=false"])
        .is_refused(&["it names nothing that may go along"]);
}

#[test]
fn an_approval_given_after_the_deletion_began_is_refused() {
    let namespace = shared().unprotected();
    namespace.deployment("going");
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    namespace.kubectl(User::Admin, &["patch", "deployment/going", "--type=merge", "-p", hold]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/going", "--wait=false"]).succeeds();
    let statement = namespace.statement("deployment/going", User::Alice);
    namespace
        .present(User::Alice, "deployment/going", &json!([statement]))
        .is_refused(&["its deletion is under way already"]);
    let release = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(User::Admin, &["patch", "deployment/going", "--type=merge", "-p", release]).succeeds();
}

const COLLECTORS: [&str; 2] =
    ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];

/// Deletes the throw-away owner. Where Tagout has seen its kind above something protected, it is asked about itself.
fn throw_away(namespace: &Namespace, user: User, cascade: &str) -> bool {
    let cascade = format!("--cascade={cascade}");
    namespace.kubectl(user, &["delete", "podtemplate/throw-away", &cascade, "--wait=false"]).ok
}

#[track_caller]
fn it_stays(namespace: &Namespace, owner_is_gone: bool, what: &str, before: &str) {
    if owner_is_gone {
        the_collector_is_refused(namespace, what, before);
    }
    assert_eq!(uid(namespace, what), before);
}

fn template(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": {
        "containers": [{"name": "main", "image": "example.com/main:1"}]}}})
}

/// It asks, is refused and asks again: the object stays.
#[track_caller]
fn the_collector_is_refused(namespace: &Namespace, what: &str, before: &str) {
    let asked = |line: &String| COLLECTORS.iter().any(|name| line.contains(name));
    eventually("the collector is refused", || {
        let refused = denials(namespace.world, namespace).iter().any(asked);
        assert!(refused || namespace.exists(what), "the collector deleted {what}");
        refused
    });
    thread::sleep(Duration::from_secs(2));
    let live = namespace.get(what);
    assert_eq!(live["metadata"]["uid"], before);
    assert!(live["metadata"]["deletionTimestamp"].is_null());
}

/// Makes one object the owner of another, as the agent may.
fn adopt(namespace: &Namespace, what: &str, dependent: &str, controller: bool) {
    let patch = json!({"metadata": {"ownerReferences": [owner(namespace, what, controller)]}}).to_string();
    namespace.kubectl(User::Agent, &["patch", dependent, "--type=merge", "-p", &patch]).succeeds();
}

fn owner(namespace: &Namespace, what: &str, controller: bool) -> Value {
    let owner = namespace.get(what);
    json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": true,
    })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]},
    })
}
