use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::SignedDuration;
use rustls::pki_types::UnixTime;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Readiness;
use super::connections::Shown;
use crate::certificates::{Callers, Stranger};
use crate::gate::{Called, Gate, Unanswered};
use crate::telemetry::Telemetry;

/// Two objects of at most 3 MiB each, the API server's own limit for a request, and some room around them.
const MAX_BODY: usize = 7 * 1024 * 1024;
/// All bodies being read or decided at once, in KiB: anybody on the pod network can send one.
const BODIES: u32 = 28 * 1024;
/// The API server writes a review in one go; who takes longer is not it, or is behind a network that is down.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// The API server says how long it waits, 10 s where an entry says nothing and 30 s at most.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// Given back so that the refusal itself arrives in time.
const MARGIN: Duration = Duration::from_millis(300);

#[derive(Clone)]
struct Web {
    gate: Arc<Gate>,
    bodies: Arc<Semaphore>,
}

/// Where callers are known, nobody else is answered but by the probes, which are asked by who has no certificate.
pub(super) fn router(gate: Arc<Gate>, readiness: Readiness, callers: Option<Arc<Callers>>) -> Router {
    let leaving = readiness.clone();
    let web = Web { gate, bodies: Arc::new(Semaphore::new(BODIES as usize)) };
    let reviews = Router::new()
        .route("/v1/rules/{rule}", rule(|rule| Called::By(rule)))
        .route("/v1/rules/{rule}/beside", rule(|rule| Called::Beside(rule)))
        .route("/v1/rules/{rule}/conditions", rule(|rule| Called::Leaves(rule)))
        .route("/v1/approvals", post(approvals))
        .route("/v1/loosen", post(loosen))
        .route("/v1/returns", post(returns))
        .with_state(web.clone());
    let reviews = match callers {
        Some(callers) => reviews.layer(from_fn_with_state((web, callers), for_callers)),
        None => reviews,
    };
    reviews
        .layer(map_response(move |response| ready(ready_to_leave(&leaving, response))))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || probe(&readiness)))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "tagout: there is nothing here; see /v1/rules/NAME, /v1/returns, /v1/approvals and /v1/loosen\n",
            )
        })
        .method_not_allowed_fallback(async || {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "tagout: this path takes another method: POST for reviews, GET for probes\n",
            )
        })
}

async fn for_callers(
    State((web, callers)): State<(Web, Arc<Callers>)>,
    Extension(Shown(shown)): Extension<Shown>,
    request: Request,
    next: Next,
) -> Response {
    match callers.check(&shown, UnixTime::now()) {
        Ok(()) => next.run(request).await,
        Err(stranger) => web.respond(Err(Problem::Unauthenticated(stranger))),
    }
}

/// Once asked to stop, tells clients not to reuse their connection: a POST that meets a closing one is not repeated.
fn ready_to_leave(readiness: &Readiness, mut response: Response) -> Response {
    if readiness.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) fn metrics(telemetry: &Telemetry) -> Response {
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, open_metrics)], telemetry.metrics()).into_response()
}

fn probe(readiness: &Readiness) -> Response {
    match readiness.check() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

/// The path says how the API server came to ask.
fn rule(called: for<'a> fn(&'a str) -> Called<'a>) -> MethodRouter<Web> {
    post(
        async move |State(web): State<Web>,
                    Path(rule): Path<String>,
                    Query(wait): Query<Wait>,
                    headers: HeaderMap,
                    body: Body| {
            let answered = decide_rule(&web, called(&rule), &wait, &headers, body).await;
            web.respond(answered)
        },
    )
}

async fn decide_rule(
    web: &Web,
    called: Called<'_>,
    wait: &Wait,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, Problem> {
    let deadline = wait.deadline()?;
    let rule = called.rule();
    if rule.len() > 63 || !rule.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Problem::BadRequest("the path names no rule".to_owned()));
    }
    let (body, _room) = read(web, headers, body, deadline).await?;
    let decided = timeout_at(deadline, web.gate.rule(called, &body, deadline)).await.map_err(|_| Problem::TooLate)?;
    Ok(decided?)
}

async fn approvals(State(web): State<Web>, Query(wait): Query<Wait>, headers: HeaderMap, body: Body) -> Response {
    let answered = async {
        let deadline = wait.deadline()?;
        let (body, _room) = read(&web, &headers, body, deadline).await?;
        Ok(timeout_at(deadline, web.gate.approvals(&body)).await.map_err(|_| Problem::TooLate)??)
    };
    web.respond(answered.await)
}

