//! `kubectl tagout` with keys, request ids and files, as people use it.

use std::path::PathBuf;
use std::process::Command;

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Namespace, Outcome, eventually, rule, shared, text, with_plugin};

/// A home with a key, whose user may sign for a rule of this name.
struct Signer {
    home: PathBuf,
    namespace: Namespace<'static>,
}

impl Signer {
    /// Alice, with a key that the rule's team lists.
    fn new(name: &str) -> Self {
        let world = shared();
        let home = world.cp.dir().join(format!("home-{name}"));
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        let key = home.join(".ssh/id_ed25519");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
        assert!(made.success());
        let line = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": name},
            "spec": {"members": [{"user": User::Alice.name(), "keys": [{"publicKey": line.trim()}]}]}});
        world.apply(User::Admin, &team).succeeds();
        let mut manifest = rule(name, name);
        manifest["spec"]["approval"] = json!({"proof": "Signature", "require": [{"anyOf": [name]}]});
        world.rule(&manifest);
        let namespace = world.unprotected();
        world.kubectl(User::Admin, &["label", "namespace", &namespace.name, &format!("rule={name}")]).succeeds();
        namespace.deployment("api");
        Self { home, namespace }
    }

    fn tagout(&self, user: User, args: &[&str]) -> Outcome {
        self.tagout_with(user, args, "")
    }

    fn tagout_with(&self, user: User, args: &[&str], input: &str) -> Outcome {
        let mut command = self.namespace.world.cp.kubectl(user);
        command.arg("tagout").args(args).args(["-n", &self.namespace.name]);
        command.env("HOME", &self.home).env_remove("SSH_AUTH_SOCK");
        Outcome::of(with_plugin(&mut command), input)
    }

    fn deletion(&self) -> Outcome {
        self.namespace.kubectl(User::Agent, &["delete", "deployment/api"])
    }
}

/// The command that a denial names, as words.
fn command_in(denial: &str) -> Vec<String> {
    let line = denial.split("kubectl tagout ").nth(1).expect("a command").lines().next().unwrap();
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_command_in_a_denial_signs_where_the_rule_asks_for_it_and_the_deletion_passes() {
    let signer = Signer::new("cli-signs");
    let denial = signer.deletion().is_refused(&["needs approval by 1 of cli-signs", "signed"]).err;
    let words = command_in(&denial);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.retain(|word| *word != "-n" && *word != signer.namespace.name);
    words.push("--yes");
    let shown = signer.tagout(User::Alice, &words).succeeds().out;
    assert!(shown.contains("Signed:") && shown.contains("SHA256:"), "{shown}");
    signer.deletion().succeeds();
}

#[test]
fn a_printed_approval_is_put_on_the_object_by_whoever_asked() {
    let signer = Signer::new("cli-prints");
    let printed = signer.tagout(User::Alice, &["approve", "deploy/api", "--print", "--yes"]).succeeds().out;
    let statements: Value = serde_json::from_str(&printed).expect("nothing but the list");
    assert_eq!(statements[0]["approver"], User::Alice.name());
    signer.deletion().is_refused(&["denied Delete"]);
    let annotation = format!("tagout.dev/approval={}", printed.trim());
    signer.namespace.kubectl(User::Agent, &["label", "deploy/api", "tagout.dev/approval=true"]).succeeds();
    signer.namespace.kubectl(User::Agent, &["annotate", "deploy/api", &annotation]).succeeds();
    signer.deletion().succeeds();

    let team = serde_json::to_string(&shared().get(&["approverteam/cli-prints"])).unwrap();
    let rule = serde_json::to_string(&shared().get(&["protectionrule/cli-prints"])).unwrap();
    let write = |name: &str, text: &str| {
        let file = signer.home.join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (team, rule, file) = (write("team.json", &team), write("rule.json", &rule), write("approval.json", &printed));
    let verify = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-tagout"));
        command.args(["verify", file, "--team", &team, "--rule", &rule]).env("KUBECONFIG", "/nowhere");
        Outcome::of(&mut command, "")
    };
    let said = verify(&file).succeeds().out;
    assert!(said.contains("Tagout approval, version 1") && !said.contains("FAILED"), "{said}");
    let forged = write("forged.json", &printed.replace("\"api\"", "\"other\""));
    let outcome = verify(&forged);
    assert!(!outcome.ok && outcome.out.contains("FAILED"), "{}{}", outcome.out, outcome.err);
}

#[test]
fn a_refused_request_is_reviewed_and_approved_by_its_id() {
    let signer = Signer::new("cli-reviews");
    let denial = signer.deletion().is_refused(&["Request: to-"]).err;
    let id = denial.split("Request: ").nth(1).unwrap()[..11].to_owned();
    eventually("the Event is there", || signer.tagout(User::Alice, &["review", &id]).ok);
    let said = signer.tagout(User::Alice, &["review", &id]).succeeds().out;
    for what in ["deployments.apps \"api\"", User::Agent.name(), "cli-reviews", User::Alice.name()] {
        assert!(said.contains(what), "{what} is not in {said}");
    }
    signer.tagout(User::Alice, &["review", "to-00000000"]).is_refused(&["to-00000000"]);
    signer.tagout(User::Alice, &["approve", &id, "--yes"]).succeeds();
    // For whoever asked, and nobody else.
    signer.namespace.kubectl(User::Ci, &["delete", "deployment/api"]).is_refused(&["it is for a request by"]);
    signer.deletion().succeeds();
    signer.namespace.deployment("api");
    signer.tagout(User::Alice, &["approve", &id, "--yes"]).is_refused(&["anew"]);
}

#[test]
fn an_approval_is_listed_everywhere_and_revoked_for_good() {
    let signer = Signer::new("cli-revokes");
    signer.tagout(User::Alice, &["approve", "deploy/api", "--yes"]).succeeds();
    let annotation = signer.namespace.get("deployment/api")["metadata"]["annotations"]["tagout.dev/approval"].clone();
    let listed = signer.tagout(User::Alice, &["get", "approvals"]).succeeds().out;
    assert!(listed.contains("api") && listed.contains(User::Alice.name()), "{listed}");
    let json: Value =
        serde_json::from_str(&signer.tagout(User::Alice, &["get", "approvals", "-o", "json"]).succeeds().out).unwrap();
    assert!(json.to_string().contains("sha256:"), "{json}");
    signer.namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]).succeeds();
    signer.tagout(User::Alice, &["revoke", "deploy/api"]).succeeds();
    let live = signer.namespace.get("deployment/api");
    assert!(live["metadata"]["annotations"]["tagout.dev/approval"].is_null(), "{live}");
    // Whoever kept a copy puts it back.
    let put_back = crate::world::presenting(&text(&annotation));
    signer.namespace.kubectl(User::Agent, &["patch", "deployment/api", "--type=merge", "-p", &put_back]).succeeds();
    eventually("the revocation is known", || {
        let trial = signer.namespace.kubectl(User::Agent, &["delete", "deployment/api", "--dry-run=server"]);
        trial.err.contains("it was revoked")
    });
    signer.deletion().is_refused(&["it was revoked"]);
}

