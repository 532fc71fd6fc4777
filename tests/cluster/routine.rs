//! A day's work in production: nothing of it is refused, by Tagout or for want of Tagout.

use std::fs;

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, World, deployment, eventually, shared, text};

/// What is tested here with Tagout enforcing, and again while its process is dead.
pub type Behaviour = (&'static str, fn(&World));

macro_rules! daily_work {
    ($($behaviour:ident),* $(,)?) => {
        pub const DAILY_WORK: &[Behaviour] = &[$((stringify!($behaviour), $behaviour)),*];

        mod enforcing {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(super::shared());
            })*
        }
    };
}

daily_work! {
    a_deployment_rolls_out_and_back_and_restarts,
    a_deployment_scales_down_and_up,
    replica_sets_beyond_the_history_go,
    stateful_sets_and_daemon_sets_are_updated,
    a_pod_that_is_deleted_or_evicted_comes_back,
    a_finished_job_goes_when_its_time_is_over,
    a_cron_job_makes_jobs_and_keeps_its_history_short,
    the_garbage_collector_clears_up_after_unprotected_owners,
    settings_are_rotated_and_what_generators_made_is_pruned,
    an_unprotected_namespace_goes_with_everything_in_it,
    a_deployment_with_ephemeral_volumes_rolls_out,
    a_stateful_set_with_ephemeral_volumes_rolls_out,
    objects_are_applied_from_the_server_side_and_edited,
    nodes_renew_their_leases,
    helm_manages_a_release_in_an_unprotected_namespace,
    helm_upgrades_and_rolls_back_with_hooks_in_production,
}

fn a_deployment_rolls_out_and_back_and_restarts(world: &World) {
    let namespace = world.production();
    namespace.deployment("api");
    rolled_out(&namespace, "deployment/api");
    for (change, image) in [
        (&["set", "image", "deployment/api", "main=example.com/main:2"][..], "example.com/main:2"),
        (&["rollout", "undo", "deployment/api"], "example.com/main:1"),
        (&["rollout", "restart", "deployment/api"], "example.com/main:1"),
    ] {
        let before = pod_names(&namespace, "app=api");
        namespace.kubectl(User::Ci, change).succeeds();
        rolled_out(&namespace, "deployment/api");
        eventually(&format!("{change:?} replaces the pods"), || {
            let pods = items(&namespace, "pods", "app=api");
            pods.len() == 1 && !before.contains(&name(&pods[0])) && pods[0]["spec"]["containers"][0]["image"] == image
        });
    }
}

fn a_deployment_scales_down_and_up(world: &World) {
    let namespace = world.production();
    namespace.deployment("api");
    for replicas in [3, 2, 3] {
        namespace.kubectl(User::Ci, &["scale", "deployment/api", &format!("--replicas={replicas}")]).succeeds();
        rolled_out(&namespace, "deployment/api");
        eventually("pods come and go", || items(&namespace, "pods", "app=api").len() == replicas);
    }
}

fn replica_sets_beyond_the_history_go(world: &World) {
    let namespace = world.production();
    let mut api = deployment("api");
    api["spec"]["revisionHistoryLimit"] = json!(1);
    namespace.apply(User::Ci, &api).succeeds();
    rolled_out(&namespace, "deployment/api");
    let first = items(&namespace, "replicasets", "app=api");
    for version in 2..=4 {
        let image = format!("main=example.com/main:{version}");
        namespace.kubectl(User::Ci, &["set", "image", "deployment/api", &image]).succeeds();
        rolled_out(&namespace, "deployment/api");
    }
    eventually("one old ReplicaSet is left", || items(&namespace, "replicasets", "app=api").len() == 2);
    assert!(!namespace.exists(&format!("replicaset/{}", name(&first[0]))));
}

