//! Ten minutes of deletions at a steady rate: how long the slowest wait, and what the process keeps of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use authenticator::Kind;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

use crate::figures::{Report, Samples, float, millis};
use crate::load::Process;
use crate::page::Page;
use crate::plot::Picture;
use crate::reviews::{self, Said};
use crate::stage::Stage;

const RULE: &str = "soaked";
const BYTES: usize = 6_000;
/// Objects whose deletion is refused, one after the other.
const KEPT: usize = 32;
/// Of so many deletions one is approved, and happens.
const APPROVED: u64 = 10;
/// Beyond this a request waits for another, and its waiting counts.
const IN_FLIGHT: usize = 256;

/// What was seen at one moment.
struct Look {
    minutes: f64,
    memory: f64,
    descriptors: usize,
}

pub async fn measure(stage: &Stage, page: &Page) -> Result<Report> {
    stage.rule(RULE, reviews::rule(RULE)).await?;
    let maps = stage.namespace(RULE, json!({"rule": RULE})).await?;
    for number in 0..KEPT {
        stage.object(&maps, &format!("kept-{number}"), BYTES, Said::Nothing).await?;
    }
    let most = capacity(&maps, Duration::from_secs(if stage.quick { 3 } else { 20 })).await?;
    let rate = (most / 2.0).max(1.0);
    let length = Duration::from_secs(if stage.quick { 20 } else { 600 });
    println!("  up to {most:.0} refused deletions a second; {rate:.1} for {} s", length.as_secs());
    let soaked = soak(stage, &maps, rate, length).await?;

    let mut report = Report::default();
    let times = Samples::new(soaked.times);
    report.line(format!(
        "Up to {most:.0} deletions a second were decided with four at a time. At half of that, {rate:.1} a second for {} s, \
         every tenth approved: n = {}, in milliseconds p50 {:.0}, p99 {}, p99.9 {}, the longest {:.0}, counted from when each \
         was due. Failed otherwise: {}.\n",
        length.as_secs(),
        times.count(),
        times.median(),
        times.tail(990),
        times.tail(999),
        millis(times.quantile(1000)),
        soaked.failed,
    ));
    let slope = slope(&soaked.looks, 0.2);
    let (first, last) = (soaked.looks.first().context("no look")?, soaked.looks.last().context("no look")?);
    report.line(format!(
        "Memory {:.1} MiB at the beginning and {:.1} MiB at the end; after the first fifth it changes by {slope:+.2} MiB a \
         minute. Descriptors: {} and {}.\n",
        first.memory, last.memory, first.descriptors, last.descriptors
    ));
    let picture = Picture {
        title: "Memory under a steady load",
        x: "minutes",
        y: "MiB",
        by_tens: false,
        lines: vec![("RSS".to_owned(), soaked.looks.iter().map(|look| (look.minutes, look.memory)).collect())],
    };
    picture.draw(&page.picture("soak"))?;
    report.line("![Memory](performance/soak.svg)\n");
    Ok(report)
}

/// How many are refused in a second, four at a time.
async fn capacity(maps: &Api<ConfigMap>, time: Duration) -> Result<f64> {
    let began = Instant::now();
    let each = (0..4).map(|client| async move {
        let mut done = 0;
        while began.elapsed() < time {
            let refused = maps.delete(&format!("kept-{client}"), &DeleteParams::default()).await;
            ensure!(refused.is_err(), "it is not refused");
            done += 1;
        }
        Ok(done)
    });
    let done: usize = futures::future::try_join_all(each).await?.into_iter().sum();
    Ok(float(done) / began.elapsed().as_secs_f64())
}

struct Soaked {
    times: Vec<Duration>,
    failed: usize,
    looks: Vec<Look>,
}

/// Whether an answer was as it should be, and how long it took from when it was due.
type Answers = Arc<Mutex<Vec<(bool, Duration)>>>;

async fn soak(stage: &Stage, maps: &Api<ConfigMap>, rate: f64, length: Duration) -> Result<Soaked> {
    let process = stage.process()?;
    let answers = Answers::default();
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let began = tokio::time::Instant::now();
    let mut looks = vec![look(process, Duration::ZERO)?];
    let mut looking = interval(Duration::from_secs(if stage.quick { 2 } else { 10 }));
    let mut tasks = JoinSet::new();
    let mut number = 0_u64;
    while began.elapsed() < length {
        let due = began + Duration::from_secs_f64(number_of(number) / rate);
        tokio::select! {
            () = sleep_until(due) => {}
            _ = looking.tick() => {
                looks.push(look(process, began.elapsed())?);
                continue;
            }
        }
        while tasks.try_join_next().is_some() {}
        let approved = number.is_multiple_of(APPROVED);
        let name = if approved { format!("going-{number}") } else { format!("kept-{}", number % KEPT as u64) };
        if approved {
            // Made before it is due, and beside it.
            let (maps, cluster, name) = (maps.clone(), stage.cluster.clone(), name.clone());
            let (places, answers) = (Arc::clone(&places), Arc::clone(&answers));
            tasks.spawn(async move {
                let made = make(&maps, &cluster, &name).await;
                let due = tokio::time::Instant::now();
                let told =
                    if made.is_ok() { delete(&maps, &name, true, due, &places).await } else { (false, Duration::ZERO) };
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            });
        } else {
            let (maps, places, answers) = (maps.clone(), Arc::clone(&places), Arc::clone(&answers));
            tasks.spawn(async move {
                let told = delete(&maps, &name, false, due, &places).await;
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            });
        }
        number += 1;
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_mins(1), ended).await.context("some are never answered")?;
    looks.push(look(process, began.elapsed())?);
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    let failed = answers.iter().filter(|(right, _)| !right).count();
    Ok(Soaked { times: answers.into_iter().map(|(_, took)| took).collect(), failed, looks })
}

async fn make(maps: &Api<ConfigMap>, cluster: &str, name: &str) -> Result<()> {
    let object = crate::stage::create::<ConfigMap>(maps, reviews::config_map(name, BYTES)).await?;
    crate::stage::approve(maps, &object, cluster, Kind::Ed25519).await.map(drop)
}

async fn delete(
    maps: &Api<ConfigMap>,
    name: &str,
    approved: bool,
    due: tokio::time::Instant,
    places: &Semaphore,
) -> (bool, Duration) {
    let _place = places.acquire().await;
    let deleted = maps.delete(name, &DeleteParams::default()).await;
    let right = match &deleted {
        Ok(_) => approved,
        // By Tagout, and for the reason that it should have.
        Err(kube::Error::Api(status)) => !approved && status.message.contains("needs approval"),
        Err(_) => false,
    };
    (right, due.elapsed())
}

fn look(process: Process, since: Duration) -> Result<Look> {
    Ok(Look {
        minutes: since.as_secs_f64() / 60.0,
        memory: process.memory("VmRSS")?,
        descriptors: process.descriptors()?,
    })
}

/// In MiB a minute, by least squares, without the first part.
fn slope(looks: &[Look], without: f64) -> f64 {
    let from = looks.last().map_or(0.0, |last| last.minutes) * without;
    let kept: Vec<&Look> = looks.iter().filter(|look| look.minutes >= from).collect();
    let mean = |of: fn(&Look) -> f64| kept.iter().map(|look| of(look)).sum::<f64>() / float(kept.len());
    let (minutes, memory) = (mean(|look| look.minutes), mean(|look| look.memory));
    let above: f64 = kept.iter().map(|look| (look.minutes - minutes) * (look.memory - memory)).sum();
    let below: f64 = kept.iter().map(|look| (look.minutes - minutes).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn number_of(number: u64) -> f64 {
    number as f64
}
