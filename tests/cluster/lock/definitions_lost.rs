//! Definitions are lost while Tagout is locked, and come again.

use std::thread;
use std::time::Duration;

use controlplane::User;

use super::{HOME, REFUSED, home, is_locked, start};
use crate::world::{Outcome, World, chart, eventually, text};

/// Longer than Tagout takes to be certain that no rule asks for a lock.
const CERTAIN: Duration = Duration::from_secs(36);

/// By name, of all that guards.
fn guards(world: &World) -> Vec<(String, String)> {
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,validatingwebhookconfigurations";
    let found = world.get(&[kinds]);
    let ours = found["items"].as_array().expect("a list").iter().filter_map(|item| {
        let name = text(&item["metadata"]["name"]);
        name.starts_with("tagout").then(|| (format!("{} {name}", text(&item["kind"])), text(&item["metadata"]["uid"])))
    });
    ours.collect()
}

fn define_again(world: &World) {
    let definitions = chart().join("crds").display().to_string();
    world.kubectl(User::Ci, &["apply", "--server-side", "--force-conflicts", "-f", &definitions]).succeeds();
    let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    world.kubectl(User::Ci, &wait).succeeds();
}

/// Makes the chart's own team and rules again, as the page on operations has it.
fn make_rules_again(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let values = folder.path().join("values.yaml").display().to_string();
    let helm = |args: &[&str]| {
        let mut helm = world.cp.helm(User::Ci);
        Outcome::of(helm.args(args).args(["--namespace", HOME]), "").succeeds().out
    };
    std::fs::write(&values, helm(&["get", "values", "tagout", "-o", "yaml"])).expect("it is written");
    let chart = chart().display().to_string();
    let only = ["--show-only", "templates/team.yaml", "--show-only", "templates/rules.yaml"];
    let manifest = helm(&[&["template", "tagout", &chart, "-f", &values], &only[..]].concat());
    let apply = ["apply", "--server-side", "--field-manager=helm", "-f", "-"];
    world.kubectl_with(User::Ci, &apply, &manifest).succeeds();
}

#[test]
fn what_was_lost_with_its_definition_stays_locked_and_comes_back_the_way_the_docs_say() {
    let world = start();
    let production = world.production();
    production.deployment("api");
    let refused = || {
        production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
        home(&world, User::Agent, &["delete", "deployment", "tagout"]).is_refused(&[REFUSED]);
    };
    let unlock = || {
        let args = ["tagout", "unlock", "--requester=ci-deployer", "--for=10m", "--reason=rules are lost", "--yes"];
        world.kubectl(User::Alice, &args)
    };
    let before = guards(&world);
    world.remove(User::Ci, "crd/protectionrules.tagout.dev");
    thread::sleep(CERTAIN);
    assert_eq!(guards(&world), before);
    refused();
    // Its definition is there again and it is not: that says nothing either.
    define_again(&world);
    thread::sleep(CERTAIN);
    assert_eq!(guards(&world), before);
    refused();

    // Which cluster it is, an approval has to say, and rules say that.
    unlock().is_refused(&["no rule's status names the cluster"]);
    let upgrade = || {
        let mut helm = world.cp.helm(User::Ci);
        helm.arg("upgrade").arg("tagout").arg(chart()).args(["--namespace", HOME, "--reset-then-reuse-values"]);
        Outcome::of(&mut helm, "")
    };
    upgrade().is_refused(&[REFUSED]);
    // Rules themselves are free to come.
    make_rules_again(&world);
    world.epoch();
    refused();
    let said = unlock().succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    upgrade().succeeds();
    world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
    eventually("it is locked again", || {
        let scale = ["scale", "deployment", "tagout", "--replicas=3", "--dry-run=server"];
        home(&world, User::Ci, &scale).err.contains(REFUSED)
    });
    let names = world.kubectl(User::Admin, &["get", "protectionrules", "-o", "name"]).succeeds().out;
    for rule in ["production", "production-settings", "labelled-namespaces", "labelled-objects", "definitions"] {
        assert!(names.lines().any(|line| line.ends_with(&format!("/{rule}"))), "{names}");
    }
    assert_eq!(guards(&world), before);
    refused();

    for kind in ["approvals", "deletionrecords", "ledgers", "approverteams"] {
        let name = format!("api-{kind}");
        production.deployment(&name);
        world.remove(User::Ci, &format!("crd/{kind}.tagout.dev"));
        let outcome = production.kubectl(User::Agent, &["delete", "deployment", &name]);
        assert!(!outcome.ok, "with {kind} lost it was deleted");
        home(&world, User::Agent, &["delete", "deployment", "tagout"]).is_refused(&[REFUSED]);
        define_again(&world);
        if kind == "approverteams" {
            make_rules_again(&world);
        }
        thread::sleep(Duration::from_secs(10));
        production.kubectl(User::Agent, &["delete", "deployment", &name]).is_refused(&["denied Delete"]);
        production.approve(User::Alice, &format!("deployment/{name}"));
        production.kubectl(User::Ci, &["delete", "deployment", &name]).succeeds();
        is_locked(&world);
    }
    assert_eq!(guards(&world), before);
    world.end();
}
