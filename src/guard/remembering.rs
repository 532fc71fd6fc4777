//! Which rules remember a deletion.

use super::covered::{follows_its_controller, in_namespace};
use super::decide::Decision;
use super::facts::Facts;
use super::needs::{Called, Candidate, Request, covering};
use super::{Rule, Rules};
use crate::api::{Action, Mode};

/// The rules that remember what a deletion that is let pass destroys: those that enforce, and do not let so little go, and
/// return, unasked.
pub fn remembering<'r>(
    request: &Request,
    called: Called,
    rules: &'r Rules,
    facts: &Facts,
    decision: &Decision<'r>,
) -> Vec<&'r Rule> {
    let asked = rules.called(called.rule()).ok();
    let covering = covering(&request.subject, &request.owners, Action::Recreate, rules);
    let known = |rule: &Rule| asked.is_some_and(|asked| asked.name == rule.name);
    let asked_back = covering.filter(|rule| {
        let candidate = Candidate { rule, called: false, assumed: false };
        let holds = !rule.conditional || known(rule);
        holds && in_namespace(&candidate, request, facts) && !follows_its_controller(&candidate, request, facts)
    });
    let mut all: Vec<&Rule> = decision.seen.iter().copied().chain(asked_back).collect();
    let small = |rule: &Rule| !request.subject.namespace.is_empty() && rule.tolerated > 0;
    all.retain(|rule| rule.mode == Mode::Enforce && (!small(rule) || !decision.counted.is_empty()));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.dedup_by(|one, other| one.name == other.name);
    all
}
