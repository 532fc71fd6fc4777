//! What is in the cluster that is measured.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controlplane::{ControlPlane, User};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tagout::guard::Subject;

pub const KINDS: usize = 60;
pub const OBJECTS: usize = 5000;
pub const SMALL: &str = "small";
pub const LARGE: &str = "large";
pub const APP: &str = "app";

/// Of each custom kind, in each namespace.
const INSTANCES: usize = 10;

pub fn definition(kind: usize) -> String {
    format!("kinds{kind}.bench.example.com")
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// Every tenth object of the namespace `large` has 100 kB: one half in its data, the other in an annotation, which is
/// metadata and comes with it.
fn config_map(namespace: &str, at: usize) -> Value {
    let large = |turn: usize| if namespace == LARGE && at % 20 == turn { "x".repeat(100_000) } else { "x".to_owned() };
    json!({
        "metadata": {
            "name": format!("config-{at}"),
            "labels": {"app.kubernetes.io/name": format!("app-{}", at % 50), "app.kubernetes.io/managed-by": "bench"},
            "annotations": {"last-applied": large(10)},
        },
        "data": {"key": large(0)},
    })
}

pub async fn populate(client: &Client) -> Result<()> {
    let (namespaces, definitions) = (Api::<Namespace>::all(client.clone()), Api::all(client.clone()));
    for name in [SMALL, LARGE] {
        namespaces.create(&PostParams::default(), &read(json!({"metadata": {"name": name}}))?).await?;
    }
    for kind in 0..KINDS {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let names = json!({"plural": format!("kinds{kind}"), "singular": format!("kind{kind}"),
            "kind": format!("Kind{kind}")});
        let definition: CustomResourceDefinition = read(json!({
            "metadata": {"name": definition(kind)},
            "spec": {"group": "bench.example.com", "names": names, "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        }))?;
        definitions.create(&PostParams::default(), &definition).await?;
    }
    for namespace in [SMALL, LARGE] {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let create = |at| {
            let maps = maps.clone();
            async move {
                Ok::<_, anyhow::Error>(maps.create(&PostParams::default(), &read(config_map(namespace, at))?).await?)
            }
        };
        let creations = stream::iter((0..OBJECTS - KINDS * INSTANCES).map(create));
        creations.buffer_unordered(16).try_for_each(async |_| Ok(())).await?;
        for kind in 0..KINDS {
            instances(client, namespace, kind).await?;
        }
    }
    Ok(())
}

async fn instances(client: &Client, namespace: &str, kind: usize) -> Result<()> {
    let gvk = GroupVersionKind::gvk("bench.example.com", "v1", &format!("Kind{kind}"));
    let resource = ApiResource::from_gvk_with_plural(&gvk, &format!("kinds{kind}"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    for at in 0..INSTANCES {
        let blob = if namespace == LARGE && at == 0 { "x".repeat(100_000) } else { String::new() };
        let object = json!({"apiVersion": "bench.example.com/v1", "kind": format!("Kind{kind}"),
            "metadata": {"name": format!("one-{at}")}, "spec": {"blob": blob}});
        let object: DynamicObject = read(object)?;
        let mut tries = 0;
        // A definition is served a moment after it was made.
        while let Err(error) = api.create(&PostParams::default(), &object).await {
            tries += 1;
            ensure!(tries < 100, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// A Deployment with three ready pods behind a Service, and a claim with its volume.
pub fn deploy(cp: &ControlPlane) -> Result<()> {
    kubectl(cp, &format!("create namespace {APP}"), "")?;
    kubectl(cp, &format!("create deployment web --image=x --replicas=3 --port=80 -n {APP}"), "")?;
    kubectl(cp, &format!("expose deployment web -n {APP}"), "")?;
    kubectl(cp, &format!("rollout status deployment/web -n {APP}"), "")?;
    let size = json!({"storage": "1Gi"});
    let volume = |name: &str, claim: &str, policy: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": size, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": policy,
            "storageClassName": "", "hostPath": {"path": "/x"}, "claimRef": {"namespace": APP, "name": claim}}})
    };
    let claim = |name: &str, volume: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": APP},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
                "resources": {"requests": size}}})
    };
    let items = [
        volume("disk", "data", "Delete"),
        claim("data", "disk"),
        volume("disk-kept", "archive", "Retain"),
        claim("archive", "disk-kept"),
    ];
    kubectl(cp, "create -f -", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    let bound = "--for=jsonpath={.status.phase}=Bound pvc/data pvc/archive";
    kubectl(cp, &format!("wait --timeout=60s {bound} -n {APP}"), "")?;
    Ok(())
}

pub fn live(cp: &ControlPlane, kind: &str, name: &str) -> Result<Subject<'static>> {
    let output = kubectl(cp, &format!("get {kind} {name} -n {APP} -o json"), "")?;
    let metadata = serde_json::from_slice::<Value>(&output.stdout)?["metadata"].take();
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
    Ok(Subject {
        group: group.to_owned().into(),
        resource: resource.to_owned().into(),
        namespace: text("namespace").into(),
        name: text("name").into(),
        uid: text("uid").into(),
        ..Subject::default()
    })
}

fn kubectl(cp: &ControlPlane, line: &str, input: &str) -> Result<Output> {
    let mut command = cp.kubectl(User::Admin);
    command.args(line.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "kubectl {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}
