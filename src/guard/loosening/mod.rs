//! What a change of a rule, a team or one of Tagout's definitions needs. Tightening is free; what loosens needs the
//! approval of those whom it would weaken.

mod compare;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

pub use compare::{loosened_rule, loosened_team, spec_hash};

use super::approval::CLOCK_SKEW;
use super::satisfiable::nobody_can_satisfy;
use super::team::{Team, faults};
use super::unlocking::locking;
use super::{Rule, Rules};
use crate::api::{Action, ApproverTeamSpec, DELETED, MAX_VALID_FOR, Mode, ProtectionRuleSpec, Revocation};

/// A change, as it was sent. Neither old nor new: nothing was changed.
#[derive(Debug)]
pub enum Changed {
    Rule {
        /// As it is stored, which need not be what is in force.
        stored: Option<Box<ProtectionRuleSpec>>,
        /// Whether the stored version never came into force, because the API server does not take it.
        rejected: bool,
        new: Option<Box<ProtectionRuleSpec>>,
    },
    Team {
        stored: Option<ApproverTeamSpec>,
        new: Option<ApproverTeamSpec>,
    },
    /// One of Tagout's own definitions.
    Definition {
        /// Whether it is what this version of Tagout itself would install.
        is_own: bool,
        new: Option<Value>,
    },
}

/// What has to be the case before a change may be made.
#[derive(Debug, Default)]
pub struct Weighed {
    /// Why nobody can make it, whoever approves.
    pub refused: Option<String>,
    /// Where it loosens, in words; empty: it is free.
    pub loosened: Vec<String>,
    /// The rules whose approval it needs, by name.
    pub needed: Vec<String>,
    /// A rule that is not in force although it should be: its approval is needed too.
    pub not_in_force: Option<Box<Rule>>,
    /// The hash of the new spec, as statements name it.
    pub new_spec: String,
}

pub fn weigh(changed: &Changed, name: &str, rules: &Rules, now: Timestamp) -> Weighed {
    let mut weighed = weigh_known(changed, name, rules, now);
    // What a rule asks that cannot be read, nobody knows. Where it is stored as well, that tells.
    let counts = |own: &str| match changed {
        Changed::Rule { .. } => own == name && weighed.not_in_force.is_none(),
        Changed::Team { .. } | Changed::Definition { .. } => true,
    };
    let unreadable = rules.rules.iter().find(|(own, rule)| rule.is_err() && counts(own)).map(|(own, _)| own);
    if let Some(unreadable) = unreadable.filter(|_| !weighed.loosened.is_empty()) {
        weighed.refused.get_or_insert_with(|| {
            format!(
                "what is in force of rule {unreadable} cannot be read, so nobody knows what it asks; apply that rule \
                 again"
            )
        });
    }
    weighed
}

fn weigh_known(changed: &Changed, name: &str, rules: &Rules, now: Timestamp) -> Weighed {
    match changed {
        Changed::Rule { stored, rejected, new } => {
            let stored = stored.as_deref().filter(|_| !rejected);
            let mut weighed = weigh_rule(name, stored, new.as_deref(), rules, now);
            if new.as_deref().is_some_and(|new| joins_the_lock(name, new, rules)) {
                // Or anybody could keep Tagout from being upgraded or removed.
                weighed.loosened.push("it would have a say in whether Tagout is unlocked".to_owned());
                weighed.needed.extend(locking(rules).map(|rule| rule.name.clone()));
                weighed.needed.sort();
                weighed.needed.dedup();
            }
            weighed
        }
        Changed::Team { stored, new } => weigh_team(name, stored.as_ref(), new.as_ref(), rules, now),
        Changed::Definition { is_own: true, .. } => Weighed::default(),
        Changed::Definition { is_own: false, new } => Weighed {
            loosened: vec!["Tagout's own definitions are changed".to_owned()],
            needed: settled(rules).map(|rule| rule.name.clone()).collect(),
            new_spec: new.as_ref().map_or_else(|| DELETED.to_owned(), spec_hash),
            ..Weighed::default()
        },
    }
}

/// Whether a rule would get a say in whether Tagout is unlocked, while others have it.
fn joins_the_lock(name: &str, new: &ProtectionRuleSpec, rules: &Rules) -> bool {
    let has = locking(rules).any(|rule| rule.name == name);
    new.actions.contains(&Action::Unlock) && !has && locking(rules).next().is_some()
}

/// The rules that somebody could meet at one time. Until then whoever sets Tagout up may change them.
fn settled(rules: &Rules) -> impl Iterator<Item = &Rule> {
    rules.rules.values().flatten().filter(|rule| rule.settled.is_some())
}

