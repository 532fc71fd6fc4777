//! Certificates are replaced, damaged and lost while the API server calls: it trusts Tagout all the while.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use controlplane::installation::{NAMESPACE, run};
use controlplane::{Options, User};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::balancer::Balancer;
use crate::storm::client;
use crate::world::{World, eventually, rule, text};

const REFUSED: &str = "needs approval by 1 of approvers (rule production)";
const OWN: &str = "tagout-certificates";
const PROVIDED: &str = "tagout-provided";
const CALLED: &str = "deletions-are-counted";

/// Two replicas behind the address of the Service.
struct Replicas {
    addresses: Vec<SocketAddr>,
    running: Vec<Child>,
    _balancer: Balancer,
}

impl Replicas {
    fn start(world: &mut World, arguments: &[&str]) -> Self {
        world.tagout.kill().expect("it is killed");
        world.tagout.add_arguments(arguments);
        let addresses: Vec<_> = (0..2).map(|_| free_address()).collect();
        let one = |at: usize| world.tagout.replica_on(&format!("replica-{at}"), addresses[at]).expect("it starts");
        let running = vec![one(0), one(1)];
        let balancer = Balancer::start(world.tagout.address(), addresses.clone());
        for address in &addresses {
            eventually("the replica is ready", || is_ready(*address));
        }
        Self { addresses, running, _balancer: balancer }
    }

    /// Ends them; says what they have logged.
    fn end(mut self, world: &World) -> String {
        for child in &mut self.running {
            assert!(child.try_wait().expect("its state").is_none(), "it lives");
            child.kill().expect("it is killed");
            child.wait().expect("it ends");
        }
        let log = |at| fs::read_to_string(world.cp.dir().join(format!("logs/replica-{at}.log"))).expect("a log");
        let logs = log(0) + &log(1);
        for forbidden in ["panicked", "PRIVATE KEY", "BEGIN CERTIFICATE"] {
            assert!(!logs.contains(forbidden), "{forbidden} is in the log");
        }
        logs
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free address")
}

fn is_ready(address: SocketAddr) -> bool {
    fetches(&["--insecure", &format!("https://{address}/readyz")])
}

fn fetches(args: &[&str]) -> bool {
    fetch(args) == Some(0)
}

/// How curl ends.
const NOT_TRUSTED: i32 = 60;

fn fetch(args: &[&str]) -> Option<i32> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--max-time", "10", "--noproxy", "*"]).args(args);
    curl.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("curl starts").code()
}

/// Deletes what is protected and what is not, all the while. What is protected is refused each time, and no call fails.
struct Load<'w> {
    world: &'w World,
    protected: String,
    called: String,
}

