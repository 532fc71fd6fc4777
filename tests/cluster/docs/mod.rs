//! What the pages say is done as they say it: every command in them is run here, in order, or the reason stands here.

mod cookbook;
mod installing;
mod operations;
mod page;
mod signing;

use std::thread;
use std::time::Duration;

use controlplane::{ControlPlane, Options, User};
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, World, deployment, eventually, rule, text};
pub use page::Page;

fn bare() -> &'static ControlPlane {
    Box::leak(Box::new(ControlPlane::start(&Options::default()).expect("a control plane")))
}

/// A namespace of the name that the pages use.
fn namespace<'w>(world: &'w World, name: &str, labels: &[&str]) -> Namespace<'w> {
    world.kubectl(User::Admin, &["create", "namespace", name]).succeeds();
    if !labels.is_empty() {
        world.kubectl(User::Admin, &[&["label", "namespace", name], labels].concat()).succeeds();
    }
    world.borrowed(name)
}

/// What stands in a denial, or in an answer, as the request's name.
fn request(outcome: &Outcome) -> String {
    let said = format!("{}{}", outcome.out, outcome.err);
    let (_, rest) = said.split_once("Request: ").unwrap_or_else(|| panic!("no request is named: {said}"));
    rest.split_whitespace().next().expect("its name").to_owned()
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let cp = bare();
    let mut page = Page::open("README.md", cp);
    let deleted = page.next("kubectl delete deployment api -n payments");
    let scaled = page.next("kubectl scale deployment api -n payments --replicas=0");
    page.leave("make demo", "a step of its own in make test");
    page.leave("make test", "this very run");
    for without in ["make image", "docker tag", "docker push"] {
        page.leave(without, "make e2e builds the image; there is no registry here");
    }
    let install = page.next("helm install tagout charts/tagout");
    let world = World::installed_by(cp, page.command(User::Admin, &install));
    page.run(User::Admin, "kubectl wait --for=condition=Enforced protectionrules --all").succeeds();
    page.leave("cargo install", "the plugin that runs here is built by cargo");
    for cautious in CAUTIOUS {
        page.leave(cautious, "installing.rs begins with these");
    }

    let payments = namespace(&world, "payments", &[]);
    payments.deployment("api");
    page.run(User::Admin, "kubectl label namespace payments").succeeds();
    thread::sleep(Duration::from_millis(500));
    page.run(User::Agent, "kubectl delete deployment api").is_refused(&["(rule labelled-namespaces)"]);
    page.runs(User::Agent, &deleted).is_refused(&["denied Delete of", "Do not look for another way"]);
    page.runs(User::Agent, &scaled).is_refused(&["denied ScaleToZero of", "Why: its replicas would be 0."]);
    page.run(User::Alice, "kubectl tagout impact").succeeds();
    page.run(User::Alice, "kubectl tagout approve").succeeds();
    page.run(User::Agent, "kubectl delete deployment api").succeeds();
    page.ends();
    world.end();
}

/// How the README begins without refusing anything.
const CAUTIOUS: [&str; 5] = [
    "helm install tagout charts/tagout",
    "kubectl wait --for=condition=Ready",
    "kubectl tagout preview --since 7d",
    "kubectl tagout doctor --stage=audit",
    "helm upgrade tagout charts/tagout",
];

