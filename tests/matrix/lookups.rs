//! What a decision asks the API server for, and how often.

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authenticator::{Authenticator, Kind};
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tagout::api::{APPROVAL, SIGNATURE_NAMESPACE, Statement};
use tagout::cluster::{Announcer, Cluster, Doorbell, RulesInForce, Told};
use tagout::gate::{Called, Gate};
use tagout::notify::Notifier;
use tagout::telemetry::Telemetry;
use tokio::time::{Instant, sleep};

/// What was asked for: method and path.
type Asked = Arc<Mutex<Vec<String>>>;

/// What the API server holds of a rule.
fn configuration() -> Value {
    let spec = json!({"resources": [{"apiGroups": [""], "resources": ["configmaps"]}], "actions": ["Delete"],
        "approval": {"proof": "Signature", "require": [{"anyOf": ["signers"]}]}});
    json!({"metadata": {"name": "tagout-r", "annotations": {"tagout.dev/rule": spec.to_string()}}})
}

fn key() -> Authenticator {
    Authenticator::new(Kind::Ed25519, "alice")
}

/// An object whose deletion alice has approved.
fn approved() -> Value {
    let mut statement: Statement = serde_json::from_value(json!({"action": "Delete", "uid": "u",
        "resource": "configmaps", "namespace": "n", "name": "c", "cluster": "k", "approver": "alice", "team": "signers",
        "approvedAt": "2026-11-23T00:00:00Z", "expires": "2026-11-23T00:10:00Z"}))
    .unwrap();
    statement.signature = Some(key().sign(SIGNATURE_NAMESPACE, &statement.text().unwrap()));
    let statements = serde_json::to_string(&[statement]).unwrap();
    json!({"name": "c", "namespace": "n", "uid": "u", "labels": {APPROVAL: "true"}, "annotations": {APPROVAL: statements}})
}

/// An API server with the rule, the team and the object, where nothing belongs to anything.
fn client(asked: Asked) -> Client {
    let of = |kind: &str, items: Value| json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items});
    let metadata = |metadata: Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "signers"},
        "spec": {"members": [{"user": "alice", "keys": [{"publicKey": key().line()}]}]}});
    let pods = json!({"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced",
        "verbs": ["list", "delete"]});
    let core = json!([{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [pods]}]}]);
    let answer = move |request: Request<Body>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        asked.lock().unwrap().push(format!("{method} {path}"));
        let found = match path.as_str() {
            _ if method == Method::POST => return Response::new(request.into_body()),
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations" => {
                of("ValidatingWebhookConfigurationList", json!([configuration()]))
            }
            "/apis/tagout.dev/v1alpha1/approverteams" => of("ApproverTeamList", json!([team])),
            "/api" => of("APIGroupDiscoveryList", core.clone()),
            "/apis" => of("APIGroupDiscoveryList", json!([])),
            "/api/v1/namespaces/kube-system" => metadata(json!({"name": "kube-system", "uid": "k"})),
            "/api/v1/namespaces/n" => metadata(json!({"name": "n", "uid": "n"})),
            "/api/v1/namespaces/n/configmaps/c" => metadata(approved()),
            "/api/v1/namespaces/n/pods" => {
                json!({"kind": "Table", "metadata": {}, "columnDefinitions": [], "rows": []})
            }
            _ => json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "none", "code": 404}),
        };
        let mut response = Response::new(Body::from(found.to_string().into_bytes()));
        if found["code"] == 404 {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    };
    Client::new(tower::service_fn(move |request| ready(Ok::<_, Infallible>(answer(request)))), "default")
}

#[tokio::test]
async fn what_passes_by_approval_is_looked_up_once_and_written_down_once_by_rules_read_after_it_came() {
    let asked = Asked::default();
    let client = client(Arc::clone(&asked));
    let rules = Arc::new(RulesInForce::none());
    let following = {
        let (rules, client, bell) = (Arc::clone(&rules), client.clone(), Doorbell::watching(&client));
        tokio::spawn(async move { rules.follow(client, bell, String::new()).await })
    };
    while rules.current().is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    let clock = Told::default();
    clock.set("2026-11-23T00:05:00Z".parse().unwrap());
    let (cluster, _watched) = Cluster::told(client.clone(), Arc::clone(&rules), String::new(), clock);
    let telemetry = Arc::new(Telemetry::new(Announcer::new(client).0, Notifier::new()));
    let gate = Gate::new(Arc::new(cluster), telemetry);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1",
        "kind": {"kind": "ConfigMap"}, "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "operation": "DELETE", "userInfo": {"username": "agent"}, "oldObject": {"metadata": approved()}}});
    // What was read before is of another time.
    sleep(Duration::from_millis(20)).await;
    asked.lock().unwrap().clear();

    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = gate.rule(Called::By("r"), review.to_string().as_bytes(), deadline).await.unwrap();
    following.abort();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\"allowed\":true") && answer.contains("approved by alice"), "{answer}");

    let asked = asked.lock().unwrap();
    let at = |request: &str| asked.iter().position(|one| one == request);
    let count = |request: &str| asked.iter().filter(|one| *one == request).count();
    assert_eq!(count("GET /api/v1/namespaces/n/pods"), 1, "{asked:?}");
    assert_eq!(count("POST /apis/tagout.dev/v1alpha1/deletionrecords"), 1, "{asked:?}");
    let teams = at("GET /apis/tagout.dev/v1alpha1/approverteams");
    assert!(teams.is_some() && teams < at("POST /apis/tagout.dev/v1alpha1/deletionrecords"), "{asked:?}");
}
