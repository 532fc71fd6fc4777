//! Whoever reaches the Service can post reviews of anything. They grant nothing, and hold little for a short time.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use controlplane::User;
use serde_json::{Value, json};

use crate::bad_input::{self, RULE, review};
use crate::budgets::{fill, under};
use crate::world::{Namespace, shared, text};

/// Posts a review as the API server would, about this object, by this requester.
fn post(path: &str, operation: &str, object: &Value, requester: &str) -> Value {
    let (old, new) = if operation == "CREATE" { (Value::Null, object.clone()) } else { (object.clone(), Value::Null) };
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0b4f0c1e-1f0a-4d1e-9d53-000000000002", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
        "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "operation": operation,
        "name": text(&object["metadata"]["name"]), "namespace": text(&object["metadata"]["namespace"]),
        "userInfo": {"username": requester, "groups": ["system:masters"]}, "object": new, "oldObject": old,
        "dryRun": false}});
    let reply = bad_input::post(&format!("{path}?timeout=10s"), review.to_string());
    serde_json::from_str::<Value>(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))["response"].clone()
}

fn forge(rule: &str, object: &Value, requester: &str) -> Value {
    post(&format!("/v1/rules/{rule}"), "DELETE", object, requester)
}

fn entries(rule: &str) -> Vec<Value> {
    let ledger = shared().kubectl(User::Admin, &["get", "ledger", rule, "-o", "json"]);
    let ledger: Value = serde_json::from_str(&ledger.out).unwrap_or_default();
    ledger["spec"]["entries"].as_array().cloned().unwrap_or_default()
}

fn is_recorded(namespace: &Namespace, name: &str) -> bool {
    let record = tagout::api::record_name("configmaps", &namespace.name, name);
    shared().kubectl(User::Admin, &["get", "deletionrecord", &record]).ok
}

#[test]
fn a_forged_deletion_of_what_is_not_there_is_neither_counted_nor_recorded() {
    let namespace = under("forged-none", &json!({"allowance": {"count": 5, "window": "1h", "per": "Rule"}}));
    fill(&namespace, &["a"]);
    let mut object = namespace.get("configmap/a");
    object["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    assert_eq!(forge("forged-none", &object, "agent-7")["allowed"], false);
    object["metadata"]["name"] = json!("b");
    assert_eq!(forge("forged-none", &object, "agent-7")["allowed"], false);
    assert!(entries("forged-none").is_empty());
    assert!(!is_recorded(&namespace, "a") && !is_recorded(&namespace, "b"));
    fill(&namespace, &["b"]);
}

#[test]
fn a_forged_review_is_believed_nothing_that_the_cluster_does_not_say() {
    let namespace =
        under("forged-labels", &json!({"actions": ["Recreate"], "objectSelector": {"matchLabels": {"tier": "gold"}}}));
    fill(&namespace, &["a"]);
    let mut object = namespace.get("configmap/a");
    object["metadata"]["labels"] = json!({"tier": "gold", "planted": "label"});
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y", "controller": true}]);
    forge("forged-labels", &object, "alice@example.com");
    let record = tagout::api::record_name("configmaps", &namespace.name, "a");
    let found = shared().kubectl(User::Admin, &["get", "deletionrecord", &record, "-o", "json"]).out;
    assert!(!found.contains("planted") && !found.contains("ownerReferences"), "{found}");
    // It lives, and what is written down of it keeps nobody from anything.
    let again = namespace.kubectl(User::Agent, &["create", "configmap", "a"]);
    assert!(again.err.contains("already exists"), "{}", again.err);
    namespace.kubectl(User::Agent, &["label", "configmap/a", "other=label"]).succeeds();
}

#[test]
fn forged_deletions_by_invented_requesters_take_one_place_for_each_object_that_lives() {
    let namespace = under("forged-many", &json!({"allowance": {"count": 1, "window": "1h", "per": "Requester"}}));
    fill(&namespace, &["a", "b"]);
    let object = namespace.get("configmap/a");
    for number in 0..8 {
        forge("forged-many", &object, &format!("{}-{number}", "invented".repeat(40)));
    }
    let found = entries("forged-many");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["requesters"].as_array().expect("a list").len() <= 3);
    assert!(found[0].to_string().len() < 1500);
    // Nobody else has less for it.
    namespace.kubectl(User::Agent, &["delete", "configmap/b"]).succeeds();
}

