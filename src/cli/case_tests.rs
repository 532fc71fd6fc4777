use jiff::SignedDuration;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::*;
use crate::api::MAX_VALID_FOR;
use crate::cli::approver::Wanted;
use crate::cli::cluster::{Caller, Protection};
use crate::cli::goes::tests as goes;
use crate::cli::gone::Gone;
use crate::cli::gone::tests::gone;
use crate::cli::kinds::{Kind, Kinds};
use crate::cli::statements::tests::{NOW, statement};
use crate::guard::Team;

pub fn deployment() -> LiveObject {
    let resource = ApiResource {
        group: "apps".into(),
        version: "v1".into(),
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        plural: "deployments".into(),
    };
    let metadata = json!({"name": "api", "namespace": "payments", "uid": "uid-1",
        "creationTimestamp": "2026-11-20T10:00:00Z", "labels": {"app": "api"}});
    LiveObject { kind: Kind::namespaced(resource), metadata: serde_json::from_value(metadata).unwrap() }
}

/// A cluster with rules for production and staging, in which alice asks.
pub fn setting(require: &Value) -> Setting {
    let protection = Protection {
        rules: rules(require),
        written: Vec::new(),
        unreadable_teams: std::collections::BTreeMap::new(),
        epoch: Some("epoch-1".into()),
    };
    Setting { kinds: Kinds::default(), protection, caller: caller("alice"), now: NOW }
}

pub fn said(statement: Statement) -> Said {
    Said { place: Place::Object, statement }
}

fn rules(require: &Value) -> Rules {
    let spec = |require: &Value, mode: &str, valid_for: &str, labels: Value| {
        let spec = json!({"mode": mode, "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
            "namespaceSelector": {"matchLabels": labels}, "approval": {"require": require, "validFor": valid_for}});
        serde_json::from_value(spec).unwrap()
    };
    let read = |name: &str, spec| (name.to_owned(), Rule::read(name, &spec));
    let anyone = json!([{"anyOf": ["everyone"]}]);
    let team = |user: &str| Team::read(serde_json::from_value(json!({"members": [{"user": user}]})).unwrap());
    Rules {
        rules: [
            read("production", spec(require, "Enforce", "30m", json!({"environment": "production"}))),
            read("staging", spec(require, "Enforce", "5m", json!({"environment": "staging"}))),
            read("watched", spec(&anyone, "Audit", "2h", json!({}))),
        ]
        .into(),
        teams: [("sre".to_owned(), team("alice")), ("dba".to_owned(), team("bob"))].into(),
        cluster: "cluster-1".into(),
        own_namespace: String::new(),
    }
}

pub fn case(setting: &Setting) -> Case<'_> {
    let namespace = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: "Namespace".into(),
        plural: "namespaces".into(),
    };
    let metadata = json!({"name": "payments", "uid": "uid-ns", "labels": {"environment": "production"}});
    let home = LiveObject { kind: Kind::namespaced(namespace), metadata: serde_json::from_value(metadata).unwrap() };
    Case {
        matter: Matter::Action(Action::Delete),
        object: deployment(),
        facts: RefCell::new(Facts {
            namespace: Some(facts::namespace(&home)),
            epoch: setting.protection.epoch(),
            radius: Some(Radius::default()),
            ..Facts::default()
        }),
        home: Some(home),
        claim: None,
        goes: Goes::default(),
        said: Vec::new(),
        setting,
        now: NOW,
    }
}

pub fn caller(name: &str) -> Caller {
    Caller { name: name.to_owned(), groups: Vec::new() }
}

fn team(setting: &Setting, wanted: Option<&str>, said: Vec<Said>) -> anyhow::Result<String> {
    Case { said, ..case(setting) }.team(&Wanted { team: wanted, ..Wanted::default() })
}

#[test]
fn the_rules_of_the_objects_namespace_cover_it() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let names: Vec<_> = case(&setting).covering().unwrap().iter().map(|rule| rule.name.clone()).collect();
    assert_eq!(names, ["production", "watched"]);
}

