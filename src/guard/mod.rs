//! The decision, and nothing else: no I/O, no clock, no client.
//!
//! [`needs`] says which rules a request meets and which facts decide it; [`decide`] turns those facts into a verdict.
//! [`check_presented`] judges a write that presents statements. The webhook and the tests call the same functions.

mod approval;
mod decide;
mod denial;
mod ephemeral;
mod evidence;
mod loosening;
mod needs;
mod presenting;
mod proof;
mod quorum;
mod rules;
mod satisfiable;
mod team;

pub use approval::{CLOCK_SKEW, Flaw};
pub use decide::{Because, Decision, Facts, GoingOwner, NamespaceFact, OwnerFact, Unmet, Verdict, decide};
pub use denial::{denial, request_id, warning};
pub use ephemeral::becomes_ephemeral;
pub use evidence::{Beside, Epoch};
pub use loosening::{Changed, Weighed, loosened_rule, loosened_team, spec_hash, weigh};
pub use needs::{Candidate, Change, Needs, NoDecision, Owner, Request, Requester, Subject, covering, needs};
pub use presenting::{Place, Presenting, PresentingError, check_presented};
pub use proof::{Gesture, Key, KeyFault, SignatureFault, Signed};
pub use quorum::{Missing, missing};
pub use rules::{Rule, Rules};
pub use satisfiable::nobody_can_satisfy;
pub use team::{ListedKey, Team, faults};
