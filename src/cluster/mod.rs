//! The API server's side: the rules in force, and the facts that a decision asks for.

mod clock;
mod epoch;
mod events;
mod facts;
mod ledger;
mod questions;
mod radius;
mod records;
mod rules;
mod secrets;
mod settled;
mod unlocks;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::api::{ApproverTeam, DeletionRecord, ProtectionRule};

pub use clock::{ApiClock, Told};
pub use epoch::{Record, StoredRecord, hash, read_record, write_record};
pub use events::{Announced, Announcement, Announcer};
pub use facts::{LiveNamespace, LiveObject, Named, Unreadable, find};
pub use ledger::settle;
pub use questions::LeftWithout;
pub use radius::radius;
pub use records::{CASCADES, resource, root, volumes};
pub use rules::{Loaded, NotLoaded, RulesInForce, load};
pub use settled::{Settled, SettledRules, read_settled, write_settled};
pub use unlocks::{Granted, guards_own, read_granted, still_granted, write_granted};

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
        bell.watch::<ValidatingAdmissionPolicy>(client);
        bell.watch::<ValidatingAdmissionPolicyBinding>(client);
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
    /// The names of all records.
    recorded: Store<PartialObjectMeta<DeletionRecord>>,
    radii: radius::Radii,
    ledgers: ledger::Ledgers,
    pub clock: ApiClock,
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
        let (recorded, writer) = reflector::store();
        let events = watcher(Api::<PartialObjectMeta<DeletionRecord>>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .modify(|record| record.metadata.managed_fields = None)
            .reflect(writer)
            .inspect_err(|error| warn!(%error, "cannot watch records; they are read one by one"));
        tokio::spawn(events.for_each(async |_| ()));
        let clock = ApiClock::new(client.clone());
        Self::of(client, own_namespace, namespaces, recorded, clock, rules)
    }

    /// A cluster that stands still: whoever moves it says what time it is, and what watches would have told.
    pub fn told(client: Client, rules: Arc<RulesInForce>, own_namespace: String, clock: Told) -> (Self, Watched) {
        let (namespaces, of_namespaces) = reflector::store();
        let (recorded, of_records) = reflector::store();
        let cluster = Self::of(client, own_namespace, namespaces, recorded, ApiClock::Told(clock), rules);
        (cluster, Watched { namespaces: of_namespaces, records: of_records })
    }

    fn of(
        client: Client,
        own_namespace: String,
        namespaces: Store<PartialObjectMeta<Namespace>>,
        recorded: Store<PartialObjectMeta<DeletionRecord>>,
        clock: ApiClock,
        rules: Arc<RulesInForce>,
    ) -> Self {
        let (radii, ledgers) = (radius::Radii::new(), ledger::Ledgers::default());
        Self { client, own_namespace, namespaces, recorded, radii, ledgers, clock, rules }
    }
}

/// What watches would tell of a cluster that has none.
pub struct Watched {
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    records: Writer<PartialObjectMeta<DeletionRecord>>,
}

impl Watched {
    /// A namespace as it is, or that it is gone.
    pub fn namespace(&mut self, metadata: ObjectMeta, is_there: bool) {
        tell(&mut self.namespaces, metadata, is_there);
    }

    pub fn record(&mut self, metadata: ObjectMeta, is_there: bool) {
        tell(&mut self.records, metadata, is_there);
    }
}

fn tell<K>(writer: &mut Writer<PartialObjectMeta<K>>, metadata: ObjectMeta, is_there: bool)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let object = metadata.into_response_partial();
    let event = if is_there { watcher::Event::Apply(object) } else { watcher::Event::Delete(object) };
    writer.apply_watcher_event(&event);
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
