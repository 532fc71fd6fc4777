//! What a history is about: a few kinds, names and namespaces, so that things meet.

use controlplane::User;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Secret,
    Service,
    Deployment,
    StatefulSet,
    CronJob,
    Pod,
    Claim,
    Widget,
}

/// What the histories' custom kind is in.
pub const GROUP: &str = "history.example.com";

/// Carried by everything a history makes, for as long as it is there; its value is the history's name.
pub const OF: &str = "of-history";

/// The label by which rules select namespaces.
pub const INSIDE: &str = "history";

/// The label by which a rule selects objects.
pub const GOLD: &str = "tier";

/// The finalizer that holds an object back.
pub const HOLD: &str = "example.com/hold";

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::Deployment,
        Self::StatefulSet,
        Self::CronJob,
        Self::Pod,
        Self::Claim,
        Self::Widget,
    ];

    /// Group, version, kind and plural.
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::CronJob => ("batch", "v1", "CronJob", "cronjobs"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Claim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Widget => (GROUP, "v1", "Widget", "widgets"),
        }
    }

    pub fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    /// As statements and kubectl name it.
    pub fn resource(self) -> String {
        let (group, _, _, plural) = self.names();
        if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
    }

    /// Whether it has `spec.replicas`.
    pub fn scales(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet)
    }

    /// Whether it has data that can be emptied.
    pub fn holds_data(self) -> bool {
        matches!(self, Self::ConfigMap | Self::Secret)
    }

    fn spec(self, name: &str) -> Value {
        let pod = json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "example.com/main:1"}]});
        let template = json!({"metadata": {"labels": {"app": name}}, "spec": pod});
        match self {
            Self::ConfigMap => json!({"data": {"key": "value", "other": "value"}}),
            Self::Secret => json!({"stringData": {"key": "value", "other": "value"}}),
            Self::Service => json!({"spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}),
            Self::Deployment => {
                json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}})
            }
            Self::StatefulSet => json!({"spec": {"replicas": 1, "serviceName": name,
                "selector": {"matchLabels": {"app": format!("{name}-set")}},
                "template": {"metadata": {"labels": {"app": format!("{name}-set")}}, "spec": pod}}}),
            Self::CronJob => {
                let mut job = pod;
                job["restartPolicy"] = json!("Never");
                json!({"spec": {"schedule": "0 0 1 1 *", "suspend": false,
                    "jobTemplate": {"spec": {"template": {"spec": job}}}}})
            }
            Self::Pod => json!({"spec": pod}),
            Self::Claim => json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "resources": {"requests": {"storage": "1Gi"}}}}),
            Self::Widget => json!({"spec": {"size": 1}}),
        }
    }
}

/// A namespace of the history, by its number.
pub type Place = u8;

pub const PLACES: u8 = 3;
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// A name that something can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub place: Place,
    pub name: &'static str,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Object(Key),
    Namespace(Place),
}

impl Target {
    pub fn place(self) -> Place {
        match self {
            Self::Object(key) => key.place,
            Self::Namespace(place) => place,
        }
    }

    pub fn key(self) -> Option<Key> {
        if let Self::Object(key) = self { Some(key) } else { None }
    }

    pub fn resource(self) -> String {
        self.key().map_or_else(|| "namespaces".to_owned(), |key| key.kind.resource())
    }
}

/// The actions that histories try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Delete,
    Recreate,
    ScaleToZero,
    Evict,
    Reparent,
    Finalize,
    DiscardData,
    Unprotect,
    Loosen,
}

impl Action {
    /// Those that a rule guards against if it says nothing.
    pub const USUAL: [Self; 7] = [
        Self::Delete,
        Self::Recreate,
        Self::ScaleToZero,
        Self::Reparent,
        Self::Finalize,
        Self::DiscardData,
        Self::Unprotect,
    ];

    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Who approves: everybody of a group, and the people of a team that each history makes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Team {
    Approvers,
    Owners,
}

impl Team {
    pub fn has(self, user: User) -> bool {
        match self {
            Self::Approvers => matches!(user, User::Alice | User::Bob),
            Self::Owners => matches!(user, User::Carol | User::Bob),
        }
    }

    pub fn name(self, history: &str) -> String {
        match self {
            Self::Approvers => "approvers".to_owned(),
            Self::Owners => format!("{history}-owners"),
        }
    }
}

pub fn namespace(history: &str, place: Place) -> String {
    format!("{history}-{place}")
}

pub fn manifest(history: &str, key: Key, gold: bool) -> Value {
    let mut manifest = key.kind.spec(key.name);
    manifest["apiVersion"] = json!(key.kind.api_version());
    manifest["kind"] = json!(key.kind.names().2);
    let mut labels = json!({OF: history});
    if gold {
        labels[GOLD] = json!("gold");
    }
    let namespace = namespace(history, key.place);
    manifest["metadata"] = json!({"name": key.name, "namespace": namespace, "labels": labels});
    manifest
}

pub fn namespace_manifest(history: &str, place: Place) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(history, place),
        "labels": {OF: history, INSIDE: history}}})
}

pub fn definition() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}
