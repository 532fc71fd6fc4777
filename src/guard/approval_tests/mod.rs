use std::borrow::Cow;

use authenticator::{Authenticator, Intent, Kind, PRESENT, VERIFIED};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::{APPROVAL, SIGNATURE_NAMESPACE};
use crate::guard::{
    Because, Beside, Called, Change, Facts, Radius, Reach, Request, Requester, Team, Verdict, decide, needs,
};

mod people;
mod proof;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

fn minutes_from_now(minutes: i64) -> Timestamp {
    NOW + SignedDuration::from_mins(minutes)
}

/// Everything on which a decision depends.
struct Case {
    /// Of the rule, beside who has to approve: one of sre.
    terms: Value,
    teams: Value,
    subject: Subject<'static>,
    on_object: Vec<Statement>,
    on_namespace: Vec<Statement>,
    beside: Beside,
    proposed: Vec<Statement>,
    epoch: Epoch,
    requester: &'static str,
    action: Action,
    new_spec: Option<&'static str>,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    verdict: Verdict,
    because: Because,
    flaws: Vec<Flaw>,
    broke_glass: Vec<String>,
}

impl Case {
    fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self {
            terms: json!({}),
            teams: json!({
                "sre": {"members": [person("alice"), person("bob"), {"user": "carol"}, {"user": "dan"}]},
                "dba": {"members": [person("alice"), {"user": "eve"}]},
            }),
            subject: Subject {
                group: "apps".into(),
                resource: "deployments".into(),
                namespace: "n".into(),
                name: "d".into(),
                uid: "u".into(),
                ..Subject::default()
            },
            on_object: statements.into_iter().collect(),
            on_namespace: Vec::new(),
            beside: Beside::default(),
            proposed: Vec::new(),
            epoch: Epoch::Current("e".into()),
            requester: "agent",
            action: Action::Delete,
            new_spec: None,
        }
    }

    fn with(self, terms: Value) -> Self {
        Self { terms, ..self }
    }

    fn requested_by(self, requester: &'static str) -> Self {
        Self { requester, ..self }
    }

    fn team(mut self, name: &str, spec: Value) -> Self {
        self.teams[name] = spec;
        self
    }

    fn decide(&self) -> Outcome {
        let mut approval = json!({"require": [{"anyOf": ["sre"]}]});
        approval.as_object_mut().unwrap().extend(self.terms.as_object().unwrap().clone());
        let resources = json!([{"apiGroups": ["apps"], "resources": ["deployments"]},
            {"apiGroups": [""], "resources": ["namespaces", "services"]}]);
        let spec = serde_json::from_value(json!({"resources": resources, "approval": approval})).unwrap();
        let teams = self.teams.as_object().unwrap().iter().map(|(name, spec)| {
            let spec = serde_json::from_value(spec.clone()).unwrap();
            (name.clone(), Team::read(spec))
        });
        let rules = Rules {
            rules: [("r".to_owned(), Rule::read("r", &spec))].into(),
            teams: teams.collect(),
            cluster: "c".into(),
            own_namespace: "tagout-system".into(),
        };
        let namespace = Subject {
            resource: "namespaces".into(),
            name: self.subject.namespace.clone(),
            uid: "ns".into(),
            ..presenting(&self.on_namespace)
        };
        let request = Request {
            action: self.action,
            subject: Subject {
                group: self.subject.group.clone(),
                resource: self.subject.resource.clone(),
                namespace: self.subject.namespace.clone(),
                name: self.subject.name.clone(),
                uid: self.subject.uid.clone(),
                ..presenting(&self.on_object)
            },
            owners: Vec::new(),
            terminating: false,
            change: self.new_spec.map(|new_spec| Change { new_spec: new_spec.into(), loosened: Vec::new() }),
            requester: Requester { name: self.requester, groups: &[] },
            reach: Reach::Covered,
            what: None,
        };
        let facts = Facts {
            radius: Some(Radius::default()),
            contents: Some(namespace),
            beside: self.beside.clone(),
            proposed: self.proposed.clone(),
            epoch: self.epoch.clone(),
            ..Facts::default()
        };
        let needs = needs(&request, Called::By("r"), &rules).unwrap();
        let decision = decide(&request, &needs, &rules, &facts, NOW);
        Outcome {
            verdict: decision.verdict,
            because: decision.because,
            flaws: decision.flaws.into_iter().map(|(_, flaw)| flaw).collect(),
            broke_glass: decision.broke_glass,
        }
    }

    /// Why the only statement does not count.
    #[track_caller]
    fn flaw(&self) -> Flaw {
        let outcome = self.decide();
        assert_eq!((outcome.verdict, outcome.flaws.len()), (Verdict::Deny, 1), "{outcome:?}");
        outcome.flaws[0].clone()
    }

    #[track_caller]
    fn allows(&self) {
        let outcome = self.decide();
        assert_eq!(outcome.verdict, Verdict::Allow, "{outcome:?}");
    }

    #[track_caller]
    fn denies(&self) {
        let outcome = self.decide();
        assert_eq!(outcome.verdict, Verdict::Deny, "{outcome:?}");
    }
}

