//! Others are notified, by a real Tagout that the chart has set up, over TLS.

pub mod receiver;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use controlplane::{ControlPlane, Options, User};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::receiver::{Does, Receiver};
use crate::bad_input::{JSON, curl};
use crate::world::{APPROVERS, Namespace, World, binary, eventually, rule, text};

/// Nobody but the receiver may see these.
const SECRET_PATH: &str = "/services/T000/B000/wonderfulsecret";
const SECRET_HEADER: &str = "Bearer alsosecret";

struct Scene {
    world: World,
    events: Receiver,
    slack: Receiver,
    folder: TempDir,
}

/// Two sinks, set up by values of the chart.
fn scene() -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (events, slack) = (Receiver::start(&path("events.pem")), Receiver::start(&path("slack.pem")));
    fs::write(path("events-url"), events.url(SECRET_PATH)).expect("written");
    fs::write(path("slack-url"), slack.url(SECRET_PATH) + "\n").expect("written");
    fs::write(path("token"), SECRET_HEADER).expect("written");
    let at = |name: &str| path(name).display().to_string();
    let values = [
        "notifications.clusterName=test".to_owned(),
        "notifications.sinks[0].name=events".to_owned(),
        format!("notifications.sinks[0].urlFile={}", at("events-url")),
        format!("notifications.sinks[0].headersFile.Authorization={}", at("token")),
        format!("notifications.sinks[0].caFile={}", at("events.pem")),
        "notifications.sinks[0].repeat=20s".to_owned(),
        "notifications.sinks[1].name=slack".to_owned(),
        "notifications.sinks[1].format=Slack".to_owned(),
        format!("notifications.sinks[1].urlFile={}", at("slack-url")),
        format!("notifications.sinks[1].caFile={}", at("slack.pem")),
        "selfProtection.enabled=true".to_owned(),
    ];
    let values: Vec<&str> = APPROVERS.into_iter().chain(values.iter().map(String::as_str)).collect();
    let cp = Box::leak(Box::new(ControlPlane::start(&Options::default()).expect("a control plane")));
    let world = World::installed(cp, &values);
    Scene { world, events, slack, folder }
}

/// In the metrics and the log nothing of what is secret.
fn keeps_secrets(scene: &Scene) {
    let (log, metrics) = (scene.world.tagout.log(), scene.world.metrics());
    for secret in ["wonderfulsecret", "alsosecret", "localhost:"] {
        assert!(!log.contains(secret), "the log has {secret}");
        assert!(!metrics.contains(secret), "the metrics have {secret}");
    }
}

