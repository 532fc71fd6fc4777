//! Deletions that do not end while something happens to Tagout, and what became of them.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use controlplane::User;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ObjectMeta;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::world::{ADOPTED, PRODUCTION, UNPROTECTED, World};

/// Whatever the reason: on a busy machine that may be that there was no time to decide.
const REFUSED_BY_TAGOUT: &str = "denied the request: tagout:";
/// Objects that are protected, each tried again and again.
const GUARDED: usize = 10;
/// Between two deletions of one client: a busy cluster, not a test of speed.
const PAUSE: Duration = Duration::from_millis(20);

/// Four clients: two whose deletions have to be refused, one whose changes Tagout has to let pass, and one whose deletions
/// it never hears of.
pub struct Load<'w> {
    world: &'w World,
    runtime: Runtime,
    over: Arc<AtomicBool>,
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<Vec<Failure>>>,
    before: Calls,
}

#[derive(Debug, Default)]
struct Counts {
    refused: AtomicUsize,
    passed: AtomicUsize,
    unasked: AtomicUsize,
}

/// What became of it.
#[derive(Debug)]
pub struct Seen {
    pub refused: usize,
    pub passed: usize,
    pub unasked: usize,
    pub failures: Vec<Failure>,
    pub calls: Calls,
}

/// A request that was neither refused nor let pass as it should.
#[derive(Debug)]
pub struct Failure {
    pub began: Instant,
    pub ended: Instant,
    pub words: String,
}

/// What the API server counted of its calls of Tagout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub failed: u64,
    /// Of those that are let pass where Tagout does not answer.
    pub failed_open: u64,
}

impl Calls {
    fn now(world: &World) -> Self {
        let metrics = world.cp.apiserver_metrics().expect("metrics");
        let sum = |begin: &str, words: &str| {
            let lines = metrics.lines().filter(|line| line.starts_with(begin) && line.contains(words));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let failed = r#"error_type="calling_webhook_error""#;
        Self {
            failed: sum("apiserver_admission_webhook_rejection_count{", failed),
            failed_open: sum("apiserver_admission_webhook_fail_open_count{", "tagout.dev"),
        }
    }
}

impl<'w> Load<'w> {
    /// Returns when all of it is under way.
    pub fn start(world: &'w World) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (over, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let client = |user: User| runtime.block_on(client(world, user));
        let api = |user, namespace| Api::<ConfigMap>::namespaced(client(user), namespace);
        runtime.block_on(async {
            let guarded = async |number| make(&api_of(world, PRODUCTION).await, &guarded_name(number)).await;
            for number in 0..GUARDED {
                guarded(number).await;
            }
        });
        let before = Calls::now(world);
        let clients = vec![
            runtime.spawn(refused(api(User::Agent, PRODUCTION), Arc::clone(&over), Arc::clone(&counts))),
            runtime.spawn(refused(api(User::Ci, PRODUCTION), Arc::clone(&over), Arc::clone(&counts))),
            runtime.spawn(passed(api(User::Ci, ADOPTED), Arc::clone(&over), Arc::clone(&counts))),
            runtime.spawn(unasked(api(User::Ci, UNPROTECTED), Arc::clone(&over), Arc::clone(&counts))),
        ];
        let this = Self { world, runtime, over, counts, clients, before };
        this.go_on(10);
        this
    }

    /// Returns when each kind of client has got so many answers more.
    pub fn go_on(&self, more: usize) {
        let kinds = [&self.counts.refused, &self.counts.passed, &self.counts.unasked];
        let goals = kinds.map(|kind| kind.load(Ordering::Relaxed) + more);
        crate::world::eventually("deletions are answered", || {
            kinds.iter().zip(goals).all(|(kind, goal)| kind.load(Ordering::Relaxed) >= goal)
        });
    }

