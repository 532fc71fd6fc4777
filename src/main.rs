mod definitions;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use kube::{Client, Config};
use tagout::{api, notify, serve};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// An admission webhook that lets nothing production depends on be destroyed until a person has signed for it.
#[derive(Parser)]
#[command(name = "tagout", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Options>),
    /// Print the CustomResourceDefinitions as YAML, or apply them
    Crds {
        #[command(subcommand)]
        command: Option<Definitions>,
    },
    /// Ask a running Tagout whether it is ready, or try something else
    #[command(args_conflicts_with_subcommands = true)]
    Check {
        #[command(subcommand)]
        what: Option<Checked>,
        /// Where it says so
        #[arg(long, value_name = "URL", default_value = "https://tagout.tagout-system.svc/readyz")]
        url: http::Uri,
    },
}

#[derive(Subcommand)]
enum Checked {
    /// Send a test to everybody whom a file for `serve --notifications` names
    Notifications {
        /// That file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum Definitions {
    /// Print them as YAML, which is what happens without a word too
    Print,
    /// Write them to the cluster as this version needs them, and wait until the API server serves them
    Apply,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(options) => {
            let wanted = std::env::var("TAGOUT_LOG").unwrap_or_else(|_| "info".to_owned());
            let filter = EnvFilter::try_new(&wanted)
                .with_context(|| format!("TAGOUT_LOG={wanted:?} is no filter; write info, or tagout=debug"))?;
            // Without the spans: they are for traces.
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false).with_filter(filter);
            let subscriber = tracing_subscriber::registry().with(lines);
            #[cfg(feature = "otel")]
            {
                let traces = tagout::telemetry::Traces::from_environment();
                let (traces, fault) = traces.map_or_else(|fault| (None, Some(fault)), |traces| (traces, None));
                subscriber.with(traces.as_ref().map(tagout::telemetry::Traces::layer)).init();
                // A guard that does not start refuses everything.
                if let Some(fault) = fault {
                    tracing::error!(event = "no_traces", error = format!("{fault:#}"), "it goes on without traces");
                }
                let ended = serve::run(*options).await;
                if let Some(traces) = traces {
                    traces.end().await;
                }
                ended
            }
            #[cfg(not(feature = "otel"))]
            {
                subscriber.init();
                serve::run(*options).await
            }
        }
        Command::Crds { command: None | Some(Definitions::Print) } => {
            print!("{}", api::crds_yaml()?);
            Ok(())
        }
        Command::Crds { command: Some(Definitions::Apply) } => definitions::apply().await,
        Command::Check { what: Some(Checked::Notifications { config }), .. } => check_notifications(&config).await,
        Command::Check { what: None, url } => check(url).await,
    }
}

/// Says of each sink whether it took a test.
async fn check_notifications(config: &Path) -> anyhow::Result<()> {
    let outcomes = notify::test(config).await.map_err(anyhow::Error::msg)?;
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    for (sink, outcome) in &outcomes {
        match outcome {
            Ok(()) => println!("{sink}: it took the test"),
            Err(words) => println!("{sink}: {words}"),
        }
    }
    if outcomes.is_empty() {
        println!("{} names no sinks", config.display());
    }
    ensure!(failed == 0, "{failed} of {} sinks did not take it", outcomes.len());
    Ok(())
}

/// For `helm test`: the image has no other program that could ask.
async fn check(url: http::Uri) -> anyhow::Result<()> {
    let mut config = Config::new(url.clone());
    // Whoever may read the Secret with the authority is not who tests. Nothing is sent, and nothing but a word believed.
    config.accept_invalid_certs = true;
    // Or those of the system would be looked for, and the image has none.
    config.root_cert = Some(Vec::new());
    config.connect_timeout = Some(definitions::PATIENCE);
    config.read_timeout = Some(definitions::PATIENCE);
    let path = url.path_and_query().map_or("/readyz", http::uri::PathAndQuery::as_str).to_owned();
    // What comes before the path; a client puts its own path in between.
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some("/".parse()?);
    config.cluster_url = http::Uri::from_parts(parts)?;
    let request = http::Request::get(path).body(Vec::new())?;
    match Client::try_from(config)?.request_text(request).await {
        Ok(_) => {
            println!("{url}: ready");
            Ok(())
        }
        Err(error) => bail!("{url}: {}", api::printable(&definitions::words(&error))),
    }
}