#[test]
fn where_no_rule_covers_an_object_there_is_nothing_to_approve() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    setting.protection.rules.rules.retain(|name, _| name == "staging");
    let words = case(&setting).covering().unwrap_err().to_string();
    assert_eq!(words, r#"nothing to approve: no rule covers Delete of deployments.apps "api" in "payments""#);
}

#[test]
fn the_team_that_is_still_missing_comes_first() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}, {"anyOf": ["dba"]}]));
    let dba = serde_json::from_value(json!({"members": [{"user": "alice"}]})).unwrap();
    setting.protection.rules.teams.insert("dba".into(), Team::read(dba));
    assert_eq!(team(&setting, None, vec![]).unwrap(), "sre");
    assert_eq!(team(&setting, None, vec![said(statement("alice", "sre"))]).unwrap(), "dba");
    assert_eq!(team(&setting, Some("dba"), vec![]).unwrap(), "dba");
}

#[test]
fn who_is_in_no_team_reads_which_to_ask() {
    let setting = |name| Setting { caller: caller(name), ..setting(&json!([{"anyOf": ["sre"]}])) };
    let words = |name, wanted| team(&setting(name), wanted, vec![]).unwrap_err().to_string();
    assert!(words("carol", None).contains("in none of the teams that may approve this: sre, everyone"));
    assert!(words("bob", Some("sre")).contains("not in team sre"));
    assert!(words("bob", Some("dba")).contains("they ask sre, everyone"));
    assert!(words("bob", Some("nobody")).contains("there is no team nobody"));
    assert!(words("system:serviceaccount:a:b", None).contains("only a person approves"));
}

#[test]
fn glass_is_broken_only_by_a_team_that_a_rule_names_for_it() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    let broken = Wanted { break_glass: true, ..Wanted::default() };
    let words = case(&setting).team(&broken).unwrap_err().to_string();
    assert!(words.contains("no rule names one"), "{words}");
    setting.protection.rules.rules.get_mut("production").unwrap().as_mut().unwrap().break_glass = vec!["sre".into()];
    assert_eq!(case(&setting).team(&broken).unwrap(), "sre");
}

#[test]
fn an_approval_lives_as_long_as_every_covering_rule_allows() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let case = case(&setting);
    let covering = case.covering().unwrap();
    assert_eq!(case.life(&covering, None).unwrap(), SignedDuration::from_mins(30));
    let words = case.life(&covering, Some(SignedDuration::from_hours(1))).unwrap_err().to_string();
    assert_eq!(words, "--for 1h is too long: rule production accepts approvals of at most 30m");
}

/// What was destroyed on these people's word, and is to return.
pub fn returning<'s>(setting: &'s Setting, statements: &[Statement]) -> Case<'s> {
    let Gone { object, deletion } = gone(statements);
    let case = case(setting);
    case.facts.borrow_mut().deletion = Some(fact(&deletion));
    Case { object, matter: Matter::Return(Box::new(deletion)), ..case }
}

/// By which it was let go.
fn destroyed(approver: &str, team: &str) -> Statement {
    let approved_at = NOW - SignedDuration::from_hours(2) - SignedDuration::from_mins(5);
    Statement { approved_at, expires: approved_at + SignedDuration::from_mins(30), ..statement(approver, team) }
}

/// An approval of the return, beside what is gone.
fn back(approver: &str, team: &str) -> Said {
    Said { place: Place::Approval, statement: Statement { action: Action::Recreate, ..statement(approver, team) } }
}

#[test]
fn a_return_asks_the_rules_that_enforced_the_deletion_as_long_as_they_remember_it() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let case = returning(&setting, &[]);
    assert_eq!(case.covering().unwrap().iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["production"]);
    let later = Case { now: NOW + SignedDuration::from_hours(22), ..case };
    let words = later.covering().unwrap_err().to_string();
    assert!(words.contains("may simply be made"), "{words}");

    let mut setting = setting_without_recreate();
    assert!(returning(&setting, &[]).covering().is_err());
    setting.protection.rules.rules.clear();
    assert!(returning(&setting, &[]).covering().is_err());
}

