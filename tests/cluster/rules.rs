//! A rule is in force as it is written, soon, and whatever hands do to its configuration.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use controlplane::{Options, User};
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, World, deployment, eventually, rule, shared, text};

/// A world for what would disturb other tests: the shared configuration, Tagout's own namespace, floods.
pub fn apart() -> &'static World {
    static APART: OnceLock<World> = OnceLock::new();
    APART.get_or_init(|| World::start(&Options::default()))
}

/// A namespace with the label that rules of this name ask for, and the Deployment "api" in it.
fn covered(label: &str) -> Namespace<'static> {
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={label}")]).succeeds();
    namespace.deployment("api");
    namespace
}

fn attempt(namespace: &Namespace) -> Outcome {
    namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"])
}

fn labelled(namespace: &Namespace, name: &str, label: &str) {
    let mut manifest = deployment(name);
    let (key, value) = label.split_once('=').expect("a label");
    manifest["metadata"]["labels"][key] = json!(value);
    namespace.apply(User::Admin, &manifest).succeeds();
}

fn with(mut manifest: Value, field: &str, value: Value) -> Value {
    manifest["spec"][field] = value;
    manifest
}

fn with_condition(name: &str, expression: &str) -> Value {
    with(rule(name, name), "matchConditions", json!([{"name": "own", "expression": expression}]))
}

fn status(rule: &str, of: &str) -> Value {
    let live = shared().get(&[&format!("protectionrule/{rule}")]);
    let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == of).unwrap_or_default()
}

#[track_caller]
fn is_not_ready(rule: &str, reason: &str, words: &[&str]) -> String {
    let ready = status(rule, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)), "{ready}");
    let message = text(&ready["message"]);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    message
}

fn configuration(rule: &str) -> Value {
    shared().get(&[&format!("validatingwebhookconfiguration/tagout-{rule}")])
}

/// What Tagout writes of a configuration.
fn written(configuration: &Value) -> Value {
    let metadata = &configuration["metadata"];
    json!([configuration["webhooks"], metadata["annotations"], metadata["labels"], metadata["ownerReferences"]])
}

#[test]
fn a_changed_rule_is_in_force_within_seconds() {
    let namespace = covered("changing");
    let mut times = Vec::new();
    for mode in ["Enforce", "Audit", "Enforce", "Warn", "Enforce"] {
        let changed = with(rule("changing", "changing"), "mode", json!(mode));
        shared().permit(&changed);
        shared().apply(User::Admin, &changed).succeeds();
        let started = Instant::now();
        eventually(&format!("mode {mode} is in force"), || attempt(&namespace).ok == (mode != "Enforce"));
        times.push(started.elapsed());
    }
    println!("changes were in force after {times:?}");
    assert!(times.iter().all(|time| *time < Duration::from_secs(10)), "{times:?}");
}

#[test]
fn deleting_a_rule_removes_its_entry_and_opens_what_it_protected() {
    let namespace = covered("deleted");
    shared().rule(&rule("deleted", "deleted"));
    attempt(&namespace).is_refused(&["(rule deleted)"]);
    shared().remove(User::Admin, "protectionrule/deleted");
    let name = "validatingwebhookconfiguration/tagout-deleted";
    eventually("its configuration is gone", || !shared().kubectl(User::Admin, &["get", name]).ok);
    eventually("what it protected is open", || attempt(&namespace).ok);
}

