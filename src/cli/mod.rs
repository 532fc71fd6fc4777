//! `kubectl tagout`: how a person looks at what is protected, and approves an exception.
//!
//! A client like kubectl itself: everything it does, it does as its user and through the API server. What needs
//! approval is asked of the same [`guard`](crate::guard) that the webhook asks.

mod approvals;
mod approve;
mod case;
mod cluster;
mod completion;
mod connection;
mod facts;
mod get;
mod goes;
mod impact;
mod kinds;
mod object;
mod output;
mod requests;
mod review;
mod revoke;
mod said;
mod statements;
mod status;
mod target;
mod verify;
mod words;

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
    Get(get::Options),
    Status(status::Options),
    Verify(verify::Options),
    Completion(completion::Options),
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let connection = arguments.connection;
    match arguments.command {
        Command::Review(options) => review::run(&options, &connection).await,
        Command::Approve(options) => approve::run(options, &connection).await,
        Command::Revoke(options) => revoke::run(&options, &connection).await,
        Command::Impact(options) => impact::run(&options, &connection).await,
        Command::Get(options) => get::run(&options, &connection.open().await?).await,
        Command::Status(options) => status::run(&options, &connection.open().await?).await,
        Command::Verify(options) => verify::run(&options),
        Command::Completion(options) => completion::run(&options),
    }
}
