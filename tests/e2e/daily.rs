//! Tagout as it runs day by day.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use controlplane::User;
use controlplane::installation::{NAMESPACE, run};
use serde_json::{Value, json};

use crate::load::Load;
use crate::world::{PRODUCTION, REFUSED, World, eventually, text};

const NOBODY: &str = "65532\t65532\t65532\t65532";

pub fn the_chart_as_it_is_brings_up_pods_that_may_nothing_and_are_what_they_shall_be(world: &World) {
    for pod in world.pods() {
        let process = world.process(&pod);
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
        let status = read("status");
        for (name, expected) in [
            ("Uid", NOBODY),
            ("Gid", NOBODY),
            ("Groups", "65532 "),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // A filter, and not only a handful of calls.
            ("Seccomp", "2"),
        ] {
            let line = format!("{name}:\t{expected}");
            assert!(status.lines().any(|it| it == line), "{line:?} is not in {status}");
        }
        let mounts = read("mounts");
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).expect("a root");
        let options = root.split(' ').nth(3).expect("options");
        assert!(options.split(',').any(|option| option == "ro"), "{root}");
        assert_eq!(pod.restarts(), 0, "{} was started again", pod.name());
    }
}

pub fn each_pod_answers_its_probes_and_the_service_leads_to_it(world: &World) {
    let answers = |address: &str, path: &str| {
        let url = format!("https://{address}{path}");
        run(Command::new("curl").args(["--silent", "--insecure", "--fail", "--max-time", "5", &url]), "").is_ok()
    };
    for pod in world.pods() {
        for path in ["/healthz", "/readyz"] {
            assert!(answers(&format!("{}:8443", pod.ip()), path), "{} {path}", pod.name());
        }
        let url = format!("http://{}:9443/metrics", pod.ip());
        let metrics = run(Command::new("curl").args(["--silent", "--fail", &url]), "").expect("metrics");
        assert!(String::from_utf8_lossy(&metrics.stdout).contains("tagout_rules{"));
    }
    let service = world.get(&["service", "tagout", "-n", NAMESPACE]);
    assert!(answers(&text(&service["spec"]["clusterIP"]), "/readyz"), "the Service leads somewhere");
}

pub fn a_protected_deployment_is_refused_and_goes_with_its_pods_once_it_is_approved(world: &World) {
    world.deployment(PRODUCTION, "approved");
    let delete = ["delete", "deployment", "approved", "-n", PRODUCTION];
    world.kubectl(User::Agent, &delete).is_refused(&[REFUSED]);
    let approve = ["tagout", "approve", "deployment/approved", "-n", PRODUCTION, "--yes"];
    world.kubectl(User::Alice, &approve).succeeds();
    world.kubectl(User::Agent, &delete).succeeds();
    eventually("its pods go along", || {
        let pods = ["get", "pods", "-n", PRODUCTION, "-l", "app=approved", "-o", "name"];
        world.kubectl(User::Admin, &pods).succeeds().out.is_empty()
    });
}

pub fn what_a_rule_that_only_warns_has_seen_is_shown_from_the_logs_of_the_pods(world: &World) {
    world.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "warned", "labels": {"rule": "warned"}}}),
    );
    world.apply(&json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule", "metadata": {"name": "warned"}, "spec": {
        "mode": "Warn", "resources": [{"apiGroups": [""], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"rule": "warned"}}, "approval": {"require": [{"anyOf": ["approvers"]}]}}})).succeeds();
    world.kubectl(User::Admin, &["create", "configmap", "settings", "-n", "warned"]).succeeds();
    let delete = ["delete", "configmap", "settings", "-n", "warned"];
    let trial = [&delete[..], &["--dry-run=server"]].concat();
    eventually("whoever deletes is warned", || {
        world.kubectl(User::Agent, &trial).err.contains("would be denied in mode Enforce")
    });
    world.kubectl(User::Agent, &delete).succeeds();
    let seen = world.kubectl(User::Admin, &["tagout", "preview", "--since", "1d", "-o", "json"]).succeeds().out;
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    let is_it =
        |row: &Value| row["rule"] == "warned" && row["verdict"] == "warn" && row["requester"] == User::Agent.name();
    let rows: Vec<_> = seen["rows"].as_array().into_iter().flatten().filter(|row| is_it(row)).collect();
    assert_eq!(rows.len(), 1, "{seen:#}");
    assert_eq!((&rows[0]["requests"], &rows[0]["action"]), (&json!(1), &json!("Delete")), "{seen:#}");
}

pub fn under_load_each_process_stays_within_the_memory_it_asks_for(world: &World) {
    const REST: Duration = Duration::from_secs(30);
    let processes: Vec<u32> = world.pods().iter().map(|pod| world.process(pod)).collect();
    let before: Vec<Duration> = processes.iter().copied().map(time_used).collect();
    thread::sleep(REST);
    for (process, before) in processes.into_iter().zip(before) {
        let used = time_used(process).saturating_sub(before).as_secs_f64() / REST.as_secs_f64();
        println!("     at rest {:.1} thousandths of a core", used * 1000.0);
        assert!(used < 0.1, "that is what it asks for");
    }
    let load = Load::start(world);
    load.go_on(40);
    let deployment = world.get(&["deployment", "tagout", "-n", NAMESPACE]);
    let request = text(&deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"]);
    let request: u64 = request.strip_suffix("Mi").and_then(|number| number.parse().ok()).expect("a number of Mi");
    for pod in world.pods() {
        let status = fs::read_to_string(format!("/proc/{}/status", world.process(&pod))).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it says so");
        let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        println!("     {kilobytes} kB of the {request} MiB asked for");
        assert!(kilobytes <= request * 1024, "{line}, and {request} MiB are asked for");
    }
    load.stop().is_flawless();
}

fn time_used(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // Behind its name, which may hold anything: the 14th and 15th number, in hundredths of a second.
    let numbers: Vec<&str> = stat.rsplit(')').next().expect("numbers").split_whitespace().collect();
    let used: u64 = numbers[11..13].iter().map(|number| number.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(used * 10)
}
