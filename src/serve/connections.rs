use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// hyper counts the wait for the next request on an idle connection as reading headers. The API server keeps idle
/// connections for 90 s and does not repeat a POST that met a closing one.
const IDLE: Duration = Duration::from_mins(2);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// One API server holds at most 25 idle connections to a webhook, and one for each request in flight.
const MAX_CONNECTIONS: usize = 2048;
/// What is in flight when the process is asked to stop has this long to end.
const DRAIN: Duration = Duration::from_secs(15);

pub(super) fn tls(certificates: Arc<dyn ResolvesServerCert>) -> anyhow::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // The API server speaks HTTP/1.1 to Services.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `until` is over, then lets what is in flight end. Without TLS it is plain HTTP.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    until: impl Future<Output = ()>,
) {
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
    let Some(tls) = tls else { return speak(stream, &http, service, graceful).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, &http, service, graceful).await,
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => debug!("a TLS handshake took too long"),
    }
}

async fn speak<S>(stream: S, http: &http1::Builder, service: TowerToHyperService<Router>, graceful: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = graceful.watch(connection).await {
        debug!(%error, "a connection ended");
    }
}
