use authenticator::{Authenticator, Kind};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::SIGNATURE_NAMESPACE;
use crate::api::{Action, Protects};
use crate::guard::Team;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

fn statement() -> Statement {
    Statement {
        action: Action::Delete,
        uid: "u".into(),
        resource: "deployments.apps".into(),
        namespace: "n".into(),
        name: "d".into(),
        cluster: "c".into(),
        epoch: Some("e".into()),
        approver: "alice".into(),
        team: "sre".into(),
        requester: None,
        reason: None,
        protects: None,
        new_spec: None,
        approved_at: NOW,
        expires: NOW + SignedDuration::from_mins(30),
        break_glass: false,
        delete_only: false,
        scope: Scope::Object,
        signature: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    NOW + SignedDuration::from_secs(seconds)
}

/// A write of statements, as it should be.
struct Write {
    /// In an Approval of its own, and not on the object.
    beside: bool,
    now: Vec<Statement>,
    before: Vec<Statement>,
    name: Option<String>,
    asked: Option<String>,
    caller: &'static str,
    groups: Vec<String>,
    manager: &'static str,
    subresource: &'static str,
    terminating: bool,
    other_changes: Vec<String>,
    epoch: Epoch,
}

impl Write {
    fn of(statement: Statement) -> Self {
        Self {
            beside: false,
            now: vec![statement],
            before: Vec::new(),
            name: None,
            asked: None,
            caller: "alice",
            groups: Vec::new(),
            manager: APPROVAL_MANAGER,
            subresource: "",
            terminating: false,
            other_changes: Vec::new(),
            epoch: Epoch::Current("e".into()),
        }
    }

    fn beside(statement: Statement) -> Self {
        Self { beside: true, ..Self::of(statement) }
    }

    fn rules() -> Rules {
        let team = json!({"groups": ["oidc:sre", "system:masters"], "members": [{"user": "alice"}]});
        Rules {
            teams: [("sre".to_owned(), Team::read(serde_json::from_value(team).unwrap()))].into(),
            cluster: "c".into(),
            ..Rules::default()
        }
    }

    fn check(&self) -> Result<(), PresentingError> {
        let before = serde_json::to_string(&self.before).unwrap();
        let on_object = serde_json::to_string(&self.now).unwrap();
        let name = self.name.clone().unwrap_or_else(|| self.now[0].approval_name());
        let asked = self.asked.clone().unwrap_or_else(|| name.clone());
        let presenting = if self.beside {
            Presenting {
                subject: Subject { resource: "approvals".into(), name: name.into(), ..Subject::default() },
                place: Place::Approval { asked: &asked, before: self.before.clone(), now: self.now.clone() },
                field_manager: self.manager,
                requester: Requester { name: self.caller, groups: &self.groups },
            }
        } else {
            Presenting {
                subject: Subject {
                    group: "apps".into(),
                    resource: "deployments".into(),
                    namespace: "n".into(),
                    name: "d".into(),
                    uid: "u".into(),
                    statements: Some(on_object.into()),
                    ..Subject::default()
                },
                place: Place::OnObject {
                    before: (!self.before.is_empty()).then_some(before.as_str()),
                    subresource: self.subresource,
                    terminating: self.terminating,
                    other_changes: self.other_changes.clone(),
                },
                field_manager: self.manager,
                requester: Requester { name: self.caller, groups: &self.groups },
            }
        };
        let checked = check_presented(&presenting, &Self::rules(), &self.epoch, NOW);
        // Where nothing has to be known of the epoch, none is asked for.
        if !presenting.needs_epoch(NOW) {
            let epoch = check_presented(&presenting, &Self::rules(), &Epoch::None("unknown".into()), NOW);
            assert_eq!(epoch, checked);
        }
        checked
    }
}

#[rstest]
fn ones_own_statement_is_taken_on_the_object_and_beside_it(#[values(false, true)] beside: bool) {
    assert_eq!(Write { beside, ..Write::of(statement()) }.check(), Ok(()));
}

#[rstest]
#[case::in_another_name(Statement { approver: "bob".into(), ..statement() },
    PresentingError::OtherPerson { named: "bob".into(), caller: "alice".into() })]
