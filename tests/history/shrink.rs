//! Makes a history that disagrees as short as it gets, by trying shorter ones on fresh namespaces.

use anyhow::Result;

use super::cluster::Cluster;
use super::operation::Operation;
use super::run::{Disagreement, Plan, replay};

/// So many are tried: each takes some seconds.
const TRIALS: usize = 40;

/// The shortest found that disagrees alike, and how many were tried.
pub async fn shrink(cluster: &Cluster, name: &str, plan: &Plan, found: &Disagreement) -> Result<(Plan, usize)> {
    let mut best = plan.operations.clone();
    let mut trials = 0;
    let mut parts = 2;
    // What leaves out one of ever more parts.
    while best.len() > 1 && trials < TRIALS {
        let size = best.len().div_ceil(parts);
        let mut shorter = None;
        for at in (0..best.len()).step_by(size) {
            if trials == TRIALS {
                break;
            }
            trials += 1;
            let operations: Vec<Operation> =
                best[..at].iter().chain(&best[(at + size).min(best.len())..]).cloned().collect();
            let candidate = Plan { operations, ..plan.clone() };
            let report = replay(cluster, &format!("{name}-s{trials}"), &candidate).await?;
            if report.disagreement.is_some_and(|one| one.is_like(found)) {
                shorter = Some(report.done);
                break;
            }
        }
        match shorter {
            Some(operations) => {
                best = operations;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(best.len()),
        }
    }
    Ok((Plan { operations: best, ..plan.clone() }, trials))
}