fn stateful_sets_and_daemon_sets_are_updated(world: &World) {
    let namespace = world.production();
    for (kind, what) in [("StatefulSet", "statefulset/db"), ("DaemonSet", "daemonset/db")] {
        namespace.apply(User::Ci, &workload(kind, "db", &pod_template(&format!("{kind}-db")))).succeeds();
        rolled_out(&namespace, what);
        namespace.kubectl(User::Ci, &["set", "image", what, "main=example.com/main:2"]).succeeds();
        rolled_out(&namespace, what);
        let pods = items(&namespace, "pods", &format!("app={kind}-db"));
        assert!(!pods.is_empty());
        assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "example.com/main:2"), "{what}");
        namespace.kubectl(User::Ci, &["rollout", "undo", what]).succeeds();
        rolled_out(&namespace, what);
    }
    for replicas in ["--replicas=3", "--replicas=2"] {
        namespace.kubectl(User::Ci, &["scale", "statefulset/db", replicas]).succeeds();
        rolled_out(&namespace, "statefulset/db");
    }
}

fn a_pod_that_is_deleted_or_evicted_comes_back(world: &World) {
    let namespace = world.production();
    namespace.deployment("api");
    rolled_out(&namespace, "deployment/api");
    let replaced = |remove: &dyn Fn(&str) -> Outcome| {
        let pods = pod_names(&namespace, "app=api");
        remove(&pods[0]).succeeds();
        eventually("another pod takes its place", || {
            let now = pod_names(&namespace, "app=api");
            now.len() == 1 && now != pods
        });
        rolled_out(&namespace, "deployment/api");
    };
    replaced(&|pod| namespace.kubectl(User::Agent, &["delete", "pod", pod]));
    replaced(&|pod| namespace.kubectl(User::Agent, &["delete", "pod", pod, "--force", "--grace-period=0"]));
    replaced(&|pod| {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", namespace.name);
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
        world.kubectl_with(User::Agent, &["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    });
}

fn a_finished_job_goes_when_its_time_is_over(world: &World) {
    let namespace = world.production();
    namespace.apply(User::Ci, &job("kept", &json!({}))).succeeds();
    namespace.apply(User::Ci, &job("brief", &json!({"ttlSecondsAfterFinished": 1}))).succeeds();
    namespace.kubectl(User::Ci, &["wait", "--for=condition=Complete", "job/kept", "--timeout=60s"]).succeeds();
    eventually("the brief Job is gone", || !namespace.exists("job/brief"));
    eventually("its pod is gone", || items(&namespace, "pods", "job=brief").is_empty());
    namespace.kubectl(User::Ci, &["delete", "job", "kept"]).succeeds();
    eventually("the other's pod is gone", || items(&namespace, "pods", "job=kept").is_empty());
}

fn a_cron_job_makes_jobs_and_keeps_its_history_short(world: &World) {
    let namespace = world.production();
    let cron_job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "report"},
        "spec": {
            "schedule": "0 0 1 1 *",
            "successfulJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"of": "report"}}, "spec": job("report", &json!({}))["spec"]},
        },
    });
    namespace.apply(User::Ci, &cron_job).succeeds();
    for run in ["first", "second"] {
        namespace.kubectl(User::Ci, &["create", "job", run, "--from=cronjob/report"]).succeeds();
        namespace.kubectl(User::Ci, &["wait", "--for=condition=Complete", "job", run, "--timeout=60s"]).succeeds();
    }
    eventually("the older run is removed from the history", || items(&namespace, "jobs", "of=report").len() == 1);
    namespace.kubectl(User::Ci, &["patch", "cronjob/report", "-p", r#"{"spec":{"schedule":"0 1 1 1 *"}}"#]).succeeds();
}

fn the_garbage_collector_clears_up_after_unprotected_owners(world: &World) {
    let namespace = world.production();
    for (cascade, dependent_stays) in [("background", false), ("foreground", false), ("orphan", true)] {
        let (owner, dependent) = (format!("owner-{cascade}"), format!("dependent-{cascade}"));
        namespace.apply(User::Ci, &bare(&owner)).succeeds();
        let uid = namespace.get(&format!("podtemplate/{owner}"))["metadata"]["uid"].clone();
        let mut manifest = bare(&dependent);
        manifest["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "v1", "kind": "PodTemplate", "name": owner, "uid": uid, "blockOwnerDeletion": true},
        ]);
        namespace.apply(User::Ci, &manifest).succeeds();
        let cascade = format!("--cascade={cascade}");
        namespace.kubectl(User::Ci, &["delete", "podtemplate", &owner, &cascade, "--timeout=60s"]).succeeds();
        assert!(!namespace.exists(&format!("podtemplate/{owner}")));
        let dependent = format!("podtemplate/{dependent}");
        if dependent_stays {
            assert!(namespace.get(&dependent)["metadata"].get("ownerReferences").is_none(), "{cascade}");
        } else {
            eventually("the dependent is gone", || !namespace.exists(&dependent));
        }
    }
}

/// Something that no rule names.
fn bare(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": {
        "containers": [{"name": "main", "image": "example.com/main:1"}]}}})
}

