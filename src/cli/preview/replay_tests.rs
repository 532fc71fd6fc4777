use std::io::Cursor;

use proptest::prelude::*;
use proptest::sample::Index;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::ProtectionRule;
use crate::cli::preview::background::enforce;
use crate::cli::preview::events::{Source, next};

const AGENT: &str = "agent-7";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACES: &str = "system:serviceaccount:kube-system:namespace-controller";

fn rule() -> ProtectionRule {
    let actions = ["Delete", "Recreate", "ScaleToZero", "Evict", "Reparent", "Finalize", "DiscardData", "Unprotect"];
    serde_json::from_value(json!({"metadata": {"name": "production", "uid": "r-1", "generation": 1}, "spec": {
        "resources": [{"apiGroups": ["", "apps", "example.com"], "resources": ["*"]}],
        "namespaceSelector": {"matchLabels": {"env": "production"}},
        "actions": actions, "approval": {"require": [{"anyOf": ["t"]}]}}}))
    .unwrap()
}

fn place(group: &str, plural: &str, namespace: &str, name: &str) -> Place {
    let [group, plural, namespace, name] = [group, plural, namespace, name].map(str::to_owned);
    Place { group, plural, namespace, name }
}

/// A cluster with a rule about what is in namespaces of production.
fn replay() -> Replay {
    let shared = Shared::default();
    {
        let mut state = shared.lock();
        let system = json!({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "k"}});
        state.put(place("", "namespaces", "", "kube-system"), system, false);
        let home =
            json!({"kind": "Namespace", "metadata": {"name": "pay", "uid": "n-1", "labels": {"env": "production"}}});
        state.put(place("", "namespaces", "", "pay"), home, false);
        enforce(&mut state, &[rule()], "tagout-system");
    }
    Replay::new(shared, "tagout-system", false)
}

fn deployment(name: &str) -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name, "namespace": "pay", "uid": format!("u-{name}")},
        "spec": {"replicas": 2}})
}

fn event(verb: &str, resource: &str, name: &str, user: &str, change: &Value) -> Value {
    let group = if ["deployments", "replicasets"].contains(&resource) { "apps" } else { "" };
    let mut event = json!({"auditID": format!("{verb}-{resource}-{name}-{user}"), "stage": "ResponseComplete", "verb": verb,
        "level": "RequestResponse", "requestURI": "/x", "user": {"username": user},
        "stageTimestamp": "2026-11-22T10:00:00.000000Z", "responseStatus": {"code": 200},
        "objectRef": {"resource": resource, "apiGroup": group, "apiVersion": "v1", "name": name, "namespace": "pay"}});
    json_patch::merge(&mut event, change);
    event
}

async fn replayed(replay: Replay, events: &[Value]) -> Report {
    let mut replay = replay;
    for event in events {
        let mut sources = [Source::of(Box::new(Cursor::new(event.to_string()))).unwrap()];
        while let Some(event) = next(&mut sources).unwrap_or_default() {
            replay.event(&event).await;
        }
    }
    replay.report("log".to_owned(), Vec::new())
}

fn told(report: &Report) -> Vec<(&str, &str, &str, usize, u64)> {
    let of = |row: &'_ super::super::report::Row| (row.objects, row.consequences);
    let rows = report.rows.iter();
    rows.map(|row| (row.requester.as_str(), row.verdict.as_str(), row.basis.as_str(), of(row).0, of(row).1)).collect()
}

#[tokio::test]
async fn a_collection_of_what_nobody_knew_is_judged_by_what_was_in_it() {
    let list = json!({"kind": "DeploymentList", "apiVersion": "apps/v1", "items": [
        {"metadata": {"name": "api", "namespace": "pay", "uid": "1"}, "spec": {}},
        {"metadata": {"name": "web", "namespace": "pay", "uid": "2"}, "spec": {}}]});
    let report =
        replayed(replay(), &[event("deletecollection", "deployments", "", AGENT, &json!({"responseObject": list}))])
            .await;
    assert_eq!(told(&report), [(AGENT, "deny", "replayed", 2, 0)], "{report:?}");
    assert_eq!(report.requests.untold, 0);
    let empty = json!({"responseObject": {"kind": "DeploymentList", "items": []}});
    let report = replayed(replay(), &[event("deletecollection", "deployments", "", AGENT, &empty)]).await;
    assert_eq!((report.rows.len(), report.requests.untold, report.requests.decided), (0, 0, 1));
}

