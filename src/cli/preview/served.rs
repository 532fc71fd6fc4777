//! The cluster in memory, asked as the API server is asked: what the gate looks up, it looks up there.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::fmt::rfc2822;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::selects::Labels;
use super::state::{Held, Place, State, labels, metadata, set, text};
use crate::cluster::Told;

/// The cluster in memory, shared by who folds it and who asks it.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self, clock: Told) -> Client {
        let shared = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (shared, clock) = (shared.clone(), clock.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let accepts = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
                let asked = Asked::read(&parts.uri, accepts.unwrap_or_default());
                let (status, answer) = shared.lock().answer(&parts.method, &asked, &body);
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = status;
                if let Some(date) = rfc2822::DateTimePrinter::new()
                    .timestamp_to_rfc9110_string(&clock.get())
                    .ok()
                    .and_then(|date| date.parse().ok())
                {
                    response.headers_mut().insert(http::header::DATE, date);
                }
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "default")
    }
}

/// How something is to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    Metadata,
    Table,
}

struct Asked {
    segments: Vec<String>,
    selector: Option<Labels>,
    shape: Shape,
}

impl Asked {
    fn read(uri: &http::Uri, accepts: &str) -> Self {
        let segments = uri.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        let selector = super::uri::parameter(uri.query().unwrap_or_default(), "labelSelector");
        let shape = match () {
            () if accepts.contains("as=Table") => Shape::Table,
            () if accepts.contains("as=PartialObjectMetadata") => Shape::Metadata,
            () => Shape::Whole,
        };
        Self { segments, selector: selector.and_then(|selector| Labels::read(&selector)), shape }
    }
}

impl State {
    fn answer(&mut self, method: &Method, asked: &Asked, body: &[u8]) -> (StatusCode, Value) {
        let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match &segments[..] {
            ["version"] => return (StatusCode::OK, json!({"major": "1", "minor": "33"})),
            ["api"] => return (StatusCode::OK, self.kinds.aggregated(true)),
            ["apis"] => return (StatusCode::OK, self.kinds.aggregated(false)),
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return missing(),
        };
        let (namespace, plural, name) = match rest {
            [] => return self.kinds.of(group, version).map_or_else(missing, |found| (StatusCode::OK, found)),
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
            [plural] => (None, *plural, None),
            [plural, name] => (None, *plural, Some(*name)),
            _ => return missing(),
        };
        let place = |name: &str| Place {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.to_owned(),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        match (method, name) {
            (&Method::GET, Some(name)) => {
                let Some(held) = self.get(&place(name)).cloned() else { return missing() };
                if held.assumed {
                    self.lean_on(group, plural);
                }
                (StatusCode::OK, shaped(&held, &api_version, asked.shape))
            }
            (&Method::GET, None) => {
                if self.selected(group, plural, namespace, asked).any(|held| held.assumed) {
                    self.lean_on(group, plural);
                }
                (StatusCode::OK, self.listed(group, plural, namespace, &api_version, asked))
            }
            (&Method::POST | &Method::PUT, name) => {
                let Ok(object) = serde_json::from_slice::<Value>(body) else { return missing() };
                let place = place(name.unwrap_or_else(|| text(&object, "/metadata/name")));
                self.written(place, object, name.is_some())
            }
            _ => missing(),
        }
    }

    fn selected<'s>(
        &'s self,
        group: &'s str,
        plural: &'s str,
        namespace: Option<&'s str>,
        asked: &'s Asked,
    ) -> impl Iterator<Item = &'s Held> {
        let selected =
            |held: &&Held| asked.selector.as_ref().is_none_or(|selector| selector.matches(&labels(&held.object)));
        self.list(group, plural, namespace).map(|(_, held)| held).filter(selected)
    }

    fn listed(&self, group: &str, plural: &str, namespace: Option<&str>, api_version: &str, asked: &Asked) -> Value {
        let found = self.selected(group, plural, namespace, asked);
        let title = self.kinds.get(group, plural).map_or("", |kind| kind.title.as_str());
        match asked.shape {
            Shape::Table => {
                let rows: Vec<Value> = found.map(|held| row(plural, held)).collect();
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "rows": rows,
                    "columnDefinitions": columns(plural).iter().map(|name| json!({"name": name})).collect::<Vec<_>>()})
            }
            shape => {
                let items: Vec<Value> = found.map(|held| shaped(held, api_version, shape)).collect();
                let kind = if shape == Shape::Metadata {
                    "PartialObjectMetadataList".to_owned()
                } else {
                    format!("{title}List")
                };
                json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": items})
            }
        }
    }

    /// In the version that was read, or not at all.
    fn written(&mut self, place: Place, mut object: Value, replaces: bool) -> (StatusCode, Value) {
        let known = self.get(&place).map(|held| metadata(&held.object));
        let version = text(&object, "/metadata/resourceVersion").to_owned();
        match (&known, replaces) {
            (Some(known), true) if known.get("resourceVersion").and_then(Value::as_str) == Some(&version) => {}
            (None, false) => {}
            (None, true) => return missing(),
            _ => return refused(StatusCode::CONFLICT, "Conflict"),
        }
        let next = self.next_version();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return missing() };
        let uid = known
            .as_ref()
            .and_then(|known| known.get("uid").cloned())
            .unwrap_or_else(|| json!(format!("virtual-{next}")));
        metadata.insert("resourceVersion".to_owned(), json!(next));
        metadata.insert("uid".to_owned(), uid);
        self.put_reduced(place, object.clone(), false);
        (if replaces { StatusCode::OK } else { StatusCode::CREATED }, object)
    }
}