#[test]
fn a_hand_edit_of_a_rules_configuration_is_put_back() {
    let namespace = covered("edited");
    shared().rule(&rule("edited", "edited"));
    let before = configuration("edited");
    let audit = before["metadata"]["annotations"]["tagout.dev/rule"].as_str().map(|it| it.replace("Enforce", "Audit"));
    for edit in [
        json!({"op": "replace", "path": "/webhooks", "value": []}),
        json!({"op": "remove", "path": "/webhooks"}),
        json!({"op": "replace", "path": "/webhooks/0/rules", "value": []}),
        json!({"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}),
        json!({"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 1}),
        json!({"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"no": "where"}}}),
        json!({"op": "replace", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"no": "where"}}}),
        json!({"op": "replace", "path": "/webhooks/0/clientConfig/service/path", "value": "/healthz"}),
        json!({"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}),
        json!({"op": "add", "path": "/webhooks/0/matchConditions/-", "value": {"name": "never", "expression": "false"}}),
        json!({"op": "remove", "path": "/webhooks/0/matchConditions"}),
        json!({"op": "remove", "path": "/metadata/annotations"}),
        json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1rule", "value": audit}),
        json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1rule", "value": "{"}),
        json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1compiler", "value": "0"}),
        json!({"op": "replace", "path": "/metadata/annotations/tagout.dev~1definition-uid", "value": "other"}),
        json!({"op": "remove", "path": "/metadata/labels"}),
        json!({"op": "remove", "path": "/metadata/ownerReferences"}),
    ] {
        let patch = json!([edit]).to_string();
        let what = ["patch", "validatingwebhookconfiguration", "tagout-edited", "--type=json", "-p", &patch];
        let outcome = shared().kubectl(User::Admin, &what).succeeds();
        assert!(!outcome.out.contains("no change"), "{edit}");
        eventually(&format!("{edit} is undone"), || written(&configuration("edited")) == written(&before));
        eventually(&format!("deletion is refused after {edit}"), || {
            attempt(&namespace).err.contains("needs approval by 1 of approvers (rule edited)")
        });
    }
}

#[test]
fn a_deleted_configuration_of_a_rule_is_put_back() {
    let namespace = covered("put-back");
    shared().rule(&rule("put-back", "put-back"));
    let before = configuration("put-back");
    shared().kubectl(User::Admin, &["delete", "validatingwebhookconfiguration", "tagout-put-back"]).succeeds();
    let name = "validatingwebhookconfiguration/tagout-put-back";
    eventually("it is made again", || shared().kubectl(User::Admin, &["get", name]).ok);
    assert_eq!(written(&before), written(&configuration("put-back")));
    eventually("deletion is refused", || attempt(&namespace).err.contains("(rule put-back)"));
}

#[test]
fn a_hand_edit_of_the_shared_configuration_is_put_back() {
    let world = apart();
    let webhooks = || world.get(&["validatingwebhookconfiguration/tagout"])["webhooks"].clone();
    let before = webhooks();
    assert_eq!(before[0]["name"], "approvals.tagout.dev");
    for patch in [
        json!([{"op": "replace", "path": "/webhooks", "value": []}]),
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        json!([{"op": "replace", "path": "/webhooks/0/matchConditions/0/expression", "value": "false"}]),
        json!([{"op": "replace", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"no": "where"}}}]),
    ] {
        let what = ["patch", "validatingwebhookconfiguration", "tagout", "--type=json", "-p", &patch.to_string()];
        world.kubectl(User::Admin, &what).succeeds();
        eventually(&format!("{patch} is undone"), || webhooks() == before);
    }
}

#[test]
fn broken_cel_is_answered_in_the_api_servers_words_while_the_earlier_version_stays_in_force() {
    let (namespace, neighbour) = (covered("broken"), covered("unbroken"));
    shared().rule(&rule("broken", "broken"));
    shared().rule(&rule("unbroken", "unbroken"));
    let untouched = configuration("unbroken");

    let mut broken =
        with(with_condition("broken", "true &&\n  object.metadata.name.beginsWith('x')"), "mode", json!("Audit"));
    broken["spec"]["approval"]["require"] = json!([{"anyOf": ["nobody"]}]);
    shared().rule(&broken);
    let message =
        is_not_ready("broken", "Rejected", &["undeclared reference to 'beginsWith'", "generation 1 stays in force"]);
    // The author's own line with a caret under it, and nothing of what Tagout puts around it.
    assert!(message.contains("2:34") && message.contains("|   object.metadata.name.beginsWith('x')"), "{message}");
    assert!(!message.contains("[0].all(request"), "{message}");
    assert_eq!(status("broken", "Enforced")["reason"], "OlderVersion");
    attempt(&namespace).is_refused(&["needs approval by 1 of approvers (rule broken)."]);

    assert_eq!(status("unbroken", "Ready")["status"], "True");
    attempt(&neighbour).is_refused(&["(rule unbroken)"]);
    assert_eq!(untouched["metadata"]["resourceVersion"], configuration("unbroken")["metadata"]["resourceVersion"]);

    shared().rule(&with_condition("broken", "true && object.metadata.name.startsWith('a')"));
    assert_eq!(status("broken", "Ready")["status"], "True");
    assert_eq!(status("broken", "Enforced")["status"], "True");
    attempt(&namespace).is_refused(&["(rule broken, where its conditions hold)"]);
}

#[test]
fn a_rule_that_is_broken_from_the_start_says_that_it_protects_nothing() {
    let namespace = covered("never-right");
    shared().rule(&with_condition("never-right", "object.metadata.name ="));
    is_not_ready("never-right", "Rejected", &["Syntax error", "Nothing is protected by this rule yet."]);
    assert_eq!(status("never-right", "Enforced")["status"], "False");
    attempt(&namespace).succeeds();
    shared().rule(&with_condition("never-right", "object.metadata.name == 'api'"));
    attempt(&namespace).is_refused(&["(rule never-right, where its conditions hold)"]);
}

/// Each of these would exempt agent-7 if it could see who asks.
#[test]
fn a_condition_cannot_exempt_a_user() {
    let namespace = covered("exempting");
    shared().rule(&rule("exempting", "exempting"));
    let escapes =
        "true)))) || request.userInfo.username == \"agent-7\" || ([0].all(a,[0].all(b,[0].all(c,[0].all(d, true";
    for condition in [
        "request.userInfo.username != 'agent-7'",
        "object.metadata.name == '' || request.userInfo.username != 'agent-7'",
        "authorizer.group('apps').resource('deployments').check('delete').reason() == 'x'",
        escapes,
        "true // ))))\n)))) && request.userInfo.username != 'agent-7' && ([0].all(a,[0].all(b,[0].all(c,[0].all(d, true",
        "true)",
        "(true",
        "'",
        "true,\nfalse",
        "has(request.userInfo) && request.userInfo.username != 'agent-7'",
        "has(request.userInfo)",
    ] {
        shared().rule(&with_condition("exempting", condition));
        println!("{condition}: {}", is_not_ready("exempting", "Rejected", &["generation 1 stays in force"]));
        attempt(&namespace).is_refused(&["needs approval by 1 of approvers (rule exempting)."]);
    }
    // Whether these compile is the API server's matter; an exemption they are never.
    for condition in [
        "dyn(request).userInfo.username != 'agent-7'",
        ".request.userInfo.username != 'agent-7'",
        "[1].all(authorizer, .request.userInfo.username != 'agent-7')",
        "has(dyn(request).userInfo) && dyn(request).userInfo.username != 'agent-7' || !has(dyn(request).userInfo)",
    ] {
        shared().rule(&with_condition("exempting", condition));
        println!("{condition}: {}", status("exempting", "Ready")["message"]);
        thread::sleep(Duration::from_millis(300));
        attempt(&namespace).is_refused(&[]);
    }
}

#[test]
fn a_condition_sees_the_object_as_it_stands_under_both_names_and_may_end_in_a_comment() {
    let namespace = covered("commented");
    namespace.deployment("other");
    let condition = "object == oldObject && oldObject.metadata.name == 'api' // ))))";
    shared().rule(&with_condition("commented", condition));
    assert_eq!(status("commented", "Ready")["reason"], "Accepted");
    attempt(&namespace).is_refused(&["(rule commented, where its conditions hold)"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "other"]).succeeds();
}

#[test]
fn a_condition_that_fails_at_run_time_refuses_deletion_and_never_a_routine_write() {
    let namespace = covered("careless");
    labelled(&namespace, "web", "tier=web");
    labelled(&namespace, "batch", "tier=batch");
    shared().rule(&with_condition("careless", "object.metadata.labels['tier'] != 'batch'"));
    let ready = status("careless", "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("AcceptedWithWarning")));
    assert!(text(&ready["message"]).contains("Condition own looks up a label"), "{ready}");
    assert!(text(&ready["message"]).contains("object.metadata.?labels['key'].orValue('')"), "{ready}");

    attempt(&namespace).is_refused(&["no such key: tier"]);
    namespace.kubectl(User::Agent, &["scale", "deployment", "api", "--replicas=2"]).succeeds();
    namespace.kubectl(User::Agent, &["label", "deployment", "api", "a=b"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "web"]).is_refused(&["(rule careless, where"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "batch"]).succeeds();
}

#[test]
fn a_selector_that_the_api_server_rejects_is_reported_and_the_earlier_version_stays() {
    let namespace = covered("selecting");
    shared().rule(&rule("selecting", "selecting"));
    for (field, selector) in [
        ("objectSelector", json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
        ("objectSelector", json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]})),
        ("namespaceSelector", json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]})),
        ("namespaceSelector", json!({"matchLabels": {"rule": "not a value!"}})),
        ("objectSelector", json!({"matchLabels": {"not a key": ""}})),
    ] {
        shared().rule(&with(rule("selecting", "selecting"), field, selector));
        println!("{}", is_not_ready("selecting", "Rejected", &[field, "generation 1 stays in force"]));
        attempt(&namespace).is_refused(&["(rule selecting)"]);
    }
    shared().rule(&rule("selecting", "selecting"));
    assert_eq!(status("selecting", "Ready")["status"], "True");
}

#[test]
fn a_rule_of_a_team_that_does_not_exist_protects_and_nobody_can_approve() {
    let namespace = covered("teamless");
    let mut teamless = rule("teamless", "teamless");
    teamless["spec"]["approval"]["require"] = json!([{"anyOf": ["ghosts"]}]);
    shared().rule(&teamless);
    is_not_ready("teamless", "TeamNotFound", &["There is no ApproverTeam ghosts: create it"]);
    assert_eq!(status("teamless", "Enforced")["status"], "True");
    let mut of_ghosts = namespace.statement("deployment/api", User::Alice);
    let of_approvers = of_ghosts.clone();
    of_ghosts["team"] = json!("ghosts");
    attempt(&namespace).is_refused(&["needs approval by 1 of ghosts (rule teamless)"]);
    namespace.present(User::Alice, "deployment/api", &json!([of_ghosts])).is_refused(&["ghosts"]);
    namespace.present(User::Alice, "deployment/api", &json!([of_approvers])).succeeds();
    attempt(&namespace).is_refused(&["needs approval by 1 of ghosts (rule teamless)"]);

    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "ghosts"}, "spec": {"members": [{"user": User::Alice.name()}]}});
    shared().apply(User::Admin, &team).succeeds();
    eventually("the rule is ready", || status("teamless", "Ready")["status"] == "True");
    eventually("alice may approve", || namespace.present(User::Alice, "deployment/api", &json!([of_ghosts])).ok);
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

