//! Tagout keeps itself as it is, leaves alone what is others' business, and is opened by people.

mod attacks;
mod definitions_lost;
mod opened;
mod put_back;

use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use controlplane::{ControlPlane, Options, User};
use serde_json::{Value, json};

use crate::world::{APPROVERS, Outcome, World, eventually, text};

const HOME: &str = "tagout-system";
pub const REFUSED: &str = "this would change what guards the cluster";

/// Held for writing by what has Tagout's pods replaced in the world that tests share, and for reading by what names one.
static PODS: RwLock<()> = RwLock::new(());

/// A world in which Tagout is locked.
pub fn locked() -> &'static World {
    static LOCKED: OnceLock<World> = OnceLock::new();
    LOCKED.get_or_init(start)
}

pub fn start() -> World {
    start_on(&Options::default())
}

fn start_on(options: &Options) -> World {
    let cp = Box::leak(Box::new(ControlPlane::start(options).expect("a control plane")));
    start_with(cp, &[])
}

fn start_with(cp: &'static ControlPlane, values: &[&str]) -> World {
    let values = [&APPROVERS[..], &["selfProtection.enabled=true"], values].concat();
    let world = World::installed(cp, &values);
    is_locked(&world);
    world
}

/// Until the API server refuses.
pub fn is_locked(world: &World) {
    eventually("Tagout is locked", || {
        let trial = ["-n", HOME, "delete", "deployment", "tagout", "--dry-run=server"];
        let cluster = ["delete", "validatingwebhookconfiguration", "tagout", "--dry-run=server"];
        world.kubectl(User::Agent, &trial).err.contains(REFUSED)
            && world.kubectl(User::Agent, &cluster).err.contains(REFUSED)
    });
}

fn home(world: &World, user: User, args: &[&str]) -> Outcome {
    world.kubectl(user, &[&["-n", HOME], args].concat())
}

/// One of Tagout's pods.
fn a_pod(world: &World) -> String {
    let pods = world.get(&["-n", HOME, "pods", "-l", "app.kubernetes.io/name=tagout"]);
    text(&pods["items"][0]["metadata"]["name"])
}

fn bogus_owner() -> String {
    json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x",
        "uid": "0b4f0c1e-1f0a-4d1e-9d53-00000000dead"}]}})
    .to_string()
}

fn in_home(api_version: &str, kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": HOME}});
    for (key, value) in rest.as_object().expect("fields") {
        object[key] = value.clone();
    }
    object
}

#[test]
fn what_others_do_in_tagouts_namespace_and_beside_it_passes() {
    let world = locked();
    let _replaced = PODS.write().unwrap_or_else(PoisonError::into_inner);
    home(world, User::Ci, &["rollout", "restart", "deployment/tagout"]).succeeds();
    home(world, User::Ci, &["rollout", "status", "deployment/tagout", "--timeout=120s"]).succeeds();
    let pod = a_pod(world);
    home(world, User::Ci, &["delete", "pod", &pod, "--wait=false"]).succeeds();
    home(world, User::Ci, &["rollout", "status", "deployment/tagout", "--timeout=120s"]).succeeds();
    let pod = a_pod(world);
    let eviction = in_home("policy/v1", "Eviction", &pod, &json!({}));
    let raw = format!("/api/v1/namespaces/{HOME}/pods/{pod}/eviction");
    world.kubectl_with(User::Ci, &["create", "--raw", &raw, "-f", "-"], &eviction.to_string()).succeeds();
    for args in [
        &["create", "configmap", "mesh-root"][..],
        &["create", "secret", "docker-registry", "pull", "--docker-username=a", "--docker-password=b"],
        &["patch", "serviceaccount", "default", "-p", r#"{"imagePullSecrets":[{"name":"pull"}]}"#],
        &["create", "rolebinding", "auditors", "--clusterrole=view", "--user=carol@example.com"],
        &["delete", "secret", "pull"],
        &["delete", "secret", "tagout-epoch", "--dry-run=server"],
    ] {
        home(world, User::Ci, args).succeeds();
    }
    let pod = a_pod(world);
    home(world, User::Ci, &["annotate", "pod", &pod, "ovn.kubernetes.io/allocated=true"]).succeeds();
    // What writes everything anew, to have it encrypted with another key, changes nothing.
    for kind in ["secrets", "deployments", "serviceaccounts"] {
        let all = home(world, User::Admin, &["get", kind, "-o", "json"]).succeeds().out;
        let replaced = world.kubectl_with(User::Ci, &["replace", "-f", "-"], &all);
        assert!(!replaced.err.contains(REFUSED), "{kind}: {}", replaced.err);
    }
    for args in [
        &["label", "namespace", HOME, "team=platform"][..],
        &["create", "clusterrole", "others", "--verb=get", "--resource=pods"],
        &["delete", "clusterrole", "others"],
        &["create", "namespace", "others"],
        &["delete", "namespace", "others"],
    ] {
        world.kubectl(User::Ci, args).succeeds();
    }
    let foreign = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "others"}});
    world.apply(User::Ci, &foreign).succeeds();
    world.kubectl(User::Ci, &["delete", "validatingwebhookconfiguration", "others"]).succeeds();
}

