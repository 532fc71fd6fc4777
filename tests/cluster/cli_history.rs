//! What was destroyed and may return, and the list of it, as people use them.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, deployment, rule, shared};

fn tagout(user: User, args: &[&str]) -> Outcome {
    shared().kubectl(user, &[&["tagout"], args].concat())
}

/// A Deployment in a namespace of which this rule is.
fn covered(rule: &Value) -> Namespace<'static> {
    let world = shared();
    let namespace = world.unprotected();
    let label = rule["spec"]["namespaceSelector"]["matchLabels"]["rule"].as_str().expect("a label");
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={label}")]).succeeds();
    world.rule(rule);
    namespace.deployment("api");
    namespace
}

/// A rule that lets everything go, and asks before it returns.
fn remembering(name: &str) -> Namespace<'static> {
    let mut rule = rule(name, name);
    rule["spec"]["actions"] = json!(["Recreate", "Unprotect"]);
    covered(&rule)
}

fn destroyed(name: &str) -> Namespace<'static> {
    let namespace = remembering(name);
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    namespace
}

fn make(namespace: &Namespace, user: User) -> Outcome {
    namespace.apply(user, &deployment("api"))
}

#[test]
fn what_was_destroyed_returns_by_one_command_of_an_approver() {
    let namespace = destroyed("returns");
    let name = namespace.name.as_str();
    make(&namespace, User::Agent).is_refused(&["denied Recreate", "--action=Recreate"]);
    let shown = tagout(User::Alice, &["review", "deploy/api", "-n", name, "--action=Recreate"]).succeeds().out;
    for words in ["Action:     Recreate", "Destroyed:", User::Agent.name(), "which nobody approved", "returns needs"] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
    let said = tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"]).succeeds().out;
    assert!(said.contains("Destroyed:") && said.contains("approved until"), "{said}");
    make(&namespace, User::Agent).succeeds();
    assert!(namespace.exists("deployment/api"));
}

#[test]
fn whoever_approves_a_return_may_bring_it_back_themselves() {
    let namespace = destroyed("brought-back");
    let name = namespace.name.as_str();
    tagout(User::Bob, &["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"]).succeeds();
    make(&namespace, User::Bob).succeeds();
}

#[test]
fn an_approval_of_a_return_can_be_taken_back() {
    let namespace = destroyed("taken-back");
    let name = namespace.name.as_str();
    tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"]).succeeds();
    let taken = tagout(User::Alice, &["revoke", "deploy/api", "-n", name]).succeeds().out;
    assert!(taken.contains("taken back: Recreate of deployments.apps"), "{taken}");
    make(&namespace, User::Agent).is_refused(&["denied Recreate"]);
}

#[test]
fn everything_that_was_destroyed_in_a_namespace_returns_by_one_approval() {
    let namespace = covered(&rule("returns-all", "returns-all"));
    let (name, of_namespace) = (namespace.name.as_str(), format!("ns/{}", namespace.name));
    tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--delete-only", "--yes"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    make(&namespace, User::Agent).is_refused(&["denied Recreate"]);
    let said =
        tagout(User::Alice, &["approve", &of_namespace, "--contents", "--action=Recreate", "--yes"]).succeeds().out;
    assert!(said.contains("what was destroyed in namespaces"), "{said}");
    make(&namespace, User::Agent).succeeds();
    // It is about returns, and lets nothing go.
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
}

#[test]
fn what_was_approved_to_go_may_return_and_what_went_for_good_may_not() {
    let asks = rule("asks", "asks");
    let namespace = covered(&asks);
    let name = namespace.name.as_str();
    namespace.approve(User::Alice, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"]).is_refused(&[
        "nothing to approve",
        User::Alice.name(),
        "so is its return",
    ]);
    make(&namespace, User::Agent).succeeds();

    let said = tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--delete-only", "--yes"]).succeeds().out;
    assert!(said.contains("for good: it may not return under its name"), "{said}");
    let open = tagout(User::Carol, &["get", "approvals", "-n", name]).succeeds().out;
    assert!(open.contains("Delete (for good)"), "{open}");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    make(&namespace, User::Agent).is_refused(&["denied Recreate", "--action=Recreate"]);

    let history: Value =
        serde_json::from_str(&tagout(User::Carol, &["get", "history", "-n", name, "-o", "json"]).succeeds().out)
            .unwrap();
    assert_eq!((&history[0]["deleteOnly"], &history[0]["name"]), (&json!(true), &json!("api")));
    assert_eq!(history[0]["approvers"], json!([User::Alice.name()]));

    tagout(User::Bob, &["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"]).succeeds();
    make(&namespace, User::Agent).succeeds();
}

#[test]
fn the_history_says_who_destroyed_what_and_how_far_back_it_goes() {
    let namespace = destroyed("history");
    let name = namespace.name.as_str();
    let said = tagout(User::Carol, &["get", "history", "-n", name]).succeeds();
    let line = said.out.lines().find(|line| line.contains("deployments.apps")).expect("it is listed").to_owned();
    for words in [name, "api", User::Agent.name(), "nobody", "history"] {
        assert!(line.contains(words), "{words} is not in {line}");
    }
    assert!(said.err.contains("Complete for the last"), "{}", said.err);
    let lately = tagout(User::Carol, &["get", "history", "-n", name, "--since", "10m", "-o", "name"]).succeeds().out;
    let record = lately.trim();
    assert!(record.starts_with("deletionrecord.tagout.dev/deleted-"), "{lately}");
    let read = shared().get(&[record]);
    assert_eq!(read["spec"]["name"], "api");
    let other = tagout(User::Carol, &["get", "history", "-n", "default"]).succeeds();
    assert!(!other.out.contains(name), "{}", other.out);
}

#[test]
fn of_what_is_there_or_never_was_nothing_has_to_return() {
    let namespace = remembering("remembers");
    let name = namespace.name.as_str();
    for (args, words) in [
        (&["approve", "deploy/api", "-n", name, "--action=Recreate", "--yes"][..], &["is there", "nothing has to"][..]),
        (&["approve", "deploy/none", "-n", name, "--action=Recreate", "--yes"], &["may simply be made", "get history"]),
        (&["approve", "deploy/api", "-n", name, "--action=ScaleToZero", "--delete-only", "--yes"], &["--delete-only"]),
        (&["get", "approvals", "--since=2h"], &["get history"]),
        (&["get", "history", "--since=yesterday"], &["2h"]),
    ] {
        tagout(User::Alice, args).is_refused(words);
    }
}

#[test]
fn of_a_frozen_rule_approvers_are_told_that_they_cannot_help() {
    let mut frozen = rule("frozen", "frozen");
    frozen["spec"]["freeze"] =
        json!([{"from": "2020-01-01T00:00", "until": "2099-01-01T00:00", "reason": "a long year end"}]);
    let namespace = covered(&frozen);
    let name = namespace.name.as_str();
    for args in [&["review", "deploy/api", "-n", name][..], &["impact", "deploy/api", "-n", name]] {
        let shown = tagout(User::Alice, args).succeeds().out;
        assert!(shown.contains("frozen until 2099") && shown.contains("a long year end"), "{shown}");
    }
    let said = tagout(User::Alice, &["approve", "deploy/api", "-n", name, "--yes"]).succeeds().out;
    assert!(said.contains("it stays for now: rule frozen"), "{said}");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["frozen until 2099"]);
    let status = tagout(User::Carol, &["status"]).succeeds().out;
    assert!(status.contains("frozen until 2099"), "{status}");
}
