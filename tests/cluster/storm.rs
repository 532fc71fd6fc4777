//! A storm of deletions against three replicas that are killed and come back: what is counted is counted exactly.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use controlplane::{Options, User};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ObjectMeta;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use crate::replicas::Replicas;
use crate::world::{Namespace, World, eventually, rule, text};

const CLIENTS: [User; 4] = [User::Agent, User::Ci, User::Carol, User::Admin];
const OBJECTS: usize = 200;
const CEILING: usize = 20;
const ROUNDS: usize = 2;

pub async fn client(world: &World, user: User) -> Client {
    let kubeconfig = Kubeconfig::read_from(world.cp.kubeconfig(user)).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// What became of one deletion, once it was decided.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Deleted,
    Refused,
}

async fn delete(api: &Api<ConfigMap>, name: &str) -> Fate {
    let began = Instant::now();
    loop {
        let error = match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => return Fate::Deleted,
            Err(kube::Error::Api(status)) if status.code == 404 => return Fate::Deleted,
            Err(kube::Error::Api(status)) if status.message.contains("is reached (20 in 1h)") => return Fate::Refused,
            Err(error) => error,
        };
        // The replica that was asked is gone, or was too busy to say.
        assert!(began.elapsed() < Duration::from_mins(2), "{name} is still undecided: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn storm_rule(name: &str) -> Value {
    let mut rule = rule(name, name);
    rule["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["configmaps"]}]);
    rule["spec"]["actions"] = json!(["Delete", "Recreate"]);
    rule["spec"]["ceiling"] = json!({"count": CEILING, "window": "1h", "per": "Rule"});
    rule
}

fn labelled<'w>(world: &'w World, rule: &str) -> Namespace<'w> {
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={rule}")]).succeeds();
    namespace
}

async fn fill(api: &Api<ConfigMap>) {
    let one = |name: String| ConfigMap {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let all = (0..OBJECTS).map(async |number| {
        api.create(&PostParams::default(), &one(format!("object-{number}"))).await.expect("it is made");
    });
    join_all(all).await;
}

/// The successful deletions in a namespace, by what the API server itself wrote down.
fn audited(world: &World, namespace: &str) -> Vec<String> {
    let log = fs::read_to_string(world.cp.audit_log()).expect("the audit log");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| {
            let about = &event["objectRef"];
            event["stage"] == "ResponseComplete"
                && event["verb"] == "delete"
                && about["resource"] == "configmaps"
                && about["namespace"] == namespace
                && event["responseStatus"]["code"] == 200
        })
        .map(|event| text(&event["objectRef"]["name"]))
        .collect()
}

