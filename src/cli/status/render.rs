use jiff::Timestamp;

use super::Report;
use super::approvals::OpenApproval;
use crate::api::{Action, Mode};
use crate::cli::words::{moment, printable, table};

pub fn text(report: &Report, now: Timestamp) -> String {
    let mut text = rules(report);
    text.push('\n');
    if report.approvals.is_empty() {
        text.push_str("No approvals are open.\n");
    } else {
        let header = ["KIND", "NAMESPACE", "NAME", "ACTION", "APPROVER", "TEAM", "FOR", "UNTIL", "REMARK"];
        text.push_str(&table(header, report.approvals.iter().map(|approval| row(approval, now))));
    }
    for unlisted in &report.unlisted {
        text.extend(["Not looked at: ", &unlisted.kind, ": ", &printable(&unlisted.reason), "\n"]);
    }
    text
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

fn row(approval: &OpenApproval, now: Timestamp) -> [String; 9] {
    let or = |text: Option<&str>, otherwise: &str| text.unwrap_or(otherwise).to_owned();
    let read = approval.approver.is_some();
    [
        approval.kind.clone(),
        or(Some(approval.namespace.as_str()).filter(|namespace| !namespace.is_empty()), "-"),
        approval.name.clone(),
        or(approval.action.map(Action::as_str), "-"),
        or(approval.approver.as_deref(), "-"),
        or(approval.team.as_deref(), "-"),
        or(approval.requester.as_deref(), if read { "anyone" } else { "-" }),
        approval.expires.map_or_else(|| "-".to_owned(), |expires| moment(expires, now)),
        or(approval.remark.as_deref(), ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::approve::statements::tests::NOW;
    use crate::cli::status::approvals::Unlisted;
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
            approvals: vec![OpenApproval {
                kind: "deployments.apps".into(),
                namespace: "payments".into(),
                name: "api".into(),
                action: Some(Action::Delete),
                approver: Some("alice".into()),
                team: Some("sre".into()),
                requester: None,
                reason: None,
                expires: Some(NOW),
                remark: Some("expired".into()),
            }],
            unlisted: vec![Unlisted { kind: "secrets".into(), reason: "forbidden".into() }],
        };
        assert_eq!(
            text(&report, NOW),
            "\
NAME         MODE      APPROVERS   READY   ENFORCED
production   Enforce   dba,sre     False   True
  Ready: There is no ApproverTeam dba.

KIND               NAMESPACE   NAME   ACTION   APPROVER   TEAM   FOR      UNTIL                          REMARK
deployments.apps   payments    api    Delete   alice      sre    anyone   2026-11-21T10:00:00Z (in 0s)   expired
Not looked at: secrets: forbidden
"
        );
    }

    #[test]
    fn an_empty_cluster_is_said_in_words() {
        let report = Report { rules: Vec::new(), approvals: Vec::new(), unlisted: Vec::new() };
        assert_eq!(text(&report, NOW), "No rules: nothing is protected.\n\nNo approvals are open.\n");
    }
}
