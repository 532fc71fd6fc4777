//! People with keys, the rules that ask for their signatures, and statements signed by anything.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use authenticator::{Authenticator, Intent, Kind, Signature};
use controlplane::User;
use serde_json::{Value, json};
use tagout::api::{SIGNATURE_NAMESPACE, Statement};

use crate::world::{Namespace, Outcome, eventually, rule, shared, text};

/// The team whose people have keys.
pub const TEAM: &str = "signers";

/// Keys by what they are for.
pub fn key(name: &str) -> Authenticator {
    let kind = match name {
        "alice-touch" | "bob-touch" | "stranger-touch" => Kind::SkEd25519,
        "alice-touch-ecdsa" => Kind::SkEcdsa,
        "alice-ecdsa" => Kind::Ecdsa,
        _ => Kind::Ed25519,
    };
    Authenticator::new(kind, name)
}

/// A rule, and the namespace that it protects.
pub fn protected(name: &'static str) -> Namespace<'static> {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(set_up);
    Namespace { world: shared(), name: format!("keys-{name}") }
}

fn set_up() {
    let world = shared();
    let past = "2026-01-01T00:00:00Z";
    let future = "2099-01-01T00:00:00Z";
    let line = |name: &str| json!({"publicKey": key(name).line()});
    let team = |name: &str, members: Value, revoked: Value| {
        let manifest = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": name},
            "spec": {"members": members, "revokedKeys": revoked}});
        world.apply(User::Admin, &manifest).succeeds();
    };
    let alice = ["alice", "alice-second", "alice-ecdsa", "alice-touch", "alice-touch-ecdsa"].map(line);
    let bob = ["bob", "bob-touch"].map(line);
    let members = json!([
        {"user": User::Alice.name(), "keys": alice},
        {"user": User::Bob.name(), "keys": bob},
        {"user": "over@example.com", "keys": [{"publicKey": key("over").line(), "validBefore": past}]},
        {"user": "early@example.com", "keys": [{"publicKey": key("early").line(), "validAfter": future}]},
        {"user": "lost@example.com", "keys": [line("lost")]},
    ]);
    team(TEAM, members.clone(), json!([]));
    // A stolen key is revoked while it is still listed.
    team(TEAM, members, json!([fingerprint("lost")]));
    team("others", json!([{"user": "olga@example.com", "keys": [line("olga")]}]), json!([]));
    for (name, approval) in [
        ("signed", json!({"proof": "Signature", "require": [{"anyOf": [TEAM]}]})),
        ("two", json!({"proof": "Signature", "require": [{"anyOf": [TEAM], "count": 2}]})),
        ("touched", json!({"proof": "HardwareKey", "require": [{"anyOf": [TEAM]}]})),
        ("verified", json!({"proof": "HardwareKey", "requireVerification": true, "require": [{"anyOf": [TEAM]}]})),
        ("plain", json!({"require": [{"anyOf": [TEAM, "approvers"]}]})),
    ] {
        let namespace = format!("keys-{name}");
        world.kubectl(User::Admin, &["create", "namespace", &namespace]).succeeds();
        world.kubectl(User::Admin, &["label", "namespace", &namespace, &format!("rule={namespace}")]).succeeds();
        let mut manifest = rule(&namespace, &namespace);
        manifest["spec"]["approval"] = approval;
        world.rule(&manifest);
    }
    eventually("somebody can sign", || {
        let found = world.get(&["protectionrule/keys-verified"]);
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Approvable" && one["status"] == "True")
    });
    thread::sleep(Duration::from_millis(500));
}

/// As `ssh-keygen -l` prints it.
pub fn fingerprint(name: &str) -> String {
    tagout::guard::Key::read(&key(name).line()).expect("a key").fingerprint()
}

/// A true statement about a deployment that is there, by alice, unsigned.
pub fn statement(namespace: &Namespace, deployment: &str) -> Value {
    let mut statement = namespace.statement(&format!("deployment/{deployment}"), User::Alice);
    let fields = statement.as_object_mut().expect("an object");
    fields.remove("epoch");
    fields.insert("team".to_owned(), json!(TEAM));
    statement
}

