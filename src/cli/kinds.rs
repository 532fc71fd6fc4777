use kube::Client;
use kube::core::ApiResource;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

use crate::api::{GROUP, kind_name};

/// The kinds that a cluster serves, in its own order of priority.
#[derive(Debug, Default)]
pub struct Kinds(Vec<Kind>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
    singular: String,
    short_names: Vec<String>,
    listable: bool,
}

impl Kind {
    /// `deployments.apps`, or `namespaces` for the core group.
    pub fn name(&self) -> String {
        kind_name(&self.resource.group, &self.resource.plural)
    }

    pub fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.plural == "namespaces"
    }

    pub fn is_rule(&self) -> bool {
        self.resource.group == GROUP && self.resource.plural == "protectionrules"
    }

    pub fn is_team(&self) -> bool {
        self.resource.group == GROUP && self.resource.plural == "approverteams"
    }

    /// Whether an object of this kind and name is one of Tagout's own definitions.
    pub fn is_own_definition(&self, name: &str) -> bool {
        self.resource.group == "apiextensions.k8s.io"
            && self.resource.plural == "customresourcedefinitions"
            && name.split_once('.').is_some_and(|(_, group)| group == GROUP)
    }

    fn has_name(&self, name: &str) -> bool {
        [&self.resource.plural, &self.singular, &self.resource.kind].iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn has_short_name(&self, name: &str) -> bool {
        self.short_names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl Kinds {
    pub async fn discover(client: &Client) -> kube::Result<Self> {
        let (core, groups) =
            tokio::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
        Ok(Self::read(&[core, groups]))
    }

    /// The kind a person means: by plural, singular or short name or as a Kind, alone or followed by `.GROUP` or
    /// `.VERSION.GROUP`. Of several the first, as with kubectl.
    pub fn find(&self, text: &str) -> Result<&Kind, String> {
        let (name, place) = text.split_once('.').unwrap_or((text, ""));
        let in_place = |kind: &Kind, exactly: bool| {
            let ApiResource { group, version, .. } = &kind.resource;
            place.is_empty()
                || group.eq_ignore_ascii_case(place)
                || format!("{version}.{group}").trim_end_matches('.').eq_ignore_ascii_case(place.trim_end_matches('.'))
                || (!exactly && !group.is_empty() && group.starts_with(&place.to_lowercase()))
        };
        let find = |exactly: bool, named: fn(&Kind, &str) -> bool| {
            self.0.iter().find(|kind| named(kind, name) && in_place(kind, exactly))
        };
        find(true, Kind::has_name)
            .or_else(|| find(true, Kind::has_short_name))
            .or_else(|| find(false, Kind::has_name))
            .or_else(|| find(false, Kind::has_short_name))
            .ok_or_else(|| self.unknown(text, name))
    }

    /// The kind that an object names, like `apps/v1` and `Deployment`.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.0.iter().find(|own| own.resource.kind == kind && own.resource.group == group)
    }

    /// The listable kinds that a rule means by a group and a plural name or `*`, each in its preferred version.
    pub fn named(&self, group: &str, plural: &str) -> Vec<&Kind> {
        let mut found: Vec<&Kind> = Vec::new();
        for kind in self.0.iter().filter(|kind| kind.listable && kind.resource.group == group) {
            let named = plural == "*" || kind.resource.plural == plural;
            if named && !found.iter().any(|other| other.resource.plural == kind.resource.plural) {
                found.push(kind);
            }
        }
        found
    }

    fn read(lists: &[APIGroupDiscoveryList]) -> Self {
        let mut kinds = Vec::new();
        for group in lists.iter().flat_map(|list| &list.items) {
            let name = group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default();
            for version in &group.versions {
                let number = version.version.as_deref().unwrap_or_default();
                kinds.extend(version.resources.iter().filter_map(|resource| kind(name, number, resource)));
            }
        }
        Self(kinds)
    }

    fn unknown(&self, text: &str, name: &str) -> String {
        let name = name.to_lowercase();
        let nearest = self
            .0
            .iter()
            .flat_map(|kind| [(&kind.resource.plural, kind), (&kind.singular, kind)])
            .map(|(known, kind)| (distance(known, &name), kind))
            .min_by_key(|(distance, _)| *distance);
        match nearest {
            Some((distance, kind)) if distance <= 2 => {
                format!("the cluster has no kind {text:?}; did you mean {}?", kind.name())
            }
            _ => format!("the cluster has no kind {text:?}; kubectl api-resources lists those it has"),
        }
    }
}

fn kind(group: &str, version: &str, discovered: &APIResourceDiscovery) -> Option<Kind> {
    let plural = discovered.resource.clone()?;
    let kind = discovered.response_kind.as_ref()?.kind.clone()?;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(Kind {
        resource: ApiResource { group: group.to_owned(), version: version.to_owned(), api_version, kind, plural },
        namespaced: discovered.scope.as_deref() == Some("Namespaced"),
        singular: discovered.singular_resource.clone().unwrap_or_default(),
        short_names: discovered.short_names.clone(),
        listable: discovered.verbs.iter().any(|verb| verb == "list"),
    })
}

/// How many letters two words are apart (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
impl Kinds {
    pub fn only(kinds: Vec<Kind>) -> Self {
        Self(kinds)
    }
}

#[cfg(test)]
impl Kind {
    pub fn namespaced(resource: ApiResource) -> Self {
        Self { resource, namespaced: true, singular: String::new(), short_names: Vec::new(), listable: true }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn cluster() -> Kinds {
        let resource = |plural: &str, singular: &str, kind: &str, short: &[&str], scope: &str| {
            json!({"resource": plural, "singularResource": singular, "responseKind": {"kind": kind}, "scope": scope,
                "shortNames": short, "verbs": ["get", "list", "patch"]})
        };
        let list = |items| serde_json::from_value(json!({ "items": items })).unwrap();
        let core = list(json!([{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
            resource("events", "event", "Event", &["ev"], "Namespaced"),
            resource("namespaces", "namespace", "Namespace", &["ns"], "Cluster"),
        ]}]}]));
        let groups = list(json!([
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "deployment", "Deployment", &["deploy"], "Namespaced")]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "event", "Event", &["ev"], "Namespaced")]}]},
            {"metadata": {"name": "db.example.com"}, "versions": [
                {"version": "v2", "resources": [resource("clusters", "cluster", "Cluster", &["ns"], "Namespaced")]},
                {"version": "v1", "resources": [resource("clusters", "cluster", "Cluster", &[], "Namespaced")]}]},
        ]));
        Kinds::read(&[core, groups])
    }

    #[rstest]
    #[case("deployments", "apps/v1", "deployments")]
    #[case("deployment", "apps/v1", "deployments")]
    #[case("Deployment", "apps/v1", "deployments")]
    #[case("DEPLOY", "apps/v1", "deployments")]
    #[case("deployments.apps", "apps/v1", "deployments")]
    #[case("deploy.apps", "apps/v1", "deployments")]
    #[case("deployments.v1.apps", "apps/v1", "deployments")]
    #[case("Deployment.v1.apps", "apps/v1", "deployments")]
    #[case("namespaces.v1.", "v1", "namespaces")]
    #[case("clusters.db", "db.example.com/v2", "clusters")]
    #[case("clusters.v1.db.example.com", "db.example.com/v1", "clusters")]
    fn a_kind_is_found_by_every_name_that_kubectl_knows(
        #[case] text: &str,
        #[case] api_version: &str,
        #[case] plural: &str,
    ) {
        let cluster = cluster();
        let resource = &cluster.find(text).unwrap().resource;
        assert_eq!((resource.api_version.as_str(), resource.plural.as_str()), (api_version, plural));
    }

    #[test]
    fn of_several_kinds_of_one_name_the_first_group_is_meant_and_another_can_be_named() {
        assert_eq!(cluster().find("events").unwrap().resource.api_version, "v1");
        assert_eq!(cluster().find("events.events.k8s.io").unwrap().resource.api_version, "events.k8s.io/v1");
        assert_eq!(cluster().find("ns").unwrap().name(), "namespaces");
    }

    #[test]
    fn an_unknown_kind_is_answered_with_what_to_type_instead() {
        assert!(cluster().find("deploymnet").unwrap_err().ends_with("did you mean deployments.apps?"));
        assert!(cluster().find("zebras").unwrap_err().contains("kubectl api-resources"));
        assert!(cluster().find("deployments.batch").is_err());
        assert!(cluster().find("").is_err());
    }

    #[test]
    fn a_star_in_a_rule_means_every_kind_of_the_group_once() {
        let cluster = cluster();
        let named = cluster.named("db.example.com", "*");
        assert_eq!(named.iter().map(|kind| kind.resource.version.as_str()).collect::<Vec<_>>(), ["v2"]);
        assert!(cluster.named("apps", "statefulsets").is_empty());
    }
}
