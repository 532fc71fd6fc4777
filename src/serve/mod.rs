//! The process: TLS, routes, limits, probes, and an orderly end.

mod connections;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::routing::get;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::certificates::{Keeper, Names};
use crate::cluster::{Announcer, Cluster, Doorbell, RulesInForce};
use crate::gate::Gate;
use crate::registrar::{Registrar, Service};
use crate::telemetry::Telemetry;

/// Serve the webhook and keep its entries in force.
///
/// Each option may be given again, and the later wins: what the chart sets can be followed by what a person wants.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address and port of the webhook (TLS)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8443", overrides_with = "listen")]
    pub listen: SocketAddr,

    /// Address and port of the metrics (plain HTTP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9443", overrides_with = "metrics_listen")]
    pub metrics_listen: SocketAddr,

    /// Namespace of Tagout's own Service and Secret
    #[arg(long, env = "TAGOUT_NAMESPACE", overrides_with = "namespace")]
    pub namespace: String,

    /// Name of the Service through which the API server calls
    #[arg(long, default_value = "tagout", overrides_with = "service")]
    pub service: String,

    /// Port of that Service
    #[arg(long, default_value_t = 443, overrides_with = "service_port")]
    pub service_port: u16,

    /// Secret that holds the certificates; it is made if it does not exist
    #[arg(long, default_value = "tagout-certificates", overrides_with = "certificates_secret")]
    pub certificates_secret: String,

    /// Seconds between the request to stop and the last new connection: Services need a moment to look elsewhere
    #[arg(long, default_value_t = 5, overrides_with = "drain_delay")]
    pub drain_delay: u64,
}

/// What must be true before the API server may call this process.
#[derive(Clone)]
pub(crate) struct Readiness {
    rules: Arc<RulesInForce>,
    authority: watch::Receiver<Option<Vec<u8>>>,
    registered: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
}

impl Readiness {
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("stopping".to_owned());
        }
        if self.authority.borrow().is_none() {
            return Err("there is no usable certificate yet".to_owned());
        }
        self.rules.current().map_err(|error| error.to_string())?;
        if !*self.registered.borrow() {
            return Err("rules are not registered with the API server".to_owned());
        }
        Ok(())
    }
}

/// The API server ends a watch after five minutes at most; a connection silent for longer is dead.
const SILENCE: Duration = Duration::from_mins(6);

pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut config = Config::infer().await.context(
        "no API server is configured: run in a pod with a service account, or set KUBECONFIG to a kubeconfig file",
    )?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let client = Client::try_from(config)?;

    let listener = listen(options.listen).await?;
    let metrics_listener = listen(options.metrics_listen).await?;
    let telemetry = Arc::new(Telemetry::new());
    let bell = Doorbell::watching(&client);
    let rules = Arc::new(RulesInForce::none());
    let cluster = Arc::new(Cluster::connect(client.clone(), Arc::clone(&rules), options.namespace.clone()));
    let names = Names::of_service(&options.service, &options.namespace);
    let keeper = Keeper::new(client.clone(), &options.namespace, &options.certificates_secret, names);
    let (serving, authority) = (keeper.serving(), keeper.authority());
    let service = Service { namespace: options.namespace.clone(), name: options.service, port: options.service_port };
    let registrar = Registrar::new(client.clone(), service, Arc::clone(&telemetry));
    let (registering, registered) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);

    let readiness = Readiness { rules: Arc::clone(&rules), authority: authority.clone(), registered, stopping };
    let (announcer, announcing) = Announcer::new(client.clone());
    let gate = Arc::new(Gate::new(cluster, announcer, Arc::clone(&telemetry)));
    let router = routes::router(gate, readiness);
    let metrics = Router::new().route("/metrics", get(async move || routes::metrics(&telemetry)));

    // None of these ends by itself. If one does, the process ends too and is started anew, instead of looking well.
    let mut tasks = JoinSet::new();
    tasks.spawn(keeper.run());
    tasks.spawn(announcing);
    tasks.spawn(registrar.publisher(bell.clone()).run());
    tasks.spawn(registrar.run(bell.clone(), authority, registering));
    tasks.spawn(async move { rules.follow(client, bell, options.namespace).await });
    tasks.spawn(connections::serve(metrics_listener, None, metrics, std::future::pending()));
    info!(listen = %options.listen, metrics = %options.metrics_listen, version = env!("CARGO_PKG_VERSION"), "serving");

    let until = async move {
        asked_to_stop().await;
        info!("asked to stop");
        stop.send_replace(true);
        tokio::time::sleep(Duration::from_secs(options.drain_delay)).await;
    };
    tokio::select! {
        () = connections::serve(listener, Some(connections::tls(serving)?), router, until) => {
            info!("stopped");
            Ok(())
        }
        _ = tasks.join_next() => bail!("a task that must not end has ended; the log above says why"),
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen or --metrics-listen")
    })
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
