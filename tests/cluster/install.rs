//! The chart, as people install, change and remove it.

use std::process::Command;
use std::thread;
use std::time::Duration;

use controlplane::installation::NAMESPACE;
use controlplane::{Options, User};
use serde_json::json;

use crate::world::{Namespace, Outcome, World, chart, deployment, eventually, shared, text, with_plugin};

/// Runs a command line as a person at a terminal would, who answers yes.
fn at_a_terminal(world: &World, user: User, line: &str) -> Outcome {
    let kubectl = world.cp.kubectl(user);
    let mut script = Command::new("script");
    // `script` gives the command a terminal; the command line goes through a shell, as a person's does.
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    script.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    with_plugin(&mut script);
    let path = script.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap().to_owned();
    let folder = std::path::Path::new(kubectl.get_program()).parent().unwrap().display().to_string();
    script.env("PATH", format!("{folder}:{}", path.to_string_lossy()));
    Outcome::of(&mut script, "y\n")
}

fn template(world: &World, values: &[&str]) -> Outcome {
    let mut helm = world.cp.helm(User::Admin);
    // Hooks are Helm's: nobody applies them by hand.
    helm.arg("template").arg("tagout").arg(chart()).args(["--no-hooks", "--namespace", NAMESPACE]);
    for value in values {
        helm.args(["--set", value]);
    }
    Outcome::of(&mut helm, "")
}

#[test]
fn the_notes_of_the_chart_hold_word_for_word() {
    let world = shared();
    let mut helm = world.cp.helm(User::Admin);
    let notes = Outcome::of(helm.args(["get", "notes", "tagout", "-n", NAMESPACE]), "").succeeds().out;
    let lines: Vec<&str> = notes.lines().filter(|line| line.starts_with("kubectl ")).collect();
    assert_eq!(lines.len(), 4, "{notes}");
    world.kubectl(User::Admin, &["create", "namespace", "payments"]).succeeds();
    let manifest = deployment("api").to_string();
    world.kubectl_with(User::Admin, &["-n", "payments", "apply", "-f", "-"], &manifest).succeeds();

    assert!(at_a_terminal(world, User::Admin, lines[0]).ok);
    thread::sleep(Duration::from_millis(500));
    let refused = at_a_terminal(world, User::Ci, lines[1]);
    assert!(!refused.ok && refused.out.contains("(rule labelled-namespaces)"), "{refused:?}");
    let approved = at_a_terminal(world, User::Bob, lines[2]);
    assert!(approved.ok && approved.out.contains("Approve?"), "{approved:?}");
    let deleted = at_a_terminal(world, User::Ci, lines[3]);
    assert!(deleted.ok, "{deleted:?}");
}

#[test]
fn without_approvers_the_chart_does_not_render_and_names_the_value() {
    let world = shared();
    template(world, &[]).is_refused(&["approvers.groups, approvers.users or approvers.members"]);
    template(world, &["approvers.users={dave}"]).succeeds();
    template(world, &["approvers.groups={system:masters}"]).is_refused(&["system:masters", "Name a group of people"]);
}

#[test]
fn names_of_clients_without_an_authority_do_not_render() {
    let values = ["approvers.users={dave}", "clientCA.names={apiserver}", "clientCA.secretName=apiserver-ca"];
    template(shared(), &values[..2]).is_refused(&["clientCA.secretName must name the Secret"]);
    let rendered = template(shared(), &values).succeeds().out;
    for argument in ["--client-ca=/etc/tagout/client-ca/ca.crt", "--client-name=apiserver"] {
        assert!(rendered.contains(argument), "{argument}");
    }
}

#[test]
fn the_chart_does_not_render_into_a_namespace_that_others_use() {
    for namespace in ["default", "kube-system"] {
        let mut helm = shared().cp.helm(User::Admin);
        helm.arg("template").arg("tagout").arg(chart());
        helm.args(["--namespace", namespace, "--set", "approvers.users={dave}"]);
        Outcome::of(&mut helm, "").is_refused(&["Give it one of its own"]);
    }
}