/// Within the time that the API server's patience leaves, and by far.
fn is_decided_at_once(namespace: &Namespace, name: &str) {
    let began = Instant::now();
    namespace.kubectl(User::Agent, &["delete", "deployment", name]).is_refused(&["denied Delete"]);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// One world for all: each takes half a minute to come up.
#[test]
fn others_are_notified() {
    let mut scene = scene();
    a_denial_is_told_once_however_often_it_is_tried_and_again_with_the_count(&scene);
    approvals_are_told_when_written_and_when_used(&scene);
    dry_runs_are_told_to_nobody(&scene);
    who_breaks_glass_is_told_of_while_refusals_are_not_taken(&scene);
    decisions_wait_for_no_sink(&scene);
    what_was_not_taken_is_sent_again(&scene);
    changes_of_the_guard_are_told(&scene);
    a_flood_of_forged_reviews_keeps_back_no_unlock(&scene);
    a_redirection_is_not_followed(&scene);
    slack_reads_plain_text(&scene);
    keeps_secrets(&scene);
    a_test_is_sent_to_each(&scene);
    where_it_goes_is_changed(&mut scene);
    what_must_be_heard_is_sent_before_the_process_ends(&mut scene);
    keeps_secrets(&scene);
    scene.world.end();
}

fn denials(scene: &Scene, namespace: &Namespace) -> Vec<Value> {
    let all = scene.events.took("denied");
    all.into_iter().filter(|one| one["data"]["namespace"] == namespace.name.as_str()).collect()
}

fn a_denial_is_told_once_however_often_it_is_tried_and_again_with_the_count(scene: &Scene) {
    let namespace = scene.world.production();
    namespace.deployment("api");
    let mut id = String::new();
    for _ in 0..12 {
        let refused = namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["Request: to-"]);
        id = refused.err.split("Request: ").nth(1).expect("an id").chars().take(11).collect();
    }
    eventually("it is told", || !denials(scene, &namespace).is_empty());
    thread::sleep(Duration::from_secs(3));
    let told = denials(scene, &namespace);
    assert_eq!(told.len(), 1, "{told:?}");
    let (event, data) = (&told[0], &told[0]["data"]);
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["source"], "//test/tagout");
    assert_eq!(event["subject"], format!("deployments.apps/{}/api", namespace.name));
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(data["request"], id.as_str());
    assert_eq!(data["requester"], User::Agent.name());
    assert_eq!(data["rules"], json!(["production"]));
    assert_eq!(data["mode"], "Enforce");
    assert_eq!(data["missing"], json!(["1 of approvers"]));
    assert_eq!(data["uid"], namespace.get("deployment/api")["metadata"]["uid"]);
    // The command does what it says.
    let approve = text(&data["approve"]);
    assert_eq!(approve, format!("kubectl tagout approve deployments.apps/api -n {}", namespace.name));
    let sent = scene.events.sent("denied").remove(0);
    assert_eq!(sent.path, SECRET_PATH);
    let has = |header: &str| sent.headers.iter().any(|line| line.eq_ignore_ascii_case(header));
    assert!(has("content-type: application/cloudevents+json"), "{sent:?}");
    assert!(has(&format!("authorization: {SECRET_HEADER}")), "{sent:?}");
    eventually("it is told again, with how often", || denials(scene, &namespace).len() == 2);
    let again = denials(scene, &namespace).remove(1);
    assert!(again["data"]["count"].as_u64().expect("a count") >= 11, "{again}");
}

fn approvals_are_told_when_written_and_when_used(scene: &Scene) {
    let namespace = scene.world.production();
    namespace.deployment("api");
    let uid = text(&namespace.get("deployment/api")["metadata"]["uid"]);
    namespace.approve(User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    let decided = |line: &&str| ["\"decided\"", "\"allow\"", &uid].iter().all(|part| line.contains(part));
    assert_eq!(scene.world.tagout.log().lines().filter(decided).count(), 1, "what passes is decided once");
    for (kind, by) in [("presented", User::Alice), ("approved", User::Agent)] {
        let told = || {
            scene.events.took(kind).into_iter().filter(|one| text(&one["data"]["name"]) == "api").collect::<Vec<_>>()
        };
        eventually(kind, || !told().is_empty());
        let event = told().remove(0);
        assert_eq!(event["data"]["requester"], by.name(), "{event}");
        assert_eq!(event["data"]["people"], json!([User::Alice.name()]), "{event}");
        assert_eq!((&event["data"]["action"], &event["data"]["uid"]), (&json!("Delete"), &json!(uid)), "{event}");
        if kind == "approved" {
            assert!(event["data"].get("unconfirmed").is_none(), "it was there: {event}");
        }
    }
}

fn dry_runs_are_told_to_nobody(scene: &Scene) {
    let namespace = scene.world.production();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).is_refused(&["denied Delete"]);
    thread::sleep(Duration::from_secs(2));
    assert!(denials(scene, &namespace).is_empty());
}

/// A namespace whose deployments carol may pass alone, in an emergency.
fn glass<'w>(scene: &'w Scene, name: &str) -> Namespace<'w> {
    let world = &scene.world;
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": format!("{name}-breakers")},
        "spec": {"members": [{"user": User::Carol.name()}]}});
    world.apply(User::Admin, &team).succeeds();
    let mut manifest = rule(name, name);
    manifest["spec"]["approval"] = json!({
        "require": [{"anyOf": ["approvers"], "count": 2}], "breakGlass": {"anyOf": [format!("{name}-breakers")]},
    });
    world.rule(&manifest);
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    namespace.deployment("api");
    namespace
}

