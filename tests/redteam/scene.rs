//! What is attacked: a namespace in production with everything in it that people miss when it is gone.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::{Value, json};

use crate::approvals::stateful_set;
use crate::lock::REFUSED;
use crate::routine::rolled_out;
use crate::world::{Namespace, Outcome, World, deployment, eventually, shared, text};

/// A route by its name, and the steps that the agent takes.
pub type Tried = (&'static str, fn(&Scene));

/// How long controllers get to act on what the agent has done.
pub const CONTROLLERS: Duration = Duration::from_secs(4);

pub struct Scene {
    pub world: &'static World,
    pub namespace: Namespace<'static>,
    pub volume: String,
    /// What has to be there at the end, by kind and name, with its UID.
    uids: BTreeMap<String, String>,
    /// How often Tagout was heard to refuse: a step that nobody refused may never have been taken.
    refusals: Cell<usize>,
}

/// Walks each route on one scene, and looks each time at what is left.
pub fn attack(tried: &[Tried]) {
    attack_on(shared(), tried);
}

pub fn attack_on(world: &'static World, tried: &[Tried]) {
    let scene = Scene::on(world);
    for (name, run) in tried {
        let before = scene.refusals.get();
        run(&scene);
        scene.survives(name);
        assert!(scene.refusals.get() > before, "{name}: Tagout refused nothing, so what was tried?");
    }
    thread::sleep(CONTROLLERS);
    scene.survives("all of these routes");
}

impl Scene {
    pub fn new() -> Self {
        Self::on(shared())
    }

    pub fn on(world: &'static World) -> Self {
        let namespace = world.production();
        let volume = format!("volume-{}", namespace.name);
        world.apply(User::Admin, &volume_of(&volume)).succeeds();
        for manifest in contents(&volume) {
            namespace.apply(User::Admin, &manifest).succeeds();
        }
        for what in ["deployment/api", "statefulset/db", "daemonset/log"] {
            rolled_out(&namespace, what);
        }
        let own = format!("namespace/{}", namespace.name);
        let whats = [
            own.as_str(),
            "deployment/api",
            "statefulset/db",
            "daemonset/log",
            "persistentvolumeclaim/data-db-0",
            "secret/key",
            "configmap/settings",
            "service/api",
            "cronjob/report",
            &format!("persistentvolume/{volume}"),
        ];
        let uid = |what: &str| text(&namespace.get(what)["metadata"]["uid"]);
        let uids = whats.iter().map(|what| ((*what).to_owned(), uid(what))).collect();
        let scene = Self { world, namespace, volume, uids, refusals: Cell::new(0) };
        scene.survives("nothing yet");
        scene
    }

    /// The namespace, as kubectl names it.
    pub fn own(&self) -> String {
        format!("namespace/{}", self.namespace.name)
    }

    pub fn volume(&self) -> String {
        format!("persistentvolume/{}", self.volume)
    }

    pub fn uid(&self, what: &str) -> String {
        text(&self.namespace.get(what)["metadata"]["uid"])
    }

    /// The agent does this in the namespace. Whether it is let is heard, and never relied upon.
    pub fn agent(&self, args: &[&str]) -> Outcome {
        self.agent_with(args, "")
    }

    pub fn agent_with(&self, args: &[&str], input: &str) -> Outcome {
        let outcome = self.world.kubectl_with(User::Agent, &[&["-n", &self.namespace.name], args].concat(), input);
        if outcome.err.contains("denied the request: tagout") || outcome.err.contains(REFUSED) {
            self.refused();
        }
        outcome
    }

    pub fn patch(&self, what: &str, patch: &Value) -> Outcome {
        self.agent(&["patch", what, "--type=merge", "-p", &patch.to_string()])
    }

    pub fn patch_status(&self, what: &str, patch: &Value) -> Outcome {
        self.agent(&["patch", what, "--subresource=status", "--type=merge", "-p", &patch.to_string()])
    }

    /// Puts back what the next route needs, as the admin who may.
    pub fn tidy(&self, what: &str, patch: &Value) {
        let patch = patch.to_string();
        self.namespace.kubectl(User::Admin, &["patch", what, "--type=merge", "-p", &patch]).succeeds();
    }

    /// Waits until a controller has asked to delete what is here, and was refused.
    pub fn a_controller_is_refused(&self, what: &str, run: impl FnOnce()) {
        let name = what.split_once('/').expect("kind and name").1;
        let about = format!("\"name\":\"{name}\"");
        // Other tests have objects of this name too. Namespaces and volumes are in no namespace, and have names of their own.
        let here = format!("\"namespace\":\"{}\"", self.namespace.name);
        let unique = what.starts_with("namespace/") || what.starts_with("persistentvolume/");
        let inside = |line: &&str| {
            line.contains(&about) && line.contains("\"verdict\":\"deny\"") && (unique || line.contains(&here))
        };
        let by = |line: &&str| COLLECTORS.iter().any(|collector| line.contains(collector));
        let count = || self.world.tagout.log().lines().filter(inside).filter(by).count();
        let before = count();
        run();
        let gone = || !self.namespace.exists(what);
        eventually("the collector asks", || count() > before || gone());
        if !gone() {
            self.refused();
        }
    }

    pub fn refused(&self) {
        self.refusals.set(self.refusals.get() + 1);
    }

    /// Everything is there, is the same, works, and is still protected.
    #[track_caller]
    pub fn survives(&self, after: &str) {
        let live = self.everything(after);
        for (what, uid) in &self.uids {
            let object = &live[what];
            assert_eq!(&text(&object["metadata"]["uid"]), uid, "after {after}: {what} is not what it was");
            assert!(object["metadata"]["deletionTimestamp"].is_null(), "after {after}: {what} is going");
        }
        self.runs(after, &live);
        self.keeps_its_data(after, &live);
        self.is_protected(after, &live);
    }

    fn everything(&self, after: &str) -> BTreeMap<String, Value> {
        let whats: Vec<&str> = self.uids.keys().map(String::as_str).collect();
        let get = self.namespace.kubectl(User::Admin, &[&["get", "-o", "json"], &whats[..]].concat());
        assert!(get.ok, "after {after}: {}", get.err);
        let list: Value = serde_json::from_str(&get.out).expect("kubectl prints JSON");
        let named = |object: &Value| {
            let kind = text(&object["kind"]).to_lowercase();
            (format!("{kind}/{}", text(&object["metadata"]["name"])), object.clone())
        };
        list["items"].as_array().into_iter().flatten().map(named).collect()
    }

    #[track_caller]
    fn runs(&self, after: &str, live: &BTreeMap<String, Value>) {
        for what in ["deployment/api", "statefulset/db"] {
            let replicas = live[what]["spec"]["replicas"].as_u64().unwrap_or_default();
            assert!(replicas > 0, "after {after}: {what} has no replicas");
        }
        assert_ne!(live["cronjob/report"]["spec"]["suspend"], true, "after {after}: cronjob/report is suspended");
        let pods = self.namespace.get("pods");
        for app in ["api", "db", "log"] {
            let runs = |pod: &&Value| {
                pod["metadata"]["labels"]["app"] == app
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["status"]["phase"] == "Running"
            };
            let running = pods["items"].as_array().into_iter().flatten().filter(runs).count();
            assert!(running > 0, "after {after}: no pod of {app} runs");
        }
    }

    #[track_caller]
    fn keeps_its_data(&self, after: &str, live: &BTreeMap<String, Value>) {
        assert_eq!(live["secret/key"]["data"], json!({"a": "Yg==", "c": "ZA=="}), "after {after}");
        assert_eq!(live["configmap/settings"]["data"], json!({"a": "b"}), "after {after}");
        let (claim, volume) = (&live["persistentvolumeclaim/data-db-0"], &live[&self.volume()]);
        assert_eq!(claim["status"]["phase"], "Bound", "after {after}: the claim is not bound");
        assert_eq!(claim["spec"]["volumeName"], self.volume.as_str(), "after {after}");
        assert_eq!(volume["status"]["phase"], "Bound", "after {after}: the volume is not bound");
        assert_eq!(
            volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"],
            "after {after}: it is another's volume"
        );
        assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain", "after {after}: the disk would go");
        for policy in ["whenDeleted", "whenScaled"] {
            let policy = &live["statefulset/db"]["spec"]["persistentVolumeClaimRetentionPolicy"][policy];
            assert_ne!(policy, "Delete", "after {after}: the claims would go with the set");
        }
    }

    /// Nothing of it can be deleted without approval.
    #[track_caller]
    fn is_protected(&self, after: &str, live: &BTreeMap<String, Value>) {
        let own = &live[&self.own()];
        assert_eq!(own["metadata"]["labels"]["environment"], "production", "after {after}: it left production");
        assert_eq!(
            own["spec"]["finalizers"],
            json!(["kubernetes"]),
            "after {after}: its contents would be left behind"
        );
        let whats: Vec<&str> = self.uids.keys().map(String::as_str).collect();
        let delete = [&["delete", "--dry-run=server", "--wait=false"], &whats[..]].concat();
        let outcome = self.namespace.kubectl(User::Agent, &delete);
        let refused = outcome.err.matches("tagout: denied Delete of ").count();
        assert_eq!(refused, whats.len(), "after {after}, not all is protected: {}{}", outcome.out, outcome.err);
    }
}

const COLLECTORS: [&str; 2] =
    ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];

fn volume_of(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "", "hostPath": {"path": "/tmp/none"}}})
}

fn contents(volume: &str) -> Vec<Value> {
    let mut api = deployment("api");
    api["spec"]["replicas"] = json!(2);
    let mut db = stateful_set("db");
    db["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    db["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mut log = deployment("log");
    log["kind"] = json!("DaemonSet");
    log["spec"].as_object_mut().expect("a spec").remove("replicas");
    vec![
        api,
        db,
        log,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"a": "b", "c": "d"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": {
            "selector": {"app": "api"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"}, "spec": {
            "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "main", "image": "example.com/main:1"}]}}}}}}),
    ]
}
