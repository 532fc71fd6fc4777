//! What others do to requests before Tagout sees them, or beside it.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{DynamicObject, Selector, SelectorExt};
use serde_json::Value;

use super::finding::{Finding, Fix, MUTATING_POLICY, MUTATING_WEBHOOK, OTHERS_FAIL_OPEN, Severity, Stage};
use super::provider::Provider;
use super::snapshot::Snapshot;
use crate::api::{GROUP, Proof};
use crate::entries::{SHARED, rule_name};

pub fn check(snapshot: &Snapshot, _: Stage) -> Vec<Finding> {
    // What is signed nobody changes unseen.
    let signed = snapshot.rules().all(|rule| rule.proof > Proof::Identity);
    let severity = if signed { Severity::Note } else { Severity::Warning };
    let mut findings = Vec::new();
    for configuration in snapshot.mutating.iter().flatten() {
        let mut touches: Vec<String> = Vec::new();
        for webhook in configuration.webhooks.iter().flatten() {
            let scope = Scope {
                rules: webhook.rules.as_deref().unwrap_or_default(),
                namespaces: selector(webhook.namespace_selector.as_ref()),
            };
            touches
                .extend(scope.touches(snapshot).into_iter().filter(|one| !touches.contains(one)).collect::<Vec<_>>());
        }
        if touches.is_empty() {
            continue;
        }
        let name = configuration.name_any();
        let fix = Fix::words(
            "Narrow its rules, or its namespaceSelector, at its source; or have approvals signed (proof Signature or \
             HardwareKey), which it cannot change unseen.",
        )
        .kubectl("get", "mutatingwebhookconfiguration", &["-o", "yaml"], &name);
        let provider = snapshot.provider().filter(|provider| is_run_by(*provider, configuration));
        let (severity, whose) = match provider {
            Some(provider) => (Severity::Note, format!("is run by {} and ", provider.name())),
            None => (severity, String::new()),
        };
        let says = format!("{whose}is called before {} is stored", touches.join(", "));
        let object = format!("MutatingWebhookConfiguration/{name}");
        findings.push(Finding::new(&MUTATING_WEBHOOK, severity, object, says).fix(fix));
    }
    findings.extend(policies(snapshot, severity));
    findings.extend(failing_open(snapshot));
    findings
}

/// Whether every entry calls the API server's own machine, where nothing but the provider's runs.
fn is_run_by(provider: Provider, configuration: &MutatingWebhookConfiguration) -> bool {
    let is_there = |webhook: &MutatingWebhook| {
        let url = webhook.client_config.url.as_deref().and_then(|url| url.strip_prefix("https://"));
        let host = url.and_then(|url| url.split(['/', ':', '?', '#']).next());
        matches!(host, Some("127.0.0.1" | "localhost"))
    };
    provider.hides_its_machines() && configuration.webhooks.iter().flatten().all(is_there)
}

/// Policies that mutate, as far as something binds them.
fn policies(snapshot: &Snapshot, severity: Severity) -> Vec<Finding> {
    let bindings = snapshot.mutating_bindings.as_deref();
    let mut findings = Vec::new();
    for policy in snapshot.mutating_policies.iter().flatten() {
        let name = policy.name_any();
        let of = |binding: &DynamicObject| binding.data["spec"]["policyName"] == name.as_str();
        // Where the bindings cannot be read, there may be one.
        let bound = bindings.is_none_or(|all| all.iter().any(of));
        let constraints = &policy.data["spec"]["matchConstraints"];
        let rules: Option<Vec<RuleWithOperations>> = read(&constraints["resourceRules"]);
        let namespaces: Option<LabelSelector> = read(&constraints["namespaceSelector"]);
        let rules = rules.unwrap_or_default();
        let touches = Scope { rules: &rules, namespaces: selector(namespaces.as_ref()) }.touches(snapshot);
        if touches.is_empty() {
            continue;
        }
        let fix = Fix::words(
            "Narrow its matchConstraints at its source; or have approvals signed (proof Signature or HardwareKey), which \
             it cannot change unseen.",
        )
        .kubectl("get", "mutatingadmissionpolicy", &["-o", "yaml"], &name);
        let state = if bound { "changes" } else { "is bound by nothing yet, and could change" };
        let says = format!("{state} {} before it is stored", touches.join(", "));
        let severity = if bound { severity } else { Severity::Note };
        findings
            .push(Finding::new(&MUTATING_POLICY, severity, format!("MutatingAdmissionPolicy/{name}"), says).fix(fix));
    }
    findings
}

fn failing_open(snapshot: &Snapshot) -> Option<Finding> {
    let others = snapshot.validating.iter().flatten().filter(|one| {
        let name = one.name_any();
        name != SHARED && rule_name(&name).is_none()
    });
    let open: Vec<String> = others
        .filter(|one| one.webhooks.iter().flatten().any(|one| one.failure_policy.as_deref() == Some("Ignore")))
        .map(ResourceExt::name_any)
        .collect();
    let fix =
        Fix::words("Nothing of Tagout's depends on them; whether they should fail closed is their owners' choice.");
    let says = format!("let pass what they cannot look at: {}", open.join(", "));
    let object = "ValidatingWebhookConfigurations/others";
    (!open.is_empty()).then(|| Finding::new(&OTHERS_FAIL_OPEN, Severity::Note, object, says).fix(fix))
}

