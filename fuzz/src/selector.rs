//! A selector and labels: what Tagout decides by, what it has the API server look at in CEL, and what is written here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};
use tagout::guard::{Rule, Subject};

/// As `tests/selectors` has the API machinery look at them, too.
#[derive(Debug, Deserialize)]
pub struct Case {
    #[serde(default)]
    pub selector: LabelSelector,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

pub fn selector(data: &[u8]) -> &'static str {
    let Ok(case) = serde_json::from_slice::<Case>(data) else { return "nothing" };
    let expected = plain(&case.selector, &case.labels);
    let found = guard(&case);
    match (expected, &found) {
        // What the API server does not take never comes into force; but what is, is read.
        (None, _) => "unknown",
        (Some(expected), Ok((chosen, inhabited))) => {
            assert_eq!(*chosen, expected, "of objects: {case:?}");
            assert_eq!(*inhabited, expected, "of namespaces: {case:?}");
            if expected { "selected" } else { "left" }
        }
        (Some(_), Err(reason)) => panic!("it cannot be read ({reason}): {case:?}"),
    }
}

/// Whether the rule covers such an object, and what is in such a namespace.
pub fn guard(case: &Case) -> Result<(bool, bool), String> {
    let mut spec: Value = json!({"resources": [{"apiGroups": [""], "resources": ["secrets"]}],
        "approval": {"require": [{"anyOf": ["t"]}]}});
    spec["objectSelector"] = json!(case.selector);
    spec["namespaceSelector"] = json!(case.selector);
    let rule = Rule::read("r", &serde_json::from_value(spec).map_err(|error| error.to_string())?)?;
    let subject =
        Subject { resource: "secrets".into(), labels: std::borrow::Cow::Borrowed(&case.labels), ..Subject::default() };
    Ok((rule.covers(&subject), rule.selects_namespace(&case.labels)))
}

/// The same, by the documentation of label selectors; nothing where the API server would not take it.
pub fn plain(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Option<bool> {
    let mut matches = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    for one in selector.match_expressions.iter().flatten() {
        let (own, values) = (labels.get(&one.key), one.values.as_deref().unwrap_or_default());
        matches &= match (one.operator.as_str(), values) {
            ("In", [_, ..]) => own.is_some_and(|own| values.contains(own)),
            ("NotIn", [_, ..]) => own.is_none_or(|own| !values.contains(own)),
            ("Exists", []) => own.is_some(),
            ("DoesNotExist", []) => own.is_none(),
            _ => return None,
        };
    }
    Some(matches)
}
