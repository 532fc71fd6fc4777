//! The API server's side: the rules in force, and the facts that a decision asks for.

mod epoch;
mod events;
mod facts;
mod questions;
mod radius;
mod records;
mod rules;
mod secrets;
mod settled;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::api::{ApproverTeam, ProtectionRule};

pub use epoch::{Record, StoredRecord, hash, read_record, write_record};
pub use events::{Announced, Announcement, Announcer};
pub use facts::{LiveNamespace, LiveObject, Named, Unreadable};
pub use questions::LeftWithout;
pub use radius::radius;
pub use rules::{Loaded, NotLoaded, RulesInForce};
pub use settled::{Settled, SettledRules, read_settled, write_settled};

/// Rings whenever something that rules are made of has changed. What has changed is always read anew: a watch tells
/// that there is news, a list tells the truth.
#[derive(Clone)]
pub struct Doorbell(watch::Sender<u64>);

impl Doorbell {
    /// A doorbell that watches rings.
    pub fn watching(client: &Client) -> Self {
        let bell = Self(watch::Sender::new(0));
        bell.watch::<ValidatingWebhookConfiguration>(client);
        bell.watch::<ProtectionRule>(client);
        bell.watch::<ApproverTeam>(client);
        bell
    }

    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Hears every ring from now on, and the first at once.
    pub fn listen(&self) -> Listener {
        let mut rings = self.0.subscribe();
        rings.mark_changed();
        Listener { rings }
    }

    fn watch<K>(&self, client: &Client)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let bell = self.clone();
        let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff();
            events
                .for_each(async |event| match event {
                    Ok(_) => bell.ring(),
                    Err(error) => warn!(kind = %K::kind(&()), %error, "cannot watch; rules are still read every 30 s"),
                })
                .await;
        });
    }
}

pub struct Listener {
    rings: watch::Receiver<u64>,
}

impl Listener {
    /// Waits for a ring, at most until `patience` is over, then for a pause: one change often rings several times.
    pub async fn wait(&mut self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.rings.changed()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.rings.mark_unchanged();
    }
}

/// Where facts come from.
pub struct Cluster {
    client: Client,
    /// The namespace Tagout runs in.
    own_namespace: String,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    radii: radius::Radii,
    pub rules: Arc<RulesInForce>,
}

impl Cluster {
    pub fn connect(client: Client, rules: Arc<RulesInForce>, own_namespace: String) -> Self {
        let (namespaces, writer) = reflector::store();
        let events = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .modify(|namespace| {
                namespace.metadata.managed_fields = None;
                namespace.metadata.annotations = None;
            })
            .reflect(writer)
            .inspect_err(|error| warn!(%error, "cannot watch namespaces; they are read one by one"));
        tokio::spawn(events.for_each(async |_| ()));
        Self { client, own_namespace, namespaces, radii: radius::Radii::new(), rules }
    }
}

/// What a connection that hangs must not hold up: an error in words after this time.
pub async fn within<T>(patience: Duration, asked: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

/// Deletes an object in the very version that was looked at. Whether it was there to be deleted; that somebody changed
/// it or was first is no error.
pub async fn delete_exactly<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    metadata: &ObjectMeta,
) -> kube::Result<bool> {
    let exactly_this = Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
    let name = metadata.name.as_deref().unwrap_or_default();
    match api.delete(name, &DeleteParams::default().preconditions(exactly_this)).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        other => other.map(|_| true),
    }
}
