//! What goes with something that was let go, decided without a cluster.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use crate::api::{APPROVAL, Action, Protects, Statement};
use crate::guard::{
    Because, Called, Decision, Epoch, Facts, Flaw, Going, Listed, ListedState, Owner, OwnerFact, Radius, Reach,
    RecordFact, Request, Requester, Rule, Rules, Subject, Team, Verdict, decide, needs,
};

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

fn at(minutes: i64) -> Timestamp {
    NOW + SignedDuration::from_mins(minutes)
}

fn rules(extra: &Value) -> Rules {
    let kinds = json!([{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]},
        {"apiGroups": [""], "resources": ["secrets", "namespaces"]}]);
    let mut spec = json!({"resources": kinds, "approval": {"require": [{"anyOf": ["sre"]}]}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let team = serde_json::from_value(json!({"groups": [], "members": [{"user": "alice"}]})).unwrap();
    Rules {
        rules: [("r".to_owned(), Rule::read("r", &serde_json::from_value(spec).unwrap()))].into(),
        teams: [("sre".to_owned(), Team::read(team))].into(),
        cluster: "c".into(),
        own_namespace: "tagout-system".into(),
    }
}

fn subject(group: &'static str, resource: &'static str, uid: &str) -> Subject<'static> {
    Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: "n".into(),
        name: uid.to_owned().into(),
        uid: uid.to_owned().into(),
        created: Some(at(-60)),
        ..Subject::default()
    }
}

fn protects(uids: &[&str], unlisted: &[&str]) -> Protects {
    let uids: BTreeSet<String> = uids.iter().map(ToString::to_string).collect();
    Protects::of(&uids, unlisted.iter().map(ToString::to_string).collect())
}

/// Alice's, of the deletion of a Deployment.
fn statement(uid: &str, protects: Option<Protects>) -> Statement {
    let mut statement: Statement = serde_json::from_value(json!({"action": "Delete", "uid": uid,
        "resource": "deployments.apps", "namespace": "n", "name": uid, "cluster": "c", "epoch": "now", "approver": "alice",
        "team": "sre", "approvedAt": at(-5).to_string(), "expires": at(5).to_string()}))
    .unwrap();
    statement.protects = protects;
    statement
}

fn owner(uid: &str) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: uid.into(),
        uid: uid.into(),
        controller: true,
    }
}

fn request<'a>(subject: Subject<'a>, owners: Vec<Owner>, requester: &'a str) -> Request<'a> {
    Request {
        action: Action::Delete,
        subject,
        owners,
        terminating: false,
        change: None,
        requester: Requester { name: requester, groups: &[] },
        reach: Reach::Covered,
        what: None,
    }
}

fn decided<'r>(request: &Request, rules: &'r Rules, facts: Facts) -> Decision<'r> {
    let needs = needs(request, Called::By("r"), rules).unwrap();
    decide(request, &needs, rules, &Facts { epoch: Epoch::Current("now".into()), ..facts }, NOW)
}

/// The record of the approved deletion of `root`, and what the collector asks of `dependent`.
struct Cascade {
    record: RecordFact,
    dependent: Subject<'static>,
    owners: Vec<Owner>,
    states: Vec<OwnerFact>,
}

impl Cascade {
    fn of(uids: &[&str]) -> Self {
        Self {
            record: RecordFact {
                root: subject("apps", "deployments", "root"),
                state: OwnerFact::Gone,
                at: at(-1),
                statements: vec![statement("root", Some(protects(uids, &[])))],
                uids: uids.iter().map(ToString::to_string).collect(),
                digest: protects(uids, &[]).digest,
            },
            dependent: subject("apps", "statefulsets", "dependent"),
            owners: vec![owner("root")],
            states: vec![OwnerFact::Gone],
        }
    }

    fn verdict(self) -> Verdict {
        let rules = rules(&json!({}));
        let request = request(self.dependent, self.owners, COLLECTOR);
        let facts = Facts { owners: self.states, records: vec![self.record], ..Facts::default() };
        decided(&request, &rules, facts).verdict
    }
}

#[test]
fn a_dependent_goes_with_a_root_whose_approval_names_it() {
    assert_eq!(Cascade::of(&["dependent"]).verdict(), Verdict::Allow);
    let going = Cascade::of(&["dependent"]);
    let going = Cascade { record: RecordFact { state: OwnerFact::Terminating, ..going.record }, ..going };
    assert_eq!(Cascade { states: vec![OwnerFact::Terminating], ..going }.verdict(), Verdict::Allow);
}

