//! What Tagout says of itself to those who watch it: whether it is in force, and what panels and alerts ask for.

use std::collections::{BTreeMap, BTreeSet};

use controlplane::{Options, User};
use serde_json::{Value, json};

use crate::expressions::{asked, dashboard};
use crate::world::{World, chart, eventually};

const SHARED: &str = "validatingwebhookconfiguration/tagout";

/// What Prometheus adds when it asks a pod, and what buckets have.
const ADDED: [&str; 5] = ["instance", "job", "le", "namespace", "pod"];

/// Counted from the first time on that it happens, which it does not here.
const NOT_HERE: [&str; 6] = [
    "tagout_break_glass_total",
    "tagout_calls_failed_total",
    "tagout_notifications_config_last_reload_successful",
    "tagout_notifications_dropped_total",
    "tagout_notifications_pending",
    "tagout_places_lapsed",
];

#[test]
fn that_the_api_server_asks_nobody_any_more_is_found_out_and_said() {
    let world = World::start(&Options::default());
    let success = |value: u8| {
        let metrics = world.metrics();
        let is = |check: &str| format!("tagout_canary_success{{check=\"{check}\"}} {value}");
        ["approval", "deletion"].iter().all(|check| metrics.lines().any(|line| line == is(check)))
    };
    let enforced = || {
        let rule = world.get(&["protectionrule", "production"]);
        let conditions = rule["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == "Enforced");
        found.map(|condition| (condition["status"].clone(), condition["reason"].clone()))
    };
    eventually("Tagout was heard to refuse both", || success(1));
    assert_eq!(enforced().expect("a condition").0, "True");

    // Somebody takes its entries away, and its right to put them back.
    let role = world.get(&["clusterrole", "tagout"]);
    let mut without = role.clone();
    for rule in without["rules"].as_array_mut().expect("rules") {
        let about = |rule: &Value| {
            rule["resources"].as_array().into_iter().flatten().any(|it| it == "validatingwebhookconfigurations")
        };
        if about(rule) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    world.kubectl_with(User::Admin, &["replace", "-f", "-"], &without.to_string()).succeeds();
    let empty = json!([{"op": "replace", "path": "/webhooks", "value": []}]).to_string();
    eventually("the entries are gone and stay so", || {
        world.kubectl(User::Admin, &["patch", SHARED, "--type=json", "-p", &empty]);
        success(0)
    });
    eventually("the rules say so", || enforced() == Some((json!("False"), json!("NotAsked"))));

    let mut again = role;
    again["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    world.kubectl_with(User::Admin, &["replace", "-f", "-"], &again.to_string()).succeeds();
    eventually("it is put right by itself", || success(1));
    eventually("the rules say so", || enforced().expect("a condition").0 == "True");
    world.end();
}

/// After a denial, an edit by hand, and an outage: the API server counts those.
#[test]
fn what_panels_and_alerts_ask_for_is_counted_by_tagout_and_the_api_server() {
    let mut world = World::start(&Options::default());
    let production = world.production();
    production.deployment("api");
    let name = production.name.clone();
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    production.deployment("approved");
    production.approve(User::Alice, "deployment/approved");
    production.kubectl(User::Agent, &["delete", "deployment", "approved"]).succeeds();
    let weaker = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]).to_string();
    for configuration in [SHARED, "validatingwebhookconfiguration/tagout-production"] {
        let before = drift(&world);
        world.kubectl(User::Admin, &["patch", configuration, "--type=json", "-p", &weaker]).succeeds();
        eventually("it is put back and counted", || drift(&world) > before);
    }
    eventually("there is an Event", || {
        let events = world.get(&["events.events.k8s.io", "--field-selector=reason=GuardRestored"]);
        !events["items"].as_array().expect("a list").is_empty()
    });
    let before = drift(&world);
    world.kubectl(User::Admin, &["delete", "validatingwebhookconfiguration", "tagout-production"]).succeeds();
    eventually("it is made again and counted", || drift(&world) > before);

    let of_tagout = world.metrics();
    world.tagout.kill().expect("it is killed");
    let production = world.borrowed(&name);
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["failed calling webhook"]);
    // Creations are let pass when nobody answers.
    production.deployment("made-meanwhile");
    let of_api_server = world.cp.apiserver_metrics().expect("metrics");

    let alerts = std::fs::read_to_string(chart().join("files/alerts.yaml")).expect("alerts");
    let alerts: Value = serde_saphyr::from_str(&alerts.replace("REPLICAS", "2")).expect("YAML");
    let alerts =
        alerts["groups"].as_array().expect("groups").iter().filter_map(|group| group["rules"].as_array().cloned());
    let alerts =
        alerts.flatten().map(|rule| (rule["alert"].to_string(), rule["expr"].as_str().expect("one").to_owned()));
    let mut missing = BTreeSet::new();
    for (place, expression) in dashboard().into_iter().chain(alerts) {
        for (prefix, metrics) in [("tagout_", &of_tagout), ("apiserver_", &of_api_server)] {
            let counted = counted(metrics);
            for (metric, labels) in asked(prefix, &expression) {
                let Some(known) = counted.get(&metric) else {
                    missing.insert(metric);
                    continue;
                };
                let added = ADDED.map(str::to_owned).into();
                let unknown: Vec<_> =
                    labels.difference(known).filter(|label| !BTreeSet::contains(&added, *label)).collect();
                assert!(known.is_empty() || unknown.is_empty(), "{place}: {metric} has {known:?} and not {unknown:?}");
            }
        }
    }
    assert_eq!(missing.iter().map(String::as_str).collect::<Vec<_>>(), NOT_HERE, "nobody counts these");
    world.end();
}

/// Both hear of it at once, and one is second with all that it writes.
#[test]
fn with_two_replicas_everybody_is_told_what_others_changed_and_what_they_added_beside() {
    let world = World::start(&Options::default());
    let mut other = world.tagout.replica("other").expect("it starts");
    // Both have seen what should stand.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let weaker = json!({"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"});
    let owners = json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1owner-kinds", "value": "deployments.apps,x.y"});
    for (name, change) in [("tagout", json!([weaker])), ("tagout-production", json!([weaker, owners]))] {
        let patch = ["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", &change.to_string()];
        world.kubectl(User::Admin, &patch).succeeds();
        eventually(&format!("it is told of {name}"), || {
            let events = world.get(&["events.events.k8s.io", "--field-selector=reason=GuardRestored"]);
            let mut notes = events["items"].as_array().expect("a list").iter().map(|event| event["note"].to_string());
            notes.any(|note| note.contains(&format!("Configuration {name} was changed by other hands")))
        });
    }
    other.kill().and_then(|()| other.wait()).expect("it is killed");
    world.end();
}

/// How often something was put back.
fn drift(world: &World) -> u64 {
    let metrics = world.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with("tagout_drift_repaired_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Metrics with the labels that any of their samples has; none where nothing has happened yet.
fn counted(metrics: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut counted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("a name and a type");
            let endings: &[&str] = match kind {
                "counter" => &["", "_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            counted.extend(endings.iter().map(|ending| (format!("{name}{ending}"), BTreeSet::new())));
        } else if let Some((name, rest)) = line.split_once('{') {
            let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            counted.entry(name.to_owned()).or_default().extend(names);
        }
    }
    counted
}
