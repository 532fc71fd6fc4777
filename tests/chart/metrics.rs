//! What alerts and the dashboard ask for is what Tagout counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::alerts::{check, rules};
use crate::expressions::{asked, dashboard};
use crate::root;

/// Metrics of Tagout with their labels, as docs/operations.md has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut metrics = BTreeMap::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| `tagout_")) {
        let (name, rest) = row.split_once('`').unwrap();
        let labels = rest.split(" | ").nth(1).unwrap();
        let mut known = BTreeSet::new();
        let (mut depth, mut quoted) = (0_i64, labels.split('`'));
        // Outside of brackets stand labels, within them their values.
        while let (Some(plain), word) = (quoted.next(), quoted.next()) {
            depth += i64::try_from(plain.matches('(').count()).unwrap();
            depth -= i64::try_from(plain.matches(')').count()).unwrap();
            known.extend(word.filter(|_| depth == 0).map(str::to_owned));
        }
        metrics.insert(format!("tagout_{name}"), known);
    }
    assert!(metrics.len() >= 7, "{metrics:?}");
    metrics
}

fn alerts() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules().iter().map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

#[test]
fn what_is_asked_for_is_documented_with_these_labels() {
    let documented = documented();
    for (place, expression) in dashboard().into_iter().chain(alerts()) {
        for (metric, labels) in asked("tagout_", &expression) {
            let known = documented.get(&metric).unwrap_or_else(|| panic!("{place}: {metric} is not in operations.md"));
            let unknown: Vec<_> = labels.difference(known).collect();
            assert!(unknown.is_empty(), "{place}: {metric} has {known:?} and not {unknown:?}");
        }
    }
}

#[test]
fn what_is_documented_is_counted() {
    let mut source = String::new();
    for folder in ["src/telemetry", "src/notify"] {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            source += &fs::read_to_string(file.unwrap().path()).unwrap();
        }
    }
    for metric in documented().keys() {
        // The registry puts the prefix before and, for counters, the suffix behind.
        let name = metric.strip_prefix("tagout_").unwrap();
        let name = name.strip_suffix("_total").unwrap_or(name);
        assert!(source.contains(&format!("{name:?}")), "{metric} is not registered");
    }
}

#[test]
fn every_expression_of_the_dashboard_is_valid() {
    let rules: Vec<Value> = dashboard()
        .into_iter()
        .enumerate()
        .map(|(number, (_, expression))| {
            // Grafana writes the interval in.
            let expression = expression.replace("$__rate_interval", "5m");
            serde_json::json!({"record": format!("panel:{number}"), "expr": expression})
        })
        .collect();
    check(&rules);
}
