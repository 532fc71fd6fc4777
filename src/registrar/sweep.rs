//! Old `Approval`s go by themselves.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use tracing::info;

use super::Registrar;
use crate::api::Approval;
use crate::cluster::delete_exactly;

/// Long enough to be looked at by whoever asks what happened.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
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
        Ok(())
    }
}
