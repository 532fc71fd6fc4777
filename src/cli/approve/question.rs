use std::fmt;

use super::case::Case;
use crate::api::{Mode, Statement, quoted};
use crate::cli::words::{moment, people, printable};
use crate::guard::{Rule, missing};

/// What a person reads before they answer: everything that the statement says, and what it is about.
pub struct Question<'a> {
    pub case: &'a Case<'a>,
    pub statement: &'a Statement,
    /// What others have said already, and still counts.
    pub kept: &'a [Statement],
}

/// Lines about the same thing that a person still reads.
const MOST: usize = 5;

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, statement, kept } = self;
        let now = case.now;
        let mut line = |head: &str, words: &str| writeln!(f, "{head:<12}{}", printable(words));
        line("Approver:", &format!("{}, for team {}", statement.approver, statement.team))?;
        line("Action:", statement.action.as_str())?;
        line("Object:", &case.object.to_string())?;
        line("UID:", &statement.uid)?;
        if let Some(created) = &case.object.metadata.creation_timestamp {
            line("Created:", &moment(created.0, now))?;
        }
        let owners: Vec<_> = case.object.metadata.owner_references.iter().flatten().collect();
        for owner in owners.iter().take(MOST) {
            line("Owned by:", &format!("{} {}", quoted(&owner.kind), quoted(&owner.name)))?;
        }
        if owners.len() > MOST {
            line("Owned by:", &format!("{} more", owners.len() - MOST))?;
        }
        for rule in case.decide(&[], None).rules {
            line("Rule:", &describe(rule))?;
        }
        for (name, reason) in case.unreadable_rules() {
            line("Rule:", &format!("{name} cannot be read and may ask for more ({reason})"))?;
        }
        if case.namespace.is_none() && !case.object.namespace().is_empty() {
            line("Note:", "you may not read the namespace; rules for other namespaces may be listed here")?;
        }
        for other in *kept {
            let requester = requester(other);
            let until = moment(other.expires, now);
            line(
                "Approved:",
                &format!(
                    "by {}, for team {}, {requester}, until {until}",
                    quoted(&other.approver),
                    quoted(&other.team)
                ),
            )?;
        }
        line("For:", &requester(statement))?;
        line("Until:", &moment(statement.expires, now))?;
        match &statement.reason {
            Some(reason) => line("Reason:", reason),
            None => Ok(()),
        }
    }
}

/// `rule a`, or `rules a, b`
pub fn rules(rules: &[&Rule]) -> String {
    let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    format!("{} {}", if names.len() == 1 { "rule" } else { "rules" }, names.join(", "))
}

fn requester(statement: &Statement) -> String {
    statement.requester.as_ref().map_or_else(|| "requests by anyone".to_owned(), |name| format!("requests by {name}"))
}

fn describe(rule: &Rule) -> String {
    let asks = people(&missing(&rule.require, &[]));
    let mode = match rule.mode {
        Mode::Enforce => "needs",
        Mode::Warn => "only warns without",
        Mode::Audit => "only records the lack of",
    };
    let condition = if rule.conditional { ", where its conditions hold" } else { "" };
    format!("{} {mode} approval by {asks}{condition}", rule.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::approve::case::tests::{case, deployment, rules};
    use crate::cli::approve::statements::tests::statement;

    #[test]
    fn a_person_reads_everything_that_they_sign() {
        let (object, rules) = (deployment(), rules(&json!([{"anyOf": ["sre", "dba"], "count": 2}])));
        let case = case(&object, &rules);
        let signed = Statement {
            requester: Some("agent-7".into()),
            reason: Some("OPS-1234\u{1b}[2J".into()),
            ..statement("alice", "sre")
        };
        let question = Question { case: &case, statement: &signed, kept: &[statement("bob", "dba")] };
        assert_eq!(
            question.to_string(),
            "\
Approver:   alice, for team sre
Action:     Delete
Object:     deployments.apps \"api\" in \"payments\"
UID:        uid-1
Created:    2026-11-20T10:00:00Z (1d ago)
Rule:       production needs approval by 2 of sre, dba
Rule:       watched only records the lack of approval by 1 of everyone
Approved:   by \"bob\", for team \"dba\", requests by anyone, until 2026-11-21T10:30:00Z (in 30m)
For:        requests by agent-7
Until:      2026-11-21T10:30:00Z (in 30m)
Reason:     OPS-1234 [2J
"
        );
    }
}
