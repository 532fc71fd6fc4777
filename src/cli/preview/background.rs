//! What a log does not show: the cluster as it is now, or as it was written down.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::core::discovery::v2::APIGroupDiscoveryList;
use kube::core::{ApiResource, GroupVersion};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::captured::captured;
use super::kinds::Kinds;
use super::state::{Place, State, reduced, text};
use crate::api::{ProtectionRule, kind_name, kind_parts};
use crate::cli::cluster::plain;
use crate::entries;

/// Objects, and what could not be read of them.
#[derive(Debug, Default)]
pub(super) struct Background {
    pub(super) objects: Vec<Value>,
    pub(super) notes: Vec<String>,
}

const PAGE: u32 = 500;

/// Nobody's loss, and written all the time.
const LEFT_OUT: [&str; 4] =
    ["events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpointslices.discovery.k8s.io"];

impl Background {
    /// All that can be listed and deleted, as this user sees it. Of Secrets the metadata alone.
    pub(super) async fn live(client: &Client) -> anyhow::Result<Self> {
        let core = client.list_core_api_versions_aggregated().await.map_err(plain)?;
        let groups = client.list_api_groups_aggregated().await.map_err(plain)?;
        let mut found = Self::default();
        for resource in resources(&[core, groups]) {
            let kind = kind_name(&resource.group, &resource.plural);
            if LEFT_OUT.contains(&kind.as_str()) {
                continue;
            }
            if let Err(error) = found.list(client, &resource).await {
                found.notes.push(format!("{kind} could not be listed and are not known: {error}"));
            }
        }
        Ok(found)
    }

    async fn list(&mut self, client: &Client, resource: &ApiResource) -> anyhow::Result<()> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let (values, next) = if resource.group.is_empty() && resource.plural == "secrets" {
                let list = api.list_metadata(&page).await.map_err(plain)?;
                let next = list.metadata.continue_.clone();
                (list.items.into_iter().map(|one| json!({"metadata": one.metadata})).collect::<Vec<_>>(), next)
            } else {
                let list = api.list(&page).await.map_err(plain)?;
                let next = list.metadata.continue_.clone();
                (list.items.into_iter().filter_map(|one| serde_json::to_value(one).ok()).collect(), next)
            };
            for mut value in values {
                value["apiVersion"] = json!(resource.api_version);
                value["kind"] = json!(resource.kind);
                self.objects.push(reduced(value));
            }
            match next.filter(|next| !next.is_empty()) {
                Some(next) => page.continue_token = Some(next),
                None => return Ok(()),
            }
        }
    }

    pub(super) fn file(path: &Path) -> anyhow::Result<Self> {
        let wrong = || format!("cannot read {}", path.display());
        let text = fs::read_to_string(path).with_context(wrong)?;
        let list: Value = serde_json::from_str(&text)
            .or_else(|_| serde_saphyr::from_str(&text))
            .map_err(|_| anyhow!("{} is no list of objects; write one with --capture", path.display()))?;
        let items = list.get("items").and_then(Value::as_array);
        let items = items.with_context(|| format!("{} has no items; write one with --capture", path.display()))?;
        Ok(Self {
            objects: items.iter().filter(|item| item.is_object()).cloned().map(reduced).collect(),
            notes: Vec::new(),
        })
    }

    /// As `kubectl get -f` reads it, for nobody else's eyes, and without what no rule needs.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let items: Vec<Value> = self.objects.iter().cloned().map(captured).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            // A file that was there before may be anybody's to read.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(list.to_string().as_bytes())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts down what was there when the log began.
    pub(super) fn lay(&self, state: &mut State, before: Option<Timestamp>) {
        let definitions = |value: &&Value| text(value, "/kind") == "CustomResourceDefinition";
        let (first, rest): (Vec<&Value>, Vec<&Value>) = self.objects.iter().partition(definitions);
        for value in first.into_iter().chain(rest) {
            let created: Option<Timestamp> = text(value, "/metadata/creationTimestamp").parse().ok();
            let later = before.is_some_and(|before| created.is_none_or(|created| created >= before));
            let system = text(value, "/kind") == "Namespace" && text(value, "/metadata/name") == "kube-system";
            let rules = text(value, "/apiVersion").starts_with("tagout.dev/")
                && ["ApproverTeam", "ProtectionRule"].contains(&text(value, "/kind"));
            let name = text(value, "/metadata/name");
            let entries = text(value, "/kind") == "ValidatingWebhookConfiguration"
                && (name == entries::SHARED || entries::rule_name(name).is_some());
            if later && !system && !rules && !entries {
                continue;
            }
            if let Some(place) = place_of(value, &state.kinds) {
                state.put_reduced(place, value.clone(), true);
            }
        }
    }

    /// The rules as they are written, and the names of those that cannot be read.
    pub(super) fn rules(&self) -> (Vec<ProtectionRule>, Vec<String>) {
        let (mut rules, mut unreadable) = (Vec::new(), Vec::new());
        for value in self.objects.iter().filter(|value| text(value, "/kind") == "ProtectionRule") {
            match serde_json::from_value(value.clone()) {
                Ok(rule) => rules.push(rule),
                Err(_) => unreadable.push(text(value, "/metadata/name").to_owned()),
            }
        }
        (rules, unreadable)
    }

    /// The namespace that Tagout runs in, as its entries say.
    pub(super) fn own_namespace(&self) -> Option<String> {
        let shared = self.objects.iter().find(|value| {
            text(value, "/kind") == "ValidatingWebhookConfiguration" && text(value, "/metadata/name") == entries::SHARED
        })?;
        Some(text(shared, "/webhooks/0/clientConfig/service/namespace").to_owned())
            .filter(|namespace| !namespace.is_empty())
    }
}

