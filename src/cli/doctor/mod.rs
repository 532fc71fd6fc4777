//! `kubectl tagout doctor`: what is open *here*. Everything is read once, as its user; then pure checks judge it.

mod access;
mod admission;
mod certificates;
mod config;
mod finding;
mod namespaces;
mod open;
mod own;
mod provider;
mod rbac;
mod render;
mod rights;
mod rules;
mod snapshot;
mod stock;
mod teams;
mod versions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use self::config::{Config, Ignored};
use self::finding::{Check, Finding, Severity, Stage, Unread};
use self::snapshot::Snapshot;
use super::connection::{Cluster, Connection};
use super::words::say;

/// Find what is open in this cluster, and say how to close it
///
/// Reads as its user, and changes nothing. What may not be read is said, never passed over.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:\n  \
    0  nothing at or above --fail-on\n  \
    1  it could not run\n  \
    2  the command line is wrong\n  \
    3  something at or above --fail-on\n  \
    4  nothing found, but not everything could be looked at\n\n\
    Examples:\n  \
    kubectl tagout doctor\n  \
    kubectl tagout doctor --stage hardened --fail-on note\n  \
    kubectl tagout doctor --config doctor.yaml -o json")]
pub struct Options {
    /// The format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// From which severity on the exit code is 3
    #[arg(long, value_enum, default_value_t = Severity::Warning, value_name = "SEVERITY")]
    fail_on: Severity,
    /// How far this cluster has come: at `audit` nothing has to refuse yet; at `hardened` what the chart leaves open by
    /// default is a warning, too
    #[arg(long, value_enum, default_value_t = Stage::Enforce)]
    stage: Stage,
    /// A file that says which findings are accepted, and why
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What may be left out where it cannot be read; may be given several times
    #[arg(long, value_enum, value_name = "CHECK")]
    allow_incomplete: Vec<Check>,
    /// Words by which namespaces of production are called, in names and labels
    #[arg(long, value_name = "WORDS", value_delimiter = ',', default_values_t = namespaces::WORDS.map(str::to_owned))]
    production_names: Vec<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Output {
    Text,
    Json,
}

/// What programs read. Fields are added, not changed, under the same version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    schema_version: &'static str,
    /// The UID of the kube-system namespace.
    cluster: Option<String>,
    server: Option<String>,
    user: String,
    time: Timestamp,
    stage: Stage,
    fail_on: Severity,
    exit_code: u8,
    summary: Summary,
    findings: Vec<Finding>,
    ignored: Vec<Ignored>,
    incomplete: Vec<Incomplete>,
}

#[derive(Serialize, Default)]
struct Summary {
    danger: usize,
    warning: usize,
    note: usize,
    ignored: usize,
}

#[derive(Serialize)]
struct Incomplete {
    #[serde(flatten)]
    unread: Unread,
    /// Whether whoever asked expects it.
    allowed: bool,
}

/// Its exit code stands for what was found.
pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<ExitCode> {
    let config = options.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let at = connection.open().await?;
    let report = Box::pin(report(options, &config, &at)).await?;
    match options.output {
        Output::Text => say(&render::text(&report))?,
        Output::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(ExitCode::from(report.exit_code))
}

async fn report(options: &Options, config: &Config, at: &Cluster) -> anyhow::Result<Report> {
    let snapshot = Box::pin(Snapshot::read(at)).await?;
    let stage = options.stage;
    let mut found = Vec::new();
    found.extend(access::check(&snapshot, stage));
    found.extend(certificates::check(&snapshot, stage));
    found.extend(admission::check(&snapshot, stage));
    found.extend(rules::check(&snapshot, stage));
    found.extend(namespaces::check(&snapshot, stage, &options.production_names));
    found.extend(open::check(&snapshot, stage));
    found.extend(teams::check(&snapshot, stage));
    found.extend(versions::check(&snapshot, stage));
    found.extend(own::check(&snapshot, stage));

    let mut unread = snapshot.unread.clone();
    unread.extend(own::unread(&snapshot));
    unread.sort();
    unread.dedup();
    let (mut findings, ignored) = config.part(found, unread.is_empty(), snapshot.now());
    findings.sort_by(|a, b| {
        (std::cmp::Reverse(a.severity), a.known.check, a.known.id, &a.object).cmp(&(
            std::cmp::Reverse(b.severity),
            b.known.check,
            b.known.id,
            &b.object,
        ))
    });
    let incomplete: Vec<_> = unread
        .into_iter()
        .map(|unread| Incomplete { allowed: options.allow_incomplete.contains(&unread.check), unread })
        .collect();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    Ok(Report {
        schema_version: "tagout.dev/doctor/v1",
        exit_code: exit_code(&findings, incomplete.iter().all(|one| one.allowed), options.fail_on),
        summary: Summary {
            danger: count(Severity::Danger),
            warning: count(Severity::Warning),
            note: count(Severity::Note),
            ignored: ignored.len(),
        },
        cluster: snapshot.cluster.clone(),
        server: snapshot.server.clone(),
        user: snapshot.setting.caller.name.clone(),
        time: snapshot.now(),
        stage,
        fail_on: options.fail_on,
        findings,
        ignored,
        incomplete,
    })
}

fn exit_code(findings: &[Finding], complete: bool, fail_on: Severity) -> u8 {
    match (findings.iter().any(|finding| finding.severity >= fail_on), complete) {
        (true, _) => 3,
        (false, false) => 4,
        (false, true) => 0,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::finding::PROOF_IDENTITY;
    use super::*;

    #[rstest]
    #[case(None, true, Severity::Warning, 0)]
    #[case(None, false, Severity::Warning, 4)]
    #[case(Some(Severity::Note), true, Severity::Warning, 0)]
    #[case(Some(Severity::Note), false, Severity::Warning, 4)]
    #[case(Some(Severity::Note), true, Severity::Note, 3)]
    #[case(Some(Severity::Warning), true, Severity::Warning, 3)]
    #[case(Some(Severity::Warning), false, Severity::Warning, 3)]
    #[case(Some(Severity::Warning), true, Severity::Danger, 0)]
    #[case(Some(Severity::Danger), false, Severity::Danger, 3)]
    fn pipelines_are_told_by_the_exit_code(
        #[case] found: Option<Severity>,
        #[case] complete: bool,
        #[case] fail_on: Severity,
        #[case] code: u8,
    ) {
        let findings: Vec<_> =
            found.map(|severity| Finding::new(&PROOF_IDENTITY, severity, "x", "y")).into_iter().collect();
        assert_eq!(exit_code(&findings, complete, fail_on), code);
    }
}