    /// Ends it; what is protected has to be there still.
    pub fn stop(self) -> Seen {
        self.go_on(10);
        self.over.store(true, Ordering::Relaxed);
        let failures = self.clients.into_iter().flat_map(|client| self.runtime.block_on(client).expect("it ends"));
        let mut failures: Vec<Failure> = failures.collect();
        failures.sort_by_key(|failure| failure.began);
        let now = Calls::now(self.world);
        let calls =
            Calls { failed: now.failed - self.before.failed, failed_open: now.failed_open - self.before.failed_open };
        let left = self.runtime.block_on(async {
            let found = api_of(self.world, PRODUCTION).await.list(&ListParams::default()).await.expect("a list");
            found
                .items
                .iter()
                .filter(|it| it.metadata.name.as_ref().is_some_and(|it| it.starts_with("guarded")))
                .count()
        });
        assert_eq!(left, GUARDED, "what is protected was lost");
        let count = |kind: &AtomicUsize| kind.load(Ordering::Relaxed);
        let seen = Seen {
            refused: count(&self.counts.refused),
            passed: count(&self.counts.passed),
            unasked: count(&self.counts.unasked),
            failures,
            calls,
        };
        println!(
            "     {} refused, {} let pass, {} unasked; {} failed as seen by clients, {} as seen by the API server, {} let \
             pass unasked",
            seen.refused,
            seen.passed,
            seen.unasked,
            seen.failures.len(),
            seen.calls.failed,
            seen.calls.failed_open,
        );
        seen
    }
}

impl Seen {
    /// Nobody noticed anything.
    #[track_caller]
    pub fn is_flawless(&self) {
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
        assert_eq!(self.calls, Calls::default(), "the API server counted calls that failed");
    }
}

async fn client(world: &World, user: User) -> Client {
    let kubeconfig = Kubeconfig::read_from(world.cp.kubeconfig(user)).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

async fn api_of(world: &World, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client(world, User::Admin).await, namespace)
}

fn guarded_name(number: usize) -> String {
    format!("guarded-{number}")
}

async fn make(api: &Api<ConfigMap>, name: &str) {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    match api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{name} is not made: {error}"),
    }
}

/// Tries to delete what is protected.
async fn refused(api: Api<ConfigMap>, over: Arc<AtomicBool>, counts: Arc<Counts>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for number in (0..GUARDED).cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        match api.delete(&guarded_name(number), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.message.contains(REFUSED_BY_TAGOUT) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            other => failures.push(Failure::of(began, &other.map(|_| "deleted"))),
        }
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

/// Gives an object a living owner, which Tagout is asked about, and takes it away again, which it is not.
async fn passed(api: Api<ConfigMap>, over: Arc<AtomicBool>, counts: Arc<Counts>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for name in ["owner", "owned"] {
        make(&api, name).await;
    }
    let owner = api.get("owner").await.expect("it is there").metadata.uid;
    let owners = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner}]);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let give = |owners: &Value| Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
        let params = PatchParams::default();
        let given = match api.patch("owned", &params, &give(&owners)).await {
            Ok(_) => api.patch("owned", &params, &give(&Value::Null)).await,
            Err(error) => Err(error),
        };
        match given {
            Ok(_) => {
                counts.passed.fetch_add(1, Ordering::Relaxed);
            }
            other => failures.push(Failure::of(began, &other)),
        }
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

/// Makes and deletes what no rule names.
async fn unasked(api: Api<ConfigMap>, over: Arc<AtomicBool>, counts: Arc<Counts>) -> Vec<Failure> {
    let mut failures = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let metadata = ObjectMeta { generate_name: Some("passing-".to_owned()), ..ObjectMeta::default() };
        let began = Instant::now();
        let made = api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await;
        let gone = match made {
            Ok(made) => api.delete(&made.metadata.name.unwrap_or_default(), &DeleteParams::default()).await.map(drop),
            Err(error) => Err(error),
        };
        match gone {
            Ok(()) => {
                counts.unasked.fetch_add(1, Ordering::Relaxed);
            }
            other => failures.push(Failure::of(began, &other)),
        }
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

impl Failure {
    fn of<T: Debug>(began: Instant, outcome: &kube::Result<T>) -> Self {
        let words = match outcome {
            Err(kube::Error::Api(status)) => status.message.clone(),
            other => format!("{other:?}"),
        };
        Self { began, ended: Instant::now(), words }
    }
}
