//! `make histories`: many random histories side by side, and a page that says what came of them.

#[path = "../cluster/balancer.rs"]
mod balancer;
#[path = "mod.rs"]
mod history;
#[path = "../cluster/replicas.rs"]
mod replicas;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Parser;
use futures::{StreamExt, stream};
use history::cluster::{Call, Cluster};
use history::model::Clause;
use history::run::{Plan, Report, choose, name};
use history::script::script;
use history::shrink::shrink;
use report::{Setting, Summary};

#[derive(Parser)]
struct Arguments {
    /// The program that is tried.
    #[arg(long, default_value = "target/release/tagout")]
    tagout: PathBuf,
    #[arg(long, default_value_t = 100_000)]
    operations: usize,
    /// The first; each further history has the next. By default a new one.
    #[arg(long)]
    seed: Option<u64>,
    /// Of each history.
    #[arg(long, default_value_t = 150)]
    length: usize,
    /// How many run side by side.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Also tries models that leave out a sentence, each for so many operations at most.
    #[arg(long, default_value_t = 0)]
    without: usize,
    /// Where the page is written.
    #[arg(long)]
    page: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    println!("A control plane is started and Tagout installed ...");
    let cluster = Cluster::start(&root.join("charts/tagout"), &arguments.tagout).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let first = arguments.seed.unwrap_or(now % 1_000_000 * 1000);
    let began = Instant::now();
    let histories = arguments.operations.div_ceil(arguments.length) as u64;
    println!("Seeds {first} to {} ...", first + histories - 1);
    let mut summary = Summary::default();
    let fault = Plan::default();
    let runs = (first..first + histories).map(|seed| one(&cluster, seed, arguments.length, &fault));
    let mut runs = stream::iter(runs).buffer_unordered(arguments.parallel);
    while let Some((seed, run)) = runs.next().await {
        let disagreement = match run {
            Ok((plan, report)) => {
                summary.add(&report);
                tell(&cluster, seed, &plan, &report).await?
            }
            Err(error) => Some(format!("seed {seed}: {error:#}")),
        };
        println!("{seed}: {}", disagreement.as_deref().unwrap_or("agrees"));
        summary.disagreements.extend(disagreement);
    }
    drop(runs);
    if arguments.without > 0 {
        let tries = Clause::ALL.map(|clause| until_found(&cluster, clause, first, &arguments));
        let mut tries = stream::iter(tries).buffer_unordered(arguments.parallel);
        while let Some((clause, found)) = tries.next().await {
            println!("without {clause:?}: {found:?}");
            summary.without.insert(clause, found);
        }
    }
    let kubernetes = cluster.call(Call::get("/version")).await?;
    let setting = Setting {
        seeds: (first, first + histories - 1),
        length: arguments.length,
        parallel: arguments.parallel,
        took: began.elapsed(),
        commit: &commit(root),
        kubernetes: kubernetes["gitVersion"].as_str().unwrap_or_default(),
    };
    let page = summary.page(&setting);
    match &arguments.page {
        Some(file) => fs::write(file, page)?,
        None => println!("{page}"),
    }
    ensure!(summary.disagreements.is_empty(), "{} histories disagree", summary.disagreements.len());
    Ok(())
}

async fn one(cluster: &Cluster, seed: u64, length: usize, fault: &Plan) -> (u64, Result<(Plan, Report)>) {
    (seed, choose(cluster, seed, length, true, fault).await)
}

/// Shrinks what disagrees, and writes it as a script.
async fn tell(cluster: &Cluster, seed: u64, plan: &Plan, report: &Report) -> Result<Option<String>> {
    let Some(found) = &report.disagreement else { return Ok(None) };
    let (short, trials) = shrink(cluster, &name(seed), plan, found).await?;
    let folder = Path::new("target/histories");
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("{seed}.sh"));
    fs::write(&file, script(&format!("{}-again", name(seed)), &short))?;
    let steps: Vec<String> = short.operations.iter().map(|one| format!("\n      {one:?}")).collect();
    Ok(Some(format!(
        "seed {seed}, {found}. {} of {} operations show it ({trials} tried), {}:{}",
        short.operations.len(),
        report.done.len(),
        file.display(),
        steps.concat(),
    )))
}

/// How many operations it took until a model without a sentence was found to be wrong.
async fn until_found(cluster: &Cluster, clause: Clause, first: u64, arguments: &Arguments) -> (Clause, Option<usize>) {
    let fault = Plan { without: Some(clause), ..Plan::default() };
    let mut done = 0;
    // Seeds of their own: names are taken by the seed.
    let mut seed = (first + 1_000_000) * 64 + clause as u64 * 100_000;
    while done < arguments.without {
        let Ok((_, report)) = choose(cluster, seed, arguments.length, false, &fault).await else { break };
        done += report.done.len();
        if report.disagreement.is_some() {
            return (clause, Some(done));
        }
        seed += 1;
    }
    (clause, None)
}

fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain", "--", "src", "charts"]).is_empty() { "" } else { ", changed" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}
