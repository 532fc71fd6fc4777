use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;
use kube::core::Request;
use tokio::time::{Instant, sleep, timeout_at};

use super::kinds::Kind;
use super::reduce::{Column, EndpointSlice, Envelope, Object, Row};
use super::split::{NoList, Splitter};
use crate::cluster::facts::is_segment;
use crate::guard::Listed;

const PAGE: u32 = 500;

/// Nobody reads a longer list, and an aggregated server could send one without end.
const MOST_OBJECTS: usize = 200_000;

/// Plain JSON is what servers send that know nothing of metadata alone; of that too only the metadata is kept.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const WHOLE: &str = "application/json";

/// The pauses before asking again an API server that is busy.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

/// What was found of one kind.
pub(super) struct Listing {
    pub(super) kind: String,
    pub(super) objects: Vec<Listed>,
    /// See [`Found::behind`](crate::guard::Found::behind).
    pub(super) behind: Vec<((String, String), Vec<String>)>,
    /// Why it is not all there is.
    pub(super) lacking: Option<String>,
}

/// Lists one kind after the other, until the time is over.
pub(super) struct Lister {
    client: Client,
    deadline: Instant,
    /// Whether it matters what is behind Services: then their slices have to be read as a whole.
    with_endpoints: bool,
    objects: AtomicUsize,
}

/// How a kind is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Metadata,
    /// As kubectl prints it: the state of pods and volumes, without their specs.
    Table,
    Slices,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused(StatusCode),
    Silent,
    Unreadable,
    TooMany,
    NoTime,
}

impl Lister {
    pub(super) fn new(client: Client, deadline: Instant, with_endpoints: bool) -> Self {
        Self { client, deadline, with_endpoints, objects: AtomicUsize::new(0) }
    }

    /// All objects of a kind, in one namespace or everywhere. Where one version cannot be served, as when its converter
    /// is dead, the next may.
    pub(super) async fn list(&self, kind: &Kind, namespace: Option<&str>) -> Listing {
        let mut best = Listing { kind: kind.name(), objects: Vec::new(), behind: Vec::new(), lacking: None };
        let mut first_fault = None;
        for version in &kind.versions {
            let mut pages = Pages::new(kind, self.shape(kind));
            let read = self.read(kind, version, namespace, &mut pages);
            let fault = match timeout_at(self.deadline, read).await {
                Ok(Ok(())) => pages.unreadable.then_some(Fault::Unreadable),
                Ok(Err(fault)) => Some(fault),
                Err(_) => Some(Fault::NoTime),
            };
            if fault.is_none() || pages.objects.len() >= best.objects.len() {
                (best.objects, best.behind) = (pages.objects, pages.behind);
            }
            let Some(fault) = fault else {
                return best;
            };
            first_fault.get_or_insert(fault);
            if !fault.is_of_version() {
                break;
            }
        }
        best.lacking = first_fault.map(|fault| fault.reason(&kind.name()));
        // Of half the slices a Service may seem to stand on fewer pods than it does.
        best.behind.clear();
        best
    }

    fn shape(&self, kind: &Kind) -> Shape {
        if kind.is("", "pods") || kind.is("", "persistentvolumes") {
            Shape::Table
        } else if self.with_endpoints && kind.is("discovery.k8s.io", "endpointslices") {
            Shape::Slices
        } else {
            Shape::Metadata
        }
    }

    async fn read(
        &self,
        kind: &Kind,
        version: &str,
        namespace: Option<&str>,
        pages: &mut Pages<'_>,
    ) -> Result<(), Fault> {
        self.in_time()?;
        let path = path(kind, version, namespace).ok_or(Fault::Unreadable)?;
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let before = pages.objects.len();
            let token = self.page(&path, &params, pages).await?;
            let found = pages.objects.len() - before;
            if self.objects.fetch_add(found, Ordering::Relaxed) + found > MOST_OBJECTS {
                return Err(Fault::TooMany);
            }
            match token {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    fn in_time(&self) -> Result<(), Fault> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Fault::NoTime) }
    }

    /// Reads one page and says where the next begins.
    async fn page(&self, path: &str, params: &ListParams, pages: &mut Pages<'_>) -> Result<Option<String>, Fault> {
        let mut body = self.ask(path, params, pages.shape).await?.into_body();
        let mut splitter = Splitter::default();
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame.map_err(|_| Fault::Silent)?.into_data() {
                splitter.feed(&chunk, |element| pages.add(element))?;
                // As long as there is always more to read, no timer is looked at.
                self.in_time()?;
            }
        }
        let envelope: Envelope = serde_json::from_slice(&splitter.finish()?).map_err(|_| Fault::Unreadable)?;
        let expected = if pages.shape == Shape::Table { "Table" } else { "List" };
        if !envelope.kind.ends_with(expected) {
            return Err(Fault::Unreadable);
        }
        pages.turn(&envelope.column_definitions);
        Ok(envelope.metadata.token.filter(|token| !token.is_empty()))
    }

    async fn ask(&self, path: &str, params: &ListParams, shape: Shape) -> Result<Response<Body>, Fault> {
        let mut pauses = PAUSES.iter();
        loop {
            let mut request = Request::new(path).list(params).map_err(|_| Fault::Unreadable)?;
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(shape.accepted()));
            let answer = self.client.send(request.map(Body::from)).await.map_err(|_| Fault::Silent)?;
            match (answer.status(), pauses.next()) {
                (status, _) if status.is_success() => return Ok(answer),
                (StatusCode::TOO_MANY_REQUESTS, Some(pause)) => sleep(*pause).await,
                (status, _) => return Err(Fault::Refused(status)),
            }
        }
    }
}

