//! How long a deletion takes at a real API server: with nothing in its way, with a policy of the API server's own, with a
//! webhook that always says the same, and with Tagout. By turns in one run, one request at a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use authenticator::Kind;
use futures::future::try_join_all;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::constant::Constant;
use crate::figures::{Goal, Report, Samples, float, millis, number};
use crate::page::Page;
use crate::plot::Picture;
use crate::reviews::{self, Said};
use crate::stage::{Bare, Stage, base64, create, namespace};

/// What stands in a deletion's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Nothing,
    Policy,
    Constant,
    Tagout,
}

/// Objects in a namespace of their own.
struct Arm {
    name: &'static str,
    what: &'static str,
    guard: Guard,
    passes: bool,
    /// For Tagout: passes because so little is tolerated, not by approval.
    tolerated: bool,
}

const NONE: usize = 0;
const CONSTANT_ALLOWS: usize = 3;
const APPROVED: usize = 5;
const CONSTANT_REFUSES: usize = 7;
const REFUSED: usize = 8;

const ARMS: [Arm; 9] = [
    Arm::new("none", "no guard", Guard::Nothing, true),
    Arm::new("none-again", "no guard, once more", Guard::Nothing, true),
    Arm::new("policy", "admission policy, passes", Guard::Policy, true),
    Arm::new("constant", "constant webhook, passes", Guard::Constant, true),
    Arm { tolerated: true, ..Arm::new("tolerated", "Tagout, tolerated", Guard::Tagout, true) },
    Arm::new("approved", "Tagout, approved by a signature", Guard::Tagout, true),
    Arm::new("policy-refuses", "admission policy, refuses", Guard::Policy, false),
    Arm::new("constant-refuses", "constant webhook, refuses", Guard::Constant, false),
    Arm::new("refused", "Tagout, refuses", Guard::Tagout, false),
];

impl Arm {
    const fn new(name: &'static str, what: &'static str, guard: Guard, passes: bool) -> Self {
        Self { name, what, guard, passes, tolerated: false }
    }
}

const BYTES: usize = 6_000;
/// Rounds that are not counted: caches fill, connections are made.
const WARM_UP: usize = 3;

pub async fn measure(stage: &Stage, page: &Page) -> Result<Report> {
    let constant = Constant::start(stage.cp)?;
    let mut namespaces = Vec::new();
    for arm in &ARMS {
        let label = format!("latency-{}", arm.name);
        namespaces.push(stage.namespace(&label, json!({"rule": label})).await?);
        guard(stage, &constant, arm, &label).await?;
    }
    let (times, calls) = delete_by_turns(stage, &namespaces).await?;
    let mut report = Report::default();
    say(&mut report, &times, &calls);
    let picture = Picture {
        title: "One deletion at a time",
        x: "milliseconds",
        y: "part that took no longer",
        by_tens: true,
        lines: ARMS.iter().zip(&times).map(|(arm, times)| (arm.what.to_owned(), times.curve())).collect(),
    };
    picture.draw(&page.picture("latency"))?;
    report.line("![Distribution of the times](performance/latency.svg)\n");
    unmatched(stage, &mut report).await?;
    what_it_depends_on(stage, &mut report).await?;
    Ok(report)
}

async fn guard(stage: &Stage, constant: &Constant, arm: &Arm, label: &str) -> Result<()> {
    let selector = json!({"matchLabels": {"rule": label}});
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}]);
    match arm.guard {
        Guard::Nothing => {}
        Guard::Policy => {
            // As much as one can do: that somebody wrote the object's own UID into an annotation.
            let said = format!(
                "oldObject.metadata.?annotations['bench.example.com/{label}'].orValue('') == oldObject.metadata.uid"
            );
            let expression = if arm.passes { format!("!({said})") } else { said };
            let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": label}, "spec": {"failurePolicy": "Fail",
                    "matchConstraints": {"namespaceSelector": selector, "resourceRules": rules},
                    "validations": [{"expression": expression, "message": "nobody has approved it"}]}});
            create::<ValidatingAdmissionPolicy>(&Api::all(stage.client.clone()), policy).await?;
            let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": label},
                "spec": {"policyName": label, "validationActions": ["Deny"]}});
            create::<ValidatingAdmissionPolicyBinding>(&Api::all(stage.client.clone()), binding).await?;
        }
        Guard::Constant => {
            let path = if arm.passes { "allow" } else { "refuse" };
            let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration", "metadata": {"name": label}, "webhooks": [{
                    "name": format!("{label}.bench.example.com"), "sideEffects": "None",
                    "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "namespaceSelector": selector,
                    "rules": rules, "clientConfig": {"url": format!("https://{}/{path}", constant.address),
                        "caBundle": base64(constant.authority.as_bytes())}}]});
            create::<ValidatingWebhookConfiguration>(&Api::all(stage.client.clone()), webhook).await?;
        }
        Guard::Tagout => {
            let mut spec = reviews::rule(label);
            if arm.tolerated {
                spec["tolerate"] = json!({"objects": 1});
            }
            stage.rule(label, spec).await?;
        }
    }
    Ok(())
}

