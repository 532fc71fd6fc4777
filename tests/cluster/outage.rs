//! What breaks around Tagout, or Tagout itself: what is protected stays, and all other work goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use controlplane::installation::NAMESPACE;
use controlplane::{ControlPlane, Options, User};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::routine::{Behaviour, DAILY_WORK, a_node_is_drained, rolled_out};
use crate::world::{APPROVERS, Namespace, Outcome, World, chart, deployment, eventually, rule, text};

const REFUSED: &str = "needs approval by 1 of approvers (rule production)";
const FAILED_CLOSED: &str = "failed calling webhook";
const SECRET: &str = "secret/tagout-certificates";

/// One world in which Tagout's process goes and comes, and at last goes for good.
#[test]
fn with_tagout_dead_daily_work_goes_on_and_nothing_protected_is_destroyed() {
    let mut world = World::start(&Options::default());
    a_node_is_drained(&world);
    let names = ["guarded", "terminating"];
    let before: Vec<_> = names.iter().map(|name| before_the_outage(&world, name)).collect();
    let lenient = ["Warn", "Audit"].map(|mode| lenient_rule(&world, mode));

    world.tagout.kill().expect("it is killed");
    assert_daily_work(&world);
    a_node_is_drained(&world);
    destruction_and_approvals_fail_closed(&world.borrowed(&before[0]), "guarded");
    // By a key that no rule uses.
    world.kubectl(User::Ci, &["label", "namespace", &before[0], "pod-security.kubernetes.io/warn=baseline"]).succeeds();
    what_was_terminating_can_finish(&world.borrowed(&before[1]), "terminating");
    for name in &lenient {
        world.borrowed(name).kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    }

    world.tagout.start().expect("it starts again");
    let guarded = world.borrowed(&before[0]);
    guarded.kubectl(User::Agent, &["delete", "deployment", "guarded"]).is_refused(&[REFUSED]);

    a_graceful_stop_lets_nothing_pass(&mut world, &before[0]);
    two_replicas_agree_on_a_burst_of_changes(&world);
    uninstalling_a_dead_tagout_leaves_nothing_that_blocks(&mut world, &before[0]);
    world.end();
}

#[test]
fn what_is_protected_stays_so_whatever_is_lost_around_tagout() {
    let mut world = World::start(&Options::default());
    let name = before_the_outage(&world, "api");
    the_api_server_goes_and_comes_back(&world, &name);
    tagout_waits_for_an_api_server_that_is_away_at_its_start(&mut world, &name);
    certificates_are_put_right_without_a_gap(&world, &name);
    damaged_certificates_are_replaced_at_the_start(&mut world, &name);
    rules_that_were_lost_with_their_definition_go_on_protecting(&world, &name);
    world.end();
}

/// A Deployment in production, rolled out; its namespace's name.
fn before_the_outage(world: &World, deployment: &str) -> String {
    let namespace = world.production();
    namespace.deployment(deployment);
    rolled_out(&namespace, &format!("deployment/{deployment}"));
    if deployment == "terminating" {
        let finalizer = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
        namespace.kubectl(User::Ci, &["patch", "deployment", deployment, "--type=merge", "-p", finalizer]).succeeds();
        let what = format!("deployment/{deployment}");
        let statement = namespace.statement(&what, User::Alice);
        namespace.present(User::Alice, &what, &json!([statement])).succeeds();
        namespace.kubectl(User::Ci, &["delete", &what, "--wait=false"]).succeeds();
        assert!(!namespace.get(&what)["metadata"]["deletionTimestamp"].is_null());
    }
    namespace.name
}

fn lenient_rule(world: &World, mode: &str) -> String {
    let name = format!("only-{}", mode.to_lowercase());
    let mut manifest = rule(&name, &name);
    manifest["spec"]["mode"] = json!(mode);
    world.rule(&manifest);
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    namespace.deployment("api");
    // Also while it runs, or the rule might simply not be there.
    let deleted = namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).succeeds();
    assert_eq!(deleted.err.contains("tagout"), mode == "Warn", "{}", deleted.err);
    namespace.name
}

