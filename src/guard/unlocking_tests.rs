use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::guard::Team;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

fn rule(name: &str, team: &str, change: &Value) -> (String, Result<Rule, String>) {
    let mut spec = json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
        "actions": ["Delete", "Unlock"], "approval": {"require": [{"anyOf": [team]}], "breakGlass": {"anyOf": ["oncall"]}}});
    for (key, value) in change.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    let mut read = Rule::read(name, &serde_json::from_value(spec).expect("a spec")).expect("a rule");
    read.settled = Some([].into());
    (name.to_owned(), Ok(read))
}

fn rules(all: impl IntoIterator<Item = (String, Result<Rule, String>)>) -> Rules {
    let team = |user: &str| Team::read(serde_json::from_value(json!({"members": [{"user": user}]})).expect("a team"));
    Rules {
        rules: all.into_iter().collect(),
        teams: [("sre", "alice"), ("dba", "bob"), ("oncall", "carol")]
            .map(|(name, user)| (name.to_owned(), team(user)))
            .into(),
        cluster: "c".into(),
        own_namespace: "tagout-system".into(),
    }
}

fn shared() -> Subject<'static> {
    Subject {
        group: "g".into(),
        resource: "configurations".into(),
        name: "tagout".into(),
        uid: "u".into(),
        ..Subject::default()
    }
}

fn statement(approver: &str, team: &str, change: &Value) -> Statement {
    let mut statement = json!({"action": "Unlock", "uid": "u", "resource": "configurations.g", "name": "tagout",
        "cluster": "c", "epoch": "e", "approver": approver, "team": team, "requester": "ci",
        "approvedAt": NOW, "expires": NOW + SignedDuration::from_mins(20)});
    for (key, value) in change.as_object().expect("fields") {
        statement[key] = value.clone();
    }
    serde_json::from_value(statement).expect("a statement")
}

fn users(said: &[Statement], rules: &Rules) -> Vec<String> {
    unlocked(&shared(), said, rules, &Epoch::Current("e".into()), NOW).into_keys().collect()
}

#[test]
fn who_was_named_is_let_until_the_approval_ends() {
    let rules = rules([rule("r", "sre", &json!({}))]);
    let said = [statement("alice", "sre", &json!({}))];
    let all = unlocked(&shared(), &said, &rules, &Epoch::Current("e".into()), NOW);
    let one = &all["ci"];
    assert_eq!((one.until, one.approvers.as_slice()), (NOW + SignedDuration::from_mins(20), &["alice".to_owned()][..]));
    assert_eq!(one.statements, [said[0].hash().expect("a hash")]);
    assert!(!one.broke_glass);
    let later = NOW + SignedDuration::from_mins(20);
    assert!(unlocked(&shared(), &said, &rules, &Epoch::Current("e".into()), later).is_empty());
    assert!(unlocked(&shared(), &said, &rules, &Epoch::default(), NOW).is_empty());
}

#[rstest]
#[case::another_action(json!({"action": "Delete"}))]
#[case::another_configuration(json!({"uid": "x"}))]
#[case::another_name(json!({"name": "tagout-production"}))]
#[case::another_cluster(json!({"cluster": "x"}))]
#[case::nobody_named(json!({"requester": null}))]
#[case::its_own_author(json!({"requester": "alice"}))]
#[case::kubernetes_itself(json!({"requester": "system:kube-scheduler"}))]
#[case::longer_than_an_hour(json!({"expires": NOW + SignedDuration::from_mins(61)}))]
#[case::another_change(json!({"newSpec": "sha256:00"}))]
fn a_statement_that_says_something_else_unlocks_nothing(#[case] change: Value) {
    let rules = rules([rule("r", "sre", &json!({}))]);
    assert_eq!(users(&[statement("alice", "sre", &change)], &rules), Vec::<String>::new());
}

#[test]
fn every_rule_that_names_it_has_to_agree_and_no_other() {
    let said = [statement("alice", "sre", &json!({}))];
    let also = |change: &Value| rules([rule("r", "sre", &json!({})), rule("s", "dba", change)]);
    assert!(users(&said, &also(&json!({}))).is_empty());
    for other in [json!({"actions": ["Delete"]}), json!({"mode": "Warn"}), json!({"mode": "Audit"})] {
        assert_eq!(users(&said, &also(&other)), ["ci"], "{other}");
    }
    let both = [statement("alice", "sre", &json!({})), statement("bob", "dba", &json!({}))];
    assert_eq!(users(&both, &also(&json!({}))), ["ci"]);
    let for_two = [statement("alice", "sre", &json!({})), statement("bob", "dba", &json!({"requester": "other"}))];
    assert!(users(&for_two, &also(&json!({}))).is_empty());
}

#[test]
fn an_emergency_unlocks_and_says_so() {
    let rules = rules([rule("r", "sre", &json!({}))]);
    let said = [statement("carol", "oncall", &json!({"breakGlass": true, "reason": "OPS-1"}))];
    let all = unlocked(&shared(), &said, &rules, &Epoch::Current("e".into()), NOW);
    assert!(all["ci"].broke_glass);
}

#[test]
fn where_what_a_rule_asks_cannot_be_read_nothing_is_unlocked() {
    let broken = ("s".to_owned(), Err("damaged".to_owned()));
    let rules = rules([rule("r", "sre", &json!({})), broken]);
    assert!(users(&[statement("alice", "sre", &json!({}))], &rules).is_empty());
}

#[test]
fn without_a_rule_that_names_it_nobody_is_asked_and_nothing_is_locked() {
    let rules = rules([rule("r", "sre", &json!({"actions": ["Delete"]}))]);
    assert!(locking(&rules).next().is_none());
    assert!(users(&[statement("alice", "sre", &json!({}))], &rules).is_empty());
}

#[test]
fn nobody_of_kubernetes_own_is_let_and_programs_of_others_are() {
    for (user, may) in [
        ("ci-deployer", true),
        ("alice@example.com", true),
        ("system:serviceaccount:argocd:argocd-application-controller", true),
        ("system:serviceaccount:kube-system:generic-garbage-collector", false),
        ("system:kube-scheduler", false),
        ("system:node:a", false),
        ("", false),
    ] {
        assert_eq!(may_be_unlocked_for(user), may, "{user}");
    }
}