fn settings_are_rotated_and_what_generators_made_is_pruned(world: &World) {
    let namespace = world.production();
    let settings = |kind: &str, name: &str, annotation: &str| {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": {annotation: "true"}},
            "data": {"a": "YQ=="}})
    };
    for (kind, annotation) in [
        ("ConfigMap", "tagout.dev/disposable"),
        ("Secret", "tagout.dev/disposable"),
        ("ConfigMap", "helm.sh/hook"),
        ("Secret", "argocd.argoproj.io/hook"),
    ] {
        namespace.apply(User::Ci, &settings(kind, "settings-7f9c", annotation)).succeeds();
        namespace.kubectl(User::Ci, &["delete", &format!("{kind}/settings-7f9c")]).succeeds();
    }
    namespace.apply(User::Ci, &settings("Secret", "password", "example.com/owner")).succeeds();
    for rotated in [json!({"data": {"a": "Yg==", "b": "Yw=="}}), json!({"data": {"a": null}})] {
        namespace
            .kubectl(User::Ci, &["patch", "secret/password", "--type=merge", "-p", &rotated.to_string()])
            .succeeds();
    }
}

/// As cert-manager does it: a key for a time, and what answers a challenge, both of an object that lives on.
#[test]
fn a_living_controller_deletes_what_it_made_for_a_time() {
    let namespace = shared().production();
    namespace.deployment("certificate");
    let owner = namespace.get("deployment/certificate");
    let reference = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "certificate", "controller": true,
        "uid": owner["metadata"]["uid"]}]);
    let made = |kind: &str, group: &str, rest: Value| {
        let mut object =
            json!({"apiVersion": group, "kind": kind, "metadata": {"name": "temporary", "ownerReferences": reference}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        namespace.apply(User::Ci, &object).succeeds();
        namespace.kubectl(User::Ci, &["delete", &format!("{kind}/temporary")]).succeeds();
    };
    made("Secret", "v1", json!({"data": {"tls.key": "YQ=="}}));
    made("Service", "v1", json!({"spec": {"ports": [{"port": 8089}]}}));
    let backend = json!({"service": {"name": "temporary", "port": {"number": 8089}}});
    made("Ingress", "networking.k8s.io/v1", json!({"spec": {"defaultBackend": backend}}));
}

fn an_unprotected_namespace_goes_with_everything_in_it(world: &World) {
    let namespace = world.unprotected();
    namespace.deployment("api");
    for kind in ["StatefulSet", "DaemonSet"] {
        namespace.apply(User::Ci, &workload(kind, "db", &pod_template(&format!("{kind}-db")))).succeeds();
    }
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    namespace.apply(User::Ci, &claim).succeeds();
    rolled_out(&namespace, "deployment/api");
    world.kubectl(User::Ci, &["delete", "namespace", &namespace.name, "--timeout=90s"]).succeeds();
    assert!(!world.kubectl(User::Admin, &["get", "namespace", &namespace.name]).ok);
}

fn a_deployment_with_ephemeral_volumes_rolls_out(world: &World) {
    claims_go_with_their_pods(&world.production(), "Deployment");
}

/// The next pod waits for the claim of the pod before to go: both have the same name.
fn a_stateful_set_with_ephemeral_volumes_rolls_out(world: &World) {
    claims_go_with_their_pods(&world.production(), "StatefulSet");
}

fn claims_go_with_their_pods(namespace: &Namespace, kind: &str) {
    let class = namespace.name.as_str();
    for number in 0..3 {
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": format!("{class}-{number}")},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": class,
                "hostPath": {"path": "/tmp/nowhere"},
            },
        });
        namespace.apply(User::Admin, &volume).succeeds();
    }
    let claim = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}},
    });
    let mut template = pod_template("scratch");
    template["spec"]["volumes"] = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]);
    namespace.apply(User::Ci, &workload(kind, "scratch", &template)).succeeds();
    let what = format!("{}/scratch", kind.to_lowercase());
    rolled_out(namespace, &what);
    let claims = || {
        let found = namespace.get("persistentvolumeclaims");
        let claims = found["items"].as_array().into_iter().flatten();
        claims.map(|claim| text(&claim["metadata"]["uid"])).collect::<Vec<_>>()
    };
    let before = claims();
    assert_eq!(before.len(), 1, "the claim of the pod");
    namespace.kubectl(User::Ci, &["rollout", "restart", &what]).succeeds();
    rolled_out(namespace, &what);
    eventually("only the new pod's claim is there", || {
        let now = claims();
        now.len() == 1 && now != before
    });
}

