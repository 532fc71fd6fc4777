//! A rule becomes webhook entries: what the API server evaluates by itself, and what it asks Tagout about. Pure.

mod conditions;
mod lock;
mod rule;
mod selector;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};

use crate::api::{APPROVAL, GROUP, ProtectionRule, ProtectionRuleSpec, kind_name, kind_parts};

pub use conditions::{authors, careless_indexing};
pub use lock::{LOCKS, Leave, Lock, is_newer, locks, static_lock};
pub use rule::{Kind, also_asks_about};

/// The chart's configuration: holds what all rules share and owns the configurations of the rules.
pub const SHARED: &str = "tagout";

/// Raised when the same rule, or the shared entries, compile to something else. A lower version leaves a higher one's
/// work alone for a while: during an upgrade both run.
pub const COMPILER: u32 = 4;

/// A ledger of no rule, by which it is tried whether deletions are refused.
pub const CANARY: &str = "canary.tagout.dev";

/// On a rule's configuration: the rule that is in force, as it was accepted.
const RULE: &str = "tagout.dev/rule";
const RULE_UID: &str = "tagout.dev/rule-uid";
const GENERATION: &str = "tagout.dev/rule-generation";
/// The definition under which the rule was read. When it was deleted its rules went with it, and nobody was asked.
const DEFINITION_UID: &str = "tagout.dev/definition-uid";
const COMPILED_BY: &str = "tagout.dev/compiler";
/// The kinds of owners that were found above what the rule protects: what was found once stays known.
const OWNERS: &str = "tagout.dev/owner-kinds";

/// Half of what a kubectl user waits before wondering; the API server's own limit is 30 s.
const TIMEOUT_SECONDS: i32 = 10;

/// Creations are routine, and wait no longer than this for a Tagout that does not answer.
const RETURN_TIMEOUT_SECONDS: i32 = 3;

/// Where the API server finds Tagout, and what its entries belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub service: String,
    pub port: u16,
    pub ca_bundle: Vec<u8>,
    /// The UID of the configuration [`SHARED`].
    pub owner_uid: String,
    /// The UID of the definition of ProtectionRules.
    pub definition_uid: String,
}

/// What a configuration says about the rule it was compiled from.
#[derive(Debug)]
pub struct Origin {
    pub spec: Result<ProtectionRuleSpec, String>,
    pub rule_uid: String,
    pub generation: i64,
    pub definition_uid: String,
    pub compiler: u32,
    pub owners: Vec<Kind>,
}

pub fn configuration_name(rule: &str) -> String {
    format!("{SHARED}-{rule}")
}

/// The rule that a configuration belongs to, by its name.
pub fn rule_name(configuration: &str) -> Option<&str> {
    configuration.strip_prefix(SHARED)?.strip_prefix('-')
}

/// The configuration of a rule.
pub fn compile(rule: &ProtectionRule, owners: &[Kind], place: &Place) -> ValidatingWebhookConfiguration {
    let name = rule.metadata.name.clone().unwrap_or_default();
    let annotations = [
        (RULE, serde_json::to_string(&rule.spec).expect("a rule that was read can be written")),
        (RULE_UID, rule.metadata.uid.clone().unwrap_or_default()),
        (GENERATION, rule.metadata.generation.unwrap_or_default().to_string()),
        (DEFINITION_UID, place.definition_uid.clone()),
        (COMPILED_BY, COMPILER.to_string()),
        (OWNERS, owners.iter().map(|kind| kind_name(&kind.group, &kind.resource)).collect::<Vec<_>>().join(",")),
    ];
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(configuration_name(&name)),
            annotations: Some(annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..owned(place)
        },
        webhooks: Some(rule::webhooks(&name, &rule.spec, owners, place)),
    }
}

