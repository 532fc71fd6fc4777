//! Where it is measured: a control plane with Tagout as the chart installs it, and one without.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use authenticator::Kind;
use base64ct::{Base64, Encoding};
use controlplane::{ControlPlane, Installation, Options, User};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tagout::api::{ApproverTeam, ProtectionRule};
use tokio::time::sleep;

use crate::load::{Peer, Process};
use crate::reviews::{self, Said};

pub struct Stage {
    pub cp: &'static ControlPlane,
    pub tagout: Installation<'static>,
    pub client: Client,
    /// The cluster's identity, as statements name it.
    pub cluster: String,
    /// How much less is done, so that it takes two minutes and not twenty.
    pub quick: bool,
}

/// A control plane without Tagout.
pub struct Bare {
    pub cp: &'static ControlPlane,
    pub client: Client,
}

const NAMESPACE: &str = controlplane::installation::NAMESPACE;
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests that the harness itself has in flight when it makes what is measured.
const AT_ONCE: usize = 16;
const GROUP: &str = "bench.example.com";

impl Stage {
    pub async fn start(program: &Path, quick: bool) -> Result<Self> {
        let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(&Options::default())?));
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tagout");
        let tagout = Installation::helm(cp, &chart, program, &["approvers.groups={senior-sre}"])?;
        let client = client(cp).await?;
        let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
        let stage = Self { cp, tagout, client, cluster: system.metadata.uid.context("a UID")?, quick };
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam",
            "metadata": {"name": reviews::TEAM}, "spec": reviews::team()});
        create::<ApproverTeam>(&Api::all(stage.client.clone()), team).await?;
        Ok(stage)
    }

    /// So many where there is time, and so many where it is to be quick.
    pub fn often(&self, often: usize, quick: usize) -> usize {
        if self.quick { quick } else { often }
    }

    pub async fn namespace(&self, name: &str, labels: Value) -> Result<Api<ConfigMap>> {
        namespace(&self.client, name, labels).await
    }

    /// A rule that is in force.
    pub async fn rule(&self, name: &str, spec: Value) -> Result<()> {
        let rules: Api<ProtectionRule> = Api::all(self.client.clone());
        let rule = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule", "metadata": {"name": name},
            "spec": spec});
        create(&rules, rule).await?;
        self.is_in_force(name).await?;
        // The API server hears of a configuration by a watch of its own.
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    pub async fn is_in_force(&self, rule: &str) -> Result<()> {
        let rules: Api<ProtectionRule> = Api::all(self.client.clone());
        let began = Instant::now();
        while rules.get(rule).await?.status.is_none_or(|status| status.observed_generation.is_none()) {
            ensure!(began.elapsed() < PATIENCE, "rule {rule} is not in force");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Makes an object and has it carry what people say.
    pub async fn object(&self, maps: &Api<ConfigMap>, name: &str, bytes: usize, said: Said) -> Result<Value> {
        let made = create(maps, reviews::config_map(name, bytes)).await?;
        match said {
            Said::Nothing => whole(&made),
            Said::Signed(kind) => approve(maps, &made, &self.cluster, kind).await,
        }
    }

    /// Whom the API server calls.
    pub async fn peer(&self, address: SocketAddr) -> Result<Peer> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = secrets.get("tagout-certificates").await?;
        let authority =
            secret.data.as_ref().and_then(|data| data.get("ca.crt")).context("the Secret has no authority")?;
        Peer::new(address, "tagout.tagout-system.svc", &authority.0)
    }

    pub fn process(&self) -> Result<Process> {
        Process::find("/tagout", &self.tagout.address().to_string())
    }

    /// What Tagout asks the API server for from now on.
    pub fn asked(&self) -> Result<Asked> {
        let mut file = File::open(self.cp.audit_log())?;
        let from = file.seek(SeekFrom::End(0))?;
        Ok(Asked { file, from })
    }

    /// Custom kinds, of which there is nothing.
    pub async fn custom_kinds(&self, from: usize, to: usize) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let each = (from..to).map(|number| {
            let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let names = json!({"plural": format!("kinds{number}"), "singular": format!("kind{number}"),
                "kind": format!("Kind{number}")});
            let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("kinds{number}.{GROUP}")},
                "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
            let definitions = definitions.clone();
            async move { create::<CustomResourceDefinition>(&definitions, definition).await }
        });
        stream::iter(each).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
        let Some(last) = to.checked_sub(1) else { return Ok(()) };
        let gvk = GroupVersionKind::gvk(GROUP, "v1", &format!("Kind{last}"));
        let resource = ApiResource::from_gvk_with_plural(&gvk, &format!("kinds{last}"));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let began = Instant::now();
        while api.list(&kube::api::ListParams::default()).await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "the custom kinds are not served");
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Small objects that belong to nobody.
    pub async fn fill(&self, maps: &Api<ConfigMap>, count: usize) -> Result<()> {
        let each = (0..count).map(|number| {
            let maps = maps.clone();
            async move { create::<ConfigMap>(&maps, reviews::config_map(&format!("filling-{number}"), 1000)).await }
        });
        stream::iter(each).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tagout.kill().ok();
        self.cp.discard();
    }
}

