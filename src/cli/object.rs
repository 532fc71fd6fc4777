use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use anyhow::bail;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};

use super::cluster::plain;
use super::kinds::{Kind, Kinds};
use crate::api::{APPROVAL, NEW_UID, Statement, printable};
use crate::entries::SHARED;
use crate::guard::{Owner, Subject};

/// The kind of configuration by which the API server calls webhooks.
pub const GUARD: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// An object as it was read, without its contents.
#[derive(Debug, Clone)]
pub struct LiveObject {
    pub kind: Kind,
    pub metadata: ObjectMeta,
}

impl LiveObject {
    pub async fn read(client: &Client, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let namespace = if kind.namespaced { namespace } else { "" };
        if let Some(object) = Self::find(client, kind.clone(), namespace, name).await? {
            return Ok(object);
        }
        let kind = kind.name();
        if namespace.is_empty() {
            bail!("there is no {kind} {name:?}; kubectl get {kind} lists them");
        }
        bail!(
            "there is no {kind} {name:?} in namespace {namespace:?}; kubectl get {kind} -n {namespace} lists them, and -n \
             names another namespace"
        )
    }

    pub async fn find(client: &Client, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<Option<Self>> {
        match api(client, &kind, namespace).get_metadata_opt(name).await {
            Ok(object) => Ok(object.map(|object| Self { kind, metadata: object.metadata })),
            Err(error) => Err(plain(error)),
        }
    }

    /// The objects of a kind; without a namespace everywhere.
    pub async fn list(client: &Client, kind: &Kind, namespace: &str, list: &ListParams) -> anyhow::Result<Vec<Self>> {
        let found = api(client, kind, namespace).list_metadata(list).await.map_err(plain)?;
        Ok(found.items.into_iter().map(|object| Self { kind: kind.clone(), metadata: object.metadata }).collect())
    }

    /// What is to be made, and has no UID yet.
    pub fn to_be(kind: Kind, name: &str) -> Self {
        let name = Some(name.to_owned());
        Self { kind, metadata: ObjectMeta { name, uid: Some(NEW_UID.to_owned()), ..ObjectMeta::default() } }
    }

    pub fn exists(&self) -> bool {
        self.uid() != NEW_UID
    }

    pub async fn read_again(&self, client: &Client) -> kube::Result<Self> {
        let object = self.api(client).get_metadata(self.name()).await?;
        Ok(Self { kind: self.kind.clone(), metadata: object.metadata })
    }

    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        api(client, &self.kind, self.namespace())
    }

    /// Whether it is the configuration on which everything rests by which Tagout guards.
    pub fn is_the_guards_own(&self) -> bool {
        self.kind.name() == GUARD && self.name() == SHARED
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

    /// `deployments.apps/api -n payments`, as it is typed into a shell.
    pub fn words(&self) -> String {
        let object = word(&format!("{}/{}", self.kind.name(), self.name()));
        if self.namespace().is_empty() { object } else { format!("{object} -n {}", word(self.namespace())) }
    }

    /// As something that presents just these statements.
    pub fn presenting(&self, statements: &[Statement]) -> Subject<'static> {
        let mut labels = self.labels().into_owned();
        labels.insert(APPROVAL.to_owned(), "true".to_owned());
        let statements = serde_json::to_string(statements).ok().map(Cow::Owned);
        Subject { labels: Cow::Owned(labels), statements, ..self.silent() }
    }

    /// As something that says nothing.
    pub fn silent(&self) -> Subject<'static> {
        let stands = self.subject();
        Subject {
            group: stands.group.into_owned().into(),
            resource: stands.resource.into_owned().into(),
            namespace: stands.namespace.into_owned().into(),
            name: stands.name.into_owned().into(),
            uid: stands.uid.into_owned().into(),
            created: stands.created,
            labels: Cow::Owned(stands.labels.into_owned()),
            annotations: stands.annotations.into_iter().map(|key| key.into_owned().into()).collect(),
            statements: None,
        }
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

/// A namespace, if one is named and the caller may read it.
pub async fn home(client: &Client, kinds: &Kinds, namespace: &str) -> anyhow::Result<Option<LiveObject>> {
    if namespace.is_empty() {
        return Ok(None);
    }
    let kind = kinds.find("namespaces.v1.").map_err(anyhow::Error::msg)?.clone();
    match api(client, &kind, "").get_metadata(namespace).await {
        Ok(namespace) => Ok(Some(LiveObject { kind, metadata: namespace.metadata })),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(plain(error)),
    }
}

/// A word as a shell reads it: some kinds of objects may have any name, and people paste commands.
fn word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:/".contains(character);
    let text = printable(text);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn api(client: &Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), &kind.resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &kind.resource)
    }
}
