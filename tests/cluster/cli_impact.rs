//! What would go, shown before anything happens, and an approval that names it.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, deployment, eventually, shared, text};

/// A namespace with a Deployment that rolled out, and a `StatefulSet` with a claim that is bound to a volume.
fn payments() -> Namespace<'static> {
    let world = shared();
    let namespace = world.production();
    namespace.deployment("api");
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace.name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "",
            "claimRef": {"namespace": namespace.name, "name": "data-db-0"},
            "hostPath": {"path": "/tmp/none"},
        },
    });
    world.apply(User::Admin, &volume).succeeds();
    namespace.apply(User::Admin, &stateful_set("db")).succeeds();
    eventually("the claim is bound", || {
        let claims = namespace.kubectl(User::Admin, &["get", "pvc", "data-db-0", "-o", "jsonpath={.status.phase}"]);
        claims.out == "Bound"
    });
    eventually("the pods are ready", || {
        let ready = |what: &str| namespace.get(what)["status"]["readyReplicas"] == 1;
        ready("deployment/api") && ready("statefulset/db")
    });
    namespace
}

fn stateful_set(name: &str) -> Value {
    let mut set = deployment(name);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!(name);
    set["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    set
}

fn tagout(user: User, args: &[&str]) -> Outcome {
    shared().kubectl(user, &[&["tagout"], args].concat())
}

#[test]
fn what_goes_with_a_deployment_is_a_tree_with_the_rules_below() {
    let namespace = shared().production();
    namespace.deployment("api");
    eventually("a pod is ready", || namespace.get("deployment/api")["status"]["readyReplicas"] == 1);
    let shown = tagout(User::Carol, &["impact", "deploy/api", "-n", &namespace.name]).succeeds().out;
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], format!("Deployment api in {}", namespace.name));
    assert!(lines[1].starts_with("└─ ReplicaSet api-"), "{shown}");
    assert!(lines[2].starts_with("   └─ Pod api-") && lines[2].ends_with(", ready"), "{shown}");
    for words in [
        "With it would go: 1 Pod (1 ready), 1 ReplicaSet.",
        "Rule: production needs approval by 1 of approvers",
        "Deletion: refused until it is approved",
        "kubectl tagout approve deployments.apps/api -n ",
    ] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "nobody sees colours here");
    assert!(namespace.exists("deployment/api"));
}

#[test]
fn a_namespace_takes_everything_along_and_one_approval_is_enough() {
    let namespace = payments();
    let what = format!("ns/{}", namespace.name);
    let shown = tagout(User::Carol, &["impact", &what]).succeeds().out;
    for words in [
        "Deployment api, protected".to_owned(),
        "PersistentVolumeClaim data-db-0, protected".to_owned(),
        format!("PersistentVolume {}, 1Gi, DATA DESTROYED", namespace.name),
        "The data of 1 volume would be destroyed.".to_owned(),
    ] {
        assert!(shown.contains(&words), "{words} is not in {shown}");
    }
    let json = tagout(User::Carol, &["impact", &what, "-o", "json"]).succeeds().out;
    let impacts: Value = serde_json::from_str(&json).expect("JSON");
    let impact = &impacts["impacts"][0];
    assert_eq!(impact["object"]["kind"], "Namespace");
    assert_eq!((&impact["counts"]["StatefulSet"], &impact["readyPods"]), (&json!(1), &json!(2)), "{json}");
    assert_eq!((&impact["verdict"], &impact["complete"]), (&json!("deny"), &json!(true)), "{json}");
    let going = impact["going"].as_array().expect("a list");
    let volume = going.iter().find(|one| one["kind"] == "PersistentVolume").expect("the volume");
    assert_eq!(volume["volume"]["data"], "destroyed");
    assert_eq!(going[usize::try_from(volume["with"].as_u64().unwrap()).unwrap()]["name"], "data-db-0");
    let claim = going.iter().find(|one| one["name"] == "data-db-0").expect("the claim");
    assert!(claim["protectedBy"].as_array().unwrap().contains(&json!("production")), "{json}");

    let asked = refused_deletion_of(&namespace);
    let review = tagout(User::Alice, &["review", &asked]).succeeds().out;
    let tree = review.split("\nRequest:").next().unwrap();
    assert!(tree.starts_with(&format!("namespaces \"{}\"\n├─ ", namespace.name)), "{review}");
    assert!(tree.contains("DESTROYED: the data of volume") && tree.lines().count() < 40, "{review}");

    let approved = tagout(User::Alice, &["approve", &what, "--yes"]).succeeds().out;
    assert!(approved.contains("DESTROYED:  the data of volume") && approved.contains("Goes:"), "{approved}");
    let live = shared().get(&[&what]);
    let statements: Value =
        serde_json::from_str(&text(&live["metadata"]["annotations"]["tagout.dev/approval"])).unwrap();
    let uids = statements[0]["protects"]["uids"].as_array().expect("UIDs");
    for what in ["deployment/api", "statefulset/db", "persistentvolumeclaim/data-db-0"] {
        assert!(uids.contains(&namespace.get(what)["metadata"]["uid"]), "{what} is not in {uids:?}");
    }
    shared().kubectl(User::Agent, &["delete", &what, "--timeout=60s"]).succeeds();
    assert!(!shared().kubectl(User::Admin, &["get", &what]).ok);
}

