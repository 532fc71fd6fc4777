//! Where histories happen: a control plane with Tagout in three processes, and a client for everybody.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use controlplane::{ControlPlane, Installation, Options, User};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::world::{GROUP, definition};
use crate::replicas::Replicas;

pub struct Cluster {
    pub cp: &'static ControlPlane,
    clients: Vec<Client>,
    tagout: Mutex<(Installation<'static>, Replicas)>,
    /// The cluster's own identity, as statements name it.
    pub identity: String,
    pub epoch: String,
}

/// One request to the API server.
#[derive(Clone, Debug)]
pub struct Call {
    pub by: User,
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self { by: User::Admin, method: Method::GET, path: path.into(), body: None }
    }

    pub fn patch(by: User, path: impl Into<String>, body: Value) -> Self {
        Self { by, method: Method::PATCH, path: path.into(), body: Some(body) }
    }

    pub fn create(by: User, path: impl Into<String>, body: Value) -> Self {
        Self { by, method: Method::POST, path: path.into(), body: Some(body) }
    }

    pub fn delete(by: User, path: impl Into<String>) -> Self {
        Self { by, method: Method::DELETE, path: path.into(), body: None }
    }

    pub fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

impl Cluster {
    /// Installs this program, three times.
    pub async fn start(chart: &Path, binary: &Path) -> Result<Self> {
        let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(&Options::default())?));
        let kinds = format!("rbac.ownerKinds[0].apiGroups={{{GROUP}}},rbac.ownerKinds[0].resources={{widgets}}");
        let values = ["approvers.groups={senior-sre}", "rbac.secrets=true", "selfProtection.enabled=false", &kinds];
        let mut tagout = Installation::helm(cp, chart, binary, &values)?;
        let replicas = Replicas::start(&mut tagout, 3)?;
        let mut clients = Vec::new();
        for user in User::ALL {
            let kubeconfig = Kubeconfig::read_from(cp.kubeconfig(user))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            clients.push(Client::try_from(config)?);
        }
        let tagout = Mutex::new((tagout, replicas));
        let mut cluster = Self { cp, clients, tagout, identity: String::new(), epoch: String::new() };
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        cluster.call(Call::create(User::Admin, definitions, definition())).await?;
        cluster.identity = text(&cluster.call(Call::get("/api/v1/namespaces/kube-system")).await?["metadata"]["uid"]);
        let rule = "/apis/tagout.dev/v1alpha1/protectionrules/labelled-namespaces";
        let began = Instant::now();
        while cluster.epoch.is_empty() {
            ensure!(began.elapsed() < Duration::from_mins(2), "no epoch begins");
            tokio::time::sleep(Duration::from_millis(200)).await;
            cluster.epoch = text(&cluster.call(Call::get(rule)).await?["status"]["epoch"]);
        }
        Ok(cluster)
    }

    pub async fn call(&self, call: Call) -> Result<Value, kube::Error> {
        let body = call.body.map(|body| body.to_string()).unwrap_or_default();
        let kind = if call.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(call.method).uri(call.path).header("content-type", kind);
        let request = request.body(body.into_bytes()).expect("paths are made of names");
        self.clients[call.by as usize].request(request).await
    }

    /// The same, and again while nobody is there to decide.
    pub async fn insist(&self, call: Call) -> Result<Value, kube::Error> {
        let began = Instant::now();
        loop {
            match self.call(call.clone()).await {
                Err(error) if is_undecided(&error) && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answered => return answered,
            }
        }
    }

    /// Ends one of Tagout's processes at once and starts another.
    pub fn kill(&self) -> Result<()> {
        let mut tagout = self.tagout.lock().expect("nobody panics with it");
        let (installation, replicas) = &mut *tagout;
        replicas.lose_one(installation)
    }

    /// How often entries of this name were left out because no process answered.
    pub async fn let_pass_unasked(&self, entry: &str) -> Result<u64> {
        let request = Request::get("/metrics").body(Vec::new())?;
        let metrics = self.clients[User::Admin as usize].request_text(request).await?;
        let of_entry = format!("name=\"{entry}\"");
        let lines = metrics.lines().filter(|line| line.starts_with("apiserver_admission_webhook_fail_open_count{"));
        Ok(lines
            .filter(|line| line.contains(&of_entry))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    /// Returns when a rule is in force as it was last written.
    pub async fn in_force(&self, rule: &str) -> Result<()> {
        let path = format!("/apis/tagout.dev/v1alpha1/protectionrules/{rule}");
        let began = Instant::now();
        loop {
            let rule = self.call(Call::get(&path)).await.context("the rule")?;
            if rule["status"]["observedGeneration"] == rule["metadata"]["generation"] {
                break;
            }
            if began.elapsed() > Duration::from_mins(1) {
                bail!("it is not in force: {}", rule["status"]);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The API server and the other replicas hear of it by watches of their own.
        tokio::time::sleep(Duration::from_millis(800)).await;
        Ok(())
    }

    /// Approves a change of a rule, or its end.
    pub async fn permit(&self, by: User, team: &str, rule: &str, new_spec: &str) -> Result<()> {
        let path = format!("/apis/tagout.dev/v1alpha1/protectionrules/{rule}");
        let live = self.insist(Call::get(&path)).await?;
        let now = jiff::Timestamp::now();
        let statement = json!({"action": "Loosen", "uid": live["metadata"]["uid"], "name": rule,
            "resource": "protectionrules.tagout.dev", "cluster": self.identity, "epoch": self.epoch,
            "approver": by.name(), "team": team, "newSpec": new_spec, "approvedAt": now.to_string(),
            "expires": (now + jiff::SignedDuration::from_mins(30)).to_string()});
        let annotation = &live["metadata"]["annotations"]["tagout.dev/approval"];
        let mut all: Vec<Value> =
            annotation.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        all.push(statement);
        self.insist(Call::patch(by, format!("{path}?fieldManager=tagout-approval"), presenting(&all, true))).await?;
        Ok(())
    }
}

/// Whether nobody has judged it: no process answered, or it says to try again.
pub fn is_undecided(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return true };
    let message = &status.message;
    message.contains("failed calling webhook")
        || message.contains("tagout:") && message.contains("try again") && !message.contains("needs approval")
        || message.contains("please apply your changes to the latest version")
        || status.code == 429 && !message.contains("tagout:")
        || status.code >= 500
}

pub const PATIENCE: Duration = Duration::from_mins(1);

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(tagout) = self.tagout.get_mut() {
            let _ = tagout.1.lose_all();
        }
        self.cp.discard();
    }
}

/// The patch that writes these statements, and the label that presents them.
pub fn presenting(statements: &[Value], presented: bool) -> Value {
    let annotation = Value::from(statements.to_vec()).to_string();
    let mut metadata = json!({"annotations": {"tagout.dev/approval": annotation}});
    if presented {
        metadata["labels"] = json!({"tagout.dev/approval": "true"});
    }
    json!({"metadata": metadata})
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
