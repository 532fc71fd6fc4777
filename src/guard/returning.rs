//! What returns because its deletion was approved, and not for good.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::evidence::Epoch;
use super::facts::Facts;
use super::judged::Past;
use super::needs::Request;
use super::{Rule, Rules};
use crate::api::{Action, Deletion, Mode, Statement};

/// The people who approved the deletion of what returns, if they satisfy the rule and did not say that it is for good.
///
/// What they said is held against the time at which they were believed: that it has expired since keeps nothing away.
pub(super) fn returns(request: &Request, rule: &Rule, rules: &Rules, facts: &Facts) -> Option<Vec<String>> {
    let deletion = facts.deletion.as_ref().filter(|_| request.action == Action::Recreate)?;
    let meant = |one: &&Statement| !one.delete_only;
    // They were checked against the epoch of that time when they were believed; who forges a record while nobody guards them
    // could as well make the object itself.
    let epoch = deletion
        .statements
        .iter()
        .find_map(|one| one.epoch.clone())
        .map_or_else(|| facts.epoch.clone(), Epoch::Current);
    let said = deletion.statements.iter().filter(meant).cloned().collect();
    let past =
        Past { said, about: &request.subject, contents: facts.contents.as_ref(), epoch: &epoch, at: deletion.at };
    past.people(rule, rules)
}

/// A rule that remembers one of these deletions, and would select a namespace with these labels no more.
pub fn forgotten_by<'d>(
    deletions: &[&'d Deletion],
    labels: &BTreeMap<String, String>,
    rules: &Rules,
    now: Timestamp,
) -> Option<&'d str> {
    let named = deletions.iter().flat_map(|deletion| deletion.rules.iter().map(|rule| (deletion.last, rule.as_str())));
    let forgets = |(last, name): &(Timestamp, &str)| {
        let rule = rules.rules.get(*name).and_then(|rule| rule.as_ref().ok());
        rule.is_some_and(|rule| {
            let asks = rule.mode == Mode::Enforce && rule.actions.contains(&Action::Recreate);
            asks && now.duration_since(*last) < rule.remembers && !rule.selects_namespace(labels)
        })
    };
    named.into_iter().find(forgets).map(|(_, name)| name)
}