fn shaped(held: &Held, api_version: &str, shape: Shape) -> Value {
    if shape == Shape::Metadata {
        return json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata(&held.object)});
    }
    let mut object = Value::clone(&held.object);
    set(&mut object, &["apiVersion"], json!(api_version));
    object
}

fn columns(plural: &str) -> &'static [&'static str] {
    if plural == "pods" { &["Ready", "Status"] } else { &["Claim", "Status", "Reclaim Policy", "Capacity"] }
}

/// As kubectl would print it.
fn row(plural: &str, held: &Held) -> Value {
    let object = &held.object;
    let cells = if plural == "pods" {
        let containers = object.pointer("/status/containerStatuses").and_then(Value::as_array);
        let ready = containers.into_iter().flatten().filter(|one| one["ready"] == true).count();
        let all = object.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len);
        json!([format!("{ready}/{all}"), text(object, "/status/phase")])
    } else {
        let claim = match text(object, "/spec/claimRef/name") {
            "" => String::new(),
            name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
        };
        let [status, policy, capacity] =
            ["/status/phase", "/spec/persistentVolumeReclaimPolicy", "/spec/capacity/storage"]
                .map(|path| text(object, path));
        json!([claim, status, policy, capacity])
    };
    json!({"cells": cells, "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata(object)}})
}

fn missing() -> (StatusCode, Value) {
    refused(StatusCode::NOT_FOUND, "NotFound")
}

fn refused(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    let code = status.as_u16();
    (
        status,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code}),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use kube::api::{ListParams, PostParams};
    use kube::{Api, ResourceExt, discovery};

    use super::*;

    fn shared() -> (Shared, Client) {
        let (shared, clock) = (Shared::default(), Told::default());
        let client = shared.client(clock);
        let place = |plural: &str, namespace: &str, name: &str| Place {
            group: String::new(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        for (name, label) in [("a", "x"), ("b", "y")] {
            let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "n",
                "resourceVersion": "5", "labels": {"l": label}}, "data": {"k": "v"}});
            shared.lock().put(place("configmaps", "n", name), object, false);
        }
        shared.lock().put(place("namespaces", "", "n"), json!({"kind": "Namespace", "metadata": {"name": "n"}}), false);
        (shared, client)
    }

    #[tokio::test]
    async fn what_is_held_is_found_listed_and_discovered() {
        let (_shared, client) = shared();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "n");
        assert_eq!(maps.get("a").await.unwrap().data.unwrap()["k"], "v");
        assert!(maps.get_opt("c").await.unwrap().is_none());
        let found = maps.list_metadata(&ListParams::default().labels("l in (y)")).await.unwrap();
        assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
        let namespaces: Api<Namespace> = Api::all(client.clone());
        assert!(namespaces.get_metadata_opt("n").await.unwrap().is_some());
        let kind = kube::core::GroupVersionKind::gvk("apps", "v1", "Deployment");
        let (resource, _) = discovery::pinned_kind(&client, &kind).await.unwrap();
        assert_eq!(resource.plural, "deployments");
        assert!(client.list_api_groups_aggregated().await.unwrap().items.len() > 5);
    }

    #[tokio::test]
    async fn only_the_version_that_was_read_is_replaced() {
        let (_shared, client) = shared();
        let maps: Api<ConfigMap> = Api::namespaced(client, "n");
        let mut read = maps.get("a").await.unwrap();
        read.data = None;
        let written = maps.replace("a", &PostParams::default(), &read).await.unwrap();
        assert_ne!(written.resource_version(), read.resource_version());
        let conflict = maps.replace("a", &PostParams::default(), &read).await.unwrap_err();
        assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409));
        let made = maps.create(&PostParams::default(), &read).await.unwrap_err();
        assert!(matches!(made, kube::Error::Api(status) if status.code == 409));
    }
}