/// What goes when the chart's configuration goes.
fn owned(place: &Place) -> ObjectMeta {
    ObjectMeta {
        labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), SHARED.to_owned())])),
        // Not blockOwnerDeletion: clusters that check it would ask for a right on the owner's finalizers.
        owner_references: Some(vec![OwnerReference {
            api_version: "admissionregistration.k8s.io/v1".into(),
            kind: "ValidatingWebhookConfiguration".into(),
            name: SHARED.into(),
            uid: place.owner_uid.clone(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

/// What a rule's configuration was compiled from; nothing where it says nothing.
pub fn origin(configuration: &ValidatingWebhookConfiguration) -> Option<Origin> {
    let annotations = configuration.metadata.annotations.as_ref()?;
    let text = |key: &str| annotations.get(key).map(String::as_str);
    Some(Origin {
        spec: serde_json::from_str(text(RULE)?).map_err(|_| format!("its annotation {RULE} is damaged")),
        rule_uid: text(RULE_UID).unwrap_or_default().to_owned(),
        generation: text(GENERATION).and_then(|text| text.parse().ok()).unwrap_or_default(),
        definition_uid: text(DEFINITION_UID).unwrap_or_default().to_owned(),
        compiler: text(COMPILED_BY).and_then(|text| text.parse().ok()).unwrap_or_default(),
        owners: text(OWNERS).into_iter().flat_map(|text| text.split(',')).filter_map(kind).collect(),
    })
}

fn kind(name: &str) -> Option<Kind> {
    let (resource, group) = kind_parts(name);
    (!resource.is_empty()).then(|| Kind { group: group.to_owned(), resource: resource.to_owned() })
}

/// Whether the API server holds what was compiled; what others add beside it does not matter.
pub fn in_force(wanted: &ValidatingWebhookConfiguration, found: &ValidatingWebhookConfiguration) -> bool {
    let has = |wanted: &Option<BTreeMap<_, _>>, found: &Option<BTreeMap<_, _>>| {
        let found = found.as_ref();
        wanted.iter().flatten().all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value))
    };
    wanted.webhooks == found.webhooks
        && has(&wanted.metadata.annotations, &found.metadata.annotations)
        && has(&wanted.metadata.labels, &found.metadata.labels)
        && wanted.metadata.owner_references == found.metadata.owner_references
}

/// The entries that all rules share.
pub fn shared(place: &Place) -> Vec<ValidatingWebhook> {
    let condition = |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    let own = [GROUP.to_owned()];
    vec![
        ValidatingWebhook {
            // CREATE is left out: the API server makes the UID after the client has spoken, so no statement can name
            // it.
            rules: Some(vec![rule(&["UPDATE"], &["*".to_owned()], &["*/*".to_owned()])]),
            object_selector: Some(LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: APPROVAL.into(),
                    operator: "Exists".into(),
                    values: None,
                }]),
                ..LabelSelector::default()
            }),
            match_conditions: Some(vec![condition("tagout.dev/presents", conditions::presents(APPROVAL))]),
            ..webhook("approvals.tagout.dev", "/v1/approvals".to_owned(), place)
        },
        ValidatingWebhook {
            rules: Some(vec![rule(&["CREATE", "UPDATE"], &own, &["approvals".to_owned()])]),
            match_conditions: Some(vec![condition("tagout.dev/changed", conditions::spec_changes())]),
            ..webhook("stored-approvals.tagout.dev", "/v1/approvals".to_owned(), place)
        },
        ValidatingWebhook {
            rules: Some(vec![
                rule(
                    &["CREATE", "UPDATE", "DELETE"],
                    &own,
                    &["protectionrules".to_owned(), "approverteams".to_owned()],
                ),
                rule(
                    &["CREATE", "UPDATE", "DELETE"],
                    &["apiextensions.k8s.io".to_owned()],
                    &["customresourcedefinitions".to_owned()],
                ),
            ]),
            match_conditions: Some(vec![
                condition("tagout.dev/changed", conditions::spec_changes()),
                condition("tagout.dev/own", conditions::of_group(GROUP)),
            ]),
            ..webhook("loosen.tagout.dev", "/v1/loosen".to_owned(), place)
        },
        // Tagout reads rules, teams and approvals where these two say that they are.
        ValidatingWebhook {
            rules: Some(vec![rule(
                &["UPDATE"],
                &["apiextensions.k8s.io".to_owned()],
                &["customresourcedefinitions/status".to_owned()],
            )]),
            match_conditions: Some(vec![
                condition("tagout.dev/renamed", format!("({}) || ({})", conditions::renames(), conditions::closes())),
                condition("tagout.dev/own", conditions::of_group(GROUP)),
            ]),
            ..webhook("names.tagout.dev", "/v1/loosen".to_owned(), place)
        },
        // Only Tagout writes down what was destroyed, and counts it. Its account can be impersonated, as can an approver's; what was signed
        // is checked wherever a record is used.
        ValidatingWebhook {
            rules: Some(vec![rule(
                &["CREATE", "UPDATE", "DELETE"],
                &own,
                &["deletionrecords".to_owned(), "ledgers".to_owned()],
            )]),
            match_conditions: Some(vec![condition(
                "tagout.dev/others",
                format!(
                    "request.userInfo.username != 'system:serviceaccount:{}:tagout' || (request.operation == 'DELETE' && \
                     oldObject.metadata.name == '{CANARY}')",
                    place.namespace
                ),
            )]),
            ..webhook("records.tagout.dev", "/v1/loosen".to_owned(), place)
        },
        ValidatingWebhook {
            rules: Some(vec![rule(
                &["CREATE", "UPDATE"],
                &["apiregistration.k8s.io".to_owned()],
                &["apiservices".to_owned()],
            )]),
            match_conditions: Some(vec![condition("tagout.dev/redirected", conditions::redirects(GROUP))]),
            ..webhook("apiservices.tagout.dev", "/v1/loosen".to_owned(), place)
        },
        // Which rules remember them, their records say.
        ValidatingWebhook {
            rules: Some(vec![
                rule(&["CREATE"], &[String::new()], &["namespaces".to_owned()]),
                rule(&["CREATE"], &["apiextensions.k8s.io".to_owned()], &["customresourcedefinitions".to_owned()]),
            ]),
            namespace_selector: Some(outside(&place.namespace, &LabelSelector::default())),
            ..returns("returns.tagout.dev", place)
        },
    ]
}

