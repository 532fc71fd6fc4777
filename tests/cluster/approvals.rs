//! What a person approved is allowed; what nobody approved, or not for this, is refused.

use std::thread;
use std::time::Duration;

use controlplane::User;
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{Namespace, World, deployment, eventually, rule, shared, text};

const REFUSED: &str = "needs approval by 1 of approvers (rule production)";

#[rstest]
#[case::a_deployment("deployment/api", &deployment("api"))]
#[case::a_stateful_set("statefulset/api", &stateful_set("api"))]
#[case::a_volume_claim("persistentvolumeclaim/api", &claim("api"))]
fn what_another_person_approved_may_be_deleted(#[case] what: &str, #[case] manifest: &Value) {
    let namespace = shared().production();
    namespace.apply(User::Admin, manifest).succeeds();
    namespace.kubectl(User::Agent, &["delete", what]).is_refused(&[REFUSED]);

    approve(&namespace, User::Alice, what);
    namespace.kubectl(User::Agent, &["delete", what, "--dry-run=server"]).succeeds();
    assert!(namespace.exists(what), "a dry run deletes nothing");
    namespace.kubectl(User::Agent, &["delete", what]).succeeds();
    assert!(!namespace.exists(what));
}

#[test]
fn an_approved_namespace_goes_with_everything_in_it_and_no_controller_is_refused() {
    let world = shared();
    let namespace = world.production();
    for manifest in [deployment("api"), stateful_set("db"), claim("data")] {
        namespace.apply(User::Admin, &manifest).succeeds();
    }
    let what = format!("namespace/{}", namespace.name);
    approve(&namespace, User::Alice, &what);
    namespace.kubectl(User::Agent, &["delete", &what, "--wait=false"]).succeeds();
    eventually("the namespace is gone", || !namespace.exists(&what));
    let refused = denials(world, &namespace);
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn anyone_may_delete_what_is_left_in_a_terminating_namespace() {
    let namespace = shared().production();
    // The namespace controller removes what is there; a finalizer keeps the namespace for a while.
    let held =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": [FINALIZER]}});
    namespace.apply(User::Admin, &held).succeeds();
    namespace.apply(User::Admin, &with_finalizer(deployment("api"))).succeeds();
    let what = format!("namespace/{}", namespace.name);
    approve(&namespace, User::Alice, &what);
    namespace.kubectl(User::Agent, &["delete", &what, "--wait=false"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--wait=false"]).succeeds();
    for held in ["deployment/api", "configmap/held"] {
        namespace.kubectl(User::Admin, &["patch", held, "--type=merge", "-p", NO_FINALIZER]).succeeds();
    }
    eventually("the namespace is gone", || !namespace.exists(&what));
}

#[test]
fn a_collection_loses_only_what_was_approved() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    namespace.deployment("web");
    let collection = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    approve(&namespace, User::Alice, "deployment/api");
    world.kubectl(User::Agent, &["delete", "--raw", &collection]).is_refused(&["\"web\"", REFUSED]);
    assert!(namespace.exists("deployment/web"));

    approve(&namespace, User::Alice, "deployment/web");
    world.kubectl(User::Agent, &["delete", "--raw", &collection]).succeeds();
    eventually("both are gone", || !namespace.exists("deployment/api") && !namespace.exists("deployment/web"));
}

#[test]
fn what_was_approved_may_be_replaced_by_force_once() {
    let namespace = shared().production();
    namespace.deployment("api");
    let before = uid(&namespace, "deployment/api");
    approve(&namespace, User::Alice, "deployment/api");
    let replace = || {
        let args = ["-n", &namespace.name, "replace", "--force", "-f", "-"];
        shared().kubectl_with(User::Agent, &args, &deployment("api").to_string())
    };
    replace().succeeds();
    let after = uid(&namespace, "deployment/api");
    assert_ne!(before, after);
    replace().is_refused(&[REFUSED]);
    assert_eq!(after, uid(&namespace, "deployment/api"));
}

#[test]
fn nobody_approves_their_own_request() {
    let namespace = shared().production();
    namespace.deployment("api");
    approve(&namespace, User::Alice, "deployment/api");
    namespace
        .kubectl(User::Alice, &["delete", "deployment/api"])
        .is_refused(&[REFUSED, "\"alice@example.com\" does not count: nobody approves their own request"]);
    namespace.kubectl(User::Bob, &["delete", "deployment/api"]).succeeds();
}

#[test]
fn an_expired_approval_opens_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    let mut statement = namespace.statement("deployment/api", User::Alice);
    let expires = Timestamp::now() + SignedDuration::from_secs(4);
    statement["expires"] = json!(expires.to_string());
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    while Timestamp::now() <= expires {
        thread::sleep(Duration::from_millis(100));
    }
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&[REFUSED, "it expired at"]);
}