#[test]
fn the_chart_passes_helms_own_checks() {
    let mut helm = shared().cp.helm(User::Admin);
    helm.arg("lint").arg(chart()).args(["--strict", "--set", "approvers.groups={senior-sre}"]);
    Outcome::of(&mut helm, "").succeeds();
}

#[test]
fn the_service_account_may_do_what_it_needs_and_no_more() {
    let world = shared();
    let account = format!("system:serviceaccount:{NAMESPACE}:tagout");
    let can = |args: &[&str]| world.kubectl(User::Admin, &[&["auth", "can-i", "--as", &account], args].concat()).ok;
    assert!(can(&["update", "validatingwebhookconfigurations"]));
    assert!(can(&["update", "secret/tagout-certificates", "-n", NAMESPACE]));
    assert!(can(&["update", "secret/tagout-epoch", "-n", NAMESPACE]));
    for forbidden in [
        &["get", "secrets", "-A"][..],
        &["list", "secrets", "-n", NAMESPACE],
        &["get", "secret/other", "-n", NAMESPACE],
        &["delete", "deployments", "-A"],
        &["patch", "deployments", "-A"],
        &["update", "protectionrules"],
        &["update", "approverteams"],
        &["update", "mutatingwebhookconfigurations"],
        &["impersonate", "users"],
        &["create", "serviceaccounts/token", "-A"],
    ] {
        assert!(!can(forbidden), "it may {forbidden:?}");
    }
}

#[test]
fn installing_again_changes_nothing_upgrading_changes_rules_and_uninstalling_leaves_nothing_in_the_way() {
    let world = World::start(&Options::default());
    let kubectl = |args: &[&str]| world.kubectl(User::Admin, args);
    let helm = |args: &[&str]| {
        let mut helm = world.cp.helm(User::Admin);
        Outcome::of(helm.args(args).args(["--namespace", NAMESPACE]), "").succeeds()
    };
    let port = format!("service.port={}", world.tagout.address().port());
    // Trying whether approvals can be planted is over.
    let before = world.calls_about_objects();
    live_and_die(&world.unprotected());
    assert_eq!(world.calls_about_objects(), before, "nothing of an unprotected namespace reaches Tagout");
    let namespace = world.production();
    namespace.deployment("api");

    let rendered = template(&world, &["approvers.groups={senior-sre}", &port]).succeeds().out;
    for apply in [&["apply", "-f", "-"][..], &["apply", "--server-side", "--force-conflicts", "-f", "-"]] {
        world.kubectl_with(User::Admin, apply, &rendered).succeeds();
        thread::sleep(Duration::from_secs(1));
        let before = resource_versions(&world);
        world.kubectl_with(User::Admin, apply, &rendered).succeeds();
        thread::sleep(Duration::from_secs(2));
        assert_eq!(before, resource_versions(&world), "{apply:?} a second time changed something");
        namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["(rule production)"]);
    }

    assert!(world.calls("tagout.dev") > 0, "the counter counts");

    let chart = chart().display().to_string();
    let upgrade = ["upgrade", "tagout", &chart, "--reuse-values", "--force-conflicts", "--wait"];
    let loosened = ["protect.mode=Warn", "approvers.groups={senior-sre}", &port];
    let mut refused = world.cp.helm(User::Admin);
    refused.args(upgrade).args(["--set", loosened[0], "--namespace", NAMESPACE]);
    Outcome::of(&mut refused, "").is_refused(&["mode: Enforce → Warn", "kubectl tagout approve -f FILE"]);
    let wanted = template(&world, &loosened).succeeds().out;
    world.kubectl_with(User::Bob, &["tagout", "approve", "-f", "-", "--yes"], &wanted).succeeds();
    helm(&[&upgrade[..], &["--set", loosened[0]]].concat());
    eventually("the rule warns", || {
        namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).ok
    });
    // Back to what is stricter, which nobody has to approve.
    helm(&["rollback", "tagout", "1", "--force-conflicts", "--wait"]);
    eventually("the rule enforces again", || {
        !namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).ok
    });

    kubectl(&["delete", "validatingwebhookconfiguration", "tagout"]).succeeds();
    eventually("no rule says that it is enforced", || {
        let rule = world.get(&["protectionrule/production"]);
        let conditions = rule["status"]["conditions"].as_array().unwrap().clone();
        let enforced = conditions.iter().find(|condition| condition["type"] == "Enforced").unwrap();
        enforced["status"] == "False" && enforced["reason"] == "NotInstalled"
    });
    helm(&["uninstall", "tagout", "--wait"]);
    eventually("no entry is left", || {
        !kubectl(&["get", "validatingwebhookconfigurations", "-o", "name"]).succeeds().out.contains("tagout")
    });
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    kubectl(&["delete", "namespace", &namespace.name]).succeeds();
    world.end();
}

