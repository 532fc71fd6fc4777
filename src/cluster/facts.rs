use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::discovery::Scope;
use kube::core::{ApiResource, DynamicObject, GroupVersion, GroupVersionKind};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, discovery};

use super::Cluster;
use crate::api::{APPROVAL, Action, Approval, MAX_STATEMENTS, Statement, approval_name};
use crate::guard::{GoingOwner, NamespaceFact, Owner, OwnerFact, Subject};

impl Cluster {
    /// What the cache knows of a namespace. Its labels are good enough to say which other rules speak; that it is
    /// terminating has to be confirmed, since a namespace of the same name may have come since.
    pub fn cached_namespace(&self, name: &str) -> Option<NamespaceFact> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(NamespaceFact { labels: namespace.metadata.labels.clone().unwrap_or_default(), terminating: false })
    }

    /// A namespace as it is now, and as an object that may present approvals.
    pub async fn live_namespace(&self, name: &str) -> Option<(NamespaceFact, Subject<'static>)> {
        if !is_segment(name) {
            return None;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = namespaces.get_metadata_opt(name).await.ok()??.metadata;
        let fact = NamespaceFact {
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.clone().unwrap_or_default(),
        };
        Some((fact, subject(String::new(), "namespaces".to_owned(), metadata)))
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
        let subject = subject(resource.group, resource.plural, metadata);
        match self.approval(Action::Delete, &subject).await {
            Ok(approval) => OwnerFact::Terminating(Box::new(GoingOwner { subject, since, approval })),
            Err(reason) => OwnerFact::Unknown(reason),
        }
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
pub(super) fn is_segment(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain) && text.chars().any(|c| c != '.')
}
