use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::discovery::Scope;
use kube::core::{ApiResource, DynamicObject, GroupVersion, GroupVersionKind};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, discovery};

use super::Cluster;
use crate::api::{APPROVAL, Action, Approval, MAX_STATEMENTS, Statement, approval_name, kind_name};
use crate::guard::{NamespaceFact, Owner, OwnerFact, Subject};

impl Cluster {
    /// What the cache knows of a namespace. Its labels are good enough to say which other rules speak; that it is
    /// terminating has to be confirmed, since a namespace of the same name may have come since.
    pub fn cached_namespace(&self, name: &str) -> Option<NamespaceFact> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(NamespaceFact { labels: namespace.metadata.labels.clone().unwrap_or_default(), terminating: false })
    }

    /// A namespace as it is now, and as an object that may present approvals.
    pub async fn live_namespace(&self, name: &str) -> LiveNamespace {
        if !is_segment(name) {
            return LiveNamespace::Unknown;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = match namespaces.get_metadata_opt(name).await {
            Ok(Some(found)) => found.metadata,
            Ok(None) => return LiveNamespace::Gone,
            Err(_) => return LiveNamespace::Unknown,
        };
        let fact = NamespaceFact {
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.clone().unwrap_or_default(),
        };
        LiveNamespace::Found(fact, Box::new(subject(String::new(), "namespaces".to_owned(), metadata)))
    }

    /// The labels of namespaces, as far as they are known.
    pub fn labels_of(&self, names: BTreeSet<String>) -> BTreeMap<String, BTreeMap<String, String>> {
        names.into_iter().filter_map(|name| Some((name.clone(), self.cached_namespace(&name)?.labels))).collect()
    }

    /// An object as it is now, without its contents; nothing where there is none.
    pub async fn find(
        &self,
        resource: Named<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<LiveObject>, Unreadable> {
        find(&self.client, resource, namespace, name).await
    }
    /// What the `Approval` for an action on an object says; nothing, if there is none.
    pub async fn approval(&self, action: Action, subject: &Subject<'_>) -> Result<Vec<Statement>, String> {
        let name = approval_name(action, &subject.kind(), &subject.namespace, &subject.name, &subject.uid);
        let approvals: Api<DynamicObject> = Api::all_with(self.client.clone(), &ApiResource::erase::<Approval>(&()));
        let found = approvals.get_opt(&name).await.map_err(|_| "Approvals could not be read".to_owned())?;
        let mut data = found.map(|found| found.data).unwrap_or_default();
        let list = data.pointer_mut("/spec/statements").and_then(|list| list.as_array_mut().map(std::mem::take));
        // One that cannot be read does not take the others along.
        Ok(list.into_iter().flatten().take(MAX_STATEMENTS).filter_map(|one| serde_json::from_value(one).ok()).collect())
    }

    /// An owner as it is now; its contents are not asked for.
    pub async fn owner(&self, owner: &Owner, namespace: &str) -> OwnerFact {
        match self.described(owner, namespace).await {
            Ok((resource, home)) => {
                let named = Named { group: &resource.group, version: &resource.version, plural: &resource.plural };
                self.state(named, home, &owner.name, &owner.uid).await
            }
            Err(reason) => OwnerFact::Unknown(reason),
        }
    }

    /// The kind of an owner, and the namespace it is in.
    pub(super) async fn home(&self, owner: &Owner, namespace: &str) -> Option<(String, String)> {
        let (resource, home) = self.described(owner, namespace).await.ok()?;
        Some((kind_name(&resource.group, &resource.plural), home.to_owned()))
    }

    async fn described<'n>(&self, owner: &Owner, namespace: &'n str) -> Result<(ApiResource, &'n str), String> {
        let Ok(version) = owner.api_version.parse::<GroupVersion>() else {
            return Err(format!("{:?} is no API version", owner.api_version));
        };
        let segments = [&owner.name, &owner.kind, &version.version];
        if !segments.iter().all(|segment| is_segment(segment))
            || !(version.group.is_empty() || is_segment(&version.group))
            || !(namespace.is_empty() || is_segment(namespace))
        {
            return Err("its name cannot be one".to_owned());
        }
        let kind = GroupVersionKind::gvk(&version.group, &version.version, &owner.kind);
        let Ok((resource, capabilities)) = discovery::pinned_kind(&self.client, &kind).await else {
            return Err(format!("its kind {:?} was not found", owner.kind));
        };
        let home = match capabilities.scope {
            Scope::Cluster => "",
            Scope::Namespaced if namespace.is_empty() => {
                return Err(format!("{} are in namespaces, and it is in none", resource.plural));
            }
            Scope::Namespaced => namespace,
        };
        Ok((resource, home))
    }

    /// What has become of an object of this UID.
    pub(super) async fn state(&self, resource: Named<'_>, namespace: &str, name: &str, uid: &str) -> OwnerFact {
        match self.find(resource, namespace, name).await {
            Ok(Some(found)) if found.subject.uid != uid => OwnerFact::Gone,
            Ok(Some(found)) if found.terminating => OwnerFact::Terminating,
            Ok(Some(_)) => OwnerFact::Alive,
            Ok(None) => OwnerFact::Gone,
            Err(Unreadable { reason, forbidden: true }) => OwnerFact::Unreadable(reason),
            Err(Unreadable { reason, forbidden: false }) => OwnerFact::Unknown(reason),
        }
    }
}

