//! `kubectl tagout impact`: what would go, before anything happens. It changes nothing.

mod graph;
mod named;
mod report;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use self::report::{Impact, Impacts};
use super::approve::change;
use super::case::{Case, Matter};
use super::cluster::Setting;
use super::connection::{Cluster, Connection};
use super::object::LiveObject;
use super::output::Document;
use super::said::Found;
use super::words::say;
use crate::api::Action;

/// Show what would go if an object were deleted, and who would have to approve it
///
/// What it takes along, pods that are ready now, Services that nothing would be left behind, volumes whose data would be
/// destroyed, and what the rules say of it. Reads only, and asks no webhook.
#[derive(Args, Debug)]
#[command(
    override_usage = "kubectl tagout impact (KIND/NAME... | KIND NAME...) [OPTIONS]\n       \
                      kubectl tagout impact [KIND...] -l SELECTOR [OPTIONS]\n       \
                      kubectl tagout impact -f FILE [OPTIONS]",
    after_help = "Examples:\n  \
        kubectl tagout impact ns/payments\n  \
        kubectl tagout impact deploy/api sts/db -n payments\n  \
        kubectl tagout impact deploy -l app=api -n payments\n  \
        kubectl tagout impact -f manifests.yaml                  # what kubectl delete -f would do\n  \
        kubectl tagout impact ns/payments -o dot | dot -Tsvg > payments.svg"
)]
pub struct Options {
    /// The objects: KIND/NAME..., or KIND NAME...; with -l kinds, by default those that rules name
    #[arg(required_unless_present_any = ["selector", "filename"], conflicts_with = "filename", value_name = "KIND/NAME")]
    objects: Vec<String>,
    /// All objects with these labels, like app=api,tier!=cache
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "filename")]
    selector: Option<String>,
    /// All objects in a file of one or several documents (- is standard input)
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,
    /// The format
    #[arg(short, long, value_enum, default_value = "tree")]
    output: Output,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Tree,
    Json,
    Dot,
    Mermaid,
}

pub async fn run(options: &Options, connection: &Connection) -> anyhow::Result<()> {
    let at = &connection.open().await?;
    let setting = Setting::read(&at.client).await?;
    let objects = named::objects(options, at, &setting).await?;
    ensure!(!objects.is_empty(), "there is nothing of that in the cluster");
    let mut impacts = Vec::with_capacity(objects.len());
    for object in objects {
        impacts.push(look(at, &setting, object).await?);
    }
    match options.output {
        Output::Json => Document::Json.print(&Impacts { impacts }),
        Output::Dot => say(&graph::dot(&impacts)),
        Output::Mermaid => say(&graph::mermaid(&impacts)),
        Output::Tree => {
            let texts: Vec<_> = impacts.iter().map(|impact| impact.text(is_coloured())).collect();
            say(&texts.join("\n"))
        }
    }
}

async fn look(at: &Cluster, setting: &Setting, object: LiveObject) -> anyhow::Result<Impact> {
    let mut notes = Vec::new();
    if object.is_terminating() {
        notes.push("it is being deleted already".to_owned());
    }
    let (object, matter) = if change::is_guarded(&object.kind, object.name()) {
        let copy = object.clone();
        match change::without_file(object, None, setting) {
            Ok(proposed) => (proposed.object, proposed.matter),
            Err(error) => {
                notes.push(error.to_string());
                (copy, Matter::Action(Action::Delete))
            }
        }
    } else {
        (object, Matter::Action(Action::Delete))
    };
    let mut case = Case::read(at, setting, object, matter).await?;
    let found = Found::all(&at.client, &case.object, case.place(), case.matter.action()).await;
    notes.extend(found.unknown.iter().cloned());
    case.said = found.open(&case.object, case.place(), setting.now).said;
    Ok(Impact::of(&case, notes))
}

/// Colours are for people.
pub fn is_coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
