//! A ProtectionRule or ApproverTeam in YAML or JSON, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use serde_json::{Value, json};
use tagout::api::{Action, ApproverTeam, ProtectionRule};
use tagout::entries::{self, Kind, Place};
use tagout::guard::{Rule, Subject, Team, faults, loosened_rule, loosened_team, nobody_can_satisfy};

use super::selector::plain;
use super::world::{NOW, OWN_NAMESPACE, teams};

thread_local! {
    static CEL: cel::Env = cel::Env::stdlib();
}

pub fn rule(data: &[u8]) -> &'static str {
    let Some(found) = str::from_utf8(data).ok().and_then(yaml) else { return "nothing" };
    if found["kind"] == "ApproverTeam" {
        let Ok(found) = serde_json::from_value::<ApproverTeam>(found) else { return "unreadable" };
        return team(found);
    }
    let Ok(mut found) = serde_json::from_value::<ProtectionRule>(found) else { return "unreadable" };
    found.metadata.name = Some("fuzzed".to_owned());
    let Ok(read) = Rule::read("fuzzed", &found.spec) else { return "refused" };
    drop(nobody_can_satisfy(&read, &teams(), NOW));
    assert!(loosened_rule(&found.spec, &found.spec, NOW).is_empty(), "it is weaker than itself");
    let place = Place { namespace: OWN_NAMESPACE.to_owned(), service: "tagout".to_owned(), ..Place::default() };
    let owners = [Kind { group: "example.com".to_owned(), resource: "shops".to_owned() }];
    drop(entries::also_asks_about(&found.spec, &owners));
    drop(entries::trial(&found, &place));
    let compiled = entries::compile(&found, &owners, &place);
    check(&found, &compiled);
    covers(&found, &read, &compiled);
    "compiled"
}

/// One document, as `kubectl` reads it.
pub fn yaml(text: &str) -> Option<Value> {
    serde_saphyr::from_multiple::<Value>(text).ok()?.into_iter().next()
}

fn team(found: ApproverTeam) -> &'static str {
    let said = faults("fuzzed", &found.spec, None, &teams());
    assert!(loosened_team(Some(&found.spec), Some(&found.spec), NOW).is_empty(), "it is weaker than itself");
    let read = Team::read(found.spec);
    let listed: usize = read.spec.members.iter().map(|member| member.keys.len()).sum();
    assert!(read.keys.len() <= listed && (said.len() >= listed - read.keys.len()), "a key is lost without a word");
    if said.is_empty() { "team" } else { "faults" }
}

/// What is true of all entries, whatever a rule says.
fn check(rule: &ProtectionRule, compiled: &ValidatingWebhookConfiguration) {
    let stored: ValidatingWebhookConfiguration =
        serde_json::from_value(json!(compiled)).expect("the API server stores what it is given");
    assert!(entries::in_force(compiled, &stored), "what is stored is not what was compiled");
    let origin = entries::origin(&stored).expect("it says what it was compiled from");
    assert_eq!(origin.spec.as_ref(), Ok(&rule.spec));
    let mut names = BTreeSet::new();
    for entry in compiled.webhooks.iter().flatten() {
        assert!(names.insert(&entry.name), "two entries are named {}", entry.name);
        assert!(entry.name.ends_with(".fuzzed.tagout.dev"), "{}", entry.name);
        assert!(entry.rules.as_ref().is_some_and(|rules| !rules.is_empty()), "{} is about nothing", entry.name);
        assert!(matches!(entry.failure_policy.as_deref(), Some("Fail" | "Ignore")));
        let path = entry.client_config.service.as_ref().and_then(|service| service.path.as_deref());
        assert!(path.is_some_and(|path| path.starts_with("/v1/")), "{path:?}");
        assert!(entry.client_config.url.is_none());
        let conditions: Vec<_> = entry.match_conditions.iter().flatten().collect();
        let theirs = conditions.iter().filter(|one| !one.name.starts_with("tagout.dev/")).count();
        assert!(theirs == 0 || theirs == rule.spec.match_conditions.len(), "{theirs} of the rule's conditions");
        for own in conditions.iter().filter(|_| rule.spec.match_conditions.is_empty()) {
            let compiles = CEL.with(|cel| cel.compile(&own.expression).is_ok());
            assert!(compiles, "{} is no CEL: {}", own.name, own.expression);
        }
    }
}

/// An object that the rule covers, by its own selectors read plainly, is one that the API server asks about.
fn covers(rule: &ProtectionRule, read: &Rule, compiled: &ValidatingWebhookConfiguration) {
    let spec = &rule.spec;
    let named = spec.resources.iter().find_map(|one| Some((one.api_groups.first()?, one.resources.first()?)));
    let Some((group, plural)) = named.filter(|_| spec.actions.contains(&Action::Delete)) else { return };
    let plural = if plural == "*" { "toys" } else { plural };
    let all = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        let mut labels = selector.match_labels.clone().unwrap_or_default();
        for one in selector.match_expressions.iter().flatten().filter(|one| one.operator == "In") {
            labels.extend(one.values.iter().flatten().next().map(|value| (one.key.clone(), value.clone())));
        }
        [BTreeMap::new(), labels]
    };
    for labels in all(&spec.object_selector) {
        for home in all(&spec.namespace_selector) {
            let subject = Subject {
                group: group.into(),
                resource: plural.into(),
                namespace: "n".into(),
                name: "o".into(),
                labels: std::borrow::Cow::Borrowed(&labels),
                ..Subject::default()
            };
            let chosen = plain(&spec.object_selector, &labels).zip(plain(&spec.namespace_selector, &home));
            let Some((object, namespace)) = chosen else { continue };
            let excepted = spec.except.iter().any(|one| one.name.is_some());
            assert_eq!(read.covers(&subject) || excepted, object || excepted, "{spec:?} and {labels:?}");
            assert_eq!(read.selects_namespace(&home), namespace);
            let mut home = home.clone();
            home.insert("kubernetes.io/metadata.name".to_owned(), "n".to_owned());
            let asks = |entry: &ValidatingWebhook| {
                let about = entry.rules.iter().flatten().any(|rule| {
                    let has = |list: &Option<Vec<String>>, wanted: &str| {
                        list.iter().flatten().any(|one| one == "*" || one == wanted)
                    };
                    has(&rule.operations, "DELETE") && has(&rule.api_groups, group) && has(&rule.resources, plural)
                });
                about
                    && plain(&entry.object_selector.clone().unwrap_or_default(), &labels) == Some(true)
                    && plain(&entry.namespace_selector.clone().unwrap_or_default(), &home) == Some(true)
            };
            let is_asked = compiled.webhooks.iter().flatten().any(asks);
            assert!(is_asked || !object || !namespace || home.len() > 65, "nobody asks about {subject:?} in {home:?}");
        }
    }
}
