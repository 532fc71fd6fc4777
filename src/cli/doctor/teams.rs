//! Whether there are people enough, and what they prove.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::finding::{
    Finding, Fix, GROUP_OF_UNKNOWN_SIZE, NOBODY_CAN_APPROVE, Severity, Stage, TEAM_MISSING, TEAM_TOO_SMALL,
    TEAM_WITHOUT_HARDWARE_KEYS,
};
use super::snapshot::Snapshot;
use crate::api::{Mode, Proof, folded};
use crate::guard::{Rule, Team, nobody_can_satisfy};

pub fn check(snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let rules = snapshot.setting.rules();
    let now = snapshot.now();
    let mut findings = Vec::new();
    let mut asked: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in snapshot.rules() {
        rule.teams().for_each(|team| asked.entry(team).or_default().push(rule));
        findings.extend(of_rule(rule, &rules.teams, now));
    }
    for (name, rules_asking) in asked {
        let object = format!("ApproverTeam/{name}");
        if snapshot.setting.protection.unreadable_teams.contains_key(name) {
            // Among what could not be read.
            continue;
        }
        let Some(team) = rules.teams.get(name) else {
            let says = format!("is asked by rule {}, and is not there", rules_asking[0].name);
            let fix =
                Fix::words("Make the team, or name another one in the rule.").run(&["kubectl", "get", "approverteams"]);
            findings.push(Finding::new(&TEAM_MISSING, Severity::Warning, object, says).fix(fix));
            continue;
        };
        let by_group = rules_asking.iter().any(|rule| rule.proof == Proof::Identity);
        if !team.spec.groups.is_empty() && by_group {
            let says = format!("approves by group: {}", team.spec.groups.join(", "));
            let fix = Fix::words("List people with keys as members instead, and guard the group where it is kept.")
                .kubectl("edit", "approverteam", &[], name);
            findings.push(Finding::new(&GROUP_OF_UNKNOWN_SIZE, stage.default_choice(), &object, says).fix(fix));
        }
        let hardware = team.keys.iter().any(|listed| listed.key.is_hardware() && is_good(listed.before, now));
        if !hardware {
            let demanded = rules_asking.iter().any(|rule| rule.proof == Proof::HardwareKey);
            let severity = if demanded { Severity::Warning } else { stage.default_choice() };
            let fix = Fix::words("Set up hardware keys: docs/signing.md.").kubectl("edit", "approverteam", &[], name);
            let says = "lists no hardware key that is good now";
            findings.push(Finding::new(&TEAM_WITHOUT_HARDWARE_KEYS, severity, &object, says).fix(fix));
        }
    }
    findings
}

fn is_good(before: Option<Timestamp>, now: Timestamp) -> bool {
    before.is_none_or(|before| before > now)
}

fn of_rule(rule: &Rule, teams: &BTreeMap<String, Team>, now: Timestamp) -> Option<Finding> {
    let object = format!("ProtectionRule/{}", rule.name);
    let enforces = rule.mode == Mode::Enforce;
    if let Some(why) = nobody_can_satisfy(rule, teams, now) {
        let severity = if enforces { Severity::Danger } else { Severity::Warning };
        let fix = Fix::words("Add people to its teams, with the keys that its proof asks for.").run(&[
            "kubectl",
            "get",
            "approverteams",
            "-o",
            "yaml",
        ]);
        let says = format!("nobody can approve what it covers: {why}");
        return Some(Finding::new(&NOBODY_CAN_APPROVE, severity, object, says).fix(fix));
    }
    if !rule.separate_from_requester {
        return None;
    }
    let lost: Vec<String> = people(rule, teams)
        .into_iter()
        .filter(|person| nobody_can_satisfy(rule, &without(teams, person), now).is_some())
        .collect();
    let first = lost.first()?;
    let more = if lost.len() > 1 { format!(" (or {} others)", lost.len() - 1) } else { String::new() };
    let says = format!("nobody can approve what {first}{more} asks for");
    let severity = if enforces { Severity::Warning } else { Severity::Note };
    let fix = Fix::words("Add one more person than the rule asks for; adding needs an approval.").run(&[
        "kubectl",
        "get",
        "approverteams",
        "-o",
        "yaml",
    ]);
    Some(Finding::new(&TEAM_TOO_SMALL, severity, object, says).fix(fix))
}

/// Everybody who is named in its teams.
fn people(rule: &Rule, teams: &BTreeMap<String, Team>) -> Vec<String> {
    let asked: BTreeSet<&str> = rule.teams().collect();
    let teams = teams.iter().filter(|(name, _)| asked.contains(name.as_str())).map(|(_, team)| team);
    let members = teams.flat_map(|team| team.spec.members.iter().map(|member| member.user.clone()));
    members.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The teams as they are when this person asks, under whatever name they share a key with.
fn without(teams: &BTreeMap<String, Team>, person: &str) -> BTreeMap<String, Team> {
    let mut names = BTreeSet::from([folded(person)]);
    loop {
        let all = || teams.values().flat_map(|team| &team.keys);
        let own: Vec<String> =
            all().filter(|one| names.contains(&folded(&one.user))).map(|one| one.key.fingerprint()).collect();
        let known = names.len();
        names.extend(all().filter(|one| own.contains(&one.key.fingerprint())).map(|one| folded(&one.user)));
        if names.len() == known {
            break;
        }
    }
    let left = |team: &Team| {
        let mut spec = team.spec.clone();
        spec.members.retain(|member| !names.contains(&folded(&member.user)));
        Team::read(spec)
    };
    teams.iter().map(|(name, team)| (name.clone(), left(team))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::statements::tests::NOW;

    const FILE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[rstest]
    #[case::one_person(json!({}), json!({"members": [{"user": "a"}]}), Some(&TEAM_TOO_SMALL))]
    #[case::two(json!({}), json!({"members": [{"user": "a"}, {"user": "b"}]}), None)]
    #[case::one_in_two_spellings(json!({}), json!({"members": [{"user": "a"}, {"user": "A"}]}), Some(&TEAM_TOO_SMALL))]
    #[case::one_with_two_names(json!({"proof": "Signature"}), json!({"members": [
        {"user": "a", "keys": [{"publicKey": FILE}]}, {"user": "b", "keys": [{"publicKey": FILE}]}]}), Some(&TEAM_TOO_SMALL))]
    #[case::alone_is_enough(json!({"separateFromRequester": false}), json!({"members": [{"user": "a"}]}), None)]
    #[case::a_group(json!({}), json!({"groups": ["g"]}), None)]
    #[case::nobody(json!({"proof": "HardwareKey"}), json!({"groups": ["g"]}), Some(&NOBODY_CAN_APPROVE))]
    fn people_have_to_be_left_whoever_asks(
        #[case] approval: Value,
        #[case] team: Value,
        #[case] known: Option<&'static super::super::finding::Known>,
    ) {
        let mut approval = approval;
        approval["require"] = json!([{"anyOf": ["sre"]}]);
        let spec = json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}], "approval": approval});
        let rule = Rule::read("r", &serde_json::from_value(spec).expect("a rule")).expect("a rule");
        let team = Team::read(serde_json::from_value(team).expect("a team"));
        let found = of_rule(&rule, &[("sre".to_owned(), team)].into(), NOW);
        assert_eq!(found.map(|finding| finding.known.id), known.map(|known| known.id));
    }
}
