//! Rules, teams and definitions that somebody would make weaker.

use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, chart, eventually, rule, shared, text};

fn team(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": name}, "spec": spec})
}

/// A rule of this name in force, and a namespace that it protects.
fn protected(name: &str, approval: &Value) -> Namespace<'static> {
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    let mut manifest = rule(name, name);
    manifest["spec"]["approval"] = approval.clone();
    shared().rule(&manifest);
    namespace.deployment("api");
    eventually("it can be approved", || condition(name, "Approvable") == "True");
    // The mark that somebody can approve is written into the entry at the same time, and read a moment later.
    thread::sleep(Duration::from_millis(500));
    namespace
}

fn condition(name: &str, kind: &str) -> String {
    let found = shared().get(&[&format!("protectionrule/{name}")]);
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().find(|one| one["type"] == kind).map(|one| text(&one["status"])).unwrap_or_default()
}

fn by_approvers() -> Value {
    json!({"require": [{"anyOf": ["approvers"]}]})
}

fn changed(name: &str, path: &str, value: &Value) -> Value {
    let mut manifest = rule(name, name);
    *manifest.pointer_mut(path).unwrap_or(&mut json!(null)) = value.clone();
    let mut place = &mut manifest;
    let keys: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    for key in &keys[..keys.len() - 1] {
        place = &mut place[*key];
    }
    place[keys[keys.len() - 1]] = value.clone();
    manifest
}

#[test]
fn no_field_of_a_rule_in_force_is_loosened_without_approval() {
    protected("loosen", &by_approvers());
    for (path, value) in [
        ("/spec/mode", json!("Audit")),
        ("/spec/mode", json!("Warn")),
        ("/spec/resources", json!([{"apiGroups": ["apps"], "resources": ["daemonsets"]}])),
        ("/spec/namespaceSelector", json!({"matchLabels": {"rule": "elsewhere"}})),
        ("/spec/objectSelector", json!({"matchLabels": {"a": "b"}})),
        ("/spec/except", json!([{"name": "api"}])),
        ("/spec/matchConditions", json!([{"name": "never", "expression": "false"}])),
        ("/spec/approval/require", json!([{"anyOf": ["approvers", "other"]}])),
        ("/spec/approval/require", json!([{"anyOf": ["approvers", "other"], "count": 1}])),
        ("/spec/approval/separateFromRequester", json!(false)),
        ("/spec/approval/validFor", json!("31m")),
        ("/spec/approval/breakGlass", json!({"anyOf": ["approvers"]})),
        ("/spec/failurePolicy", json!("Ignore")),
    ] {
        let weaker = changed("loosen", path, &value);
        for user in [User::Admin, User::Agent, User::Ci] {
            shared().apply(user, &weaker).is_refused(&["denied Loosen", "(rule loosen)", "It would be weaker"]);
        }
    }
    for delete in [
        &["delete", "protectionrule", "loosen"][..],
        &["delete", "protectionrules", "--field-selector=metadata.name=loosen"],
    ] {
        shared().kubectl(User::Agent, delete).is_refused(&["the rule is deleted"]);
    }
}

#[test]
fn tightening_a_rule_is_free_and_so_is_writing_it_again() {
    protected("tighten", &by_approvers());
    for (path, value) in [
        ("/spec/approval/validFor", json!("10m")),
        ("/spec/namespaceSelector", json!({"matchLabels": {"rule": "tighten"}})),
        ("/spec/resources", json!([{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]}])),
    ] {
        let stricter = changed("tighten", path, &value);
        shared().apply(User::Ci, &stricter).succeeds();
        shared().apply(User::Ci, &stricter).succeeds();
        shared().permit(&rule("tighten", "tighten"));
        shared().apply(User::Ci, &rule("tighten", "tighten")).succeeds();
        thread::sleep(Duration::from_secs(2));
    }
    shared().kubectl(User::Ci, &["label", "protectionrule", "tighten", "a=b"]).succeeds();
}

#[test]
fn what_nobody_could_approve_any_more_is_refused_although_it_tightens() {
    shared().apply(User::Admin, &team("lonely", &json!({"members": [{"user": User::Carol.name()}]}))).succeeds();
    protected("lonely", &json!({"require": [{"anyOf": ["lonely"]}]}));
    let approval = |approval: Value| changed("lonely", "/spec/approval", &approval);
    for stricter in [
        approval(json!({"require": [{"anyOf": ["lonely"], "count": 2}]})),
        approval(json!({"proof": "HardwareKey", "require": [{"anyOf": ["lonely"]}]})),
        approval(json!({"validFor": "1s", "require": [{"anyOf": ["lonely"]}]})),
    ] {
        shared().apply(User::Admin, &stricter).is_refused(&["nobody could approve what rule lonely protects any more"]);
    }
    let words = ["nobody could approve what rule lonely protects any more"];
    shared().kubectl(User::Admin, &["delete", "approverteam", "lonely"]).is_refused(&words);
    shared()
        .apply(User::Admin, &team("lonely", &json!({"groups": [], "members": [{"user": "someone-else"}]})))
        .is_refused(&["denied Loosen"]);
}

