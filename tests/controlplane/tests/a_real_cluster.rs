//! That the control plane does what a cluster does. Slow at first: builds the control plane.

use std::process::Command;

use controlplane::{ControlPlane, Options, User};

#[test]
#[ignore = "builds and starts a whole control plane: run with `--ignored`"]
fn a_deployment_rolls_out_and_its_namespace_goes_when_deleted() {
    let cp = ControlPlane::start(&Options::default()).unwrap();
    let alice = |args: &str| run(cp.kubectl(User::Alice).args(args.split(' ')));

    alice("create namespace shop");
    alice("create deployment web -n shop --image=web --replicas=3");
    alice("rollout status deployment/web -n shop --timeout=60s");
    assert!(run(cp.helm(User::Ci).arg("version")).contains("v4."));
    assert!(run(cp.helm(User::Ci).args(["list", "--all-namespaces"])).contains("NAMESPACE"));

    cp.kill_apiserver().unwrap();
    assert!(!cp.kubectl(User::Carol).args(["get", "nodes"]).output().unwrap().status.success());
    cp.restart_apiserver().unwrap();

    alice("delete namespace shop --timeout=60s");
    assert!(cp.apiserver_metrics().unwrap().contains("apiserver_request_total"));
    let audit = std::fs::read_to_string(cp.audit_log()).unwrap();
    assert!(audit.contains("\"username\":\"system:serviceaccount:kube-system:namespace-controller\""));
}

#[test]
#[ignore = "builds and starts a whole control plane: run with `--ignored`"]
fn controllers_can_share_one_identity_and_service_accounts_have_tokens() {
    let cp = ControlPlane::start(&Options { share_controller_credentials: true, ..Options::default() }).unwrap();
    let admin = |args: &str| run(cp.kubectl(User::Admin).args(args.split(' ')));

    admin("create deployment web --image=web");
    admin("rollout status deployment/web --timeout=60s");
    let token = admin("create token default");
    let kubeconfig = cp.write_kubeconfig("system:serviceaccount:default:default", token.trim()).unwrap();

    let who = run(cp.kubectl_with(&kubeconfig).args(["auth", "whoami"]));
    assert!(who.contains("system:serviceaccount:default:default"));
    let audit = std::fs::read_to_string(cp.audit_log()).unwrap();
    assert!(!audit.contains("serviceaccount:kube-system:replicaset-controller"));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
