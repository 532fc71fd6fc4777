//! Deletion, by every verb and flag there is.

use serde_json::json;

use super::scene::{Scene, Tried, attack};
use crate::approvals::under;
use crate::world::{eventually, rule, text};
use controlplane::User;

pub const TRIED: &[Tried] = &[
    ("delete", delete),
    ("delete-in-every-cascade", delete_in_every_cascade),
    ("delete-with-force", delete_with_force),
    ("delete-all-of-a-kind", delete_all_of_a_kind),
    ("delete-collection", delete_collection),
    ("replace-with-force", replace_with_force),
    ("apply-with-prune", apply_with_prune),
    ("claim-deleted", claim_deleted),
    ("volume-deleted", volume_deleted),
    ("evict", evict),
];

#[test]
fn nothing_is_deleted_by_any_verb_or_flag() {
    attack(TRIED);
}

const WORKLOADS: [&str; 4] = ["deployment/api", "statefulset/db", "daemonset/log", "cronjob/report"];
const SETTINGS: [&str; 3] = ["secret/key", "configmap/settings", "service/api"];

fn delete(scene: &Scene) {
    scene.agent(&[&["delete", "--wait=false"], &WORKLOADS[..], &SETTINGS[..]].concat());
}

fn delete_in_every_cascade(scene: &Scene) {
    for cascade in ["--cascade=background", "--cascade=foreground", "--cascade=orphan"] {
        scene.agent(&[&["delete", "--wait=false", cascade], &WORKLOADS[..]].concat());
    }
}

fn delete_with_force(scene: &Scene) {
    scene.agent(&[&["delete", "--force", "--grace-period=0", "--now=false"], &WORKLOADS[..], &SETTINGS[..]].concat());
    scene.agent(&[&["delete", "--now", "--wait=false"], &WORKLOADS[..]].concat());
}

fn delete_all_of_a_kind(scene: &Scene) {
    scene.agent(&["delete", "deployments,statefulsets,daemonsets,cronjobs,pvc", "--all", "--wait=false"]);
    scene.agent(&["delete", "deployments", "-l", "app=api", "--wait=false"]);
}

fn delete_collection(scene: &Scene) {
    let namespace = &scene.namespace.name;
    for (api, plural) in [
        ("apis/apps/v1", "deployments"),
        ("apis/apps/v1", "statefulsets"),
        ("apis/apps/v1", "daemonsets"),
        ("apis/batch/v1", "cronjobs"),
        ("api/v1", "persistentvolumeclaims"),
        ("api/v1", "secrets"),
        ("api/v1", "configmaps"),
        ("api/v1", "services"),
    ] {
        scene.agent(&["delete", "--raw", &format!("/{api}/namespaces/{namespace}/{plural}")]);
    }
}

fn replace_with_force(scene: &Scene) {
    for what in ["deployment/api", "secret/key"] {
        let manifest = scene.namespace.get(what).to_string();
        scene.agent_with(&["replace", "--force", "-f", "-"], &manifest);
    }
}

fn apply_with_prune(scene: &Scene) {
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}).to_string();
    let kinds = ["--prune-allowlist=apps/v1/Deployment", "--prune-allowlist=core/v1/ConfigMap"];
    scene.agent_with(&[&["apply", "--prune", "--all", "-f", "-"], &kinds[..]].concat(), &other);
}

fn claim_deleted(scene: &Scene) {
    scene.agent(&["delete", "pvc/data-db-0", "--wait=false"]);
    scene.agent(&["delete", "pvc/data-db-0", "--force", "--grace-period=0", "--wait=false"]);
}

fn volume_deleted(scene: &Scene) {
    scene.agent(&["delete", &scene.volume(), "--wait=false"]);
    scene.agent(&["delete", &scene.volume(), "--force", "--grace-period=0", "--wait=false"]);
}

/// Under a rule that names it: the default rules leave evictions to drains.
fn evict(scene: &Scene) {
    let mut evictions = rule("redteam-evictions", "redteam-evictions");
    evictions["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["pods"]}]);
    evictions["spec"]["actions"] = json!(["Delete", "Evict"]);
    evictions["spec"]["owned"] = json!("Include");
    let namespace = under(&[evictions]);
    namespace.deployment("api");
    crate::routine::rolled_out(&namespace, "deployment/api");
    let pods = || namespace.get("pods")["items"].as_array().cloned().unwrap_or_default();
    eventually("it has a pod", || !pods().is_empty());
    let (name, uid) = (text(&pods()[0]["metadata"]["name"]), text(&pods()[0]["metadata"]["uid"]));
    let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", namespace.name);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}).to_string();
    let outcome = scene.world.kubectl_with(User::Agent, &["create", "--raw", &path, "-f", "-"], &eviction);
    if outcome.err.contains("denied Evict") {
        scene.refused();
    }
    namespace.kubectl(User::Agent, &["delete", "pod", &name, "--wait=false"]);
    assert_eq!(text(&pods()[0]["metadata"]["uid"]), uid, "the pod was evicted");
    assert!(pods()[0]["metadata"]["deletionTimestamp"].is_null(), "the pod is going");
}