/// The times of each, and how often a webhook was asked about it.
async fn delete_by_turns(stage: &Stage, namespaces: &[Api<ConfigMap>]) -> Result<(Vec<Samples>, Vec<f64>)> {
    wait_until_guarded(stage, namespaces).await?;
    let rounds = stage.often(300, 15);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); ARMS.len()];
    let before = calls(stage)?;
    for round in 0..WARM_UP + rounds {
        let name = format!("object-{round}");
        try_join_all(namespaces.iter().zip(&ARMS).map(|(maps, arm)| {
            let said = if arm.tolerated || !arm.passes { Said::Nothing } else { Said::Signed(Kind::Ed25519) };
            stage.object(maps, &name, BYTES, said)
        }))
        .await?;
        // Each comes after each other one as often: what one leaves behind is not always another's.
        let mut order: Vec<usize> = (0..ARMS.len()).map(|at| (at + round) % ARMS.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let began = Instant::now();
            let deleted = namespaces[at].delete(&name, &DeleteParams::default()).await;
            let took = began.elapsed();
            if deleted.is_ok() != ARMS[at].passes {
                bail!("{}: {:?}", ARMS[at].what, deleted.map(|_| "deleted"));
            }
            if round >= WARM_UP {
                times[at].push(took);
            }
        }
    }
    let after = calls(stage)?;
    let each = ARMS.iter().map(|arm| {
        let count = |calls: &[(String, f64)]| {
            let label = format!("latency-{}.", arm.name);
            calls.iter().filter(|(name, _)| name.contains(&label)).map(|(_, count)| count).sum::<f64>()
        };
        (count(&after) - count(&before)) / float(WARM_UP + rounds)
    });
    Ok((times.into_iter().map(Samples::new).collect(), each.collect()))
}

/// The API server hears of policies and webhooks by watches of its own.
async fn wait_until_guarded(stage: &Stage, namespaces: &[Api<ConfigMap>]) -> Result<()> {
    for (maps, arm) in namespaces.iter().zip(&ARMS).filter(|(_, arm)| !arm.passes) {
        let began = Instant::now();
        loop {
            let name = format!("probe-{}", began.elapsed().as_millis());
            stage.object(maps, &name, 1000, Said::Nothing).await?;
            if maps.delete(&name, &DeleteParams::default()).await.is_err() {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "{} does not refuse", arm.what);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// By webhook, as the API server counts them.
fn calls(stage: &Stage) -> Result<Vec<(String, f64)>> {
    let metrics = stage.cp.apiserver_metrics()?;
    let lines = metrics.lines().filter(|line| line.starts_with("apiserver_admission_webhook_request_total{"));
    Ok(lines.filter_map(|line| Some((line.to_owned(), line.rsplit(' ').next()?.parse().ok()?))).collect())
}

fn say(report: &mut Report, times: &[Samples], calls: &[f64]) {
    let floor = times[NONE].median();
    let rows: Vec<Vec<String>> = ARMS
        .iter()
        .zip(times)
        .zip(calls)
        .map(|((arm, times), calls)| {
            let (from, to) = times.median_within();
            vec![
                arm.what.to_owned(),
                format!("{:.1} ({from:.1} to {to:.1})", times.median()),
                times.tail(900),
                times.tail(990),
                number(times.median() - floor),
                number(times.median() / floor),
                number(*calls),
            ]
        })
        .collect();
    let n = times[NONE].count();
    report.line(format!(
        "A ConfigMap of 6 kB is deleted, n = {n} each; in milliseconds, the median with its 95 % interval:\n"
    ));
    report.table(&["", "p50", "p90", "p99", "p50 added", "times no guard", "calls"], &rows);
    for (tagout, constant, what) in
        [(APPROVED, CONSTANT_ALLOWS, "an approved DELETE"), (REFUSED, CONSTANT_REFUSES, "a refused DELETE")]
    {
        let (tagout, constant) = (times[tagout].median(), times[constant].median());
        report.goals.push(Goal::new(format!("p50 of {what}: times a constant webhook's"), tagout / constant, 1.2, ""));
        report.goals.push(Goal::new(
            format!("p50 that Tagout adds to {what}, over no guard"),
            tagout - floor,
            1.0,
            " ms",
        ));
    }
}

/// A write that no rule is about, on a control plane with Tagout and on one without.
async fn unmatched(stage: &Stage, report: &mut Report) -> Result<()> {
    let bare = Bare::start().await?;
    let label = json!({"team": "nobodys"});
    let sides = [
        ("without Tagout", namespace(&bare.client, "unmatched", label.clone()).await?),
        ("without Tagout, once more", namespace(&bare.client, "unmatched-again", label.clone()).await?),
        ("with Tagout", namespace(&stage.client, "unmatched", label).await?),
    ];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); sides.len()];
    for (_, maps) in &sides {
        create::<ConfigMap>(maps, reviews::config_map("object", BYTES)).await?;
    }
    let rounds = stage.often(1500, 60);
    for round in 0..20 + rounds {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"round": round.to_string()}}}));
        for at in 0..sides.len() {
            let at = (at + round) % sides.len();
            let began = Instant::now();
            let written = sides[at].1.patch("object", &PatchParams::default(), &patch).await?;
            let took = began.elapsed();
            ensure!(written.annotations().contains_key("round"), "it is not written");
            if round >= 20 {
                times[at].push(took);
            }
        }
    }
    let times: Vec<Samples> = times.into_iter().map(Samples::new).collect();
    report.line(format!(
        "\nAn update that no rule is about, on two control planes by turns, n = {rounds} each, in milliseconds:\n"
    ));
    let rows: Vec<Vec<String>> = sides
        .iter()
        .zip(&times)
        .map(|((what, _), times)| {
            let (from, to) = times.median_within();
            vec![
                (*what).to_owned(),
                format!("{:.2} ({from:.2} to {to:.2})", times.median()),
                times.tail(900),
                times.tail(990),
            ]
        })
        .collect();
    report.table(&["", "p50", "p90", "p99"], &rows);
    let ratio = times[2].median() / times[0].median();
    report.goals.push(Goal::new(
        "an update that no rule is about: times without Tagout (5 % is what this can tell)",
        ratio,
        1.05,
        "",
    ));
    Ok(())
}

