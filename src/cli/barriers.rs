//! What keeps an object whoever approves, or counts it: freezes and budgets, in words.

use jiff::Timestamp;
use kube::ResourceExt;

use super::case::Case;
use super::words::{moment, relative};
use crate::api::{Action, BudgetStatus, FreezeStatus, Per, quoted};
use crate::guard::{Decision, Frozen, Rule, Way, Why};

/// Whether nobody's approval lets it pass this rule now.
pub fn is_frozen(decision: &Decision, rule: &Rule) -> bool {
    frozen(decision, rule).is_some()
}

fn frozen<'d>(decision: &'d Decision, rule: &Rule) -> Option<&'d Frozen> {
    let kept = decision.kept.iter().find(|kept| kept.rule.name == rule.name)?;
    if let Why::Frozen(frozen) = &kept.why { Some(frozen) } else { None }
}

/// What a rule has to say of it besides who must approve.
pub fn barriers(case: &Case, decision: &Decision, rule: &Rule, requester: Option<&str>) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(Frozen { until, reason }) = frozen(decision, rule) {
        let but = if rule.break_glass.is_empty() { "" } else { " but one that breaks glass" };
        let until = moment(*until, case.now);
        words.push(format!("frozen until {until}: {}; until then no approval lets it pass{but}", quoted(reason)));
    }
    if let Some(wanted) = decision.wanted.iter().find(|wanted| wanted.rule.name == rule.name) {
        let limit = if wanted.way == Way::Allowance { &rule.budgets.allowance } else { &rule.budgets.ceiling };
        let within = limit.as_ref().map(ToString::to_string).unwrap_or_default();
        words.push(if wanted.way == Way::Allowance {
            format!("asks nobody while its allowance lasts: {within}")
        } else {
            format!("counts it, approved or not: {within} may go")
        });
    }
    words.extend(
        spent(case, decision, rule, requester).map(|used| format!("{used}, as far as the rule's status tells")),
    );
    words
}

/// The budgets of the rule that have no place left for such an object.
fn spent(case: &Case, decision: &Decision, rule: &Rule, requester: Option<&str>) -> impl Iterator<Item = String> {
    let asks_nobody = decision.wanted.iter().any(|one| one.rule.name == rule.name && one.way == Way::Allowance);
    let goes = case.matter.action() == Action::Delete;
    let status = case.setting.protection.written.iter().find(|written| written.name_any() == rule.name);
    let budgets = status.and_then(|written| written.status.as_ref()).into_iter().flat_map(|status| &status.budgets);
    let of = |name: &str| match name {
        "allowance" => rule.budgets.allowance.as_ref().filter(|_| asks_nobody).map(|limit| limit.per),
        _ => rule.budgets.ceiling.as_ref().filter(|_| goes).map(|limit| limit.per),
    };
    let concerns = |budget: &&BudgetStatus| match of(&budget.budget) {
        Some(Per::Rule) => true,
        Some(Per::Namespace) => budget.of.as_deref().unwrap_or_default() == case.object.namespace(),
        Some(Per::Requester) => requester.is_some() && budget.of.as_deref() == requester,
        None => false,
    };
    let full = budgets.filter(|budget| budget.used >= budget.count).filter(concerns);
    full.map(|budget| used(budget, case.now)).collect::<Vec<_>>().into_iter()
}

/// `ceiling 3 of 20 used`, or `allowance of "agent-7": 5 of 5 used, next place free in 12m`
pub fn used(budget: &BudgetStatus, now: Timestamp) -> String {
    let BudgetStatus { budget, of, used, count, next_free } = budget;
    let whose = of.as_ref().map(|of| format!(" of {}:", quoted(of))).unwrap_or_default();
    let next = next_free.filter(|next| *next > now);
    let next = next.map(|next| format!(", next place free {}", relative(next, now))).unwrap_or_default();
    format!("{budget}{whose} {used} of {count} used{next}")
}

/// `frozen until 2026-12-01T08:00:00Z (in 2d): "year end"`, or `freezes at …`
pub fn freeze(freeze: &FreezeStatus, now: Timestamp) -> String {
    let FreezeStatus { frozen, changes, reason } = freeze;
    let reason = quoted(reason);
    match (frozen, changes) {
        (true, Some(until)) => format!("frozen until {}: {reason}", moment(*until, now)),
        (true, None) => format!("frozen: {reason}"),
        (false, Some(from)) => format!("freezes at {}: {reason}", moment(*from, now)),
        (false, None) => format!("freezes at times: {reason}"),
    }
}

