//! The kinds of living owners found above what a rule protects: deleting the operator's object is deleting the database.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{DynamicObject, GroupVersion, GroupVersionKind, PartialObjectMeta};
use kube::{Api, ResourceExt, discovery};

use super::Registrar;
use super::register::Pass;
use crate::actions::unprotect::FOLLOWERS;
use crate::api::ProtectionRule;
use crate::entries::{self, Kind};
use crate::guard::Rule;

/// Kinds of owners change when an operator is installed. Until one is found, what it owns is kept from the garbage
/// collector all the same.
const BETWEEN_LOOKS: Duration = Duration::from_mins(5);

/// A page of objects without contents.
const PAGE: u32 = 500;

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

/// What was found for a version of a rule.
pub(super) struct Looked {
    version: (String, i64),
    at: Instant,
    found: BTreeSet<Kind>,
}

impl Registrar {
    /// What was found once stays known: it is written on the rule's configuration.
    pub(super) fn owner_kinds(&self, pass: &Pass, rule: &ProtectionRule) -> Vec<Kind> {
        let name = rule.name_any();
        let found = pass.found.get(&entries::configuration_name(&name)).and_then(entries::origin);
        let mut kinds: BTreeSet<Kind> = found.into_iter().flat_map(|origin| origin.owners).collect();
        kinds.extend(self.owners.get(&name).into_iter().flat_map(|looked| looked.found.iter().cloned()));
        kinds.retain(|kind| !names(rule, kind));
        kinds.into_iter().collect()
    }

    /// After the rules are in force, so that none waits for it.
    pub(super) async fn look_for_owners(&mut self, rule: &ProtectionRule) {
        let name = rule.name_any();
        let version = (rule.uid().unwrap_or_default(), rule.metadata.generation.unwrap_or_default());
        let looked = self.owners.get(&name);
        if looked.is_some_and(|looked| looked.version == version && looked.at.elapsed() < BETWEEN_LOOKS) {
            return;
        }
        let Ok(read) = Rule::read(&name, &rule.spec) else { return };
        let found = self.look(&read).await;
        if looked.map_or(!found.is_empty(), |looked| looked.found != found) {
            self.look_again = Some(Duration::ZERO);
        }
        self.owners.insert(name, Looked { version, at: Instant::now(), found });
    }

    /// For the status of a rule: what it makes the API server ask about, beside what it names.
    pub(super) fn also_asks_about(&self, pass: &Pass, rule: &ProtectionRule) -> Vec<String> {
        entries::also_asks_about(&rule.spec, &self.owner_kinds(pass, rule))
    }

    /// What cannot be listed is left out: then its owners are not asked about, and the collector is.
    async fn look(&self, rule: &Rule) -> BTreeSet<Kind> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let Ok(namespaces) = namespaces.list_metadata(&ListParams::default()).await else { return BTreeSet::new() };
        let selected: BTreeSet<String> = namespaces
            .iter()
            .filter(|namespace| rule.selects_namespace(namespace.labels()))
            .map(ResourceExt::name_any)
            .collect();
        let mut owners: BTreeSet<(String, String)> = BTreeSet::new();
        for (group, plural) in rule.kinds().filter(|kind| !FOLLOWERS.contains(kind)) {
            let Ok(group) = discovery::oneshot::group(&self.client, group).await else { continue };
            let resources = group.recommended_resources().into_iter().map(|(resource, _)| resource);
            for resource in resources.filter(|resource| plural == "*" || resource.plural == plural) {
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                let mut page = ListParams::default().limit(PAGE);
                while let Ok(list) = api.list_metadata(&page).await {
                    let home = |one: &PartialObjectMeta<DynamicObject>| one.namespace();
                    let covered = list.items.iter().filter(|one| home(one).is_none_or(|home| selected.contains(&home)));
                    let named = covered.flat_map(ResourceExt::owner_references);
                    owners.extend(named.map(|owner| (owner.api_version.clone(), owner.kind.clone())));
                    let Some(next) = list.metadata.continue_.filter(|next| !next.is_empty()) else { break };
                    page.continue_token = Some(next);
                }
            }
        }
        let mut kinds = BTreeSet::new();
        for (api_version, kind) in owners {
            let Ok(version) = api_version.parse::<GroupVersion>() else { continue };
            let kind = GroupVersionKind::gvk(&version.group, &version.version, &kind);
            let Ok((found, _)) = discovery::pinned_kind(&self.client, &kind).await else { continue };
            if !NEVER.contains(&(&*found.group, &*found.plural)) {
                kinds.insert(Kind { group: found.group, resource: found.plural });
            }
        }
        kinds
    }
}

/// What the rule names is asked about already.
fn names(rule: &ProtectionRule, kind: &Kind) -> bool {
    rule.spec.resources.iter().any(|named| {
        named.api_groups.contains(&kind.group)
            && named.resources.iter().any(|plural| *plural == kind.resource || plural == "*")
    })
}
