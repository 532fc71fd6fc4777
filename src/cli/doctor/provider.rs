//! Whose cluster it is, and what is that provider's own in it.
//!
//! The API server's version says so, which nobody in the cluster writes. Labels and names of bindings tell nothing:
//! whoever may bind may write them.

use super::rbac::{Binding, Holder};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Eks,
    Gke,
    OpenShift,
}

/// Under these users GKE runs what is not called `system:`. People are known to it by addresses and numbers.
const GKE_USERS: [&str; 5] =
    ["cluster-autoscaler", "kube-apiserver", "kubelet", "kubelet-bootstrap", "kubelet-nodepool-bootstrap"];

/// What EKS puts into every cluster's kube-system.
const EKS_ACCOUNTS: [&str; 2] = ["aws-node", "eks-vpc-resource-controller"];

impl Provider {
    /// By `v1.33.1-eks-595af52`, `v1.33.4-gke.1036000` or `v1.33.4+4fab27b`.
    pub fn of(version: &str) -> Option<Self> {
        let is_commit = |build: &str| build.len() >= 7 && build.bytes().all(|byte| byte.is_ascii_hexdigit());
        if version.contains("-eks-") {
            Some(Self::Eks)
        } else if version.contains("-gke.") {
            Some(Self::Gke)
        } else if version.split_once('+').is_some_and(|(release, build)| !release.contains('-') && is_commit(build)) {
            Some(Self::OpenShift)
        } else {
            None
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Eks => "EKS",
            Self::Gke => "GKE",
            Self::OpenShift => "OpenShift",
        }
    }

    /// Whether nobody but the provider acts under this name: neither people nor their workloads can be called so.
    pub fn owns(self, holder: &Holder, binding: &Binding) -> bool {
        match (self, holder) {
            (Self::Eks, Holder::User(name) | Holder::Group(name)) => name.starts_with("eks:"),
            (Self::Eks, Holder::ServiceAccount { namespace, name }) => {
                namespace == "kube-system" && EKS_ACCOUNTS.contains(&name.as_str())
            }
            (Self::Gke, Holder::User(name)) => GKE_USERS.contains(&name.as_str()) || is_component(name),
            (Self::Gke, Holder::Group(name)) => name.starts_with("system:gke-"),
            // There are too many to name. The mark tells them from those that somebody else put there.
            (Self::Gke, Holder::ServiceAccount { namespace, .. }) => {
                let labels = binding.metadata.labels.as_ref();
                namespace == "kube-system"
                    && labels.is_some_and(|labels| labels.contains_key("addonmanager.kubernetes.io/mode"))
            }
            (Self::OpenShift, _) => false,
        }
    }

    /// Whether by this user nodes ask for their first certificate.
    pub fn joins_nodes(self, user: &str) -> bool {
        match self {
            Self::Eks => false,
            Self::Gke => ["kubelet", "kubelet-bootstrap", "kubelet-nodepool-bootstrap"].contains(&user),
            Self::OpenShift => user == "system:serviceaccount:openshift-machine-config-operator:node-bootstrapper",
        }
    }

    /// Whether API servers run where nothing of the cluster's users does: what they call there is the provider's.
    pub fn hides_its_machines(self) -> bool {
        matches!(self, Self::Eks | Self::Gke)
    }

    /// By what people are allowed things beside RBAC, if it always is so.
    pub fn authorizes_by(self) -> Option<&'static str> {
        match self {
            Self::Eks => Some("access entries (aws eks list-access-entries)"),
            Self::Gke => Some("IAM of the project (gcloud projects get-iam-policy)"),
            Self::OpenShift => None,
        }
    }
}

/// A program of the control plane.
fn is_component(user: &str) -> bool {
    let others = ["system:anonymous", "system:node:", "system:bootstrap:", "system:serviceaccount:"];
    user.starts_with("system:") && !others.iter().any(|other| user.starts_with(other))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("v1.33.1-eks-595af52", Some(Provider::Eks))]
    #[case("v1.33.4-gke.1036000", Some(Provider::Gke))]
    #[case("v1.33.4+4fab27b", Some(Provider::OpenShift))]
    #[case("v1.33.4", None)]
    #[case("v1.33.4+k3s1", None)]
    #[case("v1.33.4+rke2r1", None)]
    #[case("v1.34.0-alpha.1.12+4fab27b123abcd", None)]
    #[case("", None)]
    fn a_provider_is_known_by_the_version_of_its_api_server(#[case] version: &str, #[case] provider: Option<Provider>) {
        assert_eq!(Provider::of(version), provider);
    }

    fn user(name: &str) -> Holder {
        Holder::user(name)
    }

    #[rstest]
    #[case::of_eks(Provider::Eks, user("eks:addon-manager"), true)]
    #[case::in_the_pods(Provider::Eks, user("system:serviceaccount:kube-system:eks-vpc-resource-controller"), true)]
    #[case::of_anothers_pods(Provider::Eks, user("system:serviceaccount:kube-system:agent"), false)]
    #[case::of_anothers_namespace(Provider::Eks, user("system:serviceaccount:ci:aws-node"), false)]
    #[case::of_another_provider(Provider::Gke, user("eks:addon-manager"), false)]
    #[case::of_gke(Provider::Gke, user("system:storageversionmigrator"), true)]
    #[case::a_kubelets(Provider::Gke, user("kubelet-nodepool-bootstrap"), true)]
    #[case::a_person(Provider::Gke, user("alice@example.com"), false)]
    #[case::a_node(Provider::Gke, user("system:node:n"), false)]
    #[case::a_token(Provider::Gke, user("system:bootstrap:abcdef"), false)]
    #[case::anybody(Provider::Gke, user("system:anonymous"), false)]
    #[case::unmarked(Provider::Gke, user("system:serviceaccount:kube-system:netd"), false)]
    #[case::everybody(Provider::Gke, Holder::Group("system:authenticated".into()), false)]
    #[case::nobody(Provider::Gke, Holder::Group("system:unauthenticated".into()), false)]
    #[case::every_pod(Provider::Gke, Holder::Group("system:serviceaccounts".into()), false)]
    #[case::every_pod_there(Provider::Eks, Holder::Group("system:serviceaccounts:kube-system".into()), false)]
    #[case::nodes(Provider::Gke, Holder::Group("system:nodes".into()), false)]
    fn only_what_nobody_else_can_be_called_is_the_providers(
        #[case] provider: Provider,
        #[case] holder: Holder,
        #[case] own: bool,
    ) {
        assert_eq!(provider.owns(&holder, &Binding::default()), own);
    }

    #[rstest]
    #[case("kube-system", true)]
    #[case("ci", false)]
    fn a_mark_counts_in_the_providers_namespace_alone(#[case] namespace: &str, #[case] own: bool) {
        let labels = [("addonmanager.kubernetes.io/mode".to_owned(), "Reconcile".to_owned())].into();
        let metadata = kube::core::ObjectMeta { labels: Some(labels), ..kube::core::ObjectMeta::default() };
        let binding = Binding { metadata, ..Binding::default() };
        let holder = user(&format!("system:serviceaccount:{namespace}:netd"));
        assert_eq!(Provider::Gke.owns(&holder, &binding), own);
    }
}
