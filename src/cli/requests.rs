//! Requests that were refused, as Events tell of them. Anyone may write an Event: it only says where to look.

use anyhow::{anyhow, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

use super::case::ACTIONS;
use super::cluster::{Setting, plain};
use super::connection::Cluster;
use super::gone::Gone;
use super::kinds::Kind;
use super::object::LiveObject;
use crate::api::{Action, DELETED};
use crate::guard::{Change, Reach, Request, Requester, Subject, request_id};

/// A request, as an Event tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub id: String,
    pub requester: String,
    pub action: Action,
    /// Of a loosening, the hash of the new spec.
    pub new_spec: Option<String>,
    pub kind: String,
    pub api_version: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub last: Option<Timestamp>,
}

/// The reason of the Events that the webhook writes.
const REASON: &str = "ApprovalRequired";

/// The request with this id.
pub async fn find(at: &Cluster, id: &str) -> anyhow::Result<Asked> {
    let (events, place) = match (list(at, at.namespace_given).await, at.namespace_given) {
        (Ok(events), false) => (events, "in any namespace".to_owned()),
        (Err(kube::Error::Api(status)), false) if status.is_forbidden() => {
            // Most people may look at one namespace and not at all.
            let events = list(at, true).await.map_err(|_| {
                anyhow!("{}; name the object itself, as KIND/NAME, or its namespace with -n", status.message)
            })?;
            (events, format!("in namespace {} (you may not look at all of them; -n names another)", at.namespace))
        }
        (events, _) => (events.map_err(plain)?, format!("in namespace {}", at.namespace)),
    };
    let mut found: Vec<Asked> = events.iter().filter_map(read).filter(|asked| asked.id == id).collect();
    // What somebody else wrote does not hide what Tagout did.
    found.sort_by_key(|asked| (asked.is_genuine(), asked.last));
    found.pop().ok_or_else(|| {
        anyhow!(
            "no Event tells of request {id} {place}: it may be older than an hour, or was a dry run, of which none is \
             written. Name the object itself, as KIND/NAME"
        )
    })
}

/// The requests about an object of which Events tell, the latest first.
pub async fn about(client: &Client, object: &LiveObject) -> kube::Result<Vec<Asked>> {
    let namespace = if object.namespace().is_empty() { "default" } else { object.namespace() };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let list = ListParams::default().fields(&format!("reason={REASON},regarding.uid={}", object.uid()));
    let mut found: Vec<Asked> = events.list(&list).await?.iter().filter_map(read).collect();
    found.retain(|asked| asked.uid == object.uid() && asked.is_genuine());
    found.sort_by_key(|asked| std::cmp::Reverse(asked.last));
    Ok(found)
}

impl Asked {
    /// The object as it is now. An error where it is not the one that was asked about.
    pub async fn live(&self, at: &Cluster, setting: &Setting) -> anyhow::Result<LiveObject> {
        let Self { id, api_version, kind, namespace, name, .. } = self;
        self.check()?;
        let Some(known) = setting.kinds.of(api_version, kind) else {
            return match self.through_subresource(at, setting).await {
                Some(object) => Ok(object),
                None => {
                    bail!("request {id} is about a {kind} of {api_version} for {name:?}, and there is no such object")
                }
            };
        };
        let known: Kind = known.clone();
        let object = match LiveObject::find(&at.client, known.clone(), namespace, name).await? {
            Some(object) => object,
            None if self.uid == crate::api::NEW_UID => LiveObject::to_be(known, name),
            None => bail!("request {id} is about {} {name:?}, which is gone", known.name()),
        };
        ensure!(
            object.uid() == self.uid,
            "{object} was made anew since request {id}: it had UID {} then, and has {} now{}. Nobody asked for this one; \
             look at it with kubectl tagout review {}",
            self.uid,
            object.uid(),
            object.metadata.creation_timestamp.as_ref().map(|at| format!(", made at {}", at.0)).unwrap_or_default(),
            object.words()
        );
        Ok(object)
    }

    /// What was destroyed, of a request that it returns. An error where it is not what was asked about.
    pub async fn gone(&self, at: &Cluster, setting: &Setting) -> anyhow::Result<Gone> {
        let Self { id, api_version, kind, namespace, name, uid, .. } = self;
        self.check()?;
        let Some(known) = setting.kinds.of(api_version, kind) else {
            bail!("request {id} is about a {kind} of {api_version}, and the cluster has no such kind any more")
        };
        let gone = Gone::find(&at.client, known, namespace, name).await?;
        ensure!(
            gone.object.uid() == uid,
            "{} was destroyed again since request {id}; look at it with kubectl tagout review {} --action=Recreate",
            gone.object,
            gone.object.words()
        );
        Ok(gone)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.is_genuine(),
            "the Event that tells of request {} is not genuine: the id is not that of the request it describes; somebody \
             else than Tagout wrote it. Name the object itself, as KIND/NAME",
            self.id
        );
        Ok(())
    }

    /// The object whose `Scale` or `Eviction` was sent: of those the Event names the group, the name and the UID.
    async fn through_subresource(&self, at: &Cluster, setting: &Setting) -> Option<LiveObject> {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        for kind in setting.kinds.named(group, "*") {
            let namespace = if kind.namespaced { self.namespace.as_str() } else { "" };
            if kind.namespaced != self.namespace.is_empty()
                && let Ok(Some(found)) = LiveObject::find(&at.client, kind.clone(), namespace, &self.name).await
                && found.uid() == self.uid
            {
                return Some(found);
            }
        }
        None
    }

    /// Whether the id is that of this request: what an Event says of a request can be anything.
    fn is_genuine(&self) -> bool {
        let change = self.new_spec.clone().map(|new_spec| Change { new_spec, loosened: Vec::new() });
        let request = Request {
            action: self.action,
            subject: Subject { uid: self.uid.as_str().into(), ..Subject::default() },
            owners: Vec::new(),
            terminating: false,
            change,
            requester: Requester { name: &self.requester, groups: &[] },
            reach: Reach::Covered,
            what: None,
        };
        request_id(&request) == self.id
    }
}