/// What the API server's audit log holds of deletions in this namespace, by the annotations of this rule.
fn audited(namespace: &Namespace, rule: &str) -> Value {
    let log = std::fs::read_to_string(shared().cp.audit_log()).expect("an audit log");
    let key = |name: &str| format!("delete.{rule}.tagout.dev/{name}");
    log.lines()
        .filter(|line| line.contains(&key("verdict")))
        .map(|line| serde_json::from_str::<Value>(line).expect("an event"))
        .find(|event| event["objectRef"]["namespace"] == namespace.name.as_str())
        .map(|event| {
            let said = &event["annotations"];
            json!([said[key("verdict")], said[key("because")], said[key("rules")], event["responseStatus"]["code"]])
        })
        .unwrap_or_default()
}

#[test]
fn audit_allows_and_writes_it_down_and_warn_allows_and_tells_the_caller() {
    for (mode, verdict) in [("Audit", "audit"), ("Warn", "warn"), ("Enforce", "deny")] {
        let name = format!("mode-{}", mode.to_lowercase());
        let namespace = covered(&name);
        shared().rule(&with(rule(&name, &name), "mode", json!(mode)));
        let outcome = namespace.kubectl(User::Agent, &["delete", "deployment", "api"]);
        assert_eq!(outcome.ok, mode != "Enforce", "{}", outcome.err);
        let warning = format!(
            "Warning: tagout: Delete of deployments.apps \"api\" in \"{}\" would be denied in mode Enforce: \
             needs approval by 1 of approvers (rule {name})",
            namespace.name
        );
        assert_eq!(outcome.err.contains(&warning), mode == "Warn", "{}", outcome.err);
        assert_eq!(outcome.err.contains("tagout"), mode != "Audit", "{}", outcome.err);
        let code = if mode == "Enforce" { 403 } else { 200 };
        assert_eq!(audited(&namespace, &name), json!([verdict, "not approved", name, code]));
        assert_eq!(status(&name, "Enforced")["status"] == "True", mode == "Enforce");
        assert_eq!(status(&name, "Ready")["status"], "True");
    }
}

