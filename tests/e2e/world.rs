//! What the tests stand on: the node, and Tagout on it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use controlplane::installation::NAMESPACE;
use controlplane::{ControlPlane, Node, Options, User};
use serde_json::{Value, json};

pub use crate::outcome::Outcome;

/// The images that the node is given, since there is no registry to be reached.
pub mod images {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use anyhow::Result;
    use controlplane::installation::run;
    use controlplane::node::PAUSE_IMAGE;
    use controlplane::{Binaries, Program};

    /// What the chart names where no value says otherwise.
    pub fn tagout() -> String {
        format!("docker.io/library/tagout:{}", env!("CARGO_PKG_VERSION"))
    }

    /// Outside, where cargo can reach what it needs; `folder` is the enclosure's.
    pub fn build(programs: &Binaries, folder: &Path) -> Result<()> {
        println!("building the image");
        let mut script = Command::new(super::root().join("deploy/build-image"));
        let status = script.arg(tagout()).arg(folder.join("tagout.tar")).status()?;
        anyhow::ensure!(status.success(), "deploy/build-image failed");

        let context = folder.join("pause");
        fs::create_dir(&context)?;
        fs::copy(programs.path(Program::Pause), context.join("pause"))?;
        fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n")?;
        let buildah = |args: &[&str]| {
            let mut buildah = Command::new("buildah");
            buildah.arg("--root").arg(folder.join("images")).arg("--runroot").arg(folder.join("images-run"));
            run(buildah.args(["--storage-driver", "vfs"]).args(args).current_dir(&context), "")
        };
        buildah(&["bud", "--isolation", "chroot", "--quiet", "--tag", PAUSE_IMAGE, "."])?;
        let archive = format!("docker-archive:{}:{PAUSE_IMAGE}", folder.join("pause.tar").display());
        buildah(&["push", "--quiet", PAUSE_IMAGE, &archive])?;
        Ok(())
    }

    /// Inside, where the temporary folder is in that of the enclosure.
    pub fn archive(name: &str) -> PathBuf {
        std::env::temp_dir().with_file_name(name).with_extension("tar")
    }
}

/// A node with the chart installed, people of group `senior-sre` being the approvers.
pub struct World {
    pub cp: &'static ControlPlane,
    pub node: Node<'static>,
    /// Since when Tagout is unlocked for the administrator.
    unlocked: Cell<Instant>,
}

/// What no rule names, what the chart's own rules protect, and what goes through Tagout and is let pass.
pub const UNPROTECTED: &str = "unprotected";
pub const PRODUCTION: &str = "production";
pub const ADOPTED: &str = "adopted";

pub const REFUSED: &str = "needs approval by 1 of approvers";
pub const FAILED_CLOSED: &str = "failed calling webhook";
pub const LOCKED: &str = "this would change what guards the cluster";
pub const PODS: &str = "app.kubernetes.io/name=tagout";

impl World {
    pub fn start() -> Self {
        let options = Options { real_node: true, ..Options::default() };
        // It ends with the enclosure.
        let cp: &ControlPlane = Box::leak(Box::new(ControlPlane::start(&options).expect("a control plane")));
        let node = Node::start(cp, &["pause", "tagout"].map(images::archive)).expect("a node");
        let world = Self { cp, node, unlocked: Cell::new(Instant::now()) };
        let chart = chart();
        let install = ["install", "tagout", &chart, "--create-namespace", "--wait", "--timeout=120s"];
        // By default it asks for little, and beside the tests it would get just that.
        let values = ["--set", "approvers.groups={senior-sre}", "--set", "resources.requests.cpu=300m"];
        let installed = world.helm(&[&install[..], &values].concat());
        assert!(installed.ok, "{}{}\n{}", installed.out, installed.err, world.state());
        for name in [UNPROTECTED, PRODUCTION, ADOPTED] {
            world.kubectl(User::Admin, &["create", "namespace", name]).succeeds();
        }
        world.kubectl(User::Admin, &["label", "namespace", PRODUCTION, "environment=production"]).succeeds();
        world.kubectl(User::Admin, &["label", "namespace", ADOPTED, "rule=adopted"]).succeeds();
        world.apply(&rule_that_asks_about_owners()).succeeds();
        world.settle();
        world.unlock();
        world
    }

