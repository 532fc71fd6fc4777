use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use anyhow::bail;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use kube::{Api, Client};

use crate::api::APPROVAL;
use crate::cli::cluster::plain;
use crate::cli::connection::Cluster;
use crate::cli::kinds::Kind;
use crate::guard::{NamespaceFact, Owner, Subject};

/// An object as it was read, without its contents.
#[derive(Debug, Clone)]
pub struct LiveObject {
    pub kind: Kind,
    pub metadata: ObjectMeta,
}

impl LiveObject {
    pub async fn read(at: &Cluster, kind: Kind, name: &str) -> anyhow::Result<Self> {
        let namespace = if kind.namespaced { at.namespace.as_str() } else { "" };
        match api(&at.client, &kind, namespace).get_metadata(name).await {
            Ok(object) => Ok(Self { kind, metadata: object.metadata }),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let kind = kind.name();
                if namespace.is_empty() {
                    bail!("there is no {kind} {name:?}; kubectl get {kind} lists them");
                }
                bail!(
                    "there is no {kind} {name:?} in namespace {namespace:?}; kubectl get {kind} -n {namespace} lists \
                     them, and -n names another namespace"
                )
            }
            Err(error) => Err(plain(error)),
        }
    }

    pub async fn read_again(&self, client: &Client) -> kube::Result<Self> {
        let object = self.api(client).get_metadata(self.name()).await?;
        Ok(Self { kind: self.kind.clone(), metadata: object.metadata })
    }

    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        api(client, &self.kind, self.namespace())
    }

    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub fn is_presenting(&self) -> bool {
        self.labels().contains_key(APPROVAL)
    }

    pub fn annotation(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(APPROVAL).map(String::as_str)
    }

    pub fn labels(&self) -> Cow<'_, BTreeMap<String, String>> {
        self.metadata.labels.as_ref().map_or_else(|| Cow::Owned(BTreeMap::new()), Cow::Borrowed)
    }

    pub fn owners(&self) -> Vec<Owner> {
        let owners = self.metadata.owner_references.iter().flatten().map(|owner| Owner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: owner.controller.unwrap_or_default(),
        });
        owners.collect()
    }

    pub fn subject(&self) -> Subject<'_> {
        let annotations = self.metadata.annotations.iter().flatten();
        Subject {
            group: (&self.kind.resource.group).into(),
            resource: (&self.kind.resource.plural).into(),
            namespace: self.namespace().into(),
            name: self.name().into(),
            uid: self.uid().into(),
            created: self.metadata.creation_timestamp.as_ref().map(|time| time.0),
            labels: self.labels(),
            annotations: annotations.map(|(key, _)| key.into()).collect(),
            statements: self.annotation().map(Into::into),
        }
    }
}

/// `deployments.apps "api" in "payments"`
impl fmt::Display for LiveObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.name(), self.name())?;
        if self.namespace().is_empty() { Ok(()) } else { write!(f, " in {:?}", self.namespace()) }
    }
}

/// The namespace of the object, if there is one and the caller may read it.
pub async fn namespace(client: &Client, object: &LiveObject) -> anyhow::Result<Option<NamespaceFact>> {
    if object.namespace().is_empty() {
        return Ok(None);
    }
    match Api::<Namespace>::all(client.clone()).get_metadata(object.namespace()).await {
        Ok(namespace) => Ok(Some(NamespaceFact {
            labels: namespace.metadata.labels.unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
        })),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(plain(error)),
    }
}

fn api(client: &Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), &kind.resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &kind.resource)
    }
}