fn weigh_rule(
    name: &str,
    stored: Option<&ProtectionRuleSpec>,
    new: Option<&ProtectionRuleSpec>,
    rules: &Rules,
    now: Timestamp,
) -> Weighed {
    let mut weighed = Weighed { new_spec: new.map_or_else(|| DELETED.to_owned(), spec_hash), ..Weighed::default() };
    // What counts is the version by which the API server refuses. Without one, somebody took the entry away, or a
    // replica has yet to write it.
    let in_force = rules.rules.get(name).and_then(|rule| rule.as_ref().ok());
    if stored.is_none() && matches!(rules.rules.get(name), Some(Err(_))) {
        weighed.loosened = vec!["it may be weaker than what is in force".to_owned()];
        return weighed;
    }
    let standing = match (in_force, stored) {
        (Some(rule), _) if rule.settled.is_some() => {
            weighed.needed.push(rule.name.clone());
            &rule.spec
        }
        (None, Some(spec)) => {
            let readable =
                Rule::read(name, spec).ok().filter(|rule| nobody_can_satisfy(rule, &rules.teams, now).is_none());
            let Some(rule) = readable else { return weighed };
            weighed.not_in_force = Some(Box::new(rule));
            spec
        }
        _ => return weighed,
    };
    weighed.loosened = match new {
        Some(new) => loosened_rule(standing, new, now),
        None => vec!["the rule is deleted".to_owned()],
    };
    if let Some(Ok(changed)) = new.map(|new| Rule::read(name, new)) {
        weighed.refused = locks_out(standing, name, &changed, (&rules.teams, &rules.teams), now);
    }
    weighed
}

fn weigh_team(
    name: &str,
    stored: Option<&ApproverTeamSpec>,
    new: Option<&ApproverTeamSpec>,
    rules: &Rules,
    now: Timestamp,
) -> Weighed {
    let mut weighed = Weighed {
        loosened: loosened_team(stored, new, now),
        new_spec: new.map_or_else(|| DELETED.to_owned(), spec_hash),
        ..Weighed::default()
    };
    if let Some(new) = new {
        let mut wrong = faults(name, new, stored, &rules.teams);
        wrong.extend(endless_revocation(new, stored, now));
        weighed.refused = (!wrong.is_empty()).then(|| wrong.join("; "));
    }
    let naming: Vec<&Rule> = settled(rules).filter(|rule| rule.teams().any(|team| team == name)).collect();
    // A team that was lost, with its definition say, may come back as it was.
    let known = |rule: &Rule| {
        let settled = rule.settled.as_ref().and_then(|teams| teams.get(name));
        stored.is_none() && settled == Some(&weighed.new_spec)
    };
    weighed.needed = naming.iter().filter(|rule| !known(rule)).map(|rule| rule.name.clone()).collect();

    let mut after = rules.teams.clone();
    after.remove(name);
    if let Some(new) = new {
        // A key that was stolen is revoked, whatever that leaves.
        let spec = ApproverTeamSpec {
            revoked_keys: stored.map(|spec| spec.revoked_keys.clone()).unwrap_or_default(),
            ..new.clone()
        };
        after.insert(name.to_owned(), Team::read(spec));
    }
    let locked_out =
        naming.iter().find_map(|rule| locks_out(&rule.spec, &rule.name, rule, (&rules.teams, &after), now));
    weighed.refused = weighed.refused.or(locked_out);
    weighed
}

/// Anybody may revoke; the list is kept from being filled for good.
fn endless_revocation(new: &ApproverTeamSpec, stored: Option<&ApproverTeamSpec>, now: Timestamp) -> Option<String> {
    let known = |one: &Revocation| stored.is_some_and(|stored| stored.revoked.contains(one));
    let ends = |one: &Revocation| {
        one.expires.as_ref().is_some_and(|at| at.0.duration_since(now) <= MAX_VALID_FOR + CLOCK_SKEW)
    };
    let endless = new.revoked.iter().position(|one| !known(one) && !ends(one))?;
    Some(format!(
        "revoked[{endless}]: say when the approval ends by itself: expires, at most {MAX_VALID_FOR:#} from now"
    ))
}

/// Whether a rule that somebody can meet could be met by nobody afterwards.
fn locks_out(
    standing: &ProtectionRuleSpec,
    name: &str,
    after: &Rule,
    teams: (&BTreeMap<String, Team>, &BTreeMap<String, Team>),
    now: Timestamp,
) -> Option<String> {
    let before = Rule::read(name, standing).ok()?;
    if after.mode != Mode::Enforce || nobody_can_satisfy(&before, teams.0, now).is_some() {
        return None;
    }
    let why = nobody_can_satisfy(after, teams.1, now)?;
    Some(format!("nobody could approve what rule {name} protects any more: {why}"))
}

#[cfg(test)]
#[path = "weigh_tests.rs"]
mod tests;