/// The text that a statement's signature has to be over.
pub fn text_of(statement: &Value) -> String {
    let read: Statement = serde_json::from_value(statement.clone()).expect("a statement");
    read.text().expect("a text")
}

pub fn intent(statement: &Value) -> Intent {
    Intent::new(SIGNATURE_NAMESPACE, &text_of(statement))
}

/// The statement, signed with this key.
pub fn signed(mut statement: Value, by: &str) -> Value {
    statement["signature"] = json!(key(by).sign(SIGNATURE_NAMESPACE, &text_of(&statement)));
    statement
}

/// The statement with a signature of which anything was changed.
pub fn signed_with(mut statement: Value, by: &str, change: impl FnOnce(&mut Signature)) -> Value {
    let mut signature = key(by).signature(&intent(&statement));
    change(&mut signature);
    statement["signature"] = json!(signature.armored());
    statement
}

/// An agent puts these statements on the deployment and tries to delete it; and beside it, and tries again.
pub fn attempts(namespace: &Namespace, deployment: &str, statements: &Value) -> [Outcome; 2] {
    attempts_by(User::Agent, &[], namespace, deployment, statements)
}

pub fn attempts_by(
    user: User,
    flags: &[&str],
    namespace: &Namespace,
    deployment: &str,
    statements: &Value,
) -> [Outcome; 2] {
    let what = format!("deployment/{deployment}");
    let delete = || namespace.kubectl(user, &[&["delete", &what][..], flags].concat());
    namespace.present(User::Agent, &what, statements).succeeds();
    let presented = delete();
    namespace.kubectl(User::Agent, &["annotate", &what, "tagout.dev/approval-"]).succeeds();
    // Under the name that is looked for, whatever the statement itself says.
    let object = statement(namespace, deployment);
    let mut approval = crate::world::approval_object(&object);
    approval["spec"]["statements"] = statements.clone();
    let create = ["create", "--field-manager=tagout-approval", "-f", "-"];
    let stored = namespace.world.kubectl_with(User::Agent, &create, &approval.to_string());
    if stored.ok {
        return [presented, delete()];
    }
    [presented, stored]
}

/// A deployment of its own, and what alice would say of it.
pub fn case(rule: &'static str, name: &str) -> (Namespace<'static>, String, Value) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    again(rule, &format!("{plain}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// The same, under exactly this name.
pub fn again(rule: &'static str, name: &str) -> (Namespace<'static>, String, Value) {
    let namespace = protected(rule);
    let mut manifest = crate::world::deployment(name);
    manifest["spec"]["replicas"] = json!(0);
    namespace.apply(User::Admin, &manifest).succeeds();
    let statement = statement(&namespace, name);
    (namespace, name.to_owned(), statement)
}

/// With these statements on it, an agent may delete the deployment.
#[track_caller]
pub fn passes(namespace: &Namespace, deployment: &str, statements: &Value) {
    let what = format!("deployment/{deployment}");
    namespace.kubectl(User::Agent, &["delete", &what]).is_refused(&["denied Delete"]);
    namespace.present(User::Agent, &what, statements).succeeds();
    namespace.kubectl(User::Agent, &["delete", &what]).succeeds();
}

/// Nothing of it let the deployment be deleted, and the words say why.
#[track_caller]
pub fn is_refused(namespace: &Namespace, deployment: &str, statements: &Value, words: &str) {
    for outcome in attempts(namespace, deployment, statements) {
        let outcome = outcome.is_refused(&[]);
        let known = outcome.err.contains(words) || outcome.err.contains("is not accepted");
        assert!(known, "{words:?} is not in: {}", outcome.err);
    }
    assert!(namespace.exists(&format!("deployment/{deployment}")));
}

/// The UID of a deployment that had this name before.
pub fn uid(namespace: &Namespace, deployment: &str) -> String {
    text(&namespace.get(&format!("deployment/{deployment}"))["metadata"]["uid"])
}