/// Refuses the namespace's deletion, and returns the id of the request once an Event tells of it.
fn refused_deletion_of(namespace: &Namespace) -> String {
    let refused = shared().kubectl(User::Agent, &["delete", "ns", &namespace.name]).is_refused(&["needs approval"]);
    id(&refused)
}

/// The id of the request that was refused, once an Event tells of it.
fn id(refused: &Outcome) -> String {
    let (_, rest) = refused.err.split_once("Request: ").expect("an id");
    let id = rest.split_whitespace().next().expect("an id").to_owned();
    eventually("an Event tells of it", || {
        let events = shared().kubectl(User::Admin, &["get", "events", "-A", "-o", "jsonpath={.items[*].message}"]);
        events.out.contains(&id)
    });
    id
}

#[test]
fn what_came_after_the_approval_was_not_approved() {
    let namespace = shared().production();
    let what = format!("ns/{}", namespace.name);
    namespace.deployment("api");
    tagout(User::Alice, &["approve", &what, "--yes"]).succeeds();
    namespace.deployment("late");
    shared()
        .kubectl(User::Agent, &["delete", &what])
        .is_refused(&["something protected goes along that it does not name"]);
    tagout(User::Alice, &["approve", &what, "--yes"]).succeeds();
    shared().kubectl(User::Agent, &["delete", &what, "--timeout=60s"]).succeeds();
}

#[test]
fn impact_draws_what_labels_choose_and_what_files_name() {
    let namespace = shared().production();
    let name = namespace.name.as_str();
    namespace.deployment("api");
    namespace.deployment("web");
    let of = |args: &[&str], input: &str| {
        let all = [&["tagout", "impact"], args, &["-n", name]].concat();
        shared().kubectl_with(User::Carol, &all, input).succeeds().out
    };
    assert!(of(&["deploy", "-l", "app=web"], "").starts_with(&format!("Deployment web in {name}\n")));
    assert!(of(&["-l", "app in (api,web)"], "").contains(&format!("\nDeployment web in {name}\n")));
    let file = format!("{}\n---\n{}\n", deployment("api"), deployment("not-there"));
    assert!(of(&["-f", "-"], &file).starts_with(&format!("Deployment api in {name}\n")));

    let dot = of(&["deploy/api", "-o", "dot"], "");
    assert!(dot.starts_with("digraph impact {\n") && dot.contains("r0 -> r0n0;"), "{dot}");
    let mermaid = of(&["deploy/api", "deploy/web", "-o", "mermaid"], "");
    assert!(mermaid.starts_with("graph LR\n") && mermaid.contains("r1 --> r1n0"), "{mermaid}");
    tagout(User::Carol, &["impact", "deploy/none", "-n", name]).is_refused(&["there is no deployments.apps \"none\""]);
    tagout(User::Carol, &["impact", "deploy/api", "-l", "app=api", "-n", name]).is_refused(&["name kinds with it"]);
}

#[test]
fn what_no_rule_protects_is_shown_too() {
    let namespace = shared().unprotected();
    namespace.deployment("api");
    let shown = tagout(User::Carol, &["impact", &format!("ns/{}", namespace.name)]).succeeds().out;
    assert!(shown.contains("─ Deployment api\n"), "{shown}");
}

#[test]
fn the_request_of_another_action_is_approved_by_its_id() {
    let namespace = shared().production();
    namespace.deployment("api");
    let scale = ["scale", "deployment/api", "--replicas=0"];
    let asked = id(&namespace.kubectl(User::Agent, &scale).is_refused(&["denied ScaleToZero"]));
    let review = tagout(User::Alice, &["review", &asked, "-n", &namespace.name]).succeeds().out;
    assert!(review.contains("Action:     ScaleToZero"), "{review}");
    let approved = tagout(User::Alice, &["approve", &asked, "-n", &namespace.name, "--yes"]).succeeds().out;
    assert!(approved.contains("ScaleToZero of deployments.apps \"api\""), "{approved}");
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&["needs approval"]);
    namespace.kubectl(User::Agent, &scale).succeeds();
}

#[test]
fn a_namespace_may_be_let_out_of_its_rules_by_approval() {
    let namespace = shared().production();
    let what = format!("ns/{}", namespace.name);
    let label = ["label", &what, "environment=test", "--overwrite"];
    shared().kubectl(User::Agent, &label).is_refused(&["denied Unprotect"]);
    tagout(User::Alice, &["approve", &what, "--action=unprotect", "--yes"]).succeeds();
    shared().kubectl(User::Agent, &label).succeeds();
}

#[test]
fn a_volume_is_approved_by_those_whom_its_claim_asks() {
    let namespace = payments();
    let what = format!("pv/{}", namespace.name);
    let shown = tagout(User::Carol, &["impact", &what]).succeeds().out;
    assert!(shown.contains("Rule: production needs approval"), "{shown}");
    shared().kubectl(User::Agent, &["delete", &what, "--wait=false"]).is_refused(&["needs approval"]);
    tagout(User::Alice, &["approve", &what, "--yes"]).succeeds();
    shared().kubectl(User::Agent, &["delete", &what, "--wait=false"]).succeeds();
}