/// An entry about what may return: with Tagout away, or slow, nobody is kept from restoring.
fn returns(name: &str, place: &Place) -> ValidatingWebhook {
    ValidatingWebhook {
        failure_policy: Some("Ignore".into()),
        timeout_seconds: Some(RETURN_TIMEOUT_SECONDS),
        ..webhook(name, "/v1/returns".to_owned(), place)
    }
}

/// The configuration to be tried, never kept: the rule's conditions as its author wrote them, so that the
/// API server's message points at the author's own line and column, and so that none is a fragment which only the
/// text around it completes.
pub fn trial(rule: &ProtectionRule, place: &Place) -> Option<ValidatingWebhookConfiguration> {
    let conditions = &rule.spec.match_conditions;
    if conditions.is_empty() {
        return None;
    }
    let mut configuration = compile(rule, &[], place);
    // Each entry would say the same of the same conditions.
    configuration.webhooks.iter_mut().for_each(|webhooks| webhooks.truncate(1));
    for webhook in configuration.webhooks.iter_mut().flatten() {
        webhook.match_conditions = Some(
            conditions
                .iter()
                .map(|own| MatchCondition { name: own.name.clone(), expression: own.expression.clone() })
                .collect(),
        );
    }
    Some(configuration)
}

/// Every field is said, the API server's defaults too, so that what it stores equals what was compiled.
fn webhook(name: &str, path: String, place: &Place) -> ValidatingWebhook {
    ValidatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".into()],
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(place.ca_bundle.clone())),
            service: Some(ServiceReference {
                namespace: place.namespace.clone(),
                name: place.service.clone(),
                path: Some(path),
                port: Some(i32::from(place.port)),
            }),
            url: None,
        },
        failure_policy: Some("Fail".into()),
        match_conditions: None,
        match_policy: Some("Equivalent".into()),
        namespace_selector: Some(LabelSelector::default()),
        object_selector: Some(LabelSelector::default()),
        rules: None,
        // Events, so that people find what was refused.
        side_effects: "NoneOnDryRun".into(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

fn rule(operations: &[&str], groups: &[String], resources: &[String]) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: Some(groups.to_vec()),
        api_versions: Some(vec!["*".into()]),
        operations: Some(operations.iter().map(ToString::to_string).collect()),
        resources: Some(resources.to_vec()),
        scope: Some("*".into()),
    }
}

/// The rule's own selection, and never the namespace Tagout runs in: it must be possible to remove a broken guard.
fn outside(namespace: &str, selector: &LabelSelector) -> LabelSelector {
    let mut selector = as_stored(selector);
    selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
        key: "kubernetes.io/metadata.name".into(),
        operator: "NotIn".into(),
        values: Some(vec![namespace.to_owned()]),
    });
    selector
}

/// The API server stores empty maps and lists as absent.
fn as_stored(selector: &LabelSelector) -> LabelSelector {
    let expressions = selector.match_expressions.iter().flatten().map(|expression| LabelSelectorRequirement {
        values: expression.values.clone().filter(|values| !values.is_empty()),
        ..expression.clone()
    });
    LabelSelector {
        match_labels: selector.match_labels.clone().filter(|labels| !labels.is_empty()),
        match_expressions: Some(expressions.collect::<Vec<_>>()).filter(|expressions| !expressions.is_empty()),
    }
}