fn setting_without_recreate() -> Setting {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    setting.protection.rules.rules.get_mut("production").unwrap().as_mut().unwrap().actions = vec![Action::Delete];
    setting
}

#[test]
fn whoever_approved_the_deletion_approved_the_return_unless_it_was_for_good() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let words = returning(&setting, &[destroyed("alice", "sre")]).covering().unwrap_err().to_string();
    assert_eq!(
        words,
        r#"nothing to approve: the deletion of deployments.apps "api" in "payments" was approved by alice, and so is its return"#
    );
    let good = Statement { delete_only: true, ..destroyed("alice", "sre") };
    assert_eq!(returning(&setting, &[good]).covering().unwrap().len(), 1);
    assert_eq!(returning(&setting, &[destroyed("bob", "dba")]).covering().unwrap().len(), 1);
}

#[test]
fn an_approval_of_a_return_counts_and_one_of_the_deletion_does_not() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let case = returning(&setting, &[]);
    let rule = case.covering().unwrap()[0];
    assert_eq!(case.flaw(&back("alice", "sre"), rule, None), None);
    assert_eq!(case.decide(&[back("alice", "sre")], None).because, Because::Approved(vec!["alice".into()]));
    let of_deletion = Said { statement: statement("alice", "sre"), ..back("alice", "sre") };
    assert_eq!(case.flaw(&of_deletion, rule, None), Some(Flaw::OtherAction));
    let mut other = back("alice", "sre");
    other.statement.uid = "uid-0".into();
    assert!(matches!(case.flaw(&other, rule, None), Some(Flaw::OtherObject(_))));
}

#[test]
fn whoever_approves_a_return_may_bring_it_back_themselves() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let case = returning(&setting, &[]);
    let covering = case.covering().unwrap();
    assert!(case.check_requester(&covering, Some("alice")).is_ok());
    assert_eq!(case.flaw(&back("alice", "sre"), covering[0], Some("alice")), None);
}

#[test]
fn the_return_of_what_was_in_a_namespace_is_approved_on_the_namespace() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    setting.kinds = Kinds::only(vec![deployment().kind]);
    let within = case(&setting);
    let object = within.home.clone().unwrap();
    let contents =
        |action| Case { matter: Matter::Contents(action), object: object.clone(), home: None, ..case(&setting) };
    let case = contents(Action::Recreate);
    assert_eq!(case.matter.of_what(), "what was destroyed in ");
    let rule = case.covering().unwrap()[0];
    let of = |action| {
        said(Statement {
            action,
            uid: "uid-ns".into(),
            resource: "namespaces".into(),
            namespace: String::new(),
            name: "payments".into(),
            scope: Scope::Contents,
            ..statement("alice", "sre")
        })
    };
    assert_eq!(case.flaw(&of(Action::Recreate), rule, None), None);
    assert_eq!(case.flaw(&of(Action::Delete), rule, None), Some(Flaw::OtherAction));
    assert_eq!(contents(Action::Delete).flaw(&of(Action::Delete), rule, None), None);
}

#[test]
fn what_loosens_a_rule_may_be_approved_for_a_week() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let weighed = Weighed {
        loosened: vec!["mode: Enforce → Warn".into()],
        needed: vec!["production".into()],
        new_spec: "sha256:1".into(),
        ..Weighed::default()
    };
    let case = Case { matter: Matter::Change(weighed), ..case(&setting) };
    let covering = case.covering().unwrap();
    assert_eq!(covering.len(), 1);
    assert!(case.life(&covering, Some(MAX_VALID_FOR)).is_ok());
    assert!(case.life(&covering, Some(MAX_VALID_FOR * 2)).is_err());
}