#[test]
fn one_rule_that_enforces_refuses_for_all_and_those_that_warn_warn() {
    let namespace = covered("many");
    for (name, mode) in [("many-audit", "Audit"), ("many-warn", "Warn"), ("many-enforce", "Enforce")] {
        shared().rule(&with(rule(name, "many"), "mode", json!(mode)));
    }
    let said = attempt(&namespace).is_refused(&["(rule many-enforce).", "Warning: ", "(rule many-warn)"]).err;
    // The entry of any of them may be the one that refuses for all.
    assert!(!said.contains("rule many-audit") && !said.contains("rules many"), "{said}");
    assert_eq!(said.matches("would be denied").count(), 1, "{said}");
    shared().rule(&with(rule("many-enforce", "many"), "mode", json!("Audit")));
    let said = attempt(&namespace).succeeds().err;
    assert!(said.contains("(rule many-warn)") && !said.contains("many-enforce"), "{said}");
}

#[test]
fn exceptions_and_the_object_selector_leave_out_what_they_say() {
    let namespace = covered("choosing");
    for name in ["preview-1", "apreview-1", "hooked", "plain"] {
        labelled(&namespace, name, "guard=yes");
    }
    labelled(&namespace, "other", "guard=no");
    namespace.kubectl(User::Admin, &["annotate", "deployment", "hooked", "helm.sh/hook="]).succeeds();
    let choosing = with(rule("choosing", "choosing"), "objectSelector", json!({"matchLabels": {"guard": "yes"}}));
    shared().rule(&with(choosing, "except", json!([{"name": "preview-*"}, {"annotation": "helm.sh/hook"}])));
    for (name, open) in
        [("preview-1", true), ("apreview-1", false), ("hooked", true), ("plain", false), ("other", true), ("api", true)]
    {
        let outcome = namespace.kubectl(User::Agent, &["delete", "deployment", name]);
        assert_eq!(outcome.ok, open, "{name}: {}", outcome.err);
    }
}

