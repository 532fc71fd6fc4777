//! What tests stand on: the shared control plane with Tagout installed, and namespaces in it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};
use std::{io, panic, thread};

use controlplane::{ControlPlane, Installation, Options, User};
use serde_json::{Value, json};

pub use crate::outcome::Outcome;
use tagout::api::Protects;

/// A control plane with the chart installed, people of group `senior-sre` being the approvers.
pub struct World {
    pub cp: &'static ControlPlane,
    pub tagout: Installation<'static>,
}

/// The one that all tests share. Nothing in it may be stopped or reconfigured by a test.
pub fn shared() -> &'static World {
    static SHARED: OnceLock<World> = OnceLock::new();
    INSTEAD.get().unwrap_or_else(|| SHARED.get_or_init(|| World::start(&Options::default())))
}

thread_local! {
    static INSTEAD: Cell<Option<&'static World>> = const { Cell::new(None) };
}

/// From now on the shared world is this one, for the test that says so.
pub fn instead_of_shared(world: &'static World) {
    INSTEAD.set(Some(world));
}

impl World {
    /// A world of one's own, for a test that breaks it. It ends with the test run.
    pub fn start(options: &Options) -> Self {
        Self::installed(Box::leak(Box::new(ControlPlane::start(options).expect("a control plane"))), &APPROVERS)
    }

    /// One with these values of the chart, which have to name the approvers.
    pub fn installed(cp: &'static ControlPlane, values: &[&str]) -> Self {
        Self::running(cp, &binary(), values)
    }

    /// One in which this program runs.
    pub fn running(cp: &'static ControlPlane, program: &Path, values: &[&str]) -> Self {
        failures_are_told_at_once();
        // Most tests change what makes Tagout work, to see what comes of it.
        let open =
            Some("selfProtection.enabled=false").filter(|_| !values.iter().any(|one| one.starts_with("selfProt")));
        let values: Vec<&str> = values.iter().copied().chain(open).collect();
        let tagout = Installation::helm(cp, &chart(), program, &values).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(cp.dir().join("logs/tagout.log")).unwrap_or_default();
            panic!("Tagout is not installed: {error:#}\n{log}")
        });
        let world = Self { cp, tagout };
        world.epoch();
        world
    }

    /// One that this command installs.
    pub fn installed_by(cp: &'static ControlPlane, command: Command) -> Self {
        failures_are_told_at_once();
        let world = Self { cp, tagout: Installation::by(cp, &binary(), command).expect("it is installed") };
        world.epoch();
        world
    }

    /// Ends it: a control plane that nobody uses any more slows down the tests that still run.
    pub fn end(self) {
        drop(self);
    }

    /// What approvals by identity have to name: once it is certain that nobody can plant any.
    pub fn epoch(&self) -> String {
        let read = || text(&self.get(&["protectionrule", "labelled-namespaces"])["status"]["epoch"]);
        eventually("an epoch begins", || !read().is_empty());
        read()
    }

    /// Runs kubectl as this user. `kubectl tagout` is found as a plugin.
    pub fn kubectl(&self, user: User, args: &[&str]) -> Outcome {
        self.kubectl_with(user, args, "")
    }

    pub fn kubectl_with(&self, user: User, args: &[&str], input: &str) -> Outcome {
        let mut command = self.cp.kubectl(user);
        command.args(args);
        Outcome::of(with_plugin(&mut command), input)
    }

    pub fn apply(&self, user: User, manifest: &Value) -> Outcome {
        self.kubectl_with(user, &["apply", "-f", "-"], &manifest.to_string())
    }

    /// A namespace that the default rules protect.
    pub fn production(&self) -> Namespace<'_> {
        let namespace = self.unprotected();
        self.kubectl(User::Admin, &["label", "namespace", &namespace.name, "environment=production"]).succeeds();
        namespace
    }

    /// A namespace that no rule names.
    pub fn unprotected(&self) -> Namespace<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(User::Admin, &["create", "namespace", &name]).succeeds();
        Namespace { world: self, name }
    }

    /// The namespace of this name, of which there is no value at hand.
    pub fn borrowed(&self, name: &str) -> Namespace<'_> {
        Namespace { world: self, name: name.to_owned() }
    }

    pub fn get(&self, args: &[&str]) -> Value {
        let outcome = self.kubectl(User::Admin, &[&["get", "-o", "json"], args].concat()).succeeds();
        serde_json::from_str(&outcome.out).expect("kubectl prints JSON")
    }

    /// The cluster's identity, as statements name it.
    pub fn cluster(&self) -> String {
        text(&self.get(&["namespace", "kube-system"])["metadata"]["uid"])
    }

    /// Tagout's own metrics.
    pub fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.tagout.metrics_address());
        let output = Command::new("curl").args(["--silent", "--fail", &url]).output().expect("curl is installed");
        String::from_utf8(output.stdout).expect("text")
    }

    /// How often the API server has called webhooks whose names end so.
    pub fn calls(&self, webhook: &str) -> u64 {
        let metrics = self.cp.apiserver_metrics().expect("metrics");
        let of_webhook = format!("{webhook}\",operation=");
        metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_admission_webhook_request_total{") && line.contains(&of_webhook))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// The calls about what rules name, without those about what may hold a labelled object, about namespaces that are made,
    /// and by which Tagout tries itself.
    pub fn calls_about_objects(&self) -> u64 {
        let beside = ["contents", "replicasets", "scale"].map(|entry| format!("{entry}.labelled-objects.tagout.dev"));
        let beside = beside.iter().map(|entry| self.calls(entry)).sum::<u64>();
        let tried = ["records.tagout.dev", "stored-approvals.tagout.dev"].map(|entry| self.calls(entry));
        self.calls("tagout.dev") - beside - self.calls("returns.tagout.dev") - tried.iter().sum::<u64>()
    }

    /// Has bob approve what a change loosens, if it loosens anything.
    pub fn permit(&self, manifest: &Value) {
        self.kubectl_with(User::Bob, &["tagout", "approve", "-f", "-", "--yes"], &manifest.to_string());
    }

    /// Deletes a rule, a team or a definition with bob's approval.
    pub fn remove(&self, user: User, what: &str) {
        self.kubectl(User::Bob, &["tagout", "approve", what, "--yes"]).succeeds();
        self.kubectl(user, &["delete", what, "--timeout=60s"]).succeeds();
    }

    /// Makes or changes a rule and waits until it is in force.
    pub fn rule(&self, manifest: &Value) {
        let existing = format!("protectionrule/{}", text(&manifest["metadata"]["name"]));
        if self.kubectl(User::Admin, &["get", &existing]).ok {
            self.permit(manifest);
        }
        self.apply(User::Admin, manifest).succeeds();
        let name = format!("protectionrule/{}", text(&manifest["metadata"]["name"]));
        let generation = self.get(&[&name])["metadata"]["generation"].clone();
        eventually(&format!("{name} is in force"), || self.get(&[&name])["status"]["observedGeneration"] == generation);
        // The API server hears of a changed configuration by a watch of its own.
        thread::sleep(Duration::from_millis(300));
    }
}

pub struct Namespace<'w> {
    pub world: &'w World,
    pub name: String,
}

