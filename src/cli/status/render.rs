use jiff::Timestamp;

use super::Report;
use crate::api::Mode;
use crate::cli::approvals;
use crate::cli::words::{printable, table};

pub fn text(report: &Report, now: Timestamp) -> String {
    let mut text = rules(report);
    text.push('\n');
    if !report.rules.is_empty() {
        text.push_str(&epoch(report.epoch.as_deref()));
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
            format!("Approvals by identity: since {}; what was given before counts no more.\n", printable(epoch))
        }
        None => {
            "Approvals by identity: not yet. Tagout still makes sure that nobody can plant them; signed ones count.\n"
                .to_owned()
        }
    }
}

/// The message of a rule stands below its line, so that the columns stay narrow.
fn rules(report: &Report) -> String {
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
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Action;
    use crate::cli::approvals::{OpenApproval, Unlisted};
    use crate::cli::statements::tests::NOW;
    use crate::cli::status::rules::RuleLine;

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
            }],
            epoch: Some("e-1".into()),
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

Approvals by identity: since e-1; what was given before counts no more.
KIND               NAMESPACE   NAME   ACTION   APPROVER   TEAM   FOR      UNTIL                          PROOF      REMARK
deployments.apps   payments    api    Delete   alice      sre    anyone   2026-11-21T10:00:00Z (in 0s)   identity   expired
Not looked at: secrets: forbidden
"
        );
    }

    #[test]
    fn an_empty_cluster_is_said_in_words() {
        let report = Report { rules: Vec::new(), epoch: None, approvals: Vec::new(), unlisted: Vec::new() };
        assert_eq!(text(&report, NOW), "No rules: nothing is protected.\n\nNo approvals are open.\n");
    }
}