#[rstest]
#[case::nothing_was_logged(json!({"level": "Metadata"}))]
#[case::only_that_it_succeeded(json!({"responseObject": {"kind": "Status", "status": "Success"}}))]
#[case::only_metadata(json!({"responseObject": {"kind": "PartialObjectMetadataList", "items": [{"metadata": {"name": "x", "namespace": "pay"}}]}}))]
#[case::without_names(json!({"responseObject": {"kind": "DeploymentList", "items": [{"spec": {}}, 1, null]}}))]
#[tokio::test]
async fn a_collection_of_which_the_log_does_not_tell_is_never_allowed(#[case] said: Value) {
    let report = replayed(replay(), &[event("deletecollection", "deployments", "", AGENT, &said)]).await;
    assert_eq!((report.requests.untold, report.requests.decided), (1, 0), "{report:?}");
}

#[tokio::test]
async fn what_is_known_of_a_collection_is_enough_to_refuse_it() {
    let made = event("create", "deployments", "api", AGENT, &json!({"responseObject": deployment("api")}));
    let gone = event("deletecollection", "deployments", "", AGENT, &json!({"level": "Metadata"}));
    let report = replayed(replay(), &[made, gone]).await;
    assert_eq!(told(&report), [(AGENT, "deny", "replayed", 1, 0)], "{report:?}");
}

#[tokio::test]
async fn a_verdict_says_what_was_only_found_afterwards_of_what_it_rests_on() {
    let made = event("create", "deployments", "api", AGENT, &json!({"responseObject": deployment("api")}));
    let gone = event("delete", "deployments", "api", AGENT, &json!({}));
    let report = replayed(replay(), &[made.clone(), gone.clone()]).await;
    assert_eq!(report.rows[0].rests_on(), "replayed");
    let assumed = replay();
    assumed.shared.lock().doubt(&place("", "namespaces", "", "pay"));
    let report = replayed(assumed, &[made.clone(), gone.clone()]).await;
    assert_eq!(report.rows[0].rests_on(), "assumed: namespaces");
    let assumed = replay();
    let owned = json!({"kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": {"name": "api-1", "namespace": "pay", "uid": "u-rs",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "u-api", "controller": true}]}});
    assumed.shared.lock().put(place("apps", "replicasets", "pay", "api-1"), owned, true);
    let report = replayed(assumed, &[made, gone]).await;
    assert_eq!(report.rows[0].rests_on(), "assumed: replicasets.apps", "what goes along");
    assert!(report.text().contains("assumed: replicasets.apps"));
}

#[tokio::test]
async fn what_somebody_calls_as_tagout_calls_its_own_is_judged_outside_its_namespace() {
    let secret = |name: &str, namespace: &str| {
        let object = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace, "uid": name}});
        let about = json!({"objectRef": {"namespace": namespace}});
        let mut made = about.clone();
        made["responseObject"] = object;
        [event("create", "secrets", name, AGENT, &made), event("delete", "secrets", name, AGENT, &about)]
    };
    let report = replayed(replay(), &[secret("tagout-epoch", "pay"), secret("tagout-mine", "pay")].concat()).await;
    assert_eq!(told(&report), [(AGENT, "deny", "replayed", 2, 0)], "{report:?}");
    let report = replayed(replay(), &secret("tagout-epoch", "tagout-system")).await;
    assert_eq!((report.requests.seen, report.rows.len()), (0, 0));
    assert!(report.notes.iter().any(|note| note.starts_with("2 changes of rules")), "{:?}", report.notes);
}

