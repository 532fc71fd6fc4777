//! A cluster in memory: folded from what a log says happened, with as much of each object as decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::departed::Departed;
use super::kinds::Kinds;
use crate::api::{kind_name, sha256};

/// Where an object stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) plural: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) object: Arc<Value>,
    /// Whether it was only found afterwards, and may have been another at the time.
    pub(super) assumed: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    objects: BTreeMap<Place, Held>,
    pub(super) kinds: Kinds,
    pub(super) departed: Departed,
    version: u64,
    /// What watches would tell of, in order: namespaces and records.
    news: Vec<Place>,
    /// Whether rules, teams or what they rest on have changed.
    rules_changed: bool,
    /// The kinds of which something was looked up that was only found afterwards.
    leaned_on: BTreeSet<String>,
}

/// Secrets by which Tagout knows what counts. They hold no key.
pub(super) const MEMORY: [&str; 3] = ["tagout-epoch", "tagout-settled", "tagout-unlocks"];

/// Of a longer text only its digest is kept, which still says whether it has changed.
const LONGEST: usize = 256;

/// What kubectl keeps of an object beside it: all of its contents once more. No rule asks for it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Written all the time by the cluster itself, and in no rule. Kinds of that name in other groups are anybody's.
pub(super) fn is_passing(place: &Place) -> bool {
    matches!((place.group.as_str(), place.plural.as_str()), ("" | "events.k8s.io", "events") | ("", "bindings"))
}

impl State {
    pub(super) fn get(&self, place: &Place) -> Option<&Held> {
        self.objects.get(place)
    }

    /// All of a kind, in one namespace or everywhere.
    pub(super) fn list<'s>(
        &'s self,
        group: &'s str,
        plural: &'s str,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = (&'s Place, &'s Held)> {
        let from = Place {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        let within = move |place: &Place| {
            place.group == group && place.plural == plural && namespace.is_none_or(|own| place.namespace == own)
        };
        self.objects.range(from..).take_while(move |(place, _)| within(place))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Place, &Held)> {
        self.objects.iter()
    }

    pub(super) fn put(&mut self, place: Place, object: Value, assumed: bool) {
        if is_passing(&place) || place.name.is_empty() {
            return;
        }
        self.put_reduced(place, reduced(object), assumed);
    }

    pub(super) fn put_reduced(&mut self, place: Place, object: Value, assumed: bool) {
        // A log may say anything; what is held is an object, so that whoever asks for it finds one.
        if !object.is_object() {
            return;
        }
        if place.plural == "customresourcedefinitions" {
            self.learn(&object);
        }
        self.note(&place);
        self.departed.is_back(text(&object, "/metadata/uid"));
        self.objects.insert(place, Held { object: Arc::new(object), assumed });
    }

    /// What it holds is not what the log could tell: something was written that it does not show.
    pub(super) fn doubt(&mut self, place: &Place) {
        if let Some(held) = self.objects.get_mut(place) {
            held.assumed = true;
        }
    }

    pub(super) fn remove(&mut self, place: &Place) {
        self.note(place);
        let Some(held) = self.objects.remove(place) else { return };
        self.departed.remember(&held.object);
        match (place.group.as_str(), place.plural.as_str()) {
            ("", "namespaces") => self.objects.retain(|other, _| other.namespace != place.name),
            ("apiextensions.k8s.io", "customresourcedefinitions") => {
                let text = |path: &str| held.object.pointer(path).and_then(Value::as_str).unwrap_or_default();
                let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
                self.objects.retain(|other, _| other.group != group || other.plural != plural);
                self.kinds.forget(group, plural);
            }
            _ => {}
        }
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Held> {
        self.get(&Place { plural: "namespaces".to_owned(), name: name.to_owned(), ..Place::default() })
    }

    /// The labels of a namespace, if there is one.
    pub(super) fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.namespace(namespace).map(|held| labels(&held.object))
    }

    /// Notes that a verdict is to rest on what was only found afterwards.
    pub(super) fn lean_on(&mut self, group: &str, plural: &str) {
        self.leaned_on.insert(kind_name(group, plural));
    }

