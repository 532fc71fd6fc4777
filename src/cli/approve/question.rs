use std::fmt;

use super::draft::Draft;
use crate::api::{DELETED, Mode, NEW_UID, Proof, Statement, quoted};
use crate::cli::barriers::barriers;
use crate::cli::case::Matter;
use crate::cli::gone;
use crate::cli::said::Place;
use crate::cli::words::{moment, people, printable, table};
use crate::guard::{EVERYTHING, Rule, WITH_IT, missing};

/// What a person reads before they answer: everything that the statement says, and what it is about.
pub struct Question<'q>(pub &'q Draft<'q>);

/// Lines about the same thing that a person still reads.
const MOST: usize = 5;

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draft { case, statement, signer, place, notes } = self.0;
        let now = case.now;
        let mut line = |head: &str, words: &str| writeln!(f, "{head:<12}{}", printable(words));
        if statement.break_glass {
            line("EMERGENCY:", BREAKS_GLASS)?;
        }
        line("Approver:", &format!("{}, for team {}", statement.approver, statement.team))?;
        line("Action:", &action(statement))?;
        let (what, object) = (case.matter.of_what(), &case.object);
        match &case.matter {
            Matter::Contents(_) => line("Object:", &format!("{what}{object}, not the namespace itself"))?,
            _ => line("Object:", &object.to_string())?,
        }
        if statement.uid == NEW_UID {
            line("UID:", "none yet: it is to be made")?;
        } else {
            line("UID:", &statement.uid)?;
        }
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
        if let Matter::Return(deletion) = &case.matter {
            line("Destroyed:", &gone::words(deletion, now))?;
        }
        if let Matter::Change(weighed) = &case.matter {
            for loosened in &weighed.loosened {
                line("Weaker:", loosened)?;
            }
            if weighed.new_spec != DELETED {
                line("New spec:", &weighed.new_spec)?;
            }
        }
        for (head, words) in goes(self.0) {
            line(head, &words)?;
        }
        let decision = case.decide(&[], None);
        for rule in &decision.rules {
            line("Rule:", &describe(rule))?;
            for words in barriers(case, &decision, rule, statement.requester.as_deref()) {
                line("", &words)?;
            }
        }
        for (name, reason) in case.unreadable_rules() {
            line("Rule:", &format!("{name} cannot be read and may ask for more ({reason})"))?;
        }
        if case.home.is_none() && !case.object.namespace().is_empty() {
            line("Note:", "you may not read the namespace; rules for other namespaces may be listed here")?;
        }
        for note in notes {
            line("Note:", note)?;
        }
        for said in &case.said {
            let other = &said.statement;
            let (requester, until) = (requester(other), moment(other.expires, now));
            let (by, team) = (quoted(&other.approver), quoted(&other.team));
            let signed = if other.signature.is_some() { ", signed" } else { "" };
            line("Approved:", &format!("by {by}, for team {team}{signed}, {requester}, until {until}"))?;
            let (counts, flaws) = case.judged(said, None);
            if let Some(flaw) = flaws.first().filter(|_| counts.is_empty()) {
                line("", &format!("but that does not count: {flaw}"))?;
            }
        }
        line("For:", &requester(statement))?;
        line("Until:", &moment(statement.expires, now))?;
        if *place == Place::Approval {
            line("Written:", &format!("beside it, as Approval {}", statement.approval_name()))?;
        }
        if let Some(signer) = signer {
            line("Signed:", &format!("with {}", signer.name()))?;
            line("Hash:", &statement.hash().unwrap_or_default())?;
        }
        match &statement.reason {
            Some(reason) => line("Reason:", reason),
            None => Ok(()),
        }
    }
}

/// What goes with the object. Data that nobody gets back is named, volume by volume.
fn goes(draft: &Draft) -> Vec<(&'static str, String)> {
    let goes = &draft.case.goes;
    let mut lines: Vec<_> =
        goes.summary.iter().map(|words| ("Goes:", words.strip_prefix(WITH_IT).unwrap_or(words).to_owned())).collect();
    lines.extend(some("DESTROYED:", "the data of volume", &goes.lost));
    lines.extend(some("Kept:", "the data of volume", &goes.kept));
    if let Some(protects) = draft.statement.protects.as_ref().filter(|protects| !protects.unlisted.is_empty()) {
        let kinds = protects.unlisted.iter().map(|kind| if kind == EVERYTHING { "objects of any kind" } else { kind });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        lines.push(("Unseen:", format!("you approve that {kinds} go, though nobody could tell which there are")));
    }
    lines
}

