//! What everything is decided by: a few rules, teams and objects that never change, and a time that stands still.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authenticator::{Authenticator, Kind};
use http::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tagout::api::{Action, ProtectionRuleSpec};
use tagout::cluster::{Announcer, Cluster, RulesInForce, Told};
use tagout::gate::Gate;
use tagout::guard::{Owner, Reach, Requester, Rule, Rules, Subject, Team};
use tagout::notify::Notifier;
use tagout::telemetry::Telemetry;
use tokio::runtime::Runtime;

pub const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
pub const CLUSTER: &str = "9a1e";
pub const EPOCH: &str = "e1";
pub const OWN_NAMESPACE: &str = "tagout-system";
/// Where everything is protected, and what is in it.
pub const NAMESPACE: &str = "payments";
pub const NAME: &str = "api";
pub const UID: &str = "5f0c";
/// Who asks, and who may approve: the one's word counts, the other's if it is signed.
pub const AGENT: &str = "agent-7";
pub const ALICE: &str = "alice@example.com";
pub const TEAM: &str = "senior-sre";

/// The longest life of an approval.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(30);

/// The rule that covers whatever there is, wherever it is.
pub const EVERYTHING: &str = "everything";
/// One that narrows itself by all that a rule can say.
pub const NARROW: &str = "narrow";

const ACTIONS: [&str; 8] =
    ["Delete", "Recreate", "ScaleToZero", "Evict", "Reparent", "Finalize", "DiscardData", "Unprotect"];

/// Alice's keys, one of each type.
pub fn keys() -> Vec<Authenticator> {
    Kind::ALL.map(|kind| Authenticator::new(kind, "alice")).into()
}

pub fn teams() -> BTreeMap<String, Team> {
    let keys: Vec<_> = keys().iter().map(|key| json!({"publicKey": key.line()})).collect();
    let spec = json!({"members": [{"user": ALICE, "keys": keys}, {"user": AGENT}]});
    [(TEAM.to_owned(), Team::read(serde_json::from_value(spec).expect("a team")))].into()
}

/// What an agent asks about what nothing excuses from its rules.
pub fn request(action: Action, subject: Subject<'_>, owners: Vec<Owner>) -> tagout::guard::Request<'_> {
    tagout::guard::Request {
        action,
        subject,
        owners,
        terminating: false,
        change: None,
        requester: Requester { name: AGENT, groups: &[] },
        reach: Reach::Covered,
        what: None,
    }
}

/// A rule by its name, with what it says beside what all say.
pub fn rule(name: &str, more: &Value) -> Rule {
    let mut spec = json!({
        "resources": [
            {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "replicasets"]},
            {"apiGroups": [""], "resources": ["namespaces", "secrets", "configmaps", "pods", "services",
                "persistentvolumeclaims"]},
            {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"]},
            {"apiGroups": ["example.com"], "resources": ["*"]},
            {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"]},
        ],
        "actions": ACTIONS,
        "approval": {"require": [{"anyOf": [TEAM]}]},
    });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let spec: ProtectionRuleSpec = serde_json::from_value(spec).expect("a rule");
    Rule::read(name, &spec).expect("a rule that can be read")
}

pub fn rules(rules: Vec<Rule>) -> Rules {
    Rules {
        rules: rules.into_iter().map(|rule| (rule.name.clone(), Ok(rule))).collect(),
        teams: teams(),
        cluster: CLUSTER.to_owned(),
        own_namespace: OWN_NAMESPACE.to_owned(),
    }
}

/// The gate itself, before a cluster that stands still.
pub struct World {
    runtime: Runtime,
    gate: Gate,
}

impl World {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        // A client has a task of its own.
        let entered = runtime.enter();
        let client = Client::new(tower::service_fn(async |request| Ok::<_, Infallible>(answer(&request))), "default");
        let clock = Told::default();
        clock.set(NOW);
        let in_force = Arc::new(RulesInForce::none());
        in_force.give(rules(vec![
            rule(EVERYTHING, &json!({})),
            rule(
                NARROW,
                &json!({
                    "namespaceSelector": {"matchLabels": {"environment": "production"}},
                    "objectSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["batch"]}]},
                    "except": [{"name": "preview-*"}, {"annotation": "helm.sh/hook"}],
                    "matchConditions": [{"name": "kept", "expression": "object.metadata.name != 'x'"}],
                    "approval": {"proof": "Signature", "require": [{"anyOf": [TEAM]}]},
                }),
            ),
            rule("warns", &json!({"mode": "Warn"})),
        ]));
        let (cluster, _watched) = Cluster::told(client.clone(), in_force, OWN_NAMESPACE.to_owned(), clock);
        // Nobody hears what it announces.
        let (announcer, _events) = Announcer::new(client);
        let telemetry = Arc::new(Telemetry::new(announcer, Notifier::new()));
        drop(entered);
        Self { runtime, gate: Gate::new(Arc::new(cluster), telemetry) }
    }

    /// Runs what the gate answers, and gives it all the time that it wants.
    pub fn ask<T>(&self, asking: impl AsyncFnOnce(&Gate, tokio::time::Instant) -> T) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_hours(1);
        self.runtime.block_on(asking(&self.gate, deadline))
    }
}

