use kube::core::ObjectMeta;
use rstest::rstest;
use serde_json::{Value, json};

use super::super::rbac::{Binding, Role};
use super::*;

/// The short names of what a role gives, bound in a namespace or everywhere.
fn codes(rule: &Value, namespace: Option<&str>) -> Vec<&'static str> {
    let rule: PolicyRule = serde_json::from_value(rule.clone()).expect("a rule");
    let role = Role { rules: vec![rule], ..Role::default() };
    let metadata = ObjectMeta { namespace: namespace.map(str::to_owned), ..ObjectMeta::default() };
    let binding = Binding { metadata, ..Binding::default() };
    hits(&Grant { binding: &binding, role: &role }, "tagout-system").iter().map(|hit| hit.right.code).collect()
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names})
}

#[rstest]
#[case::users(rule(&["impersonate"], "", &["users"], &[]), &["impersonate"])]
#[case::one_user(rule(&["impersonate"], "", &["users"], &["alice"]), &["impersonate"])]
#[case::groups(rule(&["impersonate"], "", &["groups"], &[]), &["impersonate"])]
#[case::accounts(rule(&["impersonate"], "", &["serviceaccounts"], &[]), &["impersonate", "controllers"])]
#[case::uids(rule(&["impersonate"], "authentication.k8s.io", &["uids"], &[]), &["impersonate"])]
#[case::one_extra(rule(&["impersonate"], "authentication.k8s.io", &["userextras/scopes"], &[]), &["impersonate"])]
#[case::one_extra_of_all(rule(&["impersonate"], "authentication.k8s.io", &["*/scopes"], &[]), &["impersonate"])]
#[case::one_uid(rule(&["impersonate"], "authentication.k8s.io", &["uids"], &["u-1"]), &["impersonate"])]
#[case::narrower(rule(&["impersonate:user-info"], "authentication.k8s.io", &["users"], &[]), &["impersonate"])]
#[case::tokens(rule(&["create"], "", &["serviceaccounts/token"], &[]), &["controllers"])]
#[case::secrets(rule(&["list"], "", &["secrets"], &[]), &["controllers"])]
#[case::a_secret_of_somebody(rule(&["get"], "", &["secrets"], &["mine"]), &[])]
#[case::tagouts_secret(rule(&["get"], "", &["secrets"], &["tagout-certificates"]), &["controllers"])]
#[case::listing_tagouts_secret(rule(&["list"], "", &["secrets"], &["tagout-certificates"]), &["controllers"])]
#[case::watching_tagouts_secret(rule(&["watch"], "", &["secrets"], &["tagout-epoch"]), &["controllers"])]
#[case::listing_another(rule(&["list"], "", &["secrets"], &["mine"]), &[])]
#[case::pods(rule(&["create"], "", &["pods"], &[]), &["controllers"])]
#[case::looking_at_pods(rule(&["get", "list", "watch"], "", &["pods"], &[]), &[])]
#[case::a_deployment_by_name(rule(&["patch"], "apps", &["deployments"], &["coredns"]), &["controllers"])]
#[case::a_daemon_set_by_name(rule(&["update"], "apps", &["daemonsets"], &["kube-proxy"]), &["controllers"])]
#[case::a_cron_job_by_name(rule(&["patch"], "batch", &["cronjobs"], &["backup"]), &["controllers"])]
#[case::a_pod_by_name(rule(&["patch"], "", &["pods/ephemeralcontainers"], &["etcd-0"]), &["controllers"])]
#[case::no_creation_has_a_name(rule(&["create"], "apps", &["deployments"], &["coredns"]), &[])]
#[case::inside_pods(rule(&["get"], "", &["pods/exec"], &[]), &["controllers"])]
#[case::ephemeral(rule(&["patch"], "", &["pods/ephemeralcontainers"], &[]), &["controllers"])]
#[case::validating(rule(&["deletecollection"], "admissionregistration.k8s.io", &["validatingwebhookconfigurations"], &[]), &["webhooks"])]
#[case::of_somebody(rule(&["patch"], "admissionregistration.k8s.io", &["validatingwebhookconfigurations"], &["cert-manager"]), &[])]
#[case::mutating(rule(&["patch"], "admissionregistration.k8s.io", &["mutatingwebhookconfigurations"], &["cert-manager"]), &["webhooks"])]
#[case::bindings(rule(&["delete"], "admissionregistration.k8s.io", &["validatingadmissionpolicybindings"], &[]), &["policies"])]
#[case::mutating_policies(rule(&["create"], "admissionregistration.k8s.io", &["mutatingadmissionpolicies"], &[]), &["policies"])]
#[case::protection(rule(&["patch"], "tagout.dev", &["protectionrules"], &[]), &["rules"])]
#[case::teams(rule(&["delete"], "tagout.dev", &["approverteams"], &[]), &["rules"])]
#[case::status(rule(&["patch"], "tagout.dev", &["protectionrules/status"], &[]), &["records"])]
#[case::records(rule(&["create"], "tagout.dev", &["deletionrecords"], &[]), &["records"])]
#[case::ledgers(rule(&["update"], "tagout.dev", &["ledgers"], &[]), &["records"])]
#[case::approvals(rule(&["delete"], "tagout.dev", &["approvals"], &[]), &["approvals"])]
#[case::own_definitions(rule(&["update"], "apiextensions.k8s.io", &["customresourcedefinitions"], &["protectionrules.tagout.dev"]), &["definitions"])]
#[case::other_definitions(rule(&["update"], "apiextensions.k8s.io", &["customresourcedefinitions"], &["x.example.com"]), &[])]
#[case::apiservices(rule(&["create"], "apiregistration.k8s.io", &["apiservices"], &[]), &["apiservices"])]
#[case::approving(rule(&["update"], "certificates.k8s.io", &["certificatesigningrequests/approval"], &[]), &["certificates"])]
#[case::signers(rule(&["approve"], "certificates.k8s.io", &["signers"], &["kubernetes.io/*"]), &["certificates"])]
#[case::other_signers(rule(&["approve"], "certificates.k8s.io", &["signers"], &["example.com/*"]), &[])]
#[case::node_proxy(rule(&["get"], "", &["nodes/proxy"], &[]), &["nodes"])]
#[case::joining_as_any_node(rule(&["create"], "certificates.k8s.io", &["certificatesigningrequests/nodeclient"], &[]), &["join"])]
#[case::renewing_its_own(rule(&["create"], "certificates.k8s.io", &["certificatesigningrequests/selfnodeclient"], &[]), &[])]
#[case::node_status(rule(&["patch"], "", &["nodes/status"], &[]), &["nodes"])]
#[case::bind(rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"], &["edit"]), &["grant"])]
#[case::escalate(rule(&["escalate"], "rbac.authorization.k8s.io", &["roles"], &[]), &["grant"])]
#[case::writing_roles(rule(&["update"], "rbac.authorization.k8s.io", &["clusterrolebindings"], &[]), &["roles"])]
#[case::reaching(rule(&["create"], "", &["services/proxy"], &[]), &["reach"])]
#[case::reading(rule(&["get", "list", "watch"], "*", &["pods", "configmaps", "protectionrules"], &[]), &[])]
fn rights_that_matter_are_found_where_they_hold_everywhere(#[case] given: Value, #[case] expected: &[&str]) {
    assert_eq!(codes(&given, None), expected);
}

