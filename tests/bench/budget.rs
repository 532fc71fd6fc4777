//! What a ceiling costs: `make bench-budget`. The same deletions under the same rule with and without one, and under none,
//! by turns in one run on a real control plane; and creations with and without `Recreate`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::{ControlPlane, Installation, Options, User};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ObjectMeta;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tagout::api::ProtectionRule;

/// One after the other, by turns.
const ONE_BY_ONE: usize = 150;
/// All at once, by so many.
const AT_ONCE: usize = 250;
const CLIENTS: usize = 16;

const KINDS: [&str; 3] = ["none", "rule", "ceiling"];

#[tokio::main]
async fn main() -> Result<()> {
    let binary = PathBuf::from(std::env::args().nth(1).context("name the program: target/release/tagout")?);
    println!("A control plane is started and Tagout installed ...");
    let cp = ControlPlane::start(&Options::default())?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tagout");
    let _tagout = Installation::helm(&cp, &chart, &binary, &["approvers.groups={senior-sre}"])?;
    let client = client(cp.kubeconfig(User::Admin)).await?;
    for kind in KINDS {
        let labels = [("rule".to_owned(), kind.to_owned())].into();
        let metadata = ObjectMeta { name: Some(kind.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    rule(&client, "rule", &json!(null)).await?;
    rule(&client, "ceiling", &json!({"count": 500, "window": "1h", "per": "Rule"})).await?;

    println!("{ONE_BY_ONE} creations and deletions one by one, by turns:");
    let mut creations: Vec<Vec<Duration>> = vec![Vec::new(); KINDS.len()];
    let mut deletions = creations.clone();
    for number in 0..ONE_BY_ONE {
        for (at, kind) in KINDS.iter().enumerate() {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), kind);
            let began = Instant::now();
            api.create(&PostParams::default(), &object(number)).await?;
            creations[at].push(began.elapsed());
            let began = Instant::now();
            api.delete(&name(number), &DeleteParams::default()).await?;
            deletions[at].push(began.elapsed());
        }
    }
    for (what, mut times) in [("create", creations), ("delete", deletions)] {
        for one in &mut times {
            one.sort();
        }
        for (kind, one) in KINDS.iter().zip(&times) {
            println!("  {what}  {kind:<8} p50 {:6.2} ms   p99 {:6.2} ms", millis(part(one, 50)), millis(part(one, 99)));
        }
        let ratio = |one: usize, other: usize| millis(part(&times[one], 50)) / millis(part(&times[other], 50));
        println!("  {what}  p50, rule / none: {:.2}; ceiling / rule: {:.2}", ratio(1, 0), ratio(2, 1));
    }

    println!("{AT_ONCE} deletions by {CLIENTS} clients at once:");
    let mut rates = Vec::new();
    for kind in KINDS {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), kind);
        let names: Vec<usize> = (ONE_BY_ONE..ONE_BY_ONE + AT_ONCE).collect();
        try_join_all(names.iter().map(async |number| api.create(&PostParams::default(), &object(*number)).await))
            .await?;
        let began = Instant::now();
        let each = names.chunks(AT_ONCE.div_ceil(CLIENTS)).map(async |names| {
            for number in names {
                api.delete(&name(*number), &DeleteParams::default()).await?;
            }
            Ok::<_, kube::Error>(())
        });
        for done in join_all(each).await {
            done?;
        }
        let rate = f64::from(u32::try_from(AT_ONCE)?) / began.elapsed().as_secs_f64();
        println!("  {kind:<8} {rate:6.0} deletions/s");
        rates.push(rate);
    }
    println!("  rule / none: {:.2}; ceiling / rule: {:.2}", rates[1] / rates[0], rates[2] / rates[1]);
    Ok(())
}

fn name(number: usize) -> String {
    format!("object-{number}")
}

fn object(number: usize) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name(number)), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// A rule that asks nobody about single ConfigMaps, so that what is measured is the counting alone; in force.
async fn rule(client: &Client, name: &str, ceiling: &Value) -> Result<()> {
    let rule: ProtectionRule = serde_json::from_value(json!({
        "apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule", "metadata": {"name": name},
        "spec": {"resources": [{"apiGroups": [""], "resources": ["configmaps"]}], "actions": ["Delete", "Recreate"],
            "namespaceSelector": {"matchLabels": {"rule": name}}, "tolerate": {"objects": 1}, "ceiling": ceiling,
            "approval": {"require": [{"anyOf": ["approvers"]}]}},
    }))?;
    let rules: Api<ProtectionRule> = Api::all(client.clone());
    rules.create(&PostParams::default(), &rule).await?;
    let began = Instant::now();
    while rules.get(name).await?.status.is_none_or(|status| status.observed_generation.is_none()) {
        ensure!(began.elapsed() < Duration::from_mins(1), "the rule is not in force");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

/// Of times in order, the one below which so many of a hundred are.
fn part(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