/// What an API server would answer that has a namespace with a Deployment in it, one that is going, and nothing else.
fn answer(request: &Request<Body>) -> Response<Body> {
    let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    let (status, said) = match (request.method(), &path[..]) {
        (&Method::GET, path) => found(path).map_or((StatusCode::NOT_FOUND, missing()), |found| (StatusCode::OK, found)),
        // Nothing that is written is ever seen again.
        _ => (StatusCode::NOT_FOUND, missing()),
    };
    let mut response = Response::new(Body::from(said.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

fn found(path: &[&str]) -> Option<Value> {
    let namespace = |name: &str, metadata: Value| {
        let mut found = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name}});
        found["metadata"].as_object_mut().expect("a map").extend(metadata.as_object().expect("a map").clone());
        found
    };
    let resource = |name: &str, kind: &str, namespaced: bool| {
        json!({"resource": name, "responseKind": {"group": "", "version": "v1", "kind": kind},
            "scope": if namespaced { "Namespaced" } else { "Cluster" }, "verbs": ["get", "list", "delete"]})
    };
    let group = |name: &str, resources: Value| {
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
            {"metadata": {"name": name}, "versions": [{"version": "v1", "freshness": "Current", "resources": resources}]}]})
    };
    let kinds = |version: &str, kinds: &[(&str, &str, bool)]| {
        let all: Vec<_> = kinds
            .iter()
            .map(|(plural, kind, namespaced)| {
                json!({"name": plural, "singularName": "", "kind": kind, "namespaced": namespaced,
                    "verbs": ["get", "list", "delete"]})
            })
            .collect();
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": all})
    };
    Some(match path {
        ["api"] => group(
            "",
            json!([
                resource("pods", "Pod", true),
                resource("secrets", "Secret", true),
                resource("namespaces", "Namespace", false)
            ]),
        ),
        ["apis"] => group("apps", json!([resource("deployments", "Deployment", true)])),
        ["api", "v1"] => kinds("v1", &[("pods", "Pod", true), ("namespaces", "Namespace", false)]),
        ["apis", "apps", "v1"] => kinds("apps/v1", &[("deployments", "Deployment", true)]),
        ["api", "v1", "namespaces", NAMESPACE] => {
            namespace(NAMESPACE, json!({"labels": {"environment": "production"}}))
        }
        ["api", "v1", "namespaces", "going"] => {
            namespace("going", json!({"deletionTimestamp": "2026-11-21T09:59:00Z", "labels": {}}))
        }
        ["apis", "apps", "v1", "namespaces", NAMESPACE, "deployments", NAME] => {
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": UID, "resourceVersion": "7"}})
        }
        // Lists of all sorts, all of them empty.
        [.., "pods"] => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "rows": [],
            "columnDefinitions": [{"name": "Ready"}, {"name": "Status"}]}),
        [.., "secrets" | "deployments" | "namespaces"] => {
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": []})
        }
        _ => return None,
    })
}

fn missing() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "NotFound",
        "reason": "NotFound", "code": 404})
}