impl Bare {
    pub async fn start() -> Result<Self> {
        let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(&Options::default())?));
        Ok(Self { cp, client: client(cp).await? })
    }

    pub fn apiserver(&self) -> Result<Process> {
        apiserver(self.cp)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.cp.discard();
    }
}

/// The API server's own log, from a moment on.
pub struct Asked {
    file: File,
    from: u64,
}

impl Asked {
    /// The requests by Tagout since then, by verb and kind.
    pub fn count(mut self) -> Result<BTreeMap<String, usize>> {
        self.file.seek(SeekFrom::Start(self.from))?;
        let mut found = BTreeMap::new();
        for line in BufReader::new(self.file).lines() {
            let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
            if event["user"]["username"] == "system:serviceaccount:tagout-system:tagout"
                && event["stage"] == "ResponseComplete"
            {
                let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
                let kind = event["objectRef"]["resource"].as_str().unwrap_or("discovery").to_owned();
                *found.entry(format!("{} {kind}", text(&event["verb"]))).or_default() += 1;
            }
        }
        Ok(found)
    }
}

pub async fn create<K>(api: &Api<K>, object: Value) -> Result<K>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let object: K = serde_json::from_value(object)?;
    Ok(api.create(&PostParams::default(), &object).await?)
}

pub async fn namespace(client: &Client, name: &str, labels: Value) -> Result<Api<ConfigMap>> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    create::<Namespace>(&Api::all(client.clone()), object).await?;
    Ok(Api::namespaced(client.clone(), name))
}

/// Has an object carry the approval of its deletion.
pub async fn approve(maps: &Api<ConfigMap>, made: &ConfigMap, cluster: &str, kind: Kind) -> Result<Value> {
    let mut object = whole(made)?;
    let statements = reviews::statements(&object, cluster, kind, Timestamp::now())?;
    reviews::present(&mut object, &statements);
    let name = made.metadata.name.as_deref().unwrap_or_default();
    whole(&maps.replace(name, &PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// As the API server has it, with its kind.
fn whole(map: &ConfigMap) -> Result<Value> {
    let mut value = serde_json::to_value(map)?;
    value["apiVersion"] = json!("v1");
    value["kind"] = json!("ConfigMap");
    Ok(value)
}

fn apiserver(cp: &ControlPlane) -> Result<Process> {
    Process::find("/kube-apiserver", &cp.dir().display().to_string())
}

async fn client(cp: &ControlPlane) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cp.kubeconfig(User::Admin))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Whatever hangs ends the run, and not in silence.
    config.read_timeout = Some(PATIENCE);
    Ok(Client::try_from(config)?)
}

/// For a webhook's configuration.
pub fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}
