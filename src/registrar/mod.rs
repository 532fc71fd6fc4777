//! Keeps the entries of all rules in force. Every replica does; the API server's `resourceVersion` decides who was
//! first, and the second finds nothing left to do.

mod epoch;
mod owners;
mod register;
mod settle;
mod shared;
mod status;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cluster::{Doorbell, Record, within};
use crate::telemetry::Telemetry;

pub use epoch::Publisher;

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
    /// Versions of rules (UID and generation) whose entries a newer Tagout wrote, and since when they are left alone.
    yielding: HashMap<(String, i64), Instant>,
    /// When each configuration was last overwritten.
    written: HashMap<String, Instant>,
    /// Whether something was left for later, and when that is.
    look_again: Option<Duration>,
    /// The record of a configuration that stands as it should and has no epoch yet.
    without_epoch: watch::Sender<Option<Record>>,
    /// The kinds of owners that were found above what a rule protects.
    owners: HashMap<String, owners::Looked>,
    /// When old Approvals were last looked for.
    swept: Option<Instant>,
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
    pub fn new(client: Client, service: Service, telemetry: Arc<Telemetry>) -> Self {
        let (yielding, written) = (HashMap::new(), HashMap::new());
        let without_epoch = watch::Sender::new(None);
        Self {
            client,
            service,
            telemetry,
            yielding,
            written,
            look_again: None,
            without_epoch,
            owners: HashMap::new(),
            swept: None,
        }
    }

    /// What begins an epoch when the registrar has put the shared entries in place.
    pub fn publisher(&self, bell: Doorbell) -> Publisher {
        Publisher::new(self.client.clone(), self.service.namespace.clone(), self.without_epoch.subscribe(), bell)
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
