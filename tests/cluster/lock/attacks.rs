//! What is refused, attack by attack.

use std::sync::PoisonError;

use controlplane::{ControlPlane, Options, User};
use serde_json::{Value, json};

use super::{HOME, PODS, REFUSED, a_pod, bogus_owner, home, in_home, locked, start_with};
use crate::certificates::made_elsewhere;
use crate::world::{deployment, eventually, text};

#[test]
fn nobody_weakens_removes_or_impersonates_the_guard_who_was_not_let() {
    let world = locked();
    let _named = PODS.read().unwrap_or_else(PoisonError::into_inner);
    let owner = bogus_owner();
    let account = "--as=system:serviceaccount:tagout-system:tagout";
    let collector = "--as=system:serviceaccount:kube-system:generic-garbage-collector";
    let namespaces = "--as=system:serviceaccount:kube-system:namespace-controller";
    let ignore = r#"[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]"#;
    let all = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let marked = ["annotate", "validatingwebhookconfiguration", "tagout-production", "tagout.dev/compiler=999"];
    let of_the_cluster: [&[&str]; 18] = [
        &[&marked[..], &["--overwrite"]].concat(),
        &["delete", "validatingwebhookconfiguration", "tagout"],
        &["delete", "validatingwebhookconfiguration", "tagout", "--cascade=orphan"],
        &["delete", "validatingwebhookconfiguration", "tagout-production"],
        &["delete", "--raw", all],
        &["patch", "validatingwebhookconfiguration", "tagout-production", "--type=json", "-p", ignore],
        &["patch", "validatingwebhookconfiguration", "tagout", "--type=json", "-p", ignore],
        &["patch", "validatingwebhookconfiguration", "tagout-production", "--type=merge", "-p", &owner],
        &["delete", "validatingwebhookconfiguration", "tagout-production", account],
        &["delete", "validatingwebhookconfiguration", "tagout-production", collector, "--as-group=system:masters"],
        &["delete", "clusterrole", "tagout"],
        &["delete", "clusterrolebinding", "tagout"],
        &["delete", "clusterrolebinding", "tagout-view"],
        &["patch", "clusterrole", "tagout", "--type=json", "-p", r#"[{"op":"remove","path":"/rules/0"}]"#],
        &["delete", "namespace", HOME],
        &["delete", "namespace", HOME, namespaces, "--as-group=system:masters"],
        &["create", "clusterrole", "tagout-crds", "--verb=get", "--resource=pods"],
        &["label", "validatingwebhookconfiguration", "tagout", "app.kubernetes.io/managed-by-"],
    ];
    for args in of_the_cluster {
        world.kubectl(User::Agent, args).is_refused(&[REFUSED]);
    }
    let finalize =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}, "spec": {"finalizers": []}});
    let raw = format!("/api/v1/namespaces/{HOME}/finalize");
    world
        .kubectl_with(User::Agent, &["replace", "--raw", &raw, "-f", "-"], &finalize.to_string())
        .is_refused(&[REFUSED]);

    let production = world.production();
    production.deployment("api");
    production.kubectl(User::Agent, &["delete", "deployment", "api"]).is_refused(&["denied Delete"]);
}

