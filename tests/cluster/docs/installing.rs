//! The pages about installing, looking around and removing, from an empty cluster to an empty cluster.

use std::fs;
use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::Value;

use super::page::Page;
use super::{CAUTIOUS, bare, namespace};
use crate::world::{World, eventually, rule};

#[test]
fn the_commands_from_installing_to_removing_do_what_their_pages_say() {
    let cp = bare();
    let mut page = Page::open("charts/tagout/README.md", cp);
    page.leave("helm install tagout charts/tagout", "the same stands in docs/install.md");
    page.leave("helm test tagout", "it asks from a pod; e2e has real ones");
    page.turn_to("docs/install.md");
    let install = page.next("helm install tagout charts/tagout");
    let world = World::installed_by(cp, page.command(User::Admin, &install));
    page.run(User::Admin, "kubectl wait --for=condition=Enforced").succeeds();
    page.leave("helm install tagout charts/tagout", "the same with a file of values");
    let payments = namespace(&world, "payments", &["environment=production"]);
    payments.deployment("api");
    thread::sleep(Duration::from_secs(1));
    payments.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["(rule production)"]);

    looked_around(&world, &mut page);
    upgraded(&world, &mut page);
    removed(&world, &mut page);
    page.ends();
    payments.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    world.end();
}

/// Tagout begins to keep its own namespace when it begins to refuse, and whoever made it refuse is still at work there.
#[test]
fn who_goes_from_warning_to_refusing_as_the_readme_says_ends_with_a_release_that_helm_knows() {
    let cp = bare();
    let mut page = Page::open("README.md", cp);
    let before =
        ["kubectl delete", "kubectl scale", "make demo", "make test", "make image", "docker tag", "docker push"];
    for other in before.into_iter().chain(["helm install", "kubectl wait", "cargo install"]) {
        page.leave(other, "mod.rs begins with these");
    }
    let [install, ready, preview, doctor, refuse] = CAUTIOUS.map(|one| page.next(one));
    let world = World::installed_by(cp, page.command(User::Admin, &install));
    page.runs(User::Admin, &ready).succeeds();
    let payments = namespace(&world, "payments", &["environment=production"]);
    payments.deployment("api");
    payments.deployment("web");
    eventually("whoever deletes is warned", || {
        let tried = payments.kubectl(User::Agent, &["delete", "deployment", "web", "--dry-run=server"]);
        tried.err.contains("would be denied in mode Enforce")
    });
    // Simulated pods keep no log, and that is not taken for a log with nothing in it.
    page.runs(User::Admin, &preview).is_refused(&["is not known"]);
    let findings = page.runs(User::Admin, &doctor).out;
    assert!(findings.contains("rule-not-enforcing") && !findings.contains("lock-open"), "{findings}");
    page.runs(User::Admin, &refuse).succeeds();
    let status = page.types(User::Admin, "helm status tagout -n tagout-system -o json").succeeds().out;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["info"]["status"], "deployed");
    eventually("it keeps itself", || {
        world.kubectl(User::Admin, &["tagout", "status"]).out.contains("Tagout itself: kept as it is.")
    });
    payments.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete of"]);
    world.end();
}

