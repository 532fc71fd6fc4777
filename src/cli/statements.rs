use jiff::Timestamp;

use crate::api::{MAX_VALID_FOR, Statement, read_statements};
use crate::guard::Signed;

/// The statements on an object that still say something: about this very object, and not expired.
///
/// Without the label nobody ever checked who wrote the unsigned ones. Presenting them together with a new one would make
/// the new approver answer for what somebody else planted.
pub fn kept(annotation: Option<&str>, presenting: bool, uid: &str, now: Timestamp) -> Vec<Statement> {
    let mut statements = annotation.map(read_statements).unwrap_or_default().readable;
    statements.retain(|statement| {
        statement.uid == uid
            && statement.expires > now
            && (presenting || statement.signature.is_some())
            && may_count(statement)
    });
    statements
}

/// What never counts only takes room from others.
pub fn may_count(statement: &Statement) -> bool {
    let life = statement.expires.duration_since(statement.approved_at);
    life <= MAX_VALID_FOR && statement.signature.as_deref().is_none_or(|signature| Signed::read(signature).is_ok())
}

/// What a person says anew of the same, for the same team, replaces what they said before.
pub fn with(mut statements: Vec<Statement>, new: Statement) -> Vec<Statement> {
    let same = |old: &Statement| {
        let said = |one: &Statement| (one.action, one.scope, one.break_glass, one.signature.is_some());
        (&old.approver, &old.team, &old.requester, &old.new_spec)
            == (&new.approver, &new.team, &new.requester, &new.new_spec)
            && said(old) == said(&new)
    };
    statements.retain(|old| !same(old));
    statements.push(new);
    statements
}

#[cfg(test)]
pub mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::api::{Action, Scope};

    pub const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

    pub fn statement(approver: &str, team: &str) -> Statement {
        Statement {
            action: Action::Delete,
            uid: "uid-1".into(),
            resource: "deployments.apps".into(),
            namespace: "payments".into(),
            name: "api".into(),
            cluster: "cluster-1".into(),
            epoch: Some("epoch-1".into()),
            approver: approver.into(),
            team: team.into(),
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

    fn annotation(statements: &[Statement]) -> String {
        serde_json::to_string(statements).unwrap()
    }

    #[test]
    fn what_a_colleague_approved_is_kept() {
        let bob = vec![statement("bob", "dba")];
        assert_eq!(kept(Some(&annotation(&bob)), true, "uid-1", NOW), bob);
        assert_eq!(with(bob, statement("alice", "sre")).len(), 2);
    }

    #[test]
    fn what_was_never_checked_is_dropped() {
        let planted = annotation(&[statement("bob", "dba")]);
        assert!(kept(Some(&planted), false, "uid-1", NOW).is_empty());
    }

    #[test]
    fn what_is_expired_or_about_another_object_is_dropped() {
        let expired = Statement { expires: NOW, ..statement("bob", "dba") };
        let copied = Statement { uid: "uid-0".into(), ..statement("carol", "dba") };
        assert!(kept(Some(&annotation(&[expired, copied])), true, "uid-1", NOW).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_dropped() {
        assert!(kept(Some("[{"), true, "uid-1", NOW).is_empty());
        assert!(kept(None, true, "uid-1", NOW).is_empty());
    }

    #[test]
    fn a_person_who_approves_again_replaces_only_their_own_words_for_that_team() {
        let before = vec![statement("alice", "sre"), statement("alice", "dba"), statement("bob", "sre")];
        let again = Statement { reason: Some("again".into()), ..statement("alice", "sre") };
        let after = with(before.clone(), again.clone());
        assert_eq!(after, [before[1].clone(), before[2].clone(), again]);
    }
}