#[test]
fn two_hundred_deletions_by_four_clients_under_a_ceiling_of_twenty_admit_twenty_whatever_dies() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut world = World::start(&Options::default());
    let rules: Vec<String> = (0..ROUNDS).map(|round| format!("storm-{round}")).collect();
    for name in &rules {
        world.rule(&storm_rule(name));
    }
    let stopped = Stopped::begin(&mut world);
    let sliding = Sliding::begin(&world);
    let mut replicas = Replicas::start(&mut world.tagout, 3).expect("they start");

    for name in &rules {
        let namespace = labelled(&world, name);
        let clients: Vec<Client> = runtime.block_on(join_all(CLIENTS.map(|user| client(&world, user))));
        let api = |client: &Client| Api::<ConfigMap>::namespaced(client.clone(), &namespace.name);
        runtime.block_on(fill(&api(&clients[0])));
        world
            .kubectl(User::Alice, &["tagout", "approve", &format!("ns/{}", namespace.name), "--contents", "--yes"])
            .succeeds();

        let over = Arc::new(AtomicBool::new(false));
        let fates = thread::scope(|scope| {
            let ended = Arc::clone(&over);
            let deleting = scope.spawn(|| {
                let each = (0..OBJECTS).map(|number| {
                    let api = api(&clients[number % clients.len()]);
                    async move { delete(&api, &format!("object-{number}")).await }
                });
                let fates = runtime.block_on(join_all(each));
                over.store(true, Ordering::Relaxed);
                fates
            });
            let mut lost = 0;
            while !ended.load(Ordering::Relaxed) {
                replicas.lose_one(&world.tagout).expect("another is ready");
                lost += 1;
            }
            assert!(lost > 0, "no replica was lost while it stormed");
            deleting.join().expect("every deletion is decided")
        });
        let deleted = fates.iter().filter(|fate| **fate == Fate::Deleted).count();
        assert_eq!(deleted, CEILING);

        let left = runtime.block_on(api(&clients[0]).list(&ListParams::default())).expect("a list");
        let left: BTreeSet<String> = left.iter().map(ResourceExt::name_any).collect();
        let gone: BTreeSet<String> =
            (0..OBJECTS).map(|number| format!("object-{number}")).filter(|name| !left.contains(name)).collect();
        assert_eq!(gone.len(), CEILING);
        agree(&world, name, &namespace, &gone);
    }
    for name in &rules {
        eventually("the rule says what is used", || {
            let used = world.get(&[&format!("protectionrule/{name}")])["status"]["budgets"][0].clone();
            used["used"] == CEILING && used["count"] == CEILING && used["nextFree"].is_string()
        });
    }
    stopped.came_to_nothing(&world);
    sliding.has_slid(&world);
    memory_outlives_every_replica(&world, replicas);
    world.end();
}

fn memory_outlives_every_replica(world: &World, mut replicas: Replicas) {
    let mut rule = storm_rule("returns");
    rule["spec"]["actions"] = json!(["Recreate"]);
    rule["spec"]["ceiling"] = Value::Null;
    world.rule(&rule);
    let namespace = labelled(world, "returns");
    let create = |name: &str| namespace.kubectl(User::Agent, &["create", "configmap", name]);
    for name in ["one", "other"] {
        create(name).succeeds();
        namespace.kubectl(User::Agent, &["delete", "configmap", name]).succeeds();
        create(name).is_refused(&["denied Recreate of configmaps"]);
    }
    replicas.lose_all().expect("they end");
    // With Tagout away nobody is kept from restoring.
    create("one").succeeds();
    replicas.add(&world.tagout).expect("one is ready");
    create("other").is_refused(&["denied Recreate of configmaps"]);
    replicas.lose_all().expect("it ends");
}

/// Ledger, records and the API server's own audit log say the same of the same objects.
fn agree(world: &World, rule: &str, namespace: &Namespace, gone: &BTreeSet<String>) {
    let ledger = world.get(&[&format!("ledger/{rule}")]);
    let entries = ledger["spec"]["entries"].as_array().expect("entries");
    let counted: Vec<String> = entries.iter().map(|entry| text(&entry["name"])).collect();
    assert_eq!(counted.len(), CEILING, "{entries:?}");
    assert_eq!(&counted.into_iter().collect::<BTreeSet<_>>(), gone);

    let records = world.get(&["deletionrecords"]);
    let of_namespace = |record: &&Value| record["spec"]["namespace"] == *namespace.name;
    let records: Vec<&Value> = records["items"].as_array().expect("records").iter().filter(of_namespace).collect();
    let recorded: BTreeSet<String> = records.iter().map(|record| text(&record["spec"]["name"])).collect();
    assert_eq!((records.len(), &recorded), (CEILING, gone));
    let uids = |value: &Value| text(&value["uid"]);
    let counted: BTreeSet<String> = entries.iter().map(uids).collect();
    assert_eq!(records.iter().map(|record| uids(&record["spec"]["deletions"][0])).collect::<BTreeSet<_>>(), counted);

    let audited = audited(world, &namespace.name);
    assert_eq!(audited.len(), CEILING, "{audited:?}");
    assert_eq!(&audited.into_iter().collect::<BTreeSet<_>>(), gone);
}