/// What has been read of one kind so far.
struct Pages<'k> {
    kind: &'k Kind,
    shape: Shape,
    objects: Vec<Listed>,
    behind: Vec<((String, String), Vec<String>)>,
    /// Lines of the page that is being read: what their columns mean is known at its end.
    rows: Vec<Row>,
    unreadable: bool,
}

impl<'k> Pages<'k> {
    fn new(kind: &'k Kind, shape: Shape) -> Self {
        Self { kind, shape, objects: Vec::new(), behind: Vec::new(), rows: Vec::new(), unreadable: false }
    }

    fn add(&mut self, element: &[u8]) {
        let read = match self.shape {
            Shape::Metadata => serde_json::from_slice::<Object>(element).map(|object| {
                self.objects.push(object.reduced(self.kind));
            }),
            Shape::Table => serde_json::from_slice(element).map(|row| self.rows.push(row)),
            Shape::Slices => serde_json::from_slice::<EndpointSlice>(element).map(|mut slice| {
                self.behind.extend(slice.behind());
                self.objects.push(slice.reduced(self.kind));
            }),
        };
        self.unreadable |= read.is_err();
    }

    fn turn(&mut self, columns: &[Column]) {
        self.objects.extend(self.rows.drain(..).map(|row| row.reduced(self.kind, columns)));
    }
}

impl Shape {
    fn accepted(self) -> &'static str {
        match self {
            Self::Metadata => METADATA,
            Self::Table => TABLE,
            Self::Slices => WHOLE,
        }
    }
}

impl Fault {
    /// Whether another version of the kind may do better.
    fn is_of_version(self) -> bool {
        match self {
            Self::Refused(status) => ![StatusCode::FORBIDDEN, StatusCode::GONE].contains(&status),
            Self::Unreadable => true,
            Self::Silent | Self::TooMany | Self::NoTime => false,
        }
    }

    fn reason(self, kind: &str) -> String {
        match self {
            Self::Refused(StatusCode::FORBIDDEN) => format!("Tagout may not list {kind}"),
            Self::Refused(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                "the API server does not serve it".to_owned()
            }
            Self::Refused(StatusCode::GONE) => "it changed too much while it was listed".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the API server answered {}", status.as_u16()),
            Self::Silent => f.write_str("the API server did not answer"),
            Self::Unreadable => f.write_str("the answer could not be read"),
            Self::TooMany => f.write_str("there are too many objects"),
            Self::NoTime => f.write_str(NO_TIME),
        }
    }
}

pub(super) const NO_TIME: &str = "there was not enough time";

impl From<NoList> for Fault {
    fn from(_: NoList) -> Self {
        Self::Unreadable
    }
}

/// Where the objects of a kind are listed; nothing, if a name cannot be one.
fn path(kind: &Kind, version: &str, namespace: Option<&str>) -> Option<String> {
    let prefix = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let place = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let groups = (!kind.group.is_empty()).then_some(kind.group.as_str());
    let mut segments = [version, &kind.plural].into_iter().chain(groups).chain(namespace);
    segments.all(is_segment).then(|| format!("{prefix}/{version}{place}/{}", kind.plural))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, plural: &str) -> Kind {
        let versions = vec!["v1".to_owned()];
        Kind { group: group.to_owned(), plural: plural.to_owned(), title: String::new(), versions, namespaced: true }
    }

    #[test]
    fn a_list_is_asked_for_where_the_kind_lives() {
        let path = |group, plural, namespace| path(&kind(group, plural), "v1", namespace);
        assert_eq!(path("", "pods", Some("n")).unwrap(), "/api/v1/namespaces/n/pods");
        assert_eq!(path("apps", "deployments", None).unwrap(), "/apis/apps/v1/deployments");
    }

    #[test]
    fn a_forged_namespace_leads_to_no_other_place() {
        for namespace in ["", "..", "a/b", "a?watch=1", "a%2fb", "a b", "n/secrets/x#"] {
            assert_eq!(path(&kind("", "pods"), "v1", Some(namespace)), None, "{namespace:?}");
        }
    }

    #[test]
    fn a_reason_names_the_kind_and_quotes_nothing() {
        let reason = |status| Fault::Refused(status).reason("secrets");
        assert_eq!(reason(StatusCode::FORBIDDEN), "Tagout may not list secrets");
        assert_eq!(reason(StatusCode::BAD_GATEWAY), "the API server answered 502");
        assert_eq!(Fault::NoTime.reason("secrets"), "there was not enough time");
    }
}
