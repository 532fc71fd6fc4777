//! What was destroyed does not return by itself: whoever approved its end, or another person, lets it.

use std::process::Stdio;

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, deployment, eventually, rule, shared, text};

/// A rule that asks nobody about deletions, and about returns.
pub fn returns(name: &str) -> Value {
    let mut rule = rule(name, name);
    rule["spec"]["actions"] = json!(["Recreate"]);
    rule["spec"]["resources"] = json!([
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"]},
        {"apiGroups": [""], "resources": ["pods", "configmaps", "services", "namespaces"]},
    ]);
    rule["spec"]["except"] = json!([{"annotation": "helm.sh/hook"}]);
    rule
}

pub fn under(name: &str, rule: &Value) -> Namespace<'static> {
    shared().rule(rule);
    labelled(name)
}

pub fn labelled(name: &str) -> Namespace<'static> {
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    namespace
}

fn with(namespace: &Namespace, user: User, args: &[&str], manifest: &Value) -> Outcome {
    let args = [&["-n", &namespace.name][..], args].concat();
    namespace.world.kubectl_with(user, &args, &manifest.to_string())
}

pub fn create(namespace: &Namespace, manifest: &Value) -> Outcome {
    with(namespace, User::Agent, &["create", "-f", "-"], manifest)
}

pub fn delete(namespace: &Namespace, what: &str) {
    namespace.kubectl(User::Agent, &["delete", what, "--timeout=60s"]).succeeds();
}

/// An approval of the return of what is still there, good once it is gone.
fn of_return(namespace: &Namespace, what: &str) -> Value {
    let mut statement = namespace.statement(what, User::Alice);
    statement["action"] = json!("Recreate");
    statement
}

const REFUSED: [&str; 3] =
    ["denied Recreate of deployments.apps \"api\"", "--action=Recreate", "nobody approved that it returns"];

#[test]
fn deleting_and_recreating_is_refused_by_whatever_tool_and_one_approval_restores() {
    let namespace = under("returns-tools", &returns("returns-tools"));
    let api = deployment("api");
    create(&namespace, &api).succeeds();
    let approval = of_return(&namespace, "deployment/api");
    with(&namespace, User::Agent, &["replace", "--force", "-f", "-"], &api).is_refused(&REFUSED);
    assert!(!namespace.exists("deployment/api"));

    create(&namespace, &api).is_refused(&REFUSED);
    namespace.apply(User::Agent, &api).is_refused(&REFUSED);
    with(&namespace, User::Ci, &["apply", "--server-side", "-f", "-"], &api).is_refused(&REFUSED);
    create(&namespace, &api).is_refused(&REFUSED);
    let mut disguised = api.clone();
    disguised["metadata"]["labels"] = json!({"app": "api", "other": "label"});
    disguised["metadata"]["annotations"] = json!({"helm.sh/hook": "pre-install"});
    disguised["metadata"]["generateName"] = json!("api-");
    create(&namespace, &disguised).is_refused(&REFUSED);
    // Nor is there too much in it to be read.
    let padding = (0..5000).map(|number| (format!("a{number}"), json!("")));
    disguised["metadata"]["annotations"] = padding.collect::<serde_json::Map<_, _>>().into();
    create(&namespace, &disguised).is_refused(&REFUSED);
    // It would have been made under another version of its kind just the same.
    with(&namespace, User::Agent, &["create", "--dry-run=server", "-f", "-"], &api).is_refused(&REFUSED);

    namespace.detach(User::Alice, &approval).succeeds();
    namespace.apply(User::Ci, &api).succeeds();
    // The one that returned is another, and so is its end.
    delete(&namespace, "deployment/api");
    create(&namespace, &api).is_refused(&REFUSED);
}

#[test]
fn a_release_that_is_uninstalled_and_installed_again_is_refused() {
    let namespace = under("returns-helm", &returns("returns-helm"));
    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(chart.path().join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 0.1.0\n").unwrap();
    std::fs::write(chart.path().join("templates/api.yaml"), deployment("api").to_string()).unwrap();
    let mut hook = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hook", "annotations": {
        "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation"}}});
    hook["data"] = json!({"key": "value"});
    std::fs::write(chart.path().join("templates/hook.yaml"), hook.to_string()).unwrap();
    let helm = |args: &[&str]| {
        let mut command = shared().cp.helm(User::Ci);
        command.args(args).args(["--namespace", &namespace.name]).stdin(Stdio::null());
        Outcome::of(&mut command, "")
    };
    let path = chart.path().display().to_string();
    helm(&["install", "shop", &path]).succeeds();
    // Its hook is deleted and made anew each time.
    helm(&["upgrade", "shop", &path]).succeeds();
    helm(&["uninstall", "shop"]).succeeds();
    eventually("it is gone", || !namespace.exists("deployment/api"));
    helm(&["install", "shop", &path]).is_refused(&REFUSED);
}

