//! What only the API server can tell of an update: whether owners live, nodes fit, claims are gone. Unknown counts as no.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use serde_json::value::RawValue;

use super::Cluster;
use super::facts::{LiveObject, Named, Unreadable, is_segment};
use crate::actions::{Owner, Part, Question};
use crate::guard::{OwnerFact, Request, Subject};

const CLAIMS: Named = Named { group: "", version: "v1", plural: "persistentvolumeclaims" };
const DEPLOYMENTS: Named = Named { group: "apps", version: "v1", plural: "deployments" };
/// By which a Deployment numbers its ReplicaSets: the newest has its own number.
const REVISION: &str = "deployment.kubernetes.io/revision";

impl Cluster {
    pub async fn shows(&self, question: &Question, namespace: &str) -> bool {
        match question {
            Question::OwnersLive { joining, all } => {
                let live = futures::future::join_all(all.iter().map(|owner| self.lives(owner, namespace))).await;
                let lives = |owner: &Owner| all.iter().zip(&live).any(|(one, lives)| one == owner && *lives);
                joining.iter().all(lives) && live.contains(&true)
            }
            Question::NodeFits(placement) => {
                let nodes: Api<Node> = Api::all(self.client.clone());
                let Ok(nodes) = nodes.list_metadata(&ListParams::default()).await else { return false };
                nodes.iter().any(|node| placement.fits(node.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())))
            }
            Question::ClaimGone { namespace, name, uid } => {
                let claim = self.find(CLAIMS, namespace, name).await;
                claim.is_ok_and(|found| found.is_none_or(|found| found.subject.uid != *uid))
            }
        }
    }

    async fn lives(&self, owner: &Owner, namespace: &str) -> bool {
        // What Tagout may not read is not held against it: if it is not there, the collector is refused.
        matches!(self.owner(owner, namespace).await, OwnerFact::Alive | OwnerFact::Unreadable(_))
    }

    /// The claim that a volume is bound to, as it stands. Where it is gone, what is left of it is its namespace and name.
    pub async fn claim_of(&self, volume: Option<&RawValue>) -> Result<Subject<'static>, Unreadable> {
        let reference = Part::of(volume).at("spec.claimRef");
        let [namespace, name, uid] = ["namespace", "name", "uid"].map(|part| reference.at(part).text());
        if !is_segment(&namespace) || !is_segment(&name) {
            return Ok(Subject::default());
        }
        match self.find(CLAIMS, &namespace, &name).await? {
            Some(found) if found.subject.uid == uid => Ok(found.subject),
            _ => Ok(Subject {
                resource: CLAIMS.plural.into(),
                namespace: namespace.into(),
                name: name.into(),
                ..Subject::default()
            }),
        }
    }

    /// What would be left without pods when a ReplicaSet is deleted.
    pub async fn left_without(&self, request: &Request<'_>, replica_set: Option<&RawValue>) -> LeftWithout {
        let Some(owner) = request.owners.iter().find(|owner| owner.controller) else { return LeftWithout::Itself };
        let of_apps = owner.api_version.starts_with("apps/") && owner.kind == "Deployment";
        if !of_apps {
            // The controllers of custom kinds make their ReplicaSets anew; nothing built in does.
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let custom = group.contains('.') && !group.ends_with(".k8s.io");
            let lives = self.owner(owner, &request.subject.namespace).await == OwnerFact::Alive;
            if custom && lives {
                return self.of_a_paused_one(request, replica_set).await;
            }
            return LeftWithout::Itself;
        }
        let namespace = &request.subject.namespace;
        if !is_segment(namespace) || !is_segment(&owner.name) {
            return LeftWithout::Itself;
        }
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let annotations: BTreeMap<String, String> =
            Part::of(replica_set).at("metadata.annotations").read().unwrap_or_default();
        // Where it cannot be read it may be paused.
        let makes_it_anew = match deployments.get_opt(&owner.name).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(&owner.uid) => {
                let newest = found.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
                let paused = found.spec.and_then(|spec| spec.paused).unwrap_or_default();
                !paused && newest.is_some() && newest == annotations.get(REVISION)
            }
            Ok(_) => return self.of_a_paused_one(request, replica_set).await,
            Err(_) => false,
        };
        let found = self.find(DEPLOYMENTS, namespace, &owner.name).await.ok().flatten();
        match found {
            Some(found) if makes_it_anew || found.terminating => LeftWithout::Nothing,
            Some(found) => LeftWithout::Deployment(Box::new(found)),
            None => LeftWithout::Itself,
        }
    }

    /// Of a ReplicaSet whose Deployment is gone, unless it was only made to look so: its selector, which nobody can
    /// change, still says whose pods it has.
    async fn of_a_paused_one(&self, request: &Request<'_>, replica_set: Option<&RawValue>) -> LeftWithout {
        let namespace = &request.subject.namespace;
        let pods: BTreeMap<String, String> =
            Part::of(replica_set).at("spec.selector.matchLabels").read().unwrap_or_default();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let Ok(all) = deployments.list(&ListParams::default()).await else { return LeftWithout::Itself };
        let stands_for = |deployment: &Deployment| {
            let spec = deployment.spec.as_ref();
            let paused = spec.is_some_and(|spec| spec.paused.unwrap_or_default());
            let selects = spec.and_then(|spec| Selector::try_from(spec.selector.clone()).ok());
            paused && selects.is_some_and(|selector| selector.matches(&pods))
        };
        let Some(paused) = all.items.iter().find(|one| stands_for(one)) else { return LeftWithout::Nothing };
        match self.find(DEPLOYMENTS, namespace, &paused.name_any()).await {
            Ok(Some(found)) if !found.terminating => LeftWithout::Deployment(Box::new(found)),
            _ => LeftWithout::Nothing,
        }
    }
}

/// Who loses the pods of a ReplicaSet.
pub enum LeftWithout {
    /// They come back, or go with what was asked about already.
    Nothing,
    /// It is paused, or has a newer ReplicaSet that may not run.
    Deployment(Box<LiveObject>),
    /// Nobody makes it anew.
    Itself,
}
