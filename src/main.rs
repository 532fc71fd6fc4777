use anyhow::Context;
use clap::{Parser, Subcommand};
use tagout::{api, serve};
use tracing_subscriber::EnvFilter;

/// An admission webhook that lets nothing production depends on be destroyed until a person has signed for it.
#[derive(Parser)]
#[command(name = "tagout", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Options),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(options) => {
            let wanted = std::env::var("TAGOUT_LOG").unwrap_or_else(|_| "info".to_owned());
            let filter = EnvFilter::try_new(&wanted)
                .with_context(|| format!("TAGOUT_LOG={wanted:?} is no filter; write info, or tagout=debug"))?;
            tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
            serve::run(options).await
        }
        Command::Crds => {
            print!("{}", api::crds_yaml()?);
            Ok(())
        }
    }
}
