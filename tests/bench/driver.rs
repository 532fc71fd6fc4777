//! The gate in a process of its own, without sockets: a review's bytes go in, the answer comes out. What it looks up is
//! answered from memory by what an API server would say of a small cluster.
//!
//! Left out is what waits for others: the network, TLS, and the API server's own work. What Tagout itself does for a
//! decision is all there: asking, reading the answers, finding out what goes along, deciding, writing the answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tagout::api::ProtectionRuleSpec;
use tagout::cluster::{Announcer, Cluster, RulesInForce, Told, Watched};
use tagout::gate::{Called, Gate};
use tagout::guard::{Rule, Rules, Team};
use tagout::notify::Notifier;
use tagout::review::{MetadataRequest, read};
use tagout::telemetry::Telemetry;
use tokio::time::Instant;

use crate::reviews::{self, Said};

const NAMESPACE: &str = "payments";
const RULE: &str = "payments";
const CLUSTER: &str = "7d0b3c1c-0000-4000-8000-000000000001";
const UID: &str = "7d0b3c1c-0000-4000-8000-000000000002";

/// What stands in the cluster beside the one rule and namespace that a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Rules of other teams, about the same kind in namespaces of their own.
    pub alike: usize,
    /// Rules about other kinds.
    pub others: usize,
    pub namespaces: usize,
}

/// The deletion that is reviewed.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The size of the object.
    pub bytes: usize,
    pub said: Said,
    /// An earlier deletion is under way.
    pub under_way: bool,
}

pub struct Driver {
    gate: Gate,
    review: Vec<u8>,
    passes: bool,
    // Who drops it says that nothing is watched any more.
    _watched: Watched,
}

impl Driver {
    pub fn new(asked: Asked, beside: Beside) -> Result<Self> {
        let object = object(asked)?;
        let live = object["metadata"].clone();
        let service = tower::service_fn(move |request| ready(Ok::<_, Infallible>(answer(&live, request))));
        let client = Client::new(service, "default");
        let in_force = Arc::new(RulesInForce::none());
        in_force.give(rules(beside)?);
        let clock = Told::default();
        clock.set(now()?);
        let (cluster, mut watched) = Cluster::told(client.clone(), in_force, "tagout-system".to_owned(), clock);
        for number in 0..beside.namespaces {
            let labels = [("team".to_owned(), format!("team-{number}"))].into();
            let name = Some(format!("namespace-{number}"));
            watched.namespace(ObjectMeta { name, labels: Some(labels), ..ObjectMeta::default() }, true);
        }
        let (announcer, _) = Announcer::new(client);
        let telemetry = Arc::new(Telemetry::new(announcer, Notifier::new()));
        Ok(Self {
            gate: Gate::new(Arc::new(cluster), telemetry),
            review: reviews::deletion(&object),
            passes: asked.under_way || asked.said != Said::Nothing,
            _watched: watched,
        })
    }

    /// Decides, and makes sure that it was decided as expected: an error is quick.
    pub async fn decide(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(10);
        let answer = self.gate.rule(Called::By(RULE), black_box(&self.review), deadline).await?;
        let answer = std::str::from_utf8(&answer)?;
        let expected = if self.passes { "\"allowed\":true" } else { "ApprovalRequired" };
        ensure!(answer.contains(expected), "another answer than expected: {answer}");
        Ok(())
    }

    /// Only reads the review.
    pub fn read(&self) -> Result<()> {
        let request: MetadataRequest = read(black_box(&self.review))?;
        ensure!(black_box(request).old_object.is_some(), "there is no object");
        Ok(())
    }
}

fn object(asked: Asked) -> Result<Value> {
    let mut object = reviews::config_map("api", asked.bytes);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    object["metadata"]["uid"] = json!(UID);
    object["metadata"]["creationTimestamp"] = json!("2026-11-01T00:00:00Z");
    if asked.under_way {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-23T00:00:00Z");
    }
    if let Said::Signed(kind) = asked.said {
        let statements = reviews::statements(&object, CLUSTER, kind, now()?)?;
        reviews::present(&mut object, &statements);
    }
    Ok(object)
}

