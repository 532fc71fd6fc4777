//! Keeps the entries of all rules in force. Every replica does; the API server's `resourceVersion` decides who was
//! first, and the second finds nothing left to do.

mod authority;
mod canary;
mod epoch;
mod lock;
mod memory;
mod owners;
mod readable;
mod register;
mod settle;
mod settling;
mod shared;
mod status;
mod sweep;
mod used;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::ProtectionRule;
use crate::cluster::{Doorbell, Record, within};
use crate::telemetry::Telemetry;

pub use canary::{Canary, Heard};
pub use epoch::Publisher;
pub use lock::{Lock, Options as LockOptions};
pub use memory::{Memory, Used};

/// Where Tagout's Service is.
#[derive(Debug, Clone)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

pub struct Registrar {
    client: Client,
    service: Service,
    telemetry: Arc<Telemetry>,
    /// Versions (UID and generation) of rules, and of the shared configuration, of which a newer Tagout wrote the
    /// entries, and since when these are left alone.
    yielding: HashMap<(String, i64), Instant>,
    /// When each configuration was last overwritten.
    written: HashMap<String, Instant>,
    /// What each configuration should hold, as a hash, when it was last seen to hold it.
    stood: HashMap<String, String>,
    /// The versions of rules that were found rejected; nothing before the first look at them all.
    rejected: Option<BTreeSet<(String, i64)>>,
    /// Whether something was left for later, and when that is.
    look_again: Option<Duration>,
    /// The record of a configuration that stands as it should and has no epoch yet.
    without_epoch: watch::Sender<Option<Record>>,
    /// The authorities that entries name, as PEM.
    authorities: watch::Sender<BTreeSet<Vec<u8>>>,
    /// The rules of which it is searched who owns what they protect, and the kinds of owners that were found.
    owned: watch::Sender<Vec<ProtectionRule>>,
    owners: watch::Receiver<owners::Found>,
    /// When old Approvals were last looked for.
    swept: Option<Instant>,
    /// Whether kinds may be read.
    readable: HashMap<String, (Instant, bool)>,
    used: watch::Receiver<Option<Arc<Used>>>,
    heard: watch::Receiver<Heard>,
    /// What ledgers say, where that was looked at since the last pass.
    news: Option<Arc<Used>>,
}

/// Looked at again at least this often, whatever the watches say.
const INTERVAL: Duration = Duration::from_secs(30);
/// A connection that hangs must not keep entries from being repaired.
const PATIENCE: Duration = Duration::from_secs(25);
/// What failed may go on failing.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// Every pass is several requests.
const PAUSE: Duration = Duration::from_millis(100);

impl Registrar {
    pub fn new(
        client: Client,
        service: Service,
        telemetry: Arc<Telemetry>,
        used: watch::Receiver<Option<Arc<Used>>>,
        heard: watch::Receiver<Heard>,
    ) -> Self {
        let (yielding, written) = (HashMap::new(), HashMap::new());
        let without_epoch = watch::Sender::new(None);
        let (owned, owners) = owners::search(client.clone());
        Self {
            client,
            service,
            telemetry,
            yielding,
            written,
            stood: HashMap::new(),
            rejected: None,
            look_again: None,
            without_epoch,
            authorities: watch::Sender::default(),
            owned,
            owners,
            swept: None,
            readable: HashMap::new(),
            used,
            heard,
            news: None,
        }
    }

    /// What begins an epoch when the registrar has put the shared entries in place.
    pub fn publisher(&self, bell: Doorbell) -> Publisher {
        Publisher::new(self.client.clone(), self.service.namespace.clone(), self.without_epoch.subscribe(), bell)
    }

    /// What the entries in force say of authorities, as PEM, each once; nothing while that is not known.
    pub fn authorities(&self) -> watch::Receiver<BTreeSet<Vec<u8>>> {
        self.authorities.subscribe()
    }

    /// Works until the process ends. Says whether all entries have been looked at and Tagout is installed.
    pub async fn run(
        mut self,
        bell: Doorbell,
        mut authority: watch::Receiver<Option<Vec<u8>>>,
        registered: watch::Sender<bool>,
    ) {
        let mut listener = bell.listen();
        loop {
            let interval = self.look_again.take().unwrap_or(INTERVAL);
            tokio::select! {
                () = listener.wait(interval) => {}
                Ok(()) = self.owners.changed() => {}
                changed = authority.changed() => if changed.is_err() { return },
            }
            let Some(ca_bundle) = authority.borrow_and_update().clone() else { continue };
            match within(PATIENCE, Box::pin(self.register(ca_bundle))).await {
                Ok(installed) => {
                    if registered.send_replace(installed) != installed {
                        info!(
                            installed,
                            "{}",
                            if installed { "all rules are registered" } else { "nothing is guarded" }
                        );
                    }
                }
                Err(error) => {
                    warn!(error, "entries cannot be kept in force; trying again");
                    self.look_again = Some(AFTER_ERROR);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