#[rstest]
#[case::a_token_of_a_controller(rule(&["create"], "", &["serviceaccounts/token"], &[]), "kube-system", &["controllers"])]
#[case::of_tagout(rule(&["create"], "", &["serviceaccounts/token"], &[]), "tagout-system", &["controllers"])]
#[case::of_somebody(rule(&["create"], "", &["serviceaccounts/token"], &[]), "payments", &[])]
#[case::impersonating_a_controller(rule(&["impersonate"], "", &["serviceaccounts"], &[]), "kube-system", &["controllers"])]
#[case::by_the_other_group(rule(&["impersonate"], "authentication.k8s.io", &["serviceaccounts"], &[]), "kube-system", &["controllers"])]
#[case::nobody_impersonates_users_in_a_namespace(rule(&["impersonate"], "", &["users"], &[]), "kube-system", &[])]
#[case::nor_writes_what_is_in_none(rule(&["*"], "admissionregistration.k8s.io", &["*"], &[]), "kube-system", &[])]
#[case::reaching_tagout(rule(&["create"], "", &["pods/portforward"], &[]), "tagout-system", &["reach"])]
#[case::reaching_others(rule(&["create"], "", &["pods/portforward"], &[]), "kube-system", &[])]
#[case::roles_there(rule(&["patch"], "rbac.authorization.k8s.io", &["rolebindings"], &[]), "kube-system", &["roles"])]
#[case::binding_there(rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"], &[]), "kube-system", &["grant"])]
#[case::binding_elsewhere(rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"], &[]), "payments", &[])]
#[case::roles_elsewhere(rule(&["patch"], "rbac.authorization.k8s.io", &["rolebindings"], &[]), "payments", &[])]
fn in_a_namespace_only_what_is_there_counts(#[case] given: Value, #[case] namespace: &str, #[case] expected: &[&str]) {
    assert_eq!(codes(&given, Some(namespace)), expected);
}

#[rstest]
#[case(rule(&["create"], "", &["pods"], &[]), "ci", true)]
#[case(rule(&["create"], "", &["pods"], &[]), "other", false)]
#[case(rule(&["create"], "", &["serviceaccounts/token"], &["runner"]), "ci", true)]
#[case(rule(&["create"], "", &["serviceaccounts/token"], &["default"]), "ci", false)]
#[case(rule(&["impersonate"], "", &["serviceaccounts"], &["runner"]), "ci", true)]
#[case(rule(&["impersonate"], "authentication.k8s.io", &["serviceaccounts"], &["runner"]), "ci", true)]
#[case(rule(&["impersonate:serviceaccount"], "authentication.k8s.io", &["serviceaccounts"], &[]), "ci", true)]
#[case(rule(&["patch"], "apps", &["deployments"], &["api"]), "ci", true)]
#[case(rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"], &["edit"]), "ci", true)]
#[case(rule(&["escalate"], "rbac.authorization.k8s.io", &["roles"], &[]), "ci", true)]
#[case(rule(&["bind"], "rbac.authorization.k8s.io", &["clusterroles"], &[]), "other", false)]
#[case(rule(&["get"], "", &["pods"], &[]), "ci", false)]
fn who_may_start_pods_have_tokens_or_bind_roles_becomes_an_account(
    #[case] given: Value,
    #[case] namespace: &str,
    #[case] becomes_it: bool,
) {
    let rule: PolicyRule = serde_json::from_value(given).expect("a rule");
    let role = Role { rules: vec![rule], ..Role::default() };
    let metadata = ObjectMeta { namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
    let binding = Binding { metadata, ..Binding::default() };
    assert_eq!(becomes(&Grant { binding: &binding, role: &role }, "ci", Some("runner")).is_some(), becomes_it);
}
