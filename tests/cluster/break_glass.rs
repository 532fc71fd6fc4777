//! The way through in an emergency.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, eventually, rule, shared, text};

/// A namespace whose deployments need two approvers, and that carol's team may pass alone.
fn guarded(name: &str) -> Namespace<'static> {
    breakable(name, "namespaceSelector", &json!({"anyOf": ["approvers"], "count": 2}));
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    namespace.deployment("api");
    namespace
}

/// A rule that carol's team may pass alone.
fn breakable(name: &str, selector: &str, quorum: &Value) {
    let world = shared();
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": format!("{name}-breakers")},
        "spec": {"members": [{"user": User::Carol.name()}]}});
    world.apply(User::Admin, &team).succeeds();
    let mut manifest = rule(name, name);
    let selects = manifest["spec"].as_object_mut().unwrap().remove("namespaceSelector").unwrap();
    manifest["spec"][selector] = selects;
    manifest["spec"]["approval"] = json!({"require": [quorum], "breakGlass": {"anyOf": [format!("{name}-breakers")]}});
    world.rule(&manifest);
}

fn breaking(namespace: &Namespace, name: &str) -> Value {
    let mut statement = namespace.statement("deployment/api", User::Carol);
    statement["team"] = json!(format!("{name}-breakers"));
    statement["breakGlass"] = json!(true);
    statement["reason"] = json!("the database is on fire");
    statement
}

/// How often Tagout has counted that the rule was broken.
fn broken(rule: &str) -> Option<u64> {
    let all = shared().metrics();
    let counted = format!("tagout_break_glass_total{{rule=\"{rule}\"}} ");
    all.lines().find_map(|line| line.strip_prefix(&counted)?.parse().ok())
}

#[test]
fn one_person_with_a_reason_passes_a_quorum_alone_and_everybody_is_told() {
    let namespace = guarded("glass");
    let statement = breaking(&namespace, "glass");
    namespace.present(User::Carol, "deployment/api", &json!([statement])).succeeds();
    let metric = || broken("glass");
    let uid = text(&namespace.get("deployment/api")["metadata"]["uid"]);
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    assert_eq!(metric(), None, "a dry-run breaks nothing");
    // Her own request: an emergency knows no separation.
    namespace.kubectl(User::Carol, &["delete", "deployment/api"]).succeeds();
    // The API server asks again where the object was changed in between, by its controller for example.
    assert!(metric().is_some_and(|counted| counted >= 1), "{:?}", metric());
    eventually("an Event of type Warning says so", || {
        let events = namespace.kubectl(User::Admin, &["get", "events.events.k8s.io", "-o", "json"]).succeeds().out;
        let events: Value = serde_json::from_str(&events).unwrap();
        events["items"].as_array().unwrap().iter().any(|event| {
            event["reason"] == "BreakGlass"
                && event["type"] == "Warning"
                && event["regarding"]["uid"] == uid.as_str()
                && text(&event["note"]).contains(User::Carol.name())
        })
    });
    let log = std::fs::read_to_string(shared().cp.audit_log()).expect("an audit log");
    let key = format!("delete.glass.tagout.dev/break-glass\":\"{}", User::Carol.name());
    assert!(log.contains(&key), "the audit log has {key}");
}

#[test]
fn breaking_glass_without_a_reason_is_refused() {
    let namespace = guarded("silent-glass");
    let mut statement = breaking(&namespace, "silent-glass");
    statement.as_object_mut().unwrap().remove("reason");
    namespace.present(User::Carol, "deployment/api", &json!([statement])).is_refused(&["give a reason"]);
    statement["reason"] = json!("  ");
    namespace.present(User::Carol, "deployment/api", &json!([statement])).is_refused(&["reason"]);
}

#[test]
fn an_approver_who_is_in_no_break_glass_team_of_the_rule_cannot_break_it() {
    let namespace = guarded("others-glass");
    let mut statement = breaking(&namespace, "others-glass");
    statement["approver"] = json!(User::Alice.name());
    statement["team"] = json!("approvers");
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&["rule others-glass lets nobody of \"approvers\" break glass"]);
}

#[test]
fn an_ordinary_approval_by_the_break_glass_team_is_none() {
    let namespace = guarded("quiet-glass");
    let mut statement = breaking(&namespace, "quiet-glass");
    statement["breakGlass"] = json!(false);
    namespace.present(User::Carol, "deployment/api", &json!([statement])).succeeds();
    namespace
        .kubectl(User::Agent, &["delete", "deployment/api"])
        .is_refused(&["needs approval by 2 of approvers", "is not asked by rule quiet-glass"]);
}

#[test]
fn glass_that_is_broken_for_the_lesser_part_of_one_update_is_told_and_not_where_the_update_is_refused() {
    const RULE: &str = "two-deeds";
    breakable(RULE, "objectSelector", &json!({"anyOf": ["approvers"]}));
    let namespace = shared().unprotected();
    namespace.deployment("api");
    namespace.kubectl(User::Admin, &["label", "deployment/api", &format!("rule={RULE}")]).succeeds();
    let both = json!({"spec": {"replicas": 0}, "metadata": {"labels": {"rule": null}}}).to_string();
    let both = || namespace.kubectl(User::Agent, &["patch", "deployment/api", "--type=merge", "-p", &both]);

    let mut leaves = breaking(&namespace, RULE);
    leaves["action"] = json!("Unprotect");
    namespace.present(User::Carol, "deployment/api", &json!([leaves])).succeeds();
    both().is_refused(&["denied ScaleToZero"]);
    assert_eq!(broken(RULE), None, "what is refused is no emergency");

    let mut stops = namespace.statement("deployment/api", User::Alice);
    stops["action"] = json!("ScaleToZero");
    namespace.present(User::Alice, "deployment/api", &json!([stops, leaves])).succeeds();
    both().succeeds();
    assert!(broken(RULE).is_some_and(|counted| counted >= 1), "{:?}", broken(RULE));
    eventually("an Event says so", || {
        let events = namespace.kubectl(User::Admin, &["get", "events.events.k8s.io", "-o", "json"]).succeeds().out;
        let events: Value = serde_json::from_str(&events).unwrap();
        let mut events = events["items"].as_array().unwrap().iter().filter(|event| event["reason"] == "BreakGlass");
        events.any(|event| text(&event["note"]).starts_with("Unprotect was let pass"))
    });
    let log = std::fs::read_to_string(shared().cp.audit_log()).expect("an audit log");
    let key = format!("two-deeds.tagout.dev/break-glass\":\"{}", User::Carol.name());
    assert!(log.contains(&key), "the audit log has {key}");
}
