//! What is protected among what goes with a root: a root needs what every rule of it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::ephemeral::is_ephemeral;
use super::facts::Facts;
use super::needs::{Request, Subject};
use super::radius::{Going, Radius};
use super::rules::is_follower;
use super::{Rule, Rules};
use crate::actions::Owner;
use crate::api::{Action, Protects, kind_parts};

/// In the place of kinds, where not even those could be found out.
pub const EVERYTHING: &str = "*";

#[derive(Debug, Default)]
pub struct Carried<'r> {
    /// The rules that protect any of it, by name, with how much each protects.
    pub rules: BTreeMap<&'r str, (&'r Rule, usize)>,
    /// The UIDs of all that is protected.
    pub all: BTreeSet<String>,
    /// What an approval has to name. Pods, ReplicaSets and Jobs come and go, and so does what controllers make anew:
    /// it is counted, and not compared.
    pub named: BTreeSet<String>,
    /// Kinds that rules protect and of which nobody could tell what goes.
    pub unlisted: BTreeSet<String>,
    /// All kinds that could not be listed, by choice too.
    unseen: BTreeSet<String>,
    /// Those of them that people have to know of.
    pub worth_saying: BTreeSet<String>,
}

/// How an object that goes is protected.
pub fn protecting<'r>(going: &Going, rules: &[&'r Rule], facts: &Facts) -> Vec<&'r Rule> {
    let subject = &going.listed.subject;
    if is_ephemeral(subject, &going.listed.owners) {
        return Vec::new();
    }
    let selects = |rule: &Rule| {
        subject.namespace.is_empty()
            || facts.namespaces.get(&*subject.namespace).is_none_or(|labels| rule.selects_namespace(labels))
    };
    rules.iter().copied().filter(|rule| rule.covers(subject) && selects(rule)).collect()
}

pub fn carried<'r>(request: &Request, radius: &Radius, rules: &'r Rules, facts: &Facts) -> Carried<'r> {
    let guarding: Vec<&Rule> =
        rules.rules.values().flatten().filter(|rule| rule.actions.contains(&Action::Delete)).collect();
    let mut by_kind: BTreeMap<(&str, &str), Vec<&'r Rule>> = BTreeMap::new();
    let mut carried = Carried { unseen: radius.unlisted.keys().cloned().collect(), ..Carried::default() };
    for going in &radius.going {
        let subject = &going.listed.subject;
        let own = *subject.namespace == rules.own_namespace && !subject.namespace.is_empty();
        // What is being deleted already does not go because of this.
        if own || going.listed.terminating {
            continue;
        }
        let naming = by_kind.entry((&subject.group, &subject.resource)).or_insert_with(|| {
            guarding.iter().copied().filter(|rule| rule.names(&subject.group, &subject.resource)).collect()
        });
        let protecting = protecting(going, naming, facts);
        if protecting.is_empty() {
            continue;
        }
        carried.all.insert(subject.uid.to_string());
        if !comes_and_goes(subject, &going.listed.owners) {
            carried.named.insert(subject.uid.to_string());
        }
        for rule in protecting {
            carried.rules.entry(&rule.name).or_insert((rule, 0)).1 += 1;
        }
    }
    for (kind, reason) in &radius.unlisted {
        let naming: Vec<_> = guarding.iter().copied().filter(|rule| names(rule, kind)).collect();
        if naming.is_empty() {
            continue;
        }
        let by_choice = is_by_choice(reason);
        if !by_choice {
            carried.unlisted.insert(kind.clone());
        }
        if !by_choice || request.subject.is_namespace() || request.subject.defines().is_some() {
            carried.worth_saying.insert(kind.clone());
        }
        // There may be some, and what would protect them has a say. Whoever chose that Tagout may not look chose also that
        // single ones among them go unseen.
        let holds = |rule: &&Rule| {
            let all = holds_all_of_its_kind(request, rule, kind);
            if by_choice { all && !rule.chooses_objects() } else { all || may_hold(request, rule, facts) }
        };
        for rule in naming.into_iter().filter(holds) {
            carried.rules.entry(&rule.name).or_insert((rule, 0));
        }
    }
    carried
}

impl Radius {
    /// The namespaces of all that goes.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let all = self.going.iter().map(|going| going.listed.subject.namespace.to_string());
        all.filter(|namespace| !namespace.is_empty()).collect()
    }
}

impl Carried<'_> {
    /// Whether everything that a rule names could be counted.
    pub(super) fn sees_all_of(&self, rule: &Rule) -> bool {
        !self.unseen.iter().any(|kind| names(rule, kind))
    }

    /// What an approval has to say of it.
    pub fn protects(&self) -> Option<Protects> {
        let nothing = self.named.is_empty() && self.unlisted.is_empty();
        (!nothing).then(|| Protects::of(&self.named, self.unlisted.iter().cloned().collect()))
    }
}

/// Whether whoever installed Tagout chose that it may not look.
fn is_by_choice(reason: &str) -> bool {
    reason.starts_with("Tagout may not")
}

/// Whether everything of a kind goes with the root, if there is any.
fn holds_all_of_its_kind(request: &Request, rule: &Rule, kind: &str) -> bool {
    let root = &request.subject;
    if root.is_namespace() {
        rule.selects_namespace(&root.labels)
    } else {
        root.defines().is_some_and(|own| own == kind || kind == EVERYTHING)
    }
}

/// Whether something that a rule protects may go with the root, for all that is known.
fn may_hold(request: &Request, rule: &Rule, facts: &Facts) -> bool {
    let root = &request.subject;
    if root.is_namespace() || root.defines().is_some() {
        return false;
    }
    let home = facts.namespace.as_ref();
    root.namespace.is_empty() || home.is_none_or(|namespace| rule.selects_namespace(&namespace.labels))
}

/// Whether a rule names a kind like `deployments.apps`, or one of a group of which nothing else is known.
fn names(rule: &Rule, kind: &str) -> bool {
    let (resource, group) = kind_parts(kind);
    kind == EVERYTHING || rule.names(group, resource) || rule.kinds().any(|(group, _)| group == kind)
}

/// Whether controllers delete it and make it anew as daily work.
pub(super) fn comes_and_goes(subject: &Subject, owners: &[Owner]) -> bool {
    let short_lived =
        matches!((&*subject.group, &*subject.resource), ("", "pods") | ("apps", "replicasets") | ("batch", "jobs"));
    short_lived || (is_follower(subject) && owners.iter().any(|owner| owner.controller))
}
