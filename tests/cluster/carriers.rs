//! What carries protected things: definitions, operators' objects, pods; and what follows or is tolerated.

use controlplane::User;
use serde_json::{Value, json};

use crate::approvals::stateful_set;
use crate::world::{Namespace, World, eventually, rule, shared, text};

/// The definition of a kind, whose author lets everyone with `view` read it, as operators do.
pub fn define(world: &World, plural: &str) -> String {
    let kind = plural.to_uppercase();
    let group = format!("{plural}.example.com");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": {"plural": plural, "singular": plural, "kind": kind},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}}]}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {
        "name": format!("view-{plural}"), "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": [group], "resources": ["*"], "verbs": ["get", "list", "watch"]}]});
    world.apply(User::Admin, &definition).succeeds();
    world.apply(User::Admin, &role).succeeds();
    let name = format!("{plural}.{group}");
    // kubectl itself fails where there is no status yet.
    let wait = ["wait", "--for=condition=Established", &format!("crd/{name}"), "--timeout=10s"];
    eventually("it is established", || world.kubectl(User::Admin, &wait).ok);
    eventually("everyone with view may read it", || {
        let may = ["auth", "can-i", "list", &name, "-A", "--as=system:serviceaccount:tagout-system:tagout"];
        world.kubectl(User::Admin, &may).ok
    });
    name
}

pub fn instance(plural: &str, name: &str) -> Value {
    json!({"apiVersion": format!("{plural}.example.com/v1"), "kind": plural.to_uppercase(), "metadata": {"name": name},
        "spec": {"replicas": 3}})
}

fn guarded(name: &str, change: impl FnOnce(&mut Value)) -> Namespace<'static> {
    let mut manifest = rule(name, name);
    change(&mut manifest["spec"]);
    shared().rule(&manifest);
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
    namespace
}

#[test]
fn the_definition_of_a_protected_kind_is_as_safe_as_its_objects() {
    let world = shared();
    let crd = format!("crd/{}", define(world, "databases"));
    let namespace = guarded("databases", |spec| {
        spec["resources"] = json!([{"apiGroups": ["databases.example.com"], "resources": ["databases"]}]);
    });
    namespace.apply(User::Admin, &instance("databases", "main")).succeeds();
    world
        .kubectl(User::Agent, &["delete", &crd, "--wait=false"])
        .is_refused(&["denied Delete of customresourcedefinitions", "databases"]);
    let patch = |patch: &Value| world.kubectl(User::Agent, &["patch", &crd, "--type=json", "-p", &patch.to_string()]);
    let at = "/spec/versions/0";
    let unserved = json!([{"op": "replace", "path": format!("{at}/served"), "value": false}]);
    patch(&unserved).is_refused(&["denied Unprotect", "not be found under any version"]);
    let forgetful =
        json!([{"op": "remove", "path": format!("{at}/schema/openAPIV3Schema/properties/spec/properties")}]);
    patch(&forgetful).is_refused(&["denied Unprotect", "forgotten"]);
    let converter = json!([{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com/convert"}}}}]);
    patch(&converter).is_refused(&["denied Unprotect", "somebody else"]);
    let more = json!([{"op": "add", "path": format!("{at}/schema/openAPIV3Schema/properties/spec/properties/size"),
        "value": {"type": "string"}}]);
    patch(&more).succeeds();
    let status = json!({"status": {"acceptedNames": {"kind": "Other", "plural": "others"}}}).to_string();
    world
        .kubectl(User::Agent, &["patch", &crd, "--subresource=status", "--type=merge", "-p", &status])
        .is_refused(&["denied Unprotect"]);
    // A custom kind's own replicas are replicas.
    let zero = json!({"spec": {"replicas": 0}}).to_string();
    namespace
        .kubectl(User::Agent, &["patch", "databases/main", "--type=merge", "-p", &zero])
        .is_refused(&["denied ScaleToZero"]);
}

#[test]
fn a_definition_of_nothing_may_go_and_one_of_something_may_not() {
    let world = shared();
    let empty = format!("crd/{}", define(world, "widgets"));
    world.kubectl(User::Agent, &["delete", &empty]).succeeds();
    let used = format!("crd/{}", define(world, "gadgets"));
    let namespace = world.unprotected();
    namespace.apply(User::Admin, &instance("gadgets", "one")).succeeds();
    world.kubectl(User::Agent, &["delete", &used, "--wait=false"]).is_refused(&["rule definitions", "1 GADGETS"]);
}

#[test]
fn an_operators_object_is_as_safe_as_what_it_owns() {
    let world = shared();
    define(world, "clusters");
    let namespace = world.unprotected();
    world.kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=operated"]).succeeds();
    namespace.apply(User::Admin, &instance("clusters", "main")).succeeds();
    namespace.apply(User::Admin, &stateful_set("main")).succeeds();
    let owner = namespace.get("clusters/main");
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "main", "controller": true,
        "uid": owner["metadata"]["uid"]});
    let patch = json!({"metadata": {"ownerReferences": [reference]}}).to_string();
    namespace.kubectl(User::Admin, &["patch", "statefulset/main", "--type=merge", "-p", &patch]).succeeds();
    let mut manifest = rule("operated", "operated");
    manifest["spec"]["resources"] = json!([{"apiGroups": ["apps"], "resources": ["statefulsets"]}]);
    world.rule(&manifest);
    eventually("its kind is found above what the rule protects", || {
        world.get(&["protectionrule/operated"])["status"]["alsoAsksAbout"]
            .to_string()
            .contains("clusters.clusters.example.com")
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let delete = |what: &str| namespace.kubectl(User::Agent, &["delete", what, "--wait=false"]);
    delete("clusters/main").is_refused(&[
        "denied Delete of clusters.clusters.example.com \"main\"",
        "1 StatefulSet",
        "rule operated",
    ]);
    // Operators that make their workloads anew are let do so where the rule says it.
    delete("statefulset/main").is_refused(&["needs approval"]);
    manifest["spec"]["owned"] = json!("Follow");
    world.rule(&manifest);
    delete("statefulset/main").succeeds();
    // And nobody makes up a controller for what has none.
    namespace.apply(User::Admin, &stateful_set("other")).succeeds();
    namespace.kubectl(User::Agent, &["create", "configmap", "controller"]).succeeds();
    let made_up = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "controller", "controller": true,
        "uid": namespace.get("configmap/controller")["metadata"]["uid"]}]);
    let patch = json!({"metadata": {"ownerReferences": made_up}}).to_string();
    namespace
        .kubectl(User::Agent, &["patch", "statefulset/other", "--type=merge", "-p", &patch])
        .is_refused(&["denied Unprotect of statefulsets.apps \"other\"", "follow a controller"]);
}

