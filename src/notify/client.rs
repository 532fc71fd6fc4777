use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client as Hyper, Error};
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::config::Settings;

/// Sends to one place, directly or through a proxy. Follows no redirects, and asks no environment.
pub(super) enum Client {
    Direct(Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Proxied(Hyper<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    Delivered,
    /// The receiver says that it is not as it should be.
    Refused(StatusCode),
    /// The receiver may take it later.
    Later {
        status: StatusCode,
        after: Option<Duration>,
    },
    /// Nobody answered: why, without saying where.
    Failed(&'static str),
}

const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

impl Client {
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let tls = trusting(&settings.authorities).context("caFile cannot be used")?;
        let http = connector();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // A connection that waited for hours is one that a firewall has forgotten.
        let mut client = Hyper::builder(TokioExecutor::new());
        let client = client.pool_max_idle_per_host(0);
        Ok(match &settings.proxy {
            None => Self::Direct(client.build(builder.wrap_connector(http))),
            Some(proxy) => Self::Proxied(client.build(builder.wrap_connector(Tunnel::new(proxy.clone(), http)))),
        })
    }

    pub async fn send(&self, settings: &Settings, content_type: &'static str, body: Vec<u8>) -> Attempt {
        let request = Request::post(settings.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header(USER_AGENT, concat!("tagout/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)));
        let Ok(mut request) = request else { return Attempt::Failed("no request can be made of it") };
        request.headers_mut().extend(settings.headers.clone());
        let answer = async {
            match self {
                Self::Direct(client) => client.request(request).await,
                Self::Proxied(client) => client.request(request).await,
            }
        };
        match timeout(PATIENCE, answer).await {
            Err(_) => Attempt::Failed("timeout"),
            Ok(Err(error)) => Attempt::Failed(reason(&error)),
            Ok(Ok(answer)) => judged(&answer),
        }
    }
}

fn connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http
}

/// TLS that trusts the web's authorities, and these.
fn trusting(authorities: &[CertificateDer<'static>]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What else the program sends to somewhere else goes by the same way.
#[cfg(feature = "otel")]
pub fn plain_client() -> anyhow::Result<Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(trusting(&[])?).https_or_http().enable_http1();
    Ok(Hyper::builder(TokioExecutor::new()).build(builder.wrap_connector(connector())))
}

/// Whatever an answer says beyond its status nobody reads.
fn judged(answer: &Response<Incoming>) -> Attempt {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|after| pause(after.to_str().ok()?, Timestamp::now()));
    of_status(status, after)
}

/// In seconds, or until a date. One that is over asks for nothing.
fn pause(after: &str, now: Timestamp) -> Option<Duration> {
    let after = after.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(after).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

fn of_status(status: StatusCode, after: Option<Duration>) -> Attempt {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    match status {
        status if status.is_success() => Attempt::Delivered,
        status if status.is_server_error() || later.contains(&status) => Attempt::Later { status, after },
        status => Attempt::Refused(status),
    }
}

/// In words that name no host: many a URL is a secret.
fn reason(error: &Error) -> &'static str {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = source {
        if let Some(error) = tls_fault(one) {
            return error;
        }
        source = one.source();
    }
    if error.is_connect() { "no_connection" } else { "broken_connection" }
}

fn tls_fault(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let rustls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref::<rustls::Error>());
    rustls.map(|error| match error {
        rustls::Error::InvalidCertificate(_) => "untrusted_certificate",
        _ => "tls",
    })
}

/// Of the program that asks: whether such certificates can be trusted at all.
pub(super) fn usable(authorities: &[CertificateDer<'static>]) -> bool {
    let mut roots = RootCertStore::empty();
    authorities.iter().all(|authority| roots.add(authority.clone()).is_ok())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::super::config::read;
    use super::*;

    /// Answers everything with this, and says the first lines of what it was asked.
    fn server(answers: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            for answer in answers {
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim_end().is_empty() {
                        break;
                    }
                    head.push(line.trim_end().to_owned());
                }
                say.send(head.remove(0)).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (address, said)
    }

    async fn sent(sink: &str) -> Attempt {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, format!("clusterName: a\nsinks: [{{name: a, {sink}}}]")).unwrap();
        let settings = read(&file).unwrap().remove(0);
        Client::new(&settings).unwrap().send(&settings, "application/json", b"{}".to_vec()).await
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_way_through() {
        const WAY: &str = "HTTP/1.1 200 OK\r\n\r\n";
        const TAKEN: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
        let (proxy, said) = server(&[WAY, TAKEN]);
        let sink = format!("url: 'http://sink.invalid:80/hook', insecureHttp: true, proxy: 'http://{proxy}'");
        assert_eq!(sent(&sink).await, Attempt::Delivered);
        assert_eq!(said.recv().unwrap(), "CONNECT sink.invalid:80 HTTP/1.1");
        assert_eq!(said.recv().unwrap(), "POST /hook HTTP/1.1");
    }

    #[tokio::test]
    async fn what_a_receiver_asks_for_is_heard_and_who_is_not_there_is_said_without_where() {
        const LATER: &str = "HTTP/1.1 429 X\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n";
        let (address, _said) = server(&[LATER]);
        let attempt = sent(&format!("url: 'http://{address}/', insecureHttp: true")).await;
        let after = Some(Duration::from_mins(1));
        assert_eq!(attempt, Attempt::Later { status: StatusCode::TOO_MANY_REQUESTS, after });
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let attempt = sent(&format!("url: 'http://{gone}/', insecureHttp: true")).await;
        assert_eq!(attempt, Attempt::Failed("no_connection"));
    }

    #[test]
    fn a_receiver_may_name_a_date() {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(pause("Sun, 22 Nov 2026 10:02:00 GMT", now), Some(Duration::from_mins(2)));
        assert_eq!(pause(" 60", now), Some(Duration::from_mins(1)));
        for nothing in ["Sun, 22 Nov 2026 09:00:00 GMT", "soon", "-1", ""] {
            assert_eq!(pause(nothing, now), None, "{nothing}");
        }
    }

    #[test]
    fn what_may_come_right_is_tried_again_and_what_is_wrong_is_not() {
        for (status, later) in
            [(500, true), (503, true), (429, true), (408, true), (425, true), (400, false), (302, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(matches!(of_status(status, None), Attempt::Later { .. }), later, "{status}");
        }
        assert_eq!(of_status(StatusCode::ACCEPTED, None), Attempt::Delivered);
    }
}