#[case::in_ones_own_name_in_other_letters(Statement { approver: "Alice".into(), ..statement() },
    PresentingError::OtherPerson { named: "Alice".into(), caller: "alice".into() })]
#[case::for_no_team(Statement { team: "dba".into(), ..statement() }, PresentingError::NoSuchTeam("dba".into()))]
#[case::for_another_cluster(Statement { cluster: "x".into(), ..statement() }, PresentingError::OtherCluster)]
#[case::of_the_contents_of_what_has_none(Statement { scope: Scope::Contents, ..statement() },
    PresentingError::NoContents)]
#[case::that_hides_something(Statement { reason: Some("a\nb".into()), ..statement() },
    PresentingError::Unsignable(Unsignable::Unprintable("reason")))]
#[case::that_breaks_glass_without_a_reason(Statement { break_glass: true, ..statement() }, PresentingError::NoReason)]
#[case::dated_ahead(Statement { approved_at: at(61), ..statement() }, PresentingError::NotNow(at(61)))]
#[case::dated_back(Statement { approved_at: at(-601), ..statement() }, PresentingError::NotNow(at(-601)))]
#[case::for_more_than_a_week(
    Statement { expires: NOW + MAX_VALID_FOR + SignedDuration::from_secs(1), ..statement() }, PresentingError::TooLong)]
#[case::of_an_ended_epoch(Statement { epoch: Some("d".into()), ..statement() }, PresentingError::EndedEpoch)]
#[case::of_no_epoch(Statement { epoch: None, ..statement() }, PresentingError::EndedEpoch)]
fn a_statement_is_not_taken(
    #[case] statement: Statement,
    #[case] error: PresentingError,
    #[values(false, true)] beside: bool,
) {
    let write = Write { beside, ..Write::of(statement) };
    assert_eq!(write.check(), Err(error));
    // Nor behind one that is.
    let second = Write { now: vec![self::statement(), write.now[0].clone()], ..write };
    if !second.beside || second.now[0].approval_name() == second.now[1].approval_name() {
        assert!(second.check().is_err());
    }
    // Signed, it proves itself where it is used.
    let signed = Statement { signature: Some(any_signature()), ..second.now[1].clone() };
    assert_eq!(Write { beside, caller: "mallory", manager: "kubectl", ..Write::of(signed) }.check(), Ok(()));
}

#[rstest]
fn what_is_right_at_its_limits_is_taken(#[values(false, true)] beside: bool) {
    for right in [
        Statement { approved_at: at(60), ..statement() },
        Statement { approved_at: at(-600), ..statement() },
        Statement { expires: NOW + MAX_VALID_FOR, ..statement() },
        Statement { break_glass: true, reason: Some("fire".into()), ..statement() },
        Statement { requester: Some("agent".into()), ..statement() },
        Statement { protects: Some(Protects { digest: "sha256:00".into(), ..Protects::default() }), ..statement() },
    ] {
        assert_eq!(Write { beside, ..Write::of(right) }.check(), Ok(()));
    }
}

#[rstest]
#[case::a_service_account("system:serviceaccount:n:robot")]
#[case::a_node("system:node:n1")]
#[case::an_administrators_certificate("system:admin")]
#[case::nobody("")]
fn a_machine_approves_nothing_in_any_name(#[case] caller: &'static str, #[values(false, true)] beside: bool) {
    for approver in [caller, "alice"] {
        let named = Statement { approver: approver.into(), ..statement() };
        let write = Write { beside, caller, groups: vec!["oidc:sre".into()], ..Write::of(named) };
        assert_eq!(write.check(), Err(PresentingError::NotAPerson(caller.into())));
    }
}

#[rstest]
fn a_person_is_of_the_team_by_name_or_by_a_group_of_people(#[values(false, true)] beside: bool) {
    let of = |groups: &[&str]| {
        let own = Statement { approver: "bob".into(), ..statement() };
        let groups = groups.iter().map(ToString::to_string).collect();
        Write { beside, caller: "bob", groups, ..Write::of(own) }.check()
    };
    assert_eq!(of(&["oidc:sre"]), Ok(()));
    for groups in [&[] as &[&str], &["oidc:dev"], &["system:masters"], &["sre"]] {
        assert_eq!(of(groups), Err(PresentingError::NotInTeam("sre".into())), "{groups:?}");
    }
}