fn objects_are_applied_from_the_server_side_and_edited(world: &World) {
    let namespace = world.production();
    let mut api = deployment("api");
    let apply = |manifest: &Value, flags: &[&str]| {
        let args = [&["-n", &namespace.name, "apply", "--server-side", "-f", "-"], flags].concat();
        world.kubectl_with(User::Ci, &args, &manifest.to_string()).succeeds();
    };
    apply(&api, &["--dry-run=server"]);
    assert!(!namespace.exists("deployment/api"));
    apply(&api, &[]);
    apply(&api, &[]);
    api["spec"]["replicas"] = json!(2);
    apply(&api, &["--dry-run=server"]);
    apply(&api, &[]);
    for edit in [
        &["label", "deployment/api", "tier=front"][..],
        &["label", "deployment/api", "tier-"],
        &["annotate", "deployment/api", "note=seen"],
        &["annotate", "deployment/api", "note-"],
        &["label", "namespace", &namespace.name, "owner=payments"],
        &["create", "configmap", "settings", "--from-literal=a=b", "--dry-run=server"],
    ] {
        namespace.kubectl(User::Ci, edit).succeeds();
    }
    assert_eq!(namespace.get("deployment/api")["spec"]["replicas"], 2);
}

fn nodes_renew_their_leases(world: &World) {
    let renewed = || text(&world.get(&["-n", "kube-node-lease", "lease/node-3"])["spec"]["renewTime"]);
    let before = renewed();
    assert!(!before.is_empty());
    eventually("the lease is renewed", || renewed() != before);
    world.kubectl(User::Admin, &["wait", "--for=condition=Ready", "node/node-3", "--timeout=60s"]).succeeds();
}

fn helm_manages_a_release_in_an_unprotected_namespace(world: &World) {
    let namespace = world.unprotected();
    helm_installs_upgrades_and_rolls_back(&namespace);
    helm(&namespace, &["uninstall", "shop", "--wait", "--timeout", "60s"]).succeeds();
    assert!(!namespace.exists("deployment/shop"));
}

fn helm_upgrades_and_rolls_back_with_hooks_in_production(world: &World) {
    helm_installs_upgrades_and_rolls_back(&world.production());
}

#[test]
fn what_an_approved_deployment_owns_goes_with_it() {
    let namespace = shared().production();
    namespace.deployment("api");
    rolled_out(&namespace, "deployment/api");
    namespace.kubectl(User::Ci, &["set", "image", "deployment/api", "main=example.com/main:2"]).succeeds();
    rolled_out(&namespace, "deployment/api");
    assert_eq!(items(&namespace, "replicasets", "app=api").len(), 2);
    let statement = namespace.statement("deployment/api", User::Alice);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Ci, &["delete", "deployment", "api"]).succeeds();
    eventually("ReplicaSets and pods are gone", || {
        items(&namespace, "replicasets", "app=api").is_empty() && items(&namespace, "pods", "app=api").is_empty()
    });
}

