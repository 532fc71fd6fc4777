//! What one record says of several deletions under one name.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::{Action, Protects, Statement};

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

fn at(hours: i64) -> Timestamp {
    NOW + SignedDuration::from_hours(hours)
}

/// A deletion that takes so many protected objects along.
fn of(uid: &str, hours: i64, carries: usize) -> Deletion {
    let uids = (0..carries).map(|number| format!("{uid}-{number}")).collect();
    Deletion {
        uid: uid.into(),
        created: None,
        at: at(hours),
        last: at(hours),
        requesters: vec!["agent".into()],
        rules: vec!["r".into()],
        statements: Vec::new(),
        protects: Protects::of(&uids, Vec::new()),
        radius: std::collections::BTreeMap::new(),
        volumes: 0,
        labels: std::collections::BTreeMap::new(),
        owners: Vec::new(),
    }
}

fn by(requester: &str, deletion: Deletion) -> Deletion {
    Deletion { requesters: vec![requester.into()], ..deletion }
}

fn said(approver: &str, deletion: Deletion) -> Deletion {
    let statement = json!({"action": "Delete", "uid": deletion.uid, "resource": "deployments.apps", "namespace": "n",
        "name": "d", "cluster": "c", "approver": approver, "team": "sre", "approvedAt": NOW.to_string(),
        "expires": at(1).to_string()});
    Deletion { statements: vec![serde_json::from_value(statement).unwrap()], ..deletion }
}

fn written(deletions: &mut Vec<Deletion>, new: Deletion) -> Result<(), String> {
    let at = new.at;
    let before = deletions.clone();
    let written = add(deletions, new, at);
    assert!((1..=8).contains(&deletions.len()));
    // Nobody writes what is refused.
    if written.is_err() {
        *deletions = before;
    }
    written
}

fn uids(deletions: &[Deletion]) -> Vec<&str> {
    deletions.iter().map(|one| one.uid.as_str()).collect()
}

#[test]
fn the_same_again_changes_only_when_it_was_last_asked_for() {
    let first = said("alice", of("a", 0, 3));
    let mut deletions = vec![first.clone()];
    add(&mut deletions, first.clone(), at(0) + SignedDuration::from_secs(5)).unwrap();
    assert_eq!(deletions, std::slice::from_ref(&first));
    // Whoever tidies up finds it changed.
    written(&mut deletions, Deletion { at: at(1), ..first.clone() }).unwrap();
    assert_eq!(deletions, [Deletion { last: at(1), ..first }]);
}

#[test]
fn whoever_asks_for_the_same_object_is_written_beside_those_before() {
    let mut deletions = vec![of("a", 0, 0)];
    written(&mut deletions, by("ci", of("a", 1, 0))).unwrap();
    written(&mut deletions, by("agent", of("a", 2, 0))).unwrap();
    assert_eq!((deletions.len(), &deletions[0].requesters), (1, &vec!["agent".to_owned(), "ci".to_owned()]));
    assert_eq!(deletions[0].at, at(0));
}

#[test]
fn of_many_requesters_the_first_and_the_last_are_kept() {
    let mut deletions = vec![by("0", of("a", 0, 0))];
    for number in 1..30 {
        written(&mut deletions, by(&number.to_string(), of("a", 0, 0))).unwrap();
        assert_eq!(deletions[0].requesters.last(), Some(&number.to_string()));
        assert!(deletions[0].requesters.len() <= 8);
    }
    assert_eq!(deletions[0].requesters, ["0", "1", "2", "3", "26", "27", "28", "29"]);
}

#[test]
fn the_rules_of_every_review_are_written_once() {
    let with = |rules: &[&str]| Deletion { rules: rules.iter().map(ToString::to_string).collect(), ..of("a", 0, 0) };
    let mut deletions = vec![with(&["b", "d"])];
    written(&mut deletions, with(&["a", "b", "c"])).unwrap();
    written(&mut deletions, with(&[])).unwrap();
    assert_eq!(deletions[0].rules, ["a", "b", "c", "d"]);
}

#[test]
fn what_was_said_is_replaced_only_by_what_is_said_and_is_held_against_its_own_time() {
    let mut deletions = vec![said("alice", of("a", 0, 2))];
    written(&mut deletions, of("a", 1, 5)).unwrap();
    assert_eq!(deletions, [Deletion { last: at(1), ..said("alice", of("a", 0, 2)) }]);
    written(&mut deletions, said("bob", of("a", 2, 5))).unwrap();
    assert_eq!(deletions, [said("bob", of("a", 2, 5))]);
    // What nobody had said anything of is then approved.
    let mut deletions = vec![of("a", 0, 0)];
    written(&mut deletions, said("alice", of("a", 1, 0))).unwrap();
    let of_whom = |one: &Statement| (one.approver.clone(), one.action);
    assert_eq!(deletions[0].statements.iter().map(of_whom).collect::<Vec<_>>(), [("alice".into(), Action::Delete)]);
}