#[test]
fn an_approval_carried_over_to_a_recreated_object_opens_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    approve(&namespace, User::Alice, "deployment/api");
    let mut carried = namespace.get("deployment/api");
    let old = text(&carried["metadata"]["uid"]);
    for own in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        carried["metadata"].as_object_mut().expect("metadata").remove(own);
    }
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).succeeds();
    let create = ["-n", &namespace.name, "create", "-f", "-"];
    shared().kubectl_with(User::Agent, &create, &carried.to_string()).succeeds();
    let live = namespace.get("deployment/api");
    assert!(live["metadata"]["annotations"]["tagout.dev/approval"].is_string(), "it is carried over");
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&[REFUSED, &format!("had this name before (UID {old:?})")]);
}

#[test]
fn an_approval_for_one_requester_is_for_nobody_else() {
    let namespace = shared().production();
    namespace.deployment("api");
    let mut statement = namespace.statement("deployment/api", User::Alice);
    statement["requester"] = json!(User::Ci.name());
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    for other in [User::Agent, User::Bob, User::Admin] {
        namespace
            .kubectl(other, &["delete", "deployment/api"])
            .is_refused(&[REFUSED, "it is for a request by \"ci-deployer\""]);
    }
    namespace.kubectl(User::Ci, &["delete", "deployment/api"]).succeeds();
}

#[test]
fn an_approval_for_longer_than_the_rule_allows_opens_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    let mut statement = namespace.statement("deployment/api", User::Alice);
    statement["expires"] = json!((Timestamp::now() + SignedDuration::from_mins(40)).to_string());
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&[REFUSED, "longer than rule production allows (30m)"]);
}

#[rstest]
#[case::by_its_author(User::Alice)]
#[case::by_anyone_else(User::Ci)]
fn an_approval_is_withdrawn_by_removing_its_annotation_or_its_label(#[case] user: User) {
    let namespace = shared().production();
    namespace.deployment("api");
    for withdraw in ["annotate", "label"] {
        approve(&namespace, User::Alice, "deployment/api");
        namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
        namespace.kubectl(user, &[withdraw, "deployment/api", "tagout.dev/approval-"]).succeeds();
        namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&[REFUSED]);
    }
}

#[test]
fn an_approval_for_one_object_does_not_open_another() {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace.deployment("web");
    approve(&namespace, User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment/web"]).is_refused(&[REFUSED]);
    let whole = format!("namespace/{}", namespace.name);
    namespace
        .kubectl(User::Agent, &["delete", &whole])
        .is_refused(&["needs approval by 1 of approvers (rules production"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "--all"]).is_refused(&["\"web\"", REFUSED]);
    assert!(namespace.exists("deployment/web"));
}

#[test]
fn an_approval_for_a_namespace_does_not_open_what_is_in_it() {
    let namespace = shared().production();
    namespace.deployment("api");
    approve(&namespace, User::Alice, &format!("namespace/{}", namespace.name));
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&[REFUSED]);
}

#[test]
fn a_rule_for_two_needs_two_people_and_names_who_is_there_already() {
    let namespace = under(&[needing("two-people", "two-people", &json!([{"anyOf": ["approvers"], "count": 2}]))]);
    namespace.deployment("api");
    let denial = || namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&[]).err;
    assert!(denial().contains("needs approval by 2 of approvers (rule two-people)"));

    let alice = namespace.statement("deployment/api", User::Alice);
    namespace.present(User::Alice, "deployment/api", &json!([alice])).succeeds();
    let still = denial();
    assert!(
        still.contains("needs approval by 1 more of approvers (has alice@example.com) (rule two-people)"),
        "{still}"
    );

    let bob = namespace.statement("deployment/api", User::Bob);
    namespace.present(User::Bob, "deployment/api", &json!([alice, bob])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).succeeds();
}

