//! `kubectl tagout preview`: what rules would have made of what happened, and what one would do. It changes nothing.
//!
//! An audit log is replayed through the very gate that decides: a cluster in memory, folded from the log's events, answers
//! what the gate looks up, and it is as late as it was then.

mod asked;
mod background;
mod captured;
mod departed;
mod entries;
mod events;
mod fold;
mod html;
mod judge;
mod kinds;
mod live;
mod patch;
mod proposed;
mod replay;
pub mod report;
mod selects;
mod served;
mod state;
mod tally;
mod uri;

use std::io::{IsTerminal, Read, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use self::background::{Background, enforce};
pub use self::events::Counted;
use self::replay::Replay;
use self::report::Report;
use self::served::Shared;
use super::connection::Connection;
use super::output::Document;
use super::words::say;

/// Show what rules would have refused of what happened, or what a rule in a file would do
///
/// Replays an API server's audit log through the same decision that the webhook makes. Rules are those of the cluster, as if
/// each enforced. What the log does not show is taken from the cluster as it is now, and said to be assumed.
///
/// With -f: what is wrong with the rules of a file, what they would cover and who would have to approve. Exit codes: 0 when
/// all of them may be applied; 2 when one has faults or is accepted from nobody; 3 when applying one needs an approval; 1 for
/// any other error.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
        kubectl tagout preview                                               # what rules in Audit and Warn have seen\n  \
        kubectl tagout preview --audit-log /var/log/kubernetes/audit.log\n  \
        kubectl tagout preview --audit-log audit/ --rules-from-log -o json   # as Tagout should have decided at the time\n  \
        kubectl tagout preview -f rule.yaml                                  # before it is applied\n  \
        kubectl tagout preview --capture cluster.json                        # for a preview elsewhere\n  \
        kubectl tagout preview --live --since 7d -o html > seen.html         # a page for others\n  \
        zcat audit-*.gz | kubectl tagout preview --audit-log - --snapshot cluster.json --offline")]
pub struct Options {
    /// Files and folders with audit events in JSON, compressed or not (- is standard input)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    audit_log: Vec<PathBuf>,
    /// Files with ProtectionRules, in YAML or JSON: what they would do in the cluster as it is (- is standard input)
    #[arg(short, long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["audit_log", "live", "log", "capture"])]
    filename: Vec<PathBuf>,
    /// Judge each request by the rules of its time, where the log shows them
    #[arg(long, requires = "audit_log")]
    rules_from_log: bool,
    /// What was in the cluster, as --capture wrote it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["live", "log", "capture"])]
    snapshot: Option<PathBuf>,
    /// What rules in mode Audit and Warn have seen, and others have refused, by the logs of Tagout's pods: this is shown
    /// where nothing else is asked for
    #[arg(long, conflicts_with_all = ["audit_log", "log", "capture", "offline"])]
    live: bool,
    /// With --live: since when, like 24h or 7d
    #[arg(long, value_name = "DURATION", value_parser = long_ago, conflicts_with_all = ["audit_log", "filename", "log", "capture"], default_value = "24h")]
    since: SignedDuration,
    /// The same, by files with Tagout's log as it is or as collectors wrap it (- is standard input)
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["audit_log", "capture"])]
    log: Vec<PathBuf>,
    /// Write down what is in the cluster, without what is secret, and end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["audit_log", "offline"])]
    capture: Option<PathBuf>,
    /// Do not ask the cluster
    #[arg(long)]
    offline: bool,
    /// The format
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Table,
    Json,
    /// One page with pictures, that needs nothing else
    Html,
}

/// With -f its exit code says what was found.
pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<ExitCode> {
    if options.filename.is_empty() {
        return happened(options, connection).await.map(|()| ExitCode::SUCCESS);
    }
    let found = proposed::look(&options.filename, scene(options, connection).await?).await?;
    match options.output {
        Output::Table => say(&found.text())?,
        Output::Json => Document::Json.print(&found)?,
        Output::Html => bail!("-o html is for what happened; with -f choose table or json"),
    }
    Ok(found.exit_code())
}

/// Where the rules of a file are looked at: in the cluster, unless there is a snapshot.
async fn scene(options: &Options, connection: &Connection) -> anyhow::Result<proposed::Scene> {
    let (background, client) = match &options.snapshot {
        Some(path) => (Background::file(path)?, None),
        None if options.offline => bail!("-f needs a cluster, or a --snapshot of one"),
        None => {
            let client = connection.open().await.context("use --snapshot for a preview without the cluster")?.client;
            (Background::live(&client).await?, Some(client))
        }
    };
    let own_namespace = background.own_namespace().unwrap_or_else(|| HOME.to_owned());
    Ok(proposed::Scene { background, client, own_namespace })
}

