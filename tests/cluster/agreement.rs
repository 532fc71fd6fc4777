//! What Tagout says a rule covers is what the API server calls its entry for.
//!
//! The API server writes into its audit log which entries it called; the rules only audit, so that nothing is refused
//! and every entry is looked at for every object.

use std::collections::{BTreeMap, BTreeSet};

use controlplane::User;
use serde_json::{Value, json};
use tagout::api::ProtectionRuleSpec;
use tagout::guard::{Rule, Subject};

use crate::world::{World, eventually, rule, shared, text};

/// Selectors, and whether they are asked of the namespace and of the object.
fn selectors() -> Vec<Value> {
    let expression = |key: &str, operator: &str, values: &[&str]| match values {
        [] => json!({"matchExpressions": [{"key": key, "operator": operator}]}),
        values => json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
    };
    vec![
        json!({}),
        json!({"matchLabels": {"tier": "web"}}),
        json!({"matchLabels": {"tier": ""}}),
        json!({"matchLabels": {"tier": "web", "example.com/Team_1": "a.B-c_d"}}),
        expression("tier", "In", &["web", "batch"]),
        expression("tier", "In", &[""]),
        expression("tier", "NotIn", &["web"]),
        expression("tier", "NotIn", &["web", "batch", ""]),
        expression("tier", "Exists", &[]),
        expression("tier", "DoesNotExist", &[]),
        json!({"matchLabels": {"tier": "web"}, "matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}),
        json!({"matchLabels": {"tier": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}),
    ]
}

fn exceptions() -> Vec<Value> {
    vec![
        json!([{"name": "preview-*"}]),
        json!([{"name": "*-tmp"}, {"name": "exact"}]),
        json!([{"name": "a.b"}]),
        json!([{"name": "a*b"}]),
        json!([{"name": "a*b*c"}]),
        json!([{"name": "A:*"}]),
        json!([{"name": "a**"}]),
        json!([{"name": "*_*"}]),
        json!([{"annotation": "helm.sh/hook"}]),
        json!([{"annotation": "x.y-z/Q.r_s-T"}, {"annotation": "UPPER"}]),
        json!([{"name": "preview-*", "annotation": "UPPER"}]),
        json!([{"name": "*a*", "annotation": "helm.sh/hook"}, {"name": "b"}]),
    ]
}

/// Rules that differ in their selection only: about Roles, whose names may hold nearly any character, and Namespaces.
fn specs(suite: &str) -> BTreeMap<String, Value> {
    let by_namespace = selectors().into_iter().map(|selector| json!({"namespaceSelector": selector}));
    let by_object = selectors().into_iter().map(|selector| json!({"objectSelector": selector}));
    let by_both = [json!({
        "namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
        "objectSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["batch"]}]},
        "except": [{"name": "preview-*"}],
    })];
    let by_exception = exceptions().into_iter().map(|except| json!({"except": except}));
    let all = by_namespace.chain(by_object).chain(by_both).chain(by_exception).enumerate();
    all.map(|(number, selection)| {
        let name = format!("{suite}-{number}");
        let mut spec = rule(&name, "")["spec"].clone();
        spec.as_object_mut().expect("a map").remove("namespaceSelector");
        spec.as_object_mut().expect("a map").extend(selection.as_object().expect("a map").clone());
        spec["mode"] = json!("Audit");
        spec["resources"] = json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
            {"apiGroups": [""], "resources": ["namespaces"]},
        ]);
        (name, spec)
    })
    .collect()
}

/// Labels and annotations that objects are tried with, under many names.
fn objects() -> Vec<Value> {
    let labels = [
        json!({}),
        json!({"tier": "web"}),
        json!({"tier": "batch"}),
        json!({"tier": ""}),
        json!({"tier": "web", "example.com/Team_1": "a.B-c_d"}),
        json!({"tier": "web", "absent": "not"}),
        json!({"Tier": "web"}),
    ];
    let labelled =
        labels.into_iter().enumerate().map(|(n, labels)| json!({"name": format!("l-{n}"), "labels": labels}));
    let names = [
        "preview-",
        "preview-1",
        "a-preview-1",
        "x-tmp",
        "-tmp",
        "exact",
        "exactly",
        "a.b",
        "axb",
        "a+b",
        "a",
        "b",
        "ab",
        "abc",
        "a-b-c",
        "A:b",
        "A:",
        "aA:",
        "x_y",
        "a(b)",
        "^a$",
        "a[b]c",
        "a\\.b",
        "a|b",
        "ä*b",
        "a b",
        "a\nb",
        "b\n",
    ];
    let named = names.into_iter().map(|name| json!({"name": name}));
    let annotated = [
        ("n-1", json!({"helm.sh/hook": "pre-install"})),
        ("n-2", json!({"helm.sh/hook": ""})),
        ("n-3", json!({"helm.sh/hookx": "x", "xhelm.sh/hook": "x"})),
        ("n-4", json!({"x.y-z/Q.r_s-T": "x"})),
        ("n-5", json!({"UPPER": "x"})),
        ("n-6", json!({"upper": "x"})),
        ("preview-2", json!({"UPPER": "x"})),
        ("x-a-x", json!({"helm.sh/hook": "x"})),
    ]
    .map(|(name, annotations)| json!({"name": name, "annotations": annotations}));
    labelled.chain(named).chain(annotated).collect()
}

/// Tries to delete all of it, and reads which of the suite's entries the API server called for each (by its number).
fn called_by_api_server(world: &World, suite: &str, manifests: &[Value]) -> Vec<BTreeSet<String>> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string();
    let before = std::fs::read_to_string(world.cp.audit_log()).expect("the audit log").lines().count();
    world.kubectl_with(User::Carol, &["delete", "--dry-run=server", "--wait=false", "-f", "-"], &list).succeeds();
    let wanted: Vec<_> = manifests.iter().map(|manifest| key(&manifest["metadata"])).collect();
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let log = std::fs::read_to_string(world.cp.audit_log()).expect("the audit log");
    for line in log.lines().skip(before) {
        let event: Value = serde_json::from_str(line).expect("an audit event");
        if event["verb"] != "delete" || event["user"]["username"] != User::Carol.name() {
            continue;
        }
        let target = &event["objectRef"];
        let of_namespace = target["resource"] == "namespaces";
        let home = if of_namespace { String::new() } else { text(&target["namespace"]) };
        let entries = event["annotations"].as_object().into_iter().flatten().filter_map(|(key, _)| {
            let rule = key.strip_prefix("delete.")?.strip_suffix(".tagout.dev/verdict")?;
            rule.starts_with(suite).then(|| rule.to_owned())
        });
        found.insert((home, text(&target["name"])), entries.collect());
    }
    let calls =
        |key: &(String, String)| found.get(key).unwrap_or_else(|| panic!("{key:?} is not in the audit log")).clone();
    wanted.iter().map(calls).collect()
}