#[test]
fn forged_deletions_hold_half_of_a_ceiling_and_keep_out_nothing_that_people_approved() {
    let spec = json!({"tolerate": {"objects": 1}, "ceiling": {"count": 4, "window": "1h", "per": "Rule"}});
    let namespace = under("forged-half", &spec);
    fill(&namespace, &["a", "b", "c", "d", "e"]);
    let held: Vec<Value> = ["a", "b", "c"]
        .map(|name| forge("forged-half", &namespace.get(&format!("configmap/{name}")), "agent-7"))
        .into();
    assert_eq!(held.iter().map(|answer| answer["allowed"] == true).collect::<Vec<_>>(), [true, true, false]);
    let words = text(&held[2]["status"]["message"]);
    assert!(words.contains("Half of what rule forged-half lets pass is under way"), "{words}");
    assert_eq!(entries("forged-half").len(), 2);
    shared().kubectl(User::Alice, &["tagout", "approve", "cm/d", "cm/e", "-n", &namespace.name, "--yes"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "configmap/d"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "configmap/e"]).succeeds();
}

#[test]
fn a_forged_return_takes_one_place_however_often_it_is_posted() {
    let namespace = under("forged-return", &json!({"allowance": {"count": 3, "window": "1h", "per": "Rule"}}));
    fill(&namespace, &["a", "b"]);
    let object = namespace.get("configmap/a");
    namespace.kubectl(User::Agent, &["delete", "configmap/a"]).succeeds();
    for _ in 0..5 {
        assert_eq!(post("/v1/returns", "CREATE", &object, "agent-7")["allowed"], true);
    }
    assert_eq!(entries("forged-return").len(), 2);
    // And of what was never destroyed none.
    post("/v1/returns", "CREATE", &namespace.get("configmap/b"), "agent-7");
    assert_eq!(entries("forged-return").len(), 2);
    assert!(!namespace.exists("configmap/a"));
}

#[test]
fn a_forged_record_launders_no_cascade() {
    let namespace = under("forged-root", &json!({"allowance": {"count": 5, "window": "1h", "per": "Rule"}}));
    fill(&namespace, &["root"]);
    namespace.deployment("api");
    namespace.kubectl(User::Admin, &["label", "deployment/api", "tagout.dev/protect=true"]).succeeds();
    let root = namespace.get("configmap/root");
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "root",
        "uid": root["metadata"]["uid"]}]}});
    namespace.kubectl(User::Admin, &["patch", "deployment/api", "--type=merge", "-p", &owner.to_string()]).succeeds();
    // Something better protected goes along, and no allowance opens that.
    assert_eq!(forge("forged-root", &root, "agent-7")["allowed"], false);
    assert!(!is_recorded(&namespace, "root") && entries("forged-root").is_empty());
    namespace.kubectl(User::Agent, &["delete", "configmap/root", "--wait=false"]).is_refused(&["1 Deployment"]);
    // Nor does the record of what went before it was an owner.
    let uid = namespace.get("deployment/api")["metadata"]["uid"].clone();
    fill(&namespace, &["other"]);
    let other = namespace.get("configmap/other");
    assert_eq!(
        forge("forged-root", &other, "system:serviceaccount:kube-system:generic-garbage-collector")["allowed"],
        true
    );
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other",
        "uid": other["metadata"]["uid"]}]}});
    namespace.kubectl(User::Admin, &["patch", "deployment/api", "--type=merge", "-p", &owner.to_string()]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "configmap/other", "--wait=false"]).is_refused(&["1 Deployment"]);
    assert_eq!(namespace.get("deployment/api")["metadata"]["uid"], uid);
}