#[test]
fn what_controllers_make_anew_and_what_gets_a_name_of_its_own_is_never_asked_about() {
    let namespace = under("returns-routine", &returns("returns-routine"));
    create(&namespace, &crate::approvals::stateful_set("db")).succeeds();
    eventually("its pod is there", || namespace.exists("pod/db-0"));
    let before = namespace.get("pod/db-0")["metadata"]["uid"].clone();
    namespace.kubectl(User::Agent, &["delete", "pod/db-0", "--wait=false"]).succeeds();
    eventually("its pod is there again", || {
        let pod = namespace.kubectl(User::Admin, &["get", "pod/db-0", "-o", "json"]);
        pod.ok && serde_json::from_str::<Value>(&pod.out).unwrap()["metadata"]["uid"] != before
    });
    let job = |name: Value| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": name, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "example.com/main:1"}]}}}})
    };
    for _ in 0..2 {
        let made = create(&namespace, &job(json!({"generateName": "import-"}))).succeeds().out;
        let name = made.split_whitespace().next().expect("a name").replace(".batch", "");
        delete(&namespace, &name);
    }
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"}, "spec": {
        "schedule": "0 0 1 1 *", "jobTemplate": {"spec": job(json!({}))["spec"].clone()}}});
    create(&namespace, &cron).succeeds();
    // As its controller makes them: under one name, by a template of one owner.
    let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "report", "controller": true,
        "uid": namespace.get("cronjob/report")["metadata"]["uid"]}]);
    let mut owned = job(json!({"name": "report-1", "ownerReferences": owner}));
    create(&namespace, &owned).succeeds();
    delete(&namespace, "job/report-1");
    create(&namespace, &owned).succeeds();
    // Without the owner it had, it is nobody's.
    delete(&namespace, "job/report-1");
    owned["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    create(&namespace, &owned).is_refused(&["denied Recreate of jobs.batch"]);
}

#[test]
fn an_owner_that_it_never_had_brings_nothing_back() {
    let mut own = returns("returns-owner");
    own["spec"]["actions"] = json!(["Recreate", "Unprotect"]);
    own["spec"]["owned"] = json!("Follow");
    let namespace = under("returns-owner", &own);
    create(&namespace, &deployment("api")).succeeds();
    create(&namespace, &deployment("living")).succeeds();
    delete(&namespace, "deployment/api");
    let mut adopted = deployment("api");
    adopted["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "living",
        "controller": true, "uid": namespace.get("deployment/living")["metadata"]["uid"]}]);
    create(&namespace, &adopted).is_refused(&REFUSED);
}

#[test]
fn what_was_approved_to_go_may_return_and_what_was_approved_to_go_for_good_may_not() {
    let namespace = shared().production();
    for (name, for_good) in [("api", false), ("old", true)] {
        namespace.deployment(name);
        let what = format!("deployment/{name}");
        let mut statement = namespace.statement(&what, User::Alice);
        if for_good {
            statement["deleteOnly"] = json!(true);
        }
        let approval = of_return(&namespace, &what);
        namespace.present(User::Alice, &what, &json!([statement])).succeeds();
        delete(&namespace, &what);
        let returned = create(&namespace, &deployment(name));
        if !for_good {
            returned.succeeds();
            continue;
        }
        returned.is_refused(&["denied Recreate of deployments.apps \"old\"", "needs approval by 1 of approvers"]);
        namespace.detach(User::Alice, &approval).succeeds();
        create(&namespace, &deployment(name)).succeeds();
    }
}

#[test]
fn a_namespace_does_not_return_for_itself_or_for_what_was_in_it() {
    let namespace = under("returns-namespace", &returns("returns-namespace"));
    create(&namespace, &deployment("api")).succeeds();
    let name = namespace.name.clone();
    shared().kubectl(User::Agent, &["delete", "namespace", &name, "--timeout=60s"]).succeeds();
    shared()
        .kubectl(User::Agent, &["create", "namespace", &name])
        .is_refused(&[&format!("denied Recreate of namespaces {name:?}")]);
    shared().kubectl(User::Agent, &["create", "namespace", &format!("{name}-2")]).succeeds();
}