#[test]
fn what_is_known_of_an_older_one_changes_where_it_stands() {
    let mut deletions = vec![of("b", 1, 1), of("a", 0, 1)];
    written(&mut deletions, said("alice", by("ci", of("a", 2, 1)))).unwrap();
    assert_eq!(uids(&deletions), ["b", "a"]);
    assert_eq!(deletions[0], of("b", 1, 1));
    assert_eq!((deletions[1].requesters.len(), deletions[1].at), (2, at(2)));
}

#[test]
fn another_object_of_the_name_comes_first() {
    let mut deletions = vec![of("a", 0, 1)];
    written(&mut deletions, of("b", 1, 0)).unwrap();
    assert_eq!(uids(&deletions), ["b", "a"]);
    // With the older one nothing went along.
    written(&mut deletions, of("c", 2, 0)).unwrap();
    assert_eq!(uids(&deletions), ["c", "a"]);
}

#[rstest]
#[case::while_it_may_take_something_along(1, 71, true)]
#[case::for_three_days(1, 72, false)]
#[case::not_without_anything_that_goes_along(0, 1, false)]
fn an_older_one_is_kept(#[case] carries: usize, #[case] hours: i64, #[case] kept: bool) {
    let mut deletions = vec![of("a", 0, carries)];
    written(&mut deletions, of("b", hours, 0)).unwrap();
    assert_eq!(uids(&deletions), if kept { vec!["b", "a"] } else { vec!["b"] });
}

#[test]
fn eight_are_kept_and_the_oldest_goes_for_a_ninth_once_nothing_can_be_going_with_it() {
    let minutes = |uid: &str, minutes: i64| {
        let at = NOW + SignedDuration::from_mins(minutes);
        Deletion { at, last: at, ..of(uid, 0, 1) }
    };
    let mut deletions = vec![minutes("0", 0)];
    for number in 1..8 {
        written(&mut deletions, minutes(&number.to_string(), number)).unwrap();
    }
    let before = deletions.clone();
    let refused = written(&mut deletions, minutes("8", 59)).unwrap_err();
    assert!(refused.contains("still going along"), "{refused}");
    assert_eq!(deletions, before);
    written(&mut deletions, minutes("8", 60)).unwrap();
    assert_eq!(uids(&deletions), ["8", "7", "6", "5", "4", "3", "2", "1"]);
}

#[test]
fn a_record_names_ten_thousand_objects_and_no_more_beside_the_last() {
    let carrying = |uid: &str, hours, carries: usize| {
        let uids = (0..carries).map(|number| number.to_string()).collect();
        Deletion { protects: Protects { uids, ..Protects::default() }, ..of(uid, hours, 0) }
    };
    let mut deletions = vec![carrying("a", 0, 9_000)];
    written(&mut deletions, carrying("b", 0, 1_000)).unwrap();
    written(&mut deletions, carrying("c", 0, 1)).unwrap_err();
    written(&mut deletions, carrying("c", 0, 0)).unwrap();
    assert_eq!(uids(&deletions), ["c", "b", "a"]);
    // An hour later nothing goes with them any more.
    let mut deletions = vec![carrying("a", 0, 9_000)];
    written(&mut deletions, carrying("b", 1, 2_000)).unwrap();
    assert_eq!(uids(&deletions), ["b"]);
    // By itself one may name as many as there are.
    let mut deletions = vec![carrying("a", 0, 0)];
    written(&mut deletions, carrying("b", 1, MAX_NAMED)).unwrap();
    assert_eq!(uids(&deletions), ["b"]);
}

#[test]
fn the_object_and_its_kind_are_those_that_were_written() {
    let spec = DeletionRecordSpec {
        resource: "deployments.apps".into(),
        api_version: "apps/v1".into(),
        namespace: "n".into(),
        name: "d".into(),
        deletions: vec![of("b", 1, 0), of("a", 0, 0)],
    };
    let (spec, deletion) = only(spec, |one| one.uid == "a").unwrap();
    let root = root(&spec, &deletion);
    assert_eq!((&*root.kind(), &*root.namespace, &*root.name, &*root.uid), ("deployments.apps", "n", "d", "a"));
    let kind = resource(&spec);
    assert_eq!((kind.group, kind.version, kind.plural), ("apps", "v1", "deployments"));
    assert!(only(spec, |one| one.uid == "c").is_none());
    // No two names have one record.
    let name = |namespace, name| record_name("deployments.apps", namespace, name);
    assert_ne!(name("a", "bc"), name("ab", "c"));
    assert_eq!(name("n", "d").len(), "deleted-".len() + 32);
}