    /// Tagout keeps itself as it is, and people let the administrator change it for a time.
    pub fn unlock(&self) {
        eventually("Tagout is locked", || self.is_locked_for(User::Agent) && self.is_locked_for(User::Admin));
        self.say_unlock();
        eventually("it is unlocked for the administrator", || !self.is_locked_for(User::Admin));
        assert!(self.is_locked_for(User::Agent), "it is unlocked for one");
    }

    /// Before half of that time is over.
    pub fn stay_unlocked(&self) {
        if self.unlocked.get().elapsed() > Duration::from_mins(15) {
            self.say_unlock();
        }
    }

    fn say_unlock(&self) {
        let unlock = ["tagout", "unlock", "--requester=admin", "--for=30m", "--reason=tests", "--yes"];
        self.kubectl(User::Alice, &unlock).succeeds();
        self.unlocked.set(Instant::now());
    }

    pub fn is_locked_for(&self, user: User) -> bool {
        let trial = ["delete", "deployment", "tagout", "--namespace", NAMESPACE, "--dry-run=server"];
        let outcome = self.kubectl(user, &trial);
        assert!(outcome.ok || outcome.err.contains(LOCKED), "{}", outcome.err);
        !outcome.ok
    }

    /// What an administrator does to Tagout itself. Every such act of the tests comes through here.
    fn administer(&self, client: fn(&ControlPlane, User) -> Command, args: &[&str]) -> Outcome {
        Outcome::of(client(self.cp, User::Admin).args(["--namespace", NAMESPACE]).args(args), "")
    }

    /// Helm on Tagout's release.
    pub fn helm(&self, args: &[&str]) -> Outcome {
        self.administer(ControlPlane::helm, args)
    }

    /// kubectl on what is Tagout's own.
    pub fn kubectl_at_home(&self, args: &[&str]) -> Outcome {
        self.administer(ControlPlane::kubectl, args)
    }

    pub fn kubectl(&self, user: User, args: &[&str]) -> Outcome {
        Outcome::of(with_plugin(self.cp.kubectl(user).args(args)), "")
    }

    pub fn apply(&self, manifest: &Value) -> Outcome {
        Outcome::of(self.cp.kubectl(User::Admin).args(["apply", "-f", "-"]), &manifest.to_string())
    }

    pub fn get(&self, args: &[&str]) -> Value {
        let outcome = self.kubectl(User::Admin, &[&["get", "-o", "json"], args].concat()).succeeds();
        serde_json::from_str(&outcome.out).expect("kubectl prints JSON")
    }

    /// Tagout's pods that are not on their way out.
    pub fn pods(&self) -> Vec<Pod> {
        let found = self.kubectl(User::Admin, &["get", "pods", "-n", NAMESPACE, "-l", PODS, "-o", "json"]);
        let found: Value = serde_json::from_str(&found.out).unwrap_or_default();
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let staying = items.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        staying.map(|pod| Pod { pod }).collect()
    }

    /// Returns when Tagout is as it shall be, by itself.
    pub fn settle(&self) {
        eventually("two replicas are ready, and no more are there", || {
            let pods = self.kubectl(User::Admin, &["get", "pods", "-n", NAMESPACE, "-l", PODS, "-o", "name"]);
            pods.ok && pods.out.lines().count() == 2 && self.pods().iter().all(Pod::is_ready)
        });
        eventually("the Service leads to both, and to nobody else", || self.endpoints() == (2, 0));
        // kube-proxy hears of it a moment after everybody else.
        eventually("the API server reaches them", || {
            let trial = ["delete", "ledgers.tagout.dev", "canary.tagout.dev", "--dry-run=server"];
            self.kubectl(User::Agent, &trial).err.contains("denied the request: tagout")
        });
        eventually("an epoch has begun", || {
            !text(&self.get(&["protectionrule", "production"])["status"]["epoch"]).is_empty()
        });
    }

