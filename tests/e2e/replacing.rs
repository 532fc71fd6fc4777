//! Tagout is replaced by Tagout, while objects are deleted all the time.

use std::fs;
use std::process::Command;

use controlplane::User;
use controlplane::installation::{NAMESPACE, run};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::load::Load;
use crate::world::{LOCKED, World, chart, eventually, text};

const ROLLED_OUT: [&str; 4] = ["rollout", "status", "deployment/tagout", "--timeout=180s"];

pub fn a_restart_of_the_rollout_under_load_fails_no_call(world: &World) {
    let load = Load::start(world);
    world.kubectl_at_home(&["rollout", "restart", "deployment/tagout"]).succeeds();
    world.kubectl_at_home(&ROLLED_OUT).succeeds();
    // The last of the old ones is still on its way out.
    world.settle();
    load.stop().is_flawless();
}

pub fn changed_values_and_the_way_back_under_load_fail_no_call(world: &World) {
    let load = Load::start(world);
    upgrade(world, &["--set", "log=tagout=debug"]);
    load.go_on(20);
    world.helm(&["rollback", "tagout", "1", "--wait"]).succeeds();
    world.settle();
    load.stop().is_flawless();
}

/// The fields that the version before did not have are taken out, as if it had been installed.
pub fn an_upgrade_from_a_version_whose_definitions_lack_a_field_brings_it_and_fails_no_call(world: &World) {
    const DEFINITION: [&str; 2] = ["customresourcedefinition", "protectionrules.tagout.dev"];
    let freeze = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/freeze";
    let knows = || world.get(&DEFINITION).pointer(freeze).is_some();
    assert!(knows());
    let older = json!([{"op": "remove", "path": freeze}]).to_string();
    world.kubectl_at_home(&[&["patch"], &DEFINITION[..], &["--type=json", "-p", &older]].concat()).succeeds();
    assert!(!knows());
    let load = Load::start(world);
    upgrade(world, &["--set", "podAnnotations.version=next"]);
    assert!(knows(), "the Job of the upgrade has written the definitions");
    for left in ["job/tagout-crds", "serviceaccount/tagout-crds", "clusterrole/tagout-crds"] {
        world.kubectl(User::Admin, &["get", "-n", NAMESPACE, left]).is_refused(&["not found"]);
    }
    world.helm(&["rollback", "tagout", "1", "--wait"]).succeeds();
    world.settle();
    assert!(knows(), "an older version lives with definitions of a newer one");
    load.stop().is_flawless();
}

pub fn whoever_was_not_let_cannot_upgrade_and_nothing_changes(world: &World) {
    let deployment = || world.get(&["deployment", "tagout", "-n", NAMESPACE])["metadata"]["generation"].clone();
    let before = deployment();
    let chart = chart();
    let mut helm = world.cp.helm(User::Agent);
    helm.args(["upgrade", "tagout", &chart, "--namespace", NAMESPACE, "--reuse-values", "--set", "replicas=1"]);
    crate::world::Outcome::of(&mut helm, "").is_refused(&[LOCKED]);
    assert_eq!(deployment(), before);
    // It does not stand half done in anybody's way.
    let status = world.helm(&["status", "tagout"]).succeeds();
    assert!(status.out.contains("STATUS: deployed"), "{}", status.out);
}

pub fn helms_own_test_finds_tagout_ready_behind_its_service(world: &World) {
    let tested = world.helm(&["test", "tagout", "--timeout=120s"]).succeeds();
    assert!(tested.out.contains("Phase:          Succeeded"), "{}", tested.out);
}

/// First by hand, by one that will soon run out; which Tagout then replaces by one of its own. Each time in three steps.
pub fn the_authority_is_replaced_twice_under_load_without_a_failed_call(world: &World) {
    upgrade(world, &["--set", "extraArgs={--authority-overlap=5s}"]);
    let secret = || world.get(&["secret", "tagout-certificates", "-n", NAMESPACE])["data"].clone();
    let trusted =
        || world.get(&["validatingwebhookconfiguration", "tagout"])["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let before = text(&secret()["ca.crt"]);
    assert_eq!(trusted(), before);
    let load = Load::start(world);
    let (theirs, parts) = made_by_hand();
    let put = json!({"stringData": parts}).to_string();
    world.kubectl_at_home(&["patch", "secret", "tagout-certificates", "-p", &put]).succeeds();
    let one = |encoded: &str| decoded(encoded).matches("BEGIN").count() == 1;
    let now = || text(&secret()["ca.crt"]);
    eventually("both are trusted", || decoded(&text(&trusted())).contains(theirs.trim()));
    eventually("a third authority is trusted, and it alone", || {
        let now = now();
        one(&now) && now != before && decoded(&now).trim() != theirs.trim() && trusted() == now
    });
    load.go_on(50);
    world.helm(&["rollback", "tagout", "1", "--wait"]).succeeds();
    world.settle();
    load.stop().is_flawless();
}

/// An authority that lives for a month, and a certificate by it.
fn made_by_hand() -> (String, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=hand -keyout ca.key -out ca.crt
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=hand -keyout tls.key -out tls.csr
         printf 'subjectAltName=critical,DNS:tagout.{NAMESPACE}.svc\\nextendedKeyUsage=serverAuth\\n' > names
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile names -out tls.crt"
    );
    run(Command::new("sh").args(["-e", "-c", &script]).current_dir(folder.path()), "").expect("certificates");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("it was made");
    let parts = ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| (name.to_owned(), json!(read(name))));
    (read("ca.crt"), Value::Object(parts.into_iter().collect()))
}

fn decoded(encoded: &str) -> String {
    let bytes: ByteString = serde_json::from_value(json!(encoded)).expect("Base64");
    String::from_utf8(bytes.0).expect("PEM")
}

/// Returns when the pods are those of the new release.
fn upgrade(world: &World, values: &[&str]) {
    let chart = chart();
    let upgrade = ["upgrade", "tagout", &chart, "--reuse-values", "--wait", "--timeout=180s"];
    world.helm(&[&upgrade[..], values].concat()).succeeds();
    world.settle();
}
