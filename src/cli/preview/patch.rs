//! What a patch that was refused would have made of an object.
//!
//! An audit log does not say of which sort a patch was. Where that matters there is more than one answer.

use json_patch::PatchOperation;
use serde_json::{Map, Value, json};

/// All that it may have become; nothing can be told where there is none.
pub(super) fn patched(old: &Value, patch: &Value, built_in: bool) -> Result<Vec<Value>, String> {
    if patch.is_array() {
        return operated(old, patch).map(|new| vec![new]);
    }
    if !patch.is_object() {
        return Err("it is no patch".to_owned());
    }
    let mut merged = old.clone();
    json_patch::merge(&mut merged, patch);
    let directives = has_directives(patch);
    if !built_in {
        return Ok(vec![merged]);
    }
    let strategic = strategic(old, patch)?;
    Ok(match () {
        () if directives || strategic == merged => vec![strategic],
        () => vec![merged, strategic],
    })
}

/// More operations than these the API server refuses, and more that is copied.
const OPERATIONS: usize = 10_000;
const COPIED: usize = 3 << 20;
/// JSON that lies deeper than this nobody reads.
const DEPTH: usize = 128;
/// So many items of a list are compared with each other.
const COMPARED: usize = 10_000_000;

/// One operation after the other. Each may copy all that is there, and twenty that do fill a machine.
fn operated(old: &Value, patch: &Value) -> Result<Value, String> {
    let json_patch::Patch(operations) =
        serde_json::from_value(patch.clone()).map_err(|_| "its JSON patch cannot be read".to_owned())?;
    if operations.len() > OPERATIONS {
        return Err("its JSON patch has more operations than an API server takes".to_owned());
    }
    let (mut new, mut copied) = (old.clone(), 0_usize);
    for operation in operations {
        let (added, path) = match &operation {
            PatchOperation::Add(one) => (Some(&one.value), &one.path),
            PatchOperation::Replace(one) => (Some(&one.value), &one.path),
            PatchOperation::Test(one) => (None, &one.path),
            PatchOperation::Remove(one) => (None, &one.path),
            PatchOperation::Move(one) => (new.pointer(one.from.as_str()), &one.path),
            PatchOperation::Copy(one) => {
                let added = new.pointer(one.from.as_str());
                copied = copied.saturating_add(added.map_or(0, |added| added.to_string().len()));
                (added, &one.path)
            }
        };
        let depth = path.as_str().matches('/').count() + added.map_or(0, depth);
        if copied > COPIED || depth > DEPTH {
            return Err("its JSON patch makes more of the object than an API server takes".to_owned());
        }
        json_patch::patch(&mut new, &[operation]).map_err(|_| "its JSON patch does not fit the object".to_owned())?;
    }
    Ok(new)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// What a server-side apply would have left. Whoever applied before takes away what they leave out now, and what that is the
/// API server alone knows.
pub(super) fn applied(old: &Value, manifest: &Value, manager: &str, built_in: bool) -> Result<Value, String> {
    let managers = old.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    if managers.into_iter().any(|one| one["manager"] == manager) {
        return Err("what a refused server-side apply would have taken away the API server alone knows".to_owned());
    }
    if !built_in && has_lists(manifest) {
        return Err("how the lists of a custom kind are applied the API server alone knows".to_owned());
    }
    strategic(old, manifest)
}

fn has_lists(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key != "ownerReferences" && has_lists(value)),
        Value::Array(_) => true,
        _ => false,
    }
}

fn has_directives(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.iter().any(|(key, value)| key.starts_with('$') || has_directives(value)),
        Value::Array(items) => items.iter().any(has_directives),
        _ => false,
    }
}

/// By which field the items of a list are told apart; nothing where a list is replaced as a whole.
fn merge_key(list: &str, items: &[Value]) -> Option<&'static str> {
    Some(match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "resourceClaims" => "name",
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => "containerPort",
        "ports" => "port",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" | "podIPs" | "hostIPs" => "ip",
        "ownerReferences" => "uid",
        "conditions" | "addresses" => "type",
        "topologySpreadConstraints" => "topologyKey",
        "taints" => "key",
        _ => return None,
    })
}

const SETS: [&str; 1] = ["finalizers"];

fn strategic(old: &Value, patch: &Value) -> Result<Value, String> {
    let Some(patch) = patch.as_object() else { return Ok(patch.clone()) };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let plain = patch.iter().filter(|(key, _)| !key.starts_with('$'));
            return Ok(Value::Object(plain.map(|(key, value)| (key.clone(), value.clone())).collect()));
        }
        Some("delete") => return Ok(json!({})),
        Some("merge") | None => {}
        Some(_) => return Err("its patch has a directive that is not known".to_owned()),
    }
    let mut new: Map<String, Value> = old.as_object().cloned().unwrap_or_default();
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        new.retain(|key, _| kept.iter().any(|one| one == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(list) = new.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|one| !gone.contains(one));
            }
            continue;
        }
        // In which order the items stand decides nothing.
        if key.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                new.remove(key);
            }
            Value::Object(_) => {
                let before = new.get(key).cloned().unwrap_or_else(|| json!({}));
                new.insert(key.clone(), strategic(&before, value)?);
            }
            Value::Array(items) => {
                let before = new.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                new.insert(key.clone(), Value::Array(merged_list(key, before, items)?));
            }
            plain => {
                new.insert(key.clone(), plain.clone());
            }
        }
    }
    Ok(Value::Object(new))
}

