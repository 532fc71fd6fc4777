//! The combinations of `tests/matrix/verdicts.txt` that a real API server can be asked, asked there.

use controlplane::User;
use serde_json::{Value, json};

use crate::approvals::{claim, stateful_set};
use crate::world::{Namespace, Outcome, deployment, shared};

/// What is said of the object, and how it is said.
const STATES: [&str; 6] = ["nothing", "approved", "expired", "other-action", "other-object", "other-team"];

const ACTORS: [(&str, User); 2] = [("agent", User::Agent), ("the approver", User::Alice)];

struct Kind {
    resource: &'static str,
    what: &'static str,
    manifest: Value,
    /// What an update does to it, beside what can be done to anything.
    updates: Vec<(&'static str, Value)>,
}

fn kinds() -> Vec<Kind> {
    let of = |kind: &str, mut manifest: Value| {
        manifest["kind"] = json!(kind);
        manifest
    };
    let mut daemon_set = of("DaemonSet", deployment("m"));
    daemon_set["spec"].as_object_mut().unwrap().remove("replicas");
    let cron_job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "m"}, "spec": {"schedule": "0 0 1 1 *",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": "example.com/main:1"}]}}}}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}, "stringData": {"a": "b"}});
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}, "spec": {"ports": [{"port": 80}]}});
    let zero = json!({"spec": {"replicas": 0}});
    let kept = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}});
    let nowhere = json!({"spec": {"template": {"spec": {"nodeSelector": {"no": "such"}}}}});
    let kind = |resource, what, manifest, updates| Kind { resource, what, manifest, updates };
    vec![
        kind("deployments.apps", "deployment/m", deployment("m"), vec![("ScaleToZero", zero.clone())]),
        kind(
            "statefulsets.apps",
            "statefulset/m",
            stateful_set("m"),
            vec![("ScaleToZero", zero), ("DiscardData", kept)],
        ),
        kind("daemonsets.apps", "daemonset/m", daemon_set, vec![("ScaleToZero", nowhere)]),
        kind("cronjobs.batch", "cronjob/m", cron_job, vec![("ScaleToZero", json!({"spec": {"suspend": true}}))]),
        kind("persistentvolumeclaims", "persistentvolumeclaim/m", claim("m"), vec![]),
        kind(
            "secrets",
            "secret/m",
            secret,
            vec![
                ("DiscardData", json!({"data": null})),
                ("Unprotect", json!({"metadata": {"annotations": {"helm.sh/hook": "x"}}})),
            ],
        ),
        kind("services", "service/m", service, vec![]),
    ]
}

/// What is written down.
fn expected(verdicts: &str, action: &str, resource: &str, actor: &str, state: &str) -> String {
    let of_kind = |heading: &str| {
        let named = heading.strip_prefix(&format!("{action} of "))?;
        named.split(", ").any(|kind| kind == resource).then_some(())
    };
    let mut lines = verdicts.lines().skip_while(|line| of_kind(line).is_none()).skip(1);
    let columns: Vec<&str> = lines.next().expect("a table").split_whitespace().collect();
    let row = lines.find(|line| line.trim_start().starts_with(actor)).expect("a row");
    let cells: Vec<&str> = row.trim_start().strip_prefix(actor).unwrap().split_whitespace().collect();
    cells[columns.iter().position(|column| *column == state).expect("a column")].to_owned()
}

fn say(namespace: &Namespace, what: &str, action: &str, state: &str) {
    let mut statement = namespace.statement(what, User::Alice);
    statement["action"] = json!(action);
    let other = if action == "Delete" { "Finalize" } else { "Delete" };
    match state {
        "other-action" => statement["action"] = json!(other),
        "other-object" => statement["uid"] = json!("11111111-2222-3333-4444-555555555555"),
        "other-team" => statement["team"] = json!("nobodys"),
        "expired" => {
            statement["expires"] = json!((jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2)).to_string());
        }
        _ => {}
    }
    // Some of it is refused here already, and then it is as if nothing were said.
    let _: Outcome = namespace.present(User::Alice, what, &json!([statement]));
    if state == "expired" {
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
}

fn unsay(namespace: &Namespace, what: &str) {
    namespace.kubectl(User::Admin, &["annotate", what, "tagout.dev/approval-"]).succeeds();
    namespace.kubectl(User::Admin, &["label", what, "tagout.dev/approval-"]).succeeds();
}

#[test]
fn the_real_api_server_says_what_the_matrix_says() {
    let verdicts = std::fs::read_to_string(crate::world::root().join("tests/matrix/verdicts.txt")).expect("the matrix");
    let namespace = shared().production();
    let mut differences = Vec::new();
    for kind in kinds() {
        let what = kind.what;
        namespace.apply(User::Admin, &kind.manifest).succeeds();
        let mut finalizers = namespace.get(what)["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.push(json!("example.com/kept"));
        let kept = json!({"metadata": {"finalizers": finalizers}}).to_string();
        namespace.kubectl(User::Admin, &["patch", what, "--type=merge", "-p", &kept]).succeeds();
        let bogus = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "11111111-2222-3333-4444-555555555555"}]);
        let mut updates = kind.updates.clone();
        updates.push(("Finalize", json!({"metadata": {"finalizers": null}})));
        updates.push(("Reparent", json!({"metadata": {"ownerReferences": bogus}})));
        updates.push(("Delete", Value::Null));
        for (action, update) in updates {
            // When an approval is over does not depend on what it is for, and waiting for it takes time.
            for state in STATES.into_iter().filter(|state| *state != "expired" || action == "Delete") {
                if state != "nothing" {
                    say(&namespace, what, action, state);
                }
                for (actor, user) in ACTORS {
                    let patch = update.to_string();
                    let args = match action {
                        "Delete" => vec!["delete", what, "--dry-run=server", "--wait=false"],
                        _ => vec!["patch", what, "--type=merge", "--dry-run=server", "-p", &patch],
                    };
                    let outcome = namespace.kubectl(user, &args);
                    let found = if outcome.ok { "yes" } else { "no" };
                    let wanted = expected(&verdicts, action, kind.resource, actor, state);
                    let refused = outcome.ok || outcome.err.contains(&format!("denied {action} of {}", kind.resource));
                    if found != wanted || !refused {
                        differences.push(format!(
                            "{action} of {what} by {actor}, {state}: {found}, not {wanted}: {}",
                            outcome.err
                        ));
                    }
                }
                unsay(&namespace, what);
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
