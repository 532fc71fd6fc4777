//! Tagout cannot be reached, or cannot be changed, and the cluster is nobody's hostage.

use std::process::Command;

use controlplane::User;
use controlplane::installation::{NAMESPACE, run};

use crate::load::Load;
use crate::world::{
    FAILED_CLOSED, LOCKED, PODS, PRODUCTION, Pod, REFUSED, UNPROTECTED, World, chart, eventually, text,
};

pub fn nobody_changes_what_runs_as_tagout_who_was_not_let(world: &World) {
    let pod = world.pods()[0].name();
    let proxy = format!("/api/v1/namespaces/{NAMESPACE}/pods/https:{pod}:8443/proxy/readyz");
    let agent = |args: &[&str]| world.kubectl(User::Agent, &[&["--namespace", NAMESPACE], args].concat());
    for act in [
        &["exec", &pod, "--", "/tagout", "version"][..],
        &["debug", &pod, "--image=tagout", "--target=tagout"],
        &["scale", "deployment", "tagout", "--replicas=0"],
        &["set", "image", "deployment/tagout", "tagout=evil"],
        &["create", "token", "tagout"],
        &["run", "other", "--image=evil", "--labels", PODS],
        &["delete", "service", "tagout"],
        &["delete", "secret", "tagout-certificates"],
        &["get", "--raw", &proxy],
    ] {
        agent(act).is_refused(&[LOCKED]);
    }
    // Their daily work goes on, and Tagout's pods are replaced like any others.
    agent(&["rollout", "restart", "deployment/tagout"]).succeeds();
    agent(&["rollout", "status", "deployment/tagout", "--timeout=180s"]).succeeds();
    agent(&["logs", "-l", PODS, "--tail=1"]).succeeds();
}

pub fn without_its_service_all_but_destruction_goes_on_and_the_chart_brings_it_back(world: &World) {
    world.deployment(PRODUCTION, "served");
    let delete = ["delete", "deployment", "served", "-n", PRODUCTION];
    world.kubectl_at_home(&["delete", "service", "tagout"]).succeeds();
    eventually("nobody answers", || world.kubectl(User::Agent, &delete).err.contains(FAILED_CLOSED));
    daily_work(world, "without-a-service");
    let chart = chart();
    let again = ["upgrade", "tagout", &chart, "--reuse-values", "--wait", "--timeout=180s"];
    world.helm(&again).succeeds();
    world.settle();
    eventually("it is asked again", || world.kubectl(User::Agent, &delete).err.contains(REFUSED));
    let load = Load::start(world);
    load.go_on(20);
    load.stop().is_flawless();
}

/// As a firewall or a network policy between the API server and the Service would be.
pub fn with_a_firewall_in_the_way_all_but_destruction_goes_on_until_it_is_gone(world: &World) {
    world.deployment(PRODUCTION, "walled");
    let address = text(&world.get(&["service", "tagout", "-n", NAMESPACE])["spec"]["clusterIP"]);
    // Before the Service's address becomes a pod's: probes come from the node, and network policies let them pass.
    let wall = Wall::before(&["-t", "mangle"], &["OUTPUT", "-d", &address, "-p", "tcp", "-j", "DROP"]);
    let delete = ["delete", "deployment", "walled", "-n", PRODUCTION];
    // Connections that were open go on until they are closed.
    eventually("nobody answers", || world.kubectl(User::Agent, &delete).err.contains(FAILED_CLOSED));
    daily_work(world, "behind-a-wall");
    assert!(world.pods().iter().all(crate::world::Pod::is_ready), "they are well, and unreached");
    drop(wall);
    eventually("it is asked again", || world.kubectl(User::Agent, &delete).err.contains(REFUSED));
    world.settle();
}

