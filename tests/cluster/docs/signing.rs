//! The pages about signatures, about rules, and about pipelines, in one cluster: what one of them makes the next one uses.

use controlplane::{Options, User};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::page::Page;
use super::{namespace, request, rule_about};
use crate::world::{Namespace, World, deployment, eventually, rule};

#[test]
fn the_commands_about_signing_rules_and_pipelines_do_what_their_pages_say() {
    let world = World::start(&Options::default());
    let payments = namespace(&world, "payments", &[]);
    payments.deployment("api");
    let mut page = Page::open("docs/signing.md", world.cp);
    let team = team(&world, &page.key_of(User::Alice));
    let mut ledger = rule_about("payments", "signers");
    ledger["metadata"]["name"] = json!("ledger");
    ledger["spec"]["approval"]["proof"] = json!("Signature");
    world.rule(&ledger);
    signed_by_hand(&world, &payments, &mut page, &team);
    page.turn_to("docs/rules.md");
    about_rules(&world, &payments, &mut page);
    page.turn_to("docs/gitops.md");
    in_a_pipeline(&payments, &mut page);
    page.ends();
    world.end();
}

fn team(world: &World, key: &str) -> Value {
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "signers"},
        "spec": {"members": [{"user": User::Alice.name(), "keys": [{"publicKey": key}]}]}});
    world.apply(User::Admin, &team).succeeds();
    team
}

/// The team, with this person more.
fn joined(team: &Value, person: User) -> String {
    let mut team = team.clone();
    team["spec"]["members"].as_array_mut().expect("a list").push(json!({"user": person.name()}));
    team.to_string()
}

fn signed_by_hand(world: &World, payments: &Namespace, page: &mut Page, team: &Value) {
    page.leave("ssh-keygen -t ed25519-sk", "nobody is here to touch a key");
    page.leave("cat ~/.ssh/id_ed25519_sk.pub", "there is none, for that reason");
    page.file("team.yaml", &joined(team, User::Bob));
    page.run(User::Alice, "kubectl tagout approve -f team.yaml").succeeds();
    page.run(User::Ci, "kubectl apply -f team.yaml").succeeds();
    page.run(User::Alice, "kubectl tagout approve deploy/api -n payments").succeeds();
    payments.kubectl(User::Agent, &["delete", "deployment/api", "--timeout=60s"]).succeeds();
    payments.deployment("api");

    page.file("uids.txt", "b\na\nb\n");
    // printf 'a\nb\n' | sha256sum
    let digest = page.run(User::Alice, "LC_ALL=C sort -u uids.txt").succeeds().out;
    assert!(digest.starts_with("911169ddaaf146aff539f58c26c489af"), "{digest}");

    let uid = page.run(User::Alice, "kubectl get deployment api").succeeds().out;
    let cluster = page.run(User::Alice, "kubectl get namespace kube-system").succeeds().out;
    let now = Timestamp::now().round(Unit::Second).expect("a time");
    page.instead_of("b8bfbfb6-0561-40b0-b731-48ea4989453a", &uid);
    page.instead_of("20779afe-69f1-429e-8aac-d13850e9b972", &cluster);
    page.instead_of("team: senior-sre", "team: signers");
    page.instead_of("\"team\": \"senior-sre\"", "\"team\": \"signers\"");
    for (written, minutes) in [("10:00", -1), ("10:05", 1), ("10:30", 20)] {
        let real = now + SignedDuration::from_mins(minutes);
        page.instead_of(&format!("2026-11-22T{written}:00Z"), &real.to_string());
    }
    page.run(User::Alice, "printf '%s").succeeds();
    page.run(User::Alice, "ssh-keygen -Y sign").succeeds();
    let signature = page.next("signature=$(awk");
    page.run_after(signature.text(), User::Alice, "cat > approval.json").succeeds();
    page.run(User::Ci, "kubectl annotate deployment/api").succeeds();
    page.run(User::Ci, "kubectl label deployment/api").succeeds();

    page.file("team.yaml", &world.get(&["approverteam", "signers"]).to_string());
    let checks = page.run(User::Alice, "kubectl tagout verify").succeeds().out;
    assert!(checks.contains("ok      signature: it is over just this text"), "{checks}");
    page.run(User::Alice, "echo").succeeds();
    page.run(User::Alice, "ssh-keygen -Y verify").succeeds();
    payments.kubectl(User::Agent, &["delete", "deployment/api", "--timeout=60s"]).succeeds();
    payments.deployment("api");
}

fn about_rules(world: &World, payments: &Namespace, page: &mut Page) {
    let mut databases = rule("databases", "databases");
    databases["spec"]["actions"] = json!(["Delete"]);
    world.rule(&databases);
    page.run(User::Admin, "kubectl get protectionrules").succeeds();
    page.run(User::Admin, "kubectl patch protectionrule databases").succeeds();
    let beside = page.run(User::Admin, "kubectl get protectionrule production").succeeds().out;
    assert!(beside.contains("volumes"), "{beside}");
    page.file("api.yaml", &deployment("api").to_string());
    page.types(User::Alice, "kubectl tagout approve deploy/api -n payments --delete-only").succeeds();
    payments.kubectl(User::Agent, &["delete", "deployment/api", "--timeout=60s"]).succeeds();
    page.run(User::Agent, "kubectl apply -n payments -f api.yaml").is_refused(&["denied Recreate of"]);
    page.run(User::Admin, "kubectl get protectionrule production").succeeds();
    let mut team = world.get(&["approverteam", "signers"]);
    team["metadata"] = json!({"name": "signers"});
    page.file("signers.yaml", &joined(&team, User::Carol));
    let weaker = page.next("kubectl apply -f signers.yaml");
    page.runs(User::Ci, &weaker)
        .is_refused(&["denied Loosen of", "It would be weaker: \"carol@example.com\" may approve"]);
    page.run(User::Alice, "kubectl tagout approve -f signers.yaml").succeeds();
    page.runs(User::Ci, &weaker).succeeds();

    page.file("teams.yaml", &joined(&team, User::Carol));
    page.run(User::Admin, "kubectl delete validatingwebhookconfiguration tagout").succeeds();
    page.run(User::Admin, "kubectl apply -f teams.yaml").succeeds();
    page.run(User::Admin, "helm upgrade tagout charts/tagout").succeeds();
    page.run(User::Admin, "kubectl tagout status");
    world.epoch();
}

fn in_a_pipeline(payments: &Namespace, page: &mut Page) {
    page.run(User::Alice, "kubectl tagout approve deployments.apps/api -n payments --action=Recreate").succeeds();
    page.types(User::Agent, "kubectl apply -n payments -f api.yaml").succeeds();
    let refused = page.run(User::Ci, "kubectl delete deployment/api").is_refused(&["denied Delete of"]);
    eventually("it can be found by its name", || {
        let name = request(&refused);
        page.types(User::Alice, &format!("kubectl tagout approve {name} --print > approval.json")).ok
    });
    let given = "APPROVAL=$(cat approval.json)";
    page.run_after(given, User::Ci, "kubectl annotate deployment/api").succeeds();
    page.run_after(given, User::Ci, "kubectl label deployment/api").succeeds();
    page.run(User::Ci, "kubectl delete deployment/api").succeeds();
    eventually("it is gone", || !payments.exists("deployment/api"));
}
