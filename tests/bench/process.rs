//! What the process itself takes: memory, descriptors, the time until it is ready, and what it does while nobody asks.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::body::Bytes;
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::figures::{Goal, Report, Samples, millis};
use crate::load::Peer;
use crate::reviews::{self, Said};
use crate::stage::Stage;

const RULE: &str = "loaded";
const CONNECTIONS: usize = 16;
const LARGE: usize = 1_000_000;

pub async fn measure(stage: &Stage) -> Result<Report> {
    let mut report = Report::default();
    let ready = start(stage).await?;
    let longest = millis(ready.quantile(1000));
    report.line(format!(
        "From start to ready, n = {}: {:.0} ms at the median, {longest:.0} ms at the most; certificates and rules were there.\n",
        ready.count(),
        ready.median()
    ));
    report.goals.push(Goal::new("start to ready, the longest", longest, 1000.0, " ms"));
    at_rest(stage, &mut report).await?;
    loaded(stage, &mut report).await?;
    Ok(report)
}

/// As a second replica, which finds everything in place.
async fn start(stage: &Stage) -> Result<Samples> {
    let mut times = Vec::new();
    for _ in 0..stage.often(10, 3) {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let peer = stage.peer(address).await?;
        let began = Instant::now();
        let mut child = stage.tagout.replica_on("another", address)?;
        let waited = wait(&peer, began).await;
        child.kill()?;
        child.wait()?;
        times.push(waited?);
    }
    Ok(Samples::new(times))
}

async fn wait(peer: &Peer, began: Instant) -> Result<Duration> {
    loop {
        if let Ok(mut connection) = peer.connect().await
            && connection.says_ok("/readyz").await.unwrap_or_default()
        {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < Duration::from_mins(1), "it does not become ready");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn at_rest(stage: &Stage, report: &mut Report) -> Result<()> {
    let process = stage.process()?;
    sleep(Duration::from_secs(if stage.quick { 2 } else { 45 })).await;
    let (asked, cpu) = (stage.asked()?, process.cpu()?);
    let minutes = if stage.quick { 0.2 } else { 1.0 };
    sleep(Duration::from_secs_f64(minutes * 60.0)).await;
    let (asked, cpu) = (asked.count()?, process.cpu()?.saturating_sub(cpu));
    let all: usize = asked.values().sum();
    let mut most: Vec<(&String, &usize)> = asked.iter().collect();
    most.sort_by(|one, other| other.1.cmp(one.1));
    let most: Vec<String> = most.into_iter().take(6).map(|(what, count)| format!("{count} {what}")).collect();
    let idle = process.memory("VmRSS")?;
    report.line(format!(
        "While nobody asks, with the chart's rules, in {minutes} minutes: {cpu:.0} ms of CPU, {all} requests to the API server \
         ({most}). Memory {idle:.1} MiB, {descriptors} descriptors.\n",
        cpu = millis(cpu),
        most = most.join(", "),
        descriptors = process.descriptors()?,
    ));
    report.goals.push(Goal::new("memory (RSS) idle", idle, 20.0, " MiB"));
    Ok(())
}

async fn loaded(stage: &Stage, report: &mut Report) -> Result<()> {
    stage.rule(RULE, reviews::rule(RULE)).await?;
    let maps = stage.namespace(RULE, json!({"rule": RULE})).await?;
    let process = stage.process()?;
    process.forget_peak()?;
    let before = process.descriptors()?;
    let time = Duration::from_secs(if stage.quick { 3 } else { 30 });
    let mut rows = Vec::new();
    for (size, bytes, passing) in
        [("6 kB", 6_000, false), ("1 MB", LARGE, false), ("1 MB, nothing looked up", LARGE, true)]
    {
        let answered = post(stage, &maps, bytes, passing, time).await?;
        let (now, most) = (process.memory("VmRSS")?, process.memory("VmHWM")?);
        rows.push(vec![
            format!("reviews of {size}"),
            format!("{}", answered),
            format!("{now:.1}"),
            format!("{most:.1}"),
            process.descriptors()?.to_string(),
        ]);
        report.goals.push(Goal::new(
            format!("memory (RSS) at the most, {CONNECTIONS} reviews of {size} at once"),
            most,
            40.0,
            " MiB",
        ));
    }
    // Idle connections to the API server are kept for a minute and a half.
    sleep(Duration::from_secs(if stage.quick { 2 } else { 100 })).await;
    report.line(format!("\n{CONNECTIONS} connections for {} s each, one after the other:\n", time.as_secs()));
    report.table(&["", "answered", "memory then, MiB", "at the most so far, MiB", "descriptors"], &rows);
    report.line(format!("Descriptors: {before} before, {} some time after.\n", process.descriptors()?));
    Ok(())
}

async fn post(
    stage: &Stage,
    maps: &kube::Api<k8s_openapi::api::core::v1::ConfigMap>,
    bytes: usize,
    under_way: bool,
    time: Duration,
) -> Result<usize> {
    let peer = stage.peer(stage.tagout.address()).await?;
    let path = format!("/v1/rules/{RULE}?timeout=30s");
    let mut object = stage.object(maps, &format!("object-{bytes}-{under_way}"), bytes, Said::Nothing).await?;
    if under_way {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-23T00:00:00Z");
    }
    let began = Instant::now();
    let each = (0..CONNECTIONS).map(|number| {
        // Each about an object of its own: what is found out about one is not another's.
        let mut own = object.clone();
        own["metadata"]["name"] = json!(format!("object-{number}"));
        let (peer, path, review) = (peer.clone(), path.clone(), Bytes::from(reviews::deletion(&own)));
        async move {
            let mut connection = peer.connect().await?;
            let mut answered = 0;
            while began.elapsed() < time {
                connection.post(&path, &review).await?;
                answered += 1;
            }
            anyhow::Ok(answered)
        }
    });
    Ok(try_join_all(each).await?.into_iter().sum())
}
