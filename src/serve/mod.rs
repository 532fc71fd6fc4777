//! The process: TLS, routes, limits, probes, and an orderly end.

pub mod connections;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::routing::get;
use clap::builder::NonEmptyStringValueParser;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::certificates::{Callers, Expiry, Keeper, Lives, Names, Source, length};
use crate::cluster::{Announcer, Cluster, Doorbell, RulesInForce};
use crate::gate::Gate;
use crate::notify::Notifier;
use crate::registrar::{Canary, Lock, LockOptions, Memory, Registrar, Service};
use crate::telemetry::{NotificationsChanged, Telemetry};

/// Serve the webhook and keep its entries in force.
///
/// Each option may be given again, and the later wins: what the chart sets can be followed by what a person wants. Only
/// the names of clients add up.
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

    /// Secret that holds the certificates; it is made if it does not exist, unless they are provided
    #[arg(long, default_value = "tagout-certificates", overrides_with = "certificates_secret")]
    pub certificates_secret: String,

    /// Keep Tagout's own configurations, and what runs in its namespace, as they are: but for whom people approved it
    #[arg(
        long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, overrides_with = "self_protection"
    )]
    pub self_protection: bool,

    /// A user who writes the Secrets with certificates as their work; may be given several times
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub secret_writer: Vec<String>,

    /// A Secret that is kept as it is, beside those of Tagout's own; may be given several times
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub keep_secret: Vec<String>,

    /// Who makes the certificates
    #[arg(long, value_enum, default_value = "own", overrides_with = "certificates")]
    pub certificates: Source,

    /// How long a certificate lives that Tagout makes; it is renewed when a third is left
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = length, overrides_with = "certificate_life")]
    pub certificate_life: Duration,

    /// How long an authority lives that Tagout makes; it is replaced when a third is left
    #[arg(long, value_name = "DURATION", default_value = "26280h", value_parser = length, overrides_with = "authority_life")]
    pub authority_life: Duration,

    /// How long every entry has to trust the next authority before certificates are by it; twice as long it trusts the last
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = length, overrides_with = "authority_overlap")]
    pub authority_overlap: Duration,

    /// Whom to notify, and of what (YAML; read again as it changes)
    #[arg(long, value_name = "FILE", overrides_with = "notifications")]
    pub notifications: Option<PathBuf>,

    /// Seconds between the request to stop and the last new connection: Services need a moment to look elsewhere
    #[arg(long, default_value_t = 10, overrides_with = "drain_delay")]
    pub drain_delay: u64,

    /// Answer reviews only to who shows a client certificate by an authority in this file (PEM; read again as it changes)
    #[arg(long, value_name = "FILE", overrides_with = "client_ca")]
    pub client_ca: Option<PathBuf>,

    /// And only where this is the certificate's common name, or one of its DNS names; may be given several times
    #[arg(long, value_name = "NAME", requires = "client_ca", value_parser = NonEmptyStringValueParser::new())]
    pub client_name: Vec<String>,
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
    let lives = Lives {
        certificate: options.certificate_life,
        authority: options.authority_life,
        overlap: options.authority_overlap,
    };
    lives.check().map_err(anyhow::Error::msg)?;
    let callers = options.client_ca.map(|file| Callers::read(file, options.client_name)).transpose()?.map(Arc::new);
    let mut config = Config::infer().await.context(
        "no API server is configured: run in a pod with a service account, or set KUBECONFIG to a kubeconfig file",
    )?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let client = Client::try_from(config)?;

    let listener = listen(options.listen).await?;
    let metrics_listener = listen(options.metrics_listen).await?;
    let (announcer, announcing) = Announcer::new(client.clone());
    let notifier = Notifier::new();
    let telemetry = Arc::new(Telemetry::new(announcer, notifier.clone()));
    let bell = Doorbell::watching(&client);
    let rules = Arc::new(RulesInForce::none());
    let cluster = Arc::new(Cluster::connect(client.clone(), Arc::clone(&rules), options.namespace.clone()));
    let names = Names::of_service(&options.service, &options.namespace);
    let service = Service { namespace: options.namespace.clone(), name: options.service, port: options.service_port };
    let memory = Memory::new(client.clone(), Arc::clone(&telemetry));
    let canary = Canary::new(client.clone(), Arc::clone(&telemetry));
    let registrar =
        Registrar::new(client.clone(), service.clone(), Arc::clone(&telemetry), memory.used(), canary.heard());
    let how = (options.certificates, lives);
    let (namespace, secret) = (&options.namespace, &options.certificates_secret);
    let keeper = Keeper::new(client.clone(), namespace, secret, names, how, registrar.authorities());
    let (serving, authority) = (keeper.serving(), keeper.authority());
    let (registering, registered) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);

    let lock = Lock::new(
        client.clone(),
        Arc::clone(&cluster),
        Arc::clone(&telemetry),
        service,
        LockOptions {
            enabled: options.self_protection,
            secret_writers: options.secret_writer,
            secrets: [vec![options.certificates_secret], options.keep_secret].concat(),
        },
        canary.heard(),
    );
    let readiness =
        Readiness { rules: Arc::clone(&rules), authority: authority.clone(), registered: registered.clone(), stopping };
    let gate = Arc::new(Gate::new(cluster, Arc::clone(&telemetry)));
    let router = routes::router(gate, readiness, callers.clone());
    let notifying = {
        let telemetry = Arc::clone(&telemetry);
        let changed = move |told| NotificationsChanged { told }.emit(&telemetry);
        notifier.clone().follow(options.notifications, changed)
    };
    let counting = count_down(keeper.expiry(), Arc::clone(&telemetry));
    let metrics = Router::new().route("/metrics", get(async move || routes::metrics(&telemetry)));

    // None of these ends by itself. If one does, the process ends too and is started anew, instead of looking well.
    let mut tasks = JoinSet::new();
    tasks.spawn(keeper.run());
    tasks.spawn(counting);
    tasks.spawn(announcing);
    tasks.spawn(notifying);
    tasks.spawn(memory.run());
    if let Some(callers) = callers.clone() {
        tasks.spawn(callers.follow());
    }
    tasks.spawn(canary.run(registered));
    tasks.spawn(lock.run(bell.clone()));
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
        () = connections::serve(listener, Some(connections::tls(serving, callers)?), router, until) => {
            notifier.drain().await;
            info!("stopped");
            Ok(())
        }
        _ = tasks.join_next() => {
            notifier.drain().await;
            bail!("a task that must not end has ended; the log above says why")
        }
    }
}

/// Says in the metrics when certificates run out.
async fn count_down(mut expiry: watch::Receiver<Option<Expiry>>, telemetry: Arc<Telemetry>) {
    while expiry.changed().await.is_ok() {
        if let Some(Expiry { serving, authority }) = *expiry.borrow_and_update() {
            telemetry.certificates_end(serving, authority);
        }
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