/// What others have the API server hand to them.
struct Scope<'a> {
    rules: &'a [RuleWithOperations],
    /// Absent: it cannot be read, so it may be anywhere.
    namespaces: Option<Selector>,
}

impl Scope<'_> {
    /// What of it matters to Tagout, in words.
    fn touches(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut touches = Vec::new();
        let approvals = ["approvals", "protectionrules", "approverteams"];
        if approvals.iter().any(|plural| self.covers(GROUP, plural)) {
            touches.push("what is in tagout.dev".to_owned());
        }
        if self.covers("", "namespaces") {
            touches.push("a Namespace".to_owned());
        }
        if self.covers("", "pods")
            && self.reaches(&with_name(&snapshot.home, snapshot.labels_of(&snapshot.home).clone()))
        {
            touches.push("a pod of Tagout's".to_owned());
        }
        let protected: Vec<String> = snapshot
            .rules()
            .filter(|rule| {
                let everywhere = self.namespaces.as_ref().is_none_or(Selector::selects_all);
                let selected = snapshot.namespaces.iter().flatten().any(|one| {
                    let labels = one.labels.clone().unwrap_or_default();
                    rule.selects_namespace(&labels) && self.reaches(&labels)
                });
                everywhere || selected
            })
            .flat_map(|rule| rule.kinds().filter(|(group, plural)| self.covers(group, plural)))
            .filter(|kind| *kind != ("", "namespaces"))
            .map(|(group, plural)| crate::api::kind_name(group, plural))
            .collect();
        if let Some(first) = protected.first() {
            touches.push(format!("what rules protect ({first}{})", if protected.len() > 1 { ", …" } else { "" }));
        }
        touches
    }

    fn covers(&self, group: &str, plural: &str) -> bool {
        let has = |list: &Option<Vec<String>>, what: &[&str]| {
            list.iter().flatten().any(|own| own == "*" || what.contains(&own.as_str()))
        };
        self.rules.iter().any(|rule| {
            has(&rule.operations, &["CREATE", "UPDATE"])
                && has(&rule.api_groups, &[group])
                && has(&rule.resources, &["*/*", plural])
        })
    }

    fn reaches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.as_ref().is_none_or(|selector| selector.matches(labels))
    }
}

/// Every namespace carries its name as a label.
fn with_name(name: &str, mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    labels
}

fn selector(selector: Option<&LabelSelector>) -> Option<Selector> {
    Selector::try_from(selector.cloned().unwrap_or_default()).ok()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]), true)]
    #[case(json!([{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]), true)]
    #[case(json!([{"operations": ["DELETE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]), false)]
    #[case(json!([{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}]), false)]
    #[case(json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"]}]), false)]
    fn only_what_writes_a_kind_touches_it(#[case] rules: Value, #[case] touches: bool) {
        let rules: Vec<RuleWithOperations> = serde_json::from_value(rules).expect("rules");
        let scope = Scope { rules: &rules, namespaces: selector(None) };
        assert_eq!(scope.covers("apps", "deployments"), touches);
    }

    fn calling(clients: &Value) -> MutatingWebhookConfiguration {
        let webhooks = clients.as_array().expect("a list").iter().map(|client| {
            json!({"name": "x.example.com", "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None"})
        });
        let webhooks: Vec<Value> = webhooks.collect();
        serde_json::from_value(json!({"metadata": {"name": "pod-identity-webhook"}, "webhooks": webhooks}))
            .expect("it is one")
    }

    #[rstest]
    #[case::on_its_machine(json!([{"url": "https://127.0.0.1:23443/mutate"}]), true)]
    #[case::by_name(json!([{"url": "https://localhost:5443/x"}, {"url": "https://127.0.0.1/x"}]), true)]
    #[case::in_the_cluster(json!([{"service": {"name": "x", "namespace": "kube-system"}}]), false)]
    #[case::one_of_them(json!([{"url": "https://127.0.0.1:1/x"}, {"service": {"name": "x", "namespace": "ci"}}]), false)]
    #[case::elsewhere(json!([{"url": "https://127.0.0.1.example.com/x"}]), false)]
    #[case::by_a_user(json!([{"url": "https://127.0.0.1@example.com/x"}]), false)]
    fn what_runs_on_a_hidden_machine_is_the_providers_whatever_it_is_called(
        #[case] clients: Value,
        #[case] theirs: bool,
    ) {
        let configuration = calling(&clients);
        assert_eq!(is_run_by(Provider::Eks, &configuration), theirs);
        assert_eq!(is_run_by(Provider::Gke, &configuration), theirs);
        assert!(!is_run_by(Provider::OpenShift, &configuration), "there others may listen, too");
    }
}
