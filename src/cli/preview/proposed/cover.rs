//! Which objects a rule covers: those about whose deletion the API server would ask, by that rule.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::super::asked::Asked;
use super::super::entries::{Conditions, Entry, Met};
use super::super::events::User;
use super::super::state::{Place, State, text};
use crate::api::{Action, Mode, ProtectionRule, ProtectionRuleSpec, kind_name, kind_parts};
use crate::entries;
use crate::guard::{Rule, Subject};

/// What a rule makes of the objects that it names.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli::preview) struct Cover {
    pub(super) objects: BTreeSet<Object>,
    /// Made anew by living controllers, and left to them.
    pub(super) followers: u64,
    /// Why it cannot be told of how many.
    pub(super) untold: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Object {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Cover {
    pub(super) fn of(name: &str, spec: &ProtectionRuleSpec, state: &State, own_namespace: &str) -> Self {
        // Whatever it guards against, it covers the same.
        let mut asking = ProtectionRule::new(name, spec.clone());
        asking.spec.mode = Mode::Enforce;
        asking.spec.actions = vec![Action::Delete];
        let place = entries::Place { namespace: own_namespace.to_owned(), ..entries::Place::default() };
        let compiled = entries::compile(&asking, &[], &place).webhooks.unwrap_or_default();
        let deletes: Vec<Entry> =
            compiled.into_iter().filter_map(Entry::read).filter(|entry| entry.name.starts_with("delete.")).collect();
        let rule = Rule::read(name, spec).ok();
        let (mut cover, mut conditions) = (Self::default(), Conditions::new());
        for (place, held) in state.all() {
            for entry in deletes.iter().filter(|entry| entry.is_about("DELETE", &place.group, &place.plural, "")) {
                let asked = deletion(place, &held.object);
                match entry.met(&asked, state, &mut conditions) {
                    Met::No => {}
                    Met::Yes if is_left(rule.as_ref(), place, &held.object, state) => cover.followers += 1,
                    Met::Yes => drop(cover.objects.insert(Object {
                        kind: kind_name(&place.group, &place.plural),
                        namespace: place.namespace.clone(),
                        name: place.name.clone(),
                    })),
                    Met::Untold(why) => *cover.untold.entry(why).or_default() += 1,
                }
            }
        }
        cover
    }

    /// How many of each kind in each namespace.
    pub(super) fn counts(&self) -> BTreeMap<(&str, &str), u64> {
        counts(&self.objects)
    }
}

pub(super) fn counts(objects: &BTreeSet<Object>) -> BTreeMap<(&str, &str), u64> {
    let mut counts = BTreeMap::new();
    for object in objects {
        *counts.entry((object.kind.as_str(), object.namespace.as_str())).or_default() += 1;
    }
    counts
}

/// What is covered only afterwards, and what only before.
pub(super) fn differences(before: &Cover, after: &Cover) -> (BTreeSet<Object>, BTreeSet<Object>) {
    let without = |one: &Cover, other: &Cover| one.objects.difference(&other.objects).cloned().collect();
    (without(after, before), without(before, after))
}

fn deletion(place: &Place, object: &Value) -> Asked {
    Asked {
        id: String::new(),
        operation: "DELETE",
        place: place.clone(),
        version: String::new(),
        subresource: String::new(),
        title: text(object, "/kind").to_owned(),
        object: None,
        old: Some(object.clone()),
        user: User::default(),
        dry_run: false,
        field_manager: String::new(),
        assumed: true,
    }
}

/// Whether its controller lives, and the rule leaves it to that.
fn is_left(rule: Option<&Rule>, place: &Place, object: &Value, state: &State) -> bool {
    let subject = Subject {
        group: (&place.group).into(),
        resource: (&place.plural).into(),
        namespace: (&place.namespace).into(),
        name: (&place.name).into(),
        uid: "".into(),
        created: None,
        labels: std::borrow::Cow::Owned(BTreeMap::new()),
        annotations: Vec::new(),
        statements: None,
    };
    if !rule.is_some_and(|rule| rule.lets_follow(&subject)) {
        return false;
    }
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    owners.into_iter().filter(|owner| owner["controller"] == true).any(|owner| {
        let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let Some((plural, kind)) = state.kinds.plural(group, text(owner, "/kind")) else { return false };
        let owning = Place {
            group: group.to_owned(),
            plural: kind_parts(plural).0.to_owned(),
            namespace: if kind.namespaced { place.namespace.clone() } else { String::new() },
            name: text(owner, "/name").to_owned(),
        };
        state.get(&owning).is_some_and(|held| text(&held.object, "/metadata/uid") == text(owner, "/uid"))
    })
}
