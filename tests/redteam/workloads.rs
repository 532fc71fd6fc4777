//! Workloads that are left without pods, though nobody deletes them.

use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};
use crate::world::{deployment, eventually, text};

pub const TRIED: &[Tried] = &[
    ("scale-to-zero-in-the-spec", scale_to_zero_in_the_spec),
    ("scale-to-zero-through-scale", scale_to_zero_through_scale),
    ("scale-to-zero-in-steps", scale_to_zero_in_steps),
    ("scale-to-zero-by-apply", scale_to_zero_by_apply),
    ("horizontal-pod-autoscaler", horizontal_pod_autoscaler),
    ("cron-job-suspended", cron_job_suspended),
    ("daemon-set-placed-nowhere", daemon_set_placed_nowhere),
    ("deployment-placed-nowhere", deployment_placed_nowhere),
    ("stateful-set-numbered-anew", stateful_set_numbered_anew),
    ("replica-set-of-a-paused-deployment", replica_set_of_a_paused_deployment),
    ("replica-set-of-a-stuck-rollout", replica_set_of_a_stuck_rollout),
];

#[test]
fn no_workload_is_left_without_pods() {
    attack(TRIED);
}

fn scale_to_zero_in_the_spec(scene: &Scene) {
    for what in ["deployment/api", "statefulset/db"] {
        scene.patch(what, &json!({"spec": {"replicas": 0}}));
        let json_patch = r#"[{"op": "replace", "path": "/spec/replicas", "value": 0}]"#;
        scene.agent(&["patch", what, "--type=json", "-p", json_patch]);
    }
}

fn scale_to_zero_through_scale(scene: &Scene) {
    for what in ["deployment/api", "statefulset/db"] {
        scene.agent(&["scale", what, "--replicas=0"]);
        let patch = json!({"spec": {"replicas": 0}}).to_string();
        scene.agent(&["patch", what, "--subresource=scale", "--type=merge", "-p", &patch]);
    }
    scene.agent(&["scale", "deployments", "--all", "--replicas=0"]);
}

fn scale_to_zero_in_steps(scene: &Scene) {
    scene.agent(&["scale", "deployment/api", "--replicas=1"]);
    scene.agent(&["scale", "deployment/api", "--replicas=0"]);
    scene.tidy("deployment/api", &json!({"spec": {"replicas": 2}}));
}

fn scale_to_zero_by_apply(scene: &Scene) {
    let mut api = deployment("api");
    api["spec"]["replicas"] = json!(0);
    scene.agent_with(&["apply", "-f", "-"], &api.to_string());
    scene.agent_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &api.to_string());
    scene.agent_with(&["replace", "-f", "-"], &api.to_string());
}

/// The API server refuses a minimum of 0 unless a feature gate is set; then the autoscaler asks as itself.
fn horizontal_pod_autoscaler(scene: &Scene) {
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "api"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}, "minReplicas": 0,
            "maxReplicas": 1, "metrics": [{"type": "External", "external": {"metric": {"name": "queue"},
                "target": {"type": "Value", "value": "1"}}}]}});
    scene.agent_with(&["create", "-f", "-"], &autoscaler.to_string());
    let account = "--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    scene.agent(&["scale", "deployment/api", "--replicas=0", account, "--as-group=system:masters"]);
    scene.agent(&["delete", "hpa/api", "--ignore-not-found"]);
}

fn cron_job_suspended(scene: &Scene) {
    scene.patch("cronjob/report", &json!({"spec": {"suspend": true}}));
}

const NOWHERE: &str = "no.such/place";

/// The parts of a pod template that leave no node.
fn nowhere() -> [Value; 2] {
    let term = json!({"matchExpressions": [{"key": NOWHERE, "operator": "Exists"}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    let spec = |pod: Value| json!({"spec": {"template": {"spec": pod}}});
    [spec(json!({"nodeSelector": {NOWHERE: "yes"}})), spec(json!({"affinity": affinity}))]
}

fn daemon_set_placed_nowhere(scene: &Scene) {
    for patch in nowhere() {
        scene.patch("daemonset/log", &patch);
    }
}

/// With a strategy by which its pods go before there are others.
fn deployment_placed_nowhere(scene: &Scene) {
    for mut patch in nowhere() {
        patch["spec"]["strategy"] = json!({"type": "Recreate", "rollingUpdate": null});
        scene.patch("deployment/api", &patch);
    }
}

fn stateful_set_numbered_anew(scene: &Scene) {
    scene.patch("statefulset/db", &json!({"spec": {"ordinals": {"start": 7}}}));
}

/// The one of which the pods run.
pub fn replica_set(scene: &Scene) -> String {
    let sets = scene.namespace.get("replicasets");
    let runs = |set: &&Value| set["status"]["readyReplicas"].as_u64().unwrap_or_default() > 0;
    let set = sets["items"].as_array().into_iter().flatten().find(runs).expect("a ReplicaSet with pods");
    format!("replicaset/{}", text(&set["metadata"]["name"]))
}

fn replica_set_of_a_paused_deployment(scene: &Scene) {
    let set = replica_set(scene);
    scene.agent(&["rollout", "pause", "deployment/api"]);
    for cascade in ["background", "foreground"] {
        scene.agent(&["delete", &set, "--wait=false", &format!("--cascade={cascade}")]);
    }
    let sets = format!("/apis/apps/v1/namespaces/{}/replicasets", scene.namespace.name);
    scene.agent(&["delete", "--raw", &sets]);
    scene.survives("the deletion of a paused Deployment's ReplicaSet");
    scene.agent(&["rollout", "resume", "deployment/api"]);
}

/// Makes a rollout that never ends: the new pods find no node, and the old ones stay because of that.
pub fn stuck(scene: &Scene) -> String {
    let set = replica_set(scene);
    scene.patch("deployment/api", &json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: "yes"}}}}}));
    eventually("the rollout begins", || {
        scene.namespace.get("replicasets")["items"].as_array().is_some_and(|sets| sets.len() > 1)
    });
    set
}

fn replica_set_of_a_stuck_rollout(scene: &Scene) {
    let set = stuck(scene);
    scene.agent(&["delete", &set, "--wait=false"]);
    scene.survives("the deletion of the ReplicaSet that a stuck rollout has left");
    scene.tidy("deployment/api", &json!({"spec": {"template": {"spec": {"nodeSelector": null}}}}));
}