#[test]
fn an_agent_that_adds_itself_to_a_team_is_refused() {
    shared().apply(User::Admin, &team("closed", &json!({"members": [{"user": User::Carol.name()}]}))).succeeds();
    protected("closed", &json!({"require": [{"anyOf": ["closed"]}]}));
    let carol = json!({"user": User::Carol.name()});
    for spec in [
        json!({"members": [carol, {"user": User::Agent.name()}]}),
        json!({"members": [carol], "groups": ["developers"]}),
        json!({"members": [{"user": User::Carol.name(), "keys": [{"publicKey":
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"}]}]}),
    ] {
        for user in [User::Agent, User::Admin] {
            shared().apply(user, &team("closed", &spec)).is_refused(&["denied Loosen", "(rule closed)"]);
        }
    }
}

#[test]
fn a_team_that_no_rule_names_is_free_until_one_does() {
    for members in [json!([{"user": "a"}]), json!([{"user": "a"}, {"user": "b"}])] {
        shared().apply(User::Ci, &team("unnamed", &json!({"members": members}))).succeeds();
    }
    shared().kubectl(User::Ci, &["delete", "approverteam", "unnamed"]).succeeds();
}

#[test]
fn a_rule_may_come_before_its_team_and_closes_when_somebody_can_approve() {
    let mut early = rule("early", "early");
    early["spec"]["approval"] = json!({"require": [{"anyOf": ["late"]}]});
    shared().rule(&early);
    assert_eq!(condition("early", "Approvable"), "False");
    // Nobody ever could: whoever sets it up is still about to.
    early["spec"]["mode"] = json!("Audit");
    shared().apply(User::Admin, &early).succeeds();
    early["spec"]["mode"] = json!("Enforce");
    shared().apply(User::Admin, &early).succeeds();
    shared().apply(User::Admin, &team("late", &json!({"members": [{"user": User::Carol.name()}]}))).succeeds();
    eventually("somebody can approve", || condition("early", "Approvable") == "True");
    thread::sleep(Duration::from_millis(500));
    early["spec"]["mode"] = json!("Audit");
    shared().apply(User::Admin, &early).is_refused(&["denied Loosen"]);
    // Emptying the team opens nothing again.
    shared().kubectl(User::Agent, &["delete", "approverteam", "late"]).is_refused(&["nobody could approve"]);
}

#[test]
fn weak_doubled_and_misplaced_keys_are_refused_with_the_reason() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let with = |line: &str| team("keys", &json!({"members": [{"user": "kim", "keys": [{"publicKey": line}]}]}));
    for (line, words) in [
        ("-----BEGIN OPENSSH PRIVATE KEY-----hunter2", "this is a PRIVATE key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "it is weak"),
        ("no-touch-required ssh-ed25519 AAAA", "it begins with options"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7", "no public key"),
        ("hunter2", "it is no public key"),
    ] {
        let refused = shared().apply(User::Admin, &with(line)).is_refused(&[words, "members[0].keys[0]"]);
        assert!(!refused.err.contains("denied the request: tagout: hunter2"), "{}", refused.err);
    }
    let twice = json!({"members": [{"user": "kim", "keys": [{"publicKey": KEY}]}, {"user": "lee", "keys": [{"publicKey": KEY}]}]});
    shared().apply(User::Admin, &team("keys", &twice)).is_refused(&["a key is one person's"]);
    shared().apply(User::Admin, &with(KEY)).succeeds();
    eventually("other teams know of it", || {
        let other = team("other-keys", &json!({"members": [{"user": "lee", "keys": [{"publicKey": KEY}]}]}));
        !shared().kubectl_with(User::Admin, &["apply", "--dry-run=server", "-f", "-"], &other.to_string()).ok
    });
}

#[test]
fn tagouts_own_definitions_change_only_to_what_tagout_itself_would_install() {
    let definitions = chart().join("crds").display().to_string();
    let again = ["apply", "--server-side", "--force-conflicts", "-f", &definitions];
    shared().kubectl(User::Ci, &again).succeeds();
    let patches = [
        (
            "protectionrules",
            json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-preserve-unknown-fields", "value": true}]),
        ),
        ("approverteams", json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}])),
        (
            "approvals",
            json!([{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/convert"}}}}]),
        ),
    ];
    for (plural, patch) in patches {
        let name = format!("{plural}.tagout.dev");
        let patch = ["patch", "crd", &name, "--type=json", "-p", &patch.to_string()];
        shared().kubectl(User::Agent, &patch).is_refused(&["denied Loosen", "Tagout's own definitions"]);
        shared().kubectl(User::Agent, &["delete", "crd", &name]).is_refused(&["denied Loosen"]);
    }
    // Other people's definitions are none of Tagout's business.
    let mut other = shared().get(&["crd/approverteams.tagout.dev"]);
    other["metadata"] = json!({"name": "things.not-tagout.dev"});
    other["spec"]["group"] = json!("not-tagout.dev");
    other["spec"]["names"] = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    shared().apply(User::Ci, &other).succeeds();
    // Of a kind that it may not list, nobody can tell that there is nothing.
    let (what, refused) = ("crd/things.not-tagout.dev", ["rule definitions"]);
    shared().kubectl(User::Ci, &["delete", what]).is_refused(&refused);
    shared().remove(User::Ci, what);
}

#[test]
fn an_approved_loosening_passes_once_for_exactly_this_change() {
    let namespace = protected("approved", &by_approvers());
    let warn = changed("approved", "/spec/mode", &json!("Warn"));
    let audit = changed("approved", "/spec/mode", &json!("Audit"));
    shared().permit(&warn);
    shared().apply(User::Ci, &audit).is_refused(&["it is for another change than this one"]);
    shared().kubectl(User::Ci, &["delete", "protectionrule", "approved"]).is_refused(&["another change"]);
    shared().apply(User::Ci, &warn).succeeds();
    eventually("the rule warns", || {
        namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).ok
    });
}

#[test]
fn nobody_approves_the_loosening_that_they_ask_for() {
    protected("own-change", &by_approvers());
    let warn = changed("own-change", "/spec/mode", &json!("Warn"));
    shared().permit(&warn);
    shared().apply(User::Bob, &warn).is_refused(&["nobody approves their own request"]);
}

/// Reconcilers try again and again; what they want is either done or refused in the same words.
#[test]
fn reconcilers_meet_a_change_a_loosening_and_a_rollback_without_a_fight() {
    let argo = ["apply", "-f", "-"];
    let flux = ["apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-f", "-"];
    for (name, apply) in [("argo-like", &argo[..]), ("flux-like", &flux[..])] {
        let reconcile = |manifest: &Value| shared().kubectl_with(User::Ci, apply, &manifest.to_string());
        let generation = || shared().get(&[&format!("protectionrule/{name}")])["metadata"]["generation"].clone();
        let enforce = rule(name, name);
        reconcile(&enforce).succeeds();
        eventually("somebody can approve", || condition(name, "Approvable") == "True");
        thread::sleep(Duration::from_millis(500));
        let shorter = changed(name, "/spec/approval/validFor", &json!("10m"));
        reconcile(&shorter).succeeds();
        let mut warn = shorter.clone();
        warn["spec"]["mode"] = json!("Warn");
        warn["spec"]["approval"] = shorter["spec"]["approval"].clone();
        let before = generation();
        let first_line = |outcome: Outcome| {
            outcome
                .is_refused(&["denied Loosen"])
                .err
                .lines()
                .find(|line| line.contains("denied Loosen"))
                .map(str::to_owned)
        };
        let words = first_line(reconcile(&warn));
        for _ in 0..3 {
            assert_eq!(first_line(reconcile(&warn)), words);
        }
        assert_eq!(generation(), before);
        shared().permit(&warn);
        for _ in 0..3 {
            reconcile(&warn).succeeds();
        }
        let loosened = generation();
        // Back, which is stricter, and there again.
        for _ in 0..3 {
            reconcile(&shorter).succeeds();
        }
        assert_ne!(generation(), loosened);
    }
}

/// The names in a definition's status decide which kind is served and what admission sees; the spec stays the same.
#[test]
fn a_kind_renamed_in_its_definitions_status_is_refused() {
    for plural in ["protectionrules", "approverteams", "approvals"] {
        let name = format!("{plural}.tagout.dev");
        for names in [json!({"plural": "foos"}), json!({"kind": "Foo"}), json!({"plural": ""})] {
            let patch = json!({"status": {"acceptedNames": names}}).to_string();
            let rename = ["patch", "crd", &name, "--subresource=status", "--type=merge", "-p", &patch];
            shared()
                .kubectl(User::Agent, &rename)
                .is_refused(&["that Tagout's kinds are served, and under which names"]);
        }
        let harmless = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
        let patch = ["patch", "crd", &name, "--type=merge", "-p", &harmless];
        shared().kubectl(User::Ci, &patch).succeeds();
    }
}

#[test]
fn an_api_that_tagout_rests_on_cannot_be_served_by_somebody_else() {
    let redirect = json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": null}},
        "spec": {"service": {"name": "mirror", "namespace": "default", "port": 443}, "insecureSkipTLSVerify": true}});
    for name in ["v1alpha1.tagout.dev", "v1.admissionregistration.k8s.io", "v1.apiextensions.k8s.io"] {
        let patch = ["patch", "apiservice", name, "--type=merge", "-p", &redirect.to_string()];
        shared().kubectl(User::Agent, &patch).is_refused(&["served by the API server itself"]);
    }
    let other = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.metrics.example.com"},
        "spec": {"group": "metrics.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": "metrics", "namespace": "default", "port": 443}, "insecureSkipTLSVerify": true}});
    shared().apply(User::Ci, &other).succeeds();
    shared().kubectl(User::Ci, &["delete", "apiservice", "v1.metrics.example.com"]).succeeds();
}

/// What an entry says can be edited by whoever may edit webhook configurations; that a rule is settled, not.
#[test]
fn an_entry_that_was_edited_does_not_make_its_rule_free() {
    protected("edited-entry", &by_approvers());
    let entry = "validatingwebhookconfiguration/tagout-edited-entry";
    let keys: Vec<String> = shared().get(&[entry])["metadata"]["annotations"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| !key.ends_with("/rule"))
        .map(|key| format!("{key}-"))
        .collect();
    let without: Vec<&str> = keys.iter().map(String::as_str).collect();
    shared().kubectl(User::Agent, &[&["annotate", entry][..], &without].concat()).succeeds();
    let weaker = changed("edited-entry", "/spec/mode", &json!("Audit"));
    shared().apply(User::Agent, &weaker).is_refused(&["denied Loosen"]);
    shared().kubectl(User::Agent, &["delete", entry]).succeeds();
    eventually("it is put back", || shared().kubectl(User::Admin, &["get", entry]).ok);
    shared().apply(User::Agent, &weaker).is_refused(&["denied Loosen"]);
}

#[test]
fn a_team_that_was_deleted_is_not_free_to_come_back() {
    let spec = json!({"members": [{"user": User::Carol.name()}]});
    shared().apply(User::Admin, &team("dismissed", &spec)).succeeds();
    protected("dismissed", &json!({"require": [{"anyOf": ["approvers", "dismissed"]}]}));
    shared().kubectl(User::Admin, &["delete", "approverteam", "dismissed"]).succeeds();
    // The registrar hears of it within a second.
    thread::sleep(Duration::from_secs(3));
    shared().apply(User::Agent, &team("dismissed", &spec)).is_refused(&["denied Loosen", "(rule dismissed)"]);
}

#[test]
fn a_guard_that_a_finalizer_keeps_from_going_still_guards() {
    let world = crate::world::World::start(&controlplane::Options::default());
    let shared_entries = "validatingwebhookconfiguration/tagout";
    let keep = json!({"metadata": {"finalizers": ["example.com/keep"]}}).to_string();
    world.kubectl(User::Agent, &["patch", shared_entries, "--type=merge", "-p", &keep]).succeeds();
    world.kubectl(User::Agent, &["delete", shared_entries, "--wait=false"]).succeeds();
    thread::sleep(Duration::from_secs(2));
    world.kubectl(User::Agent, &["delete", "protectionrule", "production"]).is_refused(&["the rule is deleted"]);
    world.end();
}

/// What is not known to be free is not free.
#[test]
fn a_lost_or_damaged_memory_of_settled_rules_makes_no_rule_free() {
    let world = crate::world::World::start(&controlplane::Options::default());
    let in_own = ["-n", controlplane::installation::NAMESPACE];
    let secret = "secret/tagout-settled";
    let garbage = json!({"data": {"rules": "e30gZ2FyYmFnZQ=="}}).to_string();
    for lose in [&["patch", secret, "--type=merge", "-p", &garbage][..], &["delete", secret]] {
        eventually("it is written down", || {
            let found = world.kubectl(User::Admin, &[&in_own[..], &["get", secret, "-o", "json"]].concat());
            let data = serde_json::from_str::<Value>(&found.out).unwrap_or_default()["data"]["rules"].clone();
            data.is_string() && data != "e30gZ2FyYmFnZQ=="
        });
        world.kubectl(User::Agent, &[&in_own[..], lose].concat()).succeeds();
        for _ in 0..10 {
            world
                .kubectl(User::Agent, &["delete", "protectionrule", "production"])
                .is_refused(&["the rule is deleted"]);
            thread::sleep(Duration::from_millis(300));
        }
    }
    world.end();
}
