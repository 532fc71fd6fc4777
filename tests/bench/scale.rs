//! What grows with the number of rules, of namespaces, and with the size of objects: for Tagout, in a process of its own
//! without sockets, and for the API server, which looks at every entry on every write.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tagout::api::ProtectionRule;
use tagout::entries::{self, Place};

use crate::driver::{Asked, Beside, Driver};
use crate::figures::{Goal, Report, Samples, float, number};
use crate::load::Process;
use crate::page::Page;
use crate::plot::Picture;
use crate::reviews::{self, Said};
use crate::stage::{Bare, create, namespace};

const SMALL: usize = 6_000;

pub async fn measure(quick: bool, page: &Page) -> Result<Report> {
    let mut report = Report::default();
    decisions(quick, &mut report).await?;
    entries_of_the_api_server(quick, page, &mut report).await?;
    Ok(report)
}

/// A refused deletion, in microseconds.
async fn decisions(quick: bool, report: &mut Report) -> Result<()> {
    let time = Duration::from_millis(if quick { 200 } else { 500 });
    let few = Beside { namespaces: 100, ..Beside::default() };
    let with = |alike, others| Beside { alike, others, ..few };
    let cases = [
        ("1 rule, 100 namespaces, 6 kB", few, SMALL),
        ("100 rules about other kinds", with(0, 99), SMALL),
        ("1,000 rules about other kinds", with(0, 999), SMALL),
        ("100 rules about the same kind elsewhere", with(99, 0), SMALL),
        ("1,000 rules about the same kind elsewhere", with(999, 0), SMALL),
        ("10,000 namespaces", Beside { namespaces: 10_000, ..few }, SMALL),
        ("an object of 1 kB", few, 1_000),
        ("an object of 100 kB", few, 100_000),
        ("an object of 1 MB", few, 1_000_000),
    ];
    let mut drivers = Vec::new();
    for (_, beside, bytes) in &cases {
        let asked = Asked { bytes: *bytes, said: Said::Nothing, under_way: false };
        drivers.push((Driver::new(asked, *beside)?, Spent::default(), Spent::default()));
    }
    let process = Process(std::process::id());
    for _ in 0..if quick { 1 } else { 5 } {
        for (driver, decided, read) in &mut drivers {
            let (before, began, mut calls) = (process.cpu()?, Instant::now(), 0);
            while began.elapsed() < time {
                driver.decide().await?;
                calls += 1;
            }
            decided.add(process.cpu()?.saturating_sub(before), calls);
            let before = process.cpu()?;
            for _ in 0..calls {
                driver.read()?;
            }
            read.add(process.cpu()?.saturating_sub(before), calls);
        }
    }
    let (decided, reading): (Vec<f64>, Vec<f64>) =
        drivers.into_iter().map(|(_, decided, read)| (decided.each(), read.each())).unzip();
    report.line("A refused deletion in one process, its look-ups answered from memory:\n");
    let rows: Vec<Vec<String>> = cases
        .iter()
        .zip(decided.iter().zip(&reading))
        .map(|((what, ..), (each, read))| {
            vec![(*what).to_owned(), number(*each), number(*read), number(each / decided[0])]
        })
        .collect();
    report.table(&["", "CPU, µs", "to read it once, µs", "times the first"], &rows);
    for (at, what) in [
        (2, "a decision among 1,000 rules about other kinds"),
        (4, "a decision among 1,000 rules about the same kind elsewhere"),
        (5, "a decision with 10,000 namespaces"),
        (8, "a decision about 1 MB"),
    ] {
        report.goals.push(Goal::new(
            format!("{what}: times that with few and 6 kB"),
            decided[at] / decided[0],
            1.2,
            "",
        ));
    }
    Ok(())
}

/// CPU, and the calls that it was spent on.
#[derive(Default)]
struct Spent(Duration, usize);

impl Spent {
    fn add(&mut self, cpu: Duration, calls: usize) {
        self.0 += cpu;
        self.1 += calls;
    }

    /// In microseconds.
    fn each(&self) -> f64 {
        self.0.as_secs_f64() * 1e6 / float(self.1)
    }
}

