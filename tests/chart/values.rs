//! What may stand in values, and what becomes of it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::{chart, everything, helm, little, rendered, root, with, yaml};

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

/// Calls back for everything in a schema that has properties (with them) and everything that has none.
fn walk(path: &str, schema: &Value, found: &mut impl FnMut(&str, &Value, Option<&Map<String, Value>>)) {
    let properties = schema["properties"].as_object();
    found(path, schema, properties);
    for (name, inner) in properties.into_iter().flatten() {
        walk(format!("{path}.{name}").trim_start_matches('.'), inner, found);
    }
}

/// The values that the chart's page names.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(chart().join("README.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names: BTreeSet<String> = rows.filter(|name| *name != "Key").map(str::to_owned).collect();
    assert!(names.len() > 50, "{names:?}");
    names
}

/// The values in values.yaml, as far down as `known` names them.
fn leaves(path: &str, value: &Value, known: &BTreeSet<String>, into: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(inner) if !known.contains(path) && !inner.is_empty() => {
            for (name, value) in inner {
                leaves(format!("{path}.{name}").trim_start_matches('.'), value, known, into);
            }
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

#[test]
fn the_page_and_the_schema_are_those_of_the_values() {
    let fresh = tempfile::tempdir().unwrap();
    for file in ["Chart.yaml", "values.yaml", "README.md.gotmpl"] {
        fs::copy(chart().join(file), fresh.path().join(file)).unwrap();
    }
    assert!(Command::new(root().join("charts/generate")).arg(fresh.path()).status().unwrap().success());
    for file in ["README.md", "values.schema.json"] {
        let same = fs::read(fresh.path().join(file)).unwrap() == fs::read(chart().join(file)).unwrap();
        assert!(same, "charts/tagout/{file} is out of date: run `make generate` and commit what changes");
    }
}

#[test]
fn every_value_is_on_the_page_and_has_a_type_and_a_description_in_the_schema() {
    let documented = documented();
    let mut values = BTreeSet::new();
    leaves("", &yaml(&fs::read_to_string(chart().join("values.yaml")).unwrap()), &documented, &mut values);
    values.remove("global");
    assert_eq!(values, documented);
    walk("", &schema(), &mut |path, schema, inner| {
        if inner.is_some() {
            assert_eq!(schema["additionalProperties"], false, "{path} takes anything");
        }
        if documented.contains(path) {
            assert!(!schema["type"].is_null(), "{path} has no type");
            assert!(schema["description"].as_str().is_some_and(|text| text.len() > 10), "{path} is not described");
        }
    });
}

#[test]
fn a_value_that_does_not_exist_is_refused_wherever_it_stands() {
    let (mut values, mut places) = (little(), Vec::new());
    walk("", &schema(), &mut |path, _, inner| {
        if inner.is_some() {
            values = with(values.take(), format!("{path}.mispelt").trim_start_matches('.'), Some(json!(1)));
            places.push(path.replace('.', "/"));
        }
    });
    let refused = rendered(&values).unwrap_err();
    assert!(places.len() > 15, "{places:?}");
    for place in places {
        let at = format!(
            "at '{}': additional properties 'mispelt' not allowed",
            if place.is_empty() { String::new() } else { format!("/{place}") }
        );
        assert!(refused.contains(&at), "{at} is not in:\n{refused}");
    }
}

#[test]
fn a_value_of_another_type_is_refused() {
    let documented = documented();
    let (mut values, mut places) = (little(), Vec::new());
    walk("", &schema(), &mut |path, schema, _| {
        if documented.contains(path) {
            let wrong = if schema["type"] == "string" { json!(["wrong"]) } else { json!("wrong") };
            values = with(values.take(), path, Some(wrong));
            places.push(path.replace('.', "/"));
        }
    });
    let refused = rendered(&values).unwrap_err();
    assert_eq!(places.len(), documented.len());
    for place in places {
        assert!(refused.contains(&format!("at '/{place}': got ")), "{place} is not in:\n{refused}");
    }
}

#[test]
fn a_word_that_means_nothing_is_refused() {
    for (path, wrong) in [
        ("protect.mode", json!("enforce")),
        ("protect.proof", json!("Password")),
        ("protect.validFor", json!("30 minutes")),
        ("protect.count", json!(0)),
        ("certificates.source", json!("Vault")),
        ("image.digest", json!("latest")),
        ("replicas", json!(0)),
        ("service.port", json!(70000)),
        ("networkPolicy.apiServerPorts", json!([])),
        ("rules", json!([{"name": "x", "speck": {}}])),
        ("notifications.sinks", json!([{"name": "x", "uri": "https://a"}])),
    ] {
        let refused = rendered(&with(little(), path, Some(wrong))).unwrap_err();
        assert!(refused.contains(&format!("'/{}", path.replace('.', "/"))), "{path}: {refused}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_with_what_to_do() {
    for (path, wrong, words) in [
        ("certificates.source", json!("Secret"), "certificates.secretName must name your Secret"),
        ("certificates.certManager.issuerRef", json!({"kind": "ClusterIssuer"}), "issuerRef lacks a name"),
        ("clientCA.names", json!(["apiserver"]), "clientCA.secretName must name the Secret"),
        ("notifications.sinks", json!([{"name": "x", "url": "https://a"}]), "notifications.clusterName must say"),
        ("notifications.secretName", json!("slack"), "notifications.sinks must say"),
        ("rules", json!([{"name": "x"}]), "needs a name and a spec"),
        ("teams", json!([{"spec": {"groups": ["a"]}}]), "needs a name and a spec"),
    ] {
        let refused = rendered(&with(little(), path, Some(wrong))).unwrap_err();
        assert!(refused.contains(words), "{path}: {refused}");
    }
}

#[test]
fn the_chart_passes_helms_own_checks_with_little_and_with_everything() {
    for values in [little(), everything()] {
        helm(&["lint", chart().to_str().unwrap(), "--strict"], &values).unwrap();
    }
}

#[test]
fn a_chart_around_this_one_may_have_global_values() {
    rendered(&with(little(), "global", Some(json!({"region": "eu"})))).unwrap();
}

#[test]
fn every_documented_value_changes_what_is_rendered() {
    let everything = everything();
    let all = rendered(&everything).unwrap();
    // What the chart does by itself and the values can only switch off.
    let managed = with(everything.clone(), "crds", None);
    assert_ne!(rendered(&managed).unwrap(), all);
    for name in documented() {
        let mut given = &everything;
        for part in name.split('.') {
            given = &given[part];
        }
        assert!(!given.is_null(), "tests/chart/everything.yaml lacks {name}");
        // Some have to be there for others: the chart says so, which is a change too.
        let without = rendered(&with(everything.clone(), &name, None)).unwrap_or_default();
        assert!(without != all, "{name} changes nothing");
    }
}