#[test]
fn a_grant_that_nobody_gave_is_none_and_nobody_takes_a_say_in_the_lock() {
    let world = start();
    let planted = json!({"agent-7": {"requester": "agent-7", "approvers": [], "broke_glass": false,
        "until": "2099-01-01T00:00:00Z", "statements": []}});
    let secret = in_home("v1", "Secret", "tagout-unlocks", &json!({"stringData": {"granted": planted.to_string()}}));
    // In the second in which nothing keeps it from being written.
    eventually("it is planted", || {
        world.kubectl(User::Admin, &["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]);
        world.apply(User::Agent, &secret).ok
    });
    thread::sleep(Duration::from_secs(12));
    is_locked(&world);
    assert!(world.metrics().lines().any(|line| line == "tagout_unlocked 0"));

    let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "evil"},
        "spec": {"members": [{"user": "agent-7"}]}});
    world.apply(User::Agent, &team).succeeds();
    let mut rule = crate::world::rule("evil", "evil");
    rule["spec"]["actions"] = json!(["Delete", "Unlock"]);
    rule["spec"]["approval"]["require"] = json!([{"anyOf": ["evil"]}]);
    world.apply(User::Agent, &rule).is_refused(&["labelled-namespaces"]);
    world.end();
}

/// As the Job of an upgrade writes them. None of them may take rules away, or have somebody else say what they are.
fn definitions_of_another_version_pass_for_ci_alone(world: &World) {
    let definition = |user: User, args: &[&str]| {
        world.kubectl(user, &[args, &["customresourcedefinition", "ledgers.tagout.dev", "--dry-run=server"]].concat())
    };
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/next";
    let newer = json!([{"op": "add", "path": field, "value": {"type": "string"}}]).to_string();
    let converter = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com"}}}}})
    .to_string();
    definition(User::Agent, &["patch", "--type=json", "-p", &newer]).is_refused(&["denied Loosen"]);
    definition(User::Ci, &["patch", "--type=json", "-p", &newer]).succeeds();
    definition(User::Ci, &["patch", "--type=merge", "-p", &converter]).is_refused(&["denied Loosen"]);
    definition(User::Ci, &["delete"]).is_refused(&["denied Loosen"]);
}