#[test]
fn what_passed_under_a_rule_that_only_warned_is_not_kept_away() {
    let mut warns = returns("returns-warn");
    warns["spec"]["actions"] = json!(["Delete", "Recreate"]);
    warns["spec"]["mode"] = json!("Warn");
    let namespace = under("returns-warn", &warns);
    create(&namespace, &deployment("api")).succeeds();
    delete(&namespace, "deployment/api");
    warns["spec"]["mode"] = json!("Enforce");
    shared().rule(&warns);
    create(&namespace, &deployment("api")).succeeds();
}

#[test]
fn what_is_still_there_or_was_never_there_is_nobodys_business() {
    let namespace = under("returns-nothing", &returns("returns-nothing"));
    create(&namespace, &deployment("api")).succeeds();
    let again = create(&namespace, &deployment("api"));
    assert!(again.err.contains("already exists"), "{}", again.err);
    create(&namespace, &deployment("other")).succeeds();
    let before = shared().calls("return.returns-nothing.tagout.dev");
    namespace.kubectl(User::Agent, &["scale", "deployment/api", "--replicas=2"]).succeeds();
    assert_eq!(shared().calls("return.returns-nothing.tagout.dev"), before);
}

#[test]
fn one_that_is_going_is_no_open_door() {
    let namespace = under("returns-racing", &returns("returns-racing"));
    let mut held = deployment("api");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    create(&namespace, &held).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--wait=false"]).succeeds();
    create(&namespace, &deployment("api")).is_refused(&REFUSED);
    namespace
        .kubectl(User::Agent, &["patch", "deployment/api", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])
        .succeeds();
}

#[test]
fn nobody_but_tagout_writes_or_removes_what_is_remembered() {
    let namespace = under("returns-record", &returns("returns-record"));
    create(&namespace, &deployment("api")).succeeds();
    delete(&namespace, "deployment/api");
    let record = tagout::api::record_name("deployments.apps", &namespace.name, "api");
    let what = format!("deletionrecord/{record}");
    let found = shared().get(&[&what]);
    assert_eq!(found["spec"]["deletions"][0]["requesters"], json!([User::Agent.name()]));
    assert!(found["spec"]["deletions"][0]["labels"]["app"] == "api", "{found}");
    assert!(!found.to_string().contains("example.com/main"), "{found}");
    for refused in [
        shared().kubectl(User::Agent, &["delete", &what]),
        shared().kubectl(User::Agent, &["delete", "deletionrecords", "--all"]),
        shared().kubectl(User::Agent, &["patch", &what, "--type=merge", "-p", r#"{"spec":{"name":"other"}}"#]),
    ] {
        refused.is_refused(&["Tagout itself writes down and nobody else"]);
    }
    let listed = shared().kubectl(User::Admin, &["get", "deletionrecords"]).succeeds().out;
    let line = listed.lines().find(|line| line.starts_with(&record)).expect("a line").to_owned();
    for word in ["deployments.apps", &namespace.name, "api", User::Agent.name()] {
        assert!(line.contains(word), "{line}");
    }
    create(&namespace, &deployment("api")).is_refused(&REFUSED);
}

#[test]
fn a_kind_that_tagout_may_not_read_is_said_not_to_be_remembered() {
    let mut secrets = returns("returns-secrets");
    secrets["spec"]["resources"] = json!([{"apiGroups": [""], "resources": ["secrets", "configmaps"]}]);
    let namespace = under("returns-secrets", &secrets);
    let status = shared().get(&["protectionrule/returns-secrets"])["status"].clone();
    assert_eq!(status["notRemembered"], json!(["secrets"]));
    for _ in 0..2 {
        namespace.kubectl(User::Agent, &["create", "secret", "generic", "s", "--from-literal=k=v"]).succeeds();
        delete(&namespace, "secret/s");
    }
    assert_eq!(text(&status["conditions"][0]["type"]), "Ready");
}

#[test]
fn a_trial_remembers_nothing() {
    let namespace = under("returns-trial", &returns("returns-trial"));
    create(&namespace, &deployment("api")).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    let record = tagout::api::record_name("deployments.apps", &namespace.name, "api");
    assert!(!shared().kubectl(User::Admin, &["get", "deletionrecord", &record]).ok);
}
