//! Custom kinds: with a definition go all objects, and no webhook is asked about one of them.

use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::{Value, json};

use super::scene::{Scene, Tried, attack};
use crate::world::{Namespace, eventually, rule, shared, text};

pub const TRIED: &[Tried] = &[
    ("definition-deleted", definition_deleted),
    ("definition-names-changed-in-status", definition_names_changed_in_status),
    ("definition-unserved", definition_unserved),
    ("definition-unserved-then-deleted", definition_unserved_then_deleted),
    ("definition-schema-emptied", definition_schema_emptied),
    ("definition-converted-by-others", definition_converted_by_others),
    ("api-served-by-others", api_served_by_others),
    ("deletion-policy-of-a-custom-kind", deletion_policy_of_a_custom_kind),
];

/// What is not refused, and comes to nothing all the same.
#[test]
fn the_objects_of_a_custom_kind_are_not_lost_with_its_definition() {
    attack(TRIED);
}

/// A kind of its own, with an object that says something.
struct Kind {
    namespace: Namespace<'static>,
    group: String,
    definition: String,
    uids: [String; 2],
}

impl Kind {
    /// A kind that a rule names; or one that none does but the rule for all definitions.
    fn new(group: &str, named: bool) -> Self {
        let group = format!("{group}.example.com");
        let definition = format!("crd/widgets.{group}");
        let spec =
            json!({"type": "object", "properties": {"a": {"type": "string"}, "deletionPolicy": {"type": "string"}}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        let manifest = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("widgets.{group}")}, "spec": {"group": group, "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
        shared().apply(User::Admin, &manifest).succeeds();
        // kubectl itself fails where there is no status yet.
        let wait = ["wait", "--for=condition=Established", &definition, "--timeout=10s"];
        eventually("it is established", || shared().kubectl(User::Admin, &wait).ok);
        let namespace = shared().unprotected();
        if named {
            let name = group.split('.').next().expect("a name").to_owned();
            let mut rule = rule(&name, &name);
            rule["spec"]["resources"] = json!([{"apiGroups": [group], "resources": ["widgets"]}]);
            rule["spec"]["actions"] = json!(["Delete", "DiscardData", "Unprotect"]);
            let label = ["label", "namespace", &namespace.name, &format!("rule={name}")];
            shared().kubectl(User::Admin, &label).succeeds();
            shared().rule(&rule);
        }
        let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "one"},
            "spec": {"a": "b", "deletionPolicy": "Retain"}});
        eventually("one can be made", || namespace.apply(User::Admin, &widget).ok);
        let mut kind = Self { namespace, group, definition, uids: Default::default() };
        kind.uids = kind.found();
        kind
    }

    fn widget(&self) -> String {
        format!("widgets.{}/one", self.group)
    }

    fn found(&self) -> [String; 2] {
        let uid = |what: &str| text(&self.namespace.get(what)["metadata"]["uid"]);
        [uid(&self.definition), uid(&self.widget())]
    }

    fn agent(&self, scene: &Scene, args: &[&str]) {
        if self.namespace.kubectl(User::Agent, args).err.contains("denied the request: tagout") {
            scene.refused();
        }
    }

    fn patch(&self, scene: &Scene, patch: &str) {
        self.agent(scene, &["patch", &self.definition, "--type=json", "-p", patch]);
    }

    /// The definition is there, and the object, with what it says, also after it has been written again.
    fn survives(&self) {
        thread::sleep(Duration::from_secs(1));
        self.namespace.kubectl(User::Admin, &["annotate", &self.widget(), "written=again", "--overwrite"]).succeeds();
        assert_eq!(self.found(), self.uids);
        let widget = self.namespace.get(&self.widget());
        assert_eq!(widget["spec"], json!({"a": "b", "deletionPolicy": "Retain"}));
        for what in [&self.definition, &self.widget()] {
            assert!(self.namespace.get(what)["metadata"]["deletionTimestamp"].is_null(), "{what} is going");
        }
    }
}

fn definition_deleted(scene: &Scene) {
    for (group, named) in [("redteam-deleted", true), ("redteam-unnamed", false)] {
        let kind = Kind::new(group, named);
        kind.agent(scene, &["delete", &kind.definition, "--wait=false"]);
        kind.survives();
    }
}