/// A refused deletion, the more kinds there are and the more there is beside it: what goes along is looked up live.
async fn what_it_depends_on(stage: &Stage, report: &mut Report) -> Result<()> {
    let (kinds, objects): (&[usize], &[usize]) =
        if stage.quick { (&[0, 20], &[0, 200]) } else { (&[0, 80, 230], &[0, 1_000, 10_000]) };
    let rounds = stage.often(25, 5);
    let rule = format!("latency-{}", ARMS[REFUSED].name);
    let mut namespaces = Vec::new();
    for objects in objects {
        let maps = stage.namespace(&format!("beside-{objects}"), json!({"rule": rule})).await?;
        stage.fill(&maps, *objects).await?;
        namespaces.push(maps);
    }
    let (mut rows, mut requests, mut made) = (Vec::new(), Vec::new(), 0);
    for kinds in kinds {
        stage.custom_kinds(made, *kinds).await?;
        made = *kinds;
        let asked = stage.asked()?;
        let mut row = vec![format!("{kinds} custom kinds")];
        for (maps, objects) in namespaces.iter().zip(objects) {
            let times = refuse(stage, maps, &format!("of-{kinds}"), rounds).await?;
            let longest = millis(times.quantile(1000));
            println!("  {kinds} custom kinds, {objects} objects: {:.0} ms", times.median());
            row.push(format!("{:.0} / {longest:.0}", times.median()));
        }
        let each = float(asked.count()?.values().sum()) / float((rounds + 1) * objects.len());
        requests.push(format!("{each:.0} with {kinds} custom kinds"));
        rows.push(row);
    }
    report.line(format!(
        "\nA refused deletion by what there is beside the object in its namespace, n = {rounds} each; the median and the \
         longest, in milliseconds:\n"
    ));
    let head: Vec<String> = objects.iter().map(|objects| format!("{objects} objects")).collect();
    let head: Vec<&str> = std::iter::once("").chain(head.iter().map(String::as_str)).collect();
    report.table(&head, &rows);
    report.line(format!("Requests that Tagout made of the API server for each: {}.\n", requests.join(", ")));
    Ok(())
}

async fn refuse(stage: &Stage, maps: &Api<ConfigMap>, prefix: &str, rounds: usize) -> Result<Samples> {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let name = format!("{prefix}-{round}");
        stage.object(maps, &name, BYTES, Said::Nothing).await?;
        let began = Instant::now();
        let refused = maps.delete(&name, &DeleteParams::default()).await;
        let took = began.elapsed();
        ensure!(refused.is_err(), "it is not refused");
        // Once for what was never asked for before.
        if round > 0 {
            times.push(took);
        }
    }
    Ok(Samples::new(times))
}
