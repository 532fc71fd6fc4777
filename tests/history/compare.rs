//! What is there, beside what the model says is there.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::cluster::{Call, Cluster, text};
use super::model::{Model, Papers};
use super::text::Names;
use super::world::{GOLD, HOLD, INSIDE, Key, Kind, NAMES, OF, PLACES, Place, namespace};

#[derive(Debug, Default)]
pub struct Live {
    objects: BTreeMap<Key, Value>,
    namespaces: BTreeMap<Place, Value>,
}

/// How the cluster differs.
#[derive(Debug, Default)]
pub struct Difference {
    /// What no controller can put right.
    pub wrong: Vec<String>,
    /// What may still come.
    pub pending: Vec<String>,
    /// What the collector has come again for.
    pub lost: Vec<Key>,
}

pub async fn live(cluster: &Cluster, history: &str) -> Result<Live> {
    let list = async |path: String| {
        let found = cluster.call(Call::get(format!("{path}?labelSelector={OF}%3D{history}"))).await?;
        Ok::<_, anyhow::Error>(found["items"].as_array().cloned().unwrap_or_default())
    };
    let paths = Kind::ALL.into_iter().map(|kind| {
        let (group, version, _, plural) = kind.names();
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    });
    let lists = try_join_all(paths.chain(["/api/v1/namespaces".to_owned()]).map(list)).await?;
    let mut live = Live::default();
    let place = |name: &str| (0..PLACES).find(|place| namespace(history, *place) == name);
    for (kind, list) in Kind::ALL.into_iter().zip(&lists) {
        for object in list {
            let own = &object["metadata"];
            let name = NAMES.into_iter().find(|name| own["name"] == **name);
            if let (Some(place), Some(name)) = (place(&text(&own["namespace"])), name) {
                live.objects.insert(Key { kind, place, name }, object.clone());
            }
        }
    }
    for object in &lists[Kind::ALL.len()] {
        if let Some(place) = place(&text(&object["metadata"]["name"])) {
            live.namespaces.insert(place, object.clone());
        }
    }
    Ok(live)
}

impl Live {
    pub fn differs(&self, model: &Model, names: &Names) -> Difference {
        let mut found = Difference::default();
        for (key, object) in &model.objects {
            let what = format!("{} {}/{}", key.kind.resource(), namespace(&names.history, key.place), key.name);
            let Some(live) = self.objects.get(key).filter(|live| live["metadata"]["uid"] == names.uid(object.id))
            else {
                if object.may_go {
                    found.lost.push(*key);
                } else {
                    found.wrong.push(format!("{what} is gone"));
                }
                continue;
            };
            let metadata = &live["metadata"];
            let owners: Vec<Value> = object
                .owners
                .iter()
                .map(|owner| json!({"uid": names.uid(owner.id), "controller": owner.controller}))
                .collect();
            let own = |owner: &Value| json!({"uid": owner["uid"], "controller": owner["controller"] == true});
            let live_owners: Vec<Value> =
                metadata["ownerReferences"].as_array().into_iter().flatten().map(own).collect();
            let held = metadata["finalizers"].as_array().is_some_and(|all| all.contains(&json!(HOLD)));
            let mut differs = |what_differs: &str, is_so: bool| {
                if is_so {
                    found.wrong.push(format!("{what} {what_differs}"));
                }
            };
            differs("has another label", (metadata["labels"][GOLD] == "gold") != object.gold);
            differs("has other owners", owners != live_owners);
            differs("has another finalizer", held != object.hold);
            let scales = key.kind.scales();
            differs("has other replicas", scales && live["spec"]["replicas"] != object.replicas);
            let suspended = live["spec"]["suspend"] == true;
            differs("is suspended or not", key.kind == Kind::CronJob && suspended != object.suspended);
            let filled = live["data"].as_object().is_some_and(|data| !data.is_empty());
            differs("has other data", key.kind.holds_data() && filled != object.filled);
            differs("carries another approval", papers_differ(metadata, &object.papers));
            match (metadata["deletionTimestamp"].is_null(), object.going) {
                (true, true) => found.pending.push(format!("{what} is not going")),
                (false, false) if object.may_go => found.pending.push(format!("{what} is going")),
                (false, false) => found.wrong.push(format!("{what} is going")),
                _ => {}
            }
        }
        for (key, live) in &self.objects {
            let known = model.objects.get(key).map(|object| names.uid(object.id));
            if known != live["metadata"]["uid"].as_str() {
                let place = namespace(&names.history, key.place);
                found.pending.push(format!("{} {place}/{} is there", key.kind.resource(), key.name));
            }
        }
        self.namespaces_differ(model, names, &mut found);
        found
    }