impl Namespace<'_> {
    /// Runs kubectl in this namespace.
    pub fn kubectl(&self, user: User, args: &[&str]) -> Outcome {
        self.world.kubectl(user, &[&["-n", &self.name], args].concat())
    }

    pub fn get(&self, what: &str) -> Value {
        self.world.get(&["-n", &self.name, what])
    }

    pub fn exists(&self, what: &str) -> bool {
        self.kubectl(User::Admin, &["get", what]).ok
    }

    pub fn apply(&self, user: User, manifest: &Value) -> Outcome {
        self.world.kubectl_with(user, &["-n", &self.name, "apply", "-f", "-"], &manifest.to_string())
    }

    /// Makes a Deployment of one replica that rolls out.
    pub fn deployment(&self, name: &str) {
        self.apply(User::Admin, &deployment(name)).succeeds();
    }

    /// A statement that would be accepted if alice presented it on the object now, to be changed by tests.
    pub fn statement(&self, what: &str, approver: User) -> Value {
        let object = self.get(what);
        let now = jiff::Timestamp::now();
        let resource = match text(&object["kind"]).as_str() {
            "Deployment" => "deployments.apps",
            "StatefulSet" => "statefulsets.apps",
            "Namespace" => "namespaces",
            "PersistentVolumeClaim" => "persistentvolumeclaims",
            "DaemonSet" => "daemonsets.apps",
            "CronJob" => "cronjobs.batch",
            "Secret" => "secrets",
            "Service" => "services",
            other => panic!("{other} is not known here"),
        };
        let mut statement = json!({
            "action": "Delete",
            "uid": object["metadata"]["uid"],
            "resource": resource,
            "namespace": object["metadata"].get("namespace").cloned().unwrap_or(json!("")),
            "name": object["metadata"]["name"],
            "cluster": self.world.cluster(),
            "epoch": self.world.epoch(),
            "approver": approver.name(),
            "team": "approvers",
            "approvedAt": now.to_string(),
            "expires": (now + jiff::SignedDuration::from_mins(10)).to_string(),
        });
        if object["kind"] == "Namespace" {
            statement["protects"] = serde_json::to_value(Protects::of(&self.contents(), Vec::new())).expect("JSON");
        }
        statement
    }

    /// The same, naming these objects as what may go along.
    pub fn statement_naming(&self, what: &str, approver: User, others: &[&str]) -> Value {
        let uids: BTreeSet<String> = others.iter().map(|other| text(&self.get(other)["metadata"]["uid"])).collect();
        let mut statement = self.statement(what, approver);
        statement["protects"] = serde_json::to_value(Protects::of(&uids, Vec::new())).expect("JSON");
        statement
    }

    /// What rules protect in a production namespace, without what is made by itself.
    fn contents(&self) -> BTreeSet<String> {
        const KINDS: &str = "deployments,statefulsets,daemonsets,cronjobs,persistentvolumeclaims,configmaps,services,\
            serviceaccounts,ingresses,networkpolicies,roles,rolebindings";
        let found = self.world.get(&["-n", &self.name, KINDS]);
        let items = found["items"].as_array().expect("a list").clone();
        let named = items.iter().filter(|item| item["metadata"]["name"] != "kube-root-ca.crt");
        named.map(|item| text(&item["metadata"]["uid"])).collect()
    }

    /// Writes label and annotation as `kubectl tagout approve` does, with any statements.
    pub fn present(&self, user: User, what: &str, statements: &Value) -> Outcome {
        let patch = presenting(&statements.to_string());
        self.kubectl(user, &["patch", what, "--type=merge", "--field-manager=tagout-approval", "-p", &patch])
    }

    /// Creates the `Approval` for a statement, by the manager that kubectl tagout uses.
    pub fn detach(&self, user: User, statement: &Value) -> Outcome {
        let create = ["create", "--field-manager=tagout-approval", "-f", "-"];
        self.world.kubectl_with(user, &create, &approval_object(statement).to_string())
    }

    /// Approves as this person, who may.
    pub fn approve(&self, user: User, what: &str) {
        // kubectl takes no flags before the name of a plugin.
        self.world.kubectl(user, &["tagout", "approve", what, "-n", &self.name, "--yes"]).succeeds();
    }
}

