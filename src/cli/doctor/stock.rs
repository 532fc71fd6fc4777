//! What Kubernetes, kubeadm and Tagout's chart bind by themselves. Anything that merely looks like it is somebody's, and
//! so is a role among them that somebody widened.

use super::rbac::{Binding, Grant, Holder};
use super::rights::hits;

/// Of Kubernetes' controllers, those whose role gives rights that matter, and which. The binding and the role are called
/// `system:controller:NAME`, the account in kube-system NAME.
const CONTROLLERS: [(&str, &[&str]); 19] = [
    ("attachdetach-controller", &["nodes"]),
    ("certificate-controller", &["certificates"]),
    ("clusterrole-aggregation-controller", &["grant", "roles"]),
    ("cronjob-controller", &["controllers"]),
    ("daemon-set-controller", &["controllers"]),
    ("deployment-controller", &["controllers"]),
    ("expand-controller", &["controllers"]),
    ("generic-garbage-collector", EVERY_KIND),
    ("job-controller", &["controllers"]),
    ("legacy-service-account-token-cleaner", &["controllers"]),
    ("namespace-controller", EVERY_KIND),
    ("node-controller", &["nodes"]),
    ("persistent-volume-binder", &["controllers"]),
    ("replicaset-controller", &["controllers"]),
    ("replication-controller", &["controllers"]),
    ("resourcequota-controller", &["controllers"]),
    ("route-controller", &["nodes"]),
    ("statefulset-controller", &["controllers"]),
    ("ttl-controller", &["nodes"]),
];

/// They read and delete whatever there is.
const EVERY_KIND: &[&str] = &[
    "apiservices",
    "approvals",
    "certificates",
    "controllers",
    "definitions",
    "nodes",
    "policies",
    "reach",
    "records",
    "roles",
    "rules",
    "webhooks",
];

/// And of those whose Role is in kube-system.
const OF_KUBE_SYSTEM: [(&str, &[&str]); 2] =
    [("bootstrap-signer", &["controllers"]), ("token-cleaner", &["controllers"])];

/// What else gives rights that matter in the whole cluster: binding, cluster's role, subject and rights.
const OTHERS: [(&str, &str, &str, &[&str]); 2] = [
    (
        "system:kube-controller-manager",
        "system:kube-controller-manager",
        "User/system:kube-controller-manager",
        &["controllers"],
    ),
    (
        "kubeadm:node-autoapprove-bootstrap",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "Group/system:bootstrappers:kubeadm:default-node-token",
        &["join"],
    ),
];

/// Whether Kubernetes or Tagout's chart made it so, and its role gives no more than theirs does. `approvers` are the
/// groups and people of teams, as findings name them.
pub fn is_stock(grant: &Grant, holder: &Holder, home: &str, approvers: &[String]) -> bool {
    known(grant.binding, holder, home, approvers)
        .is_some_and(|rights| hits(grant, home).iter().all(|hit| rights.contains(&hit.right.code)))
}