fn presenting(statements: &[Statement]) -> Subject<'static> {
    Subject {
        labels: Cow::Owned([(APPROVAL.to_owned(), String::new())].into()),
        statements: (!statements.is_empty()).then(|| serde_json::to_string(statements).unwrap().into()),
        ..Subject::default()
    }
}

/// A person's own hardware key, and the member that lists it.
fn hardware(name: &str) -> Authenticator {
    Authenticator::new(Kind::SkEd25519, name)
}

fn person(name: &str) -> Value {
    json!({"user": name, "keys": [{"publicKey": hardware(name).line()}]})
}

fn by(approver: &str) -> Statement {
    Statement {
        action: Action::Delete,
        uid: "u".into(),
        resource: "deployments.apps".into(),
        namespace: "n".into(),
        name: "d".into(),
        cluster: "c".into(),
        epoch: Some("e".into()),
        approver: approver.into(),
        team: "sre".into(),
        requester: None,
        reason: None,
        protects: None,
        new_spec: None,
        approved_at: NOW,
        expires: minutes_from_now(5),
        break_glass: false,
        delete_only: false,
        scope: Scope::Object,
        signature: None,
    }
}

fn alice() -> Statement {
    by("alice")
}

fn signed_with(key: &Authenticator, statement: Statement) -> Statement {
    let signature = key.sign(SIGNATURE_NAMESPACE, &statement.text().unwrap());
    Statement { signature: Some(signature), ..statement }
}

/// By the approver's own key, after a touch. It names no epoch: it needs none.
fn signed(statement: Statement) -> Statement {
    signed_with(&hardware(&statement.approver.clone()), Statement { epoch: None, ..statement })
}

fn with_flags(flags: u8) -> Statement {
    let intent = Intent { flags, ..Intent::new(SIGNATURE_NAMESPACE, &alice().text().unwrap()) };
    Statement { signature: Some(hardware("alice").signature(&intent).armored()), ..alice() }
}

fn in_contents(statement: Statement) -> Statement {
    let place = ("namespaces".to_owned(), String::new(), "n".to_owned(), "ns".to_owned());
    let (resource, namespace, name, uid) = place;
    Statement { resource, namespace, name, uid, scope: Scope::Contents, ..statement }
}

#[test]
fn a_statement_by_a_person_of_the_team_is_enough() {
    let outcome = Case::new([alice()]).decide();
    assert_eq!(outcome.because, Because::Approved(vec!["alice".into()]));
    Case::new([signed(alice())]).allows();
    Case::new([]).denies();
}

#[rstest]
#[case::copied_to_another_action(Statement { action: Action::Loosen, ..alice() }, Flaw::OtherAction)]
#[case::copied_to_a_successor(Statement { uid: "old".into(), ..alice() }, Flaw::OtherObject("old".into()))]
#[case::without_uid(Statement { uid: String::new(), ..alice() }, Flaw::OtherObject(String::new()))]
#[case::copied_to_another_name(Statement { name: "x".into(), ..alice() },
    Flaw::OtherName("deployments.apps \"x\"".into()))]
#[case::copied_to_another_namespace(Statement { namespace: "m".into(), ..alice() },
    Flaw::OtherName("deployments.apps \"d\"".into()))]
#[case::copied_to_another_kind(Statement { resource: "deployments".into(), ..alice() },
    Flaw::OtherName("deployments \"d\"".into()))]
#[case::of_contents(Statement { scope: Scope::Contents, ..alice() }, Flaw::OnlyContents)]
#[case::of_a_change(Statement { new_spec: Some("deleted".into()), ..alice() }, Flaw::OtherChange)]
#[case::copied_to_another_cluster(Statement { cluster: "x".into(), ..alice() }, Flaw::OtherCluster)]
#[case::without_cluster(Statement { cluster: String::new(), ..alice() }, Flaw::OtherCluster)]
#[case::that_hides_something(Statement { reason: Some("a\u{202e}b".into()), ..alice() },
    Flaw::Unsignable(Unsignable::Unprintable("reason")))]
#[case::by_nobody(by(""), Flaw::Unsignable(Unsignable::Empty("approver")))]
#[case::of_tomorrow(Statement { approved_at: NOW + CLOCK_SKEW + SignedDuration::from_nanos(1), ..alice() },
    Flaw::NotYet(NOW + CLOCK_SKEW + SignedDuration::from_nanos(1)))]