/// Four at a time: most of each is waiting.
fn assert_daily_work(world: &World) {
    let failed = |(name, behaviour): &Behaviour| {
        let outcome = catch_unwind(AssertUnwindSafe(|| behaviour(world)));
        outcome.err().map(|_| *name)
    };
    let failures: Vec<&str> = DAILY_WORK
        .chunks(4)
        .flat_map(|chunk| {
            thread::scope(|scope| {
                let running: Vec<_> = chunk.iter().map(|one| scope.spawn(move || failed(one))).collect();
                running.into_iter().filter_map(|one| one.join().expect("it is caught")).collect::<Vec<_>>()
            })
        })
        .collect();
    assert!(failures.is_empty(), "with Tagout dead these do not work: {failures:?}");
}

fn destruction_and_approvals_fail_closed(namespace: &Namespace, name: &str) {
    let what = format!("deployment/{name}");
    for cascade in ["background", "foreground", "orphan"] {
        let cascade = format!("--cascade={cascade}");
        namespace.kubectl(User::Agent, &["delete", &what, &cascade]).is_refused(&["InternalError", FAILED_CLOSED]);
    }
    namespace.world.kubectl(User::Agent, &["delete", "namespace", &namespace.name]).is_refused(&[FAILED_CLOSED]);
    let statement = namespace.statement(&what, User::Alice);
    namespace.present(User::Alice, &what, &json!([statement])).is_refused(&[FAILED_CLOSED]);
    let live = namespace.get(&what);
    assert!(live["metadata"]["deletionTimestamp"].is_null());
    assert!(live["metadata"]["labels"].get("tagout.dev/approval").is_none());
}

fn what_was_terminating_can_finish(namespace: &Namespace, name: &str) {
    let what = format!("deployment/{name}");
    namespace.kubectl(User::Ci, &["delete", &what, "--wait=false"]).succeeds();
    let release = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(User::Ci, &["patch", &what, "--type=merge", "-p", release]).succeeds();
    eventually("it is gone", || !namespace.exists(&what));
    // And may be restored at once.
    namespace.apply(User::Ci, &deployment(name)).succeeds();
    rolled_out(namespace, &what);
}

fn a_graceful_stop_lets_nothing_pass(world: &mut World, name: &str) {
    let (cp, namespace) = (world.cp, name.to_owned());
    let started = Instant::now();
    let deleting = thread::spawn(move || {
        let mut outcomes = Vec::new();
        while started.elapsed() < Duration::from_secs(4) {
            outcomes.push(delete(cp, &namespace, "guarded"));
        }
        outcomes
    });
    thread::sleep(Duration::from_secs(1));
    let status = world.tagout.terminate().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(16), "nothing in flight takes that long");
    let outcomes = deleting.join().expect("it ends");
    assert!(outcomes.iter().any(|outcome| outcome.err.contains(REFUSED)));
    assert!(outcomes.iter().any(|outcome| outcome.err.contains(FAILED_CLOSED)));
    for outcome in outcomes {
        let refused = outcome.err.contains(REFUSED) || outcome.err.contains(FAILED_CLOSED);
        assert!(!outcome.ok && refused, "{}{}", outcome.out, outcome.err);
    }
    assert!(world.tagout.log().contains("stopped"));
    world.tagout.start().expect("it starts again");
}