#[test]
fn people_unlock_it_for_one_user_and_a_time_and_uninstalling_leaves_nothing() {
    let world = start();
    let production = world.production();
    production.deployment("api");
    let unlock = |user: User, args: &[&str]| world.kubectl(user, &[&["tagout", "unlock"], args].concat());
    let scale = |user: User| home(&world, user, &["scale", "deployment", "tagout", "--replicas=3", "--dry-run=server"]);
    let for_ci: &[&str] = &["--requester=ci-deployer", "--for=10m", "--reason=upgrade", "--yes"];
    unlock(User::Agent, for_ci).is_refused(&["in none of the teams"]);
    unlock(User::Alice, &["--requester=alice@example.com", "--yes"]).is_refused(&["approve their own request"]);
    unlock(User::Alice, &["--requester=system:kube-scheduler", "--yes"]).is_refused(&["one of Kubernetes' own"]);
    unlock(User::Alice, &["--requester=ci-deployer", "--for=2h", "--yes"]).is_refused(&["too long"]);
    scale(User::Ci).is_refused(&[REFUSED]);

    let said = unlock(User::Alice, for_ci).succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    scale(User::Ci).succeeds();
    scale(User::Agent).is_refused(&[REFUSED]);
    let pod = a_pod(&world);
    home(&world, User::Ci, &["exec", &pod, "--", "sh"]).is_refused(&[REFUSED]);
    home(&world, User::Ci, &["create", "token", "tagout"]).is_refused(&[REFUSED]);
    assert!(world.metrics().lines().any(|line| line == "tagout_unlocked 1"));
    definitions_of_another_version_pass_for_ci_alone(&world);
    // Nobody else gets in beside: what is taken away meanwhile comes back.
    world.kubectl(User::Agent, &["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]).succeeds();
    eventually("it is locked for the others", || scale(User::Agent).err.contains(REFUSED));
    scale(User::Ci).succeeds();
    eventually("there is an Event", || {
        let events = world.get(&["events.events.k8s.io", "--field-selector=reason=Unlocked"]);
        !events["items"].as_array().expect("a list").is_empty()
    });
    unlock(User::Alice, &["--end"]).succeeds();
    eventually("it is locked again", || scale(User::Ci).err.contains(REFUSED));
    production.kubectl(User::Ci, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);

    // By itself, too.
    unlock(User::Alice, &["--requester=ci-deployer", "--for=20s", "--yes"]).succeeds();
    eventually("it is locked again", || scale(User::Ci).err.contains(REFUSED));

    let uninstall = || {
        let mut helm = world.cp.helm(User::Admin);
        Outcome::of(helm.args(["uninstall", "tagout", "--wait", "--namespace", HOME]), "")
    };
    assert!(!uninstall().ok);
    for guard in ["validatingwebhookconfiguration/tagout", "validatingadmissionpolicy/tagout-home"] {
        world.kubectl(User::Admin, &["get", guard]).succeeds();
    }
    home(&world, User::Admin, &["get", "deployment/tagout", "service/tagout", "role/tagout"]).succeeds();
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    unlock(User::Alice, &["--requester=admin", "--for=10m", "--yes"]).succeeds();
    uninstall().succeeds();
    for kind in ["validatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings"]
    {
        eventually("nothing of it is left", || {
            !world.kubectl(User::Admin, &["get", kind, "-o", "name"]).succeeds().out.contains("tagout")
        });
    }
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).succeeds();
    world.kubectl(User::Admin, &["delete", "namespace", HOME]).succeeds();
    world.end();
}

#[test]
fn with_no_replica_left_the_emergency_exit_is_open_and_nothing_else() {
    let mut world = start();
    world.tagout.kill().expect("it is killed");
    home(&world, User::Admin, &["delete", "deployment", "tagout"]).is_refused(&[REFUSED]);
    let admin = |args: &[&str]| world.kubectl(User::Admin, args);
    admin(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]).succeeds();
    eventually("it can be removed", || admin(&["delete", "validatingwebhookconfiguration", "tagout"]).ok);
    eventually("nothing is left", || {
        !admin(&["get", "validatingwebhookconfigurations,validatingadmissionpolicies", "-o", "name"])
            .succeeds()
            .out
            .contains("tagout")
    });
    let mut helm = world.cp.helm(User::Admin);
    Outcome::of(helm.args(["uninstall", "tagout", "--namespace", HOME]), "").succeeds();
    world.end();
}

