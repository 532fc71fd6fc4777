//! The decision, and nothing else: no I/O, no clock, no client.
//!
//! [`needs`] says which rules a request meets and which facts decide it; [`decide`] turns those facts into a verdict.
//! [`check_presented`] judges a write that presents statements. The webhook and the tests call the same functions.

mod approval;
mod budget;
mod carried;
mod cascade;
mod covered;
mod decide;
mod denial;
mod ephemeral;
mod evidence;
mod facts;
mod freeze;
mod judged;
mod loosening;
mod needs;
mod passage;
mod presenting;
mod proof;
mod quorum;
mod radius;
mod remembering;
mod returning;
mod rules;
mod satisfiable;
mod summary;
mod team;
mod unlocking;

pub use crate::actions::Owner;
pub use approval::{CLOCK_SKEW, Flaw};
pub use budget::{Budgets, Claim, Claimed, Fate, Full, FullReason, HELD, Limit, REPLICA_SKEW, Usage, Way, overdue};
pub use carried::{Carried, EVERYTHING, carried, protecting};
pub use decide::{Because, Decision, Unmet, Verdict, decide};
pub use denial::{approve_command, denial, request_id, warning};
pub use ephemeral::becomes_ephemeral;
pub use evidence::{Beside, Epoch};
pub use facts::{BudgetFact, DeletionFact, Facts, NamespaceFact, OwnerFact, RecordFact};
pub use freeze::{Coming, Freezes, Frozen};
pub use loosening::{Changed, Weighed, loosened_rule, loosened_team, spec_hash, weigh};
pub use needs::{Called, Candidate, Change, Needs, NoDecision, Reach, Request, Requester, Subject, covering, needs};
pub use passage::{Kept, Wanted, Why};
pub use presenting::{Place, Presenting, PresentingError, check_presented};
pub use proof::{Gesture, Key, KeyFault, SignatureFault, Signed};
pub use quorum::{Missing, missing};
pub use radius::{Found, Going, Listed, ListedState, Radius};
pub use remembering::remembering;
pub use returning::forgotten_by;
pub use rules::{Rule, Rules};
pub use satisfiable::nobody_can_satisfy;
pub use summary::{WITH_IT, summary};
pub use team::{ListedKey, Team, faults};
pub use unlocking::{Unlocked, locking, may_be_unlocked_for, unlocked, unlocking};
