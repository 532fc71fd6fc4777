//! `kubectl tagout preview --audit-log`: what is decided again is what was decided.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use controlplane::{Options, User};
use serde_json::{Value, json};

use crate::browser;
use crate::redteam;
use crate::routine::{DAILY_WORK, rolled_out};
use crate::world::{World, deployment, eventually, instead_of_shared, rule, shared, text};

/// A world whose API server writes down everything that is written, and the folder of what it writes by.
fn watched() -> &'static World {
    let folder = Box::leak(Box::new(tempfile::tempdir().expect("a folder")));
    let policy = folder.path().join("policy.yaml");
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    let rules = json!([{"level": "RequestResponse", "verbs": writes}, {"level": "None"}]);
    let written =
        json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules});
    fs::write(&policy, written.to_string()).expect("a file");
    let args = vec![format!("--audit-policy-file={}", policy.display())];
    let world: &'static World =
        Box::leak(Box::new(World::start(&Options { extra_apiserver_args: args, ..Options::default() })));
    instead_of_shared(world);
    world
}

/// What the plugin makes of the log, and of what Tagout refused by that log.
fn replayed(world: &World) -> (Value, usize) {
    let log = world.cp.audit_log().display().to_string();
    let args = ["tagout", "preview", "--audit-log", &log, "--rules-from-log", "--offline", "-o", "json"];
    let said = world.kubectl(User::Carol, &args).succeeds().out;
    let report: Value = serde_json::from_str(&said).expect("JSON");
    let events = fs::read_to_string(world.cp.audit_log()).expect("the audit log");
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let own = "system:serviceaccount:tagout-system:tagout";
    let refused = |event: &Value| {
        let message = text(&event["responseStatus"]["message"]);
        let tries_itself = event["user"]["username"] == own && event["impersonatedUser"].is_null();
        let by_message =
            event["responseStatus"]["code"] == 403 && message.contains(".tagout.dev\" denied the request: ");
        // Of several refusals the one that came first is told to the caller; all are written down.
        let mut written = event["annotations"].as_object().into_iter().flatten();
        let denied = |(key, said): (&String, &Value)| key.ends_with(".tagout.dev/verdict") && said == "deny";
        let by_verdict = event["responseStatus"]["code"].as_u64() >= Some(400) && written.any(denied);
        !tries_itself && (by_message || by_verdict)
    };
    (report, events.filter(refused).count())
}

#[track_caller]
fn agrees(report: &Value) {
    let agreement = &report["agreement"];
    let differ = ["onlyRecorded", "onlyReplayed", "untold"].map(|part| agreement[part].as_u64());
    assert_eq!(differ, [Some(0); 3], "{report:#}");
    assert!(agreement["both"].as_u64() > Some(0), "{report:#}");
    let [seen, decided, untold] = ["seen", "decided", "untold"].map(|part| report["requests"][part].as_u64());
    assert_eq!((seen, untold), (decided, Some(0)), "{report:#}");
}

fn refusals(report: &Value) -> u64 {
    let rows = ["rows", "dryRuns"].iter().flat_map(|part| report[part].as_array().into_iter().flatten());
    rows.filter(|row| row["verdict"] == "deny").filter_map(|row| row["requests"].as_u64()).sum()
}

/// Contents reach an object's annotations too, by kubectl itself.
#[test]
fn what_people_apply_as_secret_is_in_no_file_that_a_capture_writes() {
    let world = shared();
    let namespace = world.unprotected();
    let (plain, encoded) = ("hunter2-in-the-clear", "aHVudGVyMi1pbi10aGUtY2xlYXI=");
    let mut secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept"}, "data": {"a": encoded}});
    namespace.apply(User::Admin, &secret).succeeds();
    secret["metadata"] = json!({"name": "spoken", "annotations": {"example.com/password": plain}});
    secret["stringData"] = json!({"b": plain});
    namespace.apply(User::Admin, &secret).succeeds();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"password": plain}});
    namespace.apply(User::Admin, &map).succeeds();
    let mut workload = deployment("told");
    workload["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": plain}]);
    workload["spec"]["template"]["spec"]["containers"][0]["args"] = json!([format!("--password={plain}")]);
    namespace.apply(User::Admin, &workload).succeeds();
    rolled_out(&namespace, "deployment/told");
    let kept = tempfile::tempdir().expect("a folder");
    let file = kept.path().join("cluster.json");
    fs::write(&file, "").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a file");
    let path = file.display().to_string();
    world.kubectl(User::Admin, &["tagout", "preview", "--capture", &path]).succeeds();
    let captured = fs::read_to_string(&file).expect("a file");
    for (what, there) in [
        (encoded, false),
        (plain, false),
        (namespace.name.as_str(), true),
        ("\"PASSWORD\"", false),
        ("\"password\"", true),
        ("example.com/password", true),
        ("PRIVATE KEY-----", false),
    ] {
        // Certificates that the cluster shows to everybody are encoded.
        assert_eq!(captured.contains(what), there, "{what}");
    }
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
}

