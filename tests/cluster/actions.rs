//! What an update can be: each way to destroy meets the same rule.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, deployment, eventually, shared, text};

/// A change that needs approval by its action, and passes with it in one try.
fn needs(namespace: &Namespace, what: &str, action: &str, change: impl Fn() -> crate::world::Outcome) {
    change().is_refused(&[&format!("denied {action} of "), "needs approval by 1 of approvers", "Stop here"]);
    let mut statement = namespace.statement(what, User::Alice);
    statement["action"] = json!(action);
    namespace.present(User::Alice, what, &json!([statement])).succeeds();
    change().succeeds();
}

fn patch<'a>(namespace: &'a Namespace, what: &'a str, patch: &'a Value) -> impl Fn() -> crate::world::Outcome + 'a {
    move || namespace.kubectl(User::Agent, &["patch", what, "--type=merge", "-p", &patch.to_string()])
}

fn production() -> Namespace<'static> {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace
}

#[test]
fn scaling_to_zero_in_the_spec_needs_approval_and_scaling_down_does_not() {
    let namespace = production();
    patch(&namespace, "deployment/api", &json!({"spec": {"replicas": 3}}))().succeeds();
    patch(&namespace, "deployment/api", &json!({"spec": {"replicas": 1}}))().succeeds();
    needs(
        &namespace,
        "deployment/api",
        "ScaleToZero",
        patch(&namespace, "deployment/api", &json!({"spec": {"replicas": 0}})),
    );
    patch(&namespace, "deployment/api", &json!({"spec": {"replicas": 2}}))().succeeds();
}

#[test]
fn scaling_to_zero_through_the_scale_subresource_needs_approval() {
    let namespace = production();
    let scale = |to: &'static str| namespace.kubectl(User::Agent, &["scale", "deployment/api", to]);
    scale("--replicas=2").succeeds();
    needs(&namespace, "deployment/api", "ScaleToZero", || scale("--replicas=0"));
    // One by one it is the same.
    scale("--replicas=1").succeeds();
}

#[test]
fn a_labelled_deployment_anywhere_cannot_be_scaled_to_zero_though_a_scale_has_no_labels() {
    let namespace = shared().unprotected();
    namespace.deployment("db");
    namespace.deployment("other");
    namespace.kubectl(User::Admin, &["label", "deployment/db", "tagout.dev/protect=true"]).succeeds();
    namespace
        .kubectl(User::Agent, &["scale", "deployment/db", "--replicas=0"])
        .is_refused(&["denied ScaleToZero of deployments.apps \"db\"", "labelled-objects"]);
    namespace.kubectl(User::Agent, &["scale", "deployment/other", "--replicas=0"]).succeeds();
}

#[test]
fn suspending_a_cron_job_needs_approval() {
    let namespace = shared().production();
    let job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"}, "spec": {
        "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "example.com/main:1"}]}}}}}});
    namespace.apply(User::Admin, &job).succeeds();
    patch(&namespace, "cronjob/report", &json!({"spec": {"suspend": true}}))()
        .is_refused(&["denied ScaleToZero", "suspended"]);
}

#[test]
fn a_daemon_set_is_not_placed_where_no_node_is() {
    let namespace = shared().production();
    let mut set = deployment("agent");
    set["kind"] = json!("DaemonSet");
    set["spec"].as_object_mut().unwrap().remove("replicas");
    namespace.apply(User::Admin, &set).succeeds();
    let place = |selector: Value| json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
    patch(&namespace, "daemonset/agent", &place(json!({"kubernetes.io/os": "linux"})))();
    patch(&namespace, "daemonset/agent", &place(json!({"no": "such"})))()
        .is_refused(&["denied ScaleToZero", "no node"]);
}

#[test]
fn the_replica_set_of_a_paused_deployment_stands_for_it() {
    let namespace = production();
    eventually("it has a ReplicaSet", || {
        namespace.kubectl(User::Admin, &["get", "rs", "-o", "name"]).out.contains("api")
    });
    namespace.kubectl(User::Agent, &["rollout", "status", "deployment/api", "--timeout=60s"]).succeeds();
    let set = namespace.kubectl(User::Admin, &["get", "rs", "-o", "name"]).out.trim().to_owned();
    namespace.kubectl(User::Agent, &["rollout", "pause", "deployment/api"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", &set]).is_refused(&["denied ScaleToZero of deployments.apps \"api\""]);
    namespace.kubectl(User::Agent, &["rollout", "resume", "deployment/api"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", &set]).succeeds();
    eventually("it is made anew", || namespace.get("deployment/api")["status"]["readyReplicas"] == json!(1));
}

#[test]
fn an_owner_that_is_not_there_is_refused_and_one_that_lives_is_not() {
    let namespace = production();
    namespace.kubectl(User::Admin, &["create", "configmap", "owner"]).succeeds();
    let uid = text(&namespace.get("configmap/owner")["metadata"]["uid"]);
    let owner = |uid: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]}});
    needs(
        &namespace,
        "deployment/api",
        "Reparent",
        patch(&namespace, "deployment/api", &owner("11111111-2222-3333-4444-555555555555")),
    );
    namespace.deployment("web");
    patch(&namespace, "deployment/web", &owner(&uid))().succeeds();
}

#[test]
fn a_finalizer_stays_on_what_is_not_going() {
    let namespace = production();
    patch(&namespace, "deployment/api", &json!({"metadata": {"finalizers": ["example.com/keep"]}}))().succeeds();
    needs(
        &namespace,
        "deployment/api",
        "Finalize",
        patch(&namespace, "deployment/api", &json!({"metadata": {"finalizers": []}})),
    );
}