#[cfg(test)]
pub mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::case::tests::{case, setting};
    use crate::cli::cluster::Setting;
    use crate::cli::statements::tests::NOW;

    /// The rule for production with more in it, and a status.
    pub fn budgeted(more: &Value, status: &Value) -> Setting {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
        let mut spec = serde_json::to_value(&setting.rules().rules["production"].as_ref().unwrap().spec).unwrap();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let rule = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule",
            "metadata": {"name": "production"}, "spec": spec, "status": status});
        let rule: crate::api::ProtectionRule = serde_json::from_value(rule).unwrap();
        setting.protection.rules.rules.insert("production".into(), Rule::read("production", &rule.spec));
        setting.protection.written.push(rule);
        setting
    }

    fn said(setting: &Setting, requester: Option<&str>) -> Vec<String> {
        let case = case(setting);
        let decision = case.decide(&[], requester);
        barriers(&case, &decision, setting.rules().rules["production"].as_ref().unwrap(), requester)
    }

    #[test]
    fn a_freeze_is_said_with_its_end_and_its_reason() {
        let frozen =
            json!({"freeze": [{"from": "2026-11-21T00:00", "until": "2026-11-22T10:00", "reason": "year end"}]});
        let setting = budgeted(&frozen, &json!({}));
        assert_eq!(
            said(&setting, None),
            ["frozen until 2026-11-22T10:00:00Z (in 1d): \"year end\"; until then no approval lets it pass"]
        );
        let case = case(&setting);
        let decision = case.decide(&[], None);
        assert!(is_frozen(&decision, decision.rules[0]) && !is_frozen(&decision, decision.rules[1]));
    }

    #[test]
    fn a_place_in_a_budget_is_said_and_where_there_is_none_left_that_too() {
        let allowance = json!({"allowance": {"count": 5, "window": "10m", "per": "Requester"}});
        let used = json!({"budgets": [
            {"budget": "allowance", "of": "agent-7", "used": 5, "count": 5, "nextFree": NOW + SignedDuration::from_mins(3)},
            {"budget": "allowance", "of": "ci", "used": 1, "count": 5},
        ]});
        let setting = budgeted(&allowance, &used);
        let lasts = "asks nobody while its allowance lasts: 5 in 10m for each requester";
        assert_eq!(said(&setting, None), [lasts]);
        assert_eq!(said(&setting, Some("ci")), [lasts]);
        assert_eq!(
            said(&setting, Some("agent-7")),
            [lasts, "allowance of \"agent-7\": 5 of 5 used, next place free in 3m, as far as the rule's status tells"]
        );
    }

    #[test]
    fn a_statement_that_does_not_count_is_not_excused_by_an_allowance() {
        let setting = budgeted(
            &json!({"allowance": {"count": 5, "window": "10m", "per": "Rule"}, "actions": ["Evict"]}),
            &json!({}),
        );
        let evicted = crate::cli::case::Matter::Action(crate::api::Action::Evict);
        let case = Case { matter: evicted, ..case(&setting) };
        let one = crate::cli::case::tests::said(crate::cli::statements::tests::statement("alice", "sre"));
        let rule = setting.rules().rules["production"].as_ref().unwrap();
        assert_eq!(case.flaw(&one, rule, None), Some(crate::guard::Flaw::OtherAction));
    }

    #[test]
    fn budgets_and_freezes_are_said_as_the_status_has_them() {
        let budget = |of: Option<&str>, next_free| BudgetStatus {
            budget: "ceiling".into(),
            of: of.map(str::to_owned),
            used: 3,
            count: 20,
            next_free,
        };
        assert_eq!(used(&budget(None, None), NOW), "ceiling 3 of 20 used");
        let next = Some(NOW + SignedDuration::from_mins(12));
        assert_eq!(used(&budget(None, next), NOW), "ceiling 3 of 20 used, next place free in 12m");
        assert_eq!(used(&budget(Some("a\nb"), None), NOW), "ceiling of \"a b\": 3 of 20 used");
        let freeze = |frozen| super::freeze(&FreezeStatus { frozen, changes: next, reason: "sale".into() }, NOW);
        assert_eq!(freeze(true), "frozen until 2026-11-21T10:12:00Z (in 12m): \"sale\"");
        assert_eq!(freeze(false), "freezes at 2026-11-21T10:12:00Z (in 12m): \"sale\"");
    }
}