/// As a policy on what pods may call would have it. It lasts until what Tagout knows is too old to decide by.
pub fn cut_off_from_the_api_server_nobody_is_ready_or_started_again_and_it_mends_by_itself(world: &World) {
    world.deployment(PRODUCTION, "cut-off");
    let delete = ["delete", "deployment", "cut-off", "-n", PRODUCTION];
    let before = world.pods();
    let port = world.get(&["endpointslice", "kubernetes"])["ports"][0]["port"].to_string();
    let wall = Wall::before(&[], &["INPUT", "-i", "cni0", "-p", "tcp", "--dport", &port, "-j", "DROP"]);
    eventually("no replica is ready", || world.pods().iter().all(|pod| !pod.is_ready()));
    world.kubectl(User::Agent, &delete).is_refused(&[FAILED_CLOSED]);
    daily_work(world, "cut-off-from-it");
    drop(wall);
    world.settle();
    eventually("it is asked again", || world.kubectl(User::Agent, &delete).err.contains(REFUSED));
    let restarts = |pods: &[Pod]| pods.iter().map(Pod::restarts).sum::<u64>();
    assert_eq!(restarts(&world.pods()), restarts(&before), "to start them again would mend nothing");
}

/// With no replica there is nobody to unlock it. Who may delete bindings can mend it, as the operations page says.
pub fn a_tagout_that_cannot_start_is_put_right_through_the_emergency_exit(world: &World) {
    world.deployment(PRODUCTION, "exit");
    let delete = ["delete", "deployment", "exit", "-n", PRODUCTION];
    let image = text(
        &world.get(&["deployment", "tagout", "-n", NAMESPACE])["spec"]["template"]["spec"]["containers"][0]["image"],
    );
    let set = |user: User, image: &str| {
        let image = format!("tagout={image}");
        world.kubectl(user, &["set", "image", "deployment/tagout", &image, "-n", NAMESPACE])
    };
    let all = ["delete", "pods", "-n", NAMESPACE, "-l", PODS, "--force", "--grace-period=0"];
    // By whom it is unlocked for; somebody else has to mend it.
    set(User::Admin, "nowhere.invalid/tagout:none").succeeds();
    world
        .kubectl_at_home(&[
            "patch",
            "deployment",
            "tagout",
            "-p",
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxUnavailable":"100%"}}}}"#,
        ])
        .succeeds();
    world.kubectl(User::Ci, &all).succeeds();
    eventually("nobody answers", || world.kubectl(User::Agent, &delete).err.contains(FAILED_CLOSED));
    set(User::Ci, &image).is_refused(&[LOCKED]);
    let exit = ["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home", "--ignore-not-found"];
    // A replica that is on its way out still puts them back.
    eventually("it can be put right", || world.kubectl(User::Ci, &exit).ok && set(User::Ci, &image).ok);
    world.kubectl(User::Agent, &delete).is_refused(&[FAILED_CLOSED]);
    world.settle();
    eventually("it is locked again", || world.is_locked_for(User::Agent));
    eventually("it is asked again", || world.kubectl(User::Agent, &delete).err.contains(REFUSED));
    // What kubectl has changed is kubectl's otherwise.
    world.helm(&["rollback", "tagout", "1", "--wait", "--force-conflicts"]).succeeds();
    world.settle();
}

/// A rule of the packet filter, for as long as this lives.
struct Wall {
    table: Vec<String>,
    rule: Vec<String>,
}

impl Wall {
    fn before(table: &[&str], rule: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let this = Self { table: owned(table), rule: owned(rule) };
        this.iptables("-I");
        this
    }

    fn iptables(&self, what: &str) {
        run(Command::new("iptables").args(&self.table).arg(what).args(&self.rule), "").expect("iptables");
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        self.iptables("-D");
    }
}

/// What people and controllers do all day, in production too.
fn daily_work(world: &World, name: &str) {
    let ci = |args: &[&str]| world.kubectl(User::Ci, args).succeeds();
    for namespace in [PRODUCTION, UNPROTECTED] {
        world.deployment(namespace, name);
        let what = format!("deployment/{name}");
        let scale = ["scale", &what, "-n", namespace, "--replicas=2"];
        ci(&scale);
        ci(&["rollout", "restart", &what, "-n", namespace]);
        ci(&["rollout", "status", &what, "-n", namespace, "--timeout=60s"]);
        ci(&["delete", "pods", "-n", namespace, "-l", &format!("app={name}")]);
        ci(&["rollout", "status", &what, "-n", namespace, "--timeout=60s"]);
    }
    ci(&["label", "namespace", PRODUCTION, "pod-security.kubernetes.io/warn=baseline", "--overwrite"]);
    ci(&["delete", "deployment", name, "-n", UNPROTECTED]);
}