/// Puts rules in force as if each enforced, and what the guard reads beside them.
pub(super) fn enforce(state: &mut State, rules: &[ProtectionRule], own_namespace: &str) {
    const CONFIGURATIONS: (&str, &str) = ("admissionregistration.k8s.io", "validatingwebhookconfigurations");
    let at = |name: &str| Place {
        group: CONFIGURATIONS.0.to_owned(),
        plural: CONFIGURATIONS.1.to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let found: Vec<Place> =
        state.list(CONFIGURATIONS.0, CONFIGURATIONS.1, None).map(|(place, _)| place.clone()).collect();
    let mut owners = std::collections::BTreeMap::new();
    for place in found {
        let Some(rule) = entries::rule_name(&place.name) else { continue };
        let held = state.get(&place).map(|held| Value::clone(&held.object)).unwrap_or_default();
        let origin = serde_json::from_value(held).ok().and_then(|found| entries::origin(&found));
        owners.insert(rule.to_owned(), origin.map(|origin| origin.owners).unwrap_or_default());
        state.remove(&place);
    }
    let place = entries::Place { namespace: own_namespace.to_owned(), ..entries::Place::default() };
    for rule in rules {
        let mut rule = rule.clone();
        rule.spec.mode = crate::api::Mode::Enforce;
        let name = rule.metadata.name.clone().unwrap_or_default();
        let owners = owners.remove(&name).unwrap_or_default();
        let compiled = entries::compile(&rule, &owners, &place);
        let name = entries::configuration_name(&name);
        state.put_reduced(at(&name), serde_json::to_value(compiled).unwrap_or_default(), false);
    }
    let known = state.get(&at(entries::SHARED)).map(|held| super::state::metadata(&held.object));
    let mut metadata = known.unwrap_or_default();
    metadata.entry("name").or_insert_with(|| json!(entries::SHARED));
    metadata.entry("uid").or_insert_with(|| json!("shared"));
    metadata.entry("generation").or_insert_with(|| json!(1));
    let (uid, generation) = (metadata["uid"].clone(), metadata["generation"].clone());
    let shared =
        json!({"kind": "ValidatingWebhookConfiguration", "metadata": metadata, "webhooks": entries::shared(&place)});
    state.put_reduced(at(entries::SHARED), shared, false);
    let status = |part: fn(&crate::api::ProtectionRuleStatus) -> Option<String>| {
        rules.iter().find_map(|rule| rule.status.as_ref().and_then(part))
    };
    let epoch = status(|status| status.epoch.clone());
    let record = json!({"epoch": epoch, "uid": uid, "generation": generation, "compiler": entries::COMPILER});
    remember(state, own_namespace, "tagout-epoch", "record", &record);
    let system = Place { plural: "namespaces".to_owned(), name: "kube-system".to_owned(), ..Place::default() };
    if state.get(&system).is_none() {
        let uid = status(|status| status.cluster.clone()).unwrap_or_default();
        state.put(system, json!({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}}), true);
    }
}

fn remember(state: &mut State, namespace: &str, name: &str, key: &str, value: &Value) {
    use base64ct::{Base64, Encoding};
    let encoded = Base64::encode_string(value.to_string().as_bytes());
    let place = Place {
        plural: "secrets".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Place::default()
    };
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}, "data": {key: encoded}});
    state.put_reduced(place, secret, false);
}

fn place_of(value: &Value, kinds: &Kinds) -> Option<Place> {
    let version: GroupVersion = text(value, "/apiVersion").parse().ok()?;
    let (plural, _) = kinds.plural(&version.group, text(value, "/kind"))?;
    Some(Place {
        group: version.group.clone(),
        plural: kind_parts(plural).0.to_owned(),
        namespace: text(value, "/metadata/namespace").to_owned(),
        name: text(value, "/metadata/name").to_owned(),
    })
}

/// The preferred version of each kind that can be listed and deleted.
fn resources(lists: &[APIGroupDiscoveryList]) -> Vec<ApiResource> {
    let mut all: Vec<ApiResource> = Vec::new();
    for group in lists.iter().flat_map(|list| &list.items) {
        let name = group.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
        for version in &group.versions {
            for found in &version.resources {
                let can = |verb: &str| found.verbs.iter().any(|own| own == verb);
                let known = |plural: &str| all.iter().any(|one| one.group == name && one.plural == plural);
                let (Some(plural), Some(kind)) =
                    (&found.resource, found.response_kind.as_ref().and_then(|kind| kind.kind.clone()))
                else {
                    continue;
                };
                if !can("list") || !can("delete") || known(plural) {
                    continue;
                }
                let version = version.version.clone().unwrap_or_default();
                let api_version = GroupVersion { group: name.clone(), version: version.clone() }.api_version();
                all.push(ApiResource { group: name.clone(), version, api_version, kind, plural: plural.clone() });
            }
        }
    }
    all
}