#[test]
fn a_review_that_claims_to_be_a_return_of_something_else_learns_nothing() {
    let namespace = under("forged-words", &json!({"actions": ["Recreate"]}));
    fill(&namespace, &["a"]);
    namespace.kubectl(User::Agent, &["delete", "configmap/a"]).succeeds();
    for junk in [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "../a", "namespace": "../.."}})] {
        let answer = post("/v1/returns", "CREATE", &junk, "agent-7");
        assert_eq!(answer["allowed"], true, "{answer}");
    }
    let refused = post("/v1/returns", "CREATE", &json!({"metadata": {"name": "a", "namespace": namespace.name}}), "x");
    assert_eq!(refused["allowed"], false, "{refused}");
}

#[test]
fn a_forged_review_grants_nothing() {
    let namespace = shared().production();
    namespace.deployment("api");
    let statement = namespace.statement("deployment/api", User::Alice);
    let live = namespace.get("deployment/api");
    let mut approved = live.clone();
    approved["metadata"]["labels"]["tagout.dev/approval"] = json!("");
    approved["metadata"]["annotations"]["tagout.dev/approval"] = json!(json!([statement]).to_string());
    for (name, group) in
        [(User::Alice.name(), "senior-sre"), ("agent-7", "system:masters"), ("system:kube-controller-manager", "")]
    {
        let mut forged = review();
        forged["request"]["userInfo"] = json!({"username": name, "groups": [group]});
        forged["request"]["namespace"] = json!(namespace.name);
        forged["request"]["oldObject"] = approved.clone();
        bad_input::post(RULE, forged.to_string());
        forged["request"]["operation"] = json!("UPDATE");
        forged["request"]["oldObject"] = live.clone();
        forged["request"]["object"] = approved.clone();
        bad_input::post("/v1/approvals", forged.to_string());
        namespace
            .kubectl(User::Agent, &["delete", "deployment", "api"])
            .is_refused(&["needs approval by 1 of approvers"]);
    }
}

fn decisions() -> Vec<String> {
    let metrics = shared().metrics();
    metrics.lines().filter(|line| line.starts_with("tagout_decisions_total{")).map(str::to_owned).collect()
}

#[test]
fn forged_reviews_make_no_new_time_series() {
    let world = shared();
    let address = world.tagout.address();
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let mut forged = review();
            forged["request"]["resource"] = json!({"group": format!("forged{n}.example.com"), "resource": format!("forged{n}s")});
            forged["request"]["userInfo"]["username"] = json!(format!("forged-user-{n}"));
            // Each name that is not known may cost a moment of looking for news.
            let rule = if n % 100 == 0 { format!("forged-rule-{n}") } else { "production".to_owned() };
            let body = forged.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            format!("url = \"https://{address}/v1/rules/{rule}\"\nheader = \"Content-Type: application/json\"\ndata-binary = \"{body}\"\ninsecure\nhttp1.1\noutput = \"/dev/null\"\n")
        })
        .collect();
    let before = decisions().len();
    let mut curl = Command::new("curl");
    let mut curl = curl.args(["--silent", "--config", "-"]).stdin(Stdio::piped()).spawn().expect("curl is installed");
    curl.stdin.take().expect("a pipe").write_all(calls.join("next\n").as_bytes()).expect("it reads");
    assert!(curl.wait().expect("it ends").success());
    let after = decisions();
    assert!(
        after.iter().any(|line| line.contains("rule=\"production\"") && line.contains("resource=\"other\"")),
        "{after:?}"
    );
    let invented = ["forged-rule", "forged-user", "example.com", "resource=\"forged"];
    assert!(!after.iter().any(|line| invented.iter().any(|word| line.contains(word))), "{after:?}");
    // Other tests run at the same time, and make rules of their own.
    assert!(after.len() < before + 100, "{before} series became {}", after.len());
    for line in &after {
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("labels").0;
        let keys: BTreeSet<_> = labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        assert_eq!(keys, BTreeSet::from(["action", "resource", "rule", "verdict"]), "{line}");
    }
}