fn who_breaks_glass_is_told_of_while_refusals_are_not_taken(scene: &Scene) {
    scene.events.does(|kind| Does::Answer(if kind == "denied" { 503 } else { 202 }));
    let namespace = glass(scene, "told-glass");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    eventually("the refusal is not taken", || scene.events.sent("denied").iter().any(|one| !one.taken));
    let mut statement = namespace.statement("deployment/api", User::Carol);
    statement["team"] = json!("told-glass-breakers");
    statement["breakGlass"] = json!(true);
    statement["reason"] = json!("the database is on fire");
    namespace.present(User::Carol, "deployment/api", &json!([statement])).succeeds();
    let object = namespace.get("deployment/api");
    let began = Instant::now();
    namespace.kubectl(User::Carol, &["delete", "deployment/api"]).succeeds();
    eventually("it is told", || !scene.events.took("broke_glass").is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for others: {:?}", began.elapsed());
    let event = scene.events.took("broke_glass").remove(0);
    assert_eq!(event["data"]["people"], json!([User::Carol.name()]));
    assert!(event["data"].get("unconfirmed").is_none(), "{event}");
    // What she said can be shown again by anybody who has seen it. It is refused, and no emergency.
    eventually("it is gone", || !namespace.exists("deployment/api"));
    let review = forged("api", User::Carol.name(), &object);
    let reply = post(scene, "told-glass", &review);
    assert!(reply.contains("the object is not there any more"), "{reply}");
    scene.events.does(|_| Does::Answer(202));
    eventually("the refusal is sent again", || !denials(scene, &namespace).is_empty());
}

fn decisions_wait_for_no_sink(scene: &Scene) {
    for receiver in [&scene.events, &scene.slack] {
        receiver.does(|_| Does::Hang);
    }
    let namespace = scene.world.production();
    let before = scene.events.sent("denied").len();
    for name in ["one", "two", "three"] {
        namespace.deployment(name);
        is_decided_at_once(&namespace, name);
    }
    eventually("one hangs", || scene.events.sent("denied").len() > before);
    for receiver in [&scene.events, &scene.slack] {
        receiver.does(|_| Does::Answer(202));
    }
    eventually("all of them are told in the end", || denials(scene, &namespace).len() >= 3);
}

fn what_was_not_taken_is_sent_again(scene: &Scene) {
    scene.events.does(|_| Does::Answer(500));
    let namespace = scene.world.production();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    let tried = || {
        let all = scene.events.sent("denied").into_iter();
        all.filter(|one| one.body["data"]["namespace"] == namespace.name.as_str()).collect::<Vec<_>>()
    };
    eventually("it is tried again and again", || tried().len() >= 3);
    let (times, metrics) = (tried(), scene.world.metrics());
    let pauses: Vec<Duration> = times.windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(pauses[0] >= Duration::from_millis(500), "{pauses:?}");
    assert!(times.windows(2).all(|two| two[0].body["id"] == two[1].body["id"]), "it keeps its identity");
    assert!(metrics.contains("tagout_notifications_total{sink=\"events\",outcome=\"failed\"}"), "{metrics}");
    assert!(!metrics.contains("tagout_notifications_pending{sink=\"events\"} 0"), "{metrics}");
    scene.events.does(|_| Does::Answer(202));
    eventually("it is taken", || denials(scene, &namespace).len() == 1);
    eventually("nothing waits", || scene.world.metrics().contains("tagout_notifications_pending{sink=\"events\"} 0"));
}

fn unlock(scene: &Scene, requester: &str) {
    unlock_for(scene, requester, "10m");
}

fn unlock_for(scene: &Scene, requester: &str, life: &str) {
    let (requester, life) = (format!("--requester={requester}"), format!("--for={life}"));
    let unlock = ["tagout", "unlock", &requester, &life, "--yes", "--reason=upgrade"];
    scene.world.kubectl(User::Alice, &unlock).succeeds();
}

fn an_unlocking_that_follows_another_is_told(scene: &Scene) {
    let told = || {
        let all = scene.events.took("unlocked");
        let renewed = all.iter().filter(|one| one["data"]["requester"] == "renewed");
        renewed.map(|one| text(&one["data"]["until"])).collect::<BTreeSet<_>>()
    };
    unlock_for(scene, "renewed", "20s");
    eventually("the first is told", || told().len() == 1);
    unlock_for(scene, "renewed", "10m");
    eventually("the one after it is told, too", || told().len() == 2);
    scene.world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
}

fn changes_of_the_guard_are_told(scene: &Scene) {
    crate::lock::is_locked(&scene.world);
    unlock(scene, "ci-deployer");
    eventually("the unlocking is told", || !scene.events.took("unlocked").is_empty());
    let event = scene.events.took("unlocked").remove(0);
    assert_eq!(event["data"]["requester"], "ci-deployer");
    assert_eq!(event["data"]["people"], json!([User::Alice.name()]));
    scene.world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
    eventually("the locking is told", || !scene.events.took("relocked").is_empty());
    an_unlocking_that_follows_another_is_told(scene);
    unlock(scene, User::Admin.name());
    let epoch = scene.world.epoch();
    let weaker = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]).to_string();
    eventually("admin may", || {
        let patch = ["patch", "validatingwebhookconfiguration", "tagout", "--type=json", "-p", &weaker];
        scene.world.kubectl(User::Admin, &patch).ok
    });
    eventually("the drift is told", || !scene.events.took("drift_repaired").is_empty());
    assert_eq!(scene.events.took("drift_repaired")[0]["data"]["name"], "tagout");
    eventually("that the epoch ended is told", || !scene.events.took("epoch_ended").is_empty());
    eventually("another one begins", || !["", epoch.as_str()].contains(&scene.world.epoch().as_str()));
    let mut broken = rule("told-broken", "told-broken");
    broken["spec"]["matchConditions"] = json!([{"name": "x", "expression": "request.nonsense == 1"}]);
    scene.world.apply(User::Admin, &broken).succeeds();
    eventually("that a rule is rejected is told", || !scene.events.took("rule_rejected").is_empty());
    assert_eq!(scene.events.took("rule_rejected")[0]["data"]["name"], "told-broken");
}