#[test]
fn with_the_api_servers_own_files_nobody_takes_the_lock_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).expect("a folder");
    let plugin = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-tagout"))
        .args(["static-manifest", "--exempt=alice@example.com"])
        .output()
        .expect("it runs");
    std::fs::write(manifests.join("tagout.yaml"), plugin.stdout).expect("it is written");
    let configuration = folder.path().join("admission.yaml");
    let inner = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ValidatingAdmissionPolicyConfiguration",
        "staticManifestsDir": manifests});
    let outer = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ValidatingAdmissionPolicy", "configuration": inner}]});
    std::fs::write(&configuration, outer.to_string()).expect("it is written");
    let options = Options {
        extra_apiserver_args: vec![
            "--feature-gates=ManifestBasedAdmissionControlConfig=true".to_owned(),
            format!("--admission-control-config-file={}", configuration.display()),
        ],
        ..Options::default()
    };
    let mut world = start_on(&options);
    for kind in ["validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
        let all = format!("/apis/admissionregistration.k8s.io/v1/{}s", kind.replace("policy", "policie"));
        let all = all.replace("policiebindings", "policybindings");
        world.kubectl(User::Agent, &["delete", kind, "tagout", "tagout-home"]).is_refused(&[REFUSED]);
        world.kubectl(User::Agent, &["delete", "--raw", &all]).is_refused(&[REFUSED]);
        let owner = bogus_owner();
        world.kubectl(User::Agent, &["patch", kind, "tagout", "--type=merge", "-p", &owner]).is_refused(&[REFUSED]);
    }
    // It is opened by people as without those files.
    let unlock = ["tagout", "unlock", "--requester=ci-deployer", "--for=10m", "--reason=upgrade", "--yes"];
    let said = world.kubectl(User::Alice, &unlock).succeeds().out;
    assert!(said.contains("unlocked for ci-deployer"), "{said}");
    let scale = |user: User| home(&world, user, &["scale", "deployment", "tagout", "--replicas=3", "--dry-run=server"]);
    scale(User::Ci).succeeds();
    scale(User::Agent).is_refused(&[REFUSED]);
    let exit = ["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"];
    world.kubectl(User::Ci, &exit).is_refused(&[REFUSED]);
    world.kubectl(User::Alice, &["tagout", "unlock", "--end"]).succeeds();
    eventually("it is locked again", || scale(User::Ci).err.contains(REFUSED));
    // With no replica left it stands, and whoever was named gets out.
    world.tagout.kill().expect("it is killed");
    world.kubectl(User::Agent, &exit).is_refused(&[REFUSED]);
    world.kubectl(User::Alice, &exit).succeeds();
    world.end();
}

#[test]
fn who_cannot_reach_tagout_can_remove_it_though_a_replica_lives() {
    let mut world = start();
    let production = world.production();
    production.deployment("api");
    let name = production.name.clone();
    // It lives, and is not where the API server looks for it.
    let mut unreached = world.tagout.replica("unreached").expect("it starts");
    world.tagout.kill().expect("it is killed");
    let production = world.borrowed(&name);
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["failed calling webhook"]);
    let admin = |args: &[&str]| world.kubectl(User::Admin, args);
    let removed = || {
        admin(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home", "--ignore-not-found"]);
        admin(&["delete", "validatingwebhookconfiguration", "tagout", "--ignore-not-found"]).ok
    };
    let gone = || {
        let left = admin(&["get", "validatingwebhookconfigurations", "-o", "name"]).succeeds().out;
        !left.contains("configuration.admissionregistration.k8s.io/tagout\n")
    };
    // What stands there it has to have seen.
    thread::sleep(Duration::from_secs(15));
    let mut put_back = 0;
    // It gives up after two minutes.
    for _ in 0..20 {
        removed();
        thread::sleep(Duration::from_secs(12));
        if gone() {
            break;
        }
        put_back += 1;
    }
    assert!((1..20).contains(&put_back), "it was put back {put_back} times");
    eventually("the cluster works", || production.kubectl(User::Agent, &["delete", "deployment", "api"]).ok);
    unreached.kill().and_then(|()| unreached.wait()).expect("it is killed");
    world.end();
}
