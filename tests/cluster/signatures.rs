//! Signed approvals that count: made with real `ssh-keygen`, and by hardware keys.

use std::process::Command;

use controlplane::User;
use serde_json::{Value, json};
use tagout::api::SIGNATURE_NAMESPACE;

use crate::signing::{case, intent, key, passes, signed, text_of};
use crate::world::{eventually, shared};

#[test]
fn a_signature_by_each_kind_of_key_counts_whoever_writes_it() {
    for (rule, by) in [
        ("signed", "alice"),
        ("signed", "alice-ecdsa"),
        ("signed", "alice-touch"),
        ("touched", "alice-touch"),
        ("touched", "alice-touch-ecdsa"),
        ("plain", "alice"),
    ] {
        let (namespace, name, statement) = case(rule, &format!("counts-{by}"));
        passes(&namespace, &name, &json!([signed(statement, by)]));
    }
}

#[test]
fn a_hardware_key_that_checked_a_pin_passes_a_rule_that_wants_it() {
    let (namespace, name, mut statement) = case("verified", "pin");
    let mut how = intent(&statement);
    how.flags = 5;
    statement["signature"] = json!(key("alice-touch").signature(&how).armored());
    passes(&namespace, &name, &json!([statement]));
}

#[test]
fn two_people_with_their_own_keys_are_two() {
    let (namespace, name, statement) = case("two", "both");
    let alices = signed(statement.clone(), "alice");
    let mut bobs = statement;
    bobs["approver"] = json!(User::Bob.name());
    passes(&namespace, &name, &json!([alices, signed(bobs, "bob")]));
}

#[test]
fn a_signed_approval_beside_the_object_counts_whoever_stored_it() {
    let (namespace, name, statement) = case("touched", "stored");
    namespace.detach(User::Agent, &signed(statement, "alice-touch")).succeeds();
    namespace.kubectl(User::Agent, &["delete", "deployment", &name]).succeeds();
}

#[test]
fn a_signed_approval_may_come_in_a_manifest_with_other_changes() {
    let (namespace, name, statement) = case("signed", "from-git");
    let mut manifest = crate::world::deployment(&name);
    manifest["metadata"]["labels"]["tagout.dev/approval"] = json!("true");
    manifest["metadata"]["annotations"] =
        json!({"tagout.dev/approval": json!([signed(statement, "alice")]).to_string()});
    manifest["spec"]["replicas"] = json!(2);
    namespace.apply(User::Ci, &manifest).succeeds();
    namespace.kubectl(User::Ci, &["delete", "deployment", &name]).succeeds();
}

/// Only `printf`, `ssh-keygen` and `kubectl`, as the docs say.
#[test]
fn an_approval_can_be_made_with_printf_and_ssh_keygen() {
    let folder = shared().cp.dir().join("by-hand");
    std::fs::create_dir_all(&folder).unwrap();
    for kind in ["ed25519", "ecdsa"] {
        let (namespace, name, mut statement) = case("signed", &format!("by-hand-{kind}"));
        let private = folder.join(kind);
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&private).status().unwrap();
        assert!(made.success());
        let line = std::fs::read_to_string(private.with_extension("pub")).unwrap();
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam",
            "metadata": {"name": format!("by-hand-{kind}")},
            "spec": {"members": [{"user": "hand@example.com", "keys": [{"publicKey": line.trim()}]}]}});
        shared().apply(User::Admin, &team).succeeds();
        let rule_name = format!("by-hand-{kind}");
        let mut rule = crate::world::rule(&rule_name, &rule_name);
        rule["spec"]["approval"] = json!({"proof": "Signature", "require": [{"anyOf": [rule_name]}]});
        rule["spec"]["namespaceSelector"] = json!({"matchLabels": {"rule": "keys-signed"}});
        rule["spec"]["objectSelector"] = json!({"matchLabels": {"app": name}});
        shared().rule(&rule);
        statement["approver"] = json!("hand@example.com");
        statement["team"] = json!(rule_name);
        let alices = signed(crate::signing::statement(&namespace, &name), "alice");
        statement["signature"] = json!(by_hand(&private, &text_of(&statement)));
        passes(&namespace, &name, &json!([statement, alices]));
    }
}

fn by_hand(private: &std::path::Path, text: &str) -> String {
    let file = private.with_extension("txt");
    std::fs::write(&file, text).unwrap();
    let signature = private.with_extension("txt.sig");
    let _ = std::fs::remove_file(&signature);
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", SIGNATURE_NAMESPACE, "-f"])
        .args([private, &file])
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    std::fs::read_to_string(signature).unwrap()
}

#[test]
fn a_key_taken_out_of_the_team_signs_nothing_any_more() {
    let world = shared();
    let (namespace, name, mut statement) = case("signed", "key-out");
    let team = |keys: Value| {
        json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "leaving"},
            "spec": {"members": [{"user": "lea@example.com", "keys": keys}]}})
    };
    let (first, second) = (json!({"publicKey": key("lea").line()}), json!({"publicKey": key("lea-new").line()}));
    world.apply(User::Admin, &team(json!([first, second]))).succeeds();
    let mut rule = crate::world::rule("key-out", "keys-signed");
    rule["spec"]["approval"] = json!({"proof": "Signature", "require": [{"anyOf": ["leaving"]}]});
    rule["spec"]["objectSelector"] = json!({"matchLabels": {"app": name}});
    world.rule(&rule);
    statement["approver"] = json!("lea@example.com");
    statement["team"] = json!("leaving");
    let both = json!([signed(statement, "lea"), signed(crate::signing::statement(&namespace, &name), "alice")]);
    let what = format!("deployment/{name}");
    namespace.present(User::Agent, &what, &both).succeeds();
    let trial = || namespace.kubectl(User::Agent, &["delete", &what, "--dry-run=server"]);
    eventually("it counts", || trial().ok);
    world.apply(User::Admin, &team(json!([second]))).succeeds();
    // At once: what lets pass is never older than a few seconds, and a change rings within one.
    eventually("it does not count any more", || !trial().ok);
    trial().is_refused(&["a key that team \"leaving\" does not list for this person"]);
}
