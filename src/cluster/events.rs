//! Events: what was refused, or passed in an emergency, so that people find it where they look.
//!
//! Written beside the decision, never in its way. An Event only says where to look: anyone can write one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::{ApiResource, DynamicObject, GroupVersion};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// What is to be known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub object: Announced,
    pub reason: &'static str,
    pub action: &'static str,
    pub note: String,
    /// Whether it is certain already that there is, or was, such an object.
    pub seen: bool,
    /// Whether it goes before what may be many.
    pub urgent: bool,
}

/// The object as a review names it. Whether it is there is looked up before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Announced {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Clone)]
pub struct Announcer {
    client: Client,
    queue: mpsc::Sender<Announcement>,
    /// For what has to be told whatever else goes on.
    urgent: mpsc::Sender<Announcement>,
    looking: Arc<Semaphore>,
}

/// What a flood leaves of itself; the rest is in the log and the metrics.
const WAITING: usize = 64;
/// Objects that are looked for at the same time. A review can be forged; the rest wait.
const LOOKING: usize = 8;
/// Somebody waits for the answer to a review.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// An agent repeats itself.
const REPEATS: Duration = Duration::from_mins(1);

impl Announcer {
    /// The second part writes what the first is given, until the process ends.
    pub fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        let (urgent, first) = mpsc::channel(WAITING);
        let looking = Arc::new(Semaphore::new(LOOKING));
        (Self { client: client.clone(), queue, urgent, looking }, write(client, waiting, first))
    }

    pub fn announce(&self, announcement: Announcement) {
        // What passed cannot be tried again, as what was refused will be.
        let queue = if announcement.urgent { &self.urgent } else { &self.queue };
        if queue.try_send(announcement).is_err() {
            debug!("too many Events at once: one is left out");
        }
    }

    /// Whether this very object is there: reviews can be forged. Nothing where that cannot be found out.
    pub async fn stands(&self, object: &Announced, by: Instant) -> Option<bool> {
        let by = by.min(Instant::now() + PATIENCE);
        let looking = async {
            let _place = self.looking.acquire().await;
            found(&self.client, object).await
        };
        Some(timeout_at(by, looking).await.ok().flatten()? == object.uid)
    }
}

async fn write(client: Client, mut queue: mpsc::Receiver<Announcement>, mut urgent: mpsc::Receiver<Announcement>) {
    let reporter = Reporter { controller: "tagout.dev".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter.clone());
    let mut said: HashMap<(Announced, String), Instant> = HashMap::new();
    loop {
        let next = tokio::select! {
            biased;
            first = urgent.recv() => first,
            next = queue.recv() => next,
        };
        let Some(announcement) = next else { return };
        said.retain(|_, at| at.elapsed() < REPEATS);
        let key = (announcement.object.clone(), announcement.note.clone());
        if said.contains_key(&key) {
            continue;
        }
        if !announcement.seen {
            sleep(PAUSE).await;
        }
        let Announcement { mut object, reason, action, note, seen, urgent } = announcement;
        if !seen && found(&client, &object).await.as_deref() != Some(&object.uid) {
            continue;
        }
        // What is known by its name alone nobody would see who looks at the object.
        if object.uid.is_empty() {
            object.uid = found(&client, &object).await.unwrap_or_default();
        }
        // One that has told of the same object for the same reason counts that one up, whatever the next would say: who
        // unlocks second would go unseen.
        let recorder = if urgent { Recorder::new(client.clone(), reporter.clone()) } else { recorder.clone() };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &reference(object)).await {
            debug!(%error, "an Event cannot be written");
        }
        said.insert(key, Instant::now());
    }
}

/// The UID of what has its name, none where there is nothing; nothing where it cannot be read.
async fn found(client: &Client, object: &Announced) -> Option<String> {
    let parts = [&object.version, &object.plural, &object.name];
    let optional = [&object.group, &object.namespace];
    if !parts.into_iter().all(|part| super::facts::is_segment(part))
        || !optional.into_iter().all(|part| part.is_empty() || super::facts::is_segment(part))
    {
        return Some(String::new());
    }
    let resource = ApiResource {
        group: object.group.clone(),
        version: object.version.clone(),
        api_version: api_version(object),
        kind: object.kind.clone(),
        plural: object.plural.clone(),
    };
    let api: Api<DynamicObject> = if object.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &object.namespace, &resource)
    };
    let found = api.get_metadata_opt(&object.name).await.ok()?;
    Some(found.and_then(|found| found.metadata.uid).unwrap_or_default())
}

fn api_version(object: &Announced) -> String {
    GroupVersion { group: object.group.clone(), version: object.version.clone() }.api_version()
}

fn reference(object: Announced) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version(&object)),
        kind: Some(object.kind),
        namespace: Some(object.namespace).filter(|namespace| !namespace.is_empty()),
        name: Some(object.name),
        uid: Some(object.uid).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    fn object(name: &str) -> Announced {
        Announced {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            plural: "deployments".to_owned(),
            namespace: "payments".to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
        }
    }

    fn refusal(reason: &str, code: u16) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code})
    }

    /// Knows `there`, whose UID is `u`, and `other`, says nothing of `slow`, and refuses to say of `secret`. Counts who
    /// asks.
    fn announcer(asked: Arc<AtomicUsize>) -> Announcer {
        let service = tower::service_fn(move |request: Request<Body>| {
            asked.fetch_add(1, Ordering::SeqCst);
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            async move {
                let (status, uid) = match name.as_str() {
                    "there" => (StatusCode::OK, "u"),
                    "other" => (StatusCode::OK, "v"),
                    "secret" => (StatusCode::FORBIDDEN, ""),
                    "slow" => std::future::pending().await,
                    _ => (StatusCode::NOT_FOUND, ""),
                };
                let answer = match status {
                    StatusCode::OK => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                        "metadata": {"name": name, "uid": uid}}),
                    StatusCode::NOT_FOUND => refusal("NotFound", 404),
                    _ => refusal("Forbidden", 403),
                };
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        Announcer::new(Client::new(service, "default")).0
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_what_cannot_be_looked_for() {
        let announcer = announcer(Arc::default());
        for (name, stands) in
            [("there", Some(true)), ("other", Some(false)), ("gone", Some(false)), ("secret", None), ("slow", None)]
        {
            assert_eq!(announcer.stands(&object(name), soon()).await, stands, "{name}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_forged_reviews_has_few_objects_looked_for_at_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let announcer = announcer(Arc::clone(&asked));
        let (slow, by) = (object("slow"), soon());
        let all = futures::future::join_all((0..100).map(|_| announcer.stands(&slow, by))).await;
        assert!(all.iter().all(Option::is_none));
        assert_eq!(asked.load(Ordering::SeqCst), LOOKING);
        assert_eq!(announcer.stands(&object("there"), soon()).await, Some(true), "places are given back");
    }
}