/// Writes that meet none of the entries.
async fn entries_of_the_api_server(quick: bool, page: &Page, report: &mut Report) -> Result<()> {
    let bare = Bare::start().await?;
    let maps = namespace(&bare.client, "written", json!({"team": "nobodys"})).await?;
    create::<ConfigMap>(&maps, reviews::config_map("object", SMALL)).await?;
    let numbers: &[usize] = if quick { &[0, 5, 50] } else { &[0, 5, 100, 1000] };
    let mut rows = Vec::new();
    let (mut cpu_line, mut p50_line) = (Vec::new(), Vec::new());
    let mut of_number = Vec::new();
    let mut there = 0;
    // There and back: what changes with time alone shows as a difference between the two.
    for rules in numbers.iter().chain(numbers.iter().rev().skip(1)) {
        if *rules >= there {
            install(&bare, there, *rules).await?;
        } else {
            remove(&bare, *rules).await?;
        }
        there = *rules;
        come_to_rest(bare.apiserver()?).await?;
        let (cpu, times) = write(&bare, &maps, if quick { 100 } else { 1000 }).await?;
        let memory = bare.apiserver()?.memory("VmRSS")?;
        println!("  {rules} rules: {:.2} ms, {cpu:.2} ms of CPU", times.median());
        of_number.push((*rules, times.median(), cpu));
        let entries = entries_of(*rules);
        rows.push(vec![
            format!("{rules} rules, {entries} entries"),
            format!("{:.2}", times.median()),
            times.tail(990),
            format!("{cpu:.2}"),
            format!("{memory:.0}"),
        ]);
    }
    for rules in numbers {
        let of = |value: fn(&(usize, f64, f64)) -> f64| {
            let all: Vec<f64> = of_number.iter().filter(|one| one.0 == *rules).map(value).collect();
            all.iter().sum::<f64>() / float(all.len())
        };
        p50_line.push((float(*rules), of(|one| one.1)));
        cpu_line.push((float(*rules), of(|one| one.2)));
    }
    report.line("An update that meets none of the entries, at an API server alone, in order of measurement:\n");
    report.table(&["", "p50, ms", "p99, ms", "CPU of the API server, ms", "its memory, MiB"], &rows);
    let picture = Picture {
        title: "An update that no rule is about, by the number of rules",
        x: "rules",
        y: "milliseconds",
        by_tens: false,
        lines: vec![("p50".to_owned(), p50_line), ("CPU of the API server".to_owned(), cpu_line)],
    };
    picture.draw(&page.picture("rules"))?;
    report.line("![Updates by the number of rules](performance/rules.svg)\n");
    Ok(())
}

/// Each change of a configuration has the API server read all of them again.
async fn come_to_rest(process: Process) -> Result<()> {
    const LOOK: Duration = Duration::from_secs(1);
    for _ in 0..60 {
        let before = process.cpu()?;
        tokio::time::sleep(LOOK).await;
        if process.cpu()?.saturating_sub(before) < LOOK / 5 {
            return Ok(());
        }
    }
    println!("  the API server does not come to rest: what follows is too much");
    Ok(())
}

/// The configuration that Tagout keeps for a rule, as it comes with all actions.
fn configuration(number: usize) -> Result<ValidatingWebhookConfiguration> {
    let rule: ProtectionRule = serde_json::from_value(json!({
        "apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule",
        "metadata": {"name": format!("team-{number}"), "uid": format!("uid-{number}")},
        "spec": {"resources": [{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]},
                {"apiGroups": [""], "resources": ["configmaps", "secrets", "services", "persistentvolumeclaims"]}],
            "namespaceSelector": {"matchLabels": {"team": format!("team-{number}")}},
            "approval": {"require": [{"anyOf": ["approvers"]}]}}}))?;
    let place =
        Place { namespace: "tagout-system".to_owned(), service: "tagout".to_owned(), port: 443, ..Place::default() };
    let mut configuration = entries::compile(&rule, &[], &place);
    // The owner is not there, and the collector would remove what belongs to it; nor is there an authority.
    configuration.metadata.owner_references = None;
    for webhook in configuration.webhooks.iter_mut().flatten() {
        webhook.client_config.ca_bundle = None;
    }
    Ok(configuration)
}

fn entries_of(rules: usize) -> usize {
    configuration(0).ok().and_then(|one| one.webhooks).map_or(0, |webhooks| webhooks.len()) * rules
}

async fn install(bare: &Bare, from: usize, to: usize) -> Result<()> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(bare.client.clone());
    let each = (from..to).map(|number| {
        let api = api.clone();
        async move { anyhow::Ok(api.create(&PostParams::default(), &configuration(number)?).await?) }
    });
    stream::iter(each).buffer_unordered(8).try_for_each(async |_| Ok(())).await
}

async fn remove(bare: &Bare, left: usize) -> Result<()> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(bare.client.clone());
    let all = api.list_metadata(&ListParams::default()).await?;
    let number = |name: &str| name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
    let names = all.iter().map(ResourceExt::name_any).filter(|name| number(name).is_some_and(|number| number >= left));
    let each = names.collect::<Vec<_>>().into_iter().map(|name| {
        let api = api.clone();
        async move { api.delete(&name, &DeleteParams::default()).await.map(drop) }
    });
    Ok(stream::iter(each).buffer_unordered(8).try_for_each(async |()| Ok(())).await?)
}

/// The API server's CPU for each write in milliseconds, and how long they took.
async fn write(bare: &Bare, maps: &Api<ConfigMap>, times: usize) -> Result<(f64, Samples)> {
    let process = bare.apiserver()?;
    let mut took = Vec::new();
    let mut before = process.cpu()?;
    for round in 0..20 + times {
        if round == 20 {
            before = process.cpu()?;
        }
        let patch = Patch::Merge(
            json!({"metadata": {"annotations": {"round": Instant::now().elapsed().as_nanos().to_string() + &round.to_string()}}}),
        );
        let began = Instant::now();
        let written = maps.patch("object", &PatchParams::default(), &patch).await?;
        took.push(began.elapsed());
        ensure!(written.annotations().contains_key("round"), "it is not written");
    }
    let cpu = process.cpu()?.saturating_sub(before);
    Ok((cpu.as_secs_f64() * 1000.0 / float(times), Samples::new(took.split_off(20))))
}
