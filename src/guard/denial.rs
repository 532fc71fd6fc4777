//! The words in which people are told. The first line is the same on every retry of a request.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::approval::Flaw;
use super::budget::FullReason;
use super::decide::{Decision, Unmet};
use super::needs::Request;
use super::passage::{Kept, Why};
use super::quorum::Missing;
use crate::api::{Action, DELETED, GROUP, Mode, Proof, printable, quoted};

/// Flaws beyond these are counted, not spelled out: an annotation may hold dozens of statements.
const MAX_FLAWS: usize = 5;

/// What the person who was refused reads.
pub fn denial(request: &Request, decision: &Decision) -> String {
    let mut lines = vec![first_line(request, decision)];
    lines.extend(request.what.iter().map(|what| format!("Why: {what}.")));
    lines.extend(decision.summary.iter().cloned());
    lines.extend(explanations(request, decision));
    lines.extend(kept(decision).map(why));
    if is_for_people(request, decision) {
        lines.push(match approve_command(request, decision) {
            Some(command) => format!("A person must look at it and approve: {command}"),
            None => "A person must look at it and approve, with kubectl tagout approve.".to_owned(),
        });
    }
    let other_way = if request.action == Action::Recreate { "bring it back" } else { "remove it" };
    lines.push(format!("Stop here and hand this to a person. Do not look for another way to {other_way}."));
    // Names in them were written by anyone.
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// A word as a shell reads it: some kinds of objects may have any name, and people paste commands.
fn word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:/".contains(character);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether people can let it pass.
fn is_for_people(request: &Request, decision: &Decision) -> bool {
    request.change.as_ref().is_some_and(|change| change.new_spec != DELETED)
        || decision.unmet.iter().any(|unmet| unmet.mode == Mode::Enforce)
}

/// By which a person looks at it and approves; nothing where people cannot, or where no command can name it.
pub fn approve_command(request: &Request, decision: &Decision) -> Option<String> {
    if !is_for_people(request, decision) {
        return None;
    }
    let subject = &request.subject;
    let namespace =
        if subject.namespace.is_empty() { String::new() } else { format!(" -n {}", word(&subject.namespace)) };
    let named = format!("{}/{}", subject.kind(), subject.name);
    let action = match request.action {
        Action::Delete => String::new(),
        action => format!(" --action={}", action.as_str()),
    };
    match &request.change {
        Some(change) if change.new_spec != DELETED && subject.group != GROUP => {
            Some(format!("kubectl tagout approve {} --new-spec={}", word(&named), change.new_spec))
        }
        Some(change) if change.new_spec != DELETED => {
            Some(format!("kubectl tagout approve -f FILE, with the file of this change (newSpec {})", change.new_spec))
        }
        // A name that cannot be shown as it is would name another object.
        _ if printable(&named) != named => None,
        _ => Some(format!("kubectl tagout approve {}{namespace}{action}", word(&named))),
    }
}

/// The line by which a denial is recognised: it depends on the object, the rules and who has approved, on nothing else.
fn first_line(request: &Request, decision: &Decision) -> String {
    let enforced: Vec<_> = decision.unmet.iter().filter(|unmet| unmet.mode == Mode::Enforce).collect();
    let mut reasons: Vec<_> = kept(decision).filter_map(barrier).collect();
    reasons.extend((!enforced.is_empty()).then(|| needed(&enforced)));
    if reasons.is_empty() {
        reasons.push("it was not counted; try again in a few seconds".to_owned());
    }
    format!("tagout: denied {}: {}. Request: {}", what(request), reasons.join(", and "), request_id(request))
}

/// What keeps it besides want of approval.
fn kept<'d, 'r>(decision: &'d Decision<'r>) -> impl Iterator<Item = &'d Kept<'r>> {
    decision.kept.iter().filter(|kept| kept.rule.mode == Mode::Enforce)
}

/// What no approval removes. The same on every retry.
fn barrier(kept: &Kept) -> Option<String> {
    let rule = &kept.rule.name;
    match &kept.why {
        Why::Frozen(frozen) => {
            Some(format!("rule {rule} is frozen until {} ({})", frozen.until, quoted(&frozen.reason)))
        }
        Why::Full(full) => match &full.reason {
            FullReason::Ceiling(limit) => Some(format!("the ceiling of rule {rule} is reached ({limit})")),
            FullReason::CeilingVolumes(_) => Some(format!("the ceiling of rule {rule} is reached (volumes)")),
            FullReason::Ledger => Some(format!("rule {rule} can count no more")),
            _ => None,
        },
        Why::Uncounted(_) => Some(format!("rule {rule} cannot count it")),
    }
}

/// When it is possible, and what to do instead of waiting.
fn why(kept: &Kept) -> String {
    let rule = &kept.rule.name;
    let emergency = match &*kept.rule.break_glass {
        [] => String::new(),
        teams => format!(" In an emergency one person of {} may let it pass at once.", teams.join(" or ")),
    };
    let full = match &kept.why {
        Why::Frozen(_) => return format!("Until then nobody's approval lets it pass.{emergency}"),
        Why::Uncounted(reason) => return format!("What rule {rule} lets pass cannot be counted: {reason}.{emergency}"),
        Why::Full(full) => full,
    };
    let next = full.next.map(|next| format!(" The next is possible at {next} at the latest.")).unwrap_or_default();
    match &full.reason {
        FullReason::Allowance(limit) => {
            format!("Without approval rule {rule} lets {limit} pass, and they have.{next}")
        }
        FullReason::AllowanceVolumes(limit) => format!(
            "Without approval rule {rule} lets the data of {} volumes go in {:#}, and this would be more.",
            limit.volumes.unwrap_or_default(),
            limit.window
        ),
        FullReason::Ceiling(limit) => {
            format!("Approved or not, rule {rule} lets {limit} pass, and they have.{next}{emergency}")
        }
        FullReason::CeilingVolumes(limit) => format!(
            "Approved or not, rule {rule} lets the data of {} volumes go in {:#}, and this would be more.{emergency}",
            limit.volumes.unwrap_or_default(),
            limit.window
        ),
        FullReason::UnderWay => {
            format!("Half of what rule {rule} lets pass is under way and not gone yet: try again in two minutes.")
        }
        FullReason::CameToNothing => {
            format!("It was let pass before without approval, and did not go; now rule {rule} asks people.{next}")
        }
        FullReason::Ledger => format!("The ledger of rule {rule} holds no more: try again later.{emergency}"),
    }
}

/// What the caller reads where a rule only warns.
pub fn warning(request: &Request, decision: &Decision) -> Option<String> {
    let warned: Vec<_> = decision.unmet.iter().filter(|unmet| unmet.mode == Mode::Warn).collect();
    let mut reasons: Vec<_> =
        decision.kept.iter().filter(|kept| kept.rule.mode == Mode::Warn).filter_map(barrier).collect();
    reasons.extend((!warned.is_empty()).then(|| needed(&warned)));
    (!reasons.is_empty())
        .then(|| format!("tagout: {} would be denied in mode Enforce: {}", what(request), reasons.join(", and ")))
}

/// The same for the same action on the same object by the same requester, however often it is asked.
pub fn request_id(request: &Request) -> String {
    let mut hash = Sha256::new();
    let change = request.change.as_ref().map_or("", |change| &change.new_spec);
    for part in [request.action.as_str(), &request.subject.uid, request.requester.name, change] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    format!("to-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

fn what(request: &Request) -> String {
    let subject = &request.subject;
    let place = if subject.namespace.is_empty() { String::new() } else { format!(" in {:?}", subject.namespace) };
    format!("{} of {} {:?}{place}", request.action.as_str(), subject.kind(), subject.name)
}

fn needed(unmet: &[&Unmet]) -> String {
    let part = |unmet: &&Unmet| {
        let proof = match unmet.rules[0].proof {
            Proof::Identity => "",
            Proof::Signature => ", signed",
            Proof::HardwareKey => ", signed with a hardware key",
        };
        format!("needs {}{proof}{}", all(&unmet.missing), by_rules(unmet))
    };
    unmet.iter().map(part).collect::<Vec<_>>().join(", and ")
}

fn all(missing: &[Missing]) -> String {
    let each: Vec<_> = missing.iter().map(|missing| format!("approval by {missing}")).collect();
    each.join(" and ")
}

fn by_rules(unmet: &Unmet) -> String {
    let names: Vec<_> = unmet.rules.iter().map(|rule| rule.name.as_str()).collect();
    let plural = if names.len() == 1 { "rule" } else { "rules" };
    let condition = match (unmet.rules[0].conditional, names.len()) {
        (false, _) => "",
        (true, 1) => ", where its conditions hold",
        (true, _) => ", where their conditions hold",
    };
    format!(" ({plural} {}{condition})", names.join(", "))
}

fn explanations(request: &Request, decision: &Decision) -> Vec<String> {
    let mut lines = Vec::new();
    let loosened: Vec<_> = request.change.iter().flat_map(|change| &change.loosened).collect();
    lines.extend(loosened.iter().take(MAX_FLAWS).map(|change| format!("It would be weaker: {change}.")));
    if let Some(more) = loosened.len().checked_sub(MAX_FLAWS).filter(|more| *more > 0) {
        lines.push(format!("It would be weaker in {more} more ways."));
    }
    if let Some(error) = &decision.unreadable {
        lines.push(format!("The approval on it does not count: {error}."));
    }
    if decision.unpresented {
        lines.push("The approval on it does not count: nobody was seen to give it. It must be given anew.".to_owned());
    }
    // Alike is said once.
    let mut said = BTreeSet::new();
    for (statement, flaw) in &decision.flaws {
        // Anyone may write a statement that is worth nothing anyway; then nobody has checked in whose name.
        let by = match flaw {
            Flaw::OtherObject(_) | Flaw::OtherName(_) | Flaw::OtherCluster | Flaw::Expired(_) => String::new(),
            _ => format!(" by {}", quoted(&statement.approver)),
        };
        said.insert(format!("An approval{by} does not count: {flaw}."));
    }
    let more = said.len().saturating_sub(MAX_FLAWS);
    lines.extend(said.into_iter().take(MAX_FLAWS));
    if more > 0 {
        lines.push(format!("{more} more approvals of it do not count either."));
    }
    for reason in &decision.unknown {
        lines.push(format!("Something could not be looked at: {reason}."));
    }
    if request.by_garbage_collector() {
        lines.push(
            "The garbage collector asks because an owner is gone or going, and that was not approved for this object. Give \
             it a living owner, or have its own deletion approved and delete it itself."
                .to_owned(),
        );
    }
    lines
}
