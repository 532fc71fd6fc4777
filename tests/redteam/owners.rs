//! Owners: what the garbage collector would delete for the agent.

use controlplane::User;
use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};
use crate::world::{eventually, shared, text};

pub const TRIED: &[Tried] = &[
    ("owner-that-never-was", owner_that_never_was),
    ("owner-with-another-uid", owner_with_another_uid),
    ("owner-in-another-namespace", owner_in_another_namespace),
    ("owner-that-is-going", owner_that_is_going),
    ("dead-owner-left-behind", dead_owner_left_behind),
    ("throw-away-owner-in-the-background", throw_away_owner_in_the_background),
    ("throw-away-owner-in-the-foreground", throw_away_owner_in_the_foreground),
    ("throw-away-owner-that-orphans", throw_away_owner_that_orphans),
    ("volume-with-a-bogus-owner", volume_with_a_bogus_owner),
    ("namespace-with-a-bogus-owner", namespace_with_a_bogus_owner),
    ("claim-that-looks-ephemeral", claim_that_looks_ephemeral),
    ("secret-with-a-controller", secret_with_a_controller),
];

#[test]
fn the_garbage_collector_does_not_do_the_agents_work() {
    attack(TRIED);
}

const ATTACKED: [&str; 4] =
    ["deployment/api", "statefulset/db", "configmap/settings", "persistentvolumeclaim/data-db-0"];

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
}

fn owned_by(owners: &[Value]) -> Value {
    json!({"metadata": {"ownerReferences": owners}})
}

fn throw_away(scene: &Scene, name: &str) -> Value {
    scene.agent(&["create", "configmap", name]).succeeds();
    // What no rule covers, because it is disposable.
    owner(name, &scene.uid(&format!("configmap/{name}")))
}

const NOBODY: &str = "11111111-2222-3333-4444-555555555555";

fn owner_that_never_was(scene: &Scene) {
    for what in ATTACKED {
        scene.patch(what, &owned_by(&[owner("never", NOBODY)]));
        let mut applied = json!({"apiVersion": scene.namespace.get(what)["apiVersion"],
            "kind": scene.namespace.get(what)["kind"], "metadata": {"name": what.split_once('/').expect("a name").1}});
        applied["metadata"]["ownerReferences"] = json!([owner("never", NOBODY)]);
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        scene.agent_with(&apply, &applied.to_string());
    }
    // Of a Deployment also through its status.
    scene.patch_status("deployment/api", &owned_by(&[owner("never", NOBODY)]));
}

fn owner_with_another_uid(scene: &Scene) {
    for what in ATTACKED {
        scene.patch(what, &owned_by(&[owner("kube-root-ca.crt", NOBODY)]));
    }
}

fn owner_in_another_namespace(scene: &Scene) {
    let other = shared().unprotected();
    other.kubectl(User::Agent, &["create", "configmap", "elsewhere"]).succeeds();
    let uid = text(&other.get("configmap/elsewhere")["metadata"]["uid"]);
    for what in ATTACKED {
        scene.patch(what, &owned_by(&[owner("elsewhere", &uid)]));
    }
}

fn owner_that_is_going(scene: &Scene) {
    let going = disposable(scene, "going", &["example.com/hold"]);
    scene.agent(&["delete", "configmap/going", "--wait=false"]);
    for what in ATTACKED {
        scene.patch(what, &owned_by(std::slice::from_ref(&going)));
    }
    scene.tidy("configmap/going", &json!({"metadata": {"finalizers": null}}));
}

/// An owner that the rules leave out, so that the agent may delete it.
fn disposable(scene: &Scene, name: &str, finalizers: &[&str]) -> Value {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": finalizers,
        "annotations": {"tagout.dev/disposable": "true"}}});
    scene.agent_with(&["create", "-f", "-"], &manifest.to_string()).succeeds();
    owner(name, &scene.uid(&format!("configmap/{name}")))
}

/// One that lives and one that goes, and then the one that lives is taken away.
fn dead_owner_left_behind(scene: &Scene) {
    let (stays, goes) = (disposable(scene, "stays", &[]), disposable(scene, "goes", &[]));
    scene.patch("deployment/api", &owned_by(&[stays, goes.clone()]));
    scene.agent(&["delete", "configmap/goes"]);
    scene.patch("deployment/api", &owned_by(&[goes]));
    scene.tidy("deployment/api", &json!({"metadata": {"ownerReferences": null}}));
    scene.agent(&["delete", "configmap/stays"]);
}