    pub(super) fn take_leaned_on(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.leaned_on)
    }

    pub(super) fn next_version(&mut self) -> String {
        self.version += 1;
        format!("{}", 1_u64 << 62 | self.version)
    }

    pub(super) fn take_news(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn take_rules_changed(&mut self) -> bool {
        std::mem::take(&mut self.rules_changed)
    }

    fn note(&mut self, place: &Place) {
        match (place.group.as_str(), place.plural.as_str()) {
            ("", "namespaces") => {
                self.news.push(place.clone());
                self.rules_changed |= place.name == "kube-system";
            }
            ("tagout.dev", "deletionrecords") => self.news.push(place.clone()),
            ("tagout.dev", "protectionrules" | "approverteams")
            | ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => self.rules_changed = true,
            ("", "secrets") => self.rules_changed |= MEMORY.contains(&place.name.as_str()),
            _ => {}
        }
    }

    fn learn(&mut self, definition: &Value) {
        let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let version = versions.into_iter().flatten().find_map(|version| version["name"].as_str()).unwrap_or_default();
        let namespaced = text("/spec/scope") == "Namespaced";
        self.kinds.learn(
            text("/spec/group"),
            version,
            text("/spec/names/plural"),
            text("/spec/names/kind"),
            namespaced,
        );
    }
}

pub(super) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

pub(super) fn text<'o>(object: &'o Value, path: &str) -> &'o str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// An object without what nobody asks for. What is secret is not held, only whether it has changed.
pub(super) fn reduced(mut object: Value) -> Value {
    let kind = text(&object, "/kind").to_owned();
    let remembers = MEMORY.contains(&text(&object, "/metadata/name"));
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        // Who applies owns what they applied before, and takes it away by leaving it out.
        let managers = metadata.remove("managedFields");
        let managers = managers.as_ref().and_then(Value::as_array).into_iter().flatten();
        let applied = managers.filter(|one| one["operation"] == "Apply");
        let applied: Vec<Value> = applied.map(|one| json!({"manager": one["manager"], "operation": "Apply"})).collect();
        if !applied.is_empty() {
            metadata.insert("managedFields".to_owned(), json!(applied));
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // A digest tells a short text to whoever knows the rest of it, as kubectl's copy of a Secret is known.
            for (key, value) in annotations.iter_mut().filter(|(key, _)| !key.starts_with("tagout.dev/")) {
                if kind == "Secret" || key == LAST_APPLIED {
                    *value = json!("");
                } else {
                    shorten(value, LONGEST);
                }
            }
        }
    }
    let longest = match kind.as_str() {
        "Secret" if !remembers => Some(0),
        "ConfigMap" => Some(LONGEST),
        _ => None,
    };
    if let Some(longest) = longest {
        for part in ["data", "binaryData", "stringData"] {
            let part = object.get_mut(part).and_then(Value::as_object_mut);
            part.into_iter().flatten().for_each(|(_, value)| shorten(value, longest));
        }
    }
    object
}

fn shorten(value: &mut Value, longest: usize) {
    let Some(text) = value.as_str().filter(|text| text.len() > longest) else { return };
    *value = json!(sha256(text.as_bytes()));
}

/// Whether an object that is going is gone: nothing keeps it any more.
pub(super) fn nothing_keeps(object: &Value) -> bool {
    let empty = |path: &str| object.pointer(path).and_then(Value::as_array).is_none_or(Vec::is_empty);
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    empty("/metadata/finalizers") && grace == 0 && (text(object, "/kind") != "Namespace" || empty("/spec/finalizers"))
}

/// Puts a value where a path of names ends. What stands in the way is none of an object, and gives way.
pub(super) fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for name in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(fields) = at.as_object_mut() else { return };
        at = fields.entry(*name).or_insert(Value::Null);
    }
    *at = value;
}

pub(super) fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The object, going since then.
pub(super) fn going(object: &Value, since: &str) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("deletionTimestamp".to_owned(), json!(since));
    }
    object
}