/// The rights that matter which such a binding gives by itself.
fn known(binding: &Binding, holder: &Holder, home: &str, approvers: &[String]) -> Option<&'static [&'static str]> {
    let (name, role, subject) = (binding.name(), binding.role.as_str(), holder.object());
    let kind = if binding.namespace().is_some() { "Role" } else { "ClusterRole" };
    if binding.role_kind != kind {
        return None;
    }
    if let Some(controller) = name.strip_prefix("system:controller:") {
        let all: &[(&str, &[&str])] = match binding.namespace() {
            None => &CONTROLLERS,
            Some("kube-system") => &OF_KUBE_SYSTEM,
            Some(_) => return None,
        };
        let exact = role == name && subject == format!("ServiceAccount/kube-system/{controller}");
        return all.iter().find(|(own, _)| exact && *own == controller).map(|(_, rights)| *rights);
    }
    let own = |account: &str| subject == format!("ServiceAccount/{home}/{account}");
    match (name, role, binding.namespace()) {
        ("tagout", "tagout", None) if own("tagout") => {
            Some(&["approvals", "controllers", "policies", "records", "webhooks"])
        }
        ("tagout", "tagout", Some(namespace)) if namespace == home && own("tagout") => Some(&["controllers"]),
        ("tagout-crds", "tagout-crds", None) if own("tagout-crds") => Some(&["definitions"]),
        ("tagout-approver", "tagout-approver", None) if approvers.contains(&subject) => Some(&["approvals", "rules"]),
        (_, _, None) => {
            let other = OTHERS.iter().find(|other| (other.0, other.1, other.2) == (name, role, subject.as_str()));
            other.map(|other| other.3)
        }
        _ => None,
    }
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
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::rbac::Role;
    use super::*;

    fn account(namespace: &str, name: &str) -> Holder {
        Holder::ServiceAccount { namespace: namespace.into(), name: name.into() }
    }

    /// Whether a binding of this name is left out, whose role gives this.
    fn is_left_out(
        name: &str,
        (kind, role): (&str, &str),
        namespace: Option<&str>,
        holder: &Holder,
        rule: &Value,
    ) -> bool {
        let binding = Binding {
            metadata: serde_json::from_value(json!({"name": name, "namespace": namespace})).expect("metadata"),
            role_kind: kind.into(),
            role: role.into(),
            ..Binding::default()
        };
        let rules = vec![serde_json::from_value(rule.clone()).expect("a rule")];
        let role = Role { rules, ..Role::default() };
        is_stock(&Grant { binding: &binding, role: &role }, holder, "home", &["Group/sre".to_owned()])
    }

    fn pods() -> Value {
        json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods"]})
    }

    const JOB: &str = "system:controller:job-controller";

    #[rstest]
    #[case::a_controller(JOB, ("ClusterRole", JOB), None, account("kube-system", "job-controller"), true)]
    #[case::another_role(JOB, ("ClusterRole", "cluster-admin"), None, account("kube-system", "job-controller"), false)]
    #[case::another_account(JOB, ("ClusterRole", JOB), None, account("kube-system", "agent"), false)]
    #[case::another_namespaces(JOB, ("ClusterRole", JOB), None, account("ci", "job-controller"), false)]
    #[case::in_a_namespace(JOB, ("ClusterRole", JOB), Some("kube-system"), account("kube-system", "job-controller"), false)]
    #[case::by_a_role_there(JOB, ("Role", JOB), Some("kube-system"), account("kube-system", "job-controller"), false)]
    #[case::a_signer("system:controller:bootstrap-signer", ("Role", "system:controller:bootstrap-signer"), Some("kube-system"),
        account("kube-system", "bootstrap-signer"), true)]
    #[case::a_signer_elsewhere("system:controller:bootstrap-signer", ("Role", "system:controller:bootstrap-signer"), Some("home"),
        account("kube-system", "bootstrap-signer"), false)]
    #[case::invented("system:controller:agent", ("ClusterRole", "system:controller:agent"), None, account("kube-system", "agent"), false)]
    #[case::tagout("tagout", ("ClusterRole", "tagout"), None, account("home", "tagout"), true)]
    #[case::tagout_at_home("tagout", ("Role", "tagout"), Some("home"), account("home", "tagout"), true)]
    #[case::by_another_kind("tagout", ("ClusterRole", "tagout"), Some("home"), account("home", "tagout"), false)]
    #[case::elsewhere("tagout", ("ClusterRole", "tagout"), None, account("x", "tagout"), false)]
    fn only_exactly_what_the_installers_bind_is_left_out(
        #[case] name: &str,
        #[case] role: (&str, &str),
        #[case] namespace: Option<&str>,
        #[case] holder: Holder,
        #[case] left_out: bool,
    ) {
        assert_eq!(is_left_out(name, role, namespace, &holder, &pods()), left_out);
    }

    #[rstest]
    #[case::an_approver("sre", json!({"verbs": ["create"], "apiGroups": ["tagout.dev"], "resources": ["approvals"]}), true)]
    #[case::no_approver("ci", json!({"verbs": ["create"], "apiGroups": ["tagout.dev"], "resources": ["approvals"]}), false)]
    #[case::an_approver_with_more("sre", pods(), false)]
    fn an_approver_is_one_with_an_approvers_rights(#[case] group: &str, #[case] rule: Value, #[case] left_out: bool) {
        let (role, holder) = (("ClusterRole", "tagout-approver"), Holder::Group(group.into()));
        assert_eq!(is_left_out("tagout-approver", role, None, &holder, &rule), left_out);
    }

    #[rstest]
    #[case(json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]}))]
    #[case(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))]
    #[case(json!({"verbs": ["patch"], "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"]}))]
    fn a_stock_role_that_somebody_widened_is_judged_like_any_other(#[case] rule: Value) {
        let (job, tagout) = (account("kube-system", "job-controller"), account("home", "tagout"));
        assert!(!is_left_out(JOB, ("ClusterRole", JOB), None, &job, &rule));
        let bootstrap = "kubeadm:node-autoapprove-bootstrap";
        let role = ("ClusterRole", "system:certificates.k8s.io:certificatesigningrequests:nodeclient");
        let nodes = Holder::Group("system:bootstrappers:kubeadm:default-node-token".into());
        assert!(!is_left_out(bootstrap, role, None, &nodes, &rule));
        assert!(!is_left_out("tagout", ("Role", "tagout"), Some("kube-system"), &tagout, &rule));
        assert!(!is_left_out("tagout-view", ("ClusterRole", "view"), None, &tagout, &rule));
    }
}