#[test]
fn little_is_tolerated_where_a_rule_says_so_and_no_more() {
    let namespace = guarded("tolerant", |spec| {
        spec["resources"] = json!([{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]}]);
        spec["tolerate"] = json!({"objects": 1});
    });
    namespace.deployment("one");
    namespace.kubectl(User::Agent, &["delete", "deployment/one"]).succeeds();
    namespace.deployment("two");
    namespace.apply(User::Admin, &stateful_set("owned")).succeeds();
    let owner = namespace.get("deployment/two");
    let patch = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "two",
        "uid": owner["metadata"]["uid"]}]}})
    .to_string();
    namespace.kubectl(User::Admin, &["patch", "statefulset/owned", "--type=merge", "-p", &patch]).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment/two"]).is_refused(&["needs approval"]);
    shared().kubectl(User::Agent, &["delete", "namespace", &namespace.name]).is_refused(&["needs approval"]);
}

#[test]
fn pods_that_nothing_makes_anew_are_kept_and_others_are_not() {
    let namespace = guarded("pods", |spec| {
        spec["resources"] = json!([{"apiGroups": [""], "resources": ["pods"]}]);
        spec["actions"] = json!(["Delete", "Evict", "Unprotect", "Reparent"]);
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {
        "containers": [{"name": "main", "image": "example.com/main:1"}]}});
    namespace.apply(User::Admin, &pod).succeeds();
    namespace.deployment("api");
    let evict = |name: &str| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace.name}});
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", namespace.name);
        shared().kubectl_with(User::Agent, &["create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    let controlled = || {
        let found = namespace
            .kubectl(User::Admin, &["get", "pods", "-l", "app=api", "-o", "jsonpath={.items[0].metadata.name}"]);
        found.out
    };
    eventually("it has a pod", || !controlled().is_empty());
    namespace
        .kubectl(User::Agent, &["delete", "pod/bare", "--wait=false"])
        .is_refused(&["denied Delete of pods \"bare\""]);
    namespace.kubectl(User::Agent, &["delete", "pod/bare", "--force"]).is_refused(&["denied Delete of pods \"bare\""]);
    evict("bare").is_refused(&["denied Evict of pods \"bare\""]);
    // A drain goes on to the next, as it does without Tagout.
    evict("gone").is_refused(&["NotFound", "pods \"gone\" not found"]);
    evict(&controlled()).succeeds();
    namespace.kubectl(User::Agent, &["delete", "pods", "-l", "app=api", "--wait=false"]).succeeds();
    // To make it look like a controller's pod is to unprotect it.
    let set = text(&shared().get(&["-n", &namespace.name, "rs"])["items"][0]["metadata"]["name"]);
    let uid = text(&namespace.get(&format!("rs/{set}"))["metadata"]["uid"]);
    let patch = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set,
        "uid": uid, "controller": true}]}})
    .to_string();
    namespace
        .kubectl(User::Agent, &["patch", "pod/bare", "--type=merge", "-p", &patch])
        .is_refused(&["denied Unprotect"]);
}