#[test]
fn a_statement_counts_for_a_rule_or_it_is_said_why_not() {
    let setting = setting(&json!([{"anyOf": ["sre"], "count": 2}]));
    let case = case(&setting);
    let rule = case.covering().unwrap()[0];
    assert_eq!(case.flaw(&said(statement("alice", "sre")), rule, None), None);
    let ended = Statement { epoch: Some("epoch-0".into()), ..statement("alice", "sre") };
    assert_eq!(case.flaw(&said(ended), rule, None), Some(Flaw::EndedEpoch));
    assert_eq!(case.flaw(&said(statement("alice", "sre")), rule, Some("alice")), Some(Flaw::OwnRequest));
}

#[test]
fn of_rules_that_ask_other_people_a_statement_says_nothing() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let (counts, flaws) = case(&setting).judged(&said(statement("alice", "sre")), None);
    assert_eq!((counts.len(), flaws.len()), (1, 0));
    let (counts, flaws) = case(&setting).judged(&said(statement("bob", "dba")), None);
    assert!(counts.is_empty() && matches!(flaws[0], Flaw::OtherTeam { .. }), "{flaws:?}");
}

#[test]
fn nobody_is_made_the_requester_of_their_own_approval() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let case = case(&setting);
    let covering = case.covering().unwrap();
    assert!(case.check_requester(&covering, Some("Alice")).is_err());
    assert!(case.check_requester(&covering, Some("agent-7")).is_ok());
    assert!(case.check_requester(&covering, None).is_ok());
}

/// Rules for claims too, and a claim that goes with the Deployment.
fn carrying(require: &Value) -> Setting {
    let mut setting = setting(require);
    let spec = json!({"resources": [{"apiGroups": [""], "resources": ["persistentvolumeclaims"]}],
        "approval": {"require": [{"anyOf": ["dba"]}], "validFor": "10m"}});
    let rule = Rule::read("data", &serde_json::from_value(spec).unwrap());
    setting.protection.rules.rules.insert("data".into(), rule);
    setting
}

fn with_claim(case: Case<'_>) -> Case<'_> {
    let claim = goes::owned("PersistentVolumeClaim", "persistentvolumeclaims", "data");
    case.facts.borrow_mut().radius = Some(goes::radius(vec![claim]));
    case
}

#[test]
fn what_goes_along_brings_its_own_rules_and_has_to_be_named() {
    let setting = carrying(&json!([{"anyOf": ["sre"]}]));
    let case = with_claim(case(&setting));
    let covering = case.covering().unwrap();
    assert_eq!(covering.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["data", "production", "watched"]);
    let protects = case.decide(&[], None).protects.unwrap();
    assert_eq!(protects.uids, ["data"]);

    let production = covering[1];
    let bare = said(statement("alice", "sre"));
    assert_eq!(case.flaw(&bare, production, None), Some(Flaw::NothingNamed(1)));
    let naming = said(Statement { protects: Some(protects), ..statement("alice", "sre") });
    assert_eq!(case.flaw(&naming, production, None), None);
    assert!(matches!(case.flaw(&naming, covering[0], None), Some(Flaw::TooLong { .. })));
}

#[test]
fn what_a_rule_says_of_a_statement_is_not_what_another_says() {
    let setting = carrying(&json!([{"anyOf": ["sre"]}]));
    let case = with_claim(case(&setting));
    let protects = case.decide(&[], None).protects;
    let naming = said(Statement { protects, ..statement("alice", "sre") });
    let (counts, flaws) = case.judged(&naming, None);
    assert_eq!((counts.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), flaws), (vec!["production"], vec![]));
}

