//! `kubectl tagout`: how a person looks at what is protected, and approves an exception.
//!
//! A client like kubectl itself: everything it does, it does as its user and through the API server. What needs
//! approval is asked of the same [`guard`](crate::guard) that the webhook asks.

mod approvals;
mod approve;
mod approver;
mod barriers;
mod case;
mod cluster;
mod completion;
mod connection;
mod doctor;
mod facts;
mod get;
mod goes;
mod gone;
mod history;
mod impact;
mod kinds;
mod man;
mod object;
mod output;
pub mod preview;
mod requests;
mod review;
mod revoke;
mod said;
mod statements;
mod static_manifest;
mod status;
mod target;
mod unlock;
mod verify;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connection::Connection;

/// Look at what Tagout protects, and approve what may be destroyed.
#[derive(Parser)]
#[command(name = "kubectl-tagout", bin_name = "kubectl tagout", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    Review(review::Options),
    Approve(approve::Options),
    Revoke(revoke::Options),
    Impact(impact::Options),
    Preview(preview::Options),
    Get(get::Options),
    Status(status::Options),
    Doctor(doctor::Options),
    Verify(verify::Options),
    Unlock(unlock::Options),
    StaticManifest(static_manifest::Options),
    Completion(completion::Options),
    Man(man::Options),
}

/// What kubectl asks before anything is run: no command of ours, so that no help and no shell names it.
pub fn completes(words: &[String]) -> Option<anyhow::Result<()>> {
    let (first, typed) = words.split_first()?;
    (first == completion::ASKED).then(|| completion::complete(typed))
}

/// Most commands are done when nothing went wrong; the exit codes of doctor and preview say what they found.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let connection = arguments.connection;
    let done = match arguments.command {
        Command::Review(options) => review::run(&options, &connection).await,
        Command::Approve(options) => approve::run(options, &connection).await,
        Command::Revoke(options) => revoke::run(&options, &connection).await,
        Command::Impact(options) => impact::run(&options, &connection).await,
        Command::Preview(options) => return Box::pin(preview::run(&options, &connection)).await,
        Command::Get(options) => get::run(&options, &connection).await,
        Command::Status(options) => status::run(&options, &connection.open().await?).await,
        Command::Doctor(options) => return doctor::run(&options, &connection).await,
        Command::Verify(options) => verify::run(&options),
        Command::Unlock(options) => unlock::run(options, &connection).await,
        Command::StaticManifest(options) => static_manifest::run(&options),
        Command::Completion(options) => completion::run(&options),
        Command::Man(options) => man::run(&options),
    };
    done.map(|()| ExitCode::SUCCESS)
}