fn forged(name: &str, requester: &str, object: &Value) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0b4f0c1e-1f0a-4d1e-9d53-000000000002", "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "operation": "DELETE",
        "name": name, "namespace": object["metadata"]["namespace"],
        "userInfo": {"username": requester, "groups": ["system:masters"]}, "object": null, "oldObject": object,
        "dryRun": false}})
    .to_string()
}

/// As anybody may who reaches the Service.
fn post(scene: &Scene, rule: &str, review: &str) -> String {
    let args = [&JSON[..], &["--data-binary", "@-"]].concat();
    curl(&scene.world, &format!("/v1/rules/{rule}?timeout=10s"), &args, review.as_bytes()).body
}

fn a_flood_of_forged_reviews_keeps_back_no_unlock(scene: &Scene) {
    // As if the receiver had been away for long: everything waits.
    scene.events.does(|_| Does::Answer(503));
    let namespace = scene.world.production();
    namespace.deployment("api");
    let mut object = namespace.get("deployment/api");
    for number in 0..300 {
        object["metadata"]["uid"] = json!(format!("11111111-2222-3333-4444-{number:012}"));
        object["metadata"]["name"] = json!(format!("invented-{number}"));
        let requester = format!("<!channel> @here {number}");
        let review = forged(&format!("invented-{number}"), &requester, &object);
        let reply = post(scene, "production", &review);
        assert!(reply.contains("denied Delete"), "{reply}");
    }
    let before = scene.events.took("unlocked").len();
    unlock(scene, "somebody-else");
    eventually("it is granted", || scene.world.tagout.log().contains("somebody-else"));
    scene.events.does(|_| Does::Answer(202));
    eventually("it is told", || scene.events.took("unlocked").len() > before);
    let told =
        || scene.events.took("denied").iter().filter(|one| text(&one["data"]["name"]).starts_with("invented-")).count();
    eventually("some are told", || told() > 0);
    thread::sleep(Duration::from_secs(5));
    assert!(told() <= 60, "{} were told one by one", told());
}