/// A rule only warned, and what it warned of happened.
#[test]
fn what_only_warned_is_judged_as_if_it_enforced_and_what_followed_is_no_denial_of_its_own() {
    let world = watched();
    let mut warns = rule("warns", "warns");
    warns["spec"]["mode"] = json!("Warn");
    world.rule(&warns);
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=warns"]).succeeds();
    for name in ["first", "second", "third"] {
        namespace.deployment(name);
        rolled_out(&namespace, &format!("deployment/{name}"));
    }
    namespace.kubectl(User::Agent, &["delete", "deployment", "first"]).succeeds();
    namespace.kubectl(User::Ci, &["scale", "deployment", "second", "--replicas=2"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "third", "--dry-run=server"]).succeeds();
    eventually("its ReplicaSet is gone", || namespace.get("replicasets")["items"].as_array().map(Vec::len) == Some(2));
    let (log, kept) = (world.cp.audit_log().display().to_string(), tempfile::tempdir().expect("a folder"));
    let snapshot = kept.path().join("cluster.json").display().to_string();
    world.kubectl(User::Admin, &["tagout", "preview", "--capture", &snapshot]).succeeds();
    let captured = fs::read_to_string(&snapshot).expect("a file");
    assert!(captured.contains("\"ProtectionRule\"") && !captured.contains("-----BEGIN"), "no key is written down");
    let json = ["-o", "json"];
    let live = ["tagout", "preview", "--audit-log", &log];
    let offline = ["tagout", "preview", "--offline", "--snapshot", &snapshot, "--audit-log", &log];
    for args in [[&live[..], &json].concat(), [&offline[..], &json].concat()] {
        let said = world.kubectl(User::Admin, &args).succeeds().out;
        let report: Value = serde_json::from_str(&said).expect("JSON");
        let rows = report["rows"].as_array().expect("rows");
        let told = |row: &Value| {
            json!([row["rule"], row["action"], row["verdict"], row["basis"], row["kind"], row["requests"]])
        };
        let expected = json!(["warns", "Delete", "deny", "replayed", "deployments.apps", 1]);
        assert_eq!(json!(rows.iter().map(told).collect::<Vec<_>>()), json!([expected]), "{report:#}");
        assert_eq!(rows[0]["requester"], User::Agent.name());
        assert!(rows[0]["consequences"].as_u64() > Some(0), "{report:#}");
        let tried: Vec<Value> = report["dryRuns"].as_array().into_iter().flatten().map(told).collect();
        assert_eq!(tried, [expected]);
        assert_eq!(report["agreement"]["onlyReplayed"], 0, "{report:#}");
    }
    let said = world.kubectl(User::Admin, &live).succeeds().out;
    assert!(said.contains("1 denial; ") && said.contains(" requests decided, "), "{said}");
    for (args, words) in [
        (&["--audit-log", "/none"][..], "cannot read /none"),
        (&["--audit-log", &snapshot, "--rules-from-log", "--offline"], "are no audit events"),
        (&["--audit-log", &log, "--offline"], "--rules-from-log"),
        // The logs of simulated pods cannot be read, and that is not "nothing".
        (&[], "is not known"),
        (&["--live", "--since", "7d"], "is not known"),
        (&["--offline"], "--audit-log FILE"),
    ] {
        world.kubectl(User::Admin, &[&["tagout", "preview"], args].concat()).is_refused(&[words]);
    }
    world.cp.discard();
}

#[test]
fn nothing_of_a_days_work_would_have_been_refused() {
    let world = watched();
    for (_, run) in DAILY_WORK {
        run(world);
    }
    let (report, refused) = replayed(world);
    assert_eq!((refusals(&report), refused), (0, 0), "{report:#}");
    agrees(&report);
    world.cp.discard();
}

fn is_refused_again(routes: &[&[redteam::Tried]]) -> &'static World {
    let world = watched();
    redteam::walk_on(world, routes);
    let (report, refused) = replayed(world);
    assert!(refused > 100, "only {refused} requests were refused");
    assert_eq!(refusals(&report), refused as u64, "{report:#}");
    agrees(&report);
    world
}

#[test]
fn every_deletion_that_the_red_team_tried_is_refused_again_and_seen_in_a_browser() {
    let world = is_refused_again(redteam::DELETING);
    let log = world.cp.audit_log().display().to_string();
    let args = ["tagout", "preview", "--audit-log", &log, "--rules-from-log", "--offline", "-o", "html"];
    let page = world.kubectl(User::Carol, &args).succeeds().out;
    if let Some(seen) = browser::look(&page) {
        assert!(seen["rows"].as_u64() > Some(10), "{seen:#}");
        let bars: Vec<u64> = seen["bars"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        assert!(bars.len() > 5 && bars.iter().all(|width| *width > 0), "{seen:#}");
        assert_eq!(seen["headings"][0], "What Tagout would have refused");
    }
    world.cp.discard();
}

#[test]
fn everything_else_that_the_red_team_tried_is_refused_again() {
    is_refused_again(redteam::OTHERS).cp.discard();
}
