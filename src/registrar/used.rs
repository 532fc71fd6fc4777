//! What a rule's status says of its budgets and freezes.

use jiff::Timestamp;
use kube::ResourceExt;

use super::Registrar;
use crate::api::{BudgetStatus, FreezeStatus, LedgerSpec, ProtectionRule};
use crate::guard::Rule;

/// Requesters and namespaces whose budgets are said in a rule's status.
const MOST_SAID: usize = 16;

impl Registrar {
    /// What is used of its budgets. Said only by whoever has just looked, so that replicas do not contradict each other.
    pub(super) fn used(&self, rule: &ProtectionRule) -> Vec<BudgetStatus> {
        let standing = || rule.status.clone().unwrap_or_default().budgets;
        let Some(used) = &self.news else { return standing() };
        let Ok(read) = Rule::read(&rule.name_any(), &rule.spec) else { return standing() };
        let none = LedgerSpec::default();
        let ledger = used.ledgers.get(&rule.name_any()).unwrap_or(&none);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let said = read.budgets.usage(ledger, used.at).into_iter().take(MOST_SAID).map(|usage| BudgetStatus {
            budget: usage.budget.to_owned(),
            of: usage.of,
            used: number(usage.used),
            count: number(usage.count),
            next_free: usage.next,
        });
        said.collect()
    }
}

/// The freeze that lasts, or else the next one.
pub(super) fn freeze(rule: &ProtectionRule, now: Timestamp) -> Option<FreezeStatus> {
    let read = Rule::read(&rule.name_any(), &rule.spec).ok()?;
    if let Some(frozen) = read.freezes.at(now) {
        return Some(FreezeStatus { frozen: true, changes: Some(frozen.until), reason: frozen.reason });
    }
    let coming = read.freezes.after(now)?;
    Some(FreezeStatus { frozen: false, changes: Some(coming.from), reason: coming.reason })
}
