//! How one rule lets a request pass: by approval, because it is little, within an allowance, or in an emergency; and what
//! keeps it beside want of approval.

use jiff::Timestamp;

use super::Rule;
use super::budget::{Full, FullReason, Way};
use super::carried::Carried;
use super::facts::{BudgetFact, Facts};
use super::freeze::Frozen;
use super::judged::Judged;
use super::needs::Request;
use crate::api::{Action, Mode};

/// A place in a rule's budget.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'r> {
    pub rule: &'r Rule,
    pub way: Way,
    /// Whether the rule covers it as far as Tagout itself can see.
    pub seen: bool,
}

/// What keeps a request whoever approves, or keeps it from passing without approval.
#[derive(Debug, Clone)]
pub struct Kept<'r> {
    pub rule: &'r Rule,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    Frozen(Frozen),
    Full(Full),
    /// Whether there is a place could not be found out, with the reason.
    Uncounted(String),
}

impl Why {
    /// Whether it would pass if people approved it.
    pub(super) fn people_help(&self, small: bool) -> bool {
        match self {
            Self::Frozen(_) => false,
            Self::Full(full) => match full.reason {
                FullReason::Allowance(_)
                | FullReason::AllowanceVolumes(_)
                | FullReason::UnderWay
                | FullReason::CameToNothing => true,
                FullReason::Ceiling(_) | FullReason::CeilingVolumes(_) => false,
                FullReason::Ledger => !small,
            },
            Self::Uncounted(_) => !small,
        }
    }
}

/// How a rule lets a request pass, or not.
pub(super) enum Passage {
    By(Way),
    /// It would pass this way, if there is a place.
    Wanted(Way),
    Kept(Why),
    Unmet,
}

/// Whether so little goes that the rule asks nobody.
pub(super) fn is_little(request: &Request, rule: &Rule, facts: &Facts, carried: Option<&Carried>) -> bool {
    !was_for_good(facts) && is_tolerated(request, rule, carried)
}

/// What people let go for good is no trifle when it returns.
fn was_for_good(facts: &Facts) -> bool {
    facts.deletion.iter().flat_map(|deletion| &deletion.statements).any(|one| one.delete_only)
}

pub(super) fn passage(
    request: &Request,
    rule: &Rule,
    judged: &Judged,
    carried: Option<&Carried>,
    facts: &Facts,
    now: Timestamp,
) -> Passage {
    let small = is_little(request, rule, facts, carried);
    let allowed = rule.budgets.allowance.is_some() && !was_for_good(facts) && may_be_allowed(request, rule, carried);
    let emergency = judged.emergency.is_some();
    // What returns destroys nothing; and whoever may weaken a rule may also end its freeze.
    let freezes = !matches!(request.action, Action::Recreate | Action::Loosen);
    let frozen = rule.freezes.at(now).filter(|_| freezes);
    let way = match &frozen {
        None if judged.missing.is_empty() => Way::Approved,
        None if small => Way::Tolerated,
        _ if emergency => Way::BrokenGlass,
        Some(frozen) => return Passage::Kept(Why::Frozen(frozen.clone())),
        None if allowed && rule.mode == Mode::Enforce => Way::Allowance,
        None => return Passage::Unmet,
    };
    // A rule that refuses nothing takes no places either.
    if rule.mode != Mode::Enforce || !rule.budgets.count(request.action, way) {
        return Passage::By(way);
    }
    let place = |way| facts.budgets.get(&(rule.name.clone(), way));
    let why = match place(way) {
        None => return Passage::Wanted(way),
        Some(BudgetFact::Granted) => return Passage::By(way),
        // An emergency is counted where it can be.
        Some(_) if way == Way::BrokenGlass => return Passage::By(way),
        Some(BudgetFact::Full(full)) => Why::Full(full.clone()),
        Some(BudgetFact::Unknown(reason)) => Why::Uncounted(reason.clone()),
    };
    match place(Way::BrokenGlass) {
        _ if !emergency => Passage::Kept(why),
        None => Passage::Wanted(Way::BrokenGlass),
        Some(_) => Passage::By(Way::BrokenGlass),
    }
}

/// Whether it is so little that an allowance may let it pass: nothing protected goes along, as far as everything that the
/// rule names could be seen.
fn may_be_allowed(request: &Request, rule: &Rule, carried: Option<&Carried>) -> bool {
    let little = match request.action {
        Action::Delete => carried.is_some_and(|carried| carried.sees_all_of(rule) && carried.all.is_empty()),
        Action::Recreate | Action::Evict => true,
        _ => false,
    };
    little && !request.subject.namespace.is_empty()
}

/// Whether so little goes that the rule asks nobody. What could not be counted is too much.
fn is_tolerated(request: &Request, rule: &Rule, carried: Option<&Carried>) -> bool {
    let counted = match request.action {
        Action::Delete => carried.filter(|carried| carried.sees_all_of(rule)).map(|carried| carried.all.len()),
        Action::Evict | Action::Recreate => Some(0),
        _ => None,
    };
    let tolerated = usize::try_from(rule.tolerated).unwrap_or(usize::MAX);
    !request.subject.namespace.is_empty() && counted.is_some_and(|others| others < tolerated)
}