#[rstest]
fn an_approval_is_given_on_purpose(#[values(false, true)] beside: bool) {
    for manager in ["kubectl-client-side-apply", "", "tagout-approval2"] {
        let write = Write { beside, manager, ..Write::of(statement()) };
        assert_eq!(write.check(), Err(PresentingError::NotOnPurpose), "{manager}");
    }
}

#[rstest]
fn no_unsigned_statement_is_taken_while_there_is_no_epoch(#[values(false, true)] beside: bool) {
    let write = Write { beside, epoch: Epoch::None("nobody knows".into()), ..Write::of(statement()) };
    assert_eq!(write.check(), Err(PresentingError::NoEpoch("nobody knows".into())));
    let signed = Statement { signature: Some(any_signature()), ..statement() };
    assert_eq!(Write { now: vec![signed], ..write }.check(), Ok(()));
}

#[rstest]
fn a_signature_beside_it_does_not_take_an_unsigned_statement_along(#[values(false, true)] beside: bool) {
    let signed = Statement { signature: Some("x".into()), ..statement() };
    for now in [vec![signed.clone(), statement()], vec![statement(), signed.clone()]] {
        let write = Write { beside, now, caller: "mallory", ..Write::of(statement()) };
        assert!(matches!(write.check(), Err(PresentingError::OtherPerson { .. })));
    }
    // Nor does one whose signature is taken off count for checked.
    let stripped = Write { beside, before: vec![signed], caller: "mallory", ..Write::of(statement()) };
    assert!(matches!(stripped.check(), Err(PresentingError::OtherPerson { .. })));
}

#[rstest]
fn what_stood_there_was_checked_and_is_not_asked_about_again(#[values(false, true)] beside: bool) {
    let stood = Statement { approver: "bob".into(), approved_at: at(-3000), ..statement() };
    let write =
        Write { beside, before: vec![stood.clone()], manager: "kubectl", caller: "system:node:n", ..Write::of(stood) };
    assert_eq!(write.check(), Ok(()));
    // Any change of it makes it new.
    let longer = Statement { expires: at(3600), ..write.now[0].clone() };
    assert!(Write { now: vec![longer], ..write }.check().is_err());
}

// On the object

#[test]
fn an_approval_on_an_object_is_an_act_of_its_own() {
    let more = Write { other_changes: vec!["spec".into(), "metadata.labels".into()], ..Write::of(statement()) };
    assert_eq!(more.check(), Err(PresentingError::ChangesMore("spec, metadata.labels".into())));
    let status = Write { subresource: "status", ..Write::of(statement()) };
    assert_eq!(status.check(), Err(PresentingError::Subresource("status".into())));
    let going = Write { terminating: true, ..Write::of(statement()) };
    assert_eq!(going.check(), Err(PresentingError::TooLate));
}

#[test]
fn many_other_changes_are_told_by_the_first() {
    let changes = (0..9).map(|number| number.to_string()).collect();
    let more = Write { other_changes: changes, ..Write::of(statement()) };
    assert_eq!(more.check(), Err(PresentingError::ChangesMore("0, 1, 2, 3, 4".into())));
}

#[rstest]
#[case(Statement { name: "x".into(), ..statement() })]
#[case(Statement { namespace: "m".into(), ..statement() })]
#[case(Statement { resource: "deployments".into(), ..statement() })]
fn a_statement_names_the_object_on_which_it_stands(#[case] other: Statement) {
    assert_eq!(Write::of(other.clone()).check(), Err(PresentingError::OtherName(other.object())));
}

