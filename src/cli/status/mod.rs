//! `kubectl tagout status`: what is protected, whether that is in force, and what is open for destruction now.

mod lock;
mod render;
mod rules;

use clap::{Args, ValueEnum};
use serde::Serialize;

pub use self::lock::{LockLine, unlocked_by};
use self::rules::RuleLine;
use super::approvals::{self, OpenApproval, Unlisted};
use super::cluster::Setting;
use super::connection::Cluster;
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
    /// What approvals with proof Identity have to name; absent: none counts yet.
    epoch: Option<String>,
    /// Whether Tagout itself is kept as it is.
    lock: LockLine,
    approvals: Vec<OpenApproval>,
    /// Kinds of which nobody can say what is approved, with the reason.
    unlisted: Vec<Unlisted>,
}

pub async fn run(options: &Options, at: &Cluster) -> anyhow::Result<()> {
    let setting = Setting::read(&at.client).await?;
    let (approvals, unlisted) = approvals::open(at, &setting).await;
    let protection = &setting.protection;
    let (rules, epoch) = (rules::lines(protection), protection.epoch.clone());
    let lock = LockLine::read(&at.client).await;
    let report = Report { rules, epoch, lock, approvals, unlisted };
    match options.output {
        Output::Text => say(&render::text(&report, setting.now)),
        Output::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
    }
}
