use std::collections::BTreeMap;

use jiff::Timestamp;

use super::teams::{MemberLine, TeamLine};
use super::{RequestLine, Review, SaidLine};
use crate::api::{Action, DELETED, NEW_UID, Proof, quoted};
use crate::cli::words::{moment, printable, relative};

/// What a person still reads of the tree; kubectl tagout impact prints it whole.
const LINES: usize = 30;

pub fn text(review: &Review, now: Timestamp, colour: bool) -> String {
    let mut text = goes(review, colour);
    text.push_str(&head(review, now));
    let mut block = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.extend(["\n", title, "\n"].map(str::to_owned));
            text.extend(lines.iter().flat_map(|line| ["  ".to_owned(), printable(line), "\n".to_owned()]));
        }
    };
    let mut rules = Vec::new();
    for rule in &review.rules {
        rules.push(rule.asks.clone());
        match &rule.still_needs {
            Some(needs) => rules.push(format!("  still needs: {needs}")),
            None if rule.frozen => {}
            None => rules.push("  still needs: nothing more".to_owned()),
        }
        rules.extend(rule.barriers.iter().map(|words| format!("  {words}")));
        if !rule.break_glass.is_empty() {
            rules.push(format!("  in an emergency alone: {}", rule.break_glass.join(", ")));
        }
    }
    block("Rules", rules);
    block("Who may approve", review.teams.iter().map(team).collect());
    block("Said already", review.said.iter().flat_map(|one| said(one, now)).collect());
    if let Some(command) = &review.approve {
        text.extend(["\nTo approve: ", command, "\n"].map(str::to_owned));
    }
    text
}

/// What goes with it, above all else: printable already, but for colours of ours.
fn goes(review: &Review, colour: bool) -> String {
    let Review { extent, object, .. } = review;
    if extent.branches.is_empty() && extent.summary.is_empty() {
        return String::new();
    }
    let mut lines = extent.tree(object, LINES, colour);
    lines.extend(extent.summary.iter().map(|words| printable(words)));
    lines.extend(
        extent.lost.iter().take(LINES).map(|volume| printable(&format!("DESTROYED: the data of volume {volume}"))),
    );
    lines.push(String::new());
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn head(review: &Review, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |head: &str, words: &str| text.extend([format!("{head:<12}"), printable(words), "\n".to_owned()]);
    for RequestLine { id, requester, last } in &review.requests {
        let last = last.map(|last| format!(", {}", relative(last, now))).unwrap_or_default();
        let by = quoted(requester);
        line("Request:", &format!("{id} by {by}{last}, according to an Event, which anyone can write"));
    }
    line("Action:", review.action.as_str());
    let object = &review.object;
    let what = match (review.contents, review.action) {
        (false, _) => "",
        (true, Action::Recreate) => "what was destroyed in ",
        (true, _) => "what is in ",
    };
    line("Object:", &format!("{what}{object}"));
    line("UID:", if review.uid == NEW_UID { "none yet: it is to be made" } else { &review.uid });
    if let Some(created) = review.created {
        line("Created:", &moment(created, now));
    }
    if let Some(destroyed) = &review.destroyed {
        line("Destroyed:", &destroyed.words);
    }
    for owner in &review.owners {
        line("Owned by:", owner);
    }
    for loosened in &review.loosened {
        line("Weaker:", loosened);
    }
    if let Some(new_spec) = review.new_spec.as_deref().filter(|hash| *hash != DELETED) {
        line("New spec:", new_spec);
    }
    if !review.labels.is_empty() {
        line("Labels:", &labels(&review.labels));
    }
    if !review.namespace_labels.is_empty() {
        line("Namespace:", &labels(&review.namespace_labels));
    }
    for note in &review.notes {
        line("Note:", note);
    }
    text
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// `senior-sre: group oidc:senior-sre; alice@example.com (hardware key)`
fn team(team: &TeamLine) -> String {
    let groups = team.groups.iter().map(|group| match team.proof {
        Proof::Identity => format!("group {group}"),
        Proof::Signature | Proof::HardwareKey => format!("group {group} (signs nothing: keys are listed by person)"),
    });
    let members = team.members.iter().map(|one| member(one, team.proof));
    let all = groups.chain(members).chain(team.remark.clone()).collect::<Vec<_>>().join("; ");
    format!("{}: {all}", team.name)
}

fn member(member: &MemberLine, proof: Proof) -> String {
    let MemberLine { user, keys, hardware_keys } = member;
    let has = match (proof, *keys, *hardware_keys) {
        (Proof::Identity, ..) => return user.clone(),
        (_, 0, _) => "has no key, and a rule asks for a signature",
        (Proof::HardwareKey, _, 0) => "has no hardware key, and a rule asks for one",
        (_, _, 0) => "key in a file",
        _ => "hardware key",
    };
    format!("{user} ({has})")
}

fn said(said: &SaidLine, now: Timestamp) -> Vec<String> {
    let statement = &said.statement;
    let (by, team) = (quoted(&statement.approver), quoted(&statement.team));
    let requester = statement.requester.as_ref().map_or_else(|| "anyone".to_owned(), |name| quoted(name));
    let signed = if statement.signature.is_some() { ", signed" } else { "" };
    let until = moment(statement.expires, now);
    let place = said.place.as_str();
    let mut lines = vec![format!("by {by}, for team {team}, {place}{signed}, requests by {requester}, until {until}")];
    if statement.break_glass {
        lines.push("  breaks glass".to_owned());
    }
    if statement.delete_only {
        lines.push("  for good: it may not return under its name".to_owned());
    }
    if !said.counts_for.is_empty() {
        lines.push(format!("  counts for {}", said.counts_for.join(", ")));
    }
    let not = if said.counts_for.is_empty() { "does not count" } else { "does not count elsewhere" };
    lines.extend(said.flaws.iter().map(|flaw| format!("  {not}: {flaw}")));
    lines
}
