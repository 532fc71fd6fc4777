//! Connections taken, encrypted, and served until the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::certificates::Callers;

/// The certificates that a connection's client has shown, its own first. Every request carries them.
#[derive(Clone, Default)]
pub(super) struct Shown(pub(super) Arc<[CertificateDer<'static>]>);

/// hyper counts the wait for the next request on an idle connection as reading headers. The API server keeps idle
/// connections for 90 s and does not repeat a POST that met a closing one.
const IDLE: Duration = Duration::from_mins(2);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// One API server holds at most 25 idle connections to a webhook, and one for each request in flight.
const MAX_CONNECTIONS: usize = 2048;
/// What is in flight when the process is asked to stop has this long to end.
const DRAIN: Duration = Duration::from_secs(15);

/// With callers, clients are asked for a certificate; whether one without may have an answer is decided by the route.
pub fn tls(certificates: Arc<dyn ResolvesServerCert>, callers: Option<Arc<Callers>>) -> anyhow::Result<TlsAcceptor> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("TLS cannot be set up")?;
    let config = match callers {
        Some(callers) => config.with_client_cert_verifier(callers),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificates);
    // The API server speaks HTTP/1.1 to Services.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `until` is over, then lets what is in flight end. Without TLS it is plain HTTP.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, until: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let service = TowerToHyperService::new(router);

    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(
                        stream,
                        place,
                        tls.clone(),
                        http.clone(),
                        service.clone(),
                        graceful.watcher(),
                    ));
                }
                Err(error) => {
                    // Out of descriptors, most likely: the next try would fail the same at once.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = until => {}
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        warn!("some requests were still in flight");
    }
}

async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    graceful: Watcher,
) {
    // With Nagle's algorithm on, an answer in two segments waits 40 ms for a delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some(tls) = tls else { return speak(stream, Shown::default(), &http, service, graceful).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = Shown(stream.get_ref().1.peer_certificates().unwrap_or_default().into());
            speak(stream, shown, &http, service, graceful).await;
        }
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => debug!("a TLS handshake took too long"),
    }
}

async fn speak<S>(
    stream: S,
    shown: Shown,
    http: &http1::Builder,
    service: TowerToHyperService<Router>,
    graceful: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(shown.clone());
        service.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = graceful.watch(connection).await {
        debug!(%error, "a connection ended");
    }
}
