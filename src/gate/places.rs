//! Places in budgets, asked for on behalf of a decision that wants them.

use tokio::time::Instant;

use super::{Gate, Known};
use crate::cluster::volumes;
use crate::guard::{Because, BudgetFact, Claim, Decision, Facts, FullReason, Needs, Request, Wanted, decide};

impl Gate {
    /// Decides, and asks for the places that the decision wants, each of which is written before it counts. Without a kind
    /// that could be read there is nothing to be counted.
    pub(super) async fn with_places<'r>(
        &self,
        request: &Request<'_>,
        needs: &Needs<'r>,
        Known { rules, certain, .. }: Known<'r>,
        facts: &mut Facts,
        counted: Counted<'_>,
    ) -> Decision<'r> {
        loop {
            let decision = decide(request, needs, rules, facts, self.cluster.clock.here());
            // Each way through each rule is asked about once.
            let known = facts.budgets.len();
            if decision.because != Because::ToBeCounted || !certain {
                return decision;
            }
            // What one rule has no place for shall not take another's.
            if decision.wanted.len() > 1 && !counted.trial {
                let look = Counted { trial: true, ..counted };
                let found = self.claimed(request, &decision.wanted, facts, look).await;
                facts.budgets.extend(found.into_iter().filter(|(_, fact)| is_final(fact)));
            }
            if facts.budgets.len() == known {
                let found = self.claimed(request, &decision.wanted, facts, counted).await;
                facts.budgets.extend(found);
            }
            if facts.budgets.len() == known {
                return decision;
            }
        }
    }

    async fn claimed(
        &self,
        request: &Request<'_>,
        wanted: &[Wanted<'_>],
        facts: &Facts,
        counted: Counted<'_>,
    ) -> Vec<((String, crate::guard::Way), BudgetFact)> {
        // A volume that is deleted itself takes nothing along.
        let (group, resource) = (&*request.subject.group, &*request.subject.resource);
        let volumes = match (group, resource) {
            ("", "persistentvolumes") => 1,
            _ => facts.radius.as_ref().map(volumes).unwrap_or_default(),
        };
        let mut found = Vec::new();
        for Wanted { rule, way, seen } in wanted {
            let fact = match counted.api_version {
                Err(reason) => BudgetFact::Unknown(reason.to_owned()),
                Ok(_) if !seen => BudgetFact::Unknown("it is not as the rule has it any more; try again".to_owned()),
                Ok(api_version) => {
                    let claim = Claim {
                        action: request.action,
                        subject: &request.subject,
                        api_version,
                        requester: request.requester.name,
                        volumes,
                        way: *way,
                    };
                    self.cluster.claim(rule, &claim, counted.trial, counted.deadline).await
                }
            };
            found.push(((rule.name.clone(), *way), fact));
        }
        found
    }
}

/// What is under way may be gone in a moment.
fn is_final(fact: &BudgetFact) -> bool {
    match fact {
        BudgetFact::Granted => false,
        BudgetFact::Full(full) => full.reason != FullReason::UnderWay,
        BudgetFact::Unknown(_) => true,
    }
}

/// How something is counted.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    /// Of the object as it was found live, or why it was not.
    pub(super) api_version: Result<&'a str, &'a str>,
    /// Nothing is written.
    pub(super) trial: bool,
    pub(super) deadline: Instant,
}
