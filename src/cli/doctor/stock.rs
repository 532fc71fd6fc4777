//! Which bindings are Kubernetes' and Tagout's own, by the exact binding, role and subject: anything that merely looks
//! like one is somebody's.

use super::rbac::{Binding, Holder};

/// Kubernetes' controllers: the binding and the role are called `system:controller:NAME`, the account NAME.
const CONTROLLERS: [&str; 41] = [
    "attachdetach-controller",
    "bootstrap-signer",
    "certificate-controller",
    "cloud-provider",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "podcertificaterequestcleaner",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resource-claim-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "route-controller",
    "selinux-warning-controller",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "token-cleaner",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
];

/// Its other bindings, and those of kubeadm, that give more than reading: binding, role and subject.
const OTHERS: [(&str, &str, &str); 12] = [
    ("cluster-admin", "cluster-admin", "Group/system:masters"),
    ("system:kube-controller-manager", "system:kube-controller-manager", "User/system:kube-controller-manager"),
    ("system:kube-scheduler", "system:kube-scheduler", "User/system:kube-scheduler"),
    ("system:volume-scheduler", "system:volume-scheduler", "User/system:kube-scheduler"),
    ("system:node-proxier", "system:node-proxier", "User/system:kube-proxy"),
    ("kubeadm:node-proxier", "system:node-proxier", "ServiceAccount/kube-system/kube-proxy"),
    ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", "Group/system:bootstrappers:kubeadm:default-node-token"),
    (
        "kubeadm:node-autoapprove-bootstrap",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "Group/system:bootstrappers:kubeadm:default-node-token",
    ),
    (
        "kubeadm:node-autoapprove-certificate-rotation",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "Group/system:nodes",
    ),
    (
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "User/system:kube-controller-manager",
    ),
    ("system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler", "User/system:kube-scheduler"),
    ("coredns", "system:coredns", "ServiceAccount/kube-system/coredns"),
];

/// Whether Kubernetes or Tagout's chart made it so. `approvers` are the groups and people of teams, as findings name them.
pub fn is_stock(binding: &Binding, holder: &Holder, home: &str, approvers: &[String]) -> bool {
    let (name, role, subject) = (binding.name(), binding.role.as_str(), holder.object());
    if let Some(controller) = name.strip_prefix("system:controller:") {
        let volume_attributes = controller == "volumeattributesclass-protection-controller";
        return role == name
            && (CONTROLLERS.contains(&controller) || volume_attributes)
            && subject == format!("ServiceAccount/kube-system/{controller}");
    }
    let own = |account: &str| subject == format!("ServiceAccount/{home}/{account}");
    match (name, role, binding.namespace()) {
        ("tagout", "tagout", None) | ("tagout-view", "view", None) => own("tagout"),
        ("tagout", "tagout", Some(namespace)) => namespace == home && own("tagout"),
        ("tagout-crds", "tagout-crds", None) => own("tagout-crds"),
        ("tagout-approver", "tagout-approver", None) => approvers.contains(&subject),
        _ => OTHERS.contains(&(name, role, subject.as_str())),
    }
}

/// Of whose provider or installer a binding is, where that is marked on it: what is marked so can be made by anybody who
/// may bind, so it is said more quietly and never left out.
pub fn provider(binding: &Binding) -> Option<&'static str> {
    const MARKS: [&str; 3] =
        ["kubernetes.io/bootstrapping", "addonmanager.kubernetes.io/mode", "eks.amazonaws.com/component"];
    let name = binding.name();
    if (name, binding.role.as_str()) == ("kubeadm:cluster-admins", "cluster-admin")
        && binding.subjects.iter().all(|subject| subject.kind == "Group" && subject.name == "kubeadm:cluster-admins")
    {
        return Some("kubeadm:cluster-admins");
    }
    let labels = binding.metadata.labels.iter().flatten();
    let marked = labels.into_iter().any(|(key, _)| MARKS.contains(&key.as_str()));
    let prefixes = [("eks:", "eks:*"), ("system:gke-", "system:gke-*"), ("gce:", "gce:*"), ("aks-", "aks-*")];
    prefixes.into_iter().find(|(prefix, _)| marked && name.starts_with(prefix)).map(|(_, provider)| provider)
}

