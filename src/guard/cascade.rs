//! What goes because something else was let go.
//!
//! State says so, never a name: the token of a controller's account opens nothing. The record of the root's deletion
//! quotes the approvals, and those are checked again here, by the rules of the object that would go now.

use super::carried::comes_and_goes;
use super::facts::{Facts, OwnerFact, RecordFact};
use super::judged::Past;
use super::needs::Request;
use super::{Rule, Rules};
use crate::api::{Action, Scope, Statement};

/// The people on whose approval of a root's deletion this object goes too, if it does.
///
/// It has owners and none of them lives, so it is not something that was left behind on purpose; the root is gone or
/// going; and the approval names this very object, or the object came after it, made by what it names.
pub(super) fn follows(request: &Request, rule: &Rule, rules: &Rules, facts: &Facts) -> Option<Vec<String>> {
    let looked_up = !request.owners.is_empty() && facts.owners.len() == request.owners.len();
    if request.action != Action::Delete || !looked_up || !facts.owners.iter().all(OwnerFact::is_gone_or_going) {
        return None;
    }
    facts.records.iter().find_map(|record| lets_go(record, request, rule, rules, facts))
}

fn lets_go(record: &RecordFact, request: &Request, rule: &Rule, rules: &Rules, facts: &Facts) -> Option<Vec<String>> {
    if !record.state.is_gone_or_going() {
        return None;
    }
    let uid = &*request.subject.uid;
    let has = |uids: &[String], uid: &str| uids.iter().any(|one| one == uid);
    let born_after = request.subject.created.is_some_and(|created| created >= record.at);
    let made_by_it = request.owners.iter().all(|owner| owner.uid == *record.root.uid || has(&record.uids, &owner.uid));
    let recorded = has(&record.uids, uid);
    let named = |statement: &Statement| match &statement.protects {
        _ if statement.break_glass => recorded,
        // Who could write a record could not sign one: what was signed says by itself what may go.
        Some(protects) if !protects.uids.is_empty() => protects.uids.iter().any(|one| one == uid),
        Some(protects) => recorded && protects.digest == record.digest,
        None => false,
    };
    let by_itself = (recorded && comes_and_goes(&request.subject, &request.owners)) || (born_after && made_by_it);
    // What is said of all that is in the namespace is said of this too.
    let meant = |one: &&Statement| one.scope == Scope::Contents || by_itself || named(one);
    let said = record.statements.iter().filter(meant).cloned().collect();
    let contents = facts.contents.as_ref();
    Past { said, about: &record.root, contents, epoch: &facts.epoch, at: record.at }.people(rule, rules)
}

#[cfg(test)]
#[path = "cascade_tests.rs"]
mod tests;