#[case::that_expires_now(Statement { expires: NOW, ..alice() }, Flaw::Expired(NOW))]
#[case::that_lives_too_long(
    Statement { expires: NOW + SignedDuration::from_secs(1801), ..alice() },
    Flaw::TooLong { rule: "r".into(), longest: SignedDuration::from_mins(30) })]
#[case::dated_back_to_live_longer(
    Statement { approved_at: minutes_from_now(-26), ..alice() },
    Flaw::TooLong { rule: "r".into(), longest: SignedDuration::from_mins(30) })]
#[case::for_a_team_that_is_not_asked(Statement { team: "dba".into(), ..alice() },
    Flaw::OtherTeam { rule: "r".into(), team: "dba".into() })]
#[case::for_a_team_that_was_removed(Statement { team: "gone".into(), ..alice() }, Flaw::NoSuchTeam("gone".into()))]
#[case::by_a_machine(by("system:serviceaccount:n:robot"), Flaw::NotAPerson("system:serviceaccount:n:robot".into()))]
#[case::for_another_requester(Statement { requester: Some("other".into()), ..alice() },
    Flaw::OtherRequester("other".into()))]
#[case::for_the_requester_in_other_letters(Statement { requester: Some("Agent".into()), ..alice() },
    Flaw::OtherRequester("Agent".into()))]
#[case::that_breaks_glass(Statement { break_glass: true, reason: Some("fire".into()), ..alice() },
    Flaw::NoBreakGlass { rule: "r".into(), team: "sre".into() })]
fn a_statement_does_not_count(#[case] statement: Statement, #[case] flaw: Flaw) {
    assert_eq!(Case::new([statement.clone()]).flaw(), flaw);
    // Nor signed, where it can be.
    if statement.text().is_ok() {
        let signature = hardware("alice").sign(SIGNATURE_NAMESPACE, &statement.text().unwrap());
        assert_eq!(Case::new([Statement { signature: Some(signature), ..statement }]).flaw(), flaw);
    }
}

#[test]
fn times_hold_to_their_very_limits() {
    Case::new([Statement { approved_at: NOW + CLOCK_SKEW, ..alice() }]).allows();
    Case::new([Statement { expires: NOW + SignedDuration::from_nanos(1), ..alice() }]).allows();
    Case::new([Statement { expires: minutes_from_now(30), ..alice() }]).allows();
}

#[test]
fn a_statement_for_this_requester_counts_and_in_a_cluster_without_a_name_none_does() {
    Case::new([Statement { requester: Some("agent".into()), ..alice() }]).allows();
    let nameless = Case { subject: Subject { uid: "".into(), ..Case::new([]).subject }, ..Case::new([alice()]) };
    assert_eq!(nameless.flaw(), Flaw::OtherObject("u".into()));
}

#[test]
fn an_unsigned_statement_planted_before_its_epoch_or_while_there_is_none_does_not_count() {
    for epoch in [None, Some("d".to_owned()), Some(String::new())] {
        let planted = Statement { epoch: epoch.clone(), ..alice() };
        if epoch != Some(String::new()) {
            assert_eq!(Case::new([planted.clone()]).flaw(), Flaw::EndedEpoch);
        }
        Case::new([planted]).denies();
    }
    let unknown = Case { epoch: Epoch::None("nobody knows".into()), ..Case::new([alice()]) };
    assert_eq!(unknown.flaw(), Flaw::NoEpoch("nobody knows".into()));
    Case { epoch: Epoch::default(), ..Case::new([alice()]) }.denies();
    // A signature does not care.
    Case { epoch: Epoch::None("nobody knows".into()), ..Case::new([signed(alice())]) }.allows();
}

#[test]
fn an_unsigned_statement_that_comes_with_the_change_itself_does_not_count() {
    let change = |statement| Case { proposed: vec![statement], ..Case::new([]) };
    assert_eq!(change(alice()).flaw(), Flaw::EndedEpoch);
    change(signed(alice())).allows();
}

#[test]
fn a_statement_counts_beside_the_object_as_on_it() {
    let beside = |approval| Case { beside: Beside { approval, ..Beside::default() }, ..Case::new([]) };
    beside(vec![alice()]).allows();
    beside(vec![signed(alice())]).allows();
    assert_eq!(beside(vec![Statement { uid: "x".into(), ..alice() }]).flaw(), Flaw::OtherObject("x".into()));
}

#[test]
fn statements_without_the_label_that_has_them_checked_do_not_count() {
    let subject = Subject { statements: presenting(&[alice()]).statements, ..Subject::default() };
    let (source, _) = crate::guard::evidence::presented(&subject, Scope::Object);
    assert!(source.statements.is_empty());
}