/// Where a binding comes from, when something else would put it back.
pub fn source(binding: &Binding) -> Option<String> {
    let metadata = &binding.metadata;
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let label = |key: &str| metadata.labels.as_ref().and_then(|all| all.get(key));
    if let Some(release) = annotation("meta.helm.sh/release-name") {
        return Some(format!("Helm's release {release}"));
    }
    if annotation("argocd.argoproj.io/tracking-id").is_some() || label("argocd.argoproj.io/instance").is_some() {
        return Some("Argo CD".to_owned());
    }
    if label("kustomize.toolkit.fluxcd.io/name").is_some() || label("helm.toolkit.fluxcd.io/name").is_some() {
        return Some("Flux".to_owned());
    }
    if label("addonmanager.kubernetes.io/mode").is_some() || label("kubernetes.io/bootstrapping").is_some() {
        return Some("the cluster's provider or installer".to_owned());
    }
    label("app.kubernetes.io/managed-by").map(|manager| format!("what is managed by {manager}"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::Subject;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn binding(name: &str, role: &str, namespace: Option<&str>) -> Binding {
        let metadata = json!({"name": name, "namespace": namespace});
        Binding {
            metadata: serde_json::from_value(metadata).expect("metadata"),
            role_kind: "ClusterRole".into(),
            role: role.into(),
            ..Binding::default()
        }
    }

    #[rstest]
    #[case::kubernetes("cluster-admin", "cluster-admin", Holder::Group("system:masters".into()), true)]
    #[case::another_subject("cluster-admin", "cluster-admin", Holder::Group("developers".into()), false)]
    #[case::another_binding("cluster-admin-2", "cluster-admin", Holder::Group("system:masters".into()), false)]
    #[case::a_controller("system:controller:job-controller", "system:controller:job-controller",
        Holder::ServiceAccount { namespace: "kube-system".into(), name: "job-controller".into() }, true)]
    #[case::with_more("system:controller:job-controller", "cluster-admin",
        Holder::ServiceAccount { namespace: "kube-system".into(), name: "job-controller".into() }, false)]
    #[case::invented("system:controller:agent", "system:controller:agent",
        Holder::ServiceAccount { namespace: "kube-system".into(), name: "agent".into() }, false)]
    #[case::tagout("tagout", "tagout", Holder::ServiceAccount { namespace: "home".into(), name: "tagout".into() }, true)]
    #[case::elsewhere("tagout", "tagout", Holder::ServiceAccount { namespace: "x".into(), name: "tagout".into() }, false)]
    #[case::an_approver("tagout-approver", "tagout-approver", Holder::Group("sre".into()), true)]
    #[case::no_approver("tagout-approver", "tagout-approver", Holder::Group("ci".into()), false)]
    fn only_the_exact_three_are_left_out(
        #[case] name: &str,
        #[case] role: &str,
        #[case] holder: Holder,
        #[case] stock: bool,
    ) {
        assert_eq!(is_stock(&binding(name, role, None), &holder, "home", &["Group/sre".to_owned()]), stock);
    }

    #[test]
    fn a_provider_is_told_by_name_and_mark_together() {
        let mut one = binding("eks:node-manager", "eks:node-manager", None);
        assert_eq!(provider(&one), None);
        one.metadata.labels = Some([("eks.amazonaws.com/component".to_owned(), "x".to_owned())].into());
        assert_eq!(provider(&one), Some("eks:*"));
        let mut kubeadm = binding("kubeadm:cluster-admins", "cluster-admin", None);
        let group = |name: &str| Subject { kind: "Group".into(), name: name.into(), ..Subject::default() };
        kubeadm.subjects = vec![group("kubeadm:cluster-admins")];
        assert_eq!(provider(&kubeadm), Some("kubeadm:cluster-admins"));
        kubeadm.subjects.push(group("agents"));
        assert_eq!(provider(&kubeadm), None);
    }
}