fn merged_list(name: &str, mut before: Vec<Value>, items: &[Value]) -> Result<Vec<Value>, String> {
    if before.len().saturating_mul(items.len()) > COMPARED {
        return Err(format!("its patch merges a list {name:?} longer than an API server takes"));
    }
    if SETS.contains(&name) {
        before.extend(items.iter().filter(|item| !before.contains(item)).cloned().collect::<Vec<_>>());
        return Ok(before);
    }
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if items.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        return Ok(items.iter().filter(|item| directive(item).is_none()).cloned().collect());
    }
    let all: Vec<Value> = before.iter().chain(items).cloned().collect();
    let Some(key) = merge_key(name, &all) else {
        return if items.iter().any(|item| directive(item).is_some()) {
            Err(format!("how its patch merges the list {name:?} is not known"))
        } else {
            Ok(items.to_vec())
        };
    };
    for item in items {
        let Some(id) = item.get(key) else {
            return Err(format!("its patch names an item of {name:?} without {key:?}"));
        };
        let at = before.iter().position(|one| one.get(key) == Some(id));
        match (directive(item).as_deref(), at) {
            (Some("delete"), Some(at)) => {
                before.remove(at);
            }
            (Some("delete"), None) => {}
            (_, Some(at)) => before[at] = strategic(&before[at], item)?,
            (_, None) => before.push(item.clone()),
        }
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::merge(json!({"spec": {"replicas": 0}}), json!({"a": 1, "spec": {"replicas": 0, "x": ["y"]}}))]
    #[case::null(json!({"a": null}), json!({"spec": {"replicas": 2, "x": ["y"]}}))]
    #[case::json(json!([{"op": "remove", "path": "/spec/x"}]), json!({"a": 1, "spec": {"replicas": 2}}))]
    #[case::atomic(json!({"spec": {"x": ["z"]}}), json!({"a": 1, "spec": {"replicas": 2, "x": ["z"]}}))]
    fn where_the_sort_of_a_patch_does_not_matter_there_is_one_answer(#[case] patch: Value, #[case] expected: Value) {
        let old = json!({"a": 1, "spec": {"replicas": 2, "x": ["y"]}});
        assert_eq!(patched(&old, &patch, true), Ok(vec![expected]));
    }

    #[test]
    fn where_it_matters_there_are_two() {
        let old = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]});
        let patch = json!({"containers": [{"name": "a", "image": "2"}]});
        let merged = json!({"containers": [{"name": "a", "image": "2"}]});
        let strategic = json!({"containers": [{"name": "a", "image": "2"}, {"name": "b"}]});
        assert_eq!(patched(&old, &patch, true), Ok(vec![merged.clone(), strategic]));
        assert_eq!(patched(&old, &patch, false), Ok(vec![merged]), "custom kinds know no strategy");
    }

    #[test]
    fn the_first_apply_of_a_manager_adds_and_a_later_one_may_take_away() {
        let old = json!({"metadata": {"managedFields": [{"manager": "helm", "operation": "Apply"}]}, "spec": {"a": 1}});
        let manifest = json!({"apiVersion": "v1", "spec": {"b": 2}});
        let new = applied(&old, &manifest, "kubectl", true).unwrap();
        assert_eq!(new["spec"], json!({"a": 1, "b": 2}));
        assert!(applied(&old, &manifest, "helm", true).is_err());
        assert!(applied(&old, &json!({"spec": {"list": []}}), "kubectl", false).is_err());
    }

    #[test]
    fn directives_say_what_becomes_of_items() {
        let old = json!({"metadata": {"finalizers": ["a", "b"]}, "env": [{"name": "a"}, {"name": "b"}]});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]},
            "$setElementOrder/env": [], "env": [{"$patch": "delete", "name": "a"}, {"name": "c"}]});
        let expected = json!({"metadata": {"finalizers": ["b"]}, "env": [{"name": "b"}, {"name": "c"}]});
        assert_eq!(patched(&old, &patch, true), Ok(vec![expected]));
    }

    #[test]
    fn a_patch_that_copies_the_object_into_itself_again_and_again_is_not_followed() {
        let copies = |from: &str, path: fn(usize) -> String, times: usize| {
            let all = (0..times).map(|time| json!({"op": "copy", "from": from, "path": path(time)}));
            patched(&json!({"a": "x".repeat(1000)}), &all.collect(), true)
        };
        assert!(copies("", |time| format!("/{time}"), 60).is_err(), "it doubles each time");
        assert!(copies("/a", |time| format!("/{time}"), 20_000).is_err());
        assert!(copies("/a", |time| format!("/{time}"), 20).is_ok());
    }

    #[test]
    fn a_patch_that_puts_one_thing_into_another_without_end_is_not_followed() {
        let all = (1..300).map(|time| json!({"op": "add", "path": "/a".repeat(time), "value": {}}));
        assert!(patched(&json!({}), &all.collect(), true).is_err());
    }

    #[rstest]
    #[case(json!([{"op": "test", "path": "/a", "value": 2}]))]
    #[case(json!([{"op": "explode"}]))]
    #[case(json!({"tolerations": [{"$patch": "delete", "key": "x"}]}))]
    #[case(json!("text"))]
    fn what_cannot_be_told_is_not_guessed(#[case] patch: Value) {
        assert!(patched(&json!({"a": 1}), &patch, true).is_err());
    }
}
