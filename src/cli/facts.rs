//! What the webhook would look up before it decides about an object, looked up by the person who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use kube::api::ListParams;

use super::cluster::Setting;
use super::connection::Cluster;
use super::kinds::Kind;
use super::object::LiveObject;
use crate::cluster;
use crate::guard::{NamespaceFact, Owner, OwnerFact, Radius, Subject};

/// A person waits longer than the API server does.
const BUDGET: Duration = Duration::from_secs(20);

/// More namespaces than these are read at once.
const ONE_BY_ONE: usize = 10;

/// Everything that goes with an object.
pub async fn radius(at: &Cluster, object: &LiveObject) -> Radius {
    cluster::radius(&at.client, &object.subject(), BUDGET).await
}

/// The labels of namespaces, as far as the caller may read them. Of the others every rule may be about what is in them.
pub async fn labels(
    client: &Client,
    setting: &Setting,
    mut names: BTreeSet<String>,
    known: &[&LiveObject],
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for namespace in known.iter().filter(|object| object.kind.is_namespace()) {
        if names.remove(namespace.name()) {
            labels.insert(namespace.name().to_owned(), namespace.labels().into_owned());
        }
    }
    let Ok(kind) = setting.kinds.find("namespaces.v1.") else { return labels };
    if names.len() > ONE_BY_ONE {
        let all = LiveObject::list(client, kind, "", &ListParams::default()).await.unwrap_or_default();
        let wanted = all.iter().filter(|namespace| names.contains(namespace.name()));
        labels.extend(wanted.map(|namespace| (namespace.name().to_owned(), namespace.labels().into_owned())));
        return labels;
    }
    for name in names {
        if let Ok(Some(found)) = LiveObject::find(client, kind.clone(), "", &name).await {
            labels.insert(name, found.labels().into_owned());
        }
    }
    labels
}

pub fn namespace(namespace: &LiveObject) -> NamespaceFact {
    NamespaceFact { labels: namespace.labels().into_owned(), terminating: namespace.is_terminating() }
}

/// What has become of the owners of an object, one by one.
pub async fn owners(client: &Client, setting: &Setting, object: &LiveObject) -> Vec<OwnerFact> {
    let mut facts = Vec::new();
    for owner in object.owners() {
        facts.push(self::owner(client, setting, object.namespace(), &owner).await);
    }
    facts
}

async fn owner(client: &Client, setting: &Setting, namespace: &str, owner: &Owner) -> OwnerFact {
    let Some(kind) = setting.kinds.of(&owner.api_version, &owner.kind) else {
        return OwnerFact::Unknown(format!("the cluster has no {} of {}", owner.kind, owner.api_version));
    };
    let namespace = if kind.namespaced { namespace } else { "" };
    match LiveObject::find(client, kind.clone(), namespace, &owner.name).await {
        Ok(Some(found)) if found.uid() != owner.uid => OwnerFact::Gone,
        Ok(Some(found)) if found.is_terminating() => OwnerFact::Terminating,
        Ok(Some(_)) => OwnerFact::Alive,
        Ok(None) => OwnerFact::Gone,
        Err(error) => OwnerFact::Unknown(error.to_string()),
    }
}

/// The claim that a volume is bound to: rules are about that. A volume whose claim is gone is no rule's business any
/// more when it is deleted.
pub async fn claim(client: &Client, setting: &Setting, volume: &LiveObject, goes: bool) -> Option<Subject<'static>> {
    if !is_volume(&volume.kind) {
        return None;
    }
    let read = volume.api(client).get(volume.name()).await.map(|volume| volume.data).unwrap_or_default();
    let part = |name: &str| read["spec"]["claimRef"][name].as_str().unwrap_or_default().to_owned();
    let [namespace, name, uid] = ["namespace", "name", "uid"].map(part);
    if let Ok(kind) = setting.kinds.find("persistentvolumeclaims.v1.")
        && !name.is_empty()
        && let Ok(Some(claim)) = LiveObject::find(client, kind.clone(), &namespace, &name).await
        && claim.uid() == uid
    {
        return Some(claim.silent());
    }
    let (namespace, name) = (namespace.into(), name.into());
    let gone = Subject { resource: "persistentvolumeclaims".into(), namespace, name, ..Subject::default() };
    Some(if goes || gone.name.is_empty() { Subject::default() } else { gone })
}

fn is_volume(kind: &Kind) -> bool {
    kind.resource.group.is_empty() && kind.resource.plural == "persistentvolumes"
}
