//! Old `Approval`s and records of deletions go by themselves.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, ResourceExt};
use tracing::info;

use super::Registrar;
use crate::api::{Approval, DeletionRecord};
use crate::cluster::delete_exactly;

/// Long enough to be looked at by whoever asks what happened.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// A cascade may take as long as finalizers let it.
const RECORDS_KEPT: SignedDuration = SignedDuration::from_hours(72);
const BETWEEN_SWEEPS: Duration = Duration::from_mins(5);

impl Registrar {
    pub(super) async fn sweep(&mut self) -> kube::Result<()> {
        if self.swept.is_some_and(|at| at.elapsed() < BETWEEN_SWEEPS) {
            return Ok(());
        }
        self.swept = Some(Instant::now());
        let approvals: Api<DeserializeGuard<Approval>> = Api::all(self.client.clone());
        let list = match approvals.list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            list => list?,
        };
        for approval in list.into_iter().filter_map(|approval| approval.0.ok()) {
            let over = |expires: Timestamp| Timestamp::now().duration_since(expires) > KEPT;
            if !approval.spec.statements.iter().all(|statement| over(statement.expires)) {
                continue;
            }
            if delete_exactly(&approvals, &approval.metadata).await? {
                info!(approval = approval.name_any(), "all it says is long over: it goes");
            }
        }
        self.sweep_records().await
    }

    async fn sweep_records(&self) -> kube::Result<()> {
        let records: Api<PartialObjectMeta<DeletionRecord>> = Api::all(self.client.clone());
        let list = match records.list_metadata(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            list => list?,
        };
        for record in list {
            let created = record.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
            if Timestamp::now().duration_since(created) > RECORDS_KEPT {
                delete_exactly(&records, &record.metadata).await?;
            }
        }
        Ok(())
    }
}
