//! From an event to what the API server would have asked its webhooks.

use serde_json::{Value, json};

use super::events::{Event, ObjectRef, User, object};
use super::patch::{applied, patched};
use super::selects::Labels;
use super::state::{Place, State, is_passing, labels, reduced, set, text};
use super::uri;
use crate::api::kind_name;

/// What admission was, or would have been, asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) operation: &'static str,
    pub(super) place: Place,
    pub(super) version: String,
    pub(super) subresource: String,
    pub(super) title: String,
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
    pub(super) user: User,
    pub(super) dry_run: bool,
    pub(super) field_manager: String,
    /// Whether something of it was only found afterwards.
    pub(super) assumed: bool,
}

/// What an event is to a replay.
pub(super) enum Turned {
    /// Each of these was asked, in this order, until one was refused.
    Each(Vec<Asked>),
    /// One of these was asked, and nobody knows which.
    OneOf(Vec<Asked>),
    /// These were asked, and perhaps others, of which nobody can tell, and why.
    AtLeast(Vec<Asked>, String),
    /// It would have been asked, and cannot be told.
    Untold(String),
}

/// What stands in an audit policy that leaves nothing to be guessed.
pub(super) const STANZA: &str = "log writes with their objects: in the audit policy, {level: RequestResponse, verbs: [create, \
                                 update, patch, delete, deletecollection]}";

/// An event that may have changed something, with what follows from its parts.
pub(super) struct Write<'e> {
    pub(super) event: &'e Event,
    pub(super) about: &'e ObjectRef,
    pub(super) place: Place,
    pub(super) refused: bool,
    pub(super) dry_run: bool,
    pub(super) request: Option<Value>,
    pub(super) response: Option<Value>,
}

/// Subresources that store nothing of the object.
const CALLS: [&str; 9] =
    ["token", "exec", "attach", "portforward", "proxy", "log", "binding", "restart", "serviceaccounttoken"];

/// Kinds that are questions and not stored.
const QUESTIONS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

impl<'e> Write<'e> {
    /// Nothing where the event is none that admission is asked about.
    pub(super) fn of(event: &'e Event, refused: bool) -> Option<Self> {
        let about = event.object_ref.as_ref()?;
        let changes = ["create", "update", "patch", "delete", "deletecollection"].contains(&event.verb.as_str());
        if !changes || CALLS.contains(&about.subresource.as_str()) || QUESTIONS.contains(&about.api_group.as_str()) {
            return None;
        }
        let request = object(event.request_object.as_deref());
        let response = object(event.response_object.as_deref()).filter(|_| !refused);
        let all = |value: &Value| value.as_array().is_some_and(|all| all.iter().any(|one| one == "All"));
        let dry_run = uri::parameter(uri::query(&event.uri), "dryRun").is_some_and(|run| run == "All")
            || (event.verb.starts_with("delete") && request.as_ref().is_some_and(|options| all(&options["dryRun"])));
        // A namespace's request names itself as its namespace.
        let namespaced = about.resource != "namespaces" || !about.api_group.is_empty();
        let mut name = about.name.clone();
        if name.is_empty() && event.verb == "create" {
            let said = [response.as_ref(), request.as_ref()].into_iter().flatten();
            let mut names = said.map(|object| text(object, "/metadata/name"));
            names.find(|name| !name.is_empty()).unwrap_or_default().clone_into(&mut name);
        }
        let place = Place {
            group: about.api_group.clone(),
            plural: about.resource.clone(),
            namespace: if namespaced { about.namespace.clone() } else { String::new() },
            name,
        };
        Some(Self { event, about, place, refused, dry_run, request, response })
    }

    /// Whether the log tells the objects of it.
    fn has_objects(&self) -> bool {
        self.event.level == "RequestResponse" || (self.refused && self.event.level == "Request")
    }

