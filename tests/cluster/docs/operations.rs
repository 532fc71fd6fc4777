//! The page about operations: what is looked at day by day. What happens when things are lost has tests of its own.

use std::thread;
use std::time::Duration;

use controlplane::{Options, User};
use serde_json::json;

use super::namespace;
use super::page::Page;
use crate::world::{World, eventually};

#[test]
fn the_commands_about_operations_do_what_their_page_says() {
    let world = World::start(&Options::default());
    let payments = namespace(&world, "payments", &["environment=production"]);
    payments.deployment("api");
    let ceiling = json!({"spec": {"ceiling": {"count": 20, "window": "10m", "per": "Rule"}}}).to_string();
    world.kubectl(User::Admin, &["patch", "protectionrule/production", "--type=merge", "-p", &ceiling]).succeeds();
    thread::sleep(Duration::from_secs(3));
    payments.approve(User::Alice, "deployment/api");
    payments.kubectl(User::Agent, &["delete", "deployment/api"]).succeeds();

    let mut page = Page::open("docs/operations.md", world.cp);
    for line in ["kubectl delete validatingadmissionpolicybinding", "kubectl delete validatingwebhookconfiguration"] {
        page.leave(line, "lock.rs goes through the emergency exit");
    }
    for line in ["kubectl tagout unlock --requester", "helm upgrade tagout", "kubectl tagout unlock --end"] {
        page.leave(line, "installing.rs and lock/opened.rs unlock");
    }
    page.leave("kubectl get events -A", "collector.rs has the collector refused");
    let records = page.run(User::Admin, "kubectl get deletionrecords").succeeds().out;
    assert!(records.contains("deployments.apps") && records.contains("agent-7"), "{records}");
    let counted = page.run(User::Admin, "kubectl get ledger production").succeeds().out;
    assert!(counted.contains("Delete deployments.apps payments/api by agent-7 approved=true"), "{counted}");
    let anew = page.next("kubectl replace --as=");
    let history = page.run(User::Alice, "kubectl tagout get history").succeeds().out;
    assert!(history.contains(User::Alice.name()), "{history}");
    for line in
        ["kubectl scale deployment tagout", "kubectl delete secret tagout-cert", "kubectl scale deployment tagout"]
    {
        page.leave(line, "certificates.rs loses and finds them");
    }
    for line in ["openssl req -x509", "openssl req -newkey", "echo \"extended", "openssl x509 -req"] {
        page.run(User::Admin, line).succeeds();
    }
    page.leave("kubectl create secret generic apiserver-ca", "client_ca.rs has an API server with such a certificate");
    page.leave("helm upgrade tagout charts/tagout", "client_ca.rs does");
    page.leave("kubectl delete secret tagout-epoch", "it comes again below");
    for line in ["kubectl delete validatingadmissionpolicybinding", "kubectl get validatingadmissionpolicybinding"] {
        page.leave(line, "lock.rs takes them away and sees them come back");
    }
    page.leave("helm upgrade tagout charts/tagout", "definitions_lost.rs does");
    let entries = page.run(User::Admin, "kubectl get validatingwebhookconfigurations").succeeds().out;
    assert!(entries.contains("tagout-production"), "{entries}");
    a_key_is_lost(&world, &mut page);
    page.run(User::Admin, "kubectl delete secret tagout-epoch").succeeds();
    page.run(User::Alice, "kubectl tagout get approvals").succeeds();
    page.run(User::Admin, "kubectl get approverteams,protectionrules").succeeds();
    page.run(User::Admin, "kubectl apply --server-side -f charts/tagout/crds/").succeeds();
    page.run(User::Admin, "helm get values").succeeds();
    page.run(User::Admin, "helm template tagout").succeeds();
    page.ends();
    page.runs(User::Admin, &anew).succeeds();
    eventually("it counts anew", || {
        world.get(&["ledger", "production"])["spec"]["entries"].as_array().is_none_or(Vec::is_empty)
    });
    world.end();
}

fn a_key_is_lost(world: &World, page: &mut Page) {
    let key = page.key_of(User::Alice);
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "dba"},
        "spec": {"members": [{"user": User::Alice.name(), "keys": [{"publicKey": key}]}]}});
    world.apply(User::Admin, &team).succeeds();
    page.file("alice.pub", &key);
    let seen = page.run(User::Alice, "ssh-keygen -lf alice.pub").succeeds();
    let fingerprint = seen.out.split_whitespace().nth(1).expect("a fingerprint").to_owned();
    page.instead_of("SHA256:Z0AqvSAsW2MHpxdbUz1ktf/AId6CAA2hAWoV4kh36Lk", &fingerprint);
    page.run(User::Alice, "kubectl patch approverteam dba").succeeds();
    let revoked = world.get(&["approverteam", "dba"])["spec"]["revokedKeys"].clone();
    assert_eq!(revoked, json!([fingerprint]));
}
