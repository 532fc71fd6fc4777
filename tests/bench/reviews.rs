//! Objects of any size, what people say about them, and the reviews in which they come.

use anyhow::Result;
use authenticator::{Authenticator, Kind};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tagout::api::{APPROVAL, SIGNATURE_NAMESPACE, Statement};

/// The team whose people sign.
pub const TEAM: &str = "signers";
const APPROVER: &str = "alice@example.com";

/// What an object carries when somebody wants it gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    /// An approval, signed by such a key.
    Signed(Kind),
}

/// The key of that kind which the team lists.
pub fn key(kind: Kind) -> Authenticator {
    Authenticator::new(kind, kind.name())
}

/// The spec of the team.
pub fn team() -> Value {
    let keys: Vec<Value> = Kind::ALL.iter().map(|kind| json!({"publicKey": key(*kind).line()})).collect();
    json!({"members": [{"user": APPROVER, "keys": keys}]})
}

/// The spec of a rule about ConfigMaps in namespaces with this label.
pub fn rule(label: &str) -> Value {
    json!({
        "resources": [{"apiGroups": [""], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"rule": label}},
        "actions": ["Delete"],
        "approval": {"proof": "Signature", "require": [{"anyOf": [TEAM]}], "validFor": "24h"},
    })
}

/// A ConfigMap of about so many bytes: lines of text, as in a file of settings.
pub fn config_map(name: &str, bytes: usize) -> Value {
    // An object's metadata, with what the API server adds.
    let text = bytes.saturating_sub(700);
    let line = "server.setting = \"a value such as stands in a file\"\n";
    let value = line.repeat(1000 / line.len());
    // Each key stands in managedFields, too.
    let keys = text / (value.len() + 60);
    let mut data: serde_json::Map<String, Value> =
        (0..keys).map(|number| (format!("settings-{number:05}"), json!(value))).collect();
    data.insert("rest".to_owned(), json!("x".repeat(text % (value.len() + 60))));
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}}, "data": data})
}

/// What a person says of the deletion of an object that is there, as its annotation has it.
pub fn statements(object: &Value, cluster: &str, kind: Kind, at: Timestamp) -> Result<String> {
    let metadata = &object["metadata"];
    let mut statement: Statement = serde_json::from_value(json!({
        "action": "Delete", "uid": metadata["uid"], "resource": "configmaps", "namespace": metadata["namespace"],
        "name": metadata["name"], "cluster": cluster, "approver": APPROVER, "team": TEAM,
        "approvedAt": at.to_string(), "expires": (at + SignedDuration::from_hours(23)).to_string(),
    }))?;
    statement.signature = Some(key(kind).sign(SIGNATURE_NAMESPACE, &statement.text()?));
    Ok(serde_json::to_string(&[statement])?)
}

/// Puts it onto the object, as `kubectl tagout approve` does.
pub fn present(object: &mut Value, statements: &str) {
    object["metadata"]["labels"][APPROVAL] = json!("true");
    object["metadata"]["annotations"][APPROVAL] = json!(statements);
}

/// The deletion of an object by an agent, as the API server posts it: in this order.
pub fn deletion(object: &Value) -> Vec<u8> {
    let (name, namespace) = (&object["metadata"]["name"], &object["metadata"]["namespace"]);
    let resource = r#"{"group":"","version":"v1","resource":"configmaps"}"#;
    let kind = r#"{"group":"","version":"v1","kind":"ConfigMap"}"#;
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"0b4f0c1e-1f0a-4d1e-9d53-000000000001","kind":{kind},"resource":{resource},"requestKind":{kind},"requestResource":{resource},"name":{name},"namespace":{namespace},"operation":"DELETE","userInfo":{{"username":"agent-7","uid":"agent-7","groups":["system:masters","system:authenticated"]}},"object":null,"oldObject":{object},"dryRun":false,"options":{{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1"}}}}}}"#
    )
    .into_bytes()
}
