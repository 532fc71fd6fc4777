//! Which objects are meant.

use anyhow::{Context, bail, ensure};
use kube::api::ListParams;
use serde_json::Value;

use super::Options;
use crate::cli::approve::file_or_input;
use crate::cli::cluster::Setting;
use crate::cli::connection::Cluster;
use crate::cli::kinds::Kind;
use crate::cli::object::LiveObject;
use crate::cli::requests;
use crate::cli::target::{Target, misused, targets};
use crate::guard::Rule;

pub async fn objects(options: &Options, at: &Cluster, setting: &Setting) -> anyhow::Result<Vec<LiveObject>> {
    if let Some(selector) = &options.selector {
        return selected(&options.objects, selector, at, setting).await;
    }
    if let Some(file) = &options.filename {
        let documents = read(&file_or_input(file)?).with_context(|| file.display().to_string())?;
        return written(&documents, at, setting).await;
    }
    let mut found = Vec::new();
    for target in targets(&options.objects).unwrap_or_else(|words| misused("impact", words)) {
        found.push(match target {
            Target::Named { kind, name } => {
                let kind = setting.kinds.find(&kind).map_err(anyhow::Error::msg)?.clone();
                LiveObject::read(&at.client, kind, &at.namespace, &name).await?
            }
            Target::Request(id) => requests::find(at, &id).await?.live(at, setting).await?,
        });
    }
    Ok(found)
}

async fn selected(
    words: &[String],
    selector: &str,
    at: &Cluster,
    setting: &Setting,
) -> anyhow::Result<Vec<LiveObject>> {
    if words.iter().any(|word| word.contains('/')) {
        misused("impact", "-l chooses by labels: name kinds with it, and no objects".to_owned());
    }
    let list = ListParams::default().labels(selector);
    let mut found = Vec::new();
    for kind in kinds(words, setting)? {
        let namespace = if kind.namespaced { at.namespace.as_str() } else { "" };
        match LiveObject::list(&at.client, kind, namespace, &list).await {
            Ok(objects) => found.extend(objects),
            // Nobody asked for this kind.
            Err(error) if words.is_empty() => eprintln!("Not looked at: {}: {error}", kind.name()),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn kinds<'s>(words: &[String], setting: &'s Setting) -> anyhow::Result<Vec<&'s Kind>> {
    let mut kinds: Vec<&Kind> = Vec::new();
    for word in words.iter().flat_map(|word| word.split(',')) {
        kinds.push(setting.kinds.find(word).map_err(anyhow::Error::msg)?);
    }
    if words.is_empty() {
        let named = setting.rules().rules.values().flatten().flat_map(Rule::kinds);
        kinds.extend(named.flat_map(|(group, plural)| setting.kinds.named(group, plural)));
    }
    kinds.sort_by_key(|kind| kind.name());
    kinds.dedup();
    Ok(kinds)
}

/// What a manifest says of an object.
#[derive(Debug, PartialEq, Eq)]
struct Document {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

fn read(text: &str) -> anyhow::Result<Vec<Document>> {
    let mut values: Vec<Value> = serde_saphyr::from_multiple(text).context("it is neither YAML nor JSON")?;
    values.reverse();
    let mut documents = Vec::new();
    while let Some(mut value) = values.pop() {
        if value.is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&value["kind"]);
        if kind.ends_with("List") && value["items"].is_array() {
            let items = value["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            values.extend(items.into_iter().rev());
            continue;
        }
        let (api_version, name) = (text(&value["apiVersion"]), text(&value["metadata"]["name"]));
        ensure!(!kind.is_empty() && !api_version.is_empty(), "a document in it has no apiVersion or no kind");
        ensure!(!name.is_empty(), "a {kind} in it has no metadata.name");
        let namespace = value["metadata"]["namespace"].as_str().map(str::to_owned);
        documents.push(Document { api_version, kind, namespace, name });
    }
    ensure!(!documents.is_empty(), "there is no object in it");
    Ok(documents)
}

/// Those of them that are there; of the others nothing can go.
async fn written(documents: &[Document], at: &Cluster, setting: &Setting) -> anyhow::Result<Vec<LiveObject>> {
    let mut found = Vec::new();
    for Document { api_version, kind, namespace, name } in documents {
        let Some(known) = setting.kinds.of(api_version, kind) else {
            bail!("the cluster has no {kind} of {api_version}; kubectl api-resources lists the kinds it has")
        };
        let namespace = namespace.as_deref().unwrap_or(&at.namespace);
        let namespace = if known.namespaced { namespace } else { "" };
        match LiveObject::find(&at.client, known.clone(), namespace, name).await? {
            Some(object) => found.push(object),
            None => eprintln!("Not there: {} {name:?}", known.name()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_of_a_file_is_meant_in_its_order() {
        let text = "
apiVersion: v1
kind: Namespace
metadata: {name: payments}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: api, namespace: payments}}
- {apiVersion: v1, kind: Service, metadata: {name: api}}
";
        let documents = read(text).unwrap();
        let names: Vec<_> = documents.iter().map(|one| (one.kind.as_str(), one.namespace.as_deref())).collect();
        assert_eq!(names, [("Namespace", None), ("Deployment", Some("payments")), ("Service", None)]);
    }

    #[test]
    fn what_names_no_object_is_answered_in_words() {
        let said = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(said("").contains("no object"));
        assert!(said("[").contains("neither YAML nor JSON"));
        assert!(said("{kind: Pod, apiVersion: v1}").contains("metadata.name"));
        assert!(said("{metadata: {name: a}}").contains("apiVersion"));
    }
}
