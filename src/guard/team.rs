use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::proof::Key;
use super::{Rule, Rules};
use crate::api::{ApproverTeamSpec, folded, same_person};

/// A team in the form in which it is asked.
#[derive(Debug, Clone)]
pub struct Team {
    pub spec: ApproverTeamSpec,
    /// The keys that can be used; what cannot be is left out here and told by [`faults`].
    pub keys: Vec<ListedKey>,
}

/// A key, and the person it is listed for.
#[derive(Debug, Clone)]
pub struct ListedKey {
    pub user: String,
    pub key: Key,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

impl Team {
    pub fn read(spec: ApproverTeamSpec) -> Self {
        let keys = spec.members.iter().flat_map(|member| {
            member.keys.iter().filter_map(|listed| {
                Some(ListedKey {
                    user: member.user.clone(),
                    key: Key::read(&listed.public_key).ok()?,
                    after: listed.valid_after.as_ref().map(|time| time.0),
                    before: listed.valid_before.as_ref().map(|time| time.0),
                })
            })
        });
        Self { keys: keys.collect(), spec }
    }

    pub fn has(&self, user: &str, groups: &[impl AsRef<str>]) -> bool {
        self.spec.has(user, groups)
    }

    pub(super) fn revokes(&self, key: &Key) -> bool {
        self.spec.revoked_keys.contains(&key.fingerprint())
    }
}

/// What is wrong with the keys that a team lists and did not list before, in the words of whoever has to mend it.
pub fn faults(
    name: &str,
    spec: &ApproverTeamSpec,
    before: Option<&ApproverTeamSpec>,
    teams: &BTreeMap<String, Team>,
) -> Vec<String> {
    let known = |user: &str, line: &str| {
        let members = before.iter().flat_map(|spec| &spec.members);
        members.filter(|member| member.user == user).flat_map(|member| &member.keys).any(|key| key.public_key == line)
    };
    let mut faults = Vec::new();
    for (number, member) in spec.members.iter().enumerate() {
        for (place, listed) in member.keys.iter().enumerate().filter(|(_, key)| !known(&member.user, &key.public_key)) {
            let at = format!("members[{number}].keys[{place}]");
            match Key::read(&listed.public_key) {
                Err(fault) => faults.push(format!("{at}: {fault}")),
                Ok(key) => {
                    let wrong = listing_faults(&key, &member.user, name, spec, teams);
                    faults.extend(wrong.into_iter().map(|fault| format!("{at}: {fault}")));
                }
            }
        }
    }
    faults
}

fn listing_faults(
    key: &Key,
    user: &str,
    name: &str,
    spec: &ApproverTeamSpec,
    teams: &BTreeMap<String, Team>,
) -> Vec<String> {
    let own = Team::read(spec.clone());
    let others = teams.iter().filter(|(team, _)| *team != name).map(|(team, read)| (team.as_str(), read));
    let mut found = Vec::new();
    if own.revokes(key) {
        found.push(format!("{key} is in revokedKeys too; make a new key, and take this one out"));
    }
    for (team, read) in others.chain([(name, &own)]) {
        let elsewhere =
            read.keys.iter().find(|listed| listed.key.point() == key.point() && !same_person(&listed.user, user));
        if let Some(other) = elsewhere {
            found.push(format!("{key} is {:?}'s in team {team} already; a key is one person's", other.user));
        }
    }
    found
}

/// The people behind keys.
pub(super) struct People<'t>(Vec<&'t Team>);

impl<'t> People<'t> {
    /// As the teams tell that some rule asks: anybody may make others, and list anybody's keys in them.
    pub(super) fn of(rules: &'t Rules) -> Self {
        let asked: BTreeSet<&str> = rules.rules.values().flatten().flat_map(Rule::teams).collect();
        Self(rules.teams.iter().filter(|(name, _)| asked.contains(name.as_str())).map(|(_, team)| team).collect())
    }

    /// All names of the person who goes by this one and holds this key, folded: from name to key and from key to name,
    /// as far as that leads.
    pub(super) fn names(&self, name: &str, key: Option<&Key>) -> Vec<String> {
        let mut names = BTreeSet::from([folded(name)]);
        let mut keys: BTreeSet<&[u8]> = key.into_iter().map(Key::point).collect();
        loop {
            let known = (names.len(), keys.len());
            for listed in self.0.iter().flat_map(|team| &team.keys) {
                let user = folded(&listed.user);
                if names.contains(&user) || keys.contains(listed.key.point()) {
                    names.insert(user);
                    keys.insert(listed.key.point());
                }
            }
            if known == (names.len(), keys.len()) {
                return names.into_iter().collect();
            }
        }
    }
}

#[cfg(test)]
#[path = "team_tests.rs"]
mod tests;
