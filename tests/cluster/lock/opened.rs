//! Opened by several people, or by one in an emergency; and clusters whose controllers have no names of their own.

use std::thread;
use std::time::Duration;

use controlplane::{ControlPlane, Options, User};
use serde_json::json;

use super::{HOME, REFUSED, a_pod, home, in_home, start_on, start_with};
use crate::world::{Outcome, World, eventually, text};

fn scale(world: &World, user: User) -> Outcome {
    home(world, user, &["scale", "deployment", "tagout", "--replicas=3", "--dry-run=server"])
}

fn unlock(world: &World, user: User, args: &[&str]) -> Outcome {
    world.kubectl(user, &[&["tagout", "unlock", "--requester=ci-deployer", "--yes", "--reason=upgrade"], args].concat())
}

/// Longer than replicas take to look, and the API server to hear of it.
const LOOKED: Duration = Duration::from_secs(12);

#[test]
fn two_people_open_it_where_rules_ask_for_two_and_one_breaks_the_glass() {
    let cp = Box::leak(Box::new(ControlPlane::start(&Options::default()).expect("a control plane")));
    let team = [
        "protect.count=2",
        "protect.breakGlass={breakers}",
        "teams[0].name=breakers",
        "teams[0].spec.members[0].user=carol@example.com",
    ];
    let world = start_with(cp, &team);
    let said = unlock(&world, User::Alice, &["--for=10m"]).out;
    assert!(!said.contains("unlocked for ci-deployer"), "{said}");
    thread::sleep(LOOKED);
    scale(&world, User::Ci).is_refused(&[REFUSED]);
    let said = unlock(&world, User::Bob, &["--for=10m"]).succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    scale(&world, User::Ci).succeeds();
    scale(&world, User::Agent).is_refused(&[REFUSED]);
    what_is_there_is_resized_by_whom_it_is_unlocked_for(&world);
    world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
    eventually("it is locked again", || scale(&world, User::Ci).err.contains(REFUSED));

    // Whom no rule lets break it, does not; and hers is no ordinary approval.
    unlock(&world, User::Alice, &["--for=10m", "--break-glass"]);
    unlock(&world, User::Carol, &["--for=10m"]);
    thread::sleep(LOOKED);
    scale(&world, User::Ci).is_refused(&[REFUSED]);
    let said = unlock(&world, User::Carol, &["--for=10m", "--break-glass"]).succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    scale(&world, User::Ci).succeeds();
    assert!(world.metrics().lines().any(|line| line == "tagout_unlocked 1"));
    let log = world.tagout.log();
    let broken = log.lines().filter(|line| line.contains("unlocked") && line.contains("carol@example.com"));
    assert!(broken.into_iter().any(|line| line.contains("broke_glass") && line.contains("true")), "{log}");
    eventually("there is an Event", || {
        let events = world.get(&["events.events.k8s.io", "--field-selector=reason=Unlocked"]);
        let mut notes = events["items"].as_array().expect("a list").iter().map(|event| text(&event["note"]));
        notes.any(|note| note.contains("by carol@example.com, who broke the glass"))
    });
    world.end();
}

/// On no node, and so not by whoever is simulated: those resize nothing.
fn what_is_there_is_resized_by_whom_it_is_unlocked_for(world: &World) {
    let container = json!({"name": "main", "image": "example.com/main:1", "resources": {"requests": {"cpu": "100m"}}});
    let pod = in_home("v1", "Pod", "waits", &json!({"spec": {"schedulerName": "nobody", "containers": [container]}}));
    world.apply(User::Ci, &pod).succeeds();
    let smaller = r#"{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"1m"}}}]}}"#;
    let resize = |user: User| home(world, user, &["patch", "pod", "waits", "--subresource=resize", "-p", smaller]);
    resize(User::Agent).is_refused(&[REFUSED]);
    resize(User::Ci).succeeds();
}

#[test]
fn where_controllers_share_one_name_tagouts_pods_come_and_go_all_the_same() {
    let world = start_on(&Options { share_controller_credentials: true, ..Options::default() });
    home(&world, User::Ci, &["rollout", "restart", "deployment/tagout"]).succeeds();
    home(&world, User::Ci, &["rollout", "status", "deployment/tagout", "--timeout=120s"]).succeeds();
    let pod = a_pod(&world);
    home(&world, User::Ci, &["delete", "pod", &pod]).succeeds();
    eventually("another is there in its place", || {
        let deployment = world.get(&["-n", HOME, "deployment/tagout"]);
        deployment["status"]["readyReplicas"] == 2 && deployment["status"]["unavailableReplicas"].is_null()
    });
    home(&world, User::Agent, &["create", "job", "x", "--image=example.com/main:1"]).is_refused(&[REFUSED]);
    let said = unlock(&world, User::Alice, &["--for=10m"]).succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    home(&world, User::Ci, &["create", "job", "upgrade", "--image=example.com/main:1"]).succeeds();
    home(&world, User::Ci, &["wait", "--for=condition=complete", "job/upgrade", "--timeout=60s"]).succeeds();
    home(&world, User::Ci, &["delete", "job", "upgrade", "--timeout=60s"]).succeeds();
    eventually("its pod goes along", || {
        home(&world, User::Admin, &["get", "pods", "-l", "job-name=upgrade", "-o", "name"]).succeeds().out.is_empty()
    });
    world.end();
}