const UNSERVED: &str = r#"[{"op": "replace", "path": "/spec/versions/0/served", "value": false}]"#;
const SERVED: &str = r#"[{"op": "replace", "path": "/spec/versions/0/served", "value": true}]"#;

fn definition_unserved(scene: &Scene) {
    let kind = Kind::new("redteam-unserved", true);
    kind.patch(scene, UNSERVED);
    kind.survives();
}

/// Of a kind that no rule names: then nobody can look whether there are objects, and that is no proof that there are none.
fn definition_unserved_then_deleted(scene: &Scene) {
    let kind = Kind::new("redteam-hidden", false);
    kind.patch(scene, UNSERVED);
    thread::sleep(Duration::from_secs(2));
    kind.agent(scene, &["delete", &kind.definition, "--wait=false"]);
    shared().kubectl(User::Admin, &["patch", &kind.definition, "--type=json", "-p", SERVED]).succeeds();
    eventually("it is served again", || kind.namespace.kubectl(User::Admin, &["get", &kind.widget()]).ok);
    kind.survives();
}

fn definition_schema_emptied(scene: &Scene) {
    let kind = Kind::new("redteam-schema", true);
    let path = "/spec/versions/0/schema/openAPIV3Schema";
    for (at, schema) in
        [(path.to_owned(), json!({"type": "object"})), (format!("{path}/properties/spec"), json!({"type": "object"}))]
    {
        kind.patch(scene, &json!([{"op": "replace", "path": at, "value": schema}]).to_string());
    }
    kind.survives();
}

fn definition_converted_by_others(scene: &Scene) {
    let kind = Kind::new("redteam-converted", true);
    let client = json!({"url": "https://127.0.0.1:9/convert"});
    let conversion =
        json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}});
    kind.patch(scene, &json!([{"op": "replace", "path": "/spec/conversion", "value": conversion}]).to_string());
    let strategy = &kind.namespace.get(&kind.definition)["spec"]["conversion"]["strategy"];
    assert_eq!(strategy, "None", "somebody else says what its objects are");
    kind.survives();
}

/// Names are the API server's own to write, and it writes those of the spec again. In between nobody finds the objects:
/// that is no proof that there are none.
fn definition_names_changed_in_status(scene: &Scene) {
    for (group, named) in [("redteam-renamed", true), ("redteam-renamed-unnamed", false)] {
        let kind = Kind::new(group, named);
        for names in [json!({"plural": "gadgets"}), json!({"kind": "Gadget"}), json!({"plural": ""})] {
            let patch = json!({"status": {"acceptedNames": names}}).to_string();
            kind.agent(scene, &["patch", &kind.definition, "--subresource=status", "--type=merge", "-p", &patch]);
            kind.agent(scene, &["delete", &kind.definition, "--wait=false"]);
        }
        thread::sleep(Duration::from_secs(2));
        eventually("it is found again", || kind.namespace.kubectl(User::Admin, &["get", &kind.widget()]).ok);
        kind.survives();
    }
}

/// The group of a protected kind, and Tagout's own.
fn api_served_by_others(scene: &Scene) {
    let kind = Kind::new("redteam-redirected", true);
    let redirect = |group: &str| {
        json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": null}}, "spec": {
            "service": {"name": "mirror", "namespace": "default", "port": 443}, "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 100, "versionPriority": 100, "group": group}})
        .to_string()
    };
    for (service, group) in
        [(format!("v1.{}", kind.group), kind.group.as_str()), ("v1alpha1.tagout.dev".to_owned(), "tagout.dev")]
    {
        let service = format!("apiservice/{service}");
        kind.agent(scene, &["patch", &service, "--type=merge", "-p", &redirect(group)]);
        let served_by = &scene.world.get(&[&service])["spec"]["service"];
        assert!(served_by.is_null(), "{service} is served by somebody else");
    }
    kind.survives();
}

/// As snapshots and operators' claims have one: what it stands for would go with it.
fn deletion_policy_of_a_custom_kind(scene: &Scene) {
    let kind = Kind::new("redteam-policy", true);
    for policy in [json!("Delete"), Value::Null] {
        let patch = json!({"spec": {"deletionPolicy": policy}}).to_string();
        kind.agent(scene, &["patch", &kind.widget(), "--type=merge", "-p", &patch]);
    }
    kind.survives();
}
