//! Two versions of a rule: where the second is said to be no weaker, it lets nothing pass that the first refuses.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tagout::api::{APPROVAL, Action, ProtectionRule};
use tagout::guard::{
    Because, Called, Epoch, Facts, NamespaceFact, Owner, OwnerFact, Radius, Rule, Rules, Subject, Verdict, decide,
    loosened_rule, needs,
};

use super::world::{ALICE, CLUSTER, EPOCH, NAME, NAMESPACE, NOW, TEAM, UID, keys, request, rules};

pub fn loosening(data: &[u8]) -> &'static str {
    let Ok(text) = str::from_utf8(data) else { return "nothing" };
    let Some((old, new)) = text.split_once("\n---\n") else { return "nothing" };
    let read = |text: &str| -> Option<(ProtectionRule, Rules)> {
        let found: ProtectionRule = serde_json::from_value(super::rule::yaml(text)?).ok()?;
        let rule = Rule::read("fuzzed", &found.spec).ok()?;
        Some((found, rules(vec![rule])))
    };
    let (Some((old, before)), Some((new, after))) = (read(old), read(new)) else { return "unreadable" };
    if !loosened_rule(&old.spec, &new.spec, NOW).is_empty() {
        return "looser";
    }
    for (number, question) in questions(&old).iter().enumerate() {
        let [then, now] = [&before, &after].map(|rules| verdict(question, rules));
        assert!(!then || now, "question {number}, {question:?}: it was refused, and passes now");
    }
    "no-looser"
}

/// Somebody who wants something.
#[derive(Debug)]
struct Question {
    action: Action,
    group: String,
    plural: String,
    name: &'static str,
    labels: Vec<(String, String)>,
    home: Vec<(String, String)>,
    annotations: Vec<String>,
    owned: bool,
    statements: Option<String>,
}

/// About what the first rule names, with what it chooses by, approved and not.
fn questions(rule: &ProtectionRule) -> Vec<Question> {
    let spec = &rule.spec;
    let pairs = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        let exact = selector.match_labels.iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
        let first = selector.match_expressions.iter().flatten().filter(|one| one.operator == "In");
        exact.chain(first.filter_map(|one| Some((one.key.clone(), one.values.as_ref()?.first()?.clone())))).collect()
    };
    let (labels, home): (Vec<_>, Vec<_>) = (pairs(&spec.object_selector), pairs(&spec.namespace_selector));
    let mut all = Vec::new();
    for named in spec.resources.iter().take(2) {
        let (Some(group), Some(plural)) = (named.api_groups.first(), named.resources.first()) else { continue };
        for action in [Action::Delete, Action::ScaleToZero, Action::Unprotect, Action::Evict] {
            for (labels, home) in [(labels.clone(), home.clone()), (Vec::new(), Vec::new())] {
                for (name, owned, statements) in [
                    (NAME, false, None),
                    ("preview-1", false, None),
                    (NAME, true, None),
                    (NAME, false, Some(statement(action, group, plural, 20, None))),
                    (NAME, false, Some(statement(action, group, plural, 120, Some(0)))),
                    (NAME, false, Some(statement(action, group, plural, 20, Some(2)))),
                ] {
                    all.push(Question {
                        action,
                        group: group.clone(),
                        plural: plural.clone(),
                        name,
                        labels: labels.clone(),
                        home: home.clone(),
                        annotations: vec!["helm.sh/hook".to_owned()],
                        owned,
                        statements,
                    });
                }
            }
        }
    }
    all
}

/// What Alice says of it, for so many minutes, and with one of her keys.
fn statement(action: Action, group: &str, plural: &str, minutes: i64, key: Option<usize>) -> String {
    let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
    let mut said = json!({"action": action.as_str(), "uid": UID, "resource": resource, "namespace": NAMESPACE,
        "name": NAME, "cluster": CLUSTER, "approver": ALICE, "team": TEAM, "approvedAt": NOW.to_string(),
        "expires": (NOW + SignedDuration::from_mins(minutes)).to_string()});
    match key {
        None => said["epoch"] = json!(EPOCH),
        Some(key) => {
            let read: Option<tagout::api::Statement> = serde_json::from_value(said.clone()).ok();
            let text = read.and_then(|statement| statement.text().ok()).unwrap_or_default();
            said["signature"] = Value::from(keys()[key].sign("approval@tagout.dev", &text));
        }
    }
    json!([said]).to_string()
}

/// Whether it is refused.
fn verdict(question: &Question, rules: &Rules) -> bool {
    let mut labels: std::collections::BTreeMap<_, _> = question.labels.iter().cloned().collect();
    if question.statements.is_some() {
        labels.insert(APPROVAL.to_owned(), String::new());
    }
    let owner = Owner {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: "o".to_owned(),
        uid: "o".to_owned(),
        controller: true,
    };
    let subject = Subject {
        group: question.group.as_str().into(),
        resource: question.plural.as_str().into(),
        namespace: NAMESPACE.into(),
        name: question.name.into(),
        uid: UID.into(),
        labels: std::borrow::Cow::Owned(labels),
        annotations: question.annotations.iter().map(|key| key.as_str().into()).collect(),
        statements: question.statements.as_deref().map(Into::into),
        ..Subject::default()
    };
    let request = request(question.action, subject, question.owned.then_some(owner).into_iter().collect());
    let facts = Facts {
        namespace: Some(NamespaceFact { labels: question.home.iter().cloned().collect(), terminating: false }),
        owners: question.owned.then_some(OwnerFact::Alive).into_iter().collect(),
        epoch: Epoch::Current(EPOCH.to_owned()),
        radius: Some(Radius::default()),
        ..Facts::default()
    };
    let needs = needs(&request, Called::Beside("fuzzed"), rules).expect("the rule is there");
    let decision = decide(&request, &needs, rules, &facts, NOW);
    // What a budget says depends on what went before.
    decision.verdict == Verdict::Deny && decision.because != Because::ToBeCounted
}