#[test]
fn one_person_of_two_teams_is_still_one_person() {
    team("distinct-dba", &[User::Alice, User::Carol]);
    let require = json!([{"anyOf": ["approvers"]}, {"anyOf": ["distinct-dba"]}]);
    let namespace = under(&[needing("distinct", "distinct", &require)]);
    namespace.deployment("api");
    let alice = namespace.statement("deployment/api", User::Alice);
    let mut for_dba = alice.clone();
    for_dba["team"] = json!("distinct-dba");
    namespace.present(User::Alice, "deployment/api", &json!([alice, for_dba])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&["needs approval by 1"]);

    let mut carol = namespace.statement("deployment/api", User::Carol);
    carol["team"] = json!("distinct-dba");
    namespace.present(User::Carol, "deployment/api", &json!([alice, for_dba, carol])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).succeeds();
}

#[test]
fn several_rules_give_one_answer_that_lists_what_each_needs() {
    team("several-dba", &[User::Carol]);
    let namespace =
        under(&[rule("several-a", "several"), needing("several-b", "several", &json!([{"anyOf": ["several-dba"]}]))]);
    namespace.deployment("api");
    let first_line = || {
        let denial = namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&[]).err;
        let line = denial.lines().next().unwrap_or_default();
        // Before it stand the API server's own words, which name the entry whose answer came first.
        line[line.find("tagout: denied").expect("Tagout's words")..].to_owned()
    };
    let first = first_line();
    for need in ["approval by 1 of approvers (rule several-a)", "approval by 1 of several-dba (rule several-b)"] {
        assert!(first.contains(need), "{need:?} is not in: {first}");
    }
    for _ in 0..10 {
        assert_eq!(first, first_line());
    }

    approve(&namespace, User::Alice, "deployment/api");
    let denial = first_line();
    assert!(denial.contains("several-b") && !denial.contains("several-a"), "{denial}");
}

#[test]
fn rules_that_need_the_same_are_named_together() {
    let namespace = under(&[rule("merged-a", "merged"), rule("merged-b", "merged")]);
    namespace.deployment("api");
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&["needs approval by 1 of approvers (rules merged-a, merged-b). Request: to-"]);
    approve(&namespace, User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).succeeds();
}

#[test]
fn a_rule_whose_condition_is_not_met_refuses_nothing_even_beside_a_rule_that_is_met() {
    team("conditional-dba", &[User::Carol]);
    let mut conditional = needing("conditional", "conditional", &json!([{"anyOf": ["conditional-dba"]}]));
    conditional["spec"]["matchConditions"] =
        json!([{"name": "not-batch", "expression": "object.metadata.?labels['tier'].orValue('') != 'batch'"}]);
    let namespace = under(&[conditional]);
    let mut batch = deployment("batch");
    batch["metadata"]["labels"]["tier"] = json!("batch");
    namespace.apply(User::Admin, &batch).succeeds();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&["rule conditional"]);
    namespace.kubectl(User::Agent, &["delete", "deployment/batch"]).succeeds();

    let own = format!("namespace/{}", namespace.name);
    namespace.kubectl(User::Admin, &["label", &own, "environment=production"]).succeeds();
    namespace.apply(User::Admin, &batch).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/batch"]).is_refused(&[REFUSED]);
    approve(&namespace, User::Alice, "deployment/batch");
    namespace.kubectl(User::Agent, &["delete", "deployment/batch"]).succeeds();
}

#[test]
fn a_second_deletion_of_a_terminating_object_is_not_even_asked_about() {
    let world = shared();
    let namespace = under(&[rule("terminating", "terminating")]);
    namespace.apply(User::Admin, &with_finalizer(deployment("api"))).succeeds();
    approve(&namespace, User::Alice, "deployment/api");
    let delete = || namespace.kubectl(User::Agent, &["delete", "deployment/api", "--wait=false"]);
    delete().succeeds();
    let calls = || world.calls("delete.terminating.tagout.dev");
    let before = calls();
    assert!(before > 0, "the first was asked about");
    // Whoever asks, whatever became of the approval.
    namespace.kubectl(User::Agent, &["annotate", "deployment/api", "tagout.dev/approval-"]).succeeds();
    delete().succeeds();
    namespace.kubectl(User::Ci, &["delete", "deployment/api", "--wait=false", "--force"]).succeeds();
    assert_eq!(calls(), before);
    namespace.kubectl(User::Admin, &["patch", "deployment/api", "--type=merge", "-p", NO_FINALIZER]).succeeds();
    eventually("it is gone", || !namespace.exists("deployment/api"));
}

