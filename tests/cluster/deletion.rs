//! Deletion without approval is refused, whoever asks and however it is asked.

use controlplane::User;
use serde_json::json;

use crate::world::{deployment, shared, text};

const REFUSED: &str = "needs approval by 1 of approvers (rule production)";

#[test]
fn everyone_is_refused_alike() {
    let namespace = shared().production();
    namespace.deployment("api");
    for user in [User::Agent, User::Ci, User::Admin, User::Carol, User::Alice] {
        namespace.kubectl(user, &["delete", "deployment", "api"]).is_refused(&["(Forbidden)", REFUSED]);
    }
    assert!(namespace.exists("deployment/api"));
}

#[test]
fn a_denial_names_the_object_and_the_way_to_ask_and_no_way_around() {
    let namespace = shared().production();
    namespace.deployment("api");
    let denial = namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[]).err;
    let name = &namespace.name;
    assert!(denial.contains(&format!(
        "tagout: denied Delete of deployments.apps \"api\" in \"{name}\": {REFUSED}. Request: to-"
    )));
    assert!(denial.contains(&format!("kubectl tagout approve deployments.apps/api -n {name}")));
    assert!(denial.contains("Stop here and hand this to a person."));
    for bypass in ["annotat", "label", "webhook configuration", "scale", "finalizer", "--force"] {
        assert!(!denial.to_lowercase().contains(bypass), "{bypass} in {denial}");
    }
}

#[test]
fn the_first_line_is_equal_on_every_retry_and_in_a_dry_run() {
    let namespace = shared().production();
    namespace.deployment("api");
    let first_line = |args: &[&str]| {
        let err =
            namespace.kubectl(User::Agent, &[&["delete", "deployment", "api"], args].concat()).is_refused(&[]).err;
        err.lines().next().unwrap_or_default().to_owned()
    };
    let first = first_line(&[]);
    assert_eq!(first, first_line(&[]));
    assert_eq!(first, first_line(&["--dry-run=server"]));
    assert_eq!(first, first_line(&["--cascade=orphan"]));
}

#[test]
fn every_form_of_kubectl_delete_is_refused() {
    let namespace = shared().production();
    namespace.deployment("api");
    for form in [
        &["delete", "deployment/api"][..],
        &["delete", "deployment", "-l", "app=api"],
        &["delete", "deployment", "--all"],
        &["delete", "deployment", "api", "--force", "--grace-period=0"],
        &["delete", "deployment", "api", "--now"],
        &["delete", "deployment", "api", "--cascade=orphan"],
        &["delete", "deployment", "api", "--cascade=foreground"],
        &["delete", "deployment", "api", "--cascade=background"],
        &["delete", "deployment", "api", "--dry-run=server"],
    ] {
        namespace.kubectl(User::Agent, form).is_refused(&[REFUSED]);
        let live = namespace.get("deployment/api");
        assert!(live["metadata"]["deletionTimestamp"].is_null(), "{form:?}");
    }
}

#[test]
fn each_item_of_a_collection_is_judged_though_the_request_names_none() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    namespace.deployment("web");
    let collection = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    world.kubectl(User::Agent, &["delete", "--raw", &collection]).is_refused(&["deployments.apps \"", REFUSED]);
    assert!(namespace.exists("deployment/api") && namespace.exists("deployment/web"));

    namespace.approve(User::Alice, "deployment/api");
    namespace.approve(User::Alice, "deployment/web");
    world.kubectl(User::Agent, &["delete", "--raw", &collection]).succeeds();
    assert!(!namespace.exists("deployment/api") && !namespace.exists("deployment/web"));
}

#[test]
fn replace_by_force_is_refused_before_anything_is_gone() {
    let namespace = shared().production();
    namespace.deployment("api");
    let before = text(&namespace.get("deployment/api")["metadata"]["uid"]);
    let manifest = deployment("api").to_string();
    let name = namespace.name.as_str();
    shared()
        .kubectl_with(User::Agent, &["-n", name, "replace", "--force", "-f", "-"], &manifest)
        .is_refused(&[REFUSED]);
    assert_eq!(before, text(&namespace.get("deployment/api")["metadata"]["uid"]));
}

#[test]
fn pruning_is_refused() {
    let namespace = shared().production();
    namespace.deployment("api");
    let (world, name) = (shared(), namespace.name.as_str());
    let nothing_left =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left", "labels": {"app": "api"}}});
    world
        .kubectl_with(
            User::Agent,
            &["-n", name, "apply", "--prune", "-l", "app=api", "-f", "-"],
            &nothing_left.to_string(),
        )
        .is_refused(&[REFUSED]);
    assert!(namespace.exists("deployment/api"));
}

#[test]
fn a_production_namespace_is_refused_before_anything_in_it_is_gone() {
    let namespace = shared().production();
    namespace.kubectl(User::Admin, &["create", "configmap", "settings", "--from-literal=a=b"]).succeeds();
    shared()
        .kubectl(User::Agent, &["delete", "namespace", &namespace.name])
        .is_refused(&["needs approval by 1 of approvers (rules production, production-settings)"]);
    assert!(namespace.exists("configmap/settings"));
    assert_eq!(namespace.get(&format!("namespace/{}", namespace.name))["status"]["phase"], "Active");
}

#[test]
fn a_label_on_a_single_object_protects_it_anywhere() {
    let namespace = shared().unprotected();
    namespace.deployment("api");
    namespace.deployment("scratch");
    namespace.kubectl(User::Admin, &["label", "deployment", "api", "tagout.dev/protect=true"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["(rule labelled-objects)"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "scratch"]).succeeds();
}

#[test]
fn every_kind_of_the_default_rules_is_protected() {
    let namespace = shared().production();
    let pod = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}});
    let selector = json!({"matchLabels": {"app": "x"}});
    for (what, manifest) in [
        (
            "statefulset/x",
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"serviceName": "x", "selector": selector, "template": pod}}),
        ),
        (
            "daemonset/x",
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {"selector": selector, "template": pod}}),
        ),
        (
            "cronjob/x",
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}}}}}),
        ),
        (
            "persistentvolumeclaim/x",
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
    ] {
        let mut manifest = manifest;
        manifest["metadata"] = json!({"name": "x"});
        namespace.apply(User::Admin, &manifest).succeeds();
        namespace.kubectl(User::Agent, &["delete", what]).is_refused(&[REFUSED]);
    }
}

#[test]
fn what_a_rule_does_not_name_never_leaves_the_api_server() {
    // Other tests run at the same time, so the counters of shared webhooks say nothing: those of a rule of its own do.
    let world = shared();
    world.rule(&crate::world::rule("never-called", "never-called"));
    let namespace = world.unprotected();
    crate::install::live_and_die(&namespace);
    assert_eq!(world.calls("delete.never-called.tagout.dev"), 0);
}