/// Only for a world of one's own: other tests have pods on the same nodes.
pub fn a_node_is_drained(world: &World) {
    let namespace = world.production();
    let mut api = deployment("api");
    api["spec"]["replicas"] = json!(3);
    api["spec"]["template"]["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    namespace.apply(User::Ci, &api).succeeds();
    namespace.apply(User::Ci, &workload("DaemonSet", "agent", &pod_template("agent"))).succeeds();
    rolled_out(&namespace, "deployment/api");
    rolled_out(&namespace, "daemonset/agent");
    let drain = ["drain", "node-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"];
    world.kubectl(User::Ci, &drain).succeeds();
    assert!(items(&namespace, "pods", "app=api").iter().all(|pod| pod["spec"]["nodeName"] != "node-1"));
    rolled_out(&namespace, "deployment/api");
    world.kubectl(User::Ci, &["uncordon", "node-1"]).succeeds();
}

/// The hook Job has one name, so that each release deletes the Job of the release before.
fn helm_installs_upgrades_and_rolls_back(namespace: &Namespace) {
    let folder = tempfile::tempdir().expect("a folder");
    write_chart(folder.path()).expect("the chart is written");
    let chart = folder.path().display().to_string();
    let (image, hook) = ("{.spec.template.spec.containers[0].image}", "{.metadata.uid}");
    let read = |what: &str, path: &str| {
        namespace.kubectl(User::Admin, &["get", what, "-o", &format!("jsonpath={path}")]).succeeds().out
    };
    let mut hooks = Vec::new();
    for (command, tag) in [
        (&["install", "shop", &chart][..], "1"),
        (&["upgrade", "shop", &chart, "--set", "tag=2"], "2"),
        (&["rollback", "shop", "1"], "1"),
    ] {
        helm(namespace, &[command, &["--wait", "--timeout", "60s"]].concat()).succeeds();
        assert_eq!(read("deployment/shop", image), format!("example.com/shop:{tag}"), "{command:?}");
        let job = read("job/shop-migrate", hook);
        assert!(!hooks.contains(&job), "{command:?} makes the hook Job anew");
        hooks.push(job);
        assert!(!namespace.exists("configmap/shop-hook"), "{command:?} removes the hook that succeeded");
    }
}

fn write_chart(folder: &std::path::Path) -> std::io::Result<()> {
    let stages = "pre-install,pre-upgrade,pre-rollback";
    let hook = |policy: &str| json!({"helm.sh/hook": stages, "helm.sh/hook-delete-policy": policy});
    let mut shop = deployment("shop");
    shop["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.com/shop:{{ .Values.tag }}");
    let mut migrate = job("shop-migrate", &json!({}));
    migrate["metadata"]["annotations"] = hook("before-hook-creation");
    let mut settings = config_map("shop-hook");
    settings["metadata"]["annotations"] = hook("hook-succeeded");
    fs::create_dir(folder.join("templates"))?;
    fs::write(folder.join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n")?;
    fs::write(folder.join("values.yaml"), "tag: \"1\"\n")?;
    for (file, manifest) in [("shop", shop), ("migrate", migrate), ("settings", settings)] {
        fs::write(folder.join(format!("templates/{file}.yaml")), manifest.to_string())?;
    }
    Ok(())
}

fn helm(namespace: &Namespace, args: &[&str]) -> Outcome {
    Outcome::of(namespace.world.cp.helm(User::Ci).args(["--namespace", &namespace.name]).args(args), "")
}

pub fn rolled_out(namespace: &Namespace, what: &str) {
    namespace.kubectl(User::Ci, &["rollout", "status", what, "--timeout=180s"]).succeeds();
}

fn items(namespace: &Namespace, what: &str, selector: &str) -> Vec<Value> {
    let found = namespace.world.get(&["-n", &namespace.name, what, "-l", selector]);
    found["items"].as_array().cloned().unwrap_or_default()
}

/// Sorted, and without those that are about to go.
fn pod_names(namespace: &Namespace, selector: &str) -> Vec<String> {
    let pods = items(namespace, "pods", selector);
    let mut names: Vec<_> =
        pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).map(name).collect();
    names.sort();
    names
}

fn name(object: &Value) -> String {
    text(&object["metadata"]["name"])
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

fn job(name: &str, more: &Value) -> Value {
    let container = json!({"name": "main", "image": "example.com/job:1"});
    let mut spec = json!({"template": {
        "metadata": {"labels": {"job": name}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
}

fn pod_template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]},
    })
}

fn workload(kind: &str, name: &str, template: &Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template});
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}
