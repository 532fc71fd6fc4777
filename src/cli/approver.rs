//! Who speaks in an approval, how they prove it, and for how long it is good.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use jiff::SignedDuration;

use super::case::{Case, Matter};
use super::cluster::Caller;
use crate::api::{Action, LONGEST_UNLOCK, MAX_VALID_FOR, Mode, Proof, SYSTEM_PREFIX, same_person};
use crate::guard::{Rule, Team};

/// In whose name a person wants to approve.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted<'o> {
    pub team: Option<&'o str>,
    pub break_glass: bool,
    /// What they want to prove by themselves.
    pub proof: Proof,
}

impl<'a> Case<'a> {
    /// The team in whose name the caller approves: what is missing and refused by comes first, and of that the teams
    /// for which the caller has the proof that is asked.
    pub fn team(&self, wanted: &Wanted) -> anyhow::Result<String> {
        let Caller { name, groups } = &self.setting.caller;
        ensure!(
            !name.is_empty() && !name.starts_with(SYSTEM_PREFIX),
            "you are {name}, an account of a machine, and only a person approves; use an account that is yours alone"
        );
        let teams = &self.setting.rules().teams;
        let asked = self.asked(wanted.break_glass);
        let is_in = |team: &str| teams.get(team).is_some_and(|team| team.has(name, groups));
        let object = &self.object;

        match wanted.team {
            Some(team) if !teams.contains_key(team) => {
                bail!("there is no team {team}; kubectl get approverteams lists them")
            }
            Some(team) if !asked.contains(&team) && wanted.break_glass => {
                bail!("no rule that covers {object} lets team {team} break glass; {}", listed(&asked))
            }
            Some(team) if !asked.contains(&team) => {
                bail!("no rule that covers {object} asks team {team}; they ask {}", asked.join(", "))
            }
            Some(team) if !is_in(team) => {
                bail!("you ({name}) are not in team {team}; kubectl get approverteam {team} -o yaml names its people")
            }
            Some(team) => Ok(team.to_owned()),
            None => {
                let own: Vec<&str> = asked.iter().copied().filter(|team| is_in(team)).collect();
                let proven = own.iter().find(|team| {
                    let proof = self.proof(team).max(wanted.proof);
                    proof == Proof::Identity || teams.get(**team).is_some_and(|team| has_key(team, name, proof))
                });
                match proven.or(own.first()) {
                    Some(team) => Ok((*team).to_owned()),
                    None if wanted.break_glass => {
                        bail!("you ({name}) are in no team that may break glass for {object}; {}", listed(&asked))
                    }
                    None => bail!(
                        "you ({name}) are in none of the teams that may approve this: {}; ask one of their people \
                         (kubectl get approverteams)",
                        asked.join(", ")
                    ),
                }
            }
        }
    }

    /// The teams that may speak, those that are still missing first.
    fn asked(&self, break_glass: bool) -> Vec<&'a str> {
        let decision = self.decide(&self.said, None);
        let mut seen = BTreeSet::new();
        if break_glass {
            let mut rules = decision.rules;
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.mode));
            let teams = rules.into_iter().flat_map(|rule| &rule.break_glass).map(String::as_str);
            return teams.filter(|team| seen.insert(*team)).collect();
        }
        let missing = decision.unmet.iter().flat_map(|unmet| &unmet.missing).flat_map(|missing| missing.any_of);
        let required = decision.rules.iter().flat_map(|rule| &rule.require).flat_map(|entry| &entry.any_of);
        missing.chain(required).map(String::as_str).filter(|team| seen.insert(*team)).collect()
    }

    /// The strongest proof that the rules which ask a team want. Rules that refuse nothing ask for nothing, unless
    /// there are no others.
    pub fn proof(&self, team: &str) -> Proof {
        let asking: Vec<&Rule> =
            self.decide(&[], None).rules.into_iter().filter(|rule| rule.teams().any(|own| own == team)).collect();
        let enforced = asking.iter().filter(|rule| rule.mode == Mode::Enforce).map(|rule| rule.proof).max();
        enforced.or_else(|| asking.iter().map(|rule| rule.proof).max()).unwrap_or_default()
    }

    /// How long the approval is good: a statement that one of the rules finds too long would be worth nothing to it.
    pub fn life(&self, covering: &[&Rule], wanted: Option<SignedDuration>) -> anyhow::Result<SignedDuration> {
        // Rules that refuse nothing shorten nothing, unless there are no others.
        let enforced = covering.iter().filter(|rule| rule.mode == Mode::Enforce).min_by_key(|rule| rule.valid_for);
        let Some(shortest) = enforced.or_else(|| covering.iter().min_by_key(|rule| rule.valid_for)) else {
            bail!("nothing to approve: no rule covers {}", self.object);
        };
        let is_change = matches!(self.matter, Matter::Change(_));
        let unlocks = self.matter.action() == Action::Unlock;
        match wanted {
            Some(life) if unlocks && life > LONGEST_UNLOCK => {
                bail!("--for {life:#} is too long: Tagout is unlocked for at most {LONGEST_UNLOCK:#}")
            }
            Some(life) if is_change && life > MAX_VALID_FOR => {
                bail!("--for {life:#} is too long: approvals are good for at most {MAX_VALID_FOR:#}")
            }
            Some(life) if !is_change && life > shortest.valid_for => bail!(
                "--for {life:#} is too long: rule {} accepts approvals of at most {:#}",
                shortest.name,
                shortest.valid_for
            ),
            Some(life) => Ok(life),
            None if unlocks => Ok(shortest.valid_for.min(LONGEST_UNLOCK)),
            None => Ok(shortest.valid_for),
        }
    }

    /// Nobody approves what only they may then do.
    pub fn check_requester(&self, covering: &[&Rule], requester: Option<&str>) -> anyhow::Result<()> {
        // Who brings something back destroys nothing.
        if self.matter.action() == Action::Recreate {
            return Ok(());
        }
        let own = requester.is_some_and(|requester| same_person(requester, &self.setting.caller.name));
        let separates = |rule: &&&Rule| rule.mode == Mode::Enforce && rule.separate_from_requester;
        match covering.iter().find(separates) {
            Some(rule) if own => bail!(
                "rule {} lets nobody approve their own request; leave --requester out, or name somebody else",
                rule.name
            ),
            _ => Ok(()),
        }
    }
}

/// Whether a team lists a key for a person that may be good for this proof.
pub fn has_key(team: &Team, user: &str, proof: Proof) -> bool {
    team.keys.iter().any(|listed| listed.user == user && (proof < Proof::HardwareKey || listed.key.is_hardware()))
}

fn listed(teams: &[&str]) -> String {
    if teams.is_empty() { "no rule names one".to_owned() } else { format!("the rules name {}", teams.join(", ")) }
}