    pub(super) fn operation(&self) -> &'static str {
        match self.event.verb.as_str() {
            "create" => "CREATE",
            "delete" | "deletecollection" => "DELETE",
            // Who writes or applies what is not there makes it.
            _ if self.event.code() == 201 => "CREATE",
            _ => "UPDATE",
        }
    }

    pub(super) fn turned(&self, state: &State) -> Turned {
        match (self.operation(), self.event.verb.as_str()) {
            (_, "deletecollection") => self.collection(state),
            ("DELETE", _) => self.deletion(state),
            ("CREATE", _) => self.creation(state),
            _ => self.update(state),
        }
    }

    fn asked(&self, state: &State, operation: &'static str, object: Option<Value>, old: Option<Value>) -> Asked {
        let title = match [&object, &old]
            .into_iter()
            .flatten()
            .map(|object| text(object, "/kind"))
            .find(|kind| !kind.is_empty())
        {
            Some(title) => title.to_owned(),
            None => state
                .kinds
                .get(&self.place.group, &self.place.plural)
                .map_or_else(String::new, |kind| kind.title.clone()),
        };
        let body = || self.request.as_ref().map_or("", |options| text(options, "/fieldManager")).to_owned();
        Asked {
            id: self.event.id.clone(),
            operation,
            place: self.place.clone(),
            version: self.about.api_version.clone(),
            subresource: self.about.subresource.clone(),
            title,
            object,
            old,
            user: self.event.user().clone(),
            dry_run: self.dry_run,
            field_manager: uri::parameter(uri::query(&self.event.uri), "fieldManager").unwrap_or_else(body),
            assumed: state.get(&self.place).is_some_and(|held| held.assumed),
        }
    }

    fn deletion(&self, state: &State) -> Turned {
        match self.old(state) {
            Ok(old) => Turned::Each(vec![self.asked(state, "DELETE", None, Some(old))]),
            Err(why) => Turned::Untold(why),
        }
    }

    /// The object as it stood.
    fn old(&self, state: &State) -> Result<Value, String> {
        if let Some(response) = self.response.as_ref().filter(|_| is_passing(&self.place)) {
            return Ok(unlabelled(response));
        }
        let uid = self.uid();
        let held = state.get(&self.place);
        let is_it = |object: &Value| match text(object, "/metadata/uid") {
            held if held.is_empty() || uid.is_empty() => true,
            held => held == uid,
        };
        match (held.filter(|held| is_it(&held.object)), state.departed.get(uid)) {
            (Some(held), _) => Ok(Value::clone(&held.object)),
            // What was written to it is in the log after its deletion.
            (None, Some(object)) => Ok(Value::clone(object)),
            (None, None) if held.is_some() => {
                Err("the log does not show how the object came to be: it is another than the one of that name"
                    .to_owned())
            }
            (None, None) => {
                let kind = kind_name(&self.place.group, &self.place.plural);
                Err(format!("the log does not show what was there before ({kind})"))
            }
        }
    }

    /// Of what this is about, where the log says it.
    fn uid(&self) -> &str {
        let said =
            self.response.iter().flat_map(|object| ["/metadata/uid", "/details/uid"].map(|part| text(object, part)));
        [self.about.uid.as_str()].into_iter().chain(said).find(|uid| !uid.is_empty()).unwrap_or_default()
    }

    fn collection(&self, state: &State) -> Turned {
        if let Some(items) = self.items() {
            let all: Result<Vec<Asked>, String> = items.iter().map(|item| self.of_collection(state, item)).collect();
            return all.map_or_else(Turned::Untold, Turned::Each);
        }
        // What else was there, the log does not show.
        let known = |place: Place| {
            let held = state.get(&place);
            let old = held.map(|held| Value::clone(&held.object));
            let assumed = held.is_some_and(|held| held.assumed);
            Asked { place, assumed, ..self.asked(state, "DELETE", None, old) }
        };
        match self.members(state) {
            Err(why) => Turned::Untold(why),
            Ok(members) => Turned::AtLeast(
                members.into_iter().map(known).collect(),
                format!("the log does not show of what a collection consisted; {STANZA}"),
            ),
        }
    }

    /// What a collection consisted of, as whoever deleted it was told.
    pub(super) fn items(&self) -> Option<&Vec<Value>> {
        let list = self.response.as_ref().filter(|list| text(list, "/kind").ends_with("List"))?;
        list.get("items")?.as_array()
    }

    pub(super) fn place_of(&self, item: &Value) -> Place {
        let namespace = text(item, "/metadata/namespace").to_owned();
        Place { namespace, name: text(item, "/metadata/name").to_owned(), ..self.place.clone() }
    }

    fn of_collection(&self, state: &State, item: &Value) -> Result<Asked, String> {
        let list = self.response.as_ref();
        let [title, version] = ["/kind", "/apiVersion"].map(|part| list.map_or("", |list| text(list, part)));
        let title = title.strip_suffix("List").unwrap_or_default();
        let place = self.place_of(item);
        let held = state.get(&place).filter(|held| text(&held.object, "/metadata/uid") == text(item, "/metadata/uid"));
        let (old, assumed) = match held {
            _ if place.name.is_empty() => return Err("the log does not name what a collection consisted of".to_owned()),
            _ if is_passing(&place) => (unlabelled(item), false),
            _ if title != "PartialObjectMetadata" => {
                let mut old = item.clone();
                set(&mut old, &["kind"], json!(title));
                set(&mut old, &["apiVersion"], json!(version));
                (reduced(old), false)
            }
            Some(held) => (Value::clone(&held.object), held.assumed),
            None => {
                let kind = kind_name(&place.group, &place.plural);
                return Err(format!("the log shows nothing but the metadata of what was there before ({kind})"));
            }
        };
        Ok(Asked { place, assumed, ..self.asked(state, "DELETE", None, Some(old)) })
    }

    /// What a collection's deletion is about.
    pub(super) fn members(&self, state: &State) -> Result<Vec<Place>, String> {
        let query = uri::query(&self.event.uri);
        let unclear = || "by which labels or fields it chose cannot be told".to_owned();
        let selector = uri::parameter(query, "labelSelector").unwrap_or_default();
        let selector = Labels::read(&selector).ok_or_else(unclear)?;
        let fields = uri::parameter(query, "fieldSelector").unwrap_or_default();
        let name = match fields.strip_prefix("metadata.name=") {
            Some(name) if !name.contains(',') => Some(name.trim_start_matches('=')),
            _ if fields.is_empty() => None,
            _ => return Err(unclear()),
        };
        if ["limit", "continue"].iter().any(|part| uri::parameter(query, part).is_some_and(|said| said != "0")) {
            return Err(unclear());
        }
        let namespace = Some(self.place.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let found = state.list(&self.place.group, &self.place.plural, namespace);
        let chosen = found.filter(|(place, held)| {
            name.is_none_or(|name| place.name == name) && selector.matches(&labels(&held.object))
        });
        Ok(chosen.map(|(place, _)| place.clone()).collect())
    }

    fn creation(&self, state: &State) -> Turned {
        let object = if self.refused || self.about.subresource == "eviction" { &self.request } else { &self.response };
        let Some(object) = object.clone().or_else(|| self.request.clone()) else {
            return Turned::Untold(self.no_objects());
        };
        let mut object = reduced(object);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if !self.place.namespace.is_empty() {
                metadata.entry("namespace").or_insert_with(|| json!(self.place.namespace));
            }
            if self.place.plural == "namespaces" && self.place.group.is_empty() {
                let labels = metadata.entry("labels").or_insert_with(|| json!({}));
                if let Some(labels) = labels.as_object_mut() {
                    labels.entry("kubernetes.io/metadata.name").or_insert_with(|| json!(self.place.name));
                }
            }
            if self.about.subresource == "eviction" {
                metadata.entry("name").or_insert_with(|| json!(self.place.name));
            }
        }
        Turned::Each(vec![self.asked(state, "CREATE", Some(object), None)])
    }

    fn no_objects(&self) -> String {
        format!(
            "the log has it at level {} without its objects; {STANZA}",
            if self.event.level.is_empty() { "none" } else { &self.event.level }
        )
    }

    fn update(&self, state: &State) -> Turned {
        if !self.has_objects() {
            return Turned::Untold(self.no_objects());
        }
        let old = match self.old(state) {
            Ok(old) if self.about.subresource == "scale" => scale_of(&old),
            Ok(old) => old,
            Err(why) => return Turned::Untold(why),
        };
        let new = match (&self.response, self.refused) {
            (Some(response), false) => Ok(vec![reduced(response.clone())]),
            (None, false) => Err(self.no_objects()),
            (_, true) => self.refused_update(&old),
        };
        match new {
            Ok(all) => Turned::OneOf(
                all.into_iter().map(|new| self.asked(state, "UPDATE", Some(new), Some(old.clone()))).collect(),
            ),
            Err(why) => Turned::Untold(why),
        }
    }

    /// What a refused update would have left.
    fn refused_update(&self, old: &Value) -> Result<Vec<Value>, String> {
        let Some(request) = &self.request else { return Err(self.no_objects()) };
        let built_in = !self.place.group.contains('.') || self.place.group.ends_with(".k8s.io");
        let all = if self.event.verb == "patch" {
            let query = uri::query(&self.event.uri);
            // An apply says so by a parameter that no other patch has.
            let manager = uri::parameter(query, "fieldManager").unwrap_or_default();
            if uri::parameter(query, "force").is_some() {
                vec![applied(old, request, &manager, built_in)?]
            } else {
                let mut all = patched(old, request, built_in)?;
                // Who forces nothing need not say so. What is applied names its kind, and whoever applies names themselves.
                let names_kind = ["/apiVersion", "/kind"].iter().all(|part| !text(request, part).is_empty());
                if names_kind && !manager.is_empty() {
                    all.push(applied(old, request, &manager, built_in)?);
                }
                all
            }
        } else {
            vec![request.clone()]
        };
        Ok(all.into_iter().map(|new| self.prepared(reduced_again(old, new), old)).collect())
    }

    /// As the API server prepares an update before it asks: what the client cannot change stays, what it left out is as always.
    fn prepared(&self, mut new: Value, old: &Value) -> Value {
        let Some(fields) = new.as_object_mut() else { return new };
        for part in ["kind", "apiVersion"] {
            if let Some(value) = old.get(part) {
                fields.entry(part).or_insert_with(|| value.clone());
            }
        }
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        for part in
            ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "generation"]
        {
            if let (Some(metadata), Some(value)) = (metadata.as_object_mut(), old.pointer(&format!("/metadata/{part}")))
            {
                metadata.insert(part.to_owned(), value.clone());
            }
        }
        let kept = match self.about.subresource.as_str() {
            "" => "status",
            "status" => "spec",
            _ => "",
        };
        // Some kinds have no subresource, and a write changes all of them.
        if kept == "spec" || old.get(kept).is_some() {
            match old.get(kept) {
                Some(value) => fields.insert(kept.to_owned(), value.clone()),
                None => fields.remove(kept),
            };
        }
        if self.about.subresource == "status" && self.place.plural == "deployments" && self.place.group == "apps" {
            set(&mut new, &["metadata", "labels"], old["metadata"]["labels"].clone());
        }
        if self.place.group.is_empty() && self.place.plural == "namespaces" && self.about.subresource != "finalize" {
            set(&mut new, &["spec"], old["spec"].clone());
        }
        defaulted(&mut new, &self.place);
        texts_are_data(&mut new, &self.place);
        new
    }
}