#[test]
fn the_claims_of_a_stateful_set_do_not_go_with_it_unasked() {
    let namespace = shared().production();
    let mut set = deployment("db");
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("db");
    namespace.apply(User::Admin, &set).succeeds();
    let policy = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}});
    needs(&namespace, "statefulset/db", "DiscardData", patch(&namespace, "statefulset/db", &policy));
}

#[test]
fn a_secret_is_not_emptied_and_is_rotated() {
    let namespace = shared().production();
    namespace
        .kubectl(User::Admin, &["create", "secret", "generic", "key", "--from-literal=a=b", "--from-literal=c=d"])
        .succeeds();
    patch(&namespace, "secret/key", &json!({"stringData": {"a": "other"}, "data": {"c": null}}))().succeeds();
    for emptied in [json!({"data": null}), json!({"data": {"a": ""}}), json!({"data": {"a": null, "dummy": "eA=="}})] {
        patch(&namespace, "secret/key", &emptied)().is_refused(&["denied DiscardData of secrets \"key\""]);
    }
}

#[test]
fn a_label_or_annotation_that_takes_an_object_out_of_its_rule_is_refused() {
    let namespace = shared().unprotected();
    namespace.deployment("db");
    namespace.kubectl(User::Admin, &["label", "deployment/db", "tagout.dev/protect=true"]).succeeds();
    namespace
        .kubectl(User::Agent, &["label", "deployment/db", "tagout.dev/protect-"])
        .is_refused(&["denied Unprotect of deployments.apps \"db\""]);
    let both = json!({"metadata": {"labels": {"tagout.dev/protect": null}}, "spec": {"replicas": 0}});
    patch(&namespace, "deployment/db", &both)().is_refused(&["denied"]);
    let production = shared().production();
    production.kubectl(User::Admin, &["create", "configmap", "settings", "--from-literal=a=b"]).succeeds();
    production
        .kubectl(User::Agent, &["annotate", "configmap/settings", "helm.sh/hook=test"])
        .is_refused(&["denied Unprotect of configmaps \"settings\""]);
}

#[test]
fn a_namespace_does_not_leave_production_by_any_route() {
    let namespace = production();
    let name = format!("namespace/{}", namespace.name);
    let refused = ["denied Unprotect of namespaces", "production"];
    shared().kubectl(User::Agent, &["label", &name, "environment-"]).is_refused(&refused);
    shared().kubectl(User::Agent, &["label", &name, "environment=test", "--overwrite"]).is_refused(&refused);
    let patch = json!({"metadata": {"labels": {"environment": null}}}).to_string();
    shared()
        .kubectl(User::Agent, &["patch", &name, "--subresource=status", "--type=merge", "-p", &patch])
        .is_refused(&refused);
    let mut emptied = namespace.get(&name);
    emptied["spec"]["finalizers"] = json!([]);
    let finalize = format!("/api/v1/namespaces/{}/finalize", namespace.name);
    shared()
        .kubectl_with(User::Agent, &["replace", "--raw", &finalize, "-f", "-"], &emptied.to_string())
        .is_refused(&["denied Finalize of namespaces"]);
    emptied["spec"]["finalizers"] = json!(["kubernetes"]);
    emptied["metadata"]["labels"]["environment"] = json!("test");
    shared()
        .kubectl_with(User::Agent, &["replace", "--raw", &finalize, "-f", "-"], &emptied.to_string())
        .is_refused(&refused);
    shared().kubectl(User::Agent, &["label", &name, "team=payments"]).succeeds();
}

#[test]
fn a_condition_that_an_update_makes_false_is_refused() {
    let world = shared();
    let mut rule = crate::world::rule("conditional", "conditional");
    rule["spec"]["matchConditions"] =
        json!([{"name": "tier", "expression": "object.metadata.?labels['tier'].orValue('') != 'batch'"}]);
    world.rule(&rule);
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=conditional"]).succeeds();
    namespace.deployment("api");
    namespace
        .kubectl(User::Agent, &["label", "deployment/api", "tier=batch"])
        .is_refused(&["denied Unprotect of deployments.apps \"api\"", "conditions of rule conditional"]);
    namespace.kubectl(User::Agent, &["label", "deployment/api", "tier=web"]).succeeds();
}

#[test]
fn a_volume_keeps_its_data_and_its_claim() {
    let namespace = shared().production();
    let name = format!("volume-{}", namespace.name);
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "", "hostPath": {"path": "/tmp/none"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}});
    shared().apply(User::Admin, &volume).succeeds();
    namespace.apply(User::Admin, &claim).succeeds();
    let volume = format!("pv/{name}");
    eventually("it is bound", || shared().get(&[&volume])["status"]["phase"] == "Bound");
    patch(&namespace, &volume, &json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}))()
        .is_refused(&["denied DiscardData"]);
    patch(&namespace, &volume, &json!({"spec": {"claimRef": null}}))().is_refused(&["denied DiscardData"]);
    patch(&namespace, &volume, &json!({"spec": {"claimRef": {"name": "other"}}}))().is_refused(&["denied DiscardData"]);
    let released = json!({"status": {"phase": "Released"}}).to_string();
    namespace
        .kubectl(User::Agent, &["patch", &volume, "--subresource=status", "--type=merge", "-p", &released])
        .is_refused(&["denied DiscardData"]);
    namespace
        .kubectl(User::Agent, &["delete", &volume, "--wait=false"])
        .is_refused(&["denied Delete of persistentvolumes"]);
}