#[test]
fn a_dependent_that_the_approval_does_not_name_stays() {
    assert_eq!(Cascade::of(&["other"]).verdict(), Verdict::Deny);
}

#[rstest]
#[case::lives(OwnerFact::Alive)]
#[case::cannot_be_read(OwnerFact::Unknown("forbidden".into()))]
#[case::may_not_be_read(OwnerFact::Unreadable("forbidden".into()))]
fn a_root_that_is_still_there_takes_nothing_along(#[case] state: OwnerFact) {
    let cascade = Cascade::of(&["dependent"]);
    let record = RecordFact { state: state.clone(), ..cascade.record };
    assert_eq!(Cascade { record, ..cascade }.verdict(), Verdict::Deny);
    let cascade = Cascade::of(&["dependent"]);
    assert_eq!(Cascade { states: vec![state], ..cascade }.verdict(), Verdict::Deny);
}

#[test]
fn what_was_orphaned_has_no_owner_and_follows_nothing() {
    let cascade = Cascade::of(&["dependent"]);
    assert_eq!(Cascade { owners: Vec::new(), states: Vec::new(), ..cascade }.verdict(), Verdict::Deny);
}

#[test]
fn one_owner_that_lives_keeps_it() {
    let cascade = Cascade::of(&["dependent"]);
    let owners = vec![owner("root"), owner("other")];
    assert_eq!(Cascade { owners, states: vec![OwnerFact::Gone, OwnerFact::Alive], ..cascade }.verdict(), Verdict::Deny);
}

#[test]
fn a_record_that_names_more_than_was_approved_opens_nothing_more() {
    let mut cascade = Cascade::of(&["other"]);
    cascade.record.uids.push("dependent".into());
    assert_eq!(cascade.verdict(), Verdict::Deny);
}

#[test]
fn a_record_whose_approval_is_of_another_object_or_was_over_opens_nothing() {
    for change in [
        (|statement: &mut Statement| statement.uid = "another".into()) as fn(&mut Statement),
        |statement| statement.expires = at(-2),
        |statement| statement.team = "nobodys".into(),
        |statement| statement.cluster = "other".into(),
        |statement| statement.action = Action::Evict,
    ] {
        let mut cascade = Cascade::of(&["dependent"]);
        change(&mut cascade.record.statements[0]);
        assert_eq!(cascade.verdict(), Verdict::Deny);
    }
}

#[test]
fn what_the_root_made_after_it_was_let_go_goes_too_and_what_others_made_does_not() {
    let cascade = Cascade::of(&[]);
    let late = Subject { created: Some(at(0)), ..cascade.dependent.clone() };
    assert_eq!(Cascade { dependent: late.clone(), ..cascade }.verdict(), Verdict::Allow);
    let cascade = Cascade { dependent: late, owners: vec![owner("stranger")], ..Cascade::of(&[]) };
    assert_eq!(cascade.verdict(), Verdict::Deny);
}

#[test]
fn what_controllers_make_anew_goes_by_the_record_though_nobody_names_it() {
    let mut cascade = Cascade::of(&[]);
    cascade.record.uids.push("key".into());
    let secret = subject("", "secrets", "key");
    assert_eq!(Cascade { dependent: secret.clone(), ..cascade }.verdict(), Verdict::Allow);
    assert_eq!(Cascade { dependent: secret, ..Cascade::of(&[]) }.verdict(), Verdict::Deny);
}

fn going(subject: Subject<'static>, kind: &str, owners: Vec<Owner>) -> Going {
    let listed = Listed { subject, kind: kind.into(), owners, terminating: false, state: ListedState::Plain };
    Going { listed, with: None }
}

/// What is decided of a Deployment that carries these and is approved by this statement.
fn root<'r>(rules: &'r Rules, radius: Radius, statement: Option<Statement>, requester: &'static str) -> Decision<'r> {
    let said = statement.map(|mut statement| {
        statement.epoch = Some("now".into());
        json!([statement]).to_string()
    });
    let subject = Subject {
        labels: Cow::Owned(said.iter().map(|_| (APPROVAL.to_owned(), String::new())).collect()),
        statements: said.map(Into::into),
        ..subject("apps", "deployments", "root")
    };
    decided(&request(subject, Vec::new(), requester), rules, Facts { radius: Some(radius), ..Facts::default() })
}

fn carrying() -> Radius {
    let pod = going(subject("", "pods", "pod"), "Pod", vec![owner("root")]);
    let follower = going(subject("", "secrets", "key"), "Secret", vec![owner("root")]);
    let set = going(subject("apps", "statefulsets", "set"), "StatefulSet", vec![owner("root")]);
    Radius { going: vec![pod, follower, set], ..Radius::default() }
}

