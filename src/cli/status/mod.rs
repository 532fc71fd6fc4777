//! `kubectl tagout status`: what is protected, whether that is in force, and what is open for destruction now.

mod approvals;
mod render;
mod rules;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::approvals::{OpenApproval, Unlisted};
use self::rules::RuleLine;
use super::cluster;
use super::connection::Cluster;
use super::kinds::Kinds;
use super::words::say;

/// Show the rules, whether they are in force, and what is approved now
///
/// Approvals are looked for on every kind that a rule names, in every namespace; with -n in that namespace only.
#[derive(Args, Debug)]
pub struct Options {
    /// The format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Output {
    Text,
    Json,
}

#[derive(Serialize, Debug)]
struct Report {
    rules: Vec<RuleLine>,
    approvals: Vec<OpenApproval>,
    /// Kinds of which nobody can say what is approved, with the reason.
    unlisted: Vec<Unlisted>,
}

pub async fn run(options: &Options, at: &Cluster) -> anyhow::Result<()> {
    let (protection, kinds, now) = tokio::try_join!(
        cluster::protection(&at.client),
        async { Kinds::discover(&at.client).await.map_err(cluster::plain) },
        cluster::now(&at.client)
    )?;
    let (approvals, unlisted) = approvals::open(at, &kinds, &protection.rules, now).await;
    let report = Report { rules: rules::lines(&protection), approvals, unlisted };
    match options.output {
        Output::Text => say(&render::text(&report, now)),
        Output::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
    }
}