/// A ceiling of one in a minute, and one that was let pass.
struct Sliding {
    namespace: String,
    next: Timestamp,
}

impl Sliding {
    fn begin(world: &World) -> Self {
        let mut rule = storm_rule("sliding");
        rule["spec"]["tolerate"] = json!({"objects": 1});
        rule["spec"]["ceiling"] = json!({"count": 1, "window": "1m", "per": "Rule"});
        world.rule(&rule);
        let namespace = labelled(world, "sliding");
        namespace.kubectl(User::Admin, &["create", "configmap", "a"]).succeeds();
        namespace.kubectl(User::Admin, &["create", "configmap", "b"]).succeeds();
        namespace.kubectl(User::Agent, &["delete", "configmap", "a"]).succeeds();
        let refused = namespace.kubectl(User::Agent, &["delete", "configmap", "b"]);
        let refused = refused.is_refused(&["the ceiling of rule sliding is reached (1 in 1m)"]).err;
        let (_, next) = refused.split_once("possible at ").expect("a time");
        let next: Timestamp = next.split_whitespace().next().expect("a time").parse().expect("a time");
        let wait = next.duration_since(Timestamp::now());
        assert!(wait > SignedDuration::from_secs(50) && wait < SignedDuration::from_mins(2), "{wait:?}");
        Self { namespace: namespace.name, next }
    }

    fn has_slid(&self, world: &World) {
        let wait = self.next.duration_since(Timestamp::now());
        thread::sleep(Duration::try_from(wait).unwrap_or_default() + Duration::from_secs(2));
        let delete = ["-n", &self.namespace, "delete", "configmap", "b"];
        world.kubectl(User::Agent, &delete).succeeds();
    }
}

/// A deletion that was let pass and that another webhook stopped.
struct Stopped {
    namespace: String,
    record: String,
}

const STOPPED: &str = "stopped";

impl Stopped {
    fn begin(world: &mut World) -> Self {
        world.rule(&storm_rule(STOPPED));
        let namespace = labelled(world, STOPPED);
        namespace.kubectl(User::Admin, &["create", "configmap", "kept"]).succeeds();
        let name = namespace.name.clone();
        world.kubectl(User::Alice, &["tagout", "approve", "configmap/kept", "-n", &name, "--yes"]).succeeds();
        let other = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "another"}, "webhooks": [{"name": "another.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "namespaceSelector": {"matchLabels": {"rule": STOPPED}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}]}]});
        world.apply(User::Admin, &other).succeeds();
        // The API server hears of it by a watch of its own.
        thread::sleep(Duration::from_secs(1));
        namespace.kubectl(User::Agent, &["delete", "configmap/kept"]).is_refused(&["another.example.com"]);
        let record = tagout::api::record_name("configmaps", &name, "kept");
        let this = Self { namespace: name, record };
        eventually("it is counted and written down", || this.is_written_down(world) && held(world) == 1);
        this
    }

    fn is_written_down(&self, world: &World) -> bool {
        world.kubectl(User::Admin, &["get", "deletionrecord", &self.record]).ok
    }

    fn came_to_nothing(&self, world: &World) {
        let began = Instant::now();
        // 75 s and the 30 s that clocks may differ, and the time between two looks.
        while self.is_written_down(world) || held(world) > 0 {
            assert!(began.elapsed() < Duration::from_mins(4), "what came to nothing is still written down");
            thread::sleep(Duration::from_secs(1));
        }
        assert!(world.kubectl(User::Admin, &["get", "configmap/kept", "-n", &self.namespace]).ok);
    }
}

/// The places in the ledger of the rule under which a deletion was stopped.
fn held(world: &World) -> usize {
    let ledger = world.kubectl(User::Admin, &["get", "ledger", STOPPED, "-o", "json"]);
    let ledger: Value = serde_json::from_str(&ledger.out).unwrap_or_default();
    ledger["spec"]["entries"].as_array().map_or(0, Vec::len)
}