const FINALIZER: &str = "example.com/hold";
const NO_FINALIZER: &str = r#"{"metadata":{"finalizers":null}}"#;

/// Approves as `kubectl tagout approve` does, in one patch.
pub fn approve(namespace: &Namespace, person: User, what: &str) {
    let statement = namespace.statement(what, person);
    namespace.present(person, what, &json!([statement])).succeeds();
}

pub fn uid(namespace: &Namespace, what: &str) -> String {
    text(&namespace.get(what)["metadata"]["uid"])
}

/// A namespace that only these rules protect; they share a label.
pub fn under(rules: &[Value]) -> Namespace<'static> {
    let namespace = shared().unprotected();
    let own = format!("namespace/{}", namespace.name);
    let label = text(&rules[0]["spec"]["namespaceSelector"]["matchLabels"]["rule"]);
    namespace.kubectl(User::Admin, &["label", &own, &format!("rule={label}")]).succeeds();
    for rule in rules {
        shared().rule(rule);
    }
    namespace
}

pub fn needing(name: &str, label: &str, require: &Value) -> Value {
    let mut rule = rule(name, label);
    rule["spec"]["approval"]["require"] = require.clone();
    rule
}

/// Makes a team of these people and waits until Tagout knows it.
pub fn team(name: &str, people: &[User]) {
    let members: Vec<_> = people.iter().map(|person| json!({"user": person.name()})).collect();
    let manifest = json!({
        "apiVersion": "tagout.dev/v1alpha1",
        "kind": "ApproverTeam",
        "metadata": {"name": name},
        "spec": {"members": members},
    });
    shared().apply(User::Admin, &manifest).succeeds();
    let name = format!("approverteam/{name}");
    eventually(&format!("{name} is known"), || shared().get(&[&name])["status"]["observedGeneration"] == 1);
}

/// The lines of the log about refusals in this namespace.
pub fn denials(world: &World, namespace: &Namespace) -> Vec<String> {
    let here = format!("\"namespace\":\"{}\"", namespace.name);
    let log = world.tagout.log();
    log.lines()
        .filter(|line| line.contains(&here) && line.contains("\"verdict\":\"deny\""))
        .map(str::to_owned)
        .collect()
}

fn with_finalizer(mut manifest: Value) -> Value {
    manifest["metadata"]["finalizers"] = json!([FINALIZER]);
    manifest
}

pub fn stateful_set(name: &str) -> Value {
    let mut manifest = deployment(name);
    manifest["kind"] = json!("StatefulSet");
    manifest["spec"]["serviceName"] = json!(name);
    manifest
}

pub fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

#[test]
fn deleting_a_team_takes_its_approvals_away() {
    let world = shared();
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=short-lived-team"]).succeeds();
    let team = json!({
        "apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "short-lived"},
        "spec": {"members": [{"user": User::Carol.name()}]},
    });
    world.apply(User::Admin, &team).succeeds();
    let mut rule = crate::world::rule("short-lived-team", "short-lived-team");
    rule["spec"]["approval"]["require"] = json!([{"anyOf": ["short-lived", "approvers"]}]);
    world.rule(&rule);
    namespace.deployment("api");
    let mut statement = namespace.statement("deployment/api", User::Carol);
    statement["team"] = json!("short-lived");
    namespace.present(User::Carol, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    world.kubectl(User::Admin, &["delete", "approverteam", "short-lived"]).succeeds();
    crate::world::eventually("the team is gone from memory", || {
        !namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).ok
    });
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&["there is no team \"short-lived\" any more"]);
}

#[test]
fn a_rollback_that_restores_an_expired_approval_is_a_rollback() {
    let namespace = shared().production();
    namespace.deployment("api");
    let mut statement = namespace.statement("deployment/api", User::Alice);
    statement["expires"] = json!((jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4)).to_string());
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Ci, &["set", "image", "deployment/api", "main=example.com/main:2"]).succeeds();
    namespace.kubectl(User::Ci, &["rollout", "status", "deployment/api"]).succeeds();
    namespace.kubectl(User::Ci, &["annotate", "deployment", "api", "tagout.dev/approval-"]).succeeds();
    // What expired just now may not have for a replica whose clock is slower.
    std::thread::sleep(std::time::Duration::from_secs(16));
    namespace.kubectl(User::Ci, &["rollout", "undo", "deployment/api"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[]);
}
