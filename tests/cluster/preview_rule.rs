//! `kubectl tagout preview -f`: what a rule would do, before it is applied.

use std::fs;

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, World, rule, shared, text, with_plugin};

struct Said {
    code: i32,
    report: Value,
}

fn preview(world: &World, user: User, rules: &[&Value], args: &[&str]) -> Said {
    let text: Vec<String> = rules.iter().map(ToString::to_string).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text.join("\n---\n")).expect("a file");
    let mut command = world.cp.kubectl(user);
    command.args(["tagout", "preview", "-o", "json", "-f"]).arg(file.path()).args(args);
    let output = with_plugin(&mut command).output().expect("it runs");
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&output.stderr)));
    let code = output.status.code().expect("it ended");
    Said { code, report }
}

/// A namespace that only this rule selects, with two Deployments.
fn home(world: &World, label: &str) -> (Namespace<'static>, Value) {
    let namespace = shared().unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={label}")]).succeeds();
    namespace.deployment("api");
    namespace.deployment("scratch-1");
    let mut rule = rule(label, label);
    rule["spec"]["except"] = json!([{"name": "scratch-*"}]);
    (namespace, rule)
}

fn names(objects: &Value) -> Vec<String> {
    objects.as_array().into_iter().flatten().map(|object| text(&object["name"])).collect()
}

#[test]
fn what_a_new_rule_covers_and_asks_is_told_before_it_is_applied() {
    let world = shared();
    let (namespace, rule) = home(world, "proposed");
    let Said { code, report } = preview(world, User::Admin, &[&rule], &[]);
    let said = &report["rules"][0];
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        (&said["checked"], &said["faults"], &said["beside"]["standing"]),
        (&json!("server"), &json!([]), &json!("new"))
    );
    let expected = json!([{"kind": "deployments.apps", "namespace": namespace.name, "name": "api"}]);
    assert_eq!(said["covers"]["objects"], expected, "{report:#}");
    assert_eq!(said["needs"]["people"], json!(["1 of approvers"]));
    assert!(said["needs"]["actions"].as_array().expect("actions").contains(&json!("Delete")));
    assert!(!world.kubectl(User::Admin, &["get", "protectionrule", "proposed"]).ok, "nothing was made");
    let shown = world.kubectl_with(User::Admin, &["tagout", "preview", "-f", "-"], &rule.to_string()).succeeds().out;
    assert!(shown.contains("Covers 1 object now.") && shown.contains("Checked by the API server."), "{shown}");
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_its_exact_place() {
    let world = shared();
    let of = |change: Value| {
        let mut rule = rule("faulty", "faulty");
        rule["spec"].as_object_mut().expect("fields").extend(change.as_object().expect("fields").clone());
        rule
    };
    let conditions =
        json!([{"name": "a", "expression": "true"}, {"name": "b", "expression": "object.metadata.name ==\n  nobody"}]);
    for (change, at, what) in [
        (json!({"matchConditions": conditions}), "spec.matchConditions[1].expression, line 2, column 3", "nobody"),
        (json!({"actions": ["Delete", "Loosen"]}), "spec.actions", "Loosen cannot be named"),
        (json!({"actions": ["Delete", "Explode"]}), "spec.actions[1]", "Explode"),
        (json!({"namespaceSelektor": {}}), "spec.namespaceSelektor", "no such field"),
    ] {
        let Said { code, report } = preview(world, User::Admin, &[&of(change)], &[]);
        let faults = &report["rules"][0]["faults"];
        assert_eq!(code, 2, "{report:#}");
        assert_eq!(faults[0]["at"], at, "{report:#}");
        assert!(text(&faults[0]["what"]).contains(what), "{report:#}");
    }
}

#[test]
fn a_looser_rule_is_told_apart_with_what_it_would_lay_open_and_whom_that_needs() {
    let world = shared();
    let (_namespace, standing) = home(world, "narrowed");
    world.rule(&standing);
    let mut looser = standing.clone();
    looser["spec"]["except"] = json!([{"name": "scratch-*"}, {"name": "api"}]);
    let mut stricter = standing.clone();
    stricter["spec"]["except"] = json!([]);
    for (new, code, standing, gains, loses) in [
        (&standing, 0, "same", &[][..], &[][..]),
        (&looser, 3, "looser", &[], &["api"]),
        (&stricter, 0, "stricter", &["scratch-1"], &[]),
    ] {
        let said = preview(world, User::Admin, &[new], &[]);
        let rule = &said.report["rules"][0];
        assert_eq!((said.code, &rule["beside"]["standing"]), (code, &json!(standing)), "{rule:#}");
        assert_eq!(
            (names(&rule["beside"]["gains"]), names(&rule["beside"]["loses"])),
            (gains.iter().map(ToString::to_string).collect(), loses.iter().map(ToString::to_string).collect())
        );
        assert_eq!(rule["checked"], "server", "{rule:#}");
        let approval = if code == 3 { json!({"narrowed": ["1 of approvers"]}) } else { json!({}) };
        assert_eq!(rule["approval"], approval);
    }
    let kept = tempfile::tempdir().expect("a folder");
    let snapshot = kept.path().join("cluster.json").display().to_string();
    world.kubectl(User::Admin, &["tagout", "preview", "--capture", &snapshot]).succeeds();
    let said = preview(world, User::Admin, &[&looser], &["--snapshot", &snapshot]);
    let rule = &said.report["rules"][0];
    assert_eq!(
        (said.code, &rule["checked"], names(&rule["beside"]["loses"])),
        (3, &json!("here"), vec!["api".to_owned()]),
        "{rule:#}"
    );
}

#[test]
fn whoever_may_not_try_is_told_that_the_api_server_did_not_check() {
    let world = shared();
    let reads =
        json!([{"apiGroups": ["tagout.dev"], "resources": ["protectionrules", "approverteams"], "verbs": ["list"]}]);
    let named = |kind: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "reads-rules"}});
    let (mut role, mut binding) = (named("ClusterRole"), named("ClusterRoleBinding"));
    role["rules"] = reads;
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reads-rules"});
    binding["subjects"] = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]);
    for object in [role, binding] {
        world.apply(User::Admin, &object).succeeds();
    }
    let said = preview(world, User::Admin, &[&rule("unchecked", "unchecked")], &["--as=reader"]);
    let rule = &said.report["rules"][0];
    assert_eq!((&rule["checked"], said.code), (&json!("here"), 0), "{rule:#}");
    assert!(text(&rule["unchecked"]).contains("cannot create resource"), "{rule:#}");
    assert!(!said.report["notes"].as_array().expect("notes").is_empty(), "what may not be listed is named");
}
