//! The kinds of living owners found above what a rule protects: deleting the operator's object is deleting the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersion, GroupVersionKind};
use kube::{Api, Client, ResourceExt, discovery};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Registrar;
use super::register::Pass;
use crate::actions::unprotect::FOLLOWERS;
use crate::api::ProtectionRule;
use crate::cluster::within;
use crate::entries::{self, Kind};
use crate::guard::Rule;

/// Kinds of owners change when an operator is installed. Until one is found, what it owns is kept from the garbage
/// collector all the same.
const BETWEEN_LOOKS: Duration = Duration::from_mins(5);

/// A page of objects without contents.
const PAGE: u32 = 500;
/// For one request: a server that hangs must not keep what others have from being found.
const PATIENCE: Duration = Duration::from_secs(20);
/// Every search reads all objects of some kinds, and whoever writes rules starts one.
const PAUSE: Duration = Duration::from_secs(1);

/// What comes and goes as daily work is never asked about for what it owns: whoever may write owner references could
/// otherwise have everything of such a kind wait for Tagout.
const NEVER: [(&str, &str); 22] = [
    ("", "configmaps"),
    ("", "endpoints"),
    ("", "events"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apps", "controllerrevisions"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
    ("networking.k8s.io", "ipaddresses"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
];

/// What was found, by the name of the rule.
pub(super) type Found = HashMap<String, BTreeSet<Kind>>;

/// Searches beside the registrar, which waits for nothing of it: in a large cluster it takes as long as it takes.
struct Search {
    client: Client,
    looked: HashMap<String, Looked>,
    found: watch::Sender<Found>,
}

/// When a version of a rule was searched for.
struct Looked {
    version: (String, i64),
    at: Instant,
}

/// Begins to search for the owners of what rules protect, of those that are sent there.
pub(super) fn search(client: Client) -> (watch::Sender<Vec<ProtectionRule>>, watch::Receiver<Found>) {
    let (rules, wanted) = watch::channel(Vec::new());
    let (found, known) = watch::channel(Found::new());
    tokio::spawn(Search { client, looked: HashMap::new(), found }.run(wanted));
    (rules, known)
}

impl Registrar {
    /// What was found once stays known: it is written on the rule's configuration.
    pub(super) fn owner_kinds(&self, pass: &Pass, rule: &ProtectionRule) -> Vec<Kind> {
        let name = rule.name_any();
        let found = pass.found.get(&entries::configuration_name(&name)).and_then(entries::origin);
        let mut kinds: BTreeSet<Kind> = found.into_iter().flat_map(|origin| origin.owners).collect();
        kinds.extend(self.owners.borrow().get(&name).into_iter().flatten().cloned());
        kinds.retain(|kind| !names(rule, kind));
        kinds.into_iter().collect()
    }

    /// For the status of a rule: what it makes the API server ask about, beside what it names.
    pub(super) fn also_asks_about(&self, pass: &Pass, rule: &ProtectionRule) -> Vec<String> {
        entries::also_asks_about(&rule.spec, &self.owner_kinds(pass, rule))
    }
}

impl Search {
    async fn run(mut self, mut wanted: watch::Receiver<Vec<ProtectionRule>>) {
        loop {
            let rules = wanted.borrow_and_update().clone();
            self.look_for(&rules).await;
            tokio::time::sleep(PAUSE).await;
            let oldest = self.looked.values().map(|looked| looked.at).min().unwrap_or_else(Instant::now);
            if let Ok(Err(_)) = tokio::time::timeout_at(oldest + BETWEEN_LOOKS, wanted.changed()).await {
                return;
            }
        }
    }

    /// Looks for the owners of what new rules protect, and of all rules where it is time.
    async fn look_for(&mut self, rules: &[ProtectionRule]) {
        self.looked.retain(|name, _| rules.iter().any(|rule| rule.name_any() == *name));
        let is_due = |rule: &&ProtectionRule| {
            let looked = self.looked.get(&rule.name_any());
            looked.is_none_or(|looked| looked.version != version(rule) || looked.at.elapsed() >= BETWEEN_LOOKS)
        };
        let due: Vec<&ProtectionRule> = rules.iter().filter(is_due).collect();
        let at = Instant::now();
        let read: Vec<(String, Rule)> = due
            .iter()
            .filter_map(|rule| Some((rule.name_any(), Rule::read(&rule.name_any(), &rule.spec).ok()?)))
            .collect();
        let found = if read.is_empty() { Some(Found::new()) } else { self.look(&read).await };
        let Some(found) = found else { return };
        self.looked.extend(due.into_iter().map(|rule| (rule.name_any(), Looked { version: version(rule), at })));
        self.found.send_if_modified(|known| {
            let before = known.clone();
            known.extend(found);
            known.retain(|name, _| self.looked.contains_key(name));
            *known != before
        });
    }

    /// Each kind is listed once, however many rules name it. What cannot be listed is left out: then its owners are not
    /// asked about, and the collector is.
    async fn look(&self, rules: &[(String, Rule)]) -> Option<Found> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespaces = within(PATIENCE, namespaces.list_metadata(&ListParams::default())).await.ok()?;
        let mut owners: BTreeMap<(String, String), BTreeSet<usize>> = BTreeMap::new();
        for (resource, naming) in self.kinds(rules).await {
            let mut selecting: HashMap<String, Vec<usize>> = HashMap::new();
            for namespace in &namespaces {
                let by = naming.iter().copied().filter(|rule| rules[*rule].1.selects_namespace(namespace.labels()));
                selecting.insert(namespace.name_any(), by.collect());
            }
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let mut page = ListParams::default().limit(PAGE);
            while let Ok(list) = within(PATIENCE, api.list_metadata(&page)).await {
                for object in &list.items {
                    let covering = match object.namespace() {
                        None => naming.as_slice(),
                        Some(home) => selecting.get(&home).map_or(&[][..], Vec::as_slice),
                    };
                    for owner in object.owner_references().iter().filter(|_| !covering.is_empty()) {
                        let kind = (owner.api_version.clone(), owner.kind.clone());
                        owners.entry(kind).or_default().extend(covering);
                    }
                }
                let Some(next) = list.metadata.continue_.filter(|next| !next.is_empty()) else { break };
                page.continue_token = Some(next);
            }
        }
        let mut found: Found = rules.iter().map(|(name, _)| (name.clone(), BTreeSet::new())).collect();
        for ((api_version, kind), below) in owners {
            let Ok(version) = api_version.parse::<GroupVersion>() else { continue };
            let kind = GroupVersionKind::gvk(&version.group, &version.version, &kind);
            let Ok((kind, _)) = within(PATIENCE, discovery::pinned_kind(&self.client, &kind)).await else { continue };
            if NEVER.contains(&(&*kind.group, &*kind.plural)) {
                continue;
            }
            for rule in below {
                let kind = Kind { group: kind.group.clone(), resource: kind.plural.clone() };
                found.entry(rules[rule].0.clone()).or_default().insert(kind);
            }
        }
        Some(found)
    }

    /// The kinds that rules name and that do not follow by themselves, each with the rules that name it.
    async fn kinds(&self, rules: &[(String, Rule)]) -> Vec<(ApiResource, Vec<usize>)> {
        let mut named: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
        for (number, (_, rule)) in rules.iter().enumerate() {
            for (group, plural) in rule.kinds().filter(|kind| !FOLLOWERS.contains(kind)) {
                named.entry(group).or_default().push((plural, number));
            }
        }
        let mut kinds = Vec::new();
        for (group, plurals) in named {
            let Ok(group) = within(PATIENCE, discovery::oneshot::group(&self.client, group)).await else { continue };
            for (resource, _) in group.recommended_resources() {
                let naming = plurals.iter().filter(|(plural, _)| *plural == "*" || *plural == resource.plural);
                let naming: BTreeSet<usize> = naming.map(|(_, rule)| *rule).collect();
                if !naming.is_empty() {
                    kinds.push((resource, naming.into_iter().collect()));
                }
            }
        }
        kinds
    }
}

fn version(rule: &ProtectionRule) -> (String, i64) {
    (rule.uid().unwrap_or_default(), rule.metadata.generation.unwrap_or_default())
}

/// What the rule names is asked about already.
fn names(rule: &ProtectionRule, kind: &Kind) -> bool {
    rule.spec.resources.iter().any(|named| {
        named.api_groups.contains(&kind.group)
            && named.resources.iter().any(|plural| *plural == kind.resource || plural == "*")
    })
}
