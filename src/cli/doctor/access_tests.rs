use k8s_openapi::api::rbac::v1::Subject;
use rstest::rstest;
use serde_json::{Value, json};

use super::super::finding::shell;
use super::super::rbac::Role;
use super::*;

fn binding(name: &str, role: &str, metadata: &Value, subject: &Value) -> Binding {
    let mut all = json!({"name": name});
    all.as_object_mut().expect("an object").extend(metadata.as_object().expect("an object").clone());
    Binding {
        metadata: serde_json::from_value(all).expect("metadata"),
        role_kind: "ClusterRole".into(),
        role: role.into(),
        subjects: vec![serde_json::from_value::<Subject>(subject.clone()).expect("a subject")],
    }
}

fn role(name: &str, verbs: &[&str], group: &str, resources: &[&str]) -> Role {
    let rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
    Role { namespace: None, name: name.into(), rules: vec![serde_json::from_value(rule).expect("a rule")] }
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

fn roles() -> Vec<Role> {
    vec![
        role("cluster-admin", &["*"], "*", &["*"]),
        role("impersonator", &["impersonate"], "", &["users"]),
        role("webhooks", &["patch"], "admissionregistration.k8s.io", &["validatingwebhookconfigurations"]),
        role("pods", &["create"], "", &["pods"]),
        role("view", &["get", "list"], "", &["pods"]),
    ]
}

fn found(bindings: &[Binding]) -> Vec<Finding> {
    found_at(None, bindings)
}

fn found_at(provider: Option<Provider>, bindings: &[Binding]) -> Vec<Finding> {
    judge(bindings, &roles(), "tagout-system", &["Group/sre".to_owned()], provider)
}

fn ids(findings: &[Finding]) -> Vec<(&str, &str, Severity)> {
    findings.iter().map(|finding| (finding.known.id, finding.object.as_str(), finding.severity)).collect()
}

#[test]
fn one_holder_is_one_finding_whatever_and_however_much_they_hold() {
    let all = [
        binding("a", "impersonator", &json!({}), &user("eve")),
        binding("b", "webhooks", &json!({}), &user("eve")),
        binding("c", "view", &json!({}), &user("bob")),
    ];
    let findings = found(&all);
    assert_eq!(ids(&findings), [("strong-rights", "User/eve", Severity::Danger)]);
    assert_eq!(findings[0].rights, ["impersonate", "webhooks"]);
    for binding in ["ClusterRoleBinding/a", "ClusterRoleBinding/b"] {
        assert!(findings[0].says.contains(binding), "{}", findings[0].says);
    }
}

#[rstest]
#[case::people(json!({"kind": "Group", "name": "admins"}), "cluster-admins", Severity::Warning)]
#[case::a_machine(json!({"kind": "ServiceAccount", "namespace": "ci", "name": "runner"}), "strong-rights", Severity::Danger)]
#[case::everybody(json!({"kind": "Group", "name": "system:authenticated"}), "strong-rights", Severity::Danger)]
#[case::a_machine_by_its_users_name(json!({"kind": "User", "name": "system:serviceaccount:ci:runner"}), "strong-rights", Severity::Danger)]
fn everything_is_graver_in_the_hands_of_machines(#[case] subject: Value, #[case] id: &str, #[case] severity: Severity) {
    let findings = found(&[binding("x", "cluster-admin", &json!({}), &subject)]);
    assert_eq!((findings[0].known.id, findings[0].severity, findings.len()), (id, severity, 1));
}

#[test]
fn a_binding_in_a_namespace_gives_nothing_outside_of_it() {
    assert!(found(&[binding("x", "impersonator", &json!({"namespace": "kube-system"}), &user("eve"))]).is_empty());
    assert!(found(&[binding("x", "cluster-admin", &json!({"namespace": "payments"}), &user("eve"))]).is_empty());
    let there = found(&[binding("x", "pods", &json!({"namespace": "tagout-system"}), &user("eve"))]);
    assert_eq!(there[0].rights, ["controllers"]);
}

#[test]
fn who_may_start_a_pod_as_such_an_account_has_its_rights_by_a_path_over_several() {
    let all = [
        binding("strong", "webhooks", &json!({}), &account("ops", "operator")),
        binding("step-1", "pods", &json!({"namespace": "ops"}), &account("ci", "runner")),
        binding("step-2", "pods", &json!({"namespace": "ci"}), &user("eve")),
        binding("elsewhere", "pods", &json!({"namespace": "other"}), &user("bob")),
    ];
    let findings = found(&all);
    assert_eq!(
        ids(&findings),
        [
            ("strong-rights", "ServiceAccount/ops/operator", Severity::Danger),
            ("indirect-rights", "User/eve", Severity::Warning),
            ("indirect-rights", "ServiceAccount/ci/runner", Severity::Warning),
        ]
    );
    for step in ["ServiceAccount/ci/runner", "ServiceAccount/ops/operator", "step-1", "step-2", "create pods"] {
        assert!(findings[1].says.contains(step), "{step}: {}", findings[1].says);
    }
}

#[test]
fn who_has_little_and_may_become_one_who_has_more_is_told_of_both() {
    let all = [
        binding("strong", "webhooks", &json!({}), &account("ops", "operator")),
        binding("little", "impersonator", &json!({}), &user("eve")),
        binding("step", "pods", &json!({"namespace": "ops"}), &user("eve")),
        binding("as-much", "webhooks", &json!({}), &user("bob")),
        binding("no-step", "pods", &json!({"namespace": "ops"}), &user("bob")),
    ];
    let findings = found(&all);
    let indirect: Vec<_> = findings.iter().filter(|finding| finding.known.id == "indirect-rights").collect();
    assert_eq!(indirect.iter().map(|finding| finding.object.as_str()).collect::<Vec<_>>(), ["User/eve"]);
}

#[test]
fn a_binding_without_its_role_is_noted() {
    let findings = found(&[binding("x", "gone", &json!({}), &user("eve"))]);
    assert_eq!(ids(&findings), [("dangling-binding", "ClusterRoleBinding/x", Severity::Note)]);
}

#[test]
fn what_the_provider_holds_is_one_note_and_never_nothing() {
    let all = [
        binding("one", "impersonator", &json!({}), &user("eks:one")),
        binding("two", "webhooks", &json!({}), &user("eks:two")),
        binding("eks:three", "webhooks", &json!({}), &user("eve")),
    ];
    let findings = found_at(Some(Provider::Eks), &all);
    assert_eq!(
        ids(&findings),
        [("managed-rights", "Provider/EKS", Severity::Note), ("strong-rights", "User/eve", Severity::Danger)]
    );
    assert!(findings[0].says.contains("User/eks:one by one") && findings[0].says.contains("User/eks:two by two"));
    // Elsewhere these are names like any others.
    for provider in [None, Some(Provider::Gke), Some(Provider::OpenShift)] {
        assert_eq!(found_at(provider, &all).iter().filter(|it| it.known.id == "strong-rights").count(), 3);
    }
}

#[rstest]
#[case(json!({"eks.amazonaws.com/component": "x"}))]
#[case(json!({"kubernetes.io/bootstrapping": "rbac-defaults"}))]
#[case(json!({"addonmanager.kubernetes.io/mode": "Reconcile"}))]
fn a_providers_label_makes_nobodys_danger_a_note(#[case] labels: Value) {
    let subjects = [
        user("eve"),
        account("ci", "runner"),
        json!({"kind": "Group", "name": "system:authenticated"}),
        json!({"kind": "Group", "name": "system:unauthenticated"}),
        json!({"kind": "Group", "name": "system:serviceaccounts"}),
    ];
    for provider in [None, Some(Provider::Eks), Some(Provider::Gke), Some(Provider::OpenShift)] {
        for (name, subject) in ["eks:x", "system:gke-x", "gce:x", "aks-x"].iter().zip(subjects.iter().cycle()) {
            let findings = found_at(provider, &[binding(name, "impersonator", &json!({"labels": labels}), subject)]);
            assert_eq!((findings[0].known.id, findings[0].severity), ("strong-rights", Severity::Danger));
        }
        for subject in &subjects {
            let findings = found_at(provider, &[binding("eks:x", "webhooks", &json!({"labels": labels}), subject)]);
            assert_eq!((findings[0].known.id, findings[0].severity), ("strong-rights", Severity::Danger));
        }
    }
}

#[test]
fn who_may_become_one_of_the_providers_is_told() {
    let all = [
        binding("theirs", "webhooks", &json!({}), &account("kube-system", "eks-vpc-resource-controller")),
        binding("also-theirs", "impersonator", &json!({}), &user("eks:one")),
        binding("step", "tokens", &json!({"namespace": "kube-system"}), &account("ci", "runner")),
        binding("their-step", "tokens", &json!({"namespace": "kube-system"}), &user("eks:two")),
    ];
    let mut roles = roles();
    roles.push(role("tokens", &["create"], "", &["serviceaccounts/token"]));
    let findings = judge(&all, &roles, "tagout-system", &[], Some(Provider::Eks));
    let of = |id: &str| findings.iter().filter(|it| it.known.id == id).map(|it| it.object.as_str()).collect::<Vec<_>>();
    assert_eq!(of("managed-rights"), ["Provider/EKS"]);
    assert_eq!(of("indirect-rights"), ["ServiceAccount/ci/runner"]);
}

#[rstest]
#[case::as_kubeadm_makes_it("kubeadm:cluster-admins", "kubeadm:cluster-admins", &["managed-rights"])]
#[case::for_others("kubeadm:cluster-admins", "agents", &["cluster-admins"])]
#[case::by_another("mine", "kubeadm:cluster-admins", &["cluster-admins"])]
fn kubeadms_administrators_are_those_that_kubeadm_binds(
    #[case] name: &str,
    #[case] group: &str,
    #[case] known: &[&str],
) {
    let findings = found(&[binding(name, "cluster-admin", &json!({}), &json!({"kind": "Group", "name": group}))]);
    assert_eq!(findings.iter().map(|it| it.known.id).collect::<Vec<_>>(), known);
}

#[test]
fn a_stock_binding_whose_role_was_widened_is_judged_as_any_other() {
    let name = "system:controller:job-controller";
    let all = [binding(name, name, &json!({}), &account("kube-system", "job-controller"))];
    let with = |role: Role| judge(&all, &[role], "tagout-system", &[], None);
    assert!(with(role(name, &["create"], "", &["pods"])).is_empty());
    let widened = with(role(name, &["create", "impersonate"], "", &["pods", "users"]));
    assert_eq!(ids(&widened), [("strong-rights", "ServiceAccount/kube-system/job-controller", Severity::Danger)]);
    assert_eq!(widened[0].rights, ["controllers", "impersonate"]);
}

#[test]
fn who_may_bind_in_an_accounts_namespace_may_become_it() {
    let mut roles = roles();
    roles.push(role("binder", &["bind"], "rbac.authorization.k8s.io", &["clusterroles"]));
    let all = [
        binding("strong", "webhooks", &json!({}), &account("ops", "operator")),
        binding("there", "binder", &json!({"namespace": "ops"}), &user("eve")),
        binding("elsewhere", "binder", &json!({"namespace": "other"}), &user("bob")),
    ];
    let findings = judge(&all, &roles, "tagout-system", &[], None);
    let indirect = findings.iter().filter(|it| it.known.id == "indirect-rights");
    assert_eq!(indirect.map(|it| it.object.as_str()).collect::<Vec<_>>(), ["User/eve"]);
}

#[rstest]
#[case::nobodys(json!({}), "kubectl edit clusterrolebinding x", None)]
#[case::helms(json!({"annotations": {"meta.helm.sh/release-name": "ops"}}), "kubectl get clusterrolebinding -o yaml x", Some("Helm's release ops"))]
#[case::argos(json!({"labels": {"argocd.argoproj.io/instance": "ops"}}), "kubectl get clusterrolebinding -o yaml x", Some("Argo CD"))]
#[case::the_addon_managers(json!({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}), "kubectl get clusterrolebinding -o yaml x", Some("provider"))]
fn what_something_else_would_put_back_is_changed_there(
    #[case] metadata: Value,
    #[case] command: &str,
    #[case] source: Option<&str>,
) {
    let fix = found(&[binding("x", "impersonator", &metadata, &user("eve"))]).remove(0).fix;
    assert_eq!(shell(&fix.commands[0]), command);
    assert_eq!(fix.words.contains("at its source"), source.is_some());
    assert!(source.is_none_or(|source| fix.words.contains(source)), "{}", fix.words);
}

#[rstest]
#[case("--all", Some("kubectl edit clusterrolebinding -- --all"))]
#[case("$(reboot)", Some("kubectl edit clusterrolebinding '$(reboot)'"))]
#[case("it's; rm -rf .", Some(r"kubectl edit clusterrolebinding 'it'\''s; rm -rf .'"))]
#[case("a\nkubectl delete ns prod", None)]
#[case("a\u{1b}[1Ab", None)]
fn a_hostile_name_becomes_a_word_or_no_command_at_all(#[case] name: &str, #[case] command: Option<&str>) {
    let finding = found(&[binding(name, "impersonator", &json!({}), &user("eve"))]).remove(0);
    assert_eq!(finding.fix.commands.first().map(|words| shell(words)).as_deref(), command);
}

#[test]
fn no_fix_deletes_a_binding() {
    for subject in [user("eve"), account("kube-system", "x"), json!({"kind": "Group", "name": "g"})] {
        for role in ["impersonator", "cluster-admin", "gone"] {
            let commands =
                found(&[binding("x", role, &json!({}), &subject)]).into_iter().flat_map(|it| it.fix.commands);
            assert!(commands.into_iter().flatten().all(|word| word != "delete"));
        }
    }
}

/// What EKS binds in a new cluster, as far as it gives rights that matter: binding, subject, and what its role gives.
fn of_eks() -> Vec<(Binding, Role)> {
    let own = |name: &str| user(&format!("eks:{name}"));
    let labels = json!({"labels": {"eks.amazonaws.com/component": "x"}});
    [
        ("eks:addon-cluster-admin", own("addon-manager"), role("r0", &["*"], "*", &["*"])),
        (
            "eks:certificate-controller",
            own("certificate-controller"),
            role("r1", &["approve"], "certificates.k8s.io", &["signers"]),
        ),
        ("eks:node-manager", own("node-manager"), role("r2", &["patch"], "", &["nodes"])),
        ("eks:fargate-manager", own("fargate-manager"), role("r3", &["patch"], "", &["pods"])),
        (
            "vpc-resource-controller-rolebinding",
            own("vpc-resource-controller"),
            role("r4", &["patch"], "", &["nodes/status"]),
        ),
        (
            "vpc-resource-controller-rolebinding-2",
            account("kube-system", "eks-vpc-resource-controller"),
            role("r5", &["patch"], "", &["nodes/status"]),
        ),
        ("aws-node", account("kube-system", "aws-node"), role("r6", &["update"], "", &["nodes"])),
    ]
    .map(|(name, subject, role)| (binding(name, &role.name, &labels, &subject), role))
    .into()
}

/// The same of GKE.
fn of_gke() -> Vec<(Binding, Role)> {
    let labels = json!({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}});
    [
        (
            "storage-version-migration-migrator-v2",
            user("system:storageversionmigrator"),
            role("r0", &["*"], "*", &["*"]),
        ),
        ("system:glbc-status", user("system:l7-lb-controller"), role("r1", &["get"], "", &["secrets"])),
        ("kube-apiserver-kubelet-api-admin", user("kube-apiserver"), role("r2", &["*"], "", &["nodes/proxy"])),
        (
            "kubelet-bootstrap-certificate-bootstrap",
            user("kubelet-bootstrap"),
            role("r3", &["create"], "certificates.k8s.io", &["certificatesigningrequests/nodeclient"]),
        ),
        ("kubelet-user-npd-binding", user("kubelet"), role("r4", &["patch"], "", &["nodes/status"])),
        ("npd-binding", account("kube-system", "node-problem-detector"), role("r5", &["patch"], "", &["nodes/status"])),
        ("cluster-autoscaler", user("cluster-autoscaler"), role("r6", &["update"], "", &["nodes"])),
    ]
    .map(|(name, subject, role)| (binding(name, &role.name, &labels, &subject), role))
    .into()
}

#[rstest]
#[case(Provider::Eks, "Provider/EKS", of_eks())]
#[case(Provider::Gke, "Provider/GKE", of_gke())]
fn a_new_cluster_of_a_provider_is_no_fault_and_elsewhere_the_same_is(
    #[case] provider: Provider,
    #[case] object: &str,
    #[case] made: Vec<(Binding, Role)>,
) {
    let (bindings, roles): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let there = judge(&bindings, &roles, "tagout-system", &[], Some(provider));
    assert_eq!(ids(&there), [("managed-rights", object, Severity::Note)], "{there:#?}");
    let elsewhere = judge(&bindings, &roles, "tagout-system", &[], None);
    assert!(elsewhere.iter().filter(|it| it.severity == Severity::Danger).count() >= 6, "{elsewhere:#?}");
}