/// A duration with days and weeks, which have 24 hours here.
fn long_ago(text: &str) -> Result<SignedDuration, jiff::Error> {
    let span: Span = text.parse()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours())
}

/// Where Tagout runs, unless its entries say otherwise.
const HOME: &str = "tagout-system";

async fn happened(options: &Options, connection: &Connection) -> anyhow::Result<()> {
    if let Some(path) = &options.capture {
        let found = Background::live(&connection.open().await?.client).await?;
        for note in &found.notes {
            eprintln!("{}", super::words::printable(note));
        }
        return found.write(path);
    }
    if options.audit_log.is_empty() && options.log.is_empty() {
        ensure!(
            !options.offline && options.snapshot.is_none(),
            "say what happened: --audit-log FILE, or --log FILE with Tagout's own log"
        );
        let cluster = connection.open().await?;
        let mut heard = live::Heard::default();
        heard.pods(&cluster, options.since).await?;
        return print(&heard.report(), options.output);
    }
    if !options.log.is_empty() {
        return print(&live::files(&options.log)?, options.output);
    }
    let (report, counted) = replayed(options, connection).await?;
    print(&report, options.output)?;
    ensure!(
        counted.unreadable * 100 <= counted.records,
        "{} of {} records are no audit events; name the API server's audit log in JSON (--audit-log-format=json)",
        counted.unreadable,
        counted.records
    );
    Ok(())
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => say(&report.text()),
        Output::Json => Document::Json.print(report),
        Output::Html => say(&html::page(report, Timestamp::now())?),
    }
}

async fn replayed(options: &Options, connection: &Connection) -> anyhow::Result<(Report, Counted)> {
    let mut sources = events::open(&options.audit_log)?;
    let background = match &options.snapshot {
        Some(path) => Background::file(path)?,
        None if options.offline => Background::default(),
        None => {
            let cluster = connection.open().await.context("use --offline for a preview without the cluster")?;
            Background::live(&cluster.client).await?
        }
    };
    let mut notes = background.notes.clone();
    let shared = Shared::default();
    let next = events::next(&mut sources)?;
    let begins = next.as_ref().map(|event| event.at);
    let own_namespace = background.own_namespace().unwrap_or_else(|| HOME.to_owned());
    background.lay(&mut shared.lock(), begins);
    if !options.rules_from_log {
        let (rules, unreadable) = background.rules();
        if !unreadable.is_empty() {
            notes.push(format!("these rules cannot be read and judge nothing here: {}", unreadable.join(", ")));
        }
        if rules.is_empty() {
            bail!("there are no ProtectionRules to judge by; give --rules-from-log, or a --snapshot that has some");
        }
        enforce(&mut shared.lock(), &rules, &own_namespace);
    }
    if !background.objects.is_empty() {
        notes.push("what was gone before anybody looked, and the log does not show, is not counted".to_owned());
    }
    drop(background);
    let mut progress = Progress::new();
    let replay = Replay::new(shared, &own_namespace, options.rules_from_log);
    let told = Box::pin(told(replay, sources, next, notes, || progress.step())).await;
    progress.end();
    told
}

/// What a log says by itself: by the rules that it shows, and with nothing known but what stands in it.
pub async fn replayed_alone(log: Box<dyn Read>) -> anyhow::Result<(Report, Counted)> {
    let mut sources = vec![events::Source::of(log)?];
    let next = events::next(&mut sources)?;
    let shared = Shared::default();
    Background::default().lay(&mut shared.lock(), next.as_ref().map(|event| event.at));
    Box::pin(told(Replay::new(shared, HOME, true), sources, next, Vec::new(), || ())).await
}

async fn told(
    mut replay: Replay,
    mut sources: Vec<events::Source>,
    mut next: Option<events::Event>,
    mut notes: Vec<String>,
    mut step: impl FnMut(),
) -> anyhow::Result<(Report, Counted)> {
    while let Some(event) = next {
        replay.event(&event).await;
        step();
        next = events::next(&mut sources)?;
    }
    let mut counted = Counted::default();
    for source in &sources {
        counted.records += source.read.records;
        counted.unreadable += source.read.unreadable;
    }
    if counted.unreadable > 0 {
        notes.push(format!("{} of {} records are no audit events", counted.unreadable, counted.records));
    }
    Ok((replay.report("audit log".to_owned(), notes), counted))
}

/// How far it is, for whoever waits at a terminal.
struct Progress {
    shown: bool,
    events: u64,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { shown: stderr().is_terminal(), events: 0, last: Instant::now() }
    }

    fn step(&mut self) {
        self.events += 1;
        if self.shown && self.last.elapsed() > Duration::from_millis(500) {
            self.last = Instant::now();
            eprint!("\r{} events", self.events);
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}
