//! `kubectl tagout`, as people use it.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{presenting, shared, text};

#[test]
fn approving_shows_what_is_approved_and_writes_it_in_one_patch() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    let uid = text(&namespace.get("deployment/api")["metadata"]["uid"]);
    let shown = world
        .kubectl(
            User::Alice,
            &["tagout", "approve", "deploy/api", "-n", &namespace.name, "--yes", "--reason=OPS-1", "--for=5m"],
        )
        .succeeds()
        .out;
    for what in [uid.as_str(), "alice@example.com", "OPS-1", "production", "deployments.apps \"api\""] {
        assert!(shown.contains(what), "{what} is not in {shown}");
    }
    let live = namespace.get("deployment/api");
    assert_eq!(live["metadata"]["labels"]["tagout.dev/approval"], "true");
    let statements: Value =
        serde_json::from_str(&text(&live["metadata"]["annotations"]["tagout.dev/approval"])).unwrap();
    assert_eq!(statements[0]["uid"], uid.as_str());
    assert_eq!(statements[0]["reason"], "OPS-1");
}

#[test]
fn nobody_approves_blindly() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    // Its input is no terminal here, so it cannot ask.
    world
        .kubectl_with(User::Alice, &["tagout", "approve", "deploy/api", "-n", &namespace.name], "y\n")
        .is_refused(&["--yes"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&[]);
}

#[test]
fn who_may_not_approve_is_told_whom_to_ask() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    for user in [User::Carol, User::Ci, User::Agent] {
        world
            .kubectl(user, &["tagout", "approve", "deploy/api", "-n", &namespace.name, "--yes"])
            .is_refused(&["approvers", "kubectl get approverteams"]);
    }
}

#[test]
fn bad_input_gets_what_to_type_instead() {
    let world = shared();
    let namespace = world.production();
    let name = namespace.name.as_str();
    namespace.deployment("api");
    for (args, words) in [
        (&["approve", "deploy/none", "-n", name, "--yes"][..], &["none"][..]),
        (&["approve", "deplo/api", "-n", name, "--yes"], &["deplo", "api-resources"]),
        (&["approve", "deploy/api", "-n", name, "--yes", "--for=1d"], &["--for"]),
        (&["approve", "deploy/api", "-n", name, "--yes", "--for=48h"], &["30m"]),
        (&["approve", "deploy/api", "-n", name, "--yes", "--for=0s"], &["--for"]),
        (&["approve", "deploy/api", "-n", name, "--yes", "--action=Explode"], &["ScaleToZero"]),
        (&["approve", "deploy/api", "-n", "no-such-namespace", "--yes"], &["no-such-namespace"]),
        (&["approve"], &["kubectl tagout approve"]),
        (&["aprove", "deploy/api"], &["approve"]),
    ] {
        world.kubectl(User::Alice, &[&["tagout"], args].concat()).is_refused(words);
    }
}

#[test]
fn what_no_rule_covers_needs_no_approval() {
    let world = shared();
    let namespace = world.unprotected();
    namespace.deployment("api");
    world
        .kubectl(User::Alice, &["tagout", "approve", "deploy/api", "-n", &namespace.name, "--yes"])
        .is_refused(&["no rule covers"]);
}

#[test]
fn a_statement_that_nobody_checked_is_dropped_by_whoever_approves_next() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    // The agent plants a statement in alice's name, without the label, so that nothing checks it; then waits for her
    // to approve something else about the same object.
    let mut planted = namespace.statement("deployment/api", User::Alice);
    planted["requester"] = json!("agent-7");
    let patch: Value = serde_json::from_str(&presenting(&json!([planted]).to_string())).unwrap();
    let annotation_only = json!({"metadata": {"annotations": patch["metadata"]["annotations"]}}).to_string();
    namespace.kubectl(User::Agent, &["patch", "deployment", "api", "--type=merge", "-p", &annotation_only]).succeeds();
    world
        .kubectl(
            User::Alice,
            &["tagout", "approve", "deploy/api", "-n", &namespace.name, "--yes", "--requester=ci-deployer"],
        )
        .succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["for a request by \"ci-deployer\""]);
    namespace.kubectl(User::Ci, &["delete", "deployment", "api"]).succeeds();
}

#[test]
fn a_second_person_adds_to_the_first_ones_approval() {
    let world = shared();
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=two-people"]).succeeds();
    let mut rule = crate::world::rule("two-people", "two-people");
    rule["spec"]["approval"]["require"] = json!([{"anyOf": ["approvers"], "count": 2}]);
    world.rule(&rule);
    namespace.deployment("api");
    let first =
        world.kubectl(User::Alice, &["tagout", "approve", "deploy/api", "-n", &namespace.name, "--yes"]).succeeds();
    assert!((first.out + &first.err).contains("1 more of approvers"));
    namespace
        .kubectl(User::Agent, &["delete", "deployment", "api"])
        .is_refused(&["approval by 1 more of approvers (has alice@example.com)"]);
    namespace.approve(User::Bob, "deployment/api");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

#[test]
fn status_shows_rules_and_what_is_open_for_destruction() {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    namespace.approve(User::Bob, "deployment/api");
    let status = world.kubectl(User::Carol, &["tagout", "status"]).succeeds().out;
    assert!(status.lines().any(|line| line.starts_with("production") && line.contains("Enforce")), "{status}");
    let open = |line: &&str| line.contains(&namespace.name) && line.contains("bob@example.com");
    assert!(status.lines().any(|line| open(&line)), "{status}");
    let json: Value =
        serde_json::from_str(&world.kubectl(User::Carol, &["tagout", "status", "-o", "json"]).succeeds().out).unwrap();
    assert!(json.to_string().contains(&namespace.name));
}
