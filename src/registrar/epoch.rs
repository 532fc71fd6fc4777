//! Begins an epoch, once it is certain that nobody can plant approvals.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, Client};
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::canary::{Trial, plant};
use crate::cluster::{Doorbell, Record, read_record, write_record};
use crate::entries::SHARED;

/// For this long a forged approval has to be refused, each time it is tried, before an epoch begins. API servers hear
/// of a changed configuration by watches of their own, within a second or two.
const CERTAIN: Duration = Duration::from_secs(10);
const BETWEEN_TRIALS: Duration = Duration::from_millis(500);

pub struct Publisher {
    client: Client,
    namespace: String,
    /// The record of a configuration that stands as it should, while there is no epoch.
    without_epoch: watch::Receiver<Option<Record>>,
    bell: Doorbell,
}

impl Publisher {
    pub(super) fn new(
        client: Client,
        namespace: String,
        without_epoch: watch::Receiver<Option<Record>>,
        bell: Doorbell,
    ) -> Self {
        Self { client, namespace, without_epoch, bell }
    }

    /// Works until the process ends.
    pub async fn run(mut self) {
        loop {
            let without_epoch = self.without_epoch.borrow_and_update().clone();
            if let Some(record) = without_epoch
                && self.nobody_can_plant().await
                && let Err(error) = self.begin(record).await
            {
                warn!(%error, "an epoch cannot begin yet; trying again");
            }
            if self.without_epoch.borrow().is_none() {
                if self.without_epoch.changed().await.is_err() {
                    return;
                }
            } else {
                sleep(BETWEEN_TRIALS).await;
            }
        }
    }

    /// Tries to plant an approval again and again. False as soon as that works, or is not known, or the configuration
    /// changes.
    async fn nobody_can_plant(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < CERTAIN {
            if self.without_epoch.has_changed().unwrap_or(true) {
                return false;
            }
            match plant(&self.client).await {
                Trial::RefusedByUs => {}
                Trial::Admitted => return false,
                Trial::Unreached(error) | Trial::Unknown(error) => {
                    debug!(error, "whether approvals can be planted is not known; approvals by identity wait for that");
                    return false;
                }
            }
            sleep(BETWEEN_TRIALS).await;
        }
        true
    }

    async fn begin(&self, without_epoch: Record) -> kube::Result<()> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let Some(stored) = read_record(&self.client, &self.namespace).await? else { return Ok(()) };
        let same = stored.record == without_epoch && stored.record.knows(&configurations.get(SHARED).await?);
        if !same {
            return Ok(());
        }
        let Some(epoch) = random() else {
            error!("this machine gives no random numbers, so approvals by identity cannot count");
            return Ok(());
        };
        let record = Record { epoch: Some(epoch), ..without_epoch };
        // Another replica may have been first.
        write_record(&self.client, &self.namespace, &record, stored.resource_version).await?;
        info!("nobody can plant approvals: an epoch begins, and approvals by identity count from now on");
        self.bell.ring();
        Ok(())
    }
}

/// 128 bits that nobody can guess.
fn random() -> Option<String> {
    let mut bytes = [0; 16];
    CryptoProvider::get_default()?.secure_random.fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
