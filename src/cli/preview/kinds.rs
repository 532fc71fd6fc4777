//! The kinds of a cluster that is no more: those of Kubernetes itself, and those that a log or a snapshot shows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One kind, in one version that serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) version: String,
    pub(super) title: String,
    pub(super) namespaced: bool,
}

/// By group and plural name.
#[derive(Debug)]
pub(super) struct Kinds(BTreeMap<(String, String), Kind>);

/// Of every cluster: group and version, and what is in it. A star stands before what is in no namespace.
const BUILT_IN: [(&str, &str, &[&str]); 14] = [
    (
        "",
        "v1",
        &[
            "*namespaces=Namespace",
            "*nodes=Node",
            "*persistentvolumes=PersistentVolume",
            "configmaps=ConfigMap",
            "endpoints=Endpoints",
            "limitranges=LimitRange",
            "persistentvolumeclaims=PersistentVolumeClaim",
            "pods=Pod",
            "podtemplates=PodTemplate",
            "replicationcontrollers=ReplicationController",
            "resourcequotas=ResourceQuota",
            "secrets=Secret",
            "serviceaccounts=ServiceAccount",
            "services=Service",
        ],
    ),
    (
        "apps",
        "v1",
        &[
            "controllerrevisions=ControllerRevision",
            "daemonsets=DaemonSet",
            "deployments=Deployment",
            "replicasets=ReplicaSet",
            "statefulsets=StatefulSet",
        ],
    ),
    ("autoscaling", "v2", &["horizontalpodautoscalers=HorizontalPodAutoscaler"]),
    ("batch", "v1", &["cronjobs=CronJob", "jobs=Job"]),
    ("discovery.k8s.io", "v1", &["endpointslices=EndpointSlice"]),
    (
        "networking.k8s.io",
        "v1",
        &["*ingressclasses=IngressClass", "ingresses=Ingress", "networkpolicies=NetworkPolicy"],
    ),
    ("policy", "v1", &["poddisruptionbudgets=PodDisruptionBudget"]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &[
            "*clusterrolebindings=ClusterRoleBinding",
            "*clusterroles=ClusterRole",
            "rolebindings=RoleBinding",
            "roles=Role",
        ],
    ),
    (
        "storage.k8s.io",
        "v1",
        &[
            "*csidrivers=CSIDriver",
            "*csinodes=CSINode",
            "*storageclasses=StorageClass",
            "*volumeattachments=VolumeAttachment",
        ],
    ),
    ("scheduling.k8s.io", "v1", &["*priorityclasses=PriorityClass"]),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[
            "*mutatingwebhookconfigurations=MutatingWebhookConfiguration",
            "*validatingadmissionpolicies=ValidatingAdmissionPolicy",
            "*validatingadmissionpolicybindings=ValidatingAdmissionPolicyBinding",
            "*validatingwebhookconfigurations=ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", "v1", &["*customresourcedefinitions=CustomResourceDefinition"]),
    ("apiregistration.k8s.io", "v1", &["*apiservices=APIService"]),
    (
        "tagout.dev",
        "v1alpha1",
        &[
            "*approvals=Approval",
            "*approverteams=ApproverTeam",
            "*deletionrecords=DeletionRecord",
            "*ledgers=Ledger",
            "*protectionrules=ProtectionRule",
        ],
    ),
];

impl Default for Kinds {
    fn default() -> Self {
        let mut kinds = Self(BTreeMap::new());
        for (group, version, all) in BUILT_IN {
            for named in all {
                let (plural, title) = named.split_once('=').expect("a plural and a kind");
                let namespaced = !plural.starts_with('*');
                kinds.learn(group, version, plural.trim_start_matches('*'), title, namespaced);
            }
        }
        kinds
    }
}

impl Kinds {
    /// What is known already stays: a log names a kind in whatever version its client asked for.
    pub(super) fn learn(&mut self, group: &str, version: &str, plural: &str, title: &str, namespaced: bool) {
        let key = (group.to_owned(), plural.to_owned());
        self.0.entry(key).or_insert_with(|| Kind { version: version.to_owned(), title: title.to_owned(), namespaced });
    }

    pub(super) fn get(&self, group: &str, plural: &str) -> Option<&Kind> {
        self.0.get(&(group.to_owned(), plural.to_owned()))
    }

    /// The plural name of a kind, by what its objects say of themselves.
    pub(super) fn plural(&self, group: &str, title: &str) -> Option<(&str, &Kind)> {
        let found = self.0.iter().find(|((own, _), kind)| own == group && kind.title == title);
        found.map(|((_, plural), kind)| (plural.as_str(), kind))
    }

    pub(super) fn forget(&mut self, group: &str, plural: &str) {
        self.0.remove(&(group.to_owned(), plural.to_owned()));
    }

    /// As the API server says it to who asks for everything at once: of the core group, or of all others.
    pub(super) fn aggregated(&self, core: bool) -> Value {
        let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
        for ((group, plural), kind) in self.0.iter().filter(|((group, _), _)| group.is_empty() == core) {
            let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
            let resource = json!({
                "resource": plural,
                "responseKind": {"group": group, "version": kind.version, "kind": kind.title},
                "scope": scope,
                "singularResource": kind.title.to_lowercase(),
                "verbs": ["create", "delete", "get", "list", "update", "watch"],
            });
            groups.entry(group).or_default().entry(&kind.version).or_default().push(resource);
        }
        let version = |(version, resources): (&str, Vec<Value>)| json!({"version": version, "freshness": "Current", "resources": resources});
        let group = |(group, versions): (&str, BTreeMap<&str, Vec<Value>>)| {
            let versions: Vec<Value> = versions.into_iter().map(version).collect();
            json!({"metadata": {"name": group}, "versions": versions})
        };
        let items: Vec<Value> = groups.into_iter().map(group).collect();
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    }

    /// As the API server says it of one version of a group. Any version will do: what it serves it serves in all.
    pub(super) fn of(&self, group: &str, version: &str) -> Option<Value> {
        let named = self.0.iter().filter(|((own, _), _)| own == group);
        let resources: Vec<Value> = named
            .map(|((_, plural), kind)| {
                json!({
                    "name": plural,
                    "singularName": kind.title.to_lowercase(),
                    "namespaced": kind.namespaced,
                    "kind": kind.title,
                    "verbs": ["create", "delete", "get", "list", "update", "watch"],
                })
            })
            .collect();
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        (!resources.is_empty()).then(|| {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_shows_is_known_beside_what_every_cluster_has() {
        let mut kinds = Kinds::default();
        kinds.learn("example.com", "v1", "toys", "Toy", true);
        kinds.learn("apps", "v1beta9", "deployments", "Other", false);
        assert_eq!(kinds.plural("example.com", "Toy").map(|(plural, _)| plural), Some("toys"));
        assert_eq!(kinds.get("apps", "deployments").map(|kind| kind.title.as_str()), Some("Deployment"));
        assert_eq!(kinds.of("example.com", "v1").unwrap()["resources"][0]["kind"], "Toy");
        assert!(kinds.of("nobody.example.com", "v1").is_none());
        assert_eq!(kinds.aggregated(true)["items"].as_array().map(Vec::len), Some(1));
    }
}