#[test]
fn other_actions_ask_the_rules_that_guard_against_them() {
    let setting = carrying(&json!([{"anyOf": ["sre"]}]));
    for (action, rules) in [
        (Action::ScaleToZero, vec!["production", "watched"]),
        (Action::Unprotect, vec!["production", "watched"]),
        (Action::Evict, vec![]),
    ] {
        let case = with_claim(Case { matter: Matter::Action(action), ..case(&setting) });
        let names: Vec<_> = case.decide(&[], None).rules.iter().map(|rule| rule.name.clone()).collect();
        assert_eq!(names, rules, "{action:?}");
        assert_eq!(case.decide(&[], None).protects, None);
    }
    let case = Case { matter: Matter::Action(Action::Evict), ..case(&setting) };
    let words = case.covering().unwrap_err().to_string();
    assert_eq!(words, r#"nothing to approve: no rule covers Evict of deployments.apps "api" in "payments""#);
}

#[test]
fn a_namespace_is_left_by_the_rules_that_select_it_and_not_by_those_that_select_all() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let within = case(&setting);
    let case =
        Case { object: within.home.clone().unwrap(), home: None, matter: Matter::Action(Action::Unprotect), ..within };
    let names: Vec<_> = case.covering().unwrap().iter().map(|rule| rule.name.clone()).collect();
    assert_eq!(names, ["production"]);
}

#[test]
fn a_definition_is_left_by_the_rules_that_name_its_kind() {
    let setting = setting(&json!([{"anyOf": ["sre"]}]));
    let mut case = Case { home: None, matter: Matter::Action(Action::Unprotect), ..case(&setting) };
    case.object.kind.resource.group = "apiextensions.k8s.io".into();
    case.object.kind.resource.plural = "customresourcedefinitions".into();
    case.object.metadata.namespace = None;
    case.object.metadata.name = Some("deployments.apps".into());
    assert_eq!(case.covering().unwrap().len(), 3);
    case.object.metadata.name = Some("others.apps".into());
    assert!(case.covering().is_err());
}

#[test]
fn rules_are_about_the_claim_of_a_volume() {
    let setting = carrying(&json!([{"anyOf": ["sre"]}]));
    let claim = Subject {
        resource: "persistentvolumeclaims".into(),
        namespace: "payments".into(),
        name: "data".into(),
        ..Subject::default()
    };
    let mut case = Case { claim: Some(claim), ..case(&setting) };
    case.object.kind.resource.group = String::new();
    case.object.kind.resource.plural = "persistentvolumes".into();
    case.object.metadata.namespace = None;
    let names: Vec<_> = case.covering().unwrap().iter().map(|rule| rule.name.clone()).collect();
    assert_eq!(names, ["data"]);
    assert!(Case { claim: Some(Subject::default()), ..case }.covering().is_err());
}

#[test]
fn where_so_little_goes_that_nobody_is_asked_there_is_nothing_to_approve() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    for rule in setting.protection.rules.rules.values_mut() {
        rule.as_mut().unwrap().tolerated = 1;
    }
    assert!(case(&setting).covering().unwrap_err().to_string().contains("so little goes"));
    let setting = Setting { protection: setting.protection, ..carrying(&json!([{"anyOf": ["sre"]}])) };
    let case = case(&setting);
    let rule = setting.rules().rules["production"].as_ref().unwrap();
    // Not even then is a statement good that is not.
    let ended = Statement { epoch: Some("epoch-0".into()), ..statement("alice", "sre") };
    assert_eq!(case.flaw(&said(ended), rule, None), Some(Flaw::EndedEpoch));
}

#[test]
fn where_nobody_could_look_at_anything_it_is_not_said_that_no_rule_covers_it() {
    let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
    setting.protection.rules.rules.clear();
    let unlisted = [(EVERYTHING.to_owned(), "there was not enough time".to_owned())].into();
    let radius = Radius { unlisted, ..Radius::default() };
    let goes = Goes::of(Some(&radius), "", &BTreeSet::new());
    let words = Case { goes, ..case(&setting) }.covering().unwrap_err().to_string();
    assert!(words.ends_with("could not be looked up: there was not enough time; try again"), "{words}");
}
