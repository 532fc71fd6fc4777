use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounded;
use crate::api::APPROVAL;

/// Where two states of an object differ, beyond presenting an approval. Paths only, never values.
///
/// The API server writes both from one codec, maps sorted by key, so equal parts are equal texts. What it writes by
/// itself on every change is left out: `resourceVersion`, `managedFields` and, where a kind counts annotations as a
/// change of its generation (Deployments do), `generation`.
pub fn other_changes(old: &RawValue, new: &RawValue) -> Result<Vec<String>, serde_json::Error> {
    let (old, new) = (fields(old)?, fields(new)?);
    let mut changes = Vec::new();
    for key in union(&old, &new) {
        if key != "metadata" && text(&old, key) != text(&new, key) {
            changes.push(key.to_owned());
        }
    }
    let (old, new) = (nested(&old, "metadata")?, nested(&new, "metadata")?);
    for key in union(&old, &new) {
        let differs = match key {
            "resourceVersion" | "managedFields" | "generation" => false,
            "labels" | "annotations" => others(&old, key)? != others(&new, key)?,
            _ => text(&old, key) != text(&new, key),
        };
        if differs {
            changes.push(format!("metadata.{key}"));
        }
    }
    Ok(changes)
}

#[derive(Default, Deserialize)]
struct Fields<'a>(#[serde(borrow, deserialize_with = "bounded::map")] BTreeMap<Key<'a>, &'a RawValue>);

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn fields(value: &RawValue) -> Result<Fields<'_>, serde_json::Error> {
    serde_json::from_str(value.get())
}

fn nested<'a>(parent: &Fields<'a>, key: &'static str) -> Result<Fields<'a>, serde_json::Error> {
    parent.0.get(&Key(key.into())).map_or_else(|| Ok(Fields::default()), |value| fields(value))
}

/// Labels or annotations without the approval; absent is the same as empty.
fn others<'a>(metadata: &Fields<'a>, key: &str) -> Result<Vec<(String, &'a str)>, serde_json::Error> {
    let Some(map) = metadata.0.get(&Key(key.into())) else { return Ok(Vec::new()) };
    Ok(fields(map)?
        .0
        .into_iter()
        .filter(|(key, _)| key.0 != APPROVAL)
        .map(|(key, value)| (key.0.into_owned(), value.get()))
        .collect())
}

fn union<'a>(old: &'a Fields, new: &'a Fields) -> BTreeSet<&'a str> {
    old.0.keys().chain(new.0.keys()).map(|key| key.0.as_ref()).collect()
}

fn text<'a>(fields: &Fields<'a>, key: &str) -> Option<&'a str> {
    fields.0.get(&Key(key.into())).map(|value| value.get())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BEFORE: &str = r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","resourceVersion":"1","labels":{"x":"y"}},"data":{"k":"aHVudGVyMg=="}}"#;

    #[rstest]
    #[case::presenting(r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","resourceVersion":"2","generation":2,"managedFields":[],"annotations":{"tagout.dev/approval":"[]"},"labels":{"tagout.dev/approval":"","x":"y"}},"data":{"k":"aHVudGVyMg=="}}"#, &[])]
    #[case::a_label(r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","labels":{"x":"z"}},"data":{"k":"aHVudGVyMg=="}}"#, &["metadata.labels"])]
    #[case::contents(r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","labels":{"x":"y"}},"data":{"k":"b"}}"#, &["data"])]
    #[case::contents_gone(r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","labels":{"x":"y"}}}"#, &["data"])]
    #[case::an_owner(r#"{"kind":"Secret","metadata":{"name":"a","uid":"u","ownerReferences":[{}],"labels":{"x":"y"}},"data":{"k":"aHVudGVyMg=="}}"#, &["metadata.ownerReferences"])]
    #[case::another_object(r#"{"kind":"Secret","metadata":{"name":"a","uid":"v","labels":{"x":"y"}},"data":{"k":"aHVudGVyMg=="}}"#, &["metadata.uid"])]
    fn what_else_a_write_changes_is_named_by_its_path(#[case] after: &str, #[case] expected: &[&str]) {
        let (before, after): (&RawValue, &RawValue) =
            (serde_json::from_str(BEFORE).unwrap(), serde_json::from_str(after).unwrap());
        assert_eq!(other_changes(before, after).unwrap(), expected);
    }
}
