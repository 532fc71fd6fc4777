//! What is wrong with a rule as it is written, and where: as far as that can be told without a cluster.

use cel::Env;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::Value;

use crate::api::{ProtectionRule, ProtectionRuleSpec};
use crate::guard::Rule;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli::preview) struct Fault {
    /// Like `spec.matchConditions[0].expression, line 1, column 8`.
    pub(super) at: String,
    pub(super) what: String,
}

/// The rule, or what keeps it from being one.
pub(super) fn read(document: &Value) -> Result<ProtectionRule, Vec<Fault>> {
    let mut faults = Vec::new();
    let definition = ProtectionRule::crd();
    let schema =
        definition.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    if let Some(spec) = schema.and_then(|schema| schema.properties.as_ref()?.get("spec")) {
        unknown(&document["spec"], spec, "spec", &mut faults);
    }
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        faults.push(Fault { at: "metadata.name".to_owned(), what: "a rule has a name".to_owned() });
    }
    let rule = serde_path_to_error::deserialize::<_, ProtectionRule>(document);
    match rule {
        Ok(rule) => {
            if let Err(what) = Rule::read(name, &rule.spec) {
                let (at, what) = what.split_once(": ").unwrap_or(("", &what));
                let at = if at.is_empty() { "spec".to_owned() } else { format!("spec.{at}") };
                faults.push(Fault { at, what: what.to_owned() });
            }
            if faults.is_empty() { Ok(rule) } else { Err(faults) }
        }
        Err(error) => {
            faults.push(Fault { at: error.path().to_string(), what: error.inner().to_string() });
            Err(faults)
        }
    }
}

/// Fields that no definition knows. The API server drops them, or refuses, as its client wishes.
fn unknown(value: &Value, schema: &JSONSchemaProps, at: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(fields) => {
            let Some(known) = &schema.properties else { return };
            for (key, value) in fields {
                let at = format!("{at}.{key}");
                match known.get(key) {
                    Some(schema) => unknown(value, schema, &at, faults),
                    None => faults.push(Fault { at, what: "there is no such field".to_owned() }),
                }
            }
        }
        Value::Array(items) => {
            let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
            for (number, item) in items.iter().enumerate() {
                unknown(item, schema, &format!("{at}[{number}]"), faults);
            }
        }
        _ => {}
    }
}

/// Conditions that are no CEL by the implementation that is used here.
pub(super) fn conditions(spec: &ProtectionRuleSpec) -> Vec<Fault> {
    let environment = std::sync::Arc::new(Env::stdlib());
    let mut faults = Vec::new();
    for (number, condition) in spec.match_conditions.iter().enumerate() {
        if let Err(error) = environment.compile(&condition.expression) {
            let what = error.to_string().lines().next().unwrap_or_default().to_owned();
            faults.push(Fault { at: format!("spec.matchConditions[{number}].expression"), what });
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn written(change: &Value) -> Value {
        let mut rule = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule", "metadata": {"name": "r"}, "spec": {
            "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
            "approval": {"require": [{"anyOf": ["t"]}]}}});
        json_patch::merge(&mut rule, change);
        rule
    }

    #[rstest]
    #[case::another_type(json!({"spec": {"resources": [{"apiGroups": "apps"}]}}), "spec.resources[0].apiGroups")]
    #[case::unknown(json!({"spec": {"namespaceSelektor": {}}}), "spec.namespaceSelektor")]
    #[case::unknown_within(json!({"spec": {"resources": [{"apiGroups": ["a"], "resources": ["b"], "verbs": []}]}}), "spec.resources[0].verbs")]
    #[case::unknown_value(json!({"spec": {"actions": ["Delete", "Explode"]}}), "spec.actions[1]")]
    #[case::too_long(json!({"spec": {"approval": {"validFor": "9000h"}}}), "spec")]
    #[case::without_a_name(json!({"metadata": {"name": null}}), "metadata.name")]
    fn what_is_wrong_is_said_with_its_place(#[case] change: Value, #[case] at: &str) {
        let faults = read(&written(&change)).unwrap_err();
        assert!(faults.iter().any(|fault| fault.at == at), "{faults:?}");
    }

    #[test]
    fn a_condition_that_is_no_cel_is_named_by_its_place() {
        let conditions = json!([{"name": "a", "expression": "true"}, {"name": "b", "expression": "object.spec. =="}]);
        let rule = read(&written(&json!({"spec": {"matchConditions": conditions}}))).unwrap();
        let found = super::conditions(&rule.spec);
        assert_eq!(
            found.iter().map(|fault| fault.at.as_str()).collect::<Vec<_>>(),
            ["spec.matchConditions[1].expression"]
        );
        assert_eq!(read(&written(&json!({}))).unwrap().spec.match_conditions.len(), 0);
    }
}