#[test]
fn nobody_changes_what_makes_tagout_run_who_was_not_let() {
    let world = locked();
    let _named = PODS.read().unwrap_or_else(PoisonError::into_inner);
    let (owner, pod) = (bogus_owner(), a_pod(world));
    let selector = r#"{"spec":{"selector":{"app":"evil"}}}"#;
    let args = r#"[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--self-protection=false"}]"#;
    let relabel = r#"{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}"#;
    let rollback = "deprecated.deployment.rollback.to=1";
    let inject = r#"{"spec":{"template":{"metadata":{"annotations":{"vault.hashicorp.com/agent-inject":"true"}}}}}"#;
    let sets = world.get(&["-n", HOME, "replicasets", "-l", "app.kubernetes.io/name=tagout"]);
    let set = format!("replicaset/{}", text(&sets["items"][0]["metadata"]["name"]));
    let of_its_home: [&[&str]; 30] = [
        &["patch", "configmap", "kube-root-ca.crt", "-p", r#"{"data":{"ca.crt":""}}"#],
        &["scale", &set, "--replicas=0"],
        &["attach", &pod],
        &["annotate", "deployment", "tagout", rollback],
        &["patch", "deployment", "tagout", "-p", inject],
        &["create", "quota", "zero", "--hard=pods=0"],
        &["annotate", "secret", "sh.helm.release.v1.tagout.v1", "x=y"],
        &["delete", "secret", "tagout-settled"],
        &["scale", "deployment", "tagout", "--replicas=0"],
        &["set", "image", "deployment/tagout", "tagout=evil"],
        &["patch", "deployment", "tagout", "--type=json", "-p", args],
        &["patch", "deployment", "tagout", "--subresource=status", "--type=merge", "-p", &owner],
        &["delete", "deployment", "tagout"],
        &["delete", "--raw", "/apis/apps/v1/namespaces/tagout-system/deployments"],
        &["delete", "replicasets", "--all"],
        &["delete", "service", "tagout"],
        &["patch", "service", "tagout", "-p", selector],
        &["delete", "endpointslices", "--all"],
        &["patch", "pod", &pod, "--subresource=status", "--type=merge", "-p", relabel],
        &["label", "pod", &pod, "app.kubernetes.io/name-"],
        &["debug", &pod, "--image=evil"],
        &["exec", &pod, "--", "sh"],
        &["delete", "secret", "tagout-certificates"],
        &["patch", "secret", "tagout-epoch", "-p", r#"{"data":{"record":"e30="}}"#],
        &["create", "secret", "generic", "tagout-unlocks"],
        &["delete", "serviceaccount", "tagout"],
        &["create", "token", "tagout"],
        &["delete", "poddisruptionbudget", "tagout"],
        &["delete", "role", "tagout"],
        &[
            "run",
            "impostor",
            "--image=evil",
            "--labels=app.kubernetes.io/name=tagout,app.kubernetes.io/instance=tagout",
        ],
    ];
    for args in of_its_home {
        home(world, User::Agent, args).is_refused(&[REFUSED]);
    }
    for proxied in ["services/https:tagout:443".to_owned(), format!("pods/https:{pod}:8443")] {
        let proxy = format!("/api/v1/namespaces/{HOME}/{proxied}/proxy/v1/rules/production");
        world.kubectl(User::Agent, &["get", "--raw", &proxy]).is_refused(&[REFUSED]);
    }
}

#[test]
fn nobody_puts_beside_tagout_what_would_take_its_place() {
    let world = locked();
    let token = json!({"kubernetes.io/service-account.name": "tagout"});
    let mut secret = in_home("v1", "Secret", "mine", &json!({"type": "kubernetes.io/service-account-token"}));
    secret["metadata"]["annotations"] = token;
    let mut workload = deployment("impostor");
    workload["metadata"]["namespace"] = json!(HOME);
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": []});
    let one = json!({"spec": {"maxReplicas": 1, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment",
        "name": "tagout"}}});
    let scaler = in_home("autoscaling/v2", "HorizontalPodAutoscaler", "x", &one);
    let mut beside = in_home("discovery.k8s.io/v1", "EndpointSlice", "others-x", &slice);
    beside["metadata"]["labels"] = json!({"kubernetes.io/service-name": "tagout"});
    let small = json!({"spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}});
    let elsewhere = json!({"subsets": [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 1}]}]});
    for planted in [
        secret,
        workload,
        scaler,
        in_home("discovery.k8s.io/v1", "EndpointSlice", "tagout-x", &slice),
        beside,
        in_home("v1", "LimitRange", "small", &small),
        in_home("v1", "Endpoints", "tagout", &elsewhere),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "tagout-evil"}}),
    ] {
        world.kubectl_with(User::Agent, &["create", "-f", "-"], &planted.to_string()).is_refused(&[REFUSED]);
    }
}

#[test]
fn a_denial_says_whom_to_ask_and_not_how_to_get_round_it() {
    let said =
        home(locked(), User::Agent, &["delete", "deployment", "tagout"]).is_refused(&["hand this to a person"]).err;
    for word in ["binding", "policies"] {
        assert!(!said.replace("with binding", "").contains(word), "{said}");
    }
}

#[test]
fn nobody_deletes_what_makes_tagout_work_by_the_collection() {
    let world = locked();
    let (named, namespaced) = ("labelSelector=app.kubernetes.io%2Fname%3Dtagout", "namespaces/tagout-system");
    for collection in [
        format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?{named}"),
        format!("/apis/rbac.authorization.k8s.io/v1/clusterroles?{named}"),
        // What else is among the Secrets may go.
        format!("/api/v1/{namespaced}/secrets?fieldSelector=metadata.name%3Dtagout-certificates"),
        format!("/api/v1/{namespaced}/services?{named}"),
        format!("/apis/apps/v1/{namespaced}/deployments?{named}"),
        format!("/apis/apps/v1/{namespaced}/replicasets"),
    ] {
        world.kubectl(User::Agent, &["delete", "--raw", &collection]).is_refused(&[REFUSED]);
    }
    let all = home(world, User::Admin, &["get", "deployment/tagout", "service/tagout", "secret/tagout-certificates"]);
    all.succeeds();
    world.kubectl(User::Admin, &["get", "clusterrole/tagout", "clusterrolebinding/tagout"]).succeeds();
}