#[test]
fn an_approval_names_what_is_protected_and_not_what_comes_and_goes() {
    let rules = rules(&json!({}));
    let decision = root(&rules, carrying(), None, "agent");
    assert_eq!(decision.protects, Some(protects(&["set"], &[])));
    assert_eq!(decision.carries, ["key", "set"].map(str::to_owned).into());
    for (named, flaw) in [
        (None, Some(Flaw::NothingNamed(1))),
        (Some(protects(&[], &[])), Some(Flaw::NotNamed)),
        (Some(protects(&["other"], &[])), Some(Flaw::NotNamed)),
        (Some(Protects { uids: vec!["set".into()], ..protects(&["other"], &[]) }), Some(Flaw::NotNamed)),
        (Some(protects(&["set"], &[])), None),
        (Some(protects(&["set", "left-since"], &[])), None),
        (Some(Protects { uids: Vec::new(), ..protects(&["set"], &[]) }), None),
    ] {
        let decision = root(&rules, carrying(), Some(statement("root", named.clone())), "agent");
        assert_eq!(decision.flaws.into_iter().map(|(_, flaw)| flaw).next(), flaw, "{named:?}");
        assert_eq!(decision.verdict == Verdict::Allow, flaw.is_none(), "{named:?}");
    }
}

#[test]
fn what_is_being_deleted_already_has_no_say_in_what_it_would_go_with() {
    let rules = rules(&json!({}));
    let mut radius = carrying();
    for going in &mut radius.going {
        going.listed.terminating = true;
    }
    let said = statement("root", Some(protects(&[], &[])));
    let decision = root(&rules, radius.clone(), Some(said.clone()), "agent");
    assert_eq!((decision.verdict, decision.protects), (Verdict::Allow, None));
    radius.going.push(going(subject("apps", "statefulsets", "other"), "StatefulSet", vec![owner("root")]));
    assert_eq!(root(&rules, radius, Some(said), "agent").verdict, Verdict::Deny);
}

#[test]
fn what_goes_along_and_was_not_looked_up_lets_nothing_pass() {
    let rules = rules(&json!({}));
    let mut subject = subject("apps", "deployments", "root");
    let said = Statement { epoch: Some("now".into()), ..statement("root", None) };
    subject.labels = Cow::Owned([(APPROVAL.to_owned(), String::new())].into());
    subject.statements = Some(json!([said]).to_string().into());
    let decision = decided(&request(subject, Vec::new(), "agent"), &rules, Facts::default());
    assert_eq!((decision.verdict, &decision.flaws[0].1), (Verdict::Deny, &Flaw::NotLooked));
}

#[test]
fn a_kind_that_could_not_be_listed_must_be_accepted_by_name_unless_nobody_protects_it() {
    let rules = rules(&json!({}));
    let unlisted =
        |kind: &str, why: &str| Radius { unlisted: [(kind.to_owned(), why.to_owned())].into(), ..Radius::default() };
    let with = |radius: Radius, accepted: &[&str]| {
        let named = (!accepted.is_empty()).then(|| protects(&[], accepted));
        root(&rules, radius, Some(statement("root", named)), "agent").verdict
    };
    for kind in ["statefulsets.apps", "*"] {
        assert_eq!(with(unlisted(kind, "it could not be read"), &[]), Verdict::Deny);
        assert_eq!(with(unlisted(kind, "it could not be read"), &["secrets"]), Verdict::Deny);
        assert_eq!(with(unlisted(kind, "it could not be read"), &[kind]), Verdict::Allow);
    }
    assert_eq!(with(unlisted("widgets.example.com", "it could not be read"), &[]), Verdict::Allow);
    assert_eq!(with(unlisted("secrets", "Tagout may not list secrets"), &[]), Verdict::Allow);
}

#[test]
fn little_is_tolerated_only_where_it_could_be_counted() {
    let rules = rules(&json!({"tolerate": {"objects": 3}}));
    assert_eq!(root(&rules, carrying(), None, "agent").because, Because::Tolerated);
    let more = going(subject("apps", "statefulsets", "more"), "StatefulSet", vec![owner("root")]);
    let mut radius = carrying();
    radius.going.push(more);
    assert_eq!(root(&rules, radius, None, "agent").verdict, Verdict::Deny);
    let mut unseen = carrying();
    unseen.unlisted.insert("secrets".into(), "Tagout may not list secrets".into());
    assert_eq!(root(&rules, unseen, None, "agent").verdict, Verdict::Deny);
}
