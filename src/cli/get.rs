//! `kubectl tagout get`: what is approved now, everywhere, and what was destroyed.

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::approvals::{self, OpenApproval};
use super::cluster::Setting;
use super::connection::{Cluster, Connection};
use super::history::{self, Style};
use super::output::{Document, Named};
use super::target::misused;
use super::words::{printable, say};

/// List every approval that stands somewhere now, or what was destroyed
///
/// `approvals`: on the objects that rules name, on Namespaces, rules and teams, and in Approvals. `history`: what was
/// destroyed, by whom and on whose approval, as far back as rules remember it. With -n of that namespace only.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    kubectl tagout get approvals\n  \
    kubectl tagout get history --since 2h\n  \
    kubectl tagout get history -n payments -o json")]
pub struct Options {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// Of the history: only what was destroyed so lately, like 30m or 2h
    #[arg(long, value_name = "DURATION", value_parser = since)]
    since: Option<SignedDuration>,
    /// The format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum What {
    #[value(alias = "approval")]
    Approvals,
    History,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Output {
    Wide,
    Name,
    Json,
    Yaml,
}

pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<()> {
    if let (What::Approvals, Some(_)) = (options.what, options.since) {
        misused("get", "--since is about the history: kubectl tagout get history --since 2h".to_owned());
    }
    let at = &connection.open().await?;
    match options.what {
        What::Approvals => approvals(options.output, at).await,
        What::History => {
            let style = match options.output {
                None => Style::Rows,
                Some(Output::Wide) => Style::WideRows,
                Some(Output::Name) => Style::Names,
                Some(Output::Json) => Style::Document(Document::Json),
                Some(Output::Yaml) => Style::Document(Document::Yaml),
            };
            history::print(at, options.since, style).await
        }
    }
}

async fn approvals(output: Option<Output>, at: &Cluster) -> anyhow::Result<()> {
    let setting = Setting::read(&at.client).await?;
    let (approvals, unlisted) = approvals::open(at, &setting).await;
    for unlisted in &unlisted {
        eprintln!("Not looked at: {}: {}", unlisted.kind, printable(&unlisted.reason));
    }
    match output {
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

fn since(text: &str) -> Result<SignedDuration, String> {
    let duration = text.parse::<SignedDuration>().map_err(|_| "write a duration like 30m, 2h or 1h30m".to_owned())?;
    if duration.is_positive() { Ok(duration) } else { Err("write how long ago, like 30m or 2h".to_owned()) }
}

impl Named for OpenApproval {
    fn name(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_lately_is_a_duration_that_lies_behind() {
        assert_eq!(since("2h"), Ok(SignedDuration::from_hours(2)));
        assert_eq!(since("1h30m"), Ok(SignedDuration::from_mins(90)));
        for wrong in ["", "2", "yesterday", "0s", "-2h"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
