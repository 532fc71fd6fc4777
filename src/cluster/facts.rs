use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::discovery::Scope;
use kube::core::{DynamicObject, GroupVersion, GroupVersionKind};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, discovery};

use super::Cluster;
use crate::api::APPROVAL;
use crate::guard::{NamespaceFact, Owner, OwnerFact, Subject};

impl Cluster {
    /// What the cache knows of a namespace. Its labels are good enough to say which other rules speak; that it is
    /// terminating has to be confirmed, since a namespace of the same name may have come since.
    pub fn cached_namespace(&self, name: &str) -> Option<NamespaceFact> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(NamespaceFact { labels: namespace.metadata.labels.clone().unwrap_or_default(), terminating: false })
    }

    /// Whether the cache says that the namespace is terminating.
    pub fn may_be_terminating(&self, name: &str) -> bool {
        let found = self.namespaces.get(&ObjectRef::new(name));
        found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    pub async fn live_namespace(&self, name: &str) -> Option<NamespaceFact> {
        if !is_segment(name) {
            return None;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = namespaces.get_metadata_opt(name).await.ok()??.metadata;
        Some(NamespaceFact {
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
        })
    }

    /// An owner as it is now; its contents are not asked for.
    pub async fn owner(&self, owner: &Owner, namespace: &str) -> OwnerFact {
        let Ok(version) = owner.api_version.parse::<GroupVersion>() else {
            return OwnerFact::Unknown(format!("{:?} is no API version", owner.api_version));
        };
        let segments = [&owner.name, &owner.kind, &version.version];
        if !segments.iter().all(|segment| is_segment(segment))
            || !(version.group.is_empty() || is_segment(&version.group))
            || !(namespace.is_empty() || is_segment(namespace))
        {
            return OwnerFact::Unknown("its name cannot be one".to_owned());
        }
        let kind = GroupVersionKind::gvk(&version.group, &version.version, &owner.kind);
        let Ok((resource, capabilities)) = discovery::pinned_kind(&self.client, &kind).await else {
            return OwnerFact::Unknown(format!("its kind {:?} was not found", owner.kind));
        };
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let metadata = match api.get_metadata_opt(&owner.name).await {
            Ok(Some(found)) => found.metadata,
            Ok(None) => return OwnerFact::Gone,
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let kind = &resource.plural;
                return OwnerFact::Unknown(format!("Tagout may not read {kind} (see rbac.ownerKinds of the chart)"));
            }
            Err(_) => return OwnerFact::Unknown(format!("{} could not be read", resource.plural)),
        };
        if metadata.uid.as_deref() != Some(&owner.uid) {
            return OwnerFact::Gone;
        }
        let Some(since) = metadata.deletion_timestamp.as_ref().map(|time| time.0) else { return OwnerFact::Alive };
        OwnerFact::Terminating(Box::new(subject(resource.group, resource.plural, metadata)), since)
    }
}

fn subject(group: String, resource: String, metadata: ObjectMeta) -> Subject<'static> {
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
fn is_segment(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain) && text.chars().any(|c| c != '.')
}