#[test]
fn what_is_worth_nothing_may_be_restored_or_copied_by_anyone() {
    let by_anyone = |now: Statement| Write { manager: "velero", caller: "system:node:n", ..Write::of(now) };
    let of_another_object = Statement { uid: "old".into(), ..statement() };
    assert_eq!(by_anyone(of_another_object).check(), Ok(()));
    let expired = |seconds| Statement { expires: at(seconds), ..statement() };
    assert_eq!(by_anyone(expired(-10)).check(), Ok(()));
    // To a clock that is behind, what expired just now has not.
    for seconds in [-9, -5, 0, 1] {
        assert!(by_anyone(expired(seconds)).check().is_err(), "{seconds}");
    }
}

#[test]
fn an_annotation_that_cannot_be_read_is_not_taken() {
    let presenting = Presenting {
        subject: Subject { uid: "u".into(), statements: Some("[{}]".into()), ..Subject::default() },
        place: Place::OnObject { before: None, subresource: "", terminating: false, other_changes: Vec::new() },
        field_manager: APPROVAL_MANAGER,
        requester: Requester { name: "alice", groups: &[] },
    };
    let checked = check_presented(&presenting, &Write::rules(), &Epoch::Current("e".into()), NOW);
    assert!(matches!(checked, Err(PresentingError::Unreadable(_))));
    assert!(!presenting.needs_epoch(NOW));
}

// Beside it

#[test]
fn an_approval_holds_what_is_said_of_one_action_on_one_object() {
    let right = statement().approval_name();
    for other in [
        Statement { uid: "v".into(), ..statement() },
        Statement { name: "x".into(), ..statement() },
        Statement { namespace: "m".into(), ..statement() },
        Statement { resource: "deployments".into(), ..statement() },
        Statement { action: Action::Loosen, ..statement() },
    ] {
        let wanted = other.approval_name();
        assert_ne!(wanted, right);
        let named = Write { name: Some(right.clone()), ..Write::beside(other.clone()) };
        assert_eq!(named.check(), Err(PresentingError::OtherApproval(wanted.clone())));
        // Hidden behind one that belongs there; or signed; or there before.
        for hidden in [other.clone(), Statement { signature: Some("x".into()), ..other.clone() }] {
            let now = vec![statement(), hidden];
            let write = Write { now: now.clone(), before: now, ..Write::beside(statement()) };
            assert_eq!(write.check(), Err(PresentingError::OtherApproval(wanted.clone())));
        }
    }
    assert_eq!(
        Write { name: Some("x".into()), ..Write::beside(statement()) }.check(),
        Err(PresentingError::OtherApproval(right))
    );
}

/// One that ssh-keygen could have made, over anything.
fn any_signature() -> String {
    Authenticator::new(Kind::Ed25519, "anybody").sign(SIGNATURE_NAMESPACE, "anything")
}

#[test]
fn what_never_counts_is_kept_out_of_an_approval_and_may_lie_on_an_object() {
    let endless = Statement { expires: NOW + MAX_VALID_FOR * 2, signature: Some(any_signature()), ..statement() };
    assert_eq!(Write::beside(endless).check(), Err(PresentingError::TooLong));
    let junk = Statement { signature: Some("LGTM".into()), ..statement() };
    assert!(matches!(Write::beside(junk.clone()).check(), Err(PresentingError::Signature(_))));
    assert_eq!(Write::of(junk).check(), Ok(()));
}

#[test]
fn an_approval_that_a_policy_made_one_of_another_object_is_refused() {
    let turned = Write { asked: Some("delete-0123".into()), ..Write::beside(statement()) };
    assert_eq!(turned.check(), Err(PresentingError::Renamed));
}

#[test]
fn beside_the_object_what_expired_is_checked_all_the_same() {
    for seconds in [-1000, -120, -60, -1, 0] {
        let expired = Statement { expires: at(seconds), approver: "bob".into(), ..statement() };
        assert!(matches!(Write::beside(expired).check(), Err(PresentingError::OtherPerson { .. })), "{seconds}");
    }
}

#[test]
fn the_contents_of_a_namespace_are_approved_on_it_or_beside_it() {
    let contents = Statement {
        resource: "namespaces".into(),
        namespace: String::new(),
        name: "n".into(),
        uid: "ns".into(),
        scope: Scope::Contents,
        ..statement()
    };
    assert_eq!(Write::beside(contents).check(), Ok(()));
}