async fn list(at: &Cluster, in_namespace: bool) -> kube::Result<Vec<Event>> {
    let events: Api<Event> =
        if in_namespace { Api::namespaced(at.client.clone(), &at.namespace) } else { Api::all(at.client.clone()) };
    let mut list = ListParams::default().fields(&format!("reason={REASON}")).limit(500);
    let mut found = Vec::new();
    loop {
        let page = events.list(&list).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => list = list.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn read(event: &Event) -> Option<Asked> {
    let note = event.note.as_deref()?;
    let regarding = event.regarding.as_ref()?;
    let (id, requester) = request(note)?;
    let action = ACTIONS.into_iter().find(|own| Some(own.as_str()) == event.action.as_deref())?;
    let last = event.series.as_ref().map(|series| series.last_observed_time.0);
    let made = event.event_time.as_ref().map(|time| time.0);
    Some(Asked {
        id: id.to_owned(),
        requester: requester.to_owned(),
        action,
        new_spec: (action == Action::Loosen).then(|| new_spec(note).unwrap_or(DELETED).to_owned()),
        kind: regarding.kind.clone()?,
        api_version: regarding.api_version.clone().unwrap_or_else(|| "v1".to_owned()),
        namespace: regarding.namespace.clone().unwrap_or_default(),
        name: regarding.name.clone()?,
        uid: regarding.uid.clone()?,
        last: last.max(made),
    })
}

/// `Request: to-3f9a2c41 by agent-7`, to the end of its line.
fn request(note: &str) -> Option<(&str, &str)> {
    let (_, rest) = note.split_once("Request: ")?;
    let line = rest.lines().next()?;
    let (id, requester) = line.split_once(" by ")?;
    Some((id, requester.trim_end()))
}

fn new_spec(note: &str) -> Option<&str> {
    let (_, rest) = note.split_once("newSpec ")?;
    let end = rest.find(|character: char| !(character.is_ascii_alphanumeric() || character == ':'));
    Some(&rest[..end.unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(note: &str, action: &str) -> Option<Asked> {
        let event: Value = json!({"metadata": {"name": "e"}, "eventTime": "2026-11-21T10:00:00.000000Z",
            "reason": REASON, "action": action, "note": note, "regarding": {"apiVersion": "apps/v1",
            "kind": "Deployment", "namespace": "payments", "name": "api", "uid": "uid-1"}});
        read(&serde_json::from_value(event).unwrap())
    }

    #[test]
    fn an_event_tells_who_asked_for_what() {
        let asked = event("tagout: denied Delete: needs approval. Request: to-3f9a2c41 by agent 7", "Delete").unwrap();
        assert_eq!((asked.id.as_str(), asked.requester.as_str()), ("to-3f9a2c41", "agent 7"));
        assert_eq!((asked.namespace.as_str(), asked.uid.as_str(), asked.new_spec), ("payments", "uid-1", None));
    }

    #[test]
    fn a_loosening_is_told_with_the_hash_of_what_is_to_be() {
        let words = "denied Loosen (newSpec sha256:00ff). Request: to-3f9a2c41 by bob";
        assert_eq!(event(words, "Loosen").unwrap().new_spec.as_deref(), Some("sha256:00ff"));
        assert_eq!(event("Request: to-3f9a2c41 by bob", "Loosen").unwrap().new_spec.as_deref(), Some(DELETED));
    }

    #[test]
    fn an_event_whose_id_is_another_requests_is_not_genuine() {
        let asked = event("Request: to-00000000 by agent-7", "Delete").unwrap();
        assert!(!asked.is_genuine());
        let request = Request {
            action: Action::Delete,
            subject: Subject { uid: "uid-1".into(), ..Subject::default() },
            owners: Vec::new(),
            terminating: false,
            change: None,
            requester: Requester { name: "agent-7", groups: &[] },
            reach: Reach::Covered,
            what: None,
        };
        assert!(Asked { id: request_id(&request), ..asked }.is_genuine());
    }

    #[test]
    fn what_is_no_refusal_of_ours_is_passed_over() {
        assert_eq!(event("Request: to-3f9a2c41 by agent-7", "Scale"), None);
        assert_eq!(event("Request: to-3f9a2c41 by agent-7", "ScaleToZero").unwrap().action, Action::ScaleToZero);
        assert_eq!(event("Request: to-3f9a2c41 by agent-7", "Recreate").unwrap().action, Action::Recreate);
        assert_eq!(event("nothing", "Delete"), None);
    }
}
