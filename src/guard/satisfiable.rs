use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Rule;
use super::quorum::{Person, missing};
use super::team::Team;
use crate::api::{Proof, folded};

/// Less than this and an approval is over before anybody can act on it.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

/// Why nobody could ever meet a rule, if so. Of a group nobody can tell who is in it: it counts as people enough.
pub fn nobody_can_satisfy(rule: &Rule, teams: &BTreeMap<String, Team>, now: Timestamp) -> Option<String> {
    if rule.valid_for < SHORTEST {
        return Some(format!("an approval would be over after {:#}, before anybody can act on it", rule.valid_for));
    }
    let people = people(rule, teams, now);
    let people: Vec<_> =
        people.iter().map(|(name, teams)| Person { name, teams: teams.iter().map(String::as_str).collect() }).collect();
    let missing: Vec<_> = missing(&rule.require, &people).iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return None;
    }
    let who = match rule.proof {
        Proof::Identity => "people",
        Proof::Signature => "people with keys",
        Proof::HardwareKey => "people with hardware keys",
    };
    Some(format!("too few {who} are listed: it lacks {}", missing.join(" and ")))
}

/// Everybody who could approve, with their teams.
fn people(rule: &Rule, teams: &BTreeMap<String, Team>, now: Timestamp) -> BTreeMap<String, BTreeSet<String>> {
    let mut people: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let most = rule.require.iter().map(|entry| usize::from(entry.count)).sum::<usize>();
    for (name, team) in teams.iter().filter(|(name, _)| rule.teams().any(|asked| asked == *name)) {
        let mut add = |person: String| {
            people.entry(person).or_default().insert(name.clone());
        };
        for member in &team.spec.members {
            let signs = team.keys.iter().any(|listed| {
                let kind = rule.proof < Proof::HardwareKey || listed.key.is_hardware();
                let over = listed.before.is_some_and(|before| before <= now);
                listed.user == member.user && kind && !over && !team.revokes(&listed.key)
            });
            if rule.proof == Proof::Identity || signs {
                add(folded(&member.user));
            }
        }
        if rule.proof == Proof::Identity {
            for group in &team.spec.groups {
                // The same people, whichever team names the group.
                (0..most).for_each(|number| add(format!("{group}\n{number}")));
            }
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
    const FILE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn why(approval: &Value, team: &Value) -> Option<String> {
        let spec = json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}], "approval": approval});
        let rule = Rule::read("r", &serde_json::from_value(spec).unwrap()).unwrap();
        let team = Team::read(serde_json::from_value(team.clone()).unwrap());
        nobody_can_satisfy(&rule, &[("sre".to_owned(), team)].into(), NOW)
    }

    #[rstest]
    #[case::a_member(json!({"require": [{"anyOf": ["sre"]}]}), json!({"members": [{"user": "a"}]}), true)]
    #[case::a_group_may_hold_many(json!({"require": [{"anyOf": ["sre"], "count": 3}]}), json!({"groups": ["g"]}), true)]
    #[case::two_of_one(json!({"require": [{"anyOf": ["sre"], "count": 2}]}), json!({"members": [{"user": "a"}]}), false)]
    #[case::one_in_two_spellings(json!({"require": [{"anyOf": ["sre"], "count": 2}]}),
        json!({"members": [{"user": "a"}, {"user": "A"}]}), false)]
    #[case::another_team(json!({"require": [{"anyOf": ["dba"]}]}), json!({"members": [{"user": "a"}]}), false)]
    #[case::a_group_signs_nothing(json!({"proof": "Signature", "require": [{"anyOf": ["sre"]}]}),
        json!({"groups": ["g"]}), false)]
    #[case::a_key(json!({"proof": "Signature", "require": [{"anyOf": ["sre"]}]}),
        json!({"members": [{"user": "a", "keys": [{"publicKey": FILE}]}]}), true)]
    #[case::a_key_that_is_over(json!({"proof": "Signature", "require": [{"anyOf": ["sre"]}]}),
        json!({"members": [{"user": "a", "keys": [{"publicKey": FILE, "validBefore": "2026-01-01T00:00:00Z"}]}]}), false)]
    #[case::no_hardware(json!({"proof": "HardwareKey", "require": [{"anyOf": ["sre"]}]}),
        json!({"members": [{"user": "a", "keys": [{"publicKey": FILE}]}]}), false)]
    #[case::no_time(json!({"validFor": "1s", "require": [{"anyOf": ["sre"]}]}), json!({"groups": ["g"]}), false)]
    fn a_rule_that_nobody_can_meet_is_noticed(#[case] approval: Value, #[case] team: Value, #[case] can: bool) {
        assert_eq!(why(&approval, &team).is_none(), can, "{:?}", why(&approval, &team));
    }
}
