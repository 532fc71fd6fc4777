use jiff::Timestamp;

use super::Report;
use super::rules::RuleLine;
use crate::api::Mode;
use crate::cli::approvals;
use crate::cli::barriers::{freeze, used};
use crate::cli::words::{printable, table};

pub fn text(report: &Report, now: Timestamp) -> String {
    let mut text = rules(report, now);
    text.push('\n');
    if !report.rules.is_empty() {
        text.push_str(&epoch(report.epoch.as_deref()));
        text.push_str(&report.lock.text());
    }
    if report.approvals.is_empty() {
        text.push_str("No approvals are open.\n");
    } else {
        text.push_str(&approvals::rows(&report.approvals, now));
    }
    for unlisted in &report.unlisted {
        text.extend(["Not looked at: ", &unlisted.kind, ": ", &printable(&unlisted.reason), "\n"]);
    }
    text
}

/// Whether what people wrote unsigned counts, and since when.
fn epoch(epoch: Option<&str>) -> String {
    match epoch {
        Some(epoch) => {
            format!("Approvals by identity: count since the epoch {}; older ones do not.\n", printable(epoch))
        }
        None => {
            "Approvals by identity: not yet. Tagout still makes sure that nobody can plant them; signed ones count.\n"
                .to_owned()
        }
    }
}

/// The message of a rule stands below its line, so that the columns stay narrow.
fn rules(report: &Report, now: Timestamp) -> String {
    if report.rules.is_empty() {
        return "No rules: nothing is protected.\n".to_owned();
    }
    let rows = report.rules.iter().map(|rule| {
        let mode = match rule.mode {
            Some(Mode::Enforce) => "Enforce",
            Some(Mode::Warn) => "Warn",
            Some(Mode::Audit) => "Audit",
            None => "-",
        };
        let approvers = rule.approvers.join(",");
        [rule.name.clone(), mode.to_owned(), approvers, rule.ready.clone(), rule.enforced.clone()]
    });
    let table = table(["NAME", "MODE", "APPROVERS", "READY", "ENFORCED"], rows);
    let mut lines = table.lines();
    let mut text = lines.next().map(|header| format!("{header}\n")).unwrap_or_default();
    for (line, rule) in lines.zip(&report.rules) {
        text.push_str(line);
        text.push('\n');
        for message in &rule.messages {
            text.extend(["  ", &printable(message), "\n"]);
        }
        for words in beside(rule, now) {
            text.extend(["  ", &printable(&words), "\n"]);
        }
    }
    text
}

/// Its freeze, its budgets, and what it does not remember.
fn beside(rule: &RuleLine, now: Timestamp) -> Vec<String> {
    let freeze = rule.freeze.iter().map(|one| freeze(one, now));
    let mut lines: Vec<_> = freeze.chain(rule.budgets.iter().map(|budget| used(budget, now))).collect();
    if !rule.not_remembered.is_empty() {
        lines.push(format!("not remembered: {} (Tagout may not read them)", rule.not_remembered.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Action, BudgetStatus, FreezeStatus};
    use crate::cli::approvals::{OpenApproval, Unlisted};
    use crate::cli::statements::tests::NOW;
    use crate::cli::status::lock::LockLine;

    #[test]
    fn rules_come_first_then_what_is_open_then_what_could_not_be_looked_at() {
        let report = Report {
            rules: vec![RuleLine {
                name: "production".into(),
                mode: Some(Mode::Enforce),
                approvers: vec!["dba".into(), "sre".into()],
                ready: "False".into(),
                enforced: "True".into(),
                messages: vec!["Ready: There is no ApproverTeam dba.".into()],
                budgets: vec![BudgetStatus {
                    budget: "ceiling".into(),
                    of: None,
                    used: 20,
                    count: 20,
                    next_free: Some(NOW + jiff::SignedDuration::from_mins(12)),
                }],
                freeze: Some(FreezeStatus { frozen: true, changes: Some(NOW), reason: "year end".into() }),
                not_remembered: vec!["secrets".into()],
            }],
            epoch: Some("e-1".into()),
            lock: LockLine::Locked { unlocked_for: vec!["ci".into()] },
            approvals: vec![OpenApproval {
                kind: "deployments.apps".into(),
                namespace: "payments".into(),
                name: "api".into(),
                action: Some(Action::Delete),
                approver: Some("alice".into()),
                team: Some("sre".into()),
                expires: Some(NOW),
                remark: Some("expired".into()),
                ..OpenApproval::default()
            }],
            unlisted: vec![Unlisted { kind: "secrets".into(), reason: "forbidden".into() }],
        };
        assert_eq!(
            text(&report, NOW),
            "\
NAME         MODE      APPROVERS   READY   ENFORCED
production   Enforce   dba,sre     False   True
  Ready: There is no ApproverTeam dba.
  frozen until 2026-11-21T10:00:00Z (in 0s): \"year end\"
  ceiling 20 of 20 used, next place free in 12m
  not remembered: secrets (Tagout may not read them)

Approvals by identity: count since the epoch e-1; older ones do not.
Tagout itself: kept as it is, unlocked for ci.
KIND               NAMESPACE   NAME   ACTION   APPROVER   TEAM   FOR      UNTIL                          PROOF      REMARK
deployments.apps   payments    api    Delete   alice      sre    anyone   2026-11-21T10:00:00Z (in 0s)   identity   expired
Not looked at: secrets: forbidden
"
        );
    }

    #[test]
    fn an_empty_cluster_is_said_in_words() {
        let lock = LockLine::Open { missing: Vec::new() };
        let report = Report { rules: Vec::new(), epoch: None, lock, approvals: Vec::new(), unlisted: Vec::new() };
        assert_eq!(text(&report, NOW), "No rules: nothing is protected.\n\nNo approvals are open.\n");
    }
}