fn some(head: &'static str, what: &str, named: &[String]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = named.iter().take(MOST).map(|name| (head, format!("{what} {name}"))).collect();
    if named.len() > MOST {
        lines.push((head, format!("and of {} more volumes", named.len() - MOST)));
    }
    lines
}

const NOT_BACK: &str = "it may not return under its name";

/// The action, and whether it is for good.
pub fn action(statement: &Statement) -> String {
    let action = statement.action.as_str();
    if statement.delete_only { format!("{action}, for good: {NOT_BACK}") } else { action.to_owned() }
}

const BREAKS_GLASS: &str = "THIS BREAKS GLASS. Rules are passed by you alone, and everybody is told.";

/// Several at once: what is common in lines, what differs in a table.
pub fn several(drafts: &[Draft]) -> String {
    let mut text = String::new();
    let Some(first) = drafts.first() else { return text };
    if first.statement.break_glass {
        text.push_str(BREAKS_GLASS);
        text.push('\n');
    }
    let rows = drafts.iter().map(|draft| {
        let rules: Vec<_> = draft.case.decide(&[], None).rules.iter().map(|rule| rule.name.clone()).collect();
        let Draft { case, statement, .. } = draft;
        [
            if statement.delete_only { "Delete (for good)".to_owned() } else { statement.action.as_str().to_owned() },
            format!("{}{}", case.matter.of_what(), case.object),
            draft.statement.uid.clone(),
            rules.join(","),
            draft.statement.team.clone(),
            requester(&draft.statement),
            moment(draft.statement.expires, draft.case.now),
        ]
    });
    text.push_str(&table(["ACTION", "OBJECT", "UID", "RULES", "TEAM", "FOR", "UNTIL"], rows));
    let mut line = |head: &str, words: &str| text.extend([format!("{head:<12}"), printable(words), "\n".to_owned()]);
    for draft in drafts {
        if let Matter::Change(weighed) = &draft.case.matter {
            for loosened in &weighed.loosened {
                line("Weaker:", &format!("{}: {loosened}", draft.case.object));
            }
            line("New spec:", &format!("{}: {}", draft.case.object, weighed.new_spec));
        }
        if let Matter::Return(deletion) = &draft.case.matter {
            line("Destroyed:", &format!("{}: {}", draft.case.object, gone::words(deletion, draft.case.now)));
        }
        for (head, words) in goes(draft) {
            line(head, &format!("{}: {words}", draft.case.object));
        }
        for note in &draft.notes {
            line("Note:", &format!("{}: {note}", draft.case.object));
        }
        if let Some(signer) = &draft.signer {
            line("Signed:", &format!("{}: with {}", draft.case.object, signer.name()));
        }
    }
    if first.statement.delete_only {
        line("For good:", NOT_BACK);
    }
    line("Approver:", &first.statement.approver);
    if let Some(reason) = &first.statement.reason {
        line("Reason:", reason);
    }
    text
}

/// `rule a`, or `rules a, b`
pub fn rules(rules: &[&Rule]) -> String {
    let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
    format!("{} {}", if names.len() == 1 { "rule" } else { "rules" }, names.join(", "))
}

fn requester(statement: &Statement) -> String {
    statement.requester.as_ref().map_or_else(|| "requests by anyone".to_owned(), |name| format!("requests by {name}"))
}