fn two_replicas_agree_on_a_burst_of_changes(world: &World) {
    let mut second = world.tagout.replica("second").expect("it starts");
    eventually("the second replica is ready", || log(world, "second").contains("all rules are registered"));
    let rules: Vec<_> = (0..5).map(|number| format!("burst-{number}")).collect();
    for mode in ["Audit", "Enforce"] {
        for name in &rules {
            let mut manifest = rule(name, name);
            manifest["spec"]["mode"] = json!(mode);
            world.apply(User::Ci, &manifest).succeeds();
        }
    }
    for name in &rules {
        let generation = world.get(&[&format!("protectionrule/{name}")])["metadata"]["generation"].to_string();
        let entry = format!("validatingwebhookconfiguration/tagout-{name}");
        eventually(&format!("{name} is in force as it is"), || {
            world.kubectl(User::Admin, &["get", &entry]).ok && {
                let entry = world.get(&[&entry]);
                entry["metadata"]["annotations"]["tagout.dev/rule-generation"] == generation
                    && entry["webhooks"][0]["failurePolicy"] == "Fail"
            }
        });
    }
    thread::sleep(Duration::from_secs(3));
    let versions = || {
        ["validatingwebhookconfigurations", "protectionrules"].map(|kind| {
            let found = world.get(&[kind]);
            let versions = found["items"].as_array().into_iter().flatten();
            versions.map(|item| text(&item["metadata"]["resourceVersion"])).collect::<Vec<_>>()
        })
    };
    let settled = versions();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(settled, versions(), "nobody writes any more");

    for name in &rules {
        world.remove(User::Ci, &format!("protectionrule/{name}"));
    }
    eventually("the entries go with their rules", || {
        !world.kubectl(User::Admin, &["get", "validatingwebhookconfigurations", "-o", "name"]).out.contains("burst-")
    });
    assert!(second.try_wait().expect("its state").is_none(), "the second replica lives");
    second.kill().expect("it is killed");
    second.wait().expect("it ends");
    for log in [log(world, "second"), world.tagout.log()] {
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn uninstalling_a_dead_tagout_leaves_nothing_that_blocks(world: &mut World, name: &str) {
    world.tagout.kill().expect("it is killed");
    let namespace = world.borrowed(name);
    namespace.kubectl(User::Agent, &["delete", "deployment", "guarded"]).is_refused(&[FAILED_CLOSED]);
    helm(world, &["uninstall", "tagout"]);
    eventually("every entry is gone", || {
        let all = world.kubectl(User::Admin, &["get", "validatingwebhookconfigurations", "-o", "name"]).succeeds();
        !all.out.contains("tagout")
    });
    // The API server hears of it by a watch of its own.
    thread::sleep(Duration::from_secs(1));
    namespace.kubectl(User::Agent, &["delete", "deployment", "guarded"]).succeeds();
    for namespace in [name, NAMESPACE] {
        world.kubectl(User::Ci, &["delete", "namespace", namespace, "--timeout=60s"]).succeeds();
    }
    let definitions = ["protectionrules.tagout.dev", "approverteams.tagout.dev"];
    world.kubectl(User::Ci, &[&["delete", "crd", "--timeout=60s"], &definitions[..]].concat()).succeeds();
}

fn the_api_server_goes_and_comes_back(world: &World, name: &str) {
    let namespace = world.borrowed(name);
    world.cp.kill_apiserver().expect("it is killed");
    for _ in 0..10 {
        assert!(answers(world, "/healthz"), "Tagout lives while the API server is away");
        thread::sleep(Duration::from_millis(500));
    }
    world.cp.restart_apiserver().expect("it starts again");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
    let restarted = Instant::now();
    world.rule(&rule("after-the-restart", "after-the-restart"));
    assert!(restarted.elapsed() < Duration::from_mins(1), "in force only after {:?}", restarted.elapsed());
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=after-the-restart"]).succeeds();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["(rule after-the-restart)"]);
    assert!(answers(world, "/healthz") && answers(world, "/readyz"));
}

fn tagout_waits_for_an_api_server_that_is_away_at_its_start(world: &mut World, name: &str) {
    world.tagout.kill().expect("it is killed");
    world.cp.kill_apiserver().expect("it is killed");
    let (cp, address) = (world.cp, world.tagout.address().to_string());
    thread::scope(|scope| {
        let starting = scope.spawn(|| world.tagout.start());
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(8) {
            assert!(!starting.is_finished(), "it waits, and neither ends nor calls itself ready");
            assert!(!fetches(&["--insecure", &format!("https://{address}/readyz")]));
            thread::sleep(Duration::from_millis(500));
        }
        cp.restart_apiserver().expect("it starts again");
        starting.join().expect("no panic").expect("it becomes ready");
    });
    world.borrowed(name).kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
    assert!(!world.tagout.log().contains("panicked"));
}

/// Three Secrets that cannot be used, and none at all.
fn certificates_are_put_right_without_a_gap(world: &World, name: &str) {
    let strangers_key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let garbage = "garbage".to_owned();
    let (certificate, key) = expired(world);
    for damage in [
        Some(vec![("tls.key", strangers_key)]),
        Some(vec![("tls.crt", certificate), ("tls.key", key)]),
        Some(["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|part| (part, garbage.clone())).to_vec()),
        None,
    ] {
        let damaged = damage_certificates(world, damage.as_deref());
        let since = Instant::now();
        let mut repaired = None;
        while since.elapsed() < Duration::from_secs(15) {
            let outcome = delete(world.cp, name, "api");
            assert!(outcome.err.contains(REFUSED), "{damaged}: after {:?}: {}", since.elapsed(), outcome.err);
            if repaired.is_none() && trusted(world) && !still_damaged(world, damage.as_deref()) {
                repaired = Some(since.elapsed());
                break;
            }
        }
        assert!(repaired.is_some(), "{damaged}: usable certificates are back in the Secret");
        world.borrowed(name).kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
    }
    assert!(answers(world, "/readyz"));
}

fn damaged_certificates_are_replaced_at_the_start(world: &mut World, name: &str) {
    world.tagout.kill().expect("it is killed");
    let (certificate, key) = expired(world);
    let damage = [("tls.crt", certificate), ("tls.key", key), ("ca.key", "garbage".to_owned())];
    damage_certificates(world, Some(&damage));
    world.tagout.start().expect("it starts");
    assert!(!still_damaged(world, Some(&damage)));
    eventually("a new connection is trusted", || trusted(world));
    let refused = || delete(world.cp, name, "api").err.contains(REFUSED);
    eventually("the API server knows the new authority", refused);
}

fn rules_that_were_lost_with_their_definition_go_on_protecting(world: &World, name: &str) {
    let namespace = world.borrowed(name);
    let definition = "protectionrules.tagout.dev";
    world.remove(User::Agent, &format!("crd/{definition}"));
    let lost = Instant::now();
    while lost.elapsed() < Duration::from_secs(10) {
        namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
        thread::sleep(Duration::from_millis(500));
    }
    let definitions = chart().join("crds").display().to_string();
    world.kubectl(User::Ci, &["apply", "--server-side", "--force-conflicts", "-f", &definitions]).succeeds();
    world.kubectl(User::Ci, &["wait", "--for=condition=Established", "crd", definition, "--timeout=60s"]).succeeds();
    // No rule is there yet: that they are missing from the list of the new definition proves nothing either.
    for _ in 0..10 {
        namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
        thread::sleep(Duration::from_millis(500));
    }

    let chart = chart().display().to_string();
    helm(world, &["upgrade", "tagout", &chart, "--reuse-values", "--set", APPROVERS[0]]);
    let uid = text(&world.get(&["crd", definition])["metadata"]["uid"]);
    eventually("the entry is of the rule under the new definition", || {
        let entry = world.get(&["validatingwebhookconfiguration/tagout-production"]);
        entry["metadata"]["annotations"]["tagout.dev/definition-uid"] == uid
    });
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[REFUSED]);
    let fresh = rule("after-the-loss", "after-the-loss");
    world.rule(&fresh);
    world.remove(User::Ci, "protectionrule/after-the-loss");
    eventually("a rule that is deleted takes its entry along again", || {
        !world.kubectl(User::Admin, &["get", "validatingwebhookconfiguration", "tagout-after-the-loss"]).ok
    });
    let statement = namespace.statement("deployment/api", User::Alice);
    namespace.present(User::Alice, "deployment/api", &json!([statement])).succeeds();
    namespace.kubectl(User::Ci, &["delete", "deployment", "api"]).succeeds();
}

/// A certificate of the right authority for the right name that ran out, with its key.
fn expired(world: &World) -> (String, String) {
    let secret = world.get(&["-n", NAMESPACE, SECRET]);
    let part = |name: &str| String::from_utf8(decoded(&secret["data"][name])).expect("PEM is text");
    let ca_key = rcgen::KeyPair::from_pem(&part("ca.key")).expect("the authority's key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&part("ca.crt"), ca_key).expect("the authority");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![server_name()]).expect("parameters");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
}

/// Replaces these parts of the Secret, or deletes it.
fn damage_certificates(world: &World, parts: Option<&[(&str, String)]>) -> String {
    let Some(parts) = parts else {
        world.kubectl(User::Agent, &["-n", NAMESPACE, "delete", SECRET]).succeeds();
        return "the Secret deleted".to_owned();
    };
    let data: serde_json::Map<_, _> = parts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let patch = json!({"stringData": data}).to_string();
    world.kubectl(User::Agent, &["-n", NAMESPACE, "patch", SECRET, "--type=merge", "-p", &patch]).succeeds();
    format!("{:?} replaced", data.keys().collect::<Vec<_>>())
}

fn still_damaged(world: &World, parts: Option<&[(&str, String)]>) -> bool {
    if !world.kubectl(User::Admin, &["-n", NAMESPACE, "get", SECRET]).ok {
        return true;
    }
    let secret = world.get(&["-n", NAMESPACE, SECRET]);
    parts.into_iter().flatten().any(|(name, text)| decoded(&secret["data"][*name]) == text.as_bytes())
}

/// Whether somebody who knows what the entries say trusts a new connection, and the Secret says the same.
fn trusted(world: &World) -> bool {
    if !world.kubectl(User::Admin, &["-n", NAMESPACE, "get", SECRET]).ok {
        return false;
    }
    let authority = decoded(&world.get(&["-n", NAMESPACE, SECRET])["data"]["ca.crt"]);
    let entries = world.get(&["validatingwebhookconfigurations"]);
    let mut named = entries["items"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|entry| entry["webhooks"].as_array().into_iter().flatten())
        .map(|webhook| decoded(&webhook["clientConfig"]["caBundle"]));
    if !named.all(|named| named == authority) {
        return false;
    }
    let file = world.cp.dir().join("trusted.crt");
    std::fs::write(&file, authority).expect("it is written");
    let (name, address) = (server_name(), world.tagout.address());
    let resolve = format!("{name}:{}:{}", address.port(), address.ip());
    let url = format!("https://{name}:{}/healthz", address.port());
    fetches(&["--cacert", &file.display().to_string(), "--resolve", &resolve, &url])
}

fn server_name() -> String {
    format!("tagout.{NAMESPACE}.svc")
}

fn decoded(value: &Value) -> Vec<u8> {
    serde_json::from_value::<ByteString>(value.clone()).map(|bytes| bytes.0).unwrap_or_default()
}

fn answers(world: &World, path: &str) -> bool {
    fetches(&["--insecure", &format!("https://{}{path}", world.tagout.address())])
}

fn fetches(args: &[&str]) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--max-time", "2", "--noproxy", "*"]).args(args);
    curl.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("curl starts").success()
}

fn delete(cp: &ControlPlane, namespace: &str, name: &str) -> Outcome {
    Outcome::of(cp.kubectl(User::Agent).args(["-n", namespace, "delete", "deployment", name]), "")
}

fn helm(world: &World, args: &[&str]) {
    Outcome::of(world.cp.helm(User::Ci).args(["--namespace", NAMESPACE]).args(args), "").succeeds();
}

fn log(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.cp.dir().join(format!("logs/{name}.log"))).unwrap_or_default()
}
