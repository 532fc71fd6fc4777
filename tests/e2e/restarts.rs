//! The cluster around Tagout ends and begins.

use controlplane::User;
use controlplane::installation::NAMESPACE;
use controlplane::node::kill_at_once;

use crate::world::{FAILED_CLOSED, PRODUCTION, REFUSED, UNPROTECTED, World, eventually};

pub fn an_api_server_that_starts_before_any_pod_of_tagout_gets_them_back(world: &World) {
    guarded(world, "outlasting");
    let pods = world.pods();
    world.node.lose_power().expect("the node ends");
    world.cp.kill_apiserver().expect("it is killed");
    world.cp.restart_apiserver().expect("it starts again");
    all_but_destruction_goes_on(world, "outlasting");
    world.node.begin_again().expect("the node starts again");
    world.started_again(&pods);
    world.settle();
    is_still_guarded(world, "outlasting");
}

pub fn processes_that_start_before_the_api_server_wait_for_it(world: &World) {
    guarded(world, "waiting");
    let pods = world.pods();
    let running = || world.node.started_as(&["/tagout", "serve"]).expect("processes can be seen");
    let before = running();
    assert_eq!(before.len(), 2);
    world.cp.kill_apiserver().expect("it is killed");
    before.iter().copied().for_each(kill_at_once);
    eventually("the kubelet starts them again, by what it knows", || {
        let now = running();
        now.len() == 2 && !now.iter().any(|process| before.contains(process))
    });
    world.cp.restart_apiserver().expect("it starts again");
    world.started_again(&pods);
    world.settle();
    is_still_guarded(world, "waiting");
}

pub fn after_a_power_cut_all_is_ready_again_and_what_was_protected_still_is(world: &World) {
    guarded(world, "surviving");
    let pods = world.pods();
    world.node.lose_power().expect("the node ends");
    world.cp.end();
    world.cp.begin_again().expect("the control plane starts again");
    all_but_destruction_goes_on(world, "surviving");
    world.node.begin_again().expect("the node starts again");
    world.started_again(&pods);
    world.settle();
    is_still_guarded(world, "surviving");
    // Approvals count again, too.
    let approve = ["tagout", "approve", "deployment/surviving", "-n", PRODUCTION, "--yes"];
    world.kubectl(User::Alice, &approve).succeeds();
    world.kubectl(User::Agent, &["delete", "deployment", "surviving", "-n", PRODUCTION]).succeeds();
}

/// The last test: after it there is no Tagout any more.
pub fn uninstalling_takes_an_unlock_and_leaves_nothing_that_blocks(world: &World) {
    guarded(world, "freed");
    world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
    eventually("it is locked again", || world.is_locked_for(User::Admin));
    let uninstalled = world.helm(&["uninstall", "tagout"]);
    assert!(!uninstalled.ok && uninstalled.err.contains("tagout"), "{uninstalled:?}");
    world.settle();
    is_still_guarded(world, "freed");
    world.unlock();
    world.helm(&["uninstall", "tagout", "--wait", "--timeout=120s"]).succeeds();
    eventually("every entry is gone", || {
        let all = world.kubectl(User::Admin, &["get", "validatingwebhookconfigurations", "-o", "name"]);
        all.ok && !all.out.contains("tagout")
    });
    eventually("every policy is gone", || {
        let all = ["get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name"];
        !world.kubectl(User::Admin, &all).succeeds().out.contains("tagout")
    });
    eventually("the API server asks nobody any more", || {
        world.kubectl(User::Agent, &["delete", "deployment", "freed", "-n", PRODUCTION]).ok
    });
    for namespace in [PRODUCTION, UNPROTECTED, NAMESPACE] {
        world.kubectl(User::Agent, &["delete", "namespace", namespace, "--timeout=120s"]).succeeds();
    }
    let definitions = world.kubectl(User::Admin, &["get", "crds", "-o", "name"]).succeeds().out;
    let ours: Vec<&str> = definitions.lines().filter(|name| name.ends_with(".tagout.dev")).collect();
    assert!(!ours.is_empty(), "Helm leaves definitions");
    world.kubectl(User::Agent, &[&["delete", "--timeout=60s"], &ours[..]].concat()).succeeds();
}

/// With nobody there to ask.
fn all_but_destruction_goes_on(world: &World, name: &str) {
    world.kubectl(User::Agent, &["delete", "deployment", name, "-n", PRODUCTION]).is_refused(&[FAILED_CLOSED]);
    let made = format!("made-beside-{name}");
    world.kubectl(User::Ci, &["create", "deployment", &made, "--image=x", "-n", PRODUCTION]).succeeds();
    world.kubectl(User::Ci, &["label", "deployment", &made, "-n", PRODUCTION, "team=shop"]).succeeds();
    world.kubectl(User::Ci, &["scale", "deployment", &made, "-n", PRODUCTION, "--replicas=3"]).succeeds();
}

fn guarded(world: &World, name: &str) {
    world.deployment(PRODUCTION, name);
    is_still_guarded(world, name);
}

fn is_still_guarded(world: &World, name: &str) {
    world.kubectl(User::Agent, &["delete", "deployment", name, "-n", PRODUCTION]).is_refused(&[REFUSED]);
    let status = ["rollout", "status", &format!("deployment/{name}"), "-n", PRODUCTION, "--timeout=120s"];
    world.kubectl(User::Admin, &status).succeeds();
}