/// `production needs approval by 1 of senior-sre, signed with a hardware key`
pub fn describe(rule: &Rule) -> String {
    let asks = people(&missing(&rule.require, &[]));
    let mode = match rule.mode {
        Mode::Enforce => "needs",
        Mode::Warn => "only warns without",
        Mode::Audit => "only records the lack of",
    };
    let proof = match (rule.proof, rule.require_verification) {
        (Proof::Identity, _) => "",
        (Proof::Signature, _) => ", signed",
        (Proof::HardwareKey, false) => ", signed with a hardware key",
        (Proof::HardwareKey, true) => ", signed with a hardware key and its PIN or fingerprint",
    };
    let condition = if rule.conditional { ", where its conditions hold" } else { "" };
    format!("{} {mode} approval by {asks}{proof}{condition}", rule.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Action;
    use crate::cli::case::Case;
    use crate::cli::case::tests::{case, returning, said, setting};
    use crate::cli::statements::tests::statement;

    #[test]
    fn a_person_reads_everything_that_they_sign() {
        let setting = setting(&json!([{"anyOf": ["sre", "dba"], "count": 2}]));
        let case = Case { said: vec![said(statement("bob", "dba"))], ..case(&setting) };
        let statement = Statement {
            requester: Some("agent-7".into()),
            reason: Some("OPS-1234\u{1b}[2J".into()),
            ..statement("alice", "sre")
        };
        let draft = Draft { case, statement, signer: None, place: Place::Object, notes: vec!["look".into()] };
        assert_eq!(
            Question(&draft).to_string(),
            "\
Approver:   alice, for team sre
Action:     Delete
Object:     deployments.apps \"api\" in \"payments\"
UID:        uid-1
Created:    2026-11-20T10:00:00Z (1d ago)
Rule:       production needs approval by 2 of sre, dba
Rule:       watched only records the lack of approval by 1 of everyone
Note:       look
Approved:   by \"bob\", for team \"dba\", requests by anyone, until 2026-11-21T10:30:00Z (in 30m)
For:        requests by agent-7
Until:      2026-11-21T10:30:00Z (in 30m)
Reason:     OPS-1234 [2J
"
        );
    }

    #[test]
    fn breaking_glass_is_the_first_thing_that_is_read() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let statement = Statement { break_glass: true, ..statement("alice", "sre") };
        let draft = Draft { case: case(&setting), statement, signer: None, place: Place::Object, notes: Vec::new() };
        assert!(Question(&draft).to_string().starts_with("EMERGENCY:  THIS BREAKS GLASS."));
        assert!(several(&[draft]).starts_with("THIS BREAKS GLASS."));
    }

    #[test]
    fn what_goes_for_good_says_so_and_what_returns_says_how_it_went() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let good = || Statement { delete_only: true, ..statement("alice", "sre") };
        let draft =
            |case, statement| Draft { case, statement, signer: None, place: Place::Approval, notes: Vec::new() };
        let text = Question(&draft(case(&setting), good())).to_string();
        assert!(text.contains("Action:     Delete, for good: it may not return under its name\n"), "{text}");
        let both = [draft(case(&setting), good()), draft(case(&setting), good())];
        assert!(several(&both).contains("\nFor good:   it may not return under its name\n"));

        let back = || Statement { action: Action::Recreate, ..statement("alice", "sre") };
        let text = Question(&draft(returning(&setting, &[]), back())).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1..=6],
            [
                "Action:     Recreate",
                "Object:     deployments.apps \"api\" in \"payments\"",
                "UID:        uid-1",
                "Created:    2026-11-20T10:00:00Z (1d ago)",
                "Owned by:   \"App\" \"shop\"",
                "Destroyed:  2026-11-21T08:00:00Z (2h ago) by \"agent-7\", which nobody approved",
            ]
        );
        assert!(several(&[draft(returning(&setting, &[]), back())]).contains("\nDestroyed:  deployments.apps"));
    }

    #[test]
    fn several_objects_are_one_table_with_what_is_common_below() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let draft = || Draft {
            case: case(&setting),
            statement: Statement { reason: Some("OPS-1".into()), ..statement("alice", "sre") },
            signer: None,
            place: Place::Object,
            notes: Vec::new(),
        };
        let text = several(&[draft(), draft()]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ACTION   OBJECT"), "{text}");
        assert!(lines[1].contains("uid-1") && lines[1].contains("production,watched"), "{text}");
        assert_eq!(lines[3..], ["Approver:   alice", "Reason:     OPS-1"]);
    }
}
