//! What a cluster lives by is none of Tagout's business, whatever rules say.

use controlplane::{Options, User};
use serde_json::json;

use crate::routine::rolled_out;
use crate::world::{Namespace, World, eventually, rule, text};

const SYSTEM: &str = "kube-system";

#[test]
fn with_a_rule_about_every_namespace_what_a_cluster_lives_by_asks_nobody_and_goes_on_with_tagout_dead() {
    let mut world = World::start(&Options::default());
    let mut everywhere = rule("everywhere", "everywhere");
    everywhere["spec"]["namespaceSelector"] = json!({});
    everywhere["spec"]["resources"] = world.get(&["protectionrule", "production"])["spec"]["resources"].clone();
    world.rule(&everywhere);
    let system = world.borrowed(SYSTEM);
    system.deployment("dns");
    rolled_out(&system, "deployment/dns");
    system.kubectl(User::Agent, &["delete", "deployment", "dns"]).is_refused(&["(rule everywhere)"]);

    let before = world.calls_about_objects();
    live(&world, &system);
    assert_eq!(world.calls_about_objects(), before, "somebody was asked");

    world.tagout.kill().expect("it is killed");
    let system = world.borrowed(SYSTEM);
    live(&world, &system);
    system.kubectl(User::Agent, &["delete", "deployment", "dns"]).is_refused(&["failed calling webhook"]);
    world.end();
}

/// Leases, events, nodes, pods and their controllers, and the settings by which components find each other.
fn live(world: &World, system: &Namespace) {
    let ci = |args: &[&str]| system.kubectl(User::Ci, args).succeeds();
    let made = |manifest: serde_json::Value| system.apply(User::Ci, &manifest).succeeds();
    let meta = |name: &str| json!({"name": name, "namespace": SYSTEM});

    let renewed = || text(&world.get(&["-n", "kube-node-lease", "lease/node-3"])["spec"]["renewTime"]);
    let before = renewed();
    eventually("nodes renew their leases", || renewed() != before);
    made(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta("leader"), "spec": {}}));
    ci(&["patch", "lease", "leader", "--type=merge", "-p", r#"{"spec":{"holderIdentity":"one"}}"#]);
    ci(&["delete", "lease", "leader"]);

    made(
        json!({"apiVersion": "v1", "kind": "Event", "metadata": meta("told"), "involvedObject": {"namespace": SYSTEM},
        "reason": "Told", "type": "Normal"}),
    );
    ci(&["delete", "event", "told"]);

    made(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-9"}}));
    ci(&["label", "node", "node-9", "pool=spare", "--overwrite"]);
    ci(&["cordon", "node-9"]);
    ci(&["delete", "node", "node-9"]);

    ci(&["rollout", "restart", "deployment/dns"]);
    rolled_out(system, "deployment/dns");
    ci(&["scale", "deployment/dns", "--replicas=2"]);
    ci(&["delete", "pods", "-l", "app=dns"]);
    rolled_out(system, "deployment/dns");
    ci(&["scale", "deployment/dns", "--replicas=1"]);
    ci(&["label", "configmap", "kube-root-ca.crt", "seen=yes", "--overwrite"]);
    ci(&["label", "namespace", SYSTEM, "pod-security.kubernetes.io/warn=privileged", "--overwrite"]);
}
