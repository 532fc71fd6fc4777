//! Traces, by OTLP over HTTP, to where the environment says: `OTEL_EXPORTER_OTLP_ENDPOINT` and its like.
//!
//! A review begins a trace of its own, whatever it says of others: whoever forges reviews would decide what is kept.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as Exporter};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::notify::plain_client;

/// Sends spans until it is ended.
pub struct Traces {
    provider: SdkTracerProvider,
}

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: usize = 1 << 16;

impl Traces {
    /// Nothing where the environment names no place. To be called within the runtime.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
            return Ok(None);
        }
        let client = Sender { client: plain_client()?, runtime: Handle::current(), patience: patience(variable) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .context("traces cannot be sent; look at OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Ok(Some(Self::by(exporter)))
    }

    fn by(exporter: impl Exporter + 'static) -> Self {
        let resource = named(Resource::builder().build());
        Self { provider: SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build() }
    }

    /// Takes the spans of this program, and of none of its libraries.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.provider.tracer("tagout");
        // Lines of the log name objects, and a span would carry them along.
        let ours = filter_fn(|metadata| {
            metadata.is_span() && metadata.target().starts_with("tagout") && *metadata.level() <= Level::INFO
        });
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        let layer = layer.with_target(false).with_tracked_inactivity(false);
        layer.with_filter(ours)
    }

    /// Sends what is left.
    pub async fn end(self) {
        // It waits, as the tasks do that send.
        tokio::task::spawn_blocking(move || self.provider.shutdown().ok()).await.ok();
    }
}

/// As the environment names it, or else as what it is.
fn named(resource: Resource) -> Resource {
    const SERVICE: Key = Key::from_static_str("service.name");
    let is_unknown = |name: Value| name.as_str().starts_with("unknown_service");
    if !resource.get(&SERVICE).is_none_or(is_unknown) {
        return resource;
    }
    let attributes = resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes(attributes).with_service_name("tagout").build()
}

/// How long a collector has for an answer, in milliseconds.
fn patience(variable: impl Fn(&str) -> Option<String>) -> Duration {
    let given = TIMEOUTS.iter().find_map(|name| variable(name)?.trim().parse().ok());
    given.map_or(PATIENCE, Duration::from_millis)
}

/// The exporter has a thread of its own, outside of the runtime that connections need.
struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    /// The exporter sends nothing else until it has an answer, and asks for none in any time of its own.
    patience: Duration,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl HttpClient for Sender {
    fn send_bytes<'me, 'sent>(
        &'me self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'me: 'sent,
        Self: 'sent,
    {
        let client = self.client.clone();
        let sending = async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MOST).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let patience = self.patience;
        let sending = self.runtime.spawn(async move { timeout(patience, sending).await? });
        Box::pin(async move { sending.await? })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::Instant;

    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A receiver of OTLP, which says what it was sent.
    fn receiver() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).ok();
                let head = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
                let body = all.split_off(head);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
                say.send((String::from_utf8_lossy(&all).into_owned(), body)).ok();
            }
        });
        (url, said)
    }

    fn sender(patience: Duration) -> Sender {
        Sender { client: plain_client().unwrap(), runtime: Handle::current(), patience }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_hangs_is_not_waited_for_longer_than_the_environment_says() {
        let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
        let request = Request::post(format!("http://{}/", hangs.local_addr().unwrap())).body(Bytes::new()).unwrap();
        let began = Instant::now();
        let given = patience(|name| (name == "OTEL_EXPORTER_OTLP_TIMEOUT").then(|| "300".to_owned()));
        assert!(sender(given).send_bytes(request).await.is_err());
        assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
        for (set, expected) in [("", PATIENCE), ("soon", PATIENCE), ("1500", Duration::from_millis(1500))] {
            assert_eq!(patience(|_| Some(set.to_owned())), expected, "{set:?}");
        }
    }

    #[test]
    fn a_service_that_the_environment_names_keeps_its_name() {
        let service = |name: &'static str| named(Resource::builder_empty().with_service_name(name).build());
        for (given, expected) in [("unknown_service:tagout", "tagout"), ("guard-eu", "guard-eu")] {
            let name = service(given).get(&Key::from_static_str("service.name")).unwrap();
            assert_eq!(name.as_str(), expected);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_are_sent_with_what_is_bounded_and_without_lines_of_the_log() {
        let (url, said) = receiver();
        let exporter = SpanExporter::builder().with_http().with_http_client(sender(PATIENCE));
        let exporter = opentelemetry_otlp::WithExportConfig::with_endpoint(exporter, url).build().unwrap();
        let traces = Traces::by(exporter);
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            let review = info_span!(target: "tagout::gate", "review", entry = "rule", verdict = tracing::field::Empty);
            let _entered = review.enter();
            review.record("verdict", "deny");
            info!(target: "tagout::telemetry", name = "payments-database", "decided");
            info_span!(target: "tagout::gate", "facts").in_scope(|| {});
            info_span!(target: "hyper", "of-a-library").in_scope(|| {});
        });
        traces.end().await;
        let (head, body) = said.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(head.starts_with("POST /v1/traces"), "{head}");
        let body = String::from_utf8_lossy(&body);
        for sent in ["review", "facts", "verdict", "deny", "tagout"] {
            assert!(body.contains(sent), "{sent} is not in {body}");
        }
        for kept in ["payments-database", "of-a-library"] {
            assert!(!body.contains(kept), "{kept} is in {body}");
        }
    }
}