    fn namespaces_differ(&self, model: &Model, names: &Names, found: &mut Difference) {
        for (place, own) in &model.namespaces {
            let what = format!("namespace {}", namespace(&names.history, *place));
            let Some(live) = self.namespaces.get(place).filter(|live| live["metadata"]["uid"] == names.uid(own.id))
            else {
                found.wrong.push(format!("{what} is gone"));
                continue;
            };
            let metadata = &live["metadata"];
            if metadata["labels"].get(INSIDE).is_some() != own.inside {
                found.wrong.push(format!("{what} has another label"));
            }
            if papers_differ(metadata, &own.papers) {
                found.wrong.push(format!("{what} carries another approval"));
            }
            match (metadata["deletionTimestamp"].is_null(), own.going) {
                (true, true) => found.pending.push(format!("{what} is not going")),
                (false, false) => found.wrong.push(format!("{what} is going")),
                _ => {}
            }
        }
        for (place, live) in &self.namespaces {
            let known = model.namespaces.get(place).map(|own| names.uid(own.id));
            if known != live["metadata"]["uid"].as_str() {
                found.pending.push(format!("namespace {} is there", namespace(&names.history, *place)));
            }
        }
    }
}

fn papers_differ(metadata: &Value, papers: &Papers) -> bool {
    let annotation = metadata["annotations"]["tagout.dev/approval"].as_str();
    let said = annotation.map(|text| serde_json::from_str::<Vec<Value>>(text).map_or(0, |all| all.len()));
    metadata["labels"].get("tagout.dev/approval").is_some() != papers.presented
        || said != papers.statements.as_ref().map(Vec::len)
}

/// What Tagout has counted and written down, beside what the model says of it.
pub async fn books_differ(cluster: &Cluster, model: &Model, names: &Names) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (at, rule) in model.rules.iter().enumerate() {
        if rule.allowance.is_none() && rule.ceiling.is_none() {
            continue;
        }
        let name = rule.full_name(&names.history);
        let path = format!("/apis/tagout.dev/v1alpha1/ledgers/{name}");
        let ledger = match cluster.call(Call::get(path)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            other => other?,
        };
        let line = |uid: &str, action: &str, approved: bool, allowance: bool| {
            format!("{action} of {uid}, approved: {approved}, by the allowance: {allowance}")
        };
        let entries = ledger["spec"]["entries"].as_array().into_iter().flatten();
        let mut counted: Vec<String> = entries
            .filter(|entry| rule.ceiling.is_some() || entry["allowance"] == true)
            .map(|entry| {
                let (approved, allowance) = (entry["approved"] == true, entry["allowance"] == true);
                line(&text(&entry["uid"]), &text(&entry["action"]), approved, allowance)
            })
            .collect();
        let own = model.ledger.iter().filter(|entry| entry.rule == at);
        let mut expected: Vec<String> =
            own.map(|entry| line(names.uid(entry.id), &entry.action.name(), entry.approved, entry.allowance)).collect();
        counted.sort();
        expected.sort();
        if counted != expected {
            found.push(format!("the ledger of {name} counts {counted:?}, and not {expected:?}"));
        }
    }
    let mut recorded = Vec::new();
    // Those of Namespaces have no namespace, and are everybody's.
    for own in (0..PLACES).map(|place| namespace(&names.history, place)).chain([String::new()]) {
        let path = format!("/apis/tagout.dev/v1alpha1/deletionrecords?labelSelector=tagout.dev/namespace%3D{own}");
        let records = cluster.call(Call::get(path)).await?;
        for record in records["items"].as_array().into_iter().flatten() {
            let spec = &record["spec"];
            if own.is_empty() && !text(&spec["name"]).starts_with(&format!("{}-", names.history)) {
                continue;
            }
            let newest = &spec["deletions"][0];
            recorded.push(format!("{} {} {}", text(&spec["resource"]), text(&spec["name"]), text(&newest["uid"])));
        }
    }
    let remembered = model.memory.iter().filter_map(|(target, all)| {
        let newest = all.last()?;
        Some(format!("{} {} {}", target.resource(), names.name(*target), names.uid(newest.id)))
    });
    let mut remembered: Vec<String> = remembered.collect();
    recorded.sort();
    remembered.sort();
    if recorded != remembered {
        found.push(format!("written down is {recorded:?}, and not {remembered:?}"));
    }
    Ok(found)
}