#[test]
fn who_may_not_write_to_production_approves_beside_it() {
    let signer = Signer::new("cli-beside");
    let create = ["create", "-f", "-"];
    for manifest in [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "cli-beside-reader"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "cli-beside-reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cli-beside-reader"},
            "subjects": [{"kind": "User", "name": "dora@example.com", "apiGroup": "rbac.authorization.k8s.io"}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "cli-beside-approver"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tagout-approver"},
            "subjects": [{"kind": "User", "name": "dora@example.com", "apiGroup": "rbac.authorization.k8s.io"}]}),
    ] {
        shared().kubectl_with(User::Admin, &create, &manifest.to_string()).succeeds();
    }
    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "cli-beside-dora"},
        "spec": {"members": [{"user": "dora@example.com"}]}});
    shared().apply(User::Admin, &team).succeeds();
    let mut identity = rule("cli-beside-identity", "cli-beside-identity");
    identity["spec"]["approval"] = json!({"require": [{"anyOf": ["cli-beside-dora"]}]});
    shared().rule(&identity);
    let namespace = shared().unprotected();
    shared().kubectl(User::Admin, &["label", "namespace", &namespace.name, "rule=cli-beside-identity"]).succeeds();
    namespace.deployment("web");
    // Impersonation only spares this test a certificate of her own.
    let approve = ["tagout", "approve", "deploy/web", "-n", &namespace.name, "--yes", "--as=dora@example.com"];
    let said = shared().kubectl(User::Admin, &approve).succeeds();
    assert!((said.out + &said.err).contains("beside"), "she is told where it is");
    assert!(namespace.get("deployment/web")["metadata"]["annotations"]["tagout.dev/approval"].is_null());
    namespace.kubectl(User::Agent, &["delete", "deployment/web"]).succeeds();
    drop(signer);
}

#[test]
fn several_objects_are_approved_with_one_reading() {
    let signer = Signer::new("cli-several");
    signer.namespace.deployment("web");
    let said = signer.tagout(User::Alice, &["approve", "deploy/api", "deploy/web", "--yes"]).succeeds().out;
    assert!(said.contains("api") && said.contains("web"), "{said}");
    signer.namespace.kubectl(User::Agent, &["delete", "deployment", "api", "web"]).succeeds();
}

#[test]
fn without_a_key_that_the_team_lists_nothing_is_written_and_the_reason_is_said() {
    let signer = Signer::new("cli-keyless");
    std::fs::remove_dir_all(signer.home.join(".ssh")).unwrap();
    let refused = signer.tagout(User::Alice, &["approve", "deploy/api", "--yes"]).is_refused(&[]);
    assert!(refused.err.contains("SHA256:") || refused.err.contains("key"), "{}", refused.err);
    let live = signer.namespace.get("deployment/api");
    assert!(live["metadata"]["annotations"]["tagout.dev/approval"].is_null(), "{live}");
    let other = signer.home.join("other");
    Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).status().unwrap();
    let sign = format!("--sign={}", other.display());
    signer.tagout(User::Alice, &["approve", "deploy/api", "--yes", &sign]).is_refused(&["cli-keyless"]);
}

#[test]
fn completion_is_printed_without_a_cluster() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-tagout"));
        let said = Outcome::of(command.args(["completion", shell]).env("KUBECONFIG", "/nowhere"), "").succeeds().out;
        assert!(said.contains("approve"), "{shell}");
    }
}