/// The object's metadata alone.
pub(super) fn metadata(object: &Value) -> Map<String, Value> {
    object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(plural: &str, namespace: &str, name: &str) -> Place {
        let text = str::to_owned;
        Place { group: String::new(), plural: text(plural), namespace: text(namespace), name: text(name) }
    }

    #[test]
    fn nothing_secret_is_held_and_a_change_is_still_seen() {
        let secret =
            |value: &str| reduced(json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": value, "b": ""}}));
        let held = secret("aHVudGVyMg==");
        assert!(!held.to_string().contains("aHVudGVyMg"), "{held}");
        assert_ne!(held, secret("b3RoZXI="));
        assert_eq!(held, secret("aHVudGVyMg=="));
        assert_eq!(held["data"]["b"], "", "what is empty stays empty");
    }

    #[test]
    fn what_kubectl_keeps_of_an_object_beside_it_is_not_held() {
        for kind in ["Secret", "ConfigMap", "Deployment"] {
            let annotations = json!({LAST_APPLIED: "{\"data\":{\"a\":\"aHVudGVyMg==\"}}", "tagout.dev/approval": "[]"});
            let held = reduced(json!({"kind": kind, "metadata": {"name": "s", "annotations": annotations}}));
            assert_eq!(
                held["metadata"]["annotations"],
                json!({LAST_APPLIED: "", "tagout.dev/approval": "[]"}),
                "{kind}"
            );
        }
        let named = json!({"kind": "Secret", "metadata": {"annotations": {"example.com/password": "hunter2"}}});
        assert!(!reduced(named).to_string().contains("hunter2"), "nobody knows what is written beside a Secret");
    }

    #[test]
    fn events_of_a_group_of_somebodys_own_are_held_and_those_of_kubernetes_are_not() {
        let mut state = State::default();
        for (group, plural, held) in [
            ("", "events", false),
            ("events.k8s.io", "events", false),
            ("", "bindings", false),
            ("concerts.example.com", "events", true),
            ("servicebinding.io", "bindings", true),
        ] {
            let place = Place { group: group.to_owned(), ..place(plural, "n", "x") };
            state.put(place.clone(), json!({}), false);
            assert_eq!(state.get(&place).is_some(), held, "{plural}.{group}");
        }
    }

    #[test]
    fn what_is_no_object_is_not_held_and_gives_way_to_a_value() {
        let mut state = State::default();
        state.put(place("pods", "n", "x"), json!(["forged"]), false);
        assert!(state.get(&place("pods", "n", "x")).is_none());
        let mut forged = json!({"spec": "text"});
        set(&mut forged, &["spec", "replicas"], json!(0));
        assert_eq!(forged, json!({"spec": {"replicas": 0}}));
    }

    #[test]
    fn what_is_in_a_namespace_goes_with_it() {
        let mut state = State::default();
        state.put(place("namespaces", "", "n"), json!({"metadata": {"labels": {"a": "b"}}}), false);
        for (namespace, name) in [("n", "x"), ("n", "y"), ("m", "x")] {
            state.put(place("configmaps", namespace, name), json!({}), false);
        }
        assert_eq!(state.list("", "configmaps", Some("n")).count(), 2);
        assert_eq!(state.labels("n").unwrap()["a"], "b");
        state.remove(&place("namespaces", "", "n"));
        assert_eq!(state.list("", "configmaps", None).count(), 1);
        assert_eq!(state.labels("n"), None);
    }

    #[test]
    fn a_finalizer_a_grace_period_or_a_namespaces_own_keeps_what_is_going() {
        for (object, gone) in [
            (json!({"kind": "Pod", "metadata": {}}), true),
            (json!({"kind": "Pod", "metadata": {"deletionGracePeriodSeconds": 30}}), false),
            (json!({"kind": "Job", "metadata": {"finalizers": ["x"]}}), false),
            (json!({"kind": "Namespace", "metadata": {}, "spec": {"finalizers": ["kubernetes"]}}), false),
        ] {
            assert_eq!(nothing_keeps(&object), gone, "{object}");
        }
    }
}