#[tokio::test]
async fn what_follows_is_known_by_uid_and_by_the_controller_itself() {
    let namespace = |uid: &str| json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "pay", "uid": uid, "labels": {"env": "production"}}});
    let about = json!({"objectRef": {"namespace": "pay"}});
    let with = |object: Value| {
        let mut about = about.clone();
        about["responseObject"] = object;
        about
    };
    let all = |by: &str, impersonator: Option<&str>, namespace_again: bool| {
        let mut going = namespace("n-1");
        going["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        going["spec"] = json!({"finalizers": ["kubernetes"]});
        let mut events = vec![
            event(
                "create",
                "configmaps",
                "c",
                AGENT,
                &with(
                    json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "pay", "uid": "u-c"}, "data": {"a": "b"}}),
                ),
            ),
            event("delete", "namespaces", "pay", AGENT, &with(going)),
        ];
        if namespace_again {
            events.push(event("update", "namespaces", "pay", "other", &with(namespace("n-2"))));
        }
        let mut gone = event("delete", "configmaps", "c", by, &about);
        if let Some(impersonator) = impersonator {
            gone["impersonatedUser"] = gone["user"].clone();
            gone["user"] = json!({"username": impersonator});
        }
        events.push(gone);
        events
    };
    let follows = |report: &Report| report.rows.iter().map(|row| row.consequences).sum::<u64>();
    assert_eq!(follows(&replayed(replay(), &all(NAMESPACES, None, false)).await), 1);
    assert_eq!(follows(&replayed(replay(), &all(NAMESPACES, None, true)).await), 0, "another namespace of that name");
    for (by, impersonator) in [(NAMESPACES, Some("eve")), ("eve", Some(NAMESPACES)), (AGENT, None)] {
        let report = replayed(replay(), &all(by, impersonator, false)).await;
        assert_eq!(follows(&report), 0, "{by} {impersonator:?} {report:?}");
    }
}

#[tokio::test]
async fn an_apply_that_does_not_say_that_it_forces_nothing_is_not_taken_for_a_merge() {
    let mut old = deployment("api");
    old["metadata"]["managedFields"] = json!([{"manager": "ci", "operation": "Apply"}]);
    let made = event("create", "deployments", "api", AGENT, &json!({"responseObject": old}));
    let refused = json!({"requestURI": "/x?fieldManager=ci", "responseStatus": {"code": 403,
            "message": "admission webhook \"r.tagout.dev\" denied the request: tagout: no"},
        "requestObject": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}}});
    let report = replayed(replay(), &[made, event("patch", "deployments", "api", AGENT, &refused)]).await;
    let agreement = report.agreement.unwrap();
    assert_eq!((agreement.untold, agreement.only_recorded), (1, 0), "{agreement:?}");
}

#[tokio::test]
async fn a_write_that_is_logged_after_the_deletion_is_judged_by_what_was_there_and_brings_nothing_back() {
    let made = event("create", "deployments", "api", AGENT, &json!({"responseObject": deployment("api")}));
    let gone = json!({"responseObject": {"kind": "Status", "details": {"uid": "u-api"}}});
    let gone = event("delete", "deployments", "api", AGENT, &gone);
    let late = |replicas: u64, uid: &str| {
        let mut written = deployment("api");
        written["spec"]["replicas"] = json!(replicas);
        written["metadata"]["uid"] = json!(uid);
        event("update", "deployments", "api", &format!("late-{replicas}"), &json!({"responseObject": written}))
    };
    let again = event("delete", "deployments", "api", "other", &json!({}));
    let report = replayed(replay(), &[made.clone(), gone.clone(), late(3, "u-api"), late(0, "u-api"), again]).await;
    assert_eq!(
        (report.requests.seen, report.requests.untold),
        (5, 1),
        "only the second deletion has no object: {report:?}"
    );
    let rows: Vec<_> = report.rows.iter().map(|row| (row.requester.as_str(), row.action.as_str())).collect();
    assert_eq!(rows, [(AGENT, "Delete"), ("late-0", "ScaleToZero")]);
    let report = replayed(replay(), &[made, gone, late(3, "another")]).await;
    assert_eq!(report.requests.untold, 1, "what was never seen is not known: {report:?}");
}

