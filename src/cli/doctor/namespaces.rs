//! Namespaces that look like production and that no rule protects.

use std::collections::BTreeMap;

use super::finding::{Finding, Fix, PRODUCTION_PARTLY, PRODUCTION_UNPROTECTED, Severity, Stage};
use super::snapshot::Snapshot;
use crate::api::{Action, Mode};
use crate::guard::Rule;

/// Words by which people call what others depend on.
pub const WORDS: [&str; 4] = ["prod", "production", "prd", "live"];

/// Labels in which they say so.
const LABELS: [&str; 8] = [
    "env",
    "environment",
    "stage",
    "tier",
    "app.kubernetes.io/environment",
    "app.kubernetes.io/env",
    "app.kubernetes.io/stage",
    "app.kubernetes.io/tier",
];

/// Beside such a word they say that it is not meant.
const NOT: [&str; 7] = ["non", "no", "not", "pre", "pseudo", "fake", "like"];

pub fn check(snapshot: &Snapshot, stage: Stage, words: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for namespace in snapshot.namespaces.iter().flatten() {
        let name = namespace.name.as_deref().unwrap_or_default();
        let labels = namespace.labels.clone().unwrap_or_default();
        let Some(sign) = looks_like_production(name, &labels, words).filter(|_| name != snapshot.home) else {
            continue;
        };
        let object = format!("Namespace/{name}");
        let covering: Vec<&Rule> = snapshot.rules().filter(|rule| covers_contents(rule, &labels)).collect();
        let refuses = |rule: &&Rule| rule.mode == Mode::Enforce && rule.actions.contains(&Action::Delete);
        if covering.is_empty() {
            let says = format!("looks like production ({sign}), and no rule covers what is in it");
            findings
                .push(Finding::new(&PRODUCTION_UNPROTECTED, Severity::Warning, object, says).fix(fix(name, snapshot)));
        } else if !covering.iter().any(refuses) {
            let rules = covering.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ");
            let says = format!("looks like production ({sign}), and of its rules ({rules}) none refuses deletions");
            let fix = Fix::words("Set spec.mode of one of them to Enforce and name the action Delete.").run(&[
                "kubectl",
                "get",
                "protectionrules",
            ]);
            // While one only looks, this is the plan.
            let severity = if stage == Stage::Audit { Severity::Note } else { Severity::Warning };
            findings.push(Finding::new(&PRODUCTION_PARTLY, severity, object, says).fix(fix));
        }
    }
    findings
}

/// What a rule says about single objects, wherever they are, or about what is in no namespace, protects no namespace.
fn covers_contents(rule: &Rule, labels: &BTreeMap<String, String>) -> bool {
    let single = rule.spec.object_selector.match_labels.iter().flatten().next().is_some()
        || rule.spec.object_selector.match_expressions.iter().flatten().next().is_some();
    let workloads = ["deployments", "statefulsets"].iter().any(|plural| rule.names("apps", plural))
        || rule.names("", "persistentvolumeclaims");
    !single && workloads && rule.selects_namespace(labels)
}

fn fix(name: &str, snapshot: &Snapshot) -> Fix {
    let kinds = "deployments,statefulsets,daemonsets,cronjobs,persistentvolumeclaims";
    let look = Fix::words("Look first at what is in it and who deletes there every day. ")
        .run(&["kubectl", "get", kinds, "-n", name]);
    let by_label = snapshot
        .rules()
        .find(|rule| rule.name == "labelled-namespaces" && rule.selects_namespace(&[label()].into_iter().collect()));
    match by_label {
        Some(_) => {
            let look = Fix {
                words: format!("{}Then label it; from then on deletions in it wait for a person.", look.words),
                ..look
            };
            look.kubectl("label", "namespace", &[], name).with_last("tagout.dev/protect=true")
        }
        None => Fix { words: format!("{}Then write a rule whose namespaceSelector selects it.", look.words), ..look },
    }
}

fn label() -> (String, String) {
    ("tagout.dev/protect".to_owned(), "true".to_owned())
}

/// By which sign a namespace looks so, if it does.
pub fn looks_like_production(name: &str, labels: &BTreeMap<String, String>, words: &[String]) -> Option<String> {
    let labelled = labels.iter().find(|(key, value)| LABELS.contains(&key.as_str()) && says_so(value, words));
    let called = || says_so(name, words).then(|| "its name".to_owned());
    labelled.map(|(key, value)| format!("label {key}={value}")).or_else(called)
}

fn says_so(text: &str, words: &[String]) -> bool {
    let text = text.to_lowercase();
    let tokens: Vec<&str> = text.split(|one: char| !one.is_alphanumeric()).filter(|one| !one.is_empty()).collect();
    // `prod2` and `prod01` are called after a number.
    let bare = |token: &str| token.trim_end_matches(|one: char| one.is_ascii_digit()).to_owned();
    tokens.iter().enumerate().any(|(at, token)| {
        let is = words.iter().any(|word| bare(token) == word.to_lowercase() || *token == word.to_lowercase());
        let before = at.checked_sub(1).map(|before| tokens[before]);
        let after = tokens.get(at + 1);
        is && !before.is_some_and(|before| NOT.contains(&before)) && after != Some(&"like")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn words() -> Vec<String> {
        WORDS.map(str::to_owned).to_vec()
    }

    #[rstest]
    #[case("prod", true)]
    #[case("prod-eu", true)]
    #[case("payments-prod", true)]
    #[case("payments-prod-2", true)]
    #[case("prod01", true)]
    #[case("production", true)]
    #[case("prd", true)]
    #[case("shop-live", true)]
    #[case("nonprod", false)]
    #[case("non-prod", false)]
    #[case("preprod", false)]
    #[case("pre-production", false)]
    #[case("prod-like", false)]
    #[case("reproduction", false)]
    #[case("product-x", false)]
    #[case("delivery", false)]
    #[case("liveness", false)]
    #[case("kube-system", false)]
    #[case("default", false)]
    fn a_name_looks_like_production_by_its_words(#[case] name: &str, #[case] looks: bool) {
        assert_eq!(looks_like_production(name, &BTreeMap::new(), &words()).is_some(), looks);
    }

    #[rstest]
    #[case("env", "prod", true)]
    #[case("environment", "Production", true)]
    #[case("stage", "live", true)]
    #[case("tier", "prd-eu", true)]
    #[case("app.kubernetes.io/environment", "production", true)]
    #[case("env", "staging", false)]
    #[case("env", "non-prod", false)]
    #[case("team", "production", false)]
    #[case("app.kubernetes.io/part-of", "live-chat", false)]
    fn so_does_a_label(#[case] key: &str, #[case] value: &str, #[case] looks: bool) {
        let labels = [(key.to_owned(), value.to_owned())].into();
        assert_eq!(looks_like_production("payments", &labels, &words()).is_some(), looks);
    }

    #[test]
    fn the_words_are_ones_own() {
        let own = ["kunde".to_owned()];
        assert!(looks_like_production("kunde-7", &BTreeMap::new(), &own).is_some());
        assert!(looks_like_production("prod", &BTreeMap::new(), &own).is_none());
    }
}
