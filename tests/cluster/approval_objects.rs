//! Approvals that stand beside their object, and on its Namespace.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, approval_object, shared, text};

fn production() -> Namespace<'static> {
    let namespace = shared().production();
    namespace.deployment("api");
    namespace
}

/// The statement of the contents of a namespace.
fn contents(namespace: &Namespace, approver: User) -> Value {
    let mut statement = namespace.statement(&format!("namespace/{}", namespace.name), approver);
    statement["scope"] = json!("Contents");
    statement
}

#[test]
fn an_approval_beside_the_object_lets_it_be_deleted() {
    let namespace = production();
    let statement = namespace.statement("deployment/api", User::Alice);
    namespace.detach(User::Alice, &statement).succeeds();
    let listed = shared().kubectl(User::Admin, &["get", "approvals"]).succeeds().out;
    assert!(listed.contains("deployments.apps") && listed.contains(User::Alice.name()), "{listed}");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

#[test]
fn an_approval_beside_the_object_takes_its_dependents_along() {
    let namespace = production();
    let owner = namespace.get("deployment/api");
    let mut child = crate::world::deployment("child");
    child["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api",
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
    namespace.apply(User::Admin, &child).succeeds();
    let statement = namespace.statement_naming("deployment/api", User::Alice, &["deployment/child"]);
    namespace.detach(User::Alice, &statement).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api", "--cascade=foreground"]).succeeds();
    assert!(!namespace.exists("deployment/child"));
}

#[test]
fn an_approval_that_somebody_else_writes_in_alices_name_is_refused() {
    let namespace = production();
    let statement = namespace.statement("deployment/api", User::Alice);
    for user in [User::Agent, User::Ci, User::Admin, User::Bob] {
        namespace.detach(user, &statement).is_refused(&["approve in your own name"]);
    }
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
}

#[test]
fn an_approval_slipped_into_what_alice_applies_is_refused() {
    let namespace = production();
    let manifest = approval_object(&namespace.statement("deployment/api", User::Alice));
    shared().apply(User::Alice, &manifest).is_refused(&["an act of its own"]);
}

#[test]
fn an_approval_under_another_name_or_a_generated_one_is_refused() {
    let namespace = production();
    let mut manifest = approval_object(&namespace.statement("deployment/api", User::Alice));
    let create = ["create", "--field-manager=tagout-approval", "-f", "-"];
    let own = text(&manifest["metadata"]["name"]);
    manifest["metadata"]["name"] = json!("delete-0123");
    shared().kubectl_with(User::Alice, &create, &manifest.to_string()).is_refused(&["is named", &own]);
    manifest["metadata"] = json!({"generateName": "delete-"});
    shared().kubectl_with(User::Alice, &create, &manifest.to_string()).is_refused(&["is named", &own]);
}

#[test]
fn a_statement_added_to_a_colleagues_approval_is_checked_and_his_is_kept() {
    let namespace = production();
    let alices = namespace.statement("deployment/api", User::Alice);
    namespace.detach(User::Alice, &alices).succeeds();
    let bobs = namespace.statement("deployment/api", User::Bob);
    let mut both = approval_object(&alices);
    both["spec"]["statements"] = json!([alices, bobs]);
    let name = text(&both["metadata"]["name"]);
    let patch = json!({"spec": both["spec"]}).to_string();
    let add = ["patch", "approval", &name, "--type=merge", "--field-manager=tagout-approval", "-p", &patch];
    shared().kubectl(User::Agent, &add).is_refused(&["approve in your own name"]);
    shared().kubectl(User::Bob, &add).succeeds();
}

#[test]
fn an_approval_of_a_namespaces_contents_is_good_for_what_is_in_it_and_not_for_itself() {
    let namespace = production();
    let itself = format!("namespace/{}", namespace.name);
    let statement = contents(&namespace, User::Alice);
    namespace.present(User::Alice, &itself, &json!([statement])).succeeds();
    shared().kubectl(User::Agent, &["delete", &itself]).is_refused(&["it is for what is in a namespace"]);
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

#[test]
fn an_approval_of_a_namespace_is_not_good_for_what_is_in_it() {
    let namespace = production();
    let itself = format!("namespace/{}", namespace.name);
    let statement = namespace.statement(&itself, User::Alice);
    namespace.present(User::Alice, &itself, &json!([statement])).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
}

#[test]
fn contents_approved_beside_the_namespace_count_and_those_of_a_deployment_are_refused() {
    let namespace = production();
    let mut wrong = namespace.statement("deployment/api", User::Alice);
    wrong["scope"] = json!("Contents");
    namespace.detach(User::Alice, &wrong).is_refused(&["only a Namespace has contents"]);
    namespace.present(User::Alice, "deployment/api", &json!([wrong])).is_refused(&["only a Namespace has contents"]);
    namespace.detach(User::Alice, &contents(&namespace, User::Alice)).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

#[test]
fn an_approval_of_another_namespaces_contents_opens_nothing_here() {
    let (here, there) = (production(), production());
    let mut statement = contents(&there, User::Alice);
    statement["name"] = json!(here.name);
    here.present(User::Alice, &format!("namespace/{}", here.name), &json!([statement])).succeeds();
    here.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
}

/// Flux's kustomize-controller renames the managers whose name begins with `kubectl` to its own, and drops their fields
/// at the next apply.
#[test]
fn a_reconciler_that_takes_over_what_kubectl_wrote_leaves_the_approval() {
    let namespace = shared().production();
    let manifest = crate::world::deployment("api");
    let apply = [
        "-n",
        &namespace.name,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=kustomize-controller",
        "-f",
        "-",
    ];
    shared().kubectl_with(User::Ci, &apply, &manifest.to_string()).succeeds();
    namespace.kubectl(User::Bob, &["annotate", "deployment/api", "example.com/by-hand=yes"]).succeeds();
    namespace.approve(User::Alice, "deployment/api");
    take_over(&namespace, "deployment/api");
    shared().kubectl_with(User::Ci, &apply, &manifest.to_string()).succeeds();
    let metadata = namespace.get("deployment/api")["metadata"].clone();
    assert_eq!(metadata["annotations"]["example.com/by-hand"], Value::Null, "the takeover is as strict as Flux's");
    assert!(metadata["annotations"]["tagout.dev/approval"].is_string(), "{metadata}");
    namespace.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
}

/// Gives everything that managers named `kubectl…` wrote to the reconciler.
fn take_over(namespace: &Namespace, what: &str) {
    let show = ["get", what, "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&namespace.kubectl(User::Ci, &show).succeeds().out).unwrap();
    let mut managed = object["metadata"]["managedFields"].as_array().unwrap().clone();
    let own = managed.iter().position(|entry| entry["manager"] == "kustomize-controller").unwrap();
    let theirs: Vec<Value> =
        managed.iter().filter(|entry| text(&entry["manager"]).starts_with("kubectl")).cloned().collect();
    assert!(!theirs.is_empty());
    for entry in theirs {
        merge(&mut managed[own]["fieldsV1"], &entry["fieldsV1"]);
    }
    managed.retain(|entry| !text(&entry["manager"]).starts_with("kubectl"));
    let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": managed}]).to_string();
    namespace.kubectl(User::Ci, &["patch", what, "--type=json", "-p", &patch]).succeeds();
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        let place = into.as_object_mut().unwrap().entry(key).or_insert(json!({}));
        merge(place, value);
    }
}

/// Nobody can watch policies that mutate from inside; what they make of an approval is another matter.
#[test]
fn an_approval_that_a_policy_turns_to_another_object_is_refused() {
    let namespace = production();
    namespace.deployment("harmless");
    let (harmless, prize) =
        (namespace.statement("deployment/harmless", User::Alice), namespace.statement("deployment/api", User::Alice));
    let name = format!("turn-{}", namespace.name);
    let patch = format!(
        r#"[JSONPatch{{op: "replace", path: "/metadata/name", value: "{}"}},
            JSONPatch{{op: "replace", path: "/spec/statements/0/name", value: "api"}},
            JSONPatch{{op: "replace", path: "/spec/statements/0/uid", value: "{}"}}]"#,
        text(&approval_object(&prize)["metadata"]["name"]),
        text(&prize["uid"]),
    );
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["tagout.dev"], "apiVersions": ["*"],
                "operations": ["CREATE"], "resources": ["approvals"]}]},
            "matchConditions": [{"name": "own", "expression": format!("object.spec.statements[0].uid == '{}'", text(&harmless["uid"]))}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name}});
    shared().apply(User::Agent, &policy).succeeds();
    shared().apply(User::Agent, &binding).succeeds();
    crate::world::eventually("the policy is in force", || {
        let outcome = namespace.detach(User::Alice, &harmless);
        if outcome.ok {
            let stored = approval_object(&harmless)["metadata"]["name"].clone();
            shared().kubectl(User::Alice, &["delete", "approval", &text(&stored)]);
        }
        !outcome.ok && outcome.err.contains("this is not the Approval that was sent")
    });
    namespace.kubectl(User::Agent, &["delete", "deployment/api"]).is_refused(&["denied Delete"]);
}
