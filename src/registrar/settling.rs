//! When the lock may close that has been open: not while whoever installs or changes Tagout is still at it.
//!
//! Helm writes down in Tagout's own namespace what it has done, after what it has done is in force. Locked out of there in
//! between it would never know that it was done, and the next upgrade would find one under way.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};

use super::Service;

#[derive(Default)]
pub(super) struct Settling {
    /// Since when a lock is wanted.
    wanted: Option<Instant>,
    /// When a rollout was last seen under way.
    moved: Option<Instant>,
}

/// So long nothing has to move: whoever waits for a rollout looks every few seconds.
const REST: Duration = Duration::from_secs(15);
/// Helm waits for five minutes unless it is told otherwise; a rollout that never ends keeps nothing open.
const LONGEST: Duration = Duration::from_mins(10);

impl Settling {
    /// Of a Tagout that is no Deployment of its Service's name nothing is awaited.
    pub(super) async fn is_over(&mut self, client: &Client, service: &Service) -> bool {
        let wanted = *self.wanted.get_or_insert_with(Instant::now);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &service.namespace);
        let found = deployments.get_opt(&service.name).await;
        if !found.is_ok_and(|found| found.as_ref().is_none_or(is_rolled_out)) {
            self.moved = Some(Instant::now());
        }
        let rests = self.moved.unwrap_or(wanted).elapsed() >= REST;
        (wanted.elapsed() >= REST && rests) || wanted.elapsed() >= LONGEST
    }
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    status.is_some_and(|status| {
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        status.observed_generation >= deployment.metadata.generation
            && all.iter().all(|count| count.unwrap_or_default() == wanted)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(change: &Value) -> Deployment {
        let mut whole = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}});
        json_patch::merge(&mut whole, change);
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_rollout_is_over_when_all_pods_are_new_and_available_and_no_old_one_is_left() {
        assert!(is_rolled_out(&deployment(&json!({}))));
        assert!(is_rolled_out(&deployment(&json!({"spec": {"replicas": 0}, "status": {"replicas": null,
            "updatedReplicas": null, "availableReplicas": null}}))));
        for under_way in [
            json!({"status": null}),
            json!({"metadata": {"generation": 3}}),
            json!({"status": {"replicas": 3}}),
            json!({"status": {"updatedReplicas": 1}}),
            json!({"status": {"availableReplicas": 1}}),
        ] {
            assert!(!is_rolled_out(&deployment(&under_way)), "{under_way}");
        }
    }
}