/// A rule about Deployments and ConfigMaps of one namespace.
fn rule_about(name: &str, team: &str) -> Value {
    let mut rule = rule(name, name);
    rule["spec"]["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    rule["spec"]["resources"] = json!([{"apiGroups": ["apps"], "resources": ["deployments"]}, {"apiGroups": [""], "resources": ["configmaps"]}]);
    rule["spec"]["approval"] = json!({"require": [{"anyOf": [team]}]});
    rule
}

#[test]
fn the_commands_about_approvals_do_what_their_page_says() {
    let world = World::start(&Options::default());
    let mut page = Page::open("docs/approvals.md", world.cp);
    let payments = namespace(&world, "payments", &["environment=production"]);
    for name in ["web", "api", "worker", "cache"] {
        payments.deployment(name);
    }
    payments.apply(User::Admin, &crate::approvals::stateful_set("db")).succeeds();
    let ledger = namespace(&world, "ledger", &[]);
    for name in ["web", "api", "db"] {
        ledger.deployment(name);
    }
    let two = namespace(&world, "two", &[]);
    two.kubectl(User::Admin, &["create", "configmap", "a"]).succeeds();
    for (team, person) in [("signers", User::Alice), ("leads", User::Bob)] {
        let members = json!([{"user": person.name(), "keys": [{"publicKey": page.key_of(person)}]}]);
        let manifest = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam",
            "metadata": {"name": team}, "spec": {"members": members}});
        world.apply(User::Admin, &manifest).succeeds();
    }
    let mut about_ledger = rule_about("ledger", "signers");
    about_ledger["spec"]["approval"]["proof"] = json!("Signature");
    about_ledger["spec"]["approval"]["breakGlass"] = json!({"anyOf": ["leads"]});
    world.rule(&about_ledger);
    let mut about_two = rule_about("two", "approvers");
    about_two["spec"]["approval"]["require"][0]["count"] = json!(2);
    world.rule(&about_two);

    let refused = page.run(User::Agent, "kubectl delete deployment web").is_refused(&["denied Delete of"]);
    page.instead_of("to-466741b8", &request(&refused));
    page.run(User::Alice, "kubectl tagout approve to-466741b8").succeeds();
    page.run(User::Agent, "kubectl delete deployment web").succeeds();
    page.run(User::Alice, "kubectl tagout approve deploy/api -n ledger").succeeds();

    page.run(User::Alice, "kubectl tagout impact ns/payments").succeeds();
    page.run(User::Alice, "kubectl tagout impact deploy/api sts/db").succeeds();
    page.run(User::Alice, "kubectl tagout impact deploy -l app=api").succeeds();
    page.file("manifests.yaml", &payments.get("deployment/api").to_string());
    page.run(User::Alice, "kubectl tagout impact -f manifests.yaml").succeeds();
    page.leave("kubectl tagout impact ns/payments -o dot", "Graphviz draws it; cli_impact reads what it is given");

    eventually("it is gone", || !payments.exists("deployment/web"));
    payments.deployment("web");
    let again = payments.kubectl(User::Agent, &["delete", "deployment", "web"]).is_refused(&[]);
    page.instead_of("to-466741b8", &request(&again));
    page.run(User::Alice, "kubectl tagout review to-466741b8").succeeds();
    page.run(User::Alice, "kubectl tagout approve deploy/worker deploy/cache").succeeds();
    let one = page.run(User::Alice, "kubectl tagout approve cm/a -n two").succeeds();
    assert!(one.out.contains("still missing: 1 more of approvers"), "{}", one.out);

    page.file("api.yaml", &{
        let mut api = deployment("api");
        api["metadata"]["namespace"] = json!("payments");
        api.to_string()
    });
    page.run(User::Alice, "kubectl tagout approve deploy/api -n payments --delete-only").succeeds();
    payments.kubectl(User::Agent, &["delete", "deployment/api", "--timeout=60s"]).succeeds();
    page.run(User::Agent, "kubectl apply -f api.yaml").is_refused(&["denied Recreate of"]);
    page.run(User::Alice, "kubectl tagout approve deploy/api -n payments --action=Recreate").succeeds();
    payments.deployment("api");
    page.leave("kubectl tagout approve ns/payments --contents", "recreation.rs brings back what was in a namespace");

    page.run(User::Alice, "kubectl tagout approve deploy/db -n ledger").succeeds();
    let carried: Value = serde_json::from_str(&page.written("db.json")).expect("JSON");
    ledger.present(User::Ci, "deployment/db", &carried).succeeds();
    page.run(User::Bob, "kubectl tagout approve deploy/web -n ledger --break-glass").succeeds();
    let open = page.run(User::Alice, "kubectl tagout get approvals").succeeds().out;
    for name in ["db", "cache", "worker"] {
        assert!(open.contains(name), "{open}");
    }
    page.run(User::Bob, "kubectl tagout revoke deploy/worker").succeeds();
    page.run(User::Alice, "kubectl tagout revoke deploy/db").succeeds();
    page.leave("cargo install", "the plugin that runs here is built by cargo");
    // It fails for whatever else is on the PATH.
    assert!(page.run(User::Alice, "kubectl plugin list").out.contains("kubectl-tagout"));
    page.run(User::Alice, "kubectl tagout completion kubectl").succeeds();
    assert!(page.written("kubectl_complete-tagout").starts_with("#!"));
    page.run(User::Alice, "kubectl tagout man").succeeds();
    page.run(User::Admin, "kubectl tagout approve deployment/api -n payments --as=alice").succeeds();
    page.ends();
    assert!(text(&two.get("configmap/a")["metadata"]["annotations"]["tagout.dev/approval"]).contains("alice"));
    world.end();
}
