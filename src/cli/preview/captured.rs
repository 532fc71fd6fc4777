//! What is written down of a cluster: the metadata of its objects, and of their contents what rules decide by.

use serde_json::{Value, json};

use super::state::{set, text};

/// Says which names of fields were left out, or lost their texts. No verdict may hang on a condition that reads them.
const LEFT_OUT: &str = "tagout.dev/left-out";

/// What stands for a text that nobody needs, other than that there is one.
const TEXT: &str = "(not written down)";

/// Of a container, what neither starts it nor is told to it.
const OF_CONTAINERS: [&str; 7] =
    ["name", "image", "ports", "resources", "volumeMounts", "volumeDevices", "securityContext"];

/// Texts by which Tagout decides about whatever kind.
const DECIDING: [&str; 1] = ["deletionPolicy"];

pub(super) fn captured(mut object: Value) -> Value {
    let group = text(&object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let is_custom = group.contains('.') && !group.ends_with(".k8s.io") && group != "tagout.dev";
    let left_out: Vec<String> = match text(&object, "/kind") {
        "Secret" if group.is_empty() => {
            let fields = object.as_object_mut().into_iter();
            fields
                .for_each(|fields| fields.retain(|key, _| ["apiVersion", "kind", "metadata"].contains(&key.as_str())));
            ["data", "type", "immutable", "annotations"].map(str::to_owned).to_vec()
        }
        "ConfigMap" if group.is_empty() => {
            ["data", "binaryData"].into_iter().filter_map(|part| blank(&mut object, part)).collect()
        }
        _ if is_custom => {
            let parts: Vec<String> = object.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
            let parts = parts.iter().filter(|key| !["apiVersion", "kind", "metadata"].contains(&key.as_str()));
            parts.filter_map(|part| blank(&mut object, part)).collect()
        }
        _ => {
            let mut left_out = Vec::new();
            containers(&mut object, &mut left_out);
            left_out
        }
    };
    if !left_out.is_empty() {
        set(&mut object, &["metadata", "annotations", LEFT_OUT], json!(left_out.join(",")));
    }
    object
}

/// Whether a condition may read what was not written down of an object.
pub(super) fn may_miss(object: &Value, condition: &str) -> bool {
    let left_out = object["metadata"]["annotations"][LEFT_OUT].as_str().unwrap_or_default();
    left_out.split(',').any(|field| !field.is_empty() && condition.contains(field))
}

/// Takes the texts out of a part, and leaves whether there are any. Says the part's name where it had some.
fn blank(object: &mut Value, part: &str) -> Option<String> {
    let value = object.get_mut(part)?;
    let before = value.clone();
    without_texts(value);
    (*value != before).then(|| part.to_owned())
}

fn without_texts(value: &mut Value) {
    match value {
        Value::String(text) if !text.is_empty() => TEXT.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(without_texts),
        Value::Object(fields) => {
            let telling = fields.iter_mut().filter(|(key, _)| !DECIDING.contains(&key.as_str()));
            telling.for_each(|(_, value)| without_texts(value));
        }
        _ => {}
    }
}

fn containers(value: &mut Value, left_out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| containers(item, left_out)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let Some(all) = value
                    .as_array_mut()
                    .filter(|_| ["containers", "initContainers", "ephemeralContainers"].contains(&key.as_str()))
                else {
                    containers(value, left_out);
                    continue;
                };
                for container in all.iter_mut().filter_map(Value::as_object_mut) {
                    container.retain(|key, _| {
                        let kept = OF_CONTAINERS.contains(&key.as_str());
                        if !kept && !left_out.contains(key) {
                            left_out.push(key.clone());
                        }
                        kept
                    });
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_not_written_down_and_what_decides_is() {
        let container =
            json!({"name": "c", "image": "i", "env": [{"name": "A", "value": "hunter2"}], "args": ["--hunter2"]});
        let pod = json!({"containers": [container], "nodeSelector": {"a": "b"}});
        for (object, kept) in [
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"a": "hunter2"}, "hunter2": 1}),
                "metadata",
            ),
            (json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"key": "hunter2"}}), "key"),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"template": {"spec": pod}}}),
                "nodeSelector",
            ),
            (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": pod}), "nodeSelector"),
            (
                json!({"apiVersion": "db.example.com/v1", "kind": "Base", "metadata": {},
                "spec": {"password": "hunter2", "replicas": 2, "deletionPolicy": "Retain"}}),
                "Retain",
            ),
        ] {
            let said = captured(object).to_string();
            assert!(!said.contains("hunter2") && said.contains(kept), "{said}");
            assert!(said.contains(LEFT_OUT), "{said}");
        }
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "LoadBalancer"}});
        assert_eq!(captured(service.clone()), service);
    }

    #[test]
    fn a_condition_that_reads_what_was_left_out_is_known_by_its_words() {
        let object = captured(
            json!({"apiVersion": "db.example.com/v1", "kind": "Base", "metadata": {}, "spec": {"engine": "x"}}),
        );
        assert!(may_miss(&object, "object.spec.engine == 'x'"));
        assert!(!may_miss(&object, "object.metadata.name == 'x'"));
        assert!(!may_miss(&json!({"metadata": {}}), "object.spec.engine == 'x'"));
    }
}
