//! Who may approve.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::api::Proof;
use crate::cli::case::Case;
use crate::guard::{Rule, Team};

/// The people who may approve.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct TeamLine {
    pub name: String,
    /// The strongest proof that a rule asks of it.
    pub proof: Proof,
    pub groups: Vec<String>,
    pub members: Vec<MemberLine>,
    /// Why it approves nothing.
    pub remark: Option<String>,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct MemberLine {
    pub user: String,
    pub keys: usize,
    pub hardware_keys: usize,
}

pub fn teams(rules: &[&Rule], case: &Case) -> Vec<TeamLine> {
    let mut seen = BTreeSet::new();
    let asked = rules.iter().flat_map(|rule| rule.teams()).filter(|team| seen.insert(*team));
    asked
        .map(|name| {
            let team = case.setting.rules().teams.get(name);
            let spec = team.map(|team| &team.spec);
            TeamLine {
                name: name.to_owned(),
                proof: case.proof(name),
                groups: spec.map(|spec| spec.groups.clone()).unwrap_or_default(),
                members: team.map(members).unwrap_or_default(),
                remark: team.is_none().then(|| "there is no such team".to_owned()),
            }
        })
        .collect()
}

fn members(team: &Team) -> Vec<MemberLine> {
    let members = team.spec.members.iter().map(|member| {
        let keys = || {
            team.keys.iter().filter(|listed| {
                listed.user == member.user && !team.spec.revoked_keys.contains(&listed.key.fingerprint())
            })
        };
        MemberLine {
            user: member.user.clone(),
            keys: keys().count(),
            hardware_keys: keys().filter(|listed| listed.key.is_hardware()).count(),
        }
    });
    members.collect()
}