/// An object as it is now, without its contents; nothing where there is none.
pub async fn find(
    client: &Client,
    resource: Named<'_>,
    namespace: &str,
    name: &str,
) -> Result<Option<LiveObject>, Unreadable> {
    // Some kinds may have any name. What cannot stand in a URL as it is, is not looked up.
    if !is_segment(name) {
        return Err(Unreadable {
            reason: format!("{} cannot be looked up by such a name", resource.plural),
            forbidden: true,
        });
    }
    let segments = [resource.version, resource.plural];
    let optional = [resource.group, namespace];
    if !segments.into_iter().all(is_segment) || !optional.into_iter().all(|part| part.is_empty() || is_segment(part)) {
        return Err(Unreadable { reason: "its name cannot be one".to_owned(), forbidden: false });
    }
    let described = ApiResource {
        group: resource.group.to_owned(),
        version: resource.version.to_owned(),
        api_version: GroupVersion { group: resource.group.to_owned(), version: resource.version.to_owned() }
            .api_version(),
        kind: String::new(),
        plural: resource.plural.to_owned(),
    };
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &described)
    } else {
        Api::namespaced_with(client.clone(), namespace, &described)
    };
    let found = api.get_metadata_opt(name).await.map_err(|error| unreadable(resource.plural, &error))?;
    Ok(found.map(|found| LiveObject {
        api_version: described.api_version,
        owners: owners(&found.metadata),
        terminating: found.metadata.deletion_timestamp.is_some(),
        subject: subject(described.group, described.plural, found.metadata),
    }))
}

/// A namespace as it is found.
pub enum LiveNamespace {
    Found(NamespaceFact, Box<Subject<'static>>),
    Gone,
    /// It could not be read, or there is none to look at.
    Unknown,
}

/// A kind as the API server serves it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
}

/// An object as it is found, without its contents.
#[derive(Debug)]
pub struct LiveObject {
    pub subject: Subject<'static>,
    pub owners: Vec<Owner>,
    pub terminating: bool,
    pub api_version: String,
}

/// Why an object could not be looked at.
#[derive(Debug)]
pub struct Unreadable {
    pub reason: String,
    /// Tagout has no right to: whoever installed it chose so.
    pub forbidden: bool,
}

fn unreadable(plural: &str, error: &kube::Error) -> Unreadable {
    let forbidden = matches!(error, kube::Error::Api(status) if status.is_forbidden());
    let reason = if forbidden {
        format!("Tagout may not read {plural} (see rbac.ownerKinds of the chart)")
    } else {
        format!("{plural} could not be read")
    };
    Unreadable { reason, forbidden }
}

pub(super) fn owners(metadata: &ObjectMeta) -> Vec<Owner> {
    let owner = |owner: &OwnerReference| Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: owner.controller.unwrap_or_default(),
    };
    metadata.owner_references.iter().flatten().map(owner).collect()
}

pub(super) fn subject(group: String, resource: String, metadata: ObjectMeta) -> Subject<'static> {
    let mut annotations = metadata.annotations.unwrap_or_default();
    let statements = annotations.get_mut(APPROVAL).map(std::mem::take);
    Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: metadata.namespace.unwrap_or_default().into(),
        name: metadata.name.unwrap_or_default().into(),
        uid: metadata.uid.unwrap_or_default().into(),
        created: metadata.creation_timestamp.map(|time| time.0),
        labels: std::borrow::Cow::Owned(metadata.labels.unwrap_or_default()),
        annotations: annotations.into_keys().map(Into::into).collect(),
        statements: statements.map(Into::into),
    }
}

/// Names from a review become parts of a URL, and a review can be forged.
pub(super) fn is_segment(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:@+=~!$".contains(character);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain) && text.chars().any(|c| c != '.')
}