/// Requests of every sort, as a log has them.
fn usual() -> Vec<Value> {
    let with = |part: &str, object: Value| {
        let mut change = json!({});
        change[part] = object;
        change
    };
    let refused = |mut change: Value| {
        change["responseStatus"] =
            json!({"code": 403, "message": "admission webhook \"x.tagout.dev\" denied the request: tagout: no"});
        change
    };
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "pay", "uid": "n-1", "labels": {"env": "production"}}});
    let definition = json!({"kind": "CustomResourceDefinition", "metadata": {"name": "toys.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "toys", "kind": "Toy"}, "versions": [{"name": "v1"}]}});
    let scale = json!({"kind": "Scale", "spec": {"replicas": 0}});
    let subresource = |mut change: Value, name: &str| {
        change["objectRef"] = json!({"subresource": name});
        change
    };
    let status = |code: u16, mut change: Value| {
        change["responseStatus"] = json!({"code": code});
        change
    };
    vec![
        event("create", "customresourcedefinitions", "toys.example.com", AGENT, &with("responseObject", definition)),
        event("create", "deployments", "api", AGENT, &status(201, with("responseObject", deployment("api")))),
        event("update", "deployments", "api", AGENT, &with("responseObject", deployment("api"))),
        event("patch", "deployments", "api", "a", &refused(with("requestObject", json!({"spec": {"replicas": 0}})))),
        event(
            "patch",
            "deployments",
            "api",
            "b",
            &refused(with("requestObject", json!([{"op": "copy", "from": "/spec", "path": "/spec/a"}]))),
        ),
        event(
            "update",
            "deployments",
            "api",
            "c",
            &subresource(refused(with("requestObject", deployment("api"))), "status"),
        ),
        event("update", "namespaces", "pay", "d", &refused(with("requestObject", namespace.clone()))),
        event("update", "deployments", "api", "e", &subresource(with("responseObject", scale), "scale")),
        event(
            "create",
            "pods",
            "p",
            AGENT,
            &subresource(with("requestObject", json!({"metadata": {"name": "p"}})), "eviction"),
        ),
        event("delete", "deployments", "api", AGENT, &with("responseObject", json!({"kind": "Status"}))),
        event(
            "deletecollection",
            "deployments",
            "",
            AGENT,
            &with("responseObject", json!({"kind": "DeploymentList", "items": [deployment("api")]})),
        ),
        event("delete", "namespaces", "pay", COLLECTOR, &with("responseObject", namespace)),
    ]
}

/// Every place in a value where something else may stand.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{path}/{}", key.replace('/', "~1")), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| places(value, &format!("{path}/{at}"), found));
        }
        _ => {}
    }
}

fn forged() -> impl Strategy<Value = Value> {
    let deep = (0..100).fold(json!(1), |inside, _| json!({"spec": inside}));
    let fixed = [
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("9999-12-30T22:00:00Z"),
        json!("%zz%e0%"),
        json!("/x?labelSelector=((,)&dryRun=All&force=&fieldManager=a&limit=1"),
        json!("delete"),
        json!([]),
        json!([[], {}, null]),
        json!({}),
        json!({"": {"metadata": []}}),
        json!([{"op": "copy", "from": "", "path": "/a"}, {"op": "move", "from": "/a", "path": "/a/b"}]),
        deep,
    ];
    prop_oneof![
        proptest::sample::select(fixed.to_vec()),
        "\\PC{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_forged_log_makes_a_replay_panic(changes in proptest::collection::vec((any::<Index>(), any::<Index>(), forged()), 1..12)) {
        let mut events = usual();
        for (which, whereabouts, value) in changes {
            let event = which.get_mut(&mut events);
            let mut found = Vec::new();
            places(event, "", &mut found);
            let path = whereabouts.get(&found).clone();
            if let Some(at) = event.pointer_mut(&path).filter(|_| !path.is_empty()) {
                *at = value;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let report = runtime.block_on(async { replayed(replay(), &events).await });
        let requests = report.requests;
        prop_assert!(requests.decided + requests.untold == requests.seen, "{requests:?}");
    }
}
