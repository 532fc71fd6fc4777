//! What was changed by hand is put back.

use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::json;

use super::{bogus_owner, home, is_locked, start};
use crate::world::{World, eventually, text};

#[test]
fn what_guards_comes_back_within_seconds_and_everybody_is_told() {
    let world = start();
    let production = world.production();
    production.deployment("api");
    let admin = |args: &[&str]| world.kubectl(User::Admin, args);
    let uid = || text(&world.get(&["validatingadmissionpolicybinding/tagout-home"])["metadata"]["uid"]);
    let before = uid();
    admin(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]).succeeds();
    eventually("the bindings are back", || {
        let again = admin(&["get", "validatingadmissionpolicybinding", "tagout-home", "-o", "name"]);
        again.ok && uid() != before
    });
    is_locked(&world);
    for patch in [r#"{"spec":{"validationActions":["Audit"]}}"#, r#"{"metadata":{"finalizers":["example.com/stay"]}}"#]
    {
        admin(&["patch", "validatingadmissionpolicybinding", "tagout", "--type=merge", "-p", patch]).succeeds();
    }
    let open = r#"[{"op":"replace","path":"/spec/validations/0/expression","value":"true"}]"#;
    admin(&["patch", "validatingadmissionpolicy", "tagout-home", "--type=json", "-p", open]).succeeds();
    eventually("all is as it was", || {
        let binding = world.get(&["validatingadmissionpolicybinding/tagout"]);
        let policy = world.get(&["validatingadmissionpolicy/tagout-home"]);
        binding["spec"]["validationActions"] == json!(["Deny"])
            && binding["metadata"]["finalizers"].is_null()
            && policy["spec"]["validations"][0]["expression"] != "true"
    });
    is_locked(&world);
    assert!(world.metrics().contains("tagout_drift_repaired_total{kind=\"ValidatingAdmissionPolicyBinding\"}"));
    eventually("there is an Event", || {
        let events = world.get(&["events.events.k8s.io", "--field-selector=reason=GuardRestored"]);
        !events["items"].as_array().expect("a list").is_empty()
    });

    // A mark of a later version holds it up for a minute, and no longer.
    let later = r#"{"metadata":{"annotations":{"tagout.dev/compiler":"999"}}}"#;
    for patch in [&["--type=merge", "-p", later][..], &["--type=json", "-p", open]] {
        admin(&[&["patch", "validatingadmissionpolicy", "tagout-home"], patch].concat()).succeeds();
    }
    thread::sleep(Duration::from_mins(1));
    is_locked(&world);

    // And behind it, what owns all that guards. In whatever way it goes.
    for cascade in ["--cascade=background", "--cascade=foreground"] {
        removed_and_put_back(&world, cascade);
    }
    eventually("rules are in force again", || {
        admin(&["get", "validatingwebhookconfiguration", "tagout-production"]).ok
            && !production.kubectl(User::Agent, &["delete", "deployment", "api", "--dry-run=server"]).ok
    });
    thread::sleep(Duration::from_secs(10));
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
    world.end();
}

/// Tagout gives up where nobody reaches it for two minutes. That somebody else's webhook fails is not that.
#[test]
fn a_webhook_that_fails_in_tagouts_name_does_not_make_it_give_up() {
    let world = start();
    let fails = |name: &str, operation: &str, resource: &str| {
        json!({"name": name, "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1"}, "rules": [{"operations": [operation],
                "apiGroups": ["tagout.dev"], "apiVersions": ["*"], "resources": [resource]}]})
    };
    let others = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "others"}, "webhooks": [fails("records.tagout.dev", "DELETE", "ledgers"),
            fails("stored-approvals.tagout.dev", "CREATE", "approvals")]});
    world.apply(User::Agent, &others).succeeds();
    eventually("it fails", || {
        let trial = ["delete", "ledgers.tagout.dev", "canary.tagout.dev", "--dry-run=server"];
        world.kubectl(User::Agent, &trial).err.contains("failed calling webhook \"records.tagout.dev\"")
    });
    thread::sleep(Duration::from_secs(135));
    removed_and_put_back(&world, "--cascade=background");
    world.end();
}

fn removed_and_put_back(world: &World, cascade: &str) {
    let admin = |args: &[&str]| world.kubectl(User::Admin, args);
    let uid = || text(&world.get(&["validatingwebhookconfigurations"])["items"][0]["metadata"]["uid"]);
    let before = uid();
    eventually("it is removed", || {
        admin(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home", "--wait=false"]);
        admin(&["delete", "validatingwebhookconfiguration", "tagout", cascade]).ok
    });
    eventually("it is back", || admin(&["get", "validatingwebhookconfiguration", "tagout"]).ok && uid() != before);
    is_locked(world);
}

#[test]
fn whatever_way_it_was_taken_away_it_comes_back() {
    let world = start();
    let admin = |args: &[&str]| world.kubectl(User::Admin, args);
    let kinds = ["validatingadmissionpolicy", "validatingadmissionpolicybinding"];
    let uids = |kind: &str| {
        ["tagout", "tagout-home"].map(|name| admin(&["get", kind, name, "-o", "jsonpath={.metadata.uid}"]).out)
    };
    let others = |before: &[String; 2], now: &[String; 2]| {
        before.iter().zip(now).all(|(before, now)| !now.is_empty() && before != now)
    };
    let ours = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtagout";
    let of = |kind: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}?{ours}");
    let [policies, bindings] = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"].map(of);
    let ways: [(&str, Vec<&str>); 3] = [
        (kinds[0], vec!["delete", kinds[0], "tagout", "tagout-home"]),
        (kinds[1], vec!["delete", "--raw", &bindings]),
        (kinds[0], vec!["delete", "--raw", &policies]),
    ];
    for (kind, args) in ways {
        let before = uids(kind);
        admin(&args).succeeds();
        eventually(&format!("both are back after {args:?}"), || others(&before, &uids(kind)));
        is_locked(&world);
    }

    // With an owner that is not there, the garbage collector takes it, if nobody is faster.
    for kind in kinds {
        let owners = || admin(&["get", kind, "tagout-home", "-o", "jsonpath={.metadata.ownerReferences}"]).out;
        let before = owners();
        assert!(before.contains("ValidatingWebhookConfiguration"), "{before}");
        admin(&["patch", kind, "tagout-home", "--type=merge", "-p", &bogus_owner()]).succeeds();
        eventually("it has its owner again", || owners() == before);
    }
    thread::sleep(Duration::from_secs(10));
    is_locked(&world);
    for kind in kinds {
        assert!(uids(kind).iter().all(|uid| !uid.is_empty()), "{:?}", uids(kind));
    }
    home(&world, User::Agent, &["delete", "service", "tagout"]).is_refused(&[super::REFUSED]);
    world.end();
}