    /// How many endpoints of the Service are ready, and how many are not.
    pub fn endpoints(&self) -> (usize, usize) {
        let selector = "kubernetes.io/service-name=tagout";
        let slices =
            self.kubectl(User::Admin, &["get", "endpointslices", "-n", NAMESPACE, "-l", selector, "-o", "json"]);
        let slices: Value = serde_json::from_str(&slices.out).unwrap_or_default();
        let all = slices["items"].as_array().into_iter().flatten();
        let all: Vec<_> = all.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten()).collect();
        let ready = all.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
        (ready, all.len() - ready)
    }

    /// Returns when each of these pods was started again, by what the API server knows. What it knew while it was away
    /// is old.
    pub fn started_again(&self, before: &[Pod]) {
        eventually("the pods are started again", || {
            let now = self.pods();
            let again = |pod: &Pod| now.iter().any(|it| it.name() == pod.name() && it.restarts() > pod.restarts());
            before.iter().all(again)
        });
    }

    /// The processes of Tagout, one a pod.
    pub fn process(&self, pod: &Pod) -> u32 {
        let processes = self.node.processes(&pod.container_id()).expect("control groups can be read");
        assert_eq!(processes.len(), 1, "{processes:?}");
        processes[0]
    }

    /// Makes a Deployment of one real pod and waits until it runs.
    pub fn deployment(&self, namespace: &str, name: &str) {
        self.apply(&deployment(namespace, name)).succeeds();
        let what = format!("deployment/{name}");
        self.kubectl(User::Admin, &["rollout", "status", &what, "-n", namespace, "--timeout=60s"]).succeeds();
    }

    /// What a person wants to see when a test has failed.
    pub fn state(&self) -> String {
        let kubectl = |args: &[&str]| {
            let outcome = self.kubectl(User::Admin, args);
            let lines: Vec<_> = outcome.out.lines().rev().take(20).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            format!("$ kubectl {}\n{}{}\n", args.join(" "), lines.join("\n"), outcome.err)
        };
        let mut state = kubectl(&["get", "pods", "-A", "-o", "wide"]);
        state += &kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]);
        state += &kubectl(&["logs", "-n", NAMESPACE, "-l", PODS, "--tail=5"]);
        for program in ["kubelet", "containerd", "kube-proxy"] {
            let log = fs::read_to_string(self.cp.dir().join(format!("logs/{program}.log"))).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().filter(|line| !line.starts_with('I')).take(5).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            state += &[&["$", program][..], &lines, &[""]].concat().join("\n");
        }
        state
    }
}

/// A pod as the API server knows it.
#[derive(Clone, Debug)]
pub struct Pod {
    pod: Value,
}

impl Pod {
    pub fn name(&self) -> String {
        text(&self.pod["metadata"]["name"])
    }

    pub fn ip(&self) -> String {
        text(&self.pod["status"]["podIP"])
    }

    pub fn is_ready(&self) -> bool {
        let conditions = self.pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    pub fn restarts(&self) -> u64 {
        self.pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default()
    }

    fn container_id(&self) -> String {
        text(&self.pod["status"]["containerStatuses"][0]["containerID"])
    }
}

fn rule_that_asks_about_owners() -> Value {
    json!({
        "apiVersion": "tagout.dev/v1alpha1",
        "kind": "ProtectionRule",
        "metadata": {"name": "adopted"},
        "spec": {
            "resources": [{"apiGroups": [""], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"rule": "adopted"}},
            "actions": ["Reparent"],
            "approval": {"require": [{"anyOf": ["approvers"]}]},
        },
    })
}

fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": controlplane::node::PAUSE_IMAGE}]},
            },
        },
    })
}

/// Waits for what happens in its own time.
#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(3), "it did not happen: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart() -> String {
    root().join("charts/tagout").display().to_string()
}

/// Lets kubectl find the plugin that was just built.
fn with_plugin(kubectl: &mut Command) -> &mut Command {
    let folder = PathBuf::from(env!("CARGO_BIN_EXE_kubectl-tagout"));
    let folder = folder.parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    kubectl.env("PATH", format!("{}:{path}", folder.display()))
}