impl<'w> Load<'w> {
    fn new(world: &'w World) -> Self {
        let mut manifest = rule(CALLED, CALLED);
        manifest["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["configmaps"]}]);
        manifest["spec"]["mode"] = json!("Audit");
        world.rule(&manifest);
        let called = world.unprotected();
        world.kubectl(User::Admin, &["label", "namespace", &called.name, &format!("rule={CALLED}")]).succeeds();
        let protected = world.production();
        protected.deployment("api");
        Self { world, protected: protected.name, called: called.name }
    }

    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (deleted, trusted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (failed, epoch) = (self.failed_calls(), self.world.epoch());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let worked = thread::scope(|scope| {
            // Also where the work panics, or the scope would wait for ever.
            let _ends = Ends(&over);
            scope.spawn(|| {
                let clients = [User::Agent, User::Ci].map(|user| runtime.block_on(client(self.world, user)));
                runtime.block_on(async {
                    tokio::join!(
                        self.is_refused(&clients[0], &over, &refused),
                        self.is_refused(&clients[1], &over, &refused),
                        self.is_deleted(&clients[1], &over, &deleted),
                    )
                });
            });
            scope.spawn(|| self.is_trusted(&over, &trusted));
            work()
        });
        let counts = [&refused, &deleted, &trusted].map(|count| count.load(Ordering::Relaxed));
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
        assert_eq!(failed, self.failed_calls(), "no call has failed, among {counts:?}");
        assert_eq!(epoch, self.world.epoch(), "nobody took it for somebody else's doing");
        self.still_refused();
        worked
    }

    async fn is_refused(&self, client: &Client, over: &AtomicBool, count: &AtomicUsize) {
        let api: Api<Deployment> = Api::namespaced(client.clone(), &self.protected);
        while !over.load(Ordering::Relaxed) {
            let error = api.delete("api", &DeleteParams::default()).await.expect_err("it is protected").to_string();
            assert!(error.contains(REFUSED), "{error}");
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_deleted(&self, client: &Client, over: &AtomicBool, count: &AtomicUsize) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &self.called);
        let metadata = ObjectMeta { name: Some("one".into()), ..ObjectMeta::default() };
        let one = ConfigMap { metadata, ..ConfigMap::default() };
        while !over.load(Ordering::Relaxed) {
            api.create(&PostParams::default(), &one).await.expect("it is made");
            api.delete("one", &DeleteParams::default()).await.expect("it is only counted");
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// API servers keep connections, and so would not notice each certificate: who makes a new one does.
    fn is_trusted(&self, over: &AtomicBool, count: &AtomicUsize) {
        let file = self.world.cp.dir().join("trusted.crt");
        let name = format!("tagout.{NAMESPACE}.svc");
        let address = self.world.tagout.address();
        let resolve = format!("{name}:{}:{}", address.port(), address.ip());
        let url = format!("https://{name}:{}/healthz", address.port());
        let file_name = file.display().to_string();
        let args = ["--cacert", &file_name, "--resolve", &resolve, &url];
        let bundle = || {
            let entry = self.world.get(&["validatingwebhookconfiguration/tagout"]);
            decoded(&entry["webhooks"][0]["clientConfig"]["caBundle"])
        };
        while !over.load(Ordering::Relaxed) {
            let known = bundle();
            fs::write(&file, &known).expect("it is written");
            match fetch(&args) {
                Some(0) => drop(count.fetch_add(1, Ordering::Relaxed)),
                // An API server would know by now what the entry says.
                Some(NOT_TRUSTED) => assert!(known != bundle(), "a new connection is trusted"),
                // That takes long, on a machine that does much else.
                _ => {}
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Calls that failed, whatever the API server made of that.
    fn failed_calls(&self) -> u64 {
        let metrics = self.world.cp.apiserver_metrics().expect("metrics");
        let failed = metrics.lines().filter(|line| {
            line.starts_with("apiserver_admission_webhook_fail_open_count{")
                || line.starts_with("apiserver_admission_webhook_rejection_count{")
                    && line.contains("error_type=\"calling_webhook_error\"")
        });
        failed.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn still_refused(&self) {
        let namespace = self.world.borrowed(&self.protected);
        namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn decoded(value: &Value) -> Vec<u8> {
    serde_json::from_value::<ByteString>(value.clone()).map(|bytes| bytes.0).unwrap_or_default()
}

fn part(world: &World, secret: &str, name: &str) -> String {
    let found = world.kubectl(User::Admin, &["-n", NAMESPACE, "get", "secret", secret, "-o", "json"]);
    let found: Value = serde_json::from_str(&found.out).unwrap_or_default();
    String::from_utf8(decoded(&found["data"][name])).expect("PEM is text")
}

/// The certificates in a text.
fn certificates(pem: &str) -> BTreeSet<String> {
    let each = pem.split_inclusive("-----END CERTIFICATE-----").map(|one| one.trim().to_owned());
    each.filter(|one| !one.is_empty()).collect()
}

/// What every entry says of authorities, if all say the same.
fn entries_trust(world: &World) -> Option<String> {
    let found = world.get(&["validatingwebhookconfigurations"]);
    let webhooks = found["items"].as_array()?.iter().flat_map(|item| item["webhooks"].as_array().into_iter().flatten());
    let named: BTreeSet<_> = webhooks.map(|webhook| decoded(&webhook["clientConfig"]["caBundle"])).collect();
    (named.len() == 1).then(|| String::from_utf8(named.into_iter().next().unwrap_or_default()).expect("PEM is text"))
}

/// Waits until a Secret and all entries name one authority; says which.
fn one_authority(world: &World, secret: &str, is_it: impl Fn(&str) -> bool) -> String {
    eventually("one authority is left", || {
        let stored = part(world, secret, "ca.crt");
        certificates(&stored).len() == 1 && is_it(&stored) && entries_trust(world) == Some(stored)
    });
    part(world, secret, "ca.crt")
}

/// When what is served ends, and its authority.
fn expiries(metrics: &str) -> [i64; 2] {
    ["serving", "authority"].map(|which| {
        let name = format!("tagout_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    })
}

#[test]
fn certificate_and_authority_are_replaced_again_and_again_and_no_call_fails() {
    let mut world = World::start(&Options::default());
    let before = expiries(&world.metrics());
    let days = (before[0] - jiff::Timestamp::now().as_second()) / 86_400;
    assert!((88..=90).contains(&days) && before[1] > before[0] + 900 * 86_400, "{before:?}");

    let lives = ["--certificate-life=40s", "--authority-life=120s", "--authority-overlap=4s"];
    world.tagout.kill().expect("it is killed");
    world.kubectl(User::Admin, &["-n", NAMESPACE, "delete", "secret", OWN]).succeeds();
    let replicas = Replicas::start(&mut world, &lives);
    let load = Load::new(&world);
    let (authorities, leaves) = load.during(|| {
        let (mut authorities, mut leaves) = (BTreeSet::new(), BTreeSet::new());
        let began = Instant::now();
        while authorities.len() < 3 || certificates(&part(&world, OWN, "ca.crt")).len() > 1 {
            authorities.extend(certificates(&part(&world, OWN, "ca.crt")));
            leaves.insert(part(&world, OWN, "tls.crt"));
            assert!(began.elapsed() < Duration::from_mins(8), "only {} authorities came", authorities.len());
            thread::sleep(Duration::from_millis(500));
        }
        (authorities.len(), leaves.len())
    });
    assert!(authorities >= 3 && leaves > authorities, "{authorities} authorities, {leaves} certificates");
    let log = replicas.end(&world);
    assert!(log.contains("the next authority signs from now on"));
    world.end();
}

#[test]
fn whatever_becomes_of_the_secret_no_call_fails_and_it_is_put_right() {
    let mut world = World::start(&Options::default());
    let replicas = Replicas::start(&mut world, &["--authority-overlap=8s"]);
    let load = Load::new(&world);
    load.during(|| {
        let known = one_authority(&world, OWN, |_| true);
        for name in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
            for junk in ["junk", ""] {
                replace(&world, &json!({ name: junk }));
                eventually("it is put right", || part(&world, OWN, name).len() > 100);
            }
        }
        let key = KeyPair::generate().expect("a key").serialize_pem();
        for name in ["tls.key", "ca.key", "next-ca.key"] {
            replace(&world, &json!({ name: key }));
            eventually("it is put right", || part(&world, OWN, name) != key);
        }
        let ours = Foreign { certificate: known.clone(), key: part(&world, OWN, "ca.key") };
        let (certificate, key) = ours.signs(2021);
        replace(&world, &json!({"tls.crt": certificate, "tls.key": key}));
        eventually("it is put right", || part(&world, OWN, "tls.crt") != certificate);
        world.kubectl(User::Agent, &["-n", NAMESPACE, "delete", "secret", OWN]).succeeds();
        eventually("it is there again", || part(&world, OWN, "ca.crt").len() > 100);
        assert_eq!(one_authority(&world, OWN, |_| true), known, "it was never lost");

        // By somebody who means well, with the authority's key.
        let theirs = Foreign::new();
        let (certificate, key) = theirs.signs(2090);
        let all = json!({"ca.crt": theirs.certificate, "ca.key": theirs.key, "tls.crt": certificate, "tls.key": key});
        replace(&world, &all);
        eventually("both are trusted", || {
            entries_trust(&world).is_some_and(|pem| pem.contains(known.trim()) && certificates(&pem).len() == 2)
        });
        let wanted = certificates(&theirs.certificate);
        one_authority(&world, OWN, |pem| certificates(pem) == wanted);

        // And by somebody who keeps it: who may write this Secret is trusted by the API server, until the authority whose
        // key is not there is replaced.
        let attacker = Foreign::new();
        let (certificate, key) = attacker.signs(2090);
        replace(&world, &json!({"ca.crt": attacker.certificate, "tls.crt": certificate, "tls.key": key}));
        let (theirs, attackers) = (certificates(&theirs.certificate), certificates(&attacker.certificate));
        one_authority(&world, OWN, |pem| certificates(pem) != theirs && certificates(pem) != attackers);
    });
    let log = replicas.end(&world);
    assert!(log.contains("another authority was put there by hand"), "it is noted");
    world.end();
}

/// Replaces parts of our Secret.
fn replace(world: &World, parts: &Value) {
    let patch = json!({"stringData": parts}).to_string();
    world.kubectl(User::Agent, &["-n", NAMESPACE, "patch", "secret", OWN, "-p", &patch]).succeeds();
}

/// An authority that is none of Tagout's.
struct Foreign {
    certificate: String,
    key: String,
}

impl Foreign {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "somebody else");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { certificate: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
    }

    /// A certificate for the Service until this year, and its key.
    fn signs(&self, until: i32) -> (String, String) {
        let authority = KeyPair::from_pem(&self.key).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, authority).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![format!("tagout.{NAMESPACE}.svc")]).expect("parameters");
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// Makes an authority and a certificate as cert-manager would, and a manifest of the Secret that it would write.
pub fn made_elsewhere(folder: &TempDir, number: usize) -> Value {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=company -keyout ca.key -out ca.crt
         openssl req -newkey rsa:2048 -nodes -subj /O=number-{number} -keyout tls.key -out tls.csr
         printf 'subjectAltName=critical,DNS:tagout.{NAMESPACE}.svc\\nextendedKeyUsage=serverAuth\\n' > names
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile names -out tls.crt"
    );
    run(Command::new("sh").args(["-e", "-c", &script]).current_dir(folder.path()), "").expect("certificates");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it was made");
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": PROVIDED, "namespace": NAMESPACE},
        "stringData": {"ca.crt": read("ca.crt"), "tls.crt": read("tls.crt"), "tls.key": read("tls.key")},
    })
}

/// Writes them; says by which authority they are.
fn provide(world: &World, folder: &TempDir, number: usize) -> BTreeSet<String> {
    let secret = made_elsewhere(folder, number);
    world.apply(User::Admin, &secret).succeeds();
    certificates(&text(&secret["stringData"]["ca.crt"]))
}

fn may_read_provided(world: &World) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "provided", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [PROVIDED], "verbs": ["get"]}],
    });
    world.apply(User::Admin, &role).succeeds();
    let account = format!("--serviceaccount={NAMESPACE}:tagout");
    let bind = ["create", "rolebinding", "provided", "--role=provided", &account, "-n", NAMESPACE];
    world.kubectl(User::Admin, &bind).succeeds();
}

fn version(world: &World) -> String {
    text(&world.get(&["-n", NAMESPACE, "secret", PROVIDED])["metadata"]["resourceVersion"])
}

#[test]
fn certificates_that_others_provide_are_replaced_with_their_authority_and_no_call_fails() {
    let mut world = World::start(&Options::default());
    let folder = tempfile::tempdir().expect("a folder");
    may_read_provided(&world);
    let first = provide(&world, &folder, 0);
    let secret = format!("--certificates-secret={PROVIDED}");
    let arguments = ["--certificates=provided", &secret, "--authority-overlap=8s"];
    let replicas = Replicas::start(&mut world, &arguments);
    let trusted = "tagout-authorities";
    one_authority(&world, trusted, |pem| certificates(pem) == first);
    let load = Load::new(&world);
    load.during(|| {
        for number in 1..3 {
            let before = certificates(&part(&world, PROVIDED, "ca.crt"));
            let next = provide(&world, &folder, number);
            eventually("both are trusted", || {
                entries_trust(&world).map(|pem| certificates(&pem)) == Some(before.union(&next).cloned().collect())
            });
            let written = version(&world);
            one_authority(&world, trusted, |pem| certificates(pem) == next);
            assert_eq!(written, version(&world), "it is only read");
        }
        // What cannot be used is left alone, and the last good one goes on being served.
        let good = part(&world, PROVIDED, "tls.key");
        let damage = |key: &str| {
            let patch = json!({"stringData": {"tls.key": key}}).to_string();
            world.kubectl(User::Agent, &["-n", NAMESPACE, "patch", "secret", PROVIDED, "-p", &patch]).succeeds();
        };
        damage("junk");
        let damaged = version(&world);
        said(&world, "tls.key is not PEM of the right kind");
        assert_eq!(damaged, version(&world), "it is only read");
        damage(&good);
        world.kubectl(User::Agent, &["-n", NAMESPACE, "delete", "secret", PROVIDED]).succeeds();
        said(&world, "tls.crt is missing");
        assert!(!world.kubectl(User::Admin, &["-n", NAMESPACE, "get", "secret", PROVIDED]).ok, "it is not made");
        assert!(replicas.addresses.iter().all(|address| is_ready(*address)));
    });
    // One that starts now has nothing to serve, and says so.
    let address = free_address();
    let mut late = world.tagout.replica_on("late", address).expect("it starts");
    let log = || fs::read_to_string(world.cp.dir().join("logs/late.log")).unwrap_or_default();
    eventually("it says what is missing", || log().contains("tls.crt is missing"));
    assert!(!is_ready(address));
    provide(&world, &folder, 3);
    eventually("it is ready", || is_ready(address));
    load.still_refused();
    late.kill().expect("it is killed");
    late.wait().expect("it ends");
    replicas.end(&world);
    world.end();
}

fn said(world: &World, words: &str) {
    eventually(words, || {
        let log = |at| fs::read_to_string(world.cp.dir().join(format!("logs/replica-{at}.log"))).unwrap_or_default();
        log(0).contains(words) && log(1).contains(words)
    });
}
