//! `kubectl tagout get approvals`: what is approved now, everywhere.

use clap::{Args, ValueEnum};

use super::approvals::{self, OpenApproval};
use super::cluster::Setting;
use super::connection::Cluster;
use super::output::{Document, Named};
use super::words::{printable, say};

/// List every approval that stands somewhere now
///
/// On the objects that rules name, on Namespaces, rules and teams, and in Approvals; with -n of that namespace only.
#[derive(Args, Debug)]
pub struct Options {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// The format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum What {
    #[value(alias = "approval")]
    Approvals,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Output {
    Wide,
    Name,
    Json,
    Yaml,
}

pub async fn run(options: &Options, at: &Cluster) -> anyhow::Result<()> {
    let What::Approvals = options.what;
    let setting = Setting::read(&at.client).await?;
    let (approvals, unlisted) = approvals::open(at, &setting).await;
    for unlisted in &unlisted {
        eprintln!("Not looked at: {}: {}", unlisted.kind, printable(&unlisted.reason));
    }
    match options.output {
        Some(Output::Json) => Document::Json.print(&approvals),
        Some(Output::Yaml) => Document::Yaml.print(&approvals),
        Some(Output::Name) => {
            let mut names: Vec<_> = approvals.iter().map(|approval| format!("{}\n", approval.name())).collect();
            names.dedup();
            say(&names.concat())
        }
        _ if approvals.is_empty() => {
            eprintln!("No approvals are open.");
            Ok(())
        }
        Some(Output::Wide) => say(&approvals::wide_rows(&approvals, setting.now)),
        None => say(&approvals::rows(&approvals, setting.now)),
    }
}

impl Named for OpenApproval {
    fn name(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}