async fn loosen(State(web): State<Web>, Query(wait): Query<Wait>, headers: HeaderMap, body: Body) -> Response {
    let answered = async {
        let deadline = wait.deadline()?;
        let (body, _room) = read(&web, &headers, body, deadline).await?;
        Ok(timeout_at(deadline, web.gate.loosen(&body)).await.map_err(|_| Problem::TooLate)??)
    };
    web.respond(answered.await)
}

async fn returns(State(web): State<Web>, Query(wait): Query<Wait>, headers: HeaderMap, body: Body) -> Response {
    let answered = async {
        let deadline = wait.deadline()?;
        let (body, _room) = read(&web, &headers, body, deadline).await?;
        Ok(timeout_at(deadline, web.gate.returns(&body, deadline)).await.map_err(|_| Problem::TooLate)??)
    };
    web.respond(answered.await)
}

impl Web {
    fn respond(&self, answered: Result<Vec<u8>, Problem>) -> Response {
        let problem = match answered {
            Ok(answer) => return ([(CONTENT_TYPE, "application/json")], answer).into_response(),
            Err(problem) => problem,
        };
        match &problem {
            // The gate has counted it.
            Problem::Unanswered(_) => {}
            Problem::Unauthenticated(stranger) => self.gate.failed("unauthenticated", &stranger.to_string()),
            Problem::BadRequest(text) => self.gate.failed("malformed", text),
            Problem::TooLarge => self.gate.failed("too_large", "a body larger than any review"),
            Problem::TooLate => self.gate.failed("too_late", "no decision in the time given"),
        }
        problem.into_response()
    }
}

#[derive(Deserialize)]
struct Wait {
    timeout: Option<String>,
}

impl Wait {
    fn deadline(&self) -> Result<Instant, Problem> {
        let timeout = match &self.timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => match text.parse::<SignedDuration>().map(Duration::try_from) {
                Ok(Ok(given)) => given,
                _ => return Err(Problem::BadRequest("timeout must be a duration such as 10s".to_owned())),
            },
        };
        Ok(Instant::now() + timeout.clamp(2 * MARGIN, MAX_TIMEOUT) - MARGIN)
    }
}

async fn read(
    web: &Web,
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), Problem> {
    let json = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json {
        return Err(Problem::BadRequest("Content-Type must be application/json".to_owned()));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::TooLarge);
    }
    let reading = async {
        let mut room = Arc::clone(&web.bodies).acquire_many_owned(0).await.map_err(|_| Problem::TooLate)?;
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024));
        let mut body = Limited::new(body, MAX_BODY);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Problem::TooLarge
                } else {
                    Problem::BadRequest("the body ended before it was complete".to_owned())
                }
            })?;
            if let Ok(data) = frame.into_data() {
                // Room is taken for what has come, not for what is promised: promises cost nothing.
                let kib = u32::try_from(data.len() / 1024 + 1).unwrap_or(BODIES);
                let more = Arc::clone(&web.bodies).acquire_many_owned(kib).await.map_err(|_| Problem::TooLate)?;
                room.merge(more);
                bytes.extend_from_slice(&data);
            }
        }
        Ok((bytes, room))
    };
    timeout_at(deadline.min(Instant::now() + BODY_TIMEOUT), reading).await.map_err(|_| Problem::TooLate)?
}

/// Why there is no answer. To the API server every one of these is a call that failed; none is ever "allowed".
enum Problem {
    Unauthenticated(Stranger),
    BadRequest(String),
    TooLarge,
    TooLate,
    Unanswered(Unanswered),
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Unauthenticated(stranger) => (
                StatusCode::FORBIDDEN,
                format!(
                    "tagout: {stranger}; this webhook answers only whoever shows a client certificate of --client-ca"
                ),
            ),
            Self::BadRequest(text) => (StatusCode::BAD_REQUEST, format!("tagout: {text}")),
            Self::Unanswered(error @ Unanswered::Malformed(_)) => (StatusCode::BAD_REQUEST, error.to_string()),
            // No Retry-After: with it the API server would try ten times while a person waits.
            Self::Unanswered(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("tagout: the body is larger than {} MiB, more than any review", MAX_BODY / 1024 / 1024),
            ),
            Self::TooLate => {
                (StatusCode::GATEWAY_TIMEOUT, "tagout: no decision in the time given; try again".to_owned())
            }
        };
        (status, text).into_response()
    }
}
