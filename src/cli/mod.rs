//! `kubectl tagout`: how a person looks at what is protected, and approves an exception.
//!
//! A client like kubectl itself: everything it does, it does as its user and through the API server. What needs
//! approval is asked of the same [`guard`](crate::guard) that the webhook asks.

mod approve;
mod cluster;
mod connection;
mod kinds;
mod status;
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
    Approve(approve::Options),
    Status(status::Options),
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = arguments.connection.open().await?;
    match arguments.command {
        Command::Approve(options) => approve::run(options, &cluster).await,
        Command::Status(options) => status::run(&options, &cluster).await,
    }
}
