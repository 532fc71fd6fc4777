//! From what the API server sends of an object to the little that is kept of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::kinds::Kind;
use crate::api::APPROVAL;
use crate::guard::{Listed, ListedState, Owner, Subject};

/// What surrounds the objects of a page.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    #[serde(default)]
    pub(super) column_definitions: Vec<Column>,
}

#[derive(Default, Deserialize)]
pub(super) struct ListMetadata {
    #[serde(default, rename = "continue")]
    pub(super) token: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
}

/// A line of what kubectl would print.
#[derive(Deserialize)]
pub(super) struct Row {
    cells: Vec<Value>,
    object: Object,
}

#[derive(Deserialize)]
pub(super) struct EndpointSlice {
    metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    conditions: Conditions,
    target_ref: Option<Target>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct Target {
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

/// The keys, and the one value that matters. The others may be large, and may be secret.
#[derive(Default)]
struct Annotations {
    keys: Vec<Cow<'static, str>>,
    statements: Option<Cow<'static, str>>,
}

impl Object {
    pub(super) fn reduced(self, kind: &Kind) -> Listed {
        self.metadata.reduced(kind, ListedState::Plain)
    }
}

impl Row {
    pub(super) fn reduced(self, kind: &Kind, columns: &[Column]) -> Listed {
        let cell = |name: &str| {
            let at = columns.iter().position(|column| column.name == name);
            at.and_then(|at| self.cells.get(at)).and_then(Value::as_str).unwrap_or_default()
        };
        let state = match kind.plural.as_str() {
            "pods" => pod(cell("Ready"), cell("Status")),
            _ => volume(cell("Claim"), cell("Status"), cell("Reclaim Policy"), cell("Capacity")),
        };
        self.object.metadata.reduced(kind, state)
    }
}

impl EndpointSlice {
    /// The Service, by namespace and name, and what is ready behind it: pods by UID, anything else as an empty one.
    pub(super) fn behind(&mut self) -> Option<((String, String), Vec<String>)> {
        let service = self.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        let endpoints = self.endpoints.take().unwrap_or_default();
        // What does not say whether it is ready is to be taken for ready.
        let ready = endpoints.into_iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        let uids = ready.map(|endpoint| endpoint.target_ref.and_then(|target| target.uid).unwrap_or_default());
        Some(((namespace, service), uids.collect()))
    }

    pub(super) fn reduced(self, kind: &Kind) -> Listed {
        self.metadata.reduced(kind, ListedState::Plain)
    }
}

impl Metadata {
    fn reduced(self, kind: &Kind, state: ListedState) -> Listed {
        let Annotations { keys, statements } = self.annotations.unwrap_or_default();
        let subject = Subject {
            group: kind.group.clone().into(),
            resource: kind.plural.clone().into(),
            namespace: self.namespace.unwrap_or_default().into(),
            name: self.name.into(),
            uid: self.uid.unwrap_or_default().into(),
            created: self.creation_timestamp.and_then(|time| time.parse::<Timestamp>().ok()),
            labels: Cow::Owned(self.labels.unwrap_or_default()),
            annotations: keys,
            statements,
        };
        let owners = self.owner_references.unwrap_or_default().into_iter().map(OwnerReference::owner).collect();
        let terminating = self.deletion_timestamp.is_some();
        Listed { subject, kind: kind.title.clone(), owners, terminating, state }
    }
}

impl OwnerReference {
    fn owner(self) -> Owner {
        let Self { api_version, kind, name, uid, controller } = self;
        Owner { api_version, kind, name, uid, controller: controller.unwrap_or_default() }
    }
}

/// `1/1` and `Running`. `Error` and `OOMKilled` are not taken for finished: they may be of a container that is about
/// to start again.
fn pod(ready: &str, status: &str) -> ListedState {
    let finished = ["Completed", "Succeeded", "Failed", "Evicted"].contains(&status);
    let ready = ready.split_once('/').is_some_and(|(ready, of)| ready == of && of != "0");
    ListedState::Pod { ready: ready && !finished, finished: finished && !ready }
}

fn volume(claim: &str, status: &str, policy: &str, capacity: &str) -> ListedState {
    // A claim of the same name may have come since: it is bound to another volume.
    let unbound = ["Available", "Released", "Failed", "Pending"].contains(&status);
    let claim = claim.split_once('/').filter(|_| !unbound);
    ListedState::Volume {
        claim: claim.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
        kept: policy == "Retain",
        capacity: capacity.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut annotations = Annotations::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == APPROVAL {
                annotations.statements = Some(map.next_value::<String>()?.into());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            annotations.keys.push(key.into());
        }
        Ok(annotations)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn kind(group: &str, plural: &str, kind: &str) -> Kind {
        let text = str::to_owned;
        Kind {
            group: text(group),
            plural: text(plural),
            title: text(kind),
            versions: vec![text("v1")],
            namespaced: true,
        }
    }

    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn of_an_object_its_metadata_is_kept_and_of_its_annotations_the_keys_and_the_approval() {
        let object: Object = read(&json!({"spec": {"secret": "s3cr3t"}, "metadata": {
            "name": "api", "namespace": "n", "uid": "u", "labels": {"a": "b"}, "managedFields": [{"manager": "x"}],
            "annotations": {"note": "s3cr3t", APPROVAL: "[]"}, "creationTimestamp": "2026-11-22T03:04:05Z",
            "deletionTimestamp": "2026-11-22T03:04:06Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "v", "controller": true}],
        }}));
        let listed = object.reduced(&kind("apps", "deployments", "Deployment"));
        assert_eq!(listed.subject.kind(), "deployments.apps");
        assert_eq!(listed.subject.annotations, ["note", APPROVAL]);
        assert_eq!(listed.subject.statements.as_deref(), Some("[]"));
        assert_eq!(listed.subject.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(listed.subject.created.map(Timestamp::as_second), Some(1_795_316_645));
        assert!(listed.terminating && listed.owners[0].controller && listed.owners[0].uid == "v");
        assert!(!format!("{listed:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_an_object_lacks_or_has_as_null_is_empty() {
        let object: Object = read(&json!({"metadata": {
            "name": "a", "labels": null, "annotations": null, "ownerReferences": null, "creationTimestamp": null,
            "deletionTimestamp": null,
        }}));
        let listed = object.reduced(&kind("", "configmaps", "ConfigMap"));
        assert!(listed.subject.uid.is_empty() && listed.owners.is_empty() && !listed.terminating);
    }

    #[rstest]
    #[case("1/1", "Running", true, false)]
    #[case("1/2", "Running", false, false)]
    #[case("0/0", "Pending", false, false)]
    #[case("2/2", "Terminating", true, false)]
    #[case("0/1", "Completed", false, true)]
    #[case("0/1", "Error", false, false)]
    #[case("", "", false, false)]
    fn a_pod_is_ready_or_finished_as_kubectl_prints_it(
        #[case] ready: &str,
        #[case] status: &str,
        #[case] is_ready: bool,
        #[case] finished: bool,
    ) {
        let row: Row = read(&json!({"cells": ["a", ready, status, 0], "object": {"metadata": {"name": "a"}}}));
        let columns = ["Name", "Ready", "Status"].map(|name| Column { name: name.to_owned() });
        let listed = row.reduced(&kind("", "pods", "Pod"), &columns);
        assert_eq!(listed.state, ListedState::Pod { ready: is_ready, finished });
    }

    #[rstest]
    #[case("Bound", "Delete", Some("data"), false)]
    #[case("Bound", "Retain", Some("data"), true)]
    #[case("Terminating", "Delete", Some("data"), false)]
    #[case("Released", "Delete", None, false)]
    fn a_volume_is_bound_and_kept_as_kubectl_prints_it(
        #[case] status: &str,
        #[case] policy: &str,
        #[case] claim: Option<&str>,
        #[case] kept: bool,
    ) {
        let row: Row =
            read(&json!({"cells": ["1Gi", policy, status, "n/data"], "object": {"metadata": {"name": "a"}}}));
        let columns = ["Capacity", "Reclaim Policy", "Status", "Claim"].map(|name| Column { name: name.to_owned() });
        let claim = claim.map(|claim| ("n".to_owned(), claim.to_owned()));
        let listed = row.reduced(&kind("", "persistentvolumes", "PersistentVolume"), &columns);
        assert_eq!(listed.state, ListedState::Volume { claim, kept, capacity: "1Gi".to_owned() });
    }

    #[test]
    fn behind_a_service_stands_what_is_ready_or_does_not_say() {
        let endpoint = |uid: &str, ready: Value| json!({"conditions": {"ready": ready}, "targetRef": {"uid": uid}});
        let mut slice: EndpointSlice = read(&json!({
            "metadata": {"name": "web-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [endpoint("a", json!(true)), endpoint("b", json!(false)), endpoint("c", json!(null)),
                {"addresses": ["10.0.0.1"]}],
        }));
        let expected = ["a", "c", ""].map(str::to_owned).to_vec();
        assert_eq!(slice.behind(), Some((("n".to_owned(), "web".to_owned()), expected)));
        let mut nobodys: EndpointSlice = read(&json!({"metadata": {"name": "x"}, "endpoints": null}));
        assert_eq!(nobodys.behind(), None);
    }
}
