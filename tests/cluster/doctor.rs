//! `kubectl tagout doctor`: silent on a clean cluster, and finding each opening that somebody makes.

mod openings;

use controlplane::{Options, User};
use serde_json::{Value, json};

use crate::lock;
use crate::world::{World, shared, with_plugin};

/// Whoever may read what doctor reads, and nothing else.
const READER: &str = "reader@example.com";

/// What the harness binds so that everyone may everything, and the simulated nodes too.
const OF_THE_HARNESS: [&str; 2] = ["everyone-has-every-right", "simulated-nodes"];

/// A world of doctor's own, cleaned, with a reader in it.
fn clean() -> World {
    let world = lock::start();
    for binding in OF_THE_HARNESS {
        world.kubectl(User::Admin, &["delete", "clusterrolebinding", binding]).succeeds();
    }
    let grant = ["create", "clusterrolebinding", "reader", "--clusterrole=tagout-doctor", "--user", READER];
    world.kubectl(User::Admin, &grant).succeeds();
    world
}

/// What doctor says to a reader, with its exit code.
struct Said {
    code: i32,
    report: Value,
}

fn doctor(world: &World, args: &[&str]) -> Said {
    doctor_as(world, READER, args)
}

fn doctor_as(world: &World, user: &str, args: &[&str]) -> Said {
    run(world, &[&["--as", user], args].concat())
}

fn run(world: &World, args: &[&str]) -> Said {
    let mut command = world.cp.kubectl(User::Admin);
    command.args(["tagout", "doctor", "-o", "json"]).args(args);
    let output = with_plugin(&mut command).output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("text");
    let report = serde_json::from_str(&out).unwrap_or_else(|_| json!({"err": String::from_utf8_lossy(&output.stderr)}));
    Said { code: output.status.code().expect("it ended"), report }
}

impl Said {
    fn findings(&self) -> Vec<&Value> {
        self.report["findings"].as_array().map(|all| all.iter().collect()).unwrap_or_default()
    }

    /// The one finding of this name about this object.
    #[track_caller]
    fn finds(&self, id: &str, object: &str) -> &Value {
        let found = self.findings().into_iter().find(|one| one["id"] == id && one["object"] == object);
        found.unwrap_or_else(|| panic!("no {id} about {object} in {:#}", self.report))
    }

    fn ids(&self, above: &str) -> Vec<String> {
        let all = self.findings().into_iter().filter(|one| one["severity"] != above);
        all.map(|one| format!("{} {}", one["id"], one["object"])).collect()
    }
}

#[test]
fn a_clean_cluster_with_the_charts_defaults_has_nothing_to_say_to_a_reader() {
    let mut world = clean();
    let said = doctor(&world, &[]);
    assert_eq!(said.ids("note"), Vec::<String>::new(), "{:#}", said.report);
    assert_eq!(said.report["incomplete"], json!([]), "{:#}", said.report);
    assert_eq!(said.code, 0);
    assert_eq!(said.report["schemaVersion"], "tagout.dev/doctor/v1");
    assert_eq!(said.report["cluster"], world.cluster().as_str());
    assert_eq!(said.report["user"], READER);
    // What the chart does by itself is no fault until it is to be the last word.
    let hardened = doctor(&world, &["--stage=hardened"]);
    assert_eq!(hardened.code, 3);
    hardened.finds("proof-identity", "ProtectionRule/production");
    hardened.finds("group-of-unknown-size", "ApproverTeam/approvers");
    assert_eq!(doctor(&world, &["--fail-on=note"]).code, 3);

    // An administrator as kubeadm makes one is no fault either, and no secret.
    let admins = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "kubeadm:cluster-admins"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}],
    });
    world.apply(User::Admin, &admins).succeeds();
    let said = doctor_as(&world, "kubernetes-admin", &["--as-group=kubeadm:cluster-admins"]);
    assert_eq!(said.ids("note"), Vec::<String>::new(), "{:#}", said.report);
    assert_eq!(said.code, 0);
    said.finds("managed-rights", "Provider/kubeadm:cluster-admins");

    openings::of_access(&world);
    openings::of_admission(&world);
    openings::of_rules_and_teams(&world);
    openings::of_namespaces_and_approvals(&world);
    openings::of_apis(&world);
    openings::of_tagout_itself(&mut world);
    world.end();
}

#[test]
fn what_may_not_be_read_is_said_and_makes_an_exit_code_of_its_own() {
    let world = shared();
    let grant =
        ["create", "clusterrolebinding", "doctors-viewer", "--clusterrole=tagout-viewer", "--user=viewer@example.com"];
    world.kubectl(User::Admin, &grant).succeeds();
    let said = doctor_as(world, "viewer@example.com", &["--fail-on=danger", "--config", &ignoring_the_lock()]);
    assert_eq!(said.code, 4, "{:#}", said.report);
    // What is ignored is counted and shown.
    assert_eq!(said.report["summary"]["ignored"], 1, "{:#}", said.report);
    assert_eq!(said.report["ignored"][0]["id"], "lock-open");
    assert_eq!(said.report["ignored"][0]["ignored"]["owner"], "tests");
    let unread = said.report["incomplete"].as_array().expect("a list");
    for what in ["clusterroles", "mutatingwebhookconfigurations", "certificatesigningrequests", "apiservices"] {
        assert!(unread.iter().any(|one| one["what"] == what), "{what}: {:#}", said.report);
    }
    let checks = ["access", "admission", "rules", "namespaces", "approvals", "teams", "versions", "tagout"];
    let allowing: Vec<String> = checks.iter().map(|check| format!("--allow-incomplete={check}")).collect();
    let config = ignoring_the_lock();
    let mut args = vec!["--fail-on=danger", "--config", &config];
    args.extend(allowing.iter().map(String::as_str));
    assert_eq!(doctor_as(world, "viewer@example.com", &args).code, 0);
    // Who may not even read rules is told so.
    let nobody = doctor_as(world, "nobody@example.com", &[]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.report["err"].as_str().is_some_and(|err| err.contains("protectionrules")), "{:#}", nobody.report);
}

/// The tests of others go without the lock.
fn ignoring_the_lock() -> String {
    let file = std::env::temp_dir().join(format!("doctor-{}.yaml", std::process::id()));
    let text =
        "ignore:\n- {id: lock-open, object: Tagout/lock, reason: the tests change Tagout itself, owner: tests}\n";
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn an_api_server_that_allows_by_other_means_than_rbac_is_noticed() {
    // Behind those of the harness.
    let flag = "--authorization-mode=AlwaysAllow".to_owned();
    let world = World::start(&Options { extra_apiserver_args: vec![flag], ..Options::default() });
    let said = doctor(&world, &[]);
    said.finds("other-authorization", "APIServer/authorization");
    said.finds("lock-open", "Tagout/lock");
    // The harness gives groups of people everything.
    let developers = said.finds("cluster-admins", "Group/developers");
    assert_eq!(developers["severity"], "warning");
    assert_eq!(said.code, 3);
    let text = world.kubectl(User::Admin, &["tagout", "doctor", "--as", READER]);
    assert!(!text.ok && text.out.starts_with("DANGER"), "{}", text.out);
    assert!(text.out.contains("kubectl edit clusterrolebinding everyone-has-every-right"), "{}", text.out);
    world.end();
}
