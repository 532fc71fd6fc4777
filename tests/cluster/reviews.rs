//! Reviews as a real API server writes them. What Tagout reads of them in one pass is what they say in full; and with
//! `UPDATE=1` some of each sort become seeds of the fuzzer, with nothing in them that anybody wrote.

use std::collections::BTreeMap;
use std::fs;

use base64ct::{Base64, Encoding};
use controlplane::User;
use serde_json::{Value, json};
use tagout::review::{self, Object};

use crate::notify::receiver::Receiver;
use crate::world::{Namespace, deployment, eventually, presenting, root, shared, text};

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::TARGETS;
use fuzz::twin::{self, Twin};
use fuzz::world::{AGENT, NAME, NAMESPACE, UID};

/// Stands in annotations, and is written in the way in which Go does.
const ODD: &str = "<a & b>\u{2028}\u{1f512}\"\\";

/// Everything by which objects are changed or go, in a namespace of which a webhook of the test's own is told.
fn happen(namespace: &Namespace) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {"note": ODD}},
        "stringData": {"password": "correct horse battery staple"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m",
        "finalizers": ["example.com/kept"], "labels": {"app": "api"}}, "data": {"k": "v"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]}});
    for object in [&secret, &map, &pod, &deployment(NAME)] {
        namespace.apply(User::Agent, object).succeeds();
    }
    let owner = namespace.get("configmap/m");
    let owners = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "m",
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]}});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "p", "namespace": namespace.name}});
    let raw = format!("/api/v1/namespaces/{}/pods/p/eviction", namespace.name);
    let deployment = format!("deployment/{NAME}");
    namespace.kubectl(User::Agent, &["scale", &deployment, "--replicas=0"]).succeeds();
    namespace.kubectl(User::Agent, &["patch", "secret", "s", "--type=merge", "-p", &owners.to_string()]).succeeds();
    let merge = r#"{"metadata":{"finalizers":null},"data":null}"#;
    namespace.kubectl(User::Agent, &["patch", "configmap", "m", "--type=merge", "-p", merge]).succeeds();
    namespace.kubectl(User::Agent, &["patch", &deployment, "--type=merge", "-p", &presenting("[]")]);
    let input = eviction.to_string();
    namespace.world.kubectl_with(User::Agent, &["create", "--raw", &raw, "-f", "-"], &input).succeeds();
    for what in [deployment.as_str(), "secret/s"] {
        namespace.kubectl(User::Agent, &["delete", what, "--dry-run=server"]).succeeds();
        namespace.kubectl(User::Agent, &["delete", what]).succeeds();
    }
    namespace.kubectl(User::Agent, &["delete", "configmaps", "--all"]).succeeds();
}

/// What the API server posted, by operation, kind and subresource.
fn captured() -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let receiver = Receiver::start(&file);
    let authority = fs::read(&file).expect("an authority");
    let namespace = shared().unprotected();
    namespace.world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "reviews=kept"]).succeeds();
    // It answers nothing that the API server understands, and keeps nobody from anything.
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "reviews-kept"}, "webhooks": [{
        "name": "reviews.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Ignore", "timeoutSeconds": 5, "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchLabels": {"reviews": "kept"}},
        "clientConfig": {"url": receiver.url("/"), "caBundle": Base64::encode_string(&authority)},
        "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["*/*"]}],
    }]});
    namespace.world.apply(User::Admin, &webhook).succeeds();
    eventually("the API server asks the webhook", || {
        namespace.kubectl(User::Agent, &["create", "configmap", "tried", "--dry-run=server"]);
        !receiver.sent("").is_empty()
    });
    happen(&namespace);
    namespace.world.kubectl(User::Admin, &["delete", "validatingwebhookconfiguration", "reviews-kept"]).succeeds();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in receiver.sent("") {
        let request = &one.body["request"];
        let parts = ["operation", "subResource"].map(|part| text(&request[part]).to_lowercase());
        let kind = text(&request["resource"]["resource"]);
        let name = [&parts[0], &kind, &parts[1]].map(String::as_str).join("-");
        all.entry(name.trim_end_matches('-').to_owned())
            .or_default()
            .push(one.text.replace(&namespace.name, NAMESPACE));
    }
    all
}

#[test]
fn what_the_api_server_posts_is_read_as_it_says() {
    let captured = captured();
    for (name, reviews) in &captured {
        for review in reviews {
            let twin = twin::read(review.as_bytes());
            assert!(matches!(twin, Twin::Says(_)), "{name}: {twin:?}: {review}");
            let read = review::read::<Object>(review.as_bytes());
            assert!(twin.agrees(read.as_ref().ok()), "{name}: {twin:?} was read as {read:?}");
            fuzzed(review);
        }
    }
    for name in ["delete-deployments", "update-deployments-scale", "create-pods-eviction", "delete-configmaps"] {
        assert!(captured.contains_key(name), "{name} is not among {:?}", captured.keys());
    }
    assert!(captured["delete-secrets"][0].contains(r"\u003ca \u0026 b\u003e\u2028"), "Go writes otherwise now");
    if std::env::var_os("UPDATE").is_some() {
        write(&captured);
    }
}

/// What the fuzzer makes of it.
fn fuzzed(review: &str) -> &'static str {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == "review").expect("there is one");
    run(review.as_bytes())
}

/// One seed for each sort of review.
fn write(captured: &BTreeMap<String, Vec<String>>) {
    let folder = root().join("fuzz/seeds/review");
    let theirs = |name: &str| name.contains("replicasets") || name.contains("events") || name.contains("status");
    for (name, reviews) in captured.iter().filter(|(name, _)| !theirs(name)) {
        let mut review: Value = serde_json::from_str(&reviews[0]).expect("it was read");
        clean(&mut review["request"]);
        let seed = as_go_writes(&review);
        let outcome = fuzzed(&seed);
        fs::write(folder.join(format!("{outcome}.{name}.json")), seed).expect("it is written");
    }
}

/// Takes out whatever somebody wrote, and puts in what the fuzzer's world knows.
fn clean(request: &mut Value) {
    request["userInfo"] = json!({"username": AGENT, "groups": ["system:masters"]});
    for which in ["object", "oldObject"] {
        let object = &mut request[which];
        if object.is_null() {
            continue;
        }
        for part in ["data", "stringData", "binaryData"] {
            for (_, value) in object.get_mut(part).and_then(Value::as_object_mut).into_iter().flatten() {
                *value = json!("bm90aGluZ09mSW50ZXJlc3Q=");
            }
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { continue };
        metadata.remove("managedFields");
        for (key, value) in metadata.get_mut("annotations").and_then(Value::as_object_mut).into_iter().flatten() {
            if key != "tagout.dev/approval" {
                *value = json!(ODD);
            }
        }
        if metadata.get("name") == Some(&json!(NAME)) {
            metadata.insert("uid".to_owned(), json!(UID));
        }
    }
}

/// Without the characters that Go's encoder writes by their numbers.
fn as_go_writes(value: &Value) -> String {
    let mut text = value.to_string();
    for character in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        text = text.replace(character, &format!("\\u{:04x}", u32::from(character)));
    }
    text
}
