use kube::ResourceExt;
use serde::Serialize;

use crate::api::{BudgetStatus, FreezeStatus, Mode, ProtectionRule};
use crate::cli::cluster::{Protection, condition};

/// A rule, and what became of it.
#[derive(Serialize, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RuleLine {
    pub name: String,
    /// Absent where the rule cannot be read.
    pub mode: Option<Mode>,
    pub approvers: Vec<String>,
    pub ready: String,
    pub enforced: String,
    /// Why something is not as one would wish.
    pub messages: Vec<String>,
    /// What is used of its budgets, the fullest first.
    pub budgets: Vec<BudgetStatus>,
    /// The freeze that lasts, or else the next one.
    pub freeze: Option<FreezeStatus>,
    /// Kinds of which nothing that is destroyed is remembered or counted.
    pub not_remembered: Vec<String>,
}

pub fn lines(protection: &Protection) -> Vec<RuleLine> {
    let broken = protection.rules.rules.iter().filter_map(|(name, rule)| Some((name, rule.as_ref().err()?)));
    let mut lines: Vec<_> = protection.written.iter().map(line).collect();
    for (name, reason) in broken {
        let message = format!("It cannot be read: {reason}");
        match lines.iter_mut().find(|line| line.name == *name) {
            Some(line) => line.messages.push(message),
            None => lines.push(RuleLine {
                name: name.clone(),
                mode: None,
                approvers: Vec::new(),
                ready: "False".to_owned(),
                enforced: "Unknown".to_owned(),
                messages: vec![message],
                ..RuleLine::default()
            }),
        }
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

fn line(rule: &ProtectionRule) -> RuleLine {
    let mut messages = Vec::new();
    let mut state = |type_: &str| match condition(rule, type_) {
        None => "Unknown".to_owned(),
        Some(condition) => {
            // That a rule of mode Warn refuses nothing is no news.
            if condition.status == "False" && !condition.reason.starts_with("Mode") {
                messages.push(format!("{type_}: {}", condition.message));
            }
            condition.status.clone()
        }
    };
    let (ready, enforced) = (state("Ready"), state("Enforced"));
    if ready == "Unknown" || enforced == "Unknown" {
        messages.push("Tagout has not looked at this version of the rule yet: is it running?".to_owned());
    }
    if let Some(lacking) = condition(rule, "Approvable").filter(|condition| condition.status == "False") {
        messages.push(format!("Approvable: {}", lacking.message));
    }
    let mut approvers: Vec<_> = rule.spec.approval.require.iter().flat_map(|entry| entry.any_of.clone()).collect();
    approvers.sort();
    approvers.dedup();
    let status = rule.status.clone().unwrap_or_default();
    RuleLine {
        name: rule.name_any(),
        mode: Some(rule.spec.mode),
        approvers,
        ready,
        enforced,
        messages,
        budgets: status.budgets,
        freeze: status.freeze,
        not_remembered: status.not_remembered,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(conditions: &Value) -> ProtectionRule {
        serde_json::from_value(json!({
            "apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule",
            "metadata": {"name": "production", "generation": 2},
            "spec": {"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
                "approval": {"require": [{"anyOf": ["sre", "dba"]}, {"anyOf": ["sre"]}]}},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn said(type_: &str, status: &str, reason: &str, generation: i64) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "Words.",
            "observedGeneration": generation, "lastTransitionTime": "2026-11-21T10:00:00Z"})
    }

    #[test]
    fn a_rule_in_force_is_said_without_further_words() {
        let line = line(&rule(&json!([said("Ready", "True", "Accepted", 2), said("Enforced", "True", "InForce", 2)])));
        assert_eq!((line.ready.as_str(), line.enforced.as_str()), ("True", "True"));
        assert_eq!(line.approvers, ["dba", "sre"]);
        assert!(line.messages.is_empty());
    }

    #[test]
    fn why_a_condition_is_false_is_said_unless_the_mode_says_it() {
        let rejected =
            line(&rule(&json!([said("Ready", "False", "Rejected", 2), said("Enforced", "True", "InForce", 2)])));
        assert_eq!(rejected.messages, ["Ready: Words."]);
        let warns =
            line(&rule(&json!([said("Ready", "True", "Accepted", 2), said("Enforced", "False", "ModeWarn", 2)])));
        assert!(warns.messages.is_empty());
    }

    #[test]
    fn that_nobody_can_approve_is_said() {
        let line = line(&rule(&json!([
            said("Ready", "True", "Accepted", 2),
            said("Enforced", "True", "InForce", 2),
            said("Approvable", "False", "NobodyCan", 2)
        ])));
        assert_eq!(line.messages, ["Approvable: Words."]);
    }

    #[test]
    fn what_was_said_of_an_earlier_version_says_nothing_of_this_one() {
        let line = line(&rule(&json!([said("Ready", "True", "Accepted", 1), said("Enforced", "True", "InForce", 1)])));
        assert_eq!((line.ready.as_str(), line.enforced.as_str()), ("Unknown", "Unknown"));
        assert_eq!(line.messages.len(), 1);
    }
}