/// Also where a test fails.
impl Drop for World {
    fn drop(&mut self) {
        // One that was not running any more is not killed.
        self.tagout.kill().ok();
        self.cp.discard();
    }
}

/// The harness keeps what a test says until all are done, and who waits wants to know what went wrong.
fn failures_are_told_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let test = thread::current().name().unwrap_or("a thread").to_owned();
            writeln!(io::stderr(), "{test}: {panicked}").ok();
            usual(panicked);
        }));
    });
}

/// The patch that presents an annotation of this text.
pub fn presenting(annotation: &str) -> String {
    json!({"metadata": {
        "labels": {"tagout.dev/approval": "true"},
        "annotations": {"tagout.dev/approval": annotation},
    }})
    .to_string()
}

/// The `Approval` in which a statement would stand.
pub fn approval_object(statement: &Value) -> Value {
    let read: tagout::api::Statement = serde_json::from_value(statement.clone()).expect("a statement");
    json!({
        "apiVersion": "tagout.dev/v1alpha1",
        "kind": "Approval",
        "metadata": {"name": read.approval_name()},
        "spec": {"statements": [statement]},
    })
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]},
            },
        },
    })
}

/// A rule about Deployments in namespaces with this label, to be changed by tests.
pub fn rule(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "tagout.dev/v1alpha1",
        "kind": "ProtectionRule",
        "metadata": {"name": name},
        "spec": {
            "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
            "namespaceSelector": {"matchLabels": {"rule": label}},
            "approval": {"require": [{"anyOf": ["approvers"]}]},
        },
    })
}

/// Waits for what controllers do in their own time.
#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(1), "it did not happen: {what}");
        thread::sleep(pause);
        // Whoever waits for long looks less often: looking is a process of its own, and half of what tests cost.
        pause = (pause * 5 / 4).min(Duration::from_millis(500));
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub const APPROVERS: [&str; 1] = ["approvers.groups={senior-sre}"];

pub fn chart() -> PathBuf {
    root().join("charts/tagout")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_tagout").into()
}

/// Lets kubectl find the plugin that was just built.
pub fn with_plugin(kubectl: &mut Command) -> &mut Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_kubectl-tagout")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    kubectl.env("PATH", format!("{}:{path}", folder.display()))
}