#[test]
fn helm_uninstall_removes_rules_and_teams_without_anybodys_approval() {
    let world = World::start(&Options::default());
    let mut helm = world.cp.helm(User::Admin);
    helm.args(["uninstall", "tagout", "--wait", "--namespace", NAMESPACE]);
    Outcome::of(&mut helm, "").succeeds();
    for kind in ["protectionrules", "approverteams"] {
        assert_eq!(world.get(&[kind])["items"].as_array().unwrap().len(), 0, "{kind}");
    }
    eventually("no entry is left", || {
        let entries = world.kubectl(User::Admin, &["get", "validatingwebhookconfigurations", "-o", "name"]);
        !entries.succeeds().out.contains("tagout")
    });
    world.end();
}

/// A namespace that no rule names, its work, and its end.
pub fn live_and_die(namespace: &Namespace) {
    namespace.deployment("api");
    namespace.kubectl(User::Agent, &["rollout", "status", "deployment/api"]).succeeds();
    namespace.kubectl(User::Agent, &["scale", "deployment", "api", "--replicas=2"]).succeeds();
    namespace.kubectl(User::Agent, &["annotate", "deployment", "api", "example.com/note=x"]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    namespace.world.kubectl(User::Agent, &["delete", "namespace", &namespace.name]).succeeds();
}

/// The versions of everything that the chart installs.
fn resource_versions(world: &World) -> Vec<String> {
    let mut versions = Vec::new();
    for kind in [
        "protectionrules",
        "approverteams",
        "validatingwebhookconfigurations",
        "clusterroles",
        "clusterrolebindings",
        "services",
        "serviceaccounts",
        "roles",
    ] {
        let selector = "app.kubernetes.io/name=tagout";
        for object in world.get(&[kind, "-n", NAMESPACE, "-l", selector])["items"].as_array().unwrap() {
            let metadata = &object["metadata"];
            versions.push(format!("{kind}/{} {}", text(&metadata["name"]), text(&metadata["resourceVersion"])));
        }
    }
    assert!(versions.len() > 10, "{versions:?}");
    versions
}

#[test]
fn an_approver_with_few_rights_can_approve_what_he_may_patch() {
    let world = shared();
    let namespace = world.unprotected();
    namespace.deployment("api");
    namespace.kubectl(User::Admin, &["label", "deployment", "api", "rule=few-rights"]).succeeds();
    world
        .apply(
            User::Admin,
            &json!({
                "apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "few-rights"},
                "spec": {"members": [{"user": "dave@example.com"}]},
            }),
        )
        .succeeds();
    let mut rule = crate::world::rule("few-rights", "unused");
    rule["spec"]["namespaceSelector"] = json!({});
    rule["spec"]["objectSelector"] = json!({"matchLabels": {"rule": "few-rights"}});
    rule["spec"]["approval"]["require"] = json!([{"anyOf": ["few-rights"]}]);
    world.rule(&rule);
    let grant =
        ["create", "clusterrolebinding", "few-rights", "--clusterrole=tagout-viewer", "--user=dave@example.com"];
    world.kubectl(User::Admin, &grant).succeeds();

    let approve = ["tagout", "approve", "deployment/api", "-n", &namespace.name, "--yes", "--as", "dave@example.com"];
    world.kubectl(User::Admin, &approve).is_refused(&["error:"]);
    namespace
        .kubectl(User::Admin, &["create", "rolebinding", "dave", "--clusterrole=edit", "--user=dave@example.com"])
        .succeeds();
    world.kubectl(User::Admin, &approve).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}
