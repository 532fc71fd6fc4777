use std::collections::BTreeMap;

use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::api::kind_name;

/// A kind whose objects can be listed and deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) plural: String,
    /// Like `Deployment`.
    pub(super) title: String,
    /// Those that serve it, the preferred one first.
    pub(super) versions: Vec<String>,
    pub(super) namespaced: bool,
}

#[derive(Debug, Default)]
pub(super) struct Kinds {
    pub(super) all: Vec<Kind>,
    /// Groups whose own API server does not answer, so that nobody knows what they have.
    pub(super) silent: BTreeMap<String, String>,
}

/// Written all the time by the cluster itself, and nobody's loss.
const NOT_COUNTED: [&str; 3] = ["events", "events.events.k8s.io", "leases.coordination.k8s.io"];

/// Groups that only tell numbers. When their server does not answer, which is often, nothing is missed.
const ONLY_NUMBERS: [&str; 3] = ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];

impl Kind {
    /// `deployments.apps`, or `pods` for the core group.
    pub(super) fn name(&self) -> String {
        kind_name(&self.group, &self.plural)
    }

    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

impl Kinds {
    pub(super) async fn discover(client: &Client) -> Result<Self, String> {
        let found = tokio::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated());
        // An error may quote what it could not read.
        let (core, groups) = found.map_err(|_| "the API server did not say which kinds it serves".to_owned())?;
        let kinds = Self::read(&[core, groups]);
        if kinds.find("", "pods").is_none() {
            return Err("the API server did not say which kinds it serves".to_owned());
        }
        Ok(kinds)
    }

    pub(super) fn find(&self, group: &str, plural: &str) -> Option<&Kind> {
        self.all.iter().find(|kind| kind.is(group, plural))
    }

    fn read(lists: &[APIGroupDiscoveryList]) -> Self {
        let mut kinds = Self::default();
        for group in lists.iter().flat_map(|list| &list.items) {
            let name = group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default();
            if ONLY_NUMBERS.contains(&name) {
                continue;
            }
            let first = kinds.all.len();
            for version in &group.versions {
                if version.freshness.as_deref() == Some("Stale") {
                    kinds.silent.insert(name.to_owned(), "its API server does not answer".to_owned());
                    continue;
                }
                let number = version.version.as_deref().unwrap_or_default();
                for found in version.resources.iter().filter_map(|resource| kind(name, number, resource)) {
                    match kinds.all[first..].iter_mut().find(|known| known.plural == found.plural) {
                        Some(known) => known.versions.extend(found.versions),
                        None => kinds.all.push(found),
                    }
                }
            }
        }
        kinds
    }
}

fn kind(group: &str, version: &str, discovered: &APIResourceDiscovery) -> Option<Kind> {
    let plural = discovered.resource.clone()?;
    let can = |verb: &str| discovered.verbs.iter().any(|own| own == verb);
    if !can("list") || !can("delete") || NOT_COUNTED.contains(&kind_name(group, &plural).as_str()) {
        return None;
    }
    Some(Kind {
        group: group.to_owned(),
        plural,
        title: discovered.response_kind.as_ref()?.kind.clone()?,
        versions: vec![version.to_owned()],
        namespaced: discovered.scope.as_deref() == Some("Namespaced"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(plural: &str, verbs: &[&str]) -> Value {
        json!({"resource": plural, "responseKind": {"kind": plural}, "scope": "Namespaced", "verbs": verbs})
    }

    fn read(groups: &Value) -> Kinds {
        Kinds::read(&[serde_json::from_value(json!({ "items": groups })).unwrap()])
    }

    #[test]
    fn a_kind_is_found_once_with_every_version_that_lists_and_deletes_it() {
        let both = ["list", "delete"];
        let kinds = read(&json!([{"metadata": {"name": "example.com"}, "versions": [
            {"version": "v2", "resources": [resource("toys", &both), resource("reports", &["list"])]},
            {"version": "v1", "resources": [resource("toys", &both), resource("games", &both)]},
        ]}]));
        let found: Vec<_> = kinds.all.iter().map(|kind| (kind.name(), kind.versions.join(" "))).collect();
        let expected = [("toys.example.com", "v2 v1"), ("games.example.com", "v1")];
        assert_eq!(found, expected.map(|(name, versions)| (name.to_owned(), versions.to_owned())));
        assert!(kinds.silent.is_empty());
    }

    #[test]
    fn events_leases_and_numbers_are_left_out() {
        let both = ["list", "delete"];
        let group = |name: &str, plural: &str, freshness: &str| {
            let resources = [resource(plural, &both)];
            json!({"metadata": {"name": name},
                "versions": [{"version": "v1", "freshness": freshness, "resources": resources}]})
        };
        let kinds = read(&json!([
            group("", "events", "Current"),
            group("events.k8s.io", "events", "Current"),
            group("coordination.k8s.io", "leases", "Current"),
            group("metrics.k8s.io", "pods", "Stale"),
        ]));
        assert!(kinds.all.is_empty() && kinds.silent.is_empty());
    }

    #[test]
    fn a_group_whose_server_is_dead_is_named() {
        let kinds = read(&json!([{"metadata": {"name": "dead.example.com"}, "versions": [
            {"version": "v1", "freshness": "Stale", "resources": [resource("toys", &["list", "delete"])]}]}]));
        assert!(kinds.all.is_empty());
        assert_eq!(kinds.silent["dead.example.com"], "its API server does not answer");
    }
}
