//! What it costs to find out what goes with a namespace: `make bench-radius`.
//!
//! A control plane, 60 custom kinds, and two namespaces of 5,000 objects, in one of which every tenth has 100 kB. Each
//! measurement runs in a process of its own, so that nothing but it is in the memory that is counted.

mod world;

use std::borrow::Cow;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use controlplane::{ControlPlane, Options, User};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tagout::cluster::{Cluster, RulesInForce};
use tagout::guard::{Radius, Subject};

const RUNS: usize = 10;
const BUDGET: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match *words {
        [] => measure_all().await,
        ["radius" | "list", kubeconfig, namespace] => measure(words[0], kubeconfig, namespace).await,
        _ => Err(anyhow::anyhow!("it takes no arguments")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure_all() -> Result<()> {
    println!("Starting a control plane ...");
    let cp = ControlPlane::start(&Options::default())?;
    let kubeconfig = cp.kubeconfig(User::Admin);
    let client = client(kubeconfig).await?;
    println!("Making {} custom kinds and twice {} objects ...", world::KINDS, world::OBJECTS);
    let began = Instant::now();
    world::populate(&client).await?;
    println!("  took {:.0} s", began.elapsed().as_secs_f64());

    let mut medians = Vec::new();
    for namespace in [world::SMALL, world::LARGE] {
        for what in ["list", "radius"] {
            // The first fills the API server's caches.
            let mut last = String::new();
            for _ in 0..2 {
                last = in_its_own_process(what, kubeconfig, namespace)?;
            }
            println!("{namespace:>6}  {what:<7} {last}");
            let median = last.split_whitespace().nth(1).context("no median")?;
            medians.push(median.parse::<f64>()?);
        }
    }
    for (namespace, pair) in [world::SMALL, world::LARGE].into_iter().zip(medians.chunks(2)) {
        println!("{namespace:>6}  radius / one list of whole ConfigMaps: {:.2}", pair[1] / pair[0]);
    }
    check(&cp, client).await
}

fn in_its_own_process(what: &str, kubeconfig: &Path, namespace: &str) -> Result<String> {
    let mut own = Command::new(std::env::current_exe()?);
    let output = own.arg(what).arg(kubeconfig).arg(namespace).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

/// Prints the median time and how far memory rose above where it was before the first run.
async fn measure(what: &str, kubeconfig: &str, namespace: &str) -> Result<()> {
    let client = client(Path::new(kubeconfig)).await?;
    let cluster = Cluster::connect(client.clone(), Arc::new(RulesInForce::none()), String::new());
    let root = root("", "namespaces", "", namespace);
    // Connected and read once, with next to nothing in it.
    cluster.radius(&self::root("", "namespaces", "", "kube-node-lease"), BUDGET).await;
    let before = memory("VmRSS")?;
    let (mut times, mut found) = (Vec::new(), String::new());
    for _ in 0..RUNS {
        let began = Instant::now();
        found = if what == "radius" {
            whole(&cluster.radius(&root, BUDGET).await)?
        } else {
            list(&client, namespace).await?
        };
        times.push(began.elapsed());
    }
    times.sort();
    println!(
        "median {:.0} ms (from {:.0} to {:.0}), memory +{:.1} MB at the peak, {found}",
        millis(times[RUNS / 2]),
        millis(times[0]),
        millis(times[RUNS - 1]),
        (memory("VmHWM")? - before) / 1024.0,
    );
    Ok(())
}

fn whole(radius: &Radius) -> Result<String> {
    ensure!(radius.is_complete(), "not everything could be listed: {:?}", radius.unlisted);
    Ok(format!("{} objects of {} kinds", radius.going.len(), radius.counts().len()))
}

/// As kubectl lists one kind: whole objects, in pages.
async fn list(client: &Client, namespace: &str) -> Result<String> {
    let objects: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let (mut params, mut count) = (ListParams::default().limit(500), 0);
    loop {
        let page = objects.list(&params).await?;
        count += page.items.len();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(format!("{count} objects of 1 kind")),
        }
    }
}

/// That the real API server answers as the code reads it.
async fn check(cp: &ControlPlane, client: Client) -> Result<()> {
    world::deploy(cp)?;
    let cluster = Cluster::connect(client.clone(), Arc::new(RulesInForce::none()), String::new());
    let cases = [
        ("a Deployment", world::live(cp, "deployments.apps", "web")?),
        ("a claim", world::live(cp, "persistentvolumeclaims", "data")?),
        ("the namespace", world::live(cp, "namespaces", world::APP)?),
        ("a definition", world::live(cp, "customresourcedefinitions.apiextensions.k8s.io", &world::definition(0))?),
        ("a node", world::live(cp, "nodes", "node-1")?),
    ];
    for (what, root) in cases {
        let began = Instant::now();
        let radius = cluster.radius(&root, BUDGET).await;
        println!(
            "{what}: {:.0} ms, {:?}, {} pods ready, lost {:?}, kept {:?}, bare {:?}, unlisted {:?}",
            millis(began.elapsed()),
            radius.counts(),
            radius.ready_pods(),
            radius.lost_volumes().map(|volume| &*volume.subject.name).collect::<Vec<_>>(),
            radius.kept_volumes().map(|volume| &*volume.subject.name).collect::<Vec<_>>(),
            radius.bare_services,
            radius.unlisted,
        );
    }
    let large = root("", "namespaces", "", world::LARGE);
    for budget in [5, 50, 150].map(Duration::from_millis) {
        let began = Instant::now();
        let radius = cluster.radius(&large, budget).await;
        let (took, unlisted) = (millis(began.elapsed()), radius.unlisted.len());
        println!("within {budget:?}: took {took:.0} ms, {} objects, {unlisted} kinds unlisted", radius.going.len());
    }
    let began = Instant::now();
    let four = [&cluster; 4].map(|cluster| cluster.radius(&large, BUDGET));
    let complete = futures::future::join_all(four).await.iter().all(Radius::is_complete);
    println!("four reviews of one request: {:.0} ms, complete: {complete}", millis(began.elapsed()));
    Ok(())
}

fn root(group: &'static str, resource: &'static str, namespace: &'static str, name: &str) -> Subject<'static> {
    Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: Cow::Owned(name.to_owned()),
        ..Subject::default()
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// In kB, as Linux counts it.
fn memory(which: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines() {
        if let Some(rest) = line.strip_prefix(which).and_then(|rest| rest.strip_prefix(':')) {
            return Ok(rest.trim().trim_end_matches(" kB").parse()?);
        }
    }
    bail!("there is no {which}")
}
