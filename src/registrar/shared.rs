//! The shared entries and, since approvals by identity are worth something only while these stand, the epoch.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tracing::info;

use super::Registrar;
use super::register::same_but_for_trust;
use crate::cluster::{Record, StoredRecord, hash, read_record, write_record};
use crate::entries::{self, COMPILER, Place, SHARED};
use crate::telemetry::{DriftRepaired, EpochEnded};

impl Registrar {
    /// Keeps the shared entries as they are compiled, and says which epoch it is, if any.
    pub(super) async fn register_shared(
        &mut self,
        configurations: &Api<ValidatingWebhookConfiguration>,
        place: &Place,
    ) -> kube::Result<Option<String>> {
        // The record first: a configuration that is changed after that is one that the record does not know.
        let stored = read_record(&self.client, &self.service.namespace).await;
        let found = configurations.get(SHARED).await?;
        let wanted = entries::shared(place);
        let (stands, print) = (found.webhooks.as_ref() == Some(&wanted), hash(&wanted));
        let recorded = match stored {
            Ok(stored) => self.recorded(stored, &found).await,
            Err(error) => Err(error),
        };
        let stored = match recorded {
            Ok(stored) => stored,
            // Another replica was first, and puts right what there is.
            Err(kube::Error::Api(status)) if status.code == 409 => return Err(kube::Error::Api(status)),
            Err(error) => {
                // Without a record there is no epoch; the entries are put right all the same.
                if !stands && self.may_write_now(SHARED) {
                    let wanted = ValidatingWebhookConfiguration { webhooks: Some(wanted), ..found };
                    configurations.replace(SHARED, &PostParams::default(), &wanted).await?;
                }
                return Err(error);
            }
        };
        if stands {
            self.stood.insert(SHARED.to_owned(), print);
            let without_epoch = stored.record.epoch.is_none().then_some(stored.record.clone());
            self.without_epoch.send_if_modified(|before| {
                let news = *before != without_epoch;
                before.clone_from(&without_epoch);
                news
            });
            return Ok(stored.record.epoch);
        }
        // Only Tagout writes the record, and of what others changed it knows no version. Once for a process.
        if stored.record.compiler > COMPILER && self.yields((stored.record.uid.clone(), 0)) {
            return Ok(stored.record.epoch);
        }
        if !self.may_write_now(SHARED) {
            return Ok(stored.record.epoch);
        }
        let ours = ValidatingWebhookConfiguration { webhooks: Some(wanted.clone()), ..found.clone() };
        let by_others = stored.record.compiler == 0 && !same_but_for_trust(&found, &ours);
        let changed = by_others && self.stood_before(SHARED, &print);
        self.write_shared(configurations, found, wanted, stored, changed).await
    }

    /// The record, ending the epoch where the configuration was changed by other hands than Tagout's.
    async fn recorded(
        &self,
        stored: Option<StoredRecord>,
        found: &ValidatingWebhookConfiguration,
    ) -> kube::Result<StoredRecord> {
        let mut ends = false;
        let (record, version) = match stored {
            None => (Record::of(found), None),
            Some(stored) if stored.record.knows(found) => {
                let Record { epoch, compiler, .. } = stored.record.clone();
                let current = Record { epoch, compiler, ..Record::of(found) };
                if stored.record.generation == current.generation {
                    return Ok(stored);
                }
                (current, stored.resource_version)
            }
            Some(stored) => {
                ends = stored.record.epoch.is_some();
                (Record::of(found), stored.resource_version)
            }
        };
        let written = write_record(&self.client, &self.service.namespace, &record, version).await?;
        // Said by the replica that was first.
        if ends {
            EpochEnded { configuration: SHARED }.emit(&self.telemetry);
        }
        Ok(written)
    }

    /// Says first what will be written, so that no replica takes it for somebody else's doing.
    async fn write_shared(
        &self,
        configurations: &Api<ValidatingWebhookConfiguration>,
        found: ValidatingWebhookConfiguration,
        wanted: Vec<ValidatingWebhook>,
        stored: StoredRecord,
        changed_by_others: bool,
    ) -> kube::Result<Option<String>> {
        let namespace = &self.service.namespace;
        // Entries that see more than before do not vouch for the time before.
        let carried = found.webhooks.as_deref().is_some_and(|before| see_the_same(before, &wanted));
        let epoch = stored.record.epoch.filter(|_| carried);
        let compiler = stored.record.compiler;
        let announced = Record { epoch, next: Some(hash(&wanted)), compiler, ..Record::of(&found) };
        let stored = write_record(&self.client, namespace, &announced, stored.resource_version).await?;
        info!(configuration = SHARED, "the shared entries are written");
        let wanted = ValidatingWebhookConfiguration { webhooks: Some(wanted), ..found };
        let written = configurations.replace(SHARED, &PostParams::default(), &wanted).await?;
        if changed_by_others {
            let uid = written.uid().unwrap_or_default();
            let (kind, what) = ("ValidatingWebhookConfiguration", "was changed");
            DriftRepaired { kind, name: SHARED, what, shared: &uid }.emit(&self.telemetry);
        }
        let record = Record { epoch: announced.epoch, compiler: COMPILER, ..Record::of(&written) };
        let stored = write_record(&self.client, namespace, &record, stored.resource_version).await?;
        Ok(stored.record.epoch)
    }
}

/// Whether two sets of entries differ only in where Tagout is and by which authority it is known.
fn see_the_same(one: &[ValidatingWebhook], other: &[ValidatingWebhook]) -> bool {
    let bare = |webhooks: &[ValidatingWebhook]| -> Vec<ValidatingWebhook> {
        let bare = |webhook: &ValidatingWebhook| ValidatingWebhook {
            client_config: WebhookClientConfig::default(),
            ..webhook.clone()
        };
        webhooks.iter().map(bare).collect()
    };
    bare(one) == bare(other)
}
