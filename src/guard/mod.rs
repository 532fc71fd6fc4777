//! The decision, and nothing else: no I/O, no clock, no client.
//!
//! [`needs`] says which rules a request meets and which facts decide it; [`decide`] turns those facts into a verdict.
//! [`check_presented`] judges a write that presents statements. The webhook and the tests call the same functions.

mod approval;
mod carried;
mod cascade;
mod decide;
mod denial;
mod ephemeral;
mod evidence;
mod facts;
mod loosening;
mod needs;
mod presenting;
mod proof;
mod quorum;
mod radius;
mod rules;
mod satisfiable;
mod summary;
mod team;

pub use crate::actions::Owner;
pub use approval::{CLOCK_SKEW, Flaw};
pub use carried::{Carried, EVERYTHING, carried, protecting};
pub use decide::{Because, Decision, Unmet, Verdict, decide};
pub use denial::{denial, request_id, warning};
pub use ephemeral::becomes_ephemeral;
pub use evidence::{Beside, Epoch};
pub use facts::{Facts, NamespaceFact, OwnerFact, RecordFact};
pub use loosening::{Changed, Weighed, loosened_rule, loosened_team, spec_hash, weigh};
pub use needs::{Called, Candidate, Change, Needs, NoDecision, Reach, Request, Requester, Subject, covering, needs};
pub use presenting::{Place, Presenting, PresentingError, check_presented};
pub use proof::{Gesture, Key, KeyFault, SignatureFault, Signed};
pub use quorum::{Missing, missing};
pub use radius::{Found, Going, Listed, ListedState, Radius};
pub use rules::{Rule, Rules};
pub use satisfiable::nobody_can_satisfy;
pub use summary::summary;
pub use team::{ListedKey, Team, faults};