/// Of a Secret, what a client writes as text is stored beside what it writes encoded.
fn texts_are_data(new: &mut Value, place: &Place) {
    if !place.group.is_empty() || place.plural != "secrets" {
        return;
    }
    let Some(fields) = new.as_object_mut() else { return };
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return };
    if let Some(data) = fields.entry("data").or_insert_with(|| json!({})).as_object_mut() {
        data.extend(texts);
    }
}

/// What a client may leave out.
fn defaulted(new: &mut Value, place: &Place) {
    if place.group != "apps" {
        return;
    }
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if ["deployments", "statefulsets", "replicasets"].contains(&place.plural.as_str()) {
        spec.entry("replicas").or_insert_with(|| json!(1));
    }
    if place.plural == "statefulsets" {
        spec.entry("persistentVolumeClaimRetentionPolicy")
            .or_insert_with(|| json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    }
    if place.plural == "deployments" {
        let rolling =
            || json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        spec.entry("strategy").or_insert_with(rolling);
    }
}

/// What nobody kept an eye on may always have got its labels just now.
fn unlabelled(object: &Value) -> Value {
    let mut object = reduced(object.clone());
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    object
}

/// What was kept of the old object is in its digests already.
fn reduced_again(old: &Value, new: Value) -> Value {
    let parts = ["data", "binaryData"].map(|part| (part, old.get(part).cloned(), new.get(part).cloned()));
    let mut new = reduced(new);
    for (part, old, raw) in parts {
        let (Some(Value::Object(old)), Some(Value::Object(raw))) = (old, raw) else { continue };
        let Some(now) = new.get_mut(part).and_then(Value::as_object_mut) else { continue };
        for (key, value) in raw {
            if old.get(&key) == Some(&value) {
                now.insert(key, value);
            }
        }
    }
    new
}

/// The scale of a workload.
fn scale_of(object: &Value) -> Value {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    let spec = if replicas == 0 { json!({}) } else { json!({ "replicas": replicas }) };
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .into_iter()
        .filter_map(|part| Some((part.to_owned(), object.pointer(&format!("/metadata/{part}"))?.clone())))
        .collect();
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec,
        "status": {"replicas": object.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0)}})
}
