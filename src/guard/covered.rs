//! Whether a rule that may cover an object does, by what was found in the cluster.

use jiff::Timestamp;

use super::Rule;
use super::carried::Carried;
use super::facts::{Facts, OwnerFact};
use super::needs::{Candidate, Reach, Request};
use crate::api::Action;

pub(super) fn in_namespace(candidate: &Candidate, request: &Request, facts: &Facts) -> bool {
    let subject = &request.subject;
    if candidate.called {
        return true;
    }
    if subject.is_namespace() {
        return candidate.rule.selects_namespace(&subject.labels);
    }
    let home = if let Reach::Through(other) = &request.reach { &other.namespace } else { &subject.namespace };
    // A namespace that cannot be read may be one that the rule protects.
    home.is_empty()
        || facts.namespace.as_ref().is_none_or(|namespace| candidate.rule.selects_namespace(&namespace.labels))
}

/// Whether its controller lives, and would make it anew: then the rule leaves it to that.
pub(super) fn follows_its_controller(candidate: &Candidate, request: &Request, facts: &Facts) -> bool {
    let about_that = matches!(request.action, Action::Unprotect | Action::Reparent);
    let lets = match request.action {
        // It had this very controller when it was destroyed.
        Action::Recreate => candidate.rule.lets_makers(&request.subject),
        _ => candidate.rule.lets_follow(&request.subject),
    };
    !about_that
        && lets
        && request.owners.iter().zip(&facts.owners).any(|(owner, found)| owner.controller && *found == OwnerFact::Alive)
}

/// Whether what returns was destroyed so lately that the rule asks.
pub(super) fn still_remembers(rule: &Rule, request: &Request, facts: &Facts, now: Timestamp) -> bool {
    request.action != Action::Recreate
        || facts.deletion.as_ref().is_none_or(|deletion| now.duration_since(deletion.at) < rule.remembers)
}

/// Whether the rule covers it as far as Tagout itself can see. That its entry was called may be a lie.
pub(super) fn is_seen(candidate: &Candidate, request: &Request, facts: &Facts, carried: Option<&Carried>) -> bool {
    let rule = candidate.rule;
    let by_itself = || match &request.reach {
        Reach::Covered => rule.covers(&request.subject),
        _ => true,
    };
    carried.is_some_and(|carried| carried.rules.contains_key(&*rule.name))
        || (by_itself() && in_namespace(&Candidate { called: false, ..*candidate }, request, facts))
}