fn a_redirection_is_not_followed(scene: &Scene) {
    scene.events.does(|_| Does::Redirect);
    let namespace = scene.world.production();
    namespace.deployment("api");
    namespace.approve(User::Alice, "deployment/api");
    eventually("it is refused", || {
        scene.world.metrics().contains("tagout_notifications_dropped_total{sink=\"events\",reason=\"refused\"}")
    });
    assert!(scene.events.sent("presented").iter().all(|one| one.path == SECRET_PATH));
    scene.events.does(|_| Does::Answer(202));
}

fn slack_reads_plain_text(scene: &Scene) {
    let all = scene.slack.took("slack");
    assert!(all.iter().any(|one| one.to_string().contains("invented-")), "{all:?}");
    assert!(all.iter().any(|one| text(&one["text"]).starts_with("Break glass")), "{all:?}");
    for message in all {
        assert_eq!(message["link_names"], 0);
        let message = message.to_string();
        for mark in ["<", ">", "@", "`", "\"mrkdwn\":true", "\"type\":\"mrkdwn\""] {
            assert!(!message.contains(mark), "{mark} is in {message}");
        }
    }
}

/// As the chart has mounted it.
fn config(scene: &Scene) -> std::path::PathBuf {
    scene.world.cp.dir().join("volumes/tagout-notifications/notifications.yaml")
}

fn a_test_is_sent_to_each(scene: &Scene) {
    let file = config(scene);
    let check = || {
        let mut tagout = Command::new(binary());
        tagout.args(["check", "notifications", "--config"]).arg(&file);
        let output = tagout.output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (ok, said) = check();
    assert!(ok && said.contains("events: it took the test") && said.contains("slack: it took the test"), "{said}");
    eventually("it is there", || !scene.events.took("test").is_empty());
    scene.slack.does(|_| Does::Answer(404));
    let (ok, said) = check();
    assert!(!ok && said.contains("slack: it answers 404"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    scene.slack.does(|_| Does::Answer(200));
}

/// By values of the chart, as people would. Before that by a file that is broken.
fn where_it_goes_is_changed(scene: &mut Scene) {
    let file = config(scene);
    let good = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, "clusterName: [").expect("written");
    let loaded = |value: u8| {
        let metrics = scene.world.metrics();
        let mut lines = metrics.lines().filter(|line| line.starts_with("tagout_notifications_config_last_reload"));
        lines.any(|line| line.ends_with(&format!(" {value}")))
    };
    eventually("it says so", || loaded(0));
    assert!(scene.world.tagout.log().contains("notifications_unreadable"));
    let namespace = scene.world.production();
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    // The many that were forged have used up what is told one by one.
    unlock(scene, "while-broken");
    let told = |requester: &str| scene.events.took("unlocked").iter().any(|one| one["data"]["requester"] == requester);
    eventually("the last good one stays", || told("while-broken"));
    fs::write(&file, good).expect("written");
    eventually("it is good again", || loaded(1));

    let fresh = Receiver::start(&scene.folder.path().join("events.pem"));
    fs::write(scene.folder.path().join("events-url"), fresh.url("/new")).expect("written");
    let old = scene.events.took("notifications_changed").len();
    eventually("the new place hears it", || !fresh.took("notifications_changed").is_empty());
    eventually("the old place hears it too", || scene.events.took("notifications_changed").len() > old);
    eventually("there is an Event", || {
        let events = scene.world.get(&["events.events.k8s.io", "--field-selector=reason=NotificationsChanged"]);
        !events["items"].as_array().expect("a list").is_empty()
    });
    scene.events = fresh;
}

fn what_must_be_heard_is_sent_before_the_process_ends(scene: &mut Scene) {
    scene.events.does(|_| Does::Answer(503));
    unlock(scene, "at-the-end");
    eventually("it is tried", || scene.events.sent("unlocked").len() >= 3);
    scene.events.does(|_| Does::Answer(202));
    let status = scene.world.tagout.terminate().expect("it ends");
    assert!(status.success());
    assert!(!scene.events.took("unlocked").is_empty(), "it was not told");
}