fn adopted_and_deleted(scene: &Scene, name: &str, cascade: &str) {
    let owner = disposable(scene, name, &[]);
    for what in ["deployment/api", "persistentvolumeclaim/data-db-0"] {
        let mut owner = owner.clone();
        owner["blockOwnerDeletion"] = json!(true);
        scene.patch(what, &owned_by(&[owner])).succeeds();
    }
    let delete = || {
        scene.agent(&["delete", &format!("configmap/{name}"), &format!("--cascade={cascade}"), "--wait=false"]);
    };
    if cascade == "orphan" {
        delete();
        eventually("nobody owns it", || {
            scene.namespace.get("deployment/api")["metadata"].get("ownerReferences").is_none()
        });
        scene.agent(&["delete", "deployment/api", "--wait=false"]);
    } else {
        scene.a_controller_is_refused("deployment/api", delete);
        scene.survives(&format!("a throw-away owner was deleted with --cascade={cascade}"));
    }
    for what in ["deployment/api", "persistentvolumeclaim/data-db-0"] {
        scene.tidy(what, &json!({"metadata": {"ownerReferences": null}}));
    }
}

fn throw_away_owner_in_the_background(scene: &Scene) {
    adopted_and_deleted(scene, "background", "background");
}

fn throw_away_owner_in_the_foreground(scene: &Scene) {
    adopted_and_deleted(scene, "foreground", "foreground");
}

fn throw_away_owner_that_orphans(scene: &Scene) {
    adopted_and_deleted(scene, "orphan", "orphan");
}

/// Giving a volume an owner is nobody's business; the collector that comes for it is refused.
fn volume_with_a_bogus_owner(scene: &Scene) {
    let bogus = json!({"apiVersion": "v1", "kind": "Node", "name": "never", "uid": NOBODY});
    scene.a_controller_is_refused(&scene.volume(), || {
        scene.patch(&scene.volume(), &owned_by(&[bogus]));
    });
    scene.tidy(&scene.volume(), &json!({"metadata": {"ownerReferences": null}}));
}

/// The scene's own, and one that no rule names but for the one object in it.
fn namespace_with_a_bogus_owner(scene: &Scene) {
    let bogus = owned_by(&[json!({"apiVersion": "v1", "kind": "Node", "name": "never", "uid": NOBODY})]);
    scene.patch(&scene.own(), &bogus);
    let other = shared().unprotected();
    other.deployment("db");
    other.kubectl(User::Admin, &["label", "deployment/db", "tagout.dev/protect=true"]).succeeds();
    let name = format!("namespace/{}", other.name);
    let uid = scene.uid(&name);
    scene.a_controller_is_refused(&name, || {
        scene.patch(&name, &bogus);
    });
    let live = scene.namespace.get(&name);
    assert_eq!(text(&live["metadata"]["uid"]), uid);
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "the namespace is going, and the object in it");
    scene.tidy(&name, &json!({"metadata": {"ownerReferences": null}}));
}

/// As Kubernetes marks the claim of a pod's ephemeral volume, which goes with its pod.
fn claim_that_looks_ephemeral(scene: &Scene) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "data"},
        "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]}});
    scene.agent_with(&["create", "-f", "-"], &pod.to_string()).succeeds();
    let uid = scene.uid("pod/data");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "data", "uid": uid, "controller": true});
    scene.patch("persistentvolumeclaim/data-db-0", &owned_by(std::slice::from_ref(&pod)));
    scene.patch_status("persistentvolumeclaim/data-db-0", &owned_by(&[pod]));
    scene.agent(&["delete", "pvc/data-db-0", "--wait=false"]);
    scene.agent(&["delete", "pod/data", "--force", "--grace-period=0"]);
}

/// A Secret follows its controller, which makes it anew: so one that never had one does not get one.
fn secret_with_a_controller(scene: &Scene) {
    let mut controller = throw_away(scene, "controller");
    controller["controller"] = json!(true);
    for what in ["secret/key", "configmap/settings", "service/api"] {
        scene.patch(what, &owned_by(std::slice::from_ref(&controller)));
    }
}