/// Doctor, preview and a trial of notifications, then back to the page about installing.
fn looked_around(world: &World, page: &mut Page) {
    let install = page.put_aside();
    page.turn_to("docs/doctor.md");
    let findings = page.run(User::Admin, "kubectl tagout doctor").out;
    assert!(findings.contains("strong-rights"), "everybody here may do everything: {findings}");
    page.run(User::Admin, "kubectl create clusterrolebinding doctor").succeeds();
    page.file("doctor.yaml", "ignore: [{id: static-manifest-unseen, reason: there is none}]");
    page.run(User::Admin, "kubectl tagout doctor --config doctor.yaml");
    let report: Value = serde_json::from_str(&page.written("doctor.json")).expect("JSON");
    assert_eq!(report["schemaVersion"], "tagout.dev/doctor/v1");
    assert_eq!(report["exitCode"], 3);

    page.turn_to("docs/preview.md");
    let log = world.cp.audit_log();
    page.instead_of("/var/log/kubernetes/audit.log", &log.display().to_string());
    let said = page.run(User::Admin, "kubectl tagout preview --audit-log").succeeds().out;
    assert!(said.contains("requests decided"), "{said}");
    page.run(User::Admin, "kubectl tagout preview --capture cluster.json").succeeds();
    page.file("audit/audit.log", &fs::read_to_string(log).expect("the log"));
    page.run(User::Admin, "kubectl tagout preview --audit-log audit/").succeeds();
    page.leave("kubectl tagout preview --live", "simulated pods keep no log");
    page.leave("kubectl logs -n tagout-system", "simulated pods keep no log");
    page.file("rule.yaml", &rule("new", "new").to_string());
    page.file("values.yaml", "approvers: {groups: [senior-sre]}");
    let said = page.run(User::Admin, "kubectl tagout preview -f rule.yaml").succeeds().out;
    assert!(said.contains("Checked by the API server."), "{said}");
    let said = page.run(User::Admin, "helm template tagout charts/tagout").out;
    let report: Value = serde_json::from_str(&said).expect("JSON");
    let of_the_chart = report["rules"].as_array().map(Vec::len);
    assert_eq!(of_the_chart, world.get(&["protectionrules"])["items"].as_array().map(Vec::len), "{report:#}");
    page.run(User::Admin, "kubectl tagout preview -f rule.yaml --snapshot").succeeds();

    page.turn_to("docs/notifications.md");
    page.leave(
        "kubectl create secret generic notify-secrets",
        "somebody would have to paste; notify.rs has the chart's",
    );
    page.leave("tagout check notifications", "notify.rs does, with receivers of its own");
    page.turn_back(install);
}

fn upgraded(world: &World, page: &mut Page) {
    world.epoch();
    page.run(User::Alice, "kubectl tagout unlock --requester ci-deployer").succeeds();
    page.run(User::Ci, "helm upgrade tagout charts/tagout").succeeds();
    page.leave("kubectl logs -n tagout-system job/tagout-crds", "simulated pods keep no log");
    page.run(User::Ci, "kubectl apply --server-side --force-conflicts -f charts/tagout/crds/").succeeds();
    for old in ["kubectl delete deletionrecords", "kubectl set image", "kubectl rollout status"] {
        page.leave(old, "there is no older version to come from; versions.rs has two");
    }
    page.leave("kubectl apply --server-side", "the same as above");
    page.leave("helm upgrade tagout charts/tagout", "the same as above");
    page.file("values.yaml", "{approvers: {groups: [senior-sre]}, protect: {mode: Warn}}");
    let weaker = page.run(User::Bob, "helm template tagout charts/tagout").succeeds();
    assert!(format!("{}{}", weaker.out, weaker.err).contains("mode: Enforce → Warn"), "{weaker:?}");
}

fn removed(world: &World, page: &mut Page) {
    page.run(User::Alice, "kubectl tagout unlock --requester admin").succeeds();
    page.leave("kubectl delete validatingwebhookconfiguration tagout", "with Helm 3 only; lock.rs goes that way");
    page.run(User::Admin, "helm uninstall tagout").succeeds();
    page.run(User::Admin, "kubectl delete crd protectionrules.tagout.dev").succeeds();
    page.run(User::Admin, "kubectl delete namespace tagout-system").succeeds();
    eventually("nothing of it is left", || {
        let left = ["validatingwebhookconfigurations", "validatingadmissionpolicies", "clusterroles", "crds"];
        let left = left.map(|kind| world.kubectl(User::Admin, &["get", kind, "-o", "name"]).succeeds().out);
        !left.concat().contains("tagout")
    });
}

#[test]
fn the_commands_without_helm_do_what_their_page_says() {
    let cp = bare();
    let mut page = Page::open("deploy/README.md", cp);
    page.run(User::Admin, "kubectl apply -f deploy/namespace.yaml").succeeds();
    page.run(User::Admin, "kubectl wait --for=condition=Established").succeeds();
    page.file("kustomization.yaml", "resources: [deploy]\nimages: [{name: tagout, newName: example.com/tagout}]");
    let install = page.next("kubectl apply -k .");
    let ready = "kubectl -n tagout-system rollout status deployment/tagout --timeout=120s";
    let world = World::installed_by(cp, page.command_and(User::Admin, &install, ready));
    page.run(User::Admin, "kubectl wait --for=condition=Enforced").succeeds();
    page.ends();
    world.end();
}
