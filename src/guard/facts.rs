use std::collections::BTreeMap;

use jiff::Timestamp;

use super::budget::{Full, Way};
use super::evidence::{Beside, Epoch};
use super::needs::Subject;
use super::radius::Radius;
use crate::api::Statement;

/// What was read from the API server for one decision.
#[derive(Debug, Default)]
pub struct Facts {
    /// Absent for cluster-scoped objects, and where the namespace could not be read.
    pub namespace: Option<NamespaceFact>,
    /// The owners that [`Needs::owners`](super::Needs::owners) asks for, in that order. Empty: not looked up yet, which
    /// is never a reason to allow.
    pub owners: Vec<OwnerFact>,
    /// The namespace itself, with what it presents. Empty: not looked up yet.
    pub contents: Option<Subject<'static>>,
    /// What is said elsewhere. Empty: not looked up yet.
    pub beside: Beside,
    /// Statements that come with the change itself: nobody checked who wrote them, so only signatures count.
    pub proposed: Vec<Statement>,
    pub epoch: Epoch,
    /// The records of deletions by which the object may go.
    pub records: Vec<RecordFact>,
    /// What goes with the object. Of a deletion, absent means not looked up yet, which is never a reason to allow.
    pub radius: Option<Radius>,
    /// The labels of the namespaces of what goes with it, as far as they are known.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What came of the places that were asked for, by rule and way. Absent: none was asked for yet, which is never a
    /// reason to allow.
    pub budgets: BTreeMap<(String, Way), BudgetFact>,
    /// Of a return, the deletion before it.
    pub deletion: Option<DeletionFact>,
    /// What could not be looked up, with the reason.
    pub unknown: Vec<String>,
}

/// What came of asking for a place in a rule's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetFact {
    Granted,
    Full(Full),
    /// Whether there is one could not be found out, with the reason.
    Unknown(String),
}

/// What is written down of a deletion.
#[derive(Debug, Default)]
pub struct DeletionFact {
    pub at: Timestamp,
    pub statements: Vec<Statement>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFact {
    pub labels: BTreeMap<String, String>,
    pub terminating: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerFact {
    /// No such object, or one with another UID.
    Gone,
    Alive,
    Terminating,
    /// Tagout has no right to look.
    Unreadable(String),
    /// It could not be read, with the reason.
    Unknown(String),
}

impl OwnerFact {
    pub(super) fn unknown(&self) -> Option<String> {
        match self {
            Self::Unreadable(reason) | Self::Unknown(reason) => Some(reason.clone()),
            Self::Gone | Self::Alive | Self::Terminating => None,
        }
    }

    pub(super) fn is_gone_or_going(&self) -> bool {
        matches!(self, Self::Gone | Self::Terminating)
    }
}

/// What was written down when a deletion was let pass, and what has become of its object since.
#[derive(Debug)]
pub struct RecordFact {
    /// The object by which the others go.
    pub root: Subject<'static>,
    pub state: OwnerFact,
    /// When it was written, by the API server's own clock.
    pub at: Timestamp,
    pub statements: Vec<Statement>,
    /// The UIDs of the protected objects that were to go along, and the digest of those that approvals name.
    pub uids: Vec<String>,
    pub digest: String,
}