#[test]
fn a_configuration_that_nobody_can_read_stalls_no_rule() {
    let world = apart();
    let spec = rule("bomb", "bomb")["spec"].clone();
    let valid_for = |text: &str| {
        let mut spec = spec.clone();
        spec["approval"]["validFor"] = json!(text);
        spec.to_string()
    };
    let damaged =
        ["", "{", "[]", "\u{0}", &valid_for("1d"), &valid_for("-1h"), &valid_for(&format!("{}h", "9".repeat(30)))];
    for (number, text) in damaged.iter().enumerate() {
        let bomb = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "tagout-bomb", "annotations": {"tagout.dev/rule": text, "tagout.dev/compiler": "x"}},
        });
        let what = ["replace", "--force", "-f", "-"];
        world.kubectl_with(User::Admin, &what, &bomb.to_string()).succeeds();
        let name = format!("after-bomb-{number}");
        world.rule(&rule(&name, "after-bomb"));
        let namespace = world.unprotected();
        world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=after-bomb"]).succeeds();
        namespace.deployment("api");
        eventually(&format!("{name} refuses after {text:?}"), || attempt(&namespace).err.contains(&name));
    }
    world.kubectl(User::Admin, &["delete", "validatingwebhookconfiguration", "tagout-bomb"]).succeeds();
}

#[test]
fn tagouts_own_namespace_is_never_covered() {
    let world = apart();
    let home = controlplane::installation::NAMESPACE;
    let mut manifest = deployment("throw-away");
    manifest["metadata"]["labels"]["tagout.dev/protect"] = json!("true");
    manifest["metadata"]["namespace"] = json!(home);
    world
        .kubectl(User::Admin, &["label", "namespace", home, "tagout.dev/protect=true", "environment=production"])
        .succeeds();
    world.apply(User::Admin, &manifest).succeeds();
    world.kubectl(User::Agent, &["delete", "namespace", home, "--dry-run=server"]).succeeds();
    world.kubectl(User::Agent, &["-n", home, "delete", "deployment", "throw-away"]).succeeds();
}

#[test]
fn kubectl_get_shows_what_is_in_force_and_the_category_holds_both_kinds() {
    let table = shared().kubectl(User::Carol, &["get", "protectionrules", "production"]).succeeds().out;
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "MODE", "APPROVERS", "READY", "ENFORCED", "AGE"]);
    assert_eq!(rows[1][..5], ["production", "Enforce", "approvers", "True", "True"]);
    let all = shared().kubectl(User::Carol, &["get", "tagout", "-o", "name"]).succeeds().out;
    for name in ["protectionrule.tagout.dev/production", "approverteam.tagout.dev/approvers"] {
        assert!(all.lines().any(|line| line == name), "{name} is not in {all}");
    }
    for short in ["prule/production", "ateam/approvers"] {
        shared().kubectl(User::Carol, &["get", short]).succeeds();
    }
}

#[test]
fn every_field_explains_itself() {
    fn undescribed(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if text(&property["description"]).len() < 10 {
                found.insert(path.clone());
            }
            undescribed(property, &path, found);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                undescribed(&schema[inner], &format!("{path}[]"), found);
            }
        }
    }
    let mut found = BTreeSet::new();
    for name in ["protectionrules", "approverteams"] {
        let crd = shared().get(&[&format!("crd/{name}.tagout.dev")]);
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            assert!(schema["properties"][part]["properties"].is_object());
            undescribed(&schema["properties"][part], &format!("{name}.{part}"), &mut found);
        }
        assert!(text(&schema["description"]).len() > 10, "{name}");
    }
    assert!(found.is_empty(), "not described: {found:?}");
    let explained = shared().kubectl(User::Carol, &["explain", "protectionrule.spec.approval.validFor"]).succeeds().out;
    assert!(explained.contains("Go duration such as 30m or 2h"), "{explained}");
}