/// Always the same time, so that always the same is read and signed.
fn now() -> Result<Timestamp> {
    "2026-11-23T00:00:00Z".parse().context("a time")
}

fn rules(beside: Beside) -> Result<Rules> {
    let read = |name: String, spec: Value| -> Result<(String, Result<Rule, String>)> {
        let spec: ProtectionRuleSpec = serde_json::from_value(spec)?;
        let mut rule = Rule::read(&name, &spec).map_err(anyhow::Error::msg)?;
        rule.settled = Some(BTreeMap::new());
        Ok((name, Ok(rule)))
    };
    let mut rules = BTreeMap::from([read(RULE.to_owned(), reviews::rule(RULE))?]);
    for number in 0..beside.alike {
        let name = format!("alike-{number}");
        rules.extend([read(name.clone(), reviews::rule(&name))?]);
    }
    for number in 0..beside.others {
        let name = format!("other-{number}");
        let mut spec = reviews::rule(&name);
        spec["resources"] = json!([{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]}]);
        rules.extend([read(name, spec)?]);
    }
    let team = Team::read(serde_json::from_value(reviews::team())?);
    Ok(Rules {
        rules,
        teams: [(reviews::TEAM.to_owned(), team)].into(),
        cluster: CLUSTER.to_owned(),
        own_namespace: "tagout-system".to_owned(),
    })
}

fn answer(live: &Value, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let accept = request.headers().get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_a_table = accept.contains("as=Table");
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (status, answer) = match (request.method(), &segments[..]) {
        (&Method::POST, _) => return Response::new(request.into_body()),
        (_, ["api"]) => (StatusCode::OK, discovered(&[("", &CORE)])),
        (_, ["apis"]) => (StatusCode::OK, discovered(&[("apps", &APPS)])),
        (_, ["api", "v1", "namespaces", NAMESPACE]) => {
            (StatusCode::OK, metadata(&json!({"name": NAMESPACE, "uid": "n", "labels": {"rule": RULE}})))
        }
        (_, ["api", "v1", "namespaces", NAMESPACE, "configmaps", _]) => (StatusCode::OK, metadata(live)),
        (_, ["api", "v1", "namespaces", NAMESPACE, _] | ["apis", _, "v1", "namespaces", NAMESPACE, _]) => {
            (StatusCode::OK, listed(is_a_table))
        }
        _ => (
            StatusCode::NOT_FOUND,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
                "message": "there is none", "code": 404}),
        ),
    };
    let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

const CORE: [(&str, &str); 4] = [
    ("configmaps", "ConfigMap"),
    ("pods", "Pod"),
    ("services", "Service"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
];
const APPS: [(&str, &str); 3] =
    [("deployments", "Deployment"), ("replicasets", "ReplicaSet"), ("statefulsets", "StatefulSet")];

fn discovered(groups: &[(&str, &[(&str, &str)])]) -> Value {
    let kind = |(plural, title): &(&str, &str)| {
        json!({"resource": plural, "responseKind": {"group": "", "version": "v1", "kind": title}, "scope": "Namespaced",
            "verbs": ["delete", "get", "list"]})
    };
    let group = |(name, kinds): &(&str, &[(&str, &str)])| {
        let resources: Vec<Value> = kinds.iter().map(kind).collect();
        json!({"metadata": {"name": name},
            "versions": [{"version": "v1", "freshness": "Current", "resources": resources}]})
    };
    let items: Vec<Value> = groups.iter().map(group).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn metadata(metadata: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// Nothing belongs to what is deleted.
fn listed(is_a_table: bool) -> Value {
    if is_a_table {
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": [], "rows": []})
    } else {
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": []})
    }
}
