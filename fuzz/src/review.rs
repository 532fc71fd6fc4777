//! A body that is posted: read as Tagout reads it and in full, and decided by the gate itself.

use std::thread_local;

use serde_json::{Map, Value};
use tagout::gate::Called;
use tagout::review::{self, Object};

use super::twin::{self, Meta, Said, Twin};
use super::world::{AGENT, EVERYTHING, NAMESPACE, NARROW, World};

thread_local! {
    static WORLD: World = World::new();
}

pub fn review(body: &[u8]) -> &'static str {
    let twin = twin::read(body);
    let read = review::read::<Object>(body);
    assert!(twin.agrees(read.as_ref().ok()), "{twin:?} was read as {read:?}");
    drop(review::gist(body));
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut all = Vec::new();
    WORLD.with(|world| {
        all.push(("rule", world.ask(async |gate, until| gate.rule(Called::By(EVERYTHING), body, until).await)));
        match &twin {
            Twin::Says(said) if said.operation == "DELETE" => {
                all.push((
                    "beside",
                    world.ask(async |gate, until| gate.rule(Called::Beside(NARROW), body, until).await),
                ));
            }
            Twin::Says(said) if said.operation == "CREATE" => {
                all.push(("returns", world.ask(async |gate, until| gate.returns(body, until).await)));
            }
            _ => {
                all.push((
                    "leaves",
                    world.ask(async |gate, until| gate.rule(Called::Leaves(NARROW), body, until).await),
                ));
                all.push(("approvals", world.ask(async |gate, _| gate.approvals(body).await)));
            }
        }
        all.push(("loosen", world.ask(async |gate, _| gate.loosen(body).await)));
    });
    let mut outcome = "unanswered";
    for (entry, answer) in all {
        let Ok(answer) = answer else { continue };
        let is_allowed = check(entry, &answer, &twin, &value);
        if entry == "rule" {
            outcome = if is_allowed { "allowed" } else { "refused" };
        }
    }
    outcome
}

/// Whether it lets the request pass, if it may.
fn check(entry: &str, answer: &[u8], twin: &Twin, body: &Value) -> bool {
    let answer: Value = serde_json::from_slice(answer).expect("an answer is JSON");
    let response = &answer["response"];
    let is_allowed = response["allowed"].as_bool().expect("an answer says whether");
    let quoted = quoted(&answer.to_string(), body);
    assert!(quoted.is_none(), "{entry} quotes the contents of an object: {quoted:?}");
    match twin {
        Twin::Refused => assert!(!is_allowed, "{entry} lets pass what cannot be read"),
        Twin::Says(said) => {
            assert_eq!(response["uid"], *said.uid, "{entry} answers another request");
            if entry == "rule" {
                assert!(!is_allowed || !must_be_refused(said, body), "{entry} lets it pass: {said:?}");
                assert!(is_allowed || !changes_nothing(said, body), "{entry} refuses what changes nothing: {response}");
            }
        }
        Twin::Either => {}
    }
    is_allowed
}

/// What is protected beyond doubt, and by nobody's word: whoever lets it pass is wrong.
fn must_be_refused(said: &Said, body: &Value) -> bool {
    let Some(old) = plainly_protected(said) else { return false };
    let [before, after] = ["oldObject", "object"].map(|which| &body["request"][which]);
    let kind = (&*said.group, &*said.resource);
    let destroys = || match kind {
        _ if before["kind"] == "Scale" || after["kind"] == "Scale" => false,
        ("apps", "deployments" | "statefulsets") => {
            let replicas = |of: &Value| of["spec"]["replicas"].as_i64();
            replicas(before).is_some_and(|replicas| replicas > 0) && replicas(after) == Some(0)
        }
        ("", "secrets" | "configmaps") => {
            let filled = |of: &Value| -> Option<bool> {
                let all = ["data", "binaryData"].map(|part| of.get(part).map_or(Some(false), filled));
                Some(all[0]? || all[1]?)
            };
            filled(before) == Some(true) && filled(after) == Some(false) && after.is_object()
        }
        _ => false,
    };
    let taken = || {
        let finalizers = |of: &Value| -> Option<Vec<String>> {
            let found = &of["metadata"]["finalizers"];
            if found.is_null() { Some(Vec::new()) } else { serde_json::from_value(found.clone()).ok() }
        };
        finalizers(before)
            .zip(finalizers(after))
            .is_some_and(|(before, after)| after.is_empty() && before.iter().any(|one| !one.is_empty()))
    };
    let readable = || matches!(&said.object, Some(Some(new)) if new.namespace == old.namespace);
    match said.operation.as_str() {
        "DELETE" => true,
        "UPDATE" => said.sub_resource.is_empty() && readable() && (destroys() || taken()),
        _ => false,
    }
}

/// Whether a map of texts has any that is not empty; nothing where it is no such map.
fn filled(map: &Value) -> Option<bool> {
    match map {
        Value::Null => Some(false),
        Value::Object(map) => {
            map.values().map(Value::as_str).collect::<Option<Vec<_>>>().map(|all| all.iter().any(|one| !one.is_empty()))
        }
        _ => None,
    }
}

fn plainly_protected(said: &Said) -> Option<&Meta> {
    let kinds = [
        ("apps", "deployments"),
        ("apps", "statefulsets"),
        ("", "secrets"),
        ("", "configmaps"),
        ("batch", "cronjobs"),
        ("example.com", "toys"),
    ];
    let old = said.old_object.as_ref()?.as_deref()?;
    let plain = kinds.contains(&(&*said.group, &*said.resource))
        && old.namespace == NAMESPACE
        && old.owners.is_empty()
        && old.approval.is_none()
        && old.going.is_none()
        && !old.name.is_empty()
        && !old.uid.is_empty()
        && said.username == AGENT;
    plain.then_some(old)
}

/// A write of what is there already, which is daily work.
fn changes_nothing(said: &Said, body: &Value) -> bool {
    let long = |old: &Meta| [&old.name, &old.namespace, &old.uid].iter().any(|text| text.len() > 253);
    said.operation == "UPDATE"
        && said.sub_resource.is_empty()
        && said.object == said.old_object
        && body["request"]["object"] == body["request"]["oldObject"]
        && plainly_protected(said).is_some_and(|old| !long(old))
}

/// What an answer says that stands only among the contents of an object.
fn quoted(answer: &str, body: &Value) -> Option<String> {
    let mut others = body.clone();
    let mut secrets = Vec::new();
    for which in ["object", "oldObject"] {
        let Some(object) = others["request"].as_object_mut().and_then(|request| request.get_mut(which)) else {
            continue;
        };
        let Some(object) = object.as_object_mut() else { continue };
        for part in ["data", "stringData", "binaryData"] {
            let found: Map<String, Value> = match object.remove(part) {
                Some(Value::Object(found)) => found,
                _ => continue,
            };
            secrets.extend(found.into_iter().filter_map(|(_, value)| value.as_str().map(str::to_owned)));
        }
    }
    let others = others.to_string();
    let plain = |text: &String| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    secrets.into_iter().filter(plain).find(|secret| answer.contains(secret) && !others.contains(secret.as_str()))
}
