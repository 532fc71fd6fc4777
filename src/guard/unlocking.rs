//! Who may change what makes Tagout work, for a time, and on whose approval.
//!
//! Whoever changes Tagout's own configurations or what runs in its namespace could pass every rule. Who decides about it,
//! the rules say that name it: not all, or anybody's rule could keep Tagout from ever being upgraded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decide::{Because, decide};
use super::evidence::{Beside, Epoch};
use super::facts::Facts;
use super::needs::{Candidate, Needs, Reach, Request, Requester, Subject};
use super::{Rule, Rules};
use crate::api::{Action, Mode, SYSTEM_PREFIX, Statement};

/// A user who may change what makes Tagout work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlocked {
    pub requester: String,
    pub approvers: Vec<String>,
    /// Whether a rule was passed by one person alone, in an emergency.
    pub broke_glass: bool,
    pub until: Timestamp,
    /// The hashes of the statements by which it is.
    pub statements: Vec<String>,
}

/// The rules that have to agree: those that name it, refuse, and that somebody could meet.
pub fn locking(rules: &Rules) -> impl Iterator<Item = &Rule> {
    let holds =
        |rule: &&Rule| rule.mode == Mode::Enforce && rule.settled.is_some() && rule.actions.contains(&Action::Unlock);
    rules.rules.values().flatten().filter(holds)
}

/// What has to be decided before this user may change what makes Tagout work.
pub fn unlocking<'a, 'r>(subject: Subject<'a>, requester: &'a str, rules: &'r Rules) -> (Request<'a>, Needs<'r>) {
    let request = Request {
        action: Action::Unlock,
        subject,
        owners: Vec::new(),
        terminating: false,
        change: None,
        requester: Requester { name: requester, groups: &[] },
        reach: Reach::Covered,
        what: None,
    };
    let candidates = locking(rules).map(|rule| Candidate { rule, called: true, assumed: false }).collect();
    (request, Needs { candidates, namespace: String::new(), owners: Vec::new() })
}

/// Everybody for whom it is unlocked now, by what the `Approval` says.
pub fn unlocked(
    subject: &Subject,
    said: &[Statement],
    rules: &Rules,
    epoch: &Epoch,
    now: Timestamp,
) -> BTreeMap<String, Unlocked> {
    // What a rule asks that cannot be read, nobody knows.
    if rules.rules.values().any(Result::is_err) {
        return BTreeMap::new();
    }
    // A statement that names nobody would let everybody; and Kubernetes' own upgrade nothing.
    let named = |statement: &&Statement| statement.requester.as_deref().is_some_and(may_be_unlocked_for);
    let said: Vec<Statement> = said.iter().filter(named).cloned().collect();
    let requesters: BTreeSet<&str> = said.iter().filter_map(|statement| statement.requester.as_deref()).collect();
    let facts = Facts {
        beside: Beside { approval: said.clone(), ..Beside::default() },
        epoch: epoch.clone(),
        ..Facts::default()
    };
    let unlocked = |requester: &str| {
        let (request, needs) = unlocking(subject.clone(), requester, rules);
        let decision = decide(&request, &needs, rules, &facts, now);
        let Because::Approved(approvers) = decision.because else { return None };
        let until = decision.counted.iter().map(|statement| statement.expires).min()?;
        let broke_glass = !decision.broke_glass.is_empty();
        let statements = decision.counted.iter().map(Statement::hash).collect::<Result<_, _>>().ok()?;
        Some(Unlocked { requester: requester.to_owned(), approvers, broke_glass, until, statements })
    };
    requesters
        .iter()
        .filter_map(|requester| unlocked(requester))
        .map(|unlocked| (unlocked.requester.clone(), unlocked))
        .collect()
}

/// A person, or an account of a program that is not Kubernetes' own.
pub fn may_be_unlocked_for(user: &str) -> bool {
    const ACCOUNT: &str = "system:serviceaccount:";
    let own = user.starts_with(SYSTEM_PREFIX) && !user.starts_with(ACCOUNT);
    !user.is_empty() && !own && !user.starts_with("system:serviceaccount:kube-system:")
}

#[cfg(test)]
#[path = "unlocking_tests.rs"]
mod tests;
