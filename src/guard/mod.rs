//! The decision, and nothing else: no I/O, no clock, no client.
//!
//! [`needs`] says which rules a request meets and which facts decide it; [`decide`] turns those facts into a verdict.
//! [`check_presented`] judges a write that presents statements. The webhook and the tests call the same functions.

mod approval;
mod decide;
mod denial;
mod ephemeral;
mod needs;
mod presenting;
mod quorum;
mod rules;

pub use approval::{CLOCK_SKEW, Flaw};
pub use decide::{Because, Decision, Facts, NamespaceFact, OwnerFact, Unmet, Verdict, decide};
pub use denial::{denial, request_id, warning};
pub use ephemeral::becomes_ephemeral;
pub use needs::{Candidate, Needs, NoDecision, Owner, Request, Requester, Subject, covering, needs};
pub use presenting::{Presenting, PresentingError, check_presented};
pub use quorum::{Missing, missing};
pub use rules::{Rule, Rules};