#[rstest]
#[case::unsigned(alice())]
#[case::signed(signed(alice()))]
fn what_was_approved_of_a_namespaces_contents_counts_for_what_is_in_it_alone(#[case] of: Statement) {
    let again = |statement: Statement| if of.signature.is_some() { signed(statement) } else { statement };
    let contents = again(in_contents(alice()));
    let beside = Beside { namespace_approval: vec![contents.clone()], ..Beside::default() };
    Case { on_namespace: vec![contents.clone()], ..Case::new([]) }.allows();
    Case { beside: beside.clone(), ..Case::new([]) }.allows();

    // Not for the namespace itself, on it or beside it.
    let of_the_namespace = |statement: Statement| {
        let subject =
            Subject { resource: "namespaces".into(), name: "n".into(), uid: "ns".into(), ..Subject::default() };
        Case {
            subject,
            beside: Beside { approval: vec![contents.clone()], ..Beside::default() },
            ..Case::new([statement])
        }
    };
    of_the_namespace(contents.clone()).denies();
    // And what approves the namespace's own deletion says nothing of what is in it.
    let namespace = again(Statement { scope: Scope::Object, ..in_contents(alice()) });
    of_the_namespace(namespace.clone()).allows();
    let outcome = Case { on_namespace: vec![namespace.clone()], ..Case::new([]) }.decide();
    assert_eq!((outcome.verdict, outcome.flaws), (Verdict::Deny, Vec::new()));
    let beside = Beside { namespace_approval: vec![namespace], ..Beside::default() };
    Case { beside, ..Case::new([]) }.denies();

    // Nor for what is in another namespace, or in a namespace made anew, or for what is in none.
    let elsewhere = Subject { namespace: "m".into(), ..Case::new([]).subject };
    Case { subject: elsewhere, on_namespace: vec![contents.clone()], ..Case::new([]) }.denies();
    let anew = again(Statement { uid: "old".into(), ..in_contents(alice()) });
    Case { on_namespace: vec![anew], ..Case::new([]) }.denies();
    let nowhere = Subject { namespace: "".into(), ..Case::new([]).subject };
    Case { subject: nowhere, on_namespace: vec![contents], ..Case::new([]) }.denies();
}

#[test]
fn a_revoked_statement_does_not_count_signed_or_not() {
    for statement in [alice(), signed(alice())] {
        let revoked = |hash: &str| json!({"members": [person("alice")], "revoked": [{"statement": hash}]});
        let case = |hash: &str| Case::new([statement.clone()]).team("sre", revoked(hash));
        assert_eq!(case(&statement.hash().unwrap()).flaw(), Flaw::Revoked);
        // One that would have ended by then is revoked all the same.
        let ended = json!({"members": [person("alice")],
            "revoked": [{"statement": statement.hash().unwrap(), "expires": "2020-01-01T00:00:00Z"}]});
        assert_eq!(Case::new([statement.clone()]).team("sre", ended).flaw(), Flaw::Revoked);
        case(&by("bob").hash().unwrap()).allows();
    }
}

#[test]
fn sixty_four_statements_are_read_and_one_more_is_none() {
    let mut statements = vec![Statement { uid: "x".into(), ..alice() }; 63];
    statements.push(alice());
    Case::new(statements.clone()).allows();
    statements.push(alice());
    Case::new(statements).denies();
}

#[test]
fn a_flaw_never_lets_what_others_wrote_pass_for_tagouts_own_words() {
    let name = "x\u{202e}\n\"y";
    for flaw in [
        Flaw::OtherObject(name.into()),
        Flaw::OtherName(name.into()),
        Flaw::NoSuchTeam(name.into()),
        Flaw::NotAPerson(name.into()),
        Flaw::UnknownKey(name.into()),
        Flaw::OtherRequester(name.into()),
        Flaw::OtherTeam { rule: "r".into(), team: name.into() },
        Flaw::NoBreakGlass { rule: "r".into(), team: name.into() },
    ] {
        let said = flaw.to_string();
        assert!(!said.contains(['\n', '\u{202e}']) && said.contains("\\\"y"), "{said}");
    }
}

/// Nothing of the kind comes that far today.
#[test]
fn what_is_said_of_a_namespace_is_not_said_of_its_contents() {
    let namespace = Subject { resource: "namespaces".into(), name: "n".into(), uid: "ns".into(), ..Subject::default() };
    let source = |scope| Source { statements: Cow::Owned(Vec::new()), about: &namespace, scope, checked: true };
    let statement = |scope| Statement { scope, ..in_contents(alice()) };
    let check = |said, asked| names_this_object(&statement(said), &source(asked));
    assert_eq!(check(Scope::Object, Scope::Contents), Err(Flaw::NotContents));
    assert_eq!(check(Scope::Contents, Scope::Object), Err(Flaw::OnlyContents));
    assert_eq!(check(Scope::Contents, Scope::Contents), Ok(()));
    assert_eq!(check(Scope::Object, Scope::Object), Ok(()));
}
