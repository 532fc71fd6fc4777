//! What happens to Tagout's pods and its Secret while objects are deleted all the time.

use std::time::Instant;

use controlplane::User;
use controlplane::installation::NAMESPACE;
use controlplane::node::kill_at_once;
use serde_json::json;

use crate::load::{Load, Seen};
use crate::world::{Outcome, PODS, World, eventually, text};

/// As `kubectl drain` has it go. Whoever drains nodes needs nobody's leave, and takes one at a time.
pub fn an_evicted_pod_goes_without_a_failed_call_and_not_both_at_once(world: &World) {
    let load = Load::start(world);
    let [one, other] = [0, 1].map(|number| world.pods()[number].name());
    let evict = |pod: &str| {
        let metadata = json!({"name": pod, "namespace": NAMESPACE});
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
        let raw = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
        let mut kubectl = world.cp.kubectl(User::Ci);
        Outcome::of(kubectl.args(["create", "--raw", &raw, "-f", "-"]), &eviction.to_string())
    };
    evict(&one).succeeds();
    evict(&other).is_refused(&["disruption budget"]);
    world.settle();
    load.stop().is_flawless();
}

/// Who asks a process that is gone gets no answer, and the API server asks once only. That lasts until the kubelet has
/// seen it and kube-proxy has heard of it, or the process is back; and no longer.
pub fn a_killed_process_fails_calls_only_until_it_is_back_and_lets_nothing_pass(world: &World) {
    for pod in world.pods() {
        let load = Load::start(world);
        let process = world.process(&pod);
        let killed = Instant::now();
        kill_at_once(process);
        world.started_again(std::slice::from_ref(&pod));
        only_between(killed, answered_again(world, &load), &load.stop());
    }
}

pub fn a_deleted_certificate_is_made_anew_without_a_failed_call(world: &World) {
    let load = Load::start(world);
    let uid = |world: &World| {
        let secret =
            world.kubectl(User::Admin, &["get", "secret", "tagout-certificates", "-n", NAMESPACE, "-o", "json"]);
        text(&serde_json::from_str::<serde_json::Value>(&secret.out).unwrap_or_default()["metadata"]["uid"])
    };
    let before = uid(world);
    world.kubectl_at_home(&["delete", "secret", "tagout-certificates"]).succeeds();
    eventually("it is there again", || !["", &*before].contains(&&*uid(world)));
    load.go_on(100);
    world.settle();
    load.stop().is_flawless();
}

pub fn all_pods_deleted_at_once_let_nothing_pass_and_come_back(world: &World) {
    let load = Load::start(world);
    let deleted = Instant::now();
    world.kubectl_at_home(&["delete", "pods", "-l", PODS]).succeeds();
    only_between(deleted, answered_again(world, &load), &load.stop());
}

pub fn all_pods_gone_without_notice_let_nothing_pass_and_come_back(world: &World) {
    let load = Load::start(world);
    let deleted = Instant::now();
    world.kubectl_at_home(&["delete", "pods", "-l", PODS, "--force", "--grace-period=0"]).succeeds();
    let back = answered_again(world, &load);
    let seen = load.stop();
    assert!(
        seen.calls.failed > 0,
        "the API server counts calls that fail, or it would prove nothing that it counts none"
    );
    only_between(deleted, back, &seen);
}

/// When the Service leads to somebody who answers: kube-proxy hears of it a moment after everybody else.
fn answered_again(world: &World, load: &Load) -> Instant {
    world.settle();
    load.go_on(10);
    let back = Instant::now();
    load.go_on(20);
    back
}

/// What failed began while somebody was missing; and it failed because nobody answered, not because of what was said.
#[track_caller]
fn only_between(missing: Instant, back: Instant, seen: &Seen) {
    if let (Some(first), Some(last)) = (seen.failures.first(), seen.failures.last()) {
        let since = |at: Instant| at.saturating_duration_since(missing);
        println!(
            "     the first failed after {:?}, the last after {:?}; all were back after {:?}\n     {}",
            since(first.began),
            since(last.ended),
            since(back),
            first.words,
        );
    }
    assert_eq!(seen.calls.failed_open, 0, "nothing was let pass for want of an answer");
    assert!(seen.failures.is_empty() || seen.calls.failed > 0, "they failed for another reason");
    for failure in &seen.failures {
        assert!(failure.ended >= missing && failure.began <= back, "{failure:?}");
        assert!(failure.words.contains(crate::world::FAILED_CLOSED), "{}", failure.words);
    }
}