#[test]
fn tagouts_namespace_is_not_renamed_out_of_the_policy() {
    let world = locked();
    let other = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "x"}}}).to_string();
    let none = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": null}}}).to_string();
    let still_held = || {
        let label = text(&world.get(&["namespace", HOME])["metadata"]["labels"]["kubernetes.io/metadata.name"]);
        assert_eq!(label, HOME);
        home(world, User::Agent, &["delete", "deployment", "tagout", "--dry-run=server"]).is_refused(&[REFUSED]);
    };
    for patch in [&other, &none] {
        // Whether it is refused or set again does not matter.
        world.kubectl(User::Agent, &["patch", "namespace", HOME, "--type=merge", "-p", patch]);
        still_held();
        world.kubectl(User::Agent, &["patch", "namespace", HOME, "--subresource=status", "--type=merge", "-p", patch]);
        still_held();
    }
    let raw = format!("/api/v1/namespaces/{HOME}/finalize");
    for labels in [json!({"kubernetes.io/metadata.name": "x"}), json!({})] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME, "labels": labels},
            "spec": {"finalizers": ["kubernetes"]}});
        world.kubectl_with(User::Agent, &["replace", "--raw", &raw, "-f", "-"], &namespace.to_string());
        still_held();
    }
}

#[test]
fn who_impersonates_a_node_does_what_a_kubelet_does_and_no_more() {
    let world = locked();
    let _replaced = PODS.write().unwrap_or_else(PoisonError::into_inner);
    let node = ["--as=system:node:node-1", "--as-group=system:nodes", "--as-group=system:masters"];
    let as_node = |args: &[&str]| home(world, User::Agent, &[args, &node].concat());
    let pod = a_pod(world);
    let selector = r#"{"spec":{"selector":{"app":"evil"}}}"#;
    let relabel = r#"{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}"#;
    for args in [
        &["patch", "deployment", "tagout", "-p", r#"{"spec":{"paused":true}}"#][..],
        &["set", "image", "deployment/tagout", "tagout=evil"],
        &["scale", "deployment", "tagout", "--replicas=0"],
        &["delete", "deployment", "tagout"],
        &["delete", "replicasets", "--all"],
        &["patch", "service", "tagout", "-p", selector],
        &["delete", "service", "tagout"],
        &["delete", "endpointslices", "--all"],
        &["create", "role", "tagout-x", "--verb=get", "--resource=pods"],
        &["create", "quota", "zero", "--hard=pods=0"],
        &["delete", "serviceaccount", "tagout"],
        &["annotate", "secret", "tagout-certificates", "x=y"],
        &["patch", "configmap", "kube-root-ca.crt", "-p", r#"{"data":{"ca.crt":""}}"#],
        &["set", "image", &format!("pod/{pod}"), "tagout=evil"],
        &["label", "pod", &pod, "app.kubernetes.io/name-"],
        &["patch", "pod", &pod, "--subresource=status", "--type=merge", "-p", relabel],
        &["exec", &pod, "--", "sh"],
        &["run", "impostor", "--image=evil", "--labels=app.kubernetes.io/name=tagout"],
    ] {
        as_node(args).is_refused(&[REFUSED]);
    }
    world
        .kubectl(User::Agent, &[&["delete", "validatingwebhookconfiguration", "tagout"], &node[..]].concat())
        .is_refused(&[REFUSED]);

    // What a kubelet has from its own files, and what it says of pods.
    let mut mirror = in_home(
        "v1",
        "Pod",
        "static-node-1",
        &json!({"spec": {"nodeName": "node-1",
        "containers": [{"name": "main", "image": "example.com/main:1"}]}}),
    );
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0"});
    let create = ["-n", HOME, "create", "--dry-run=server", "-f", "-"];
    world.kubectl_with(User::Agent, &[&create[..], &node].concat(), &mirror.to_string()).succeeds();
    // One that the Service would find could answer for Tagout.
    mirror["metadata"]["labels"] = json!({"app.kubernetes.io/name": "tagout", "app.kubernetes.io/instance": "tagout"});
    world.kubectl_with(User::Agent, &[&create[..], &node].concat(), &mirror.to_string()).is_refused(&[REFUSED]);
    let moved = r#"{"status":{"podIP":"10.0.0.250","podIPs":[{"ip":"10.0.0.250"}]}}"#;
    let status = ["patch", "pod", &pod, "--subresource=status", "--type=merge", "-p", moved, "--dry-run=server"];
    as_node(&status).succeeds();
    home(world, User::Agent, &status).is_refused(&[REFUSED]);
    as_node(&["create", "token", "tagout"]).succeeds();
    // Nodes do all that in this world, by that name.
    let ready = || {
        let pods = world.get(&["-n", HOME, "pods", "-l", "app.kubernetes.io/name=tagout"]);
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            conditions.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True")
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let pods = pods["items"].as_array().expect("a list");
        pods.iter().filter(is_ready).map(|pod| text(&pod["metadata"]["name"])).collect::<Vec<_>>()
    };
    home(world, User::Ci, &["delete", "pod", &pod]).succeeds();
    eventually("another is ready", || ready().len() == 2 && !ready().contains(&pod));
}

#[test]
fn who_provides_the_certificates_writes_their_secrets_and_no_others() {
    let cp = Box::leak(Box::new(ControlPlane::start(&Options::default()).expect("a control plane")));
    let folder = tempfile::tempdir().expect("a folder");
    let (provided, next) = (made_elsewhere(&folder, 0), made_elsewhere(&folder, 1));
    for (args, input) in [(["create", "namespace", HOME], String::new()), (["create", "-f", "-"], provided.to_string())]
    {
        crate::world::Outcome::of(cp.kubectl(User::Admin).args(args), &input).succeeds();
    }
    let world = start_with(
        cp,
        &[
            "certificates.source=Secret",
            "certificates.secretName=tagout-provided",
            "selfProtection.secretWriters={ci-deployer}",
        ],
    );
    let create = |user: User, secret: &Value| world.kubectl_with(user, &["create", "-f", "-"], &secret.to_string());

    // Another certificate, and as cert-manager keeps the key until there is one.
    world.apply(User::Agent, &next).is_refused(&[REFUSED]);
    world.apply(User::Ci, &next).succeeds();
    for certificate in ["tagout-", "tagout-ca-"] {
        let mut key = in_home("v1", "Secret", "", &json!({"type": "Opaque", "stringData": {"tls.key": "x"}}));
        key["metadata"] = json!({"namespace": HOME, "generateName": certificate});
        create(User::Ci, &key).is_refused(&[REFUSED]);
        key["metadata"]["labels"] = json!({"cert-manager.io/next-private-key": "true"});
        create(User::Agent, &key).is_refused(&[REFUSED]);
        let made = create(User::Ci, &key).succeeds().out;
        let name = made.split_whitespace().next().expect("its name");
        home(&world, User::Agent, &["delete", name]).is_refused(&[REFUSED]);
        home(&world, User::Ci, &["delete", name]).succeeds();
    }
    home(&world, User::Ci, &["delete", "secret", "tagout-provided", "--dry-run=server"]).succeeds();
    let opaque = json!({"type": "Opaque"});
    create(User::Ci, &in_home("v1", "Secret", "tagout-ca", &opaque)).succeeds();
    home(&world, User::Ci, &["delete", "secret", "tagout-ca"]).succeeds();

    let token_of = |name: &str| {
        let mut secret = in_home("v1", "Secret", name, &json!({"type": "kubernetes.io/service-account-token"}));
        secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "tagout"});
        secret["metadata"]["labels"] = json!({"cert-manager.io/next-private-key": "true"});
        secret
    };
    let mut release = in_home("v1", "Secret", "sh.helm.release.v1.tagout.v2", &json!({"type": "helm.sh/release.v1"}));
    release["metadata"]["labels"] = json!({"cert-manager.io/next-private-key": "true"});
    let refused = [
        token_of("mine"),
        token_of("tagout-ca"),
        token_of("tagout-bcdfg"),
        release,
        in_home("v1", "Secret", "tagout-unlocks", &opaque),
        in_home("v1", "Secret", "tagout-bcdfg", &opaque),
        in_home("v1", "Secret", "tagout-certificates", &opaque),
    ];
    for user in [User::Ci, User::Agent] {
        for secret in &refused {
            create(user, secret).is_refused(&[REFUSED]);
        }
        for held in ["tagout-epoch", "tagout-settled", "sh.helm.release.v1.tagout.v1"] {
            home(&world, user, &["label", "secret", held, "cert-manager.io/next-private-key=true"])
                .is_refused(&[REFUSED]);
        }
    }
    home(&world, User::Ci, &["delete", "deployment", "tagout"]).is_refused(&[REFUSED]);
    world.end();
}