fn key(metadata: &Value) -> (String, String) {
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

fn covered_by_tagout(
    rules: &[(String, Rule)],
    manifest: &Value,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> BTreeSet<String> {
    let metadata = &manifest["metadata"];
    let of_namespace = manifest["kind"] == "Namespace";
    let labels: BTreeMap<String, String> = if of_namespace {
        namespaces[&text(&metadata["name"])].clone()
    } else {
        serde_json::from_value(metadata["labels"].clone()).unwrap_or_default()
    };
    let keys = metadata["annotations"].as_object().into_iter().flatten().map(|(key, _)| key.clone().into());
    let (group, resource) = if of_namespace { ("", "namespaces") } else { ("rbac.authorization.k8s.io", "roles") };
    let home = text(&metadata[if of_namespace { "name" } else { "namespace" }]);
    let subject = Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: text(&metadata["namespace"]).into(),
        name: text(&metadata["name"]).into(),
        labels: std::borrow::Cow::Owned(labels),
        annotations: keys.collect(),
        ..Subject::default()
    };
    let covering = rules.iter().filter(|(_, rule)| rule.covers(&subject) && rule.selects_namespace(&namespaces[&home]));
    covering.map(|(name, _)| name.clone()).collect()
}

/// Relabels each namespace like each other one, and compares which rules the API server says that it leaves.
fn namespaces_that_leave(
    world: &World,
    suite: &str,
    rules: &[(String, Rule)],
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Vec<String> {
    let (mut differences, mut seen) = (Vec::new(), 0);
    for (name, old) in namespaces {
        for (other, wanted) in namespaces.iter().filter(|(other, _)| *other != name) {
            let own = |labels: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                labels
                    .iter()
                    .filter(|(key, _)| key.to_lowercase() == "tier")
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            };
            let mut patch: BTreeMap<String, Value> = own(old).into_keys().map(|key| (key, Value::Null)).collect();
            patch.extend(own(wanted).into_iter().map(|(key, value)| (key, json!(value))));
            let before = std::fs::read_to_string(world.cp.audit_log()).expect("the audit log").lines().count();
            let patch = json!({"metadata": {"labels": patch}}).to_string();
            let relabel = ["patch", "namespace", name, "--type=merge", "--dry-run=server", "-p", &patch];
            world.kubectl(User::Carol, &relabel).succeeds();
            let log = std::fs::read_to_string(world.cp.audit_log()).expect("the audit log");
            let called: BTreeSet<String> = log
                .lines()
                .skip(before)
                .map(|line| serde_json::from_str::<Value>(line).expect("an audit event"))
                .filter(|event| event["verb"] == "patch" && event["objectRef"]["name"] == name.as_str())
                .flat_map(|event| event["annotations"].as_object().cloned().unwrap_or_default())
                .filter_map(|(key, _)| {
                    let rule = key.strip_prefix("namespaces.")?.strip_suffix(".tagout.dev/verdict")?.to_owned();
                    rule.starts_with(suite).then_some(rule)
                })
                .collect();
            let mut new = old.clone();
            new.retain(|key, _| key.to_lowercase() != "tier");
            new.extend(own(wanted));
            let left = |rule: &&(String, Rule)| rule.1.selects_namespace(old) && !rule.1.selects_namespace(&new);
            let expected: BTreeSet<String> = rules.iter().filter(left).map(|(name, _)| name.clone()).collect();
            seen += called.len();
            for rule in called.symmetric_difference(&expected) {
                differences.push(format!("{name} relabelled like {other}: {rule} is left by one and not by the other"));
            }
        }
    }
    assert!(seen > 30, "some must leave: {seen}");
    differences
}

#[test]
fn a_rule_covers_what_the_api_server_calls_its_entry_for() {
    let world = shared();
    let suite = "agree";
    let specs = specs(suite);
    let rules: Vec<_> = specs
        .iter()
        .map(|(name, spec)| {
            let spec: ProtectionRuleSpec = serde_json::from_value(spec.clone()).expect("a rule");
            (name.clone(), Rule::read(name, &spec).expect("it can be read"))
        })
        .collect();
    let items: Vec<_> = specs
        .iter()
        .map(|(name, spec)| json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule", "metadata": {"name": name}, "spec": spec}))
        .collect();
    world.apply(User::Admin, &json!({"apiVersion": "v1", "kind": "List", "items": items})).succeeds();

    let mut namespaces = BTreeMap::new();
    let mut manifests = Vec::new();
    for label in ["", "tier=web", "tier=batch", "tier=", "Tier=web"] {
        let namespace = world.unprotected();
        if !label.is_empty() {
            world.kubectl(User::Admin, &["label", "namespace", &namespace.name, label]).succeeds();
        }
        let live = world.get(&["namespace", &namespace.name]);
        let labels = serde_json::from_value(live["metadata"]["labels"].clone()).expect("labels");
        namespaces.insert(namespace.name.clone(), labels);
        manifests.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name}}));
        // All names and annotations in one namespace; what selectors say of both, in all.
        let kept = objects().into_iter().take(if label.is_empty() { usize::MAX } else { 7 });
        manifests.extend(kept.map(|mut metadata| {
            metadata["namespace"] = json!(namespace.name);
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": []})
        }));
    }
    let roles: Vec<_> = manifests.iter().filter(|manifest| manifest["kind"] == "Role").collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": roles}).to_string();
    world.kubectl_with(User::Admin, &["create", "-f", "-"], &list).succeeds();
    for name in specs.keys() {
        eventually(&format!("{name} is in force"), || {
            world.get(&[&format!("protectionrule/{name}")])["status"]["observedGeneration"] == 1
        });
    }
    std::thread::sleep(std::time::Duration::from_millis(500));

    let called = called_by_api_server(world, suite, &manifests);
    let mut compared = (0, 0);
    let mut differences = Vec::new();
    for (manifest, called) in manifests.iter().zip(called) {
        let covered = covered_by_tagout(&rules, manifest, &namespaces);
        compared = (compared.0 + called.len(), compared.1 + specs.len() - called.len());
        for rule in called.symmetric_difference(&covered) {
            let who = if called.contains(rule) { "only the API server" } else { "only Tagout" };
            differences.push(format!("{who} says that {rule} {} covers {}", specs[rule], manifest["metadata"]));
        }
    }
    assert!(compared.0 > 500 && compared.1 > 500, "both answers must occur often: {compared:?}");
    differences.extend(namespaces_that_leave(world, suite, &rules, &namespaces));
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    world.kubectl(
        User::Admin,
        &[&["delete", "protectionrule"], &specs.keys().map(String::as_str).collect::<Vec<_>>()[..]].concat(),
    );
}
