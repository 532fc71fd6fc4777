//! What panels and alerts ask Prometheus for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Names of metrics that begin so in an expression, with the labels that it compares or groups by.
pub fn asked(prefix: &str, expression: &str) -> BTreeMap<String, BTreeSet<String>> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|character| !is_word(character)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (at, _) in expression.match_indices(prefix) {
        let end = expression[at..].find(|c| !is_word(c)).map_or(expression.len(), |end| at + end);
        let labels = metrics.entry(expression[at..end].to_owned()).or_default();
        if let Some(matchers) = expression[end..].strip_prefix('{') {
            let matchers = matchers.split('}').next().unwrap();
            labels.extend(matchers.split(',').map(|it| it.split(['=', '!']).next().unwrap().trim().to_owned()));
        }
    }
    let grouped = expression.split("by (").skip(1).flat_map(|rest| words(rest.split(')').next().unwrap()));
    let grouped: BTreeSet<String> = grouped.collect();
    for labels in metrics.values_mut() {
        labels.extend(grouped.iter().cloned());
    }
    metrics
}

pub fn dashboard() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tagout/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            expressions.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    assert!(expressions.len() > 10);
    expressions
}
