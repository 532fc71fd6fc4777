//! Writes down which rules somebody can meet: from then on they are loosened by approval only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::Registrar;
use super::register::Pass;
use crate::api::ProtectionRule;
use crate::cluster::{Settled, SettledRules, read_settled, write_settled};
use crate::entries;
use crate::guard::{Rule, Team, nobody_can_satisfy, spec_hash};

/// The teams there are.
pub(super) struct Teams {
    pub(super) read: BTreeMap<String, Team>,
    /// The UID of their definition.
    pub(super) definition: String,
}

impl Registrar {
    pub(super) async fn settle<'r>(
        &self,
        pass: &Pass,
        rules: impl IntoIterator<Item = &'r DeserializeGuard<ProtectionRule>>,
        teams: &Teams,
    ) -> kube::Result<()> {
        let namespace = &self.service.namespace;
        let (written, version) = read_settled(&self.client, namespace).await?;
        // Taken away or damaged while rules were in force: those were settled, as far as anybody can tell.
        let before = written
            .clone()
            .unwrap_or_else(|| in_force(pass).map(|rule| (rule, Settled::default())).collect::<SettledRules>());
        let mut after = SettledRules::new();
        // One whose rule is gone and whose entry still refuses stays as it was.
        for rule in in_force(pass) {
            if let Some(settled) = before.get(&rule) {
                after.insert(rule, settled.clone());
            }
        }
        for rule in rules.into_iter().filter_map(|rule| rule.0.as_ref().ok()) {
            let name = rule.name_any();
            let settled = match Rule::read(&name, &rule.spec) {
                Ok(read) => settled(before.get(&name).cloned(), &read, teams),
                Err(_) => before.get(&name).cloned(),
            };
            after.extend(settled.map(|settled| (name, settled)));
        }
        if written.as_ref() == Some(&after) {
            return Ok(());
        }
        write_settled(&self.client, namespace, &after, version).await
    }
}

fn in_force(pass: &Pass) -> impl Iterator<Item = String> {
    let ours = pass.found.iter().filter(|(_, found)| entries::origin(found).is_some());
    ours.filter_map(|(name, _)| entries::rule_name(name).map(str::to_owned))
}

/// The teams by which somebody could meet the rule, now or at one time.
///
/// A team that was deleted is forgotten: it was free to go, and is not free to come back. One that was lost with its
/// definition is remembered until all are there again.
fn settled(before: Option<Settled>, rule: &Rule, teams: &Teams) -> Option<Settled> {
    // While a team that it names is still to come, whoever sets it up is not done.
    let complete = || rule.teams().all(|team| teams.read.contains_key(team));
    if before.is_none() && (!complete() || nobody_can_satisfy(rule, &teams.read, Timestamp::now()).is_some()) {
        return None;
    }
    let mut settled = before.unwrap_or_default();
    let there: BTreeMap<String, String> =
        rule.teams().filter_map(|team| Some((team.to_owned(), spec_hash(&teams.read.get(team)?.spec)))).collect();
    let all_there = settled.teams.keys().all(|team| there.contains_key(team));
    if settled.definition == teams.definition || all_there {
        settled.definition.clone_from(&teams.definition);
        settled.teams = there;
    } else {
        settled.teams.extend(there);
    }
    Some(settled)
}
