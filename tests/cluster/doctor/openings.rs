//! Openings, made by whoever may do everything.

use std::process::Command;
use std::thread;
use std::time::Duration;

use controlplane::User;
use serde_json::{Value, json};

use super::{Said, doctor, run};
use crate::world::{Outcome, World, deployment, eventually, rule};

/// A right in the whole cluster: the short name by which doctor knows it, verb, group and resource.
const EVERYWHERE: [(&str, &str, &str, &str); 29] = [
    ("impersonate", "impersonate", "", "users"),
    ("impersonate", "impersonate", "", "groups"),
    ("impersonate", "impersonate", "", "serviceaccounts"),
    ("impersonate", "impersonate", "authentication.k8s.io", "uids"),
    ("impersonate", "impersonate", "authentication.k8s.io", "userextras/scopes"),
    ("controllers", "create", "", "serviceaccounts/token"),
    ("controllers", "list", "", "secrets"),
    ("controllers", "create", "", "pods"),
    ("controllers", "get", "", "pods/exec"),
    ("webhooks", "patch", "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("webhooks", "create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("policies", "deletecollection", "admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("policies", "create", "admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("rules", "patch", "tagout.dev", "protectionrules"),
    ("rules", "delete", "tagout.dev", "approverteams"),
    ("records", "update", "tagout.dev", "ledgers"),
    ("records", "patch", "tagout.dev", "protectionrules/status"),
    ("approvals", "create", "tagout.dev", "approvals"),
    ("definitions", "update", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiservices", "create", "apiregistration.k8s.io", "apiservices"),
    ("certificates", "update", "certificates.k8s.io", "certificatesigningrequests/approval"),
    ("certificates", "approve", "certificates.k8s.io", "signers"),
    ("nodes", "get", "", "nodes/proxy"),
    ("nodes", "patch", "", "nodes/status"),
    ("grant", "bind", "rbac.authorization.k8s.io", "clusterroles"),
    ("grant", "escalate", "rbac.authorization.k8s.io", "roles"),
    ("roles", "update", "rbac.authorization.k8s.io", "clusterrolebindings"),
    ("reach", "create", "", "services/proxy"),
    ("join", "create", "certificates.k8s.io", "certificatesigningrequests/nodeclient"),
];

fn role(name: &str, verb: &str, group: &str, resource: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"verbs": [verb], "apiGroups": [group], "resources": [resource]}],
    })
}

fn binding(name: &str, namespace: Option<&str>, role: &str, subject: &Value) -> Value {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    })
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

fn apply(world: &World, items: &[Value]) {
    world.apply(User::Admin, &json!({"apiVersion": "v1", "kind": "List", "items": items})).succeeds();
}

#[track_caller]
fn has(said: &Said, object: &str, right: &str) {
    let finding = said.finds("strong-rights", object);
    let rights = finding["rights"].as_array().expect("rights");
    assert!(rights.contains(&json!(right)), "{object} lacks {right}: {finding:#}");
}

pub fn of_access(world: &World) {
    for namespace in ["ci", "other"] {
        world.kubectl(User::Admin, &["create", "namespace", namespace]).succeeds();
    }
    let mut items = Vec::new();
    for (number, (_, verb, group, resource)) in EVERYWHERE.iter().enumerate() {
        let name = format!("opening-{number}");
        items.extend([role(&name, verb, group, resource), binding(&name, None, &name, &user(&name))]);
    }
    let kube = Some("kube-system");
    items.extend([
        binding("tokens", kube, "opening-5", &user("minter")),
        binding("accounts", kube, "opening-2", &user("actor")),
        binding("editors", kube, "edit", &group("platform")),
        binding("everybody", None, "opening-22", &group("system:authenticated")),
        binding("by-name", None, "opening-9", &user("system:serviceaccount:ci:by-name")),
        binding("operator", None, "opening-10", &account("ci", "operator")),
        binding("pods-in-ci", Some("ci"), "opening-7", &user("developer")),
        binding("every-pod-of-it", None, "opening-10", &group("system:serviceaccounts:other")),
        binding("pods-in-other", Some("other"), "opening-7", &user("stranger")),
        binding("nowhere", None, "no-such-role", &user("waiting")),
        binding("masters-again", None, "view", &group("system:masters")),
        binding("admins", None, "cluster-admin", &group("admins")),
        binding("it's; $(reboot)", None, "opening-0", &user("eve\u{1b}[2J")),
        named("lists-one", "list", "", "secrets", "tagout-certificates"),
        binding("lists-one", Some("tagout-system"), "lists-one", &user("lister")),
        named("patches-one", "patch", "apps", "deployments", "coredns"),
        binding("patches-one", kube, "patches-one", &user("patcher")),
        binding("binds-in-ci", Some("ci"), "opening-24", &user("binder")),
        marked(binding("eks:mine", None, "opening-0", &user("marked"))),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "aws-auth", "namespace": "kube-system"},
            "data": {"mapRoles": "- rolearn: arn:aws:iam::1:role/r\n  groups: [system:masters]\n"}}),
    ]);
    apply(world, &items);
    certificate(world, "of-an-approver", "/O=senior-sre/CN=mallory");
    certificate(world, "of-two-names", "/CN=mallory/CN=minter");
    let name = "system:controller:job-controller";
    let rule = json!({"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]});
    let widened = json!([{"op": "add", "path": "/rules/-", "value": rule}]).to_string();
    world.kubectl(User::Admin, &["patch", "clusterrole", name, "--type=json", "-p", &widened]).succeeds();

    let said = doctor(world, &[]);
    assert_eq!(said.code, 3);
    for (number, (right, ..)) in EVERYWHERE.iter().enumerate() {
        has(&said, &format!("User/opening-{number}"), right);
    }
    has(&said, "User/minter", "controllers");
    has(&said, "User/actor", "controllers");
    has(&said, "Group/platform", "controllers");
    has(&said, "Group/system:authenticated", "nodes");
    has(&said, "ServiceAccount/ci/by-name", "webhooks");
    has(&said, "ServiceAccount/ci/operator", "webhooks");
    has(&said, "User/lister", "controllers");
    has(&said, "User/patcher", "controllers");
    has(&said, "User/marked", "impersonate");
    has(&said, "ServiceAccount/kube-system/job-controller", "impersonate");
    said.finds("indirect-rights", "User/binder");
    // The API server takes a list of one name for the reading of it.
    let one = "/api/v1/namespaces/tagout-system/secrets?fieldSelector=metadata.name%3Dtagout-certificates";
    world.kubectl(User::Admin, &["get", "--as=lister", "--raw", one]).succeeds();
    let path = said.finds("indirect-rights", "User/developer");
    assert!(path["says"].as_str().is_some_and(|says| says.contains("RoleBinding/ci/pods-in-ci")), "{path:#}");
    said.finds("indirect-rights", "User/stranger");
    said.finds("dangling-binding", "ClusterRoleBinding/nowhere");
    said.finds("masters-bound", "ClusterRoleBinding/masters-again");
    said.finds("masters-mapped", "ConfigMap/kube-system/aws-auth");
    assert_eq!(said.finds("cluster-admins", "Group/admins")["severity"], "warning");
    said.finds("certificate-for-others", "CertificateSigningRequest/of-an-approver");
    said.finds("certificate-for-others", "CertificateSigningRequest/of-two-names");
    let hostile = said.finds("strong-rights", "User/eve\u{1b}[2J");
    assert_eq!(hostile["fix"]["commands"][0], json!(["kubectl", "edit", "clusterrolebinding", "it's; $(reboot)"]));
    let text = world.kubectl(User::Admin, &["tagout", "doctor"]);
    assert!(!text.out.contains('\u{1b}'), "{}", text.out);
    assert!(text.out.contains(r"kubectl edit clusterrolebinding 'it'\''s; $(reboot)'"), "{}", text.out);
    // Whoever is in system:masters is told so.
    run(world, &[]).finds("masters-caller", "User/admin");

    let stdin = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    world.kubectl_with(User::Admin, &["delete", "-f", "-"], &stdin).succeeds();
    world.kubectl(User::Admin, &["delete", "certificatesigningrequest", "of-an-approver", "of-two-names"]).succeeds();
    let rules = world.get(&["clusterrole", name])["rules"].as_array().expect("rules").len();
    let as_before = json!([{"op": "remove", "path": format!("/rules/{}", rules - 1)}]).to_string();
    world.kubectl(User::Admin, &["patch", "clusterrole", name, "--type=json", "-p", &as_before]).succeeds();
    let said = doctor(world, &[]);
    assert_eq!(said.ids("note"), Vec::<String>::new(), "what is closed is not found any more");
}

/// A role about one name alone.
fn named(name: &str, verb: &str, group: &str, resource: &str, only: &str) -> Value {
    let mut role = role(name, verb, group, resource);
    role["rules"][0]["resourceNames"] = json!([only]);
    role
}

/// As a provider marks its own.
fn marked(mut binding: Value) -> Value {
    binding["metadata"]["labels"] =
        json!({"eks.amazonaws.com/component": "x", "kubernetes.io/bootstrapping": "rbac-defaults"});
    binding
}

/// A certificate for somebody else than who asked.
fn certificate(world: &World, name: &str, subject: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"]);
    openssl.arg(folder.path().join("key")).args(["-subj", subject]);
    let request = Outcome::of(&mut openssl, "").succeeds().out;
    let manifest = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": base64(&request), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    });
    world.apply(User::Admin, &manifest).succeeds();
    world.kubectl(User::Admin, &["certificate", "approve", name]).succeeds();
}

fn base64(text: &str) -> String {
    Outcome::of(Command::new("base64").arg("--wrap=0"), text).succeeds().out
}

pub fn of_admission(world: &World) {
    let webhook = |kind: &str, name: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "webhooks": [{
                "name": "x.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "failurePolicy": "Ignore",
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 1,
                "matchConditions": [{"name": "never", "expression": "request.userInfo.username == 'nobody'"}],
                "rules": [{"operations": ["UPDATE"], "apiGroups": ["tagout.dev"], "apiVersions": ["*"], "resources": ["*"]}],
            }],
        })
    };
    let mut harmless = webhook("MutatingWebhookConfiguration", "harmless");
    harmless["webhooks"][0]["rules"][0]["apiGroups"] = json!(["example.com"]);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": "changes"},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments"]},
            ]},
            "matchConditions": [{"name": "never", "expression": "request.userInfo.username == 'nobody'"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/metadata/labels/x', value: 'y'}]"}}],
        },
    });
    let bound = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "changes"}, "spec": {"policyName": "changes"},
    });
    let items = [
        webhook("MutatingWebhookConfiguration", "injector"),
        harmless,
        webhook("ValidatingWebhookConfiguration", "others"),
        policy,
        bound,
    ];
    apply(world, &items);
    let said = doctor(world, &[]);
    said.finds("mutating-webhook", "MutatingWebhookConfiguration/injector");
    said.finds("mutating-policy", "MutatingAdmissionPolicy/changes");
    let open = said.finds("others-fail-open", "ValidatingWebhookConfigurations/others");
    assert_eq!(open["severity"], "note");
    assert!(!said.report["findings"].to_string().contains("harmless"));
    let stdin = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    world.kubectl_with(User::Admin, &["delete", "-f", "-"], &stdin).succeeds();
}

fn team(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": name}, "spec": spec})
}

/// A rule about Deployments with that label, changed in one field.
fn changed(name: &str, path: &str, value: Value) -> Value {
    let mut rule = rule(name, name);
    let mut at = &mut rule["spec"];
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
    rule
}

pub fn of_rules_and_teams(world: &World) {
    let one = json!({"members": [{"user": "only@example.com"}]});
    apply(world, &[team("one", &one)]);
    let mut open = changed("open", "mode", json!("Audit"));
    open["spec"].as_object_mut().expect("a spec").remove("namespaceSelector");
    world.kubectl(User::Admin, &["create", "namespace", "somewhere"]).succeeds();
    world
        .kubectl_with(User::Admin, &["-n", "somewhere", "apply", "-f", "-"], &deployment("api").to_string())
        .succeeds();
    let rules = [
        rule("nothing", "nothing"),
        open,
        changed("fails-open", "failurePolicy", json!("Ignore")),
        changed("lacks", "actions", json!(["Delete"])),
        changed("software", "approval", json!({"proof": "Signature", "require": [{"anyOf": ["one"]}]})),
        changed("alone", "approval", json!({"require": [{"anyOf": ["one"]}]})),
        changed("teamless", "approval", json!({"require": [{"anyOf": ["no-such-team"]}]})),
    ];
    apply(world, &rules);
    let said = doctor(world, &[]);
    let of = |name: &str| format!("ProtectionRule/{name}");
    assert_eq!(said.finds("rule-matches-nothing", &of("nothing"))["severity"], "warning");
    assert_eq!(said.finds("rule-matches-nothing", &of("labelled-objects"))["severity"], "note");
    said.finds("rule-matches-everything", &of("open"));
    said.finds("rule-not-enforcing", &of("open"));
    said.finds("rule-fails-open", &of("fails-open"));
    said.finds("rule-lacks-actions", &of("lacks"));
    said.finds("proof-software", &of("software"));
    said.finds("proof-identity", &of("alone"));
    assert_eq!(said.finds("nobody-can-approve", &of("software"))["severity"], "danger");
    said.finds("team-too-small", &of("alone"));
    said.finds("team-missing", "ApproverTeam/no-such-team");
    said.finds("team-without-hardware-keys", "ApproverTeam/one");
    said.finds("group-of-unknown-size", "ApproverTeam/approvers");
    eventually("Tagout has looked at the rule", || {
        let said = doctor(world, &[]);
        said.findings().iter().any(|one| one["id"] == "rule-not-ready" && one["object"] == "ProtectionRule/teamless")
    });
}

pub fn of_namespaces_and_approvals(world: &World) {
    // It covers everything, if only to look.
    world.remove(User::Admin, "protectionrule/open");
    let kubectl = |args: &[&str]| world.kubectl(User::Admin, args).succeeds();
    for name in ["payments-prod", "preprod", "shop", "long"] {
        kubectl(&["create", "namespace", name]);
    }
    kubectl(&["label", "namespace", "shop", "environment=production", "env=prod"]);
    kubectl(&["label", "namespace", "long", "rule=long"]);
    let mut long = rule("long", "long");
    long["spec"]["approval"]["validFor"] = json!("72h");
    world.rule(&long);
    // An owner that comes and goes every day, about which nobody is ever asked.
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": {}});
    for namespace in ["shop", "long"] {
        world.kubectl_with(User::Admin, &["-n", namespace, "apply", "-f", "-"], &lease.to_string()).succeeds();
        let uid = world.get(&["-n", namespace, "lease/leader"])["metadata"]["uid"].clone();
        let mut owned = deployment("api");
        owned["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "leader", "uid": uid}]);
        world.kubectl_with(User::Admin, &["-n", namespace, "apply", "-f", "-"], &owned.to_string()).succeeds();
        kubectl(&["create", "rolebinding", "bob", "--clusterrole=edit", "--user=bob@example.com", "-n", namespace]);
    }
    let approve = |namespace: &str, life: &str| {
        let life = format!("--for={life}");
        let on_object = ["tagout", "approve", "deployment/api", "-n", namespace, "--yes", &life];
        world.kubectl(User::Bob, &on_object).succeeds();
    };
    approve("shop", "3s");
    approve("long", "48h");
    let said = doctor(world, &[]);
    let unprotected = said.finds("production-unprotected", "Namespace/payments-prod");
    let commands = unprotected["fix"]["commands"].as_array().expect("commands");
    assert_eq!(commands[0][1], "get", "one looks before one labels: {commands:?}");
    assert_eq!(commands[1], json!(["kubectl", "label", "namespace", "payments-prod", "tagout.dev/protect=true"]));
    assert!(
        !said.findings().iter().any(|one| one["object"] == "Namespace/preprod" || one["object"] == "Namespace/shop")
    );
    said.finds("owner-uncovered", "Kind/leases.coordination.k8s.io");
    said.finds("approval-long", "deployments.apps/long/api");
    thread::sleep(Duration::from_secs(3));
    let said = doctor(world, &["--production-names=long,kunde"]);
    said.finds("approval-stale", "deployments.apps/shop/api");
    assert!(!said.findings().iter().any(|one| one["id"] == "production-unprotected"), "{:#}", said.report);

    world.kubectl(User::Admin, &["label", "namespace", "payments-prod", "rule=open-to-audit"]).succeeds();
    let mut audit = rule("open-to-audit", "open-to-audit");
    audit["spec"]["mode"] = json!("Audit");
    world.rule(&audit);
    for (stage, severity) in [("audit", "note"), ("enforce", "warning")] {
        let said = doctor(world, &["--stage", stage]);
        assert_eq!(said.finds("production-partly-protected", "Namespace/payments-prod")["severity"], severity);
    }
}

pub fn of_apis(world: &World) {
    let api = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.widgets.example.com"},
        "spec": {"group": "widgets.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "widgets"}},
    });
    apply(world, &[api]);
    doctor(world, &[]).finds("aggregated-api", "APIService/v1.widgets.example.com");
}

/// Last, for it breaks what all others stand on.
pub fn of_tagout_itself(world: &mut World) {
    world.kubectl(User::Bob, &["tagout", "unlock", "--requester=ci-deployer", "--for=10m", "--yes"]).succeeds();
    eventually("it is unlocked", || {
        doctor(world, &[]).findings().iter().any(|one| one["id"] == "unlocked" && one["object"] == "User/ci-deployer")
    });
    world.tagout.kill().expect("it ends");
    let world = &*world;
    let kubectl = |args: &[&str]| world.kubectl(User::Admin, args).succeeds();
    // What keeps Tagout is weakened first: with nobody there to put it back, it stays so.
    let weaker = json!({"spec": {"validations": [{"expression": "true"}]}}).to_string();
    kubectl(&["patch", "validatingadmissionpolicy", "tagout", "--type=merge", "-p", &weaker]);
    doctor(world, &[]).finds("lock-open", "Tagout/lock");
    kubectl(&["delete", "validatingadmissionpolicybinding", "tagout", "tagout-home"]);
    let said = doctor(world, &[]);
    assert!(said.finds("lock-open", "Tagout/lock")["says"].as_str().is_some_and(|says| says.contains("missing")));

    // The API server hears of it by a watch of its own.
    thread::sleep(Duration::from_secs(1));
    let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]).to_string();
    kubectl(&["patch", "validatingwebhookconfiguration", "tagout-production", "--type=json", "-p", &ignore]);
    kubectl(&["patch", "validatingwebhookconfiguration", "tagout", "--type=json", "-p", &ignore]);
    kubectl(&["delete", "validatingwebhookconfiguration", "tagout-alone"]);
    let stray = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "tagout-stray"}, "webhooks": []});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "another", "namespace": "tagout-system",
        "labels": {"app.kubernetes.io/name": "tagout", "app.kubernetes.io/version": "9.9.9"}}});
    pod["spec"] = json!({"containers": [{"name": "tagout", "image": "tagout:9.9.9"}]});
    apply(world, &[stray, pod]);
    let no_epoch = json!({"status": {"epoch": null}}).to_string();
    for rule in world.get(&["protectionrules"])["items"].as_array().expect("a list") {
        let name = rule["metadata"]["name"].as_str().expect("a name");
        kubectl(&["patch", "protectionrule", name, "--subresource=status", "--type=merge", "-p", &no_epoch]);
    }
    let refuses_not = json!({"status": {"conditions": []}}).to_string();
    kubectl(&["patch", "protectionrule", "nothing", "--subresource=status", "--type=merge", "-p", &refuses_not]);
    // Behind the name of another version nothing hides.
    let newer = "tagout.dev/compiler=99";
    for name in ["tagout-production", "tagout-labelled-objects"] {
        kubectl(&["annotate", "validatingwebhookconfiguration", name, newer, "--overwrite"]);
    }
    let said = doctor(world, &[]);
    let unread = said.report["incomplete"].to_string();
    assert!(unread.contains("validatingwebhookconfiguration tagout-labelled-objects"), "{unread}");
    for name in ["tagout", "tagout-production", "tagout-labelled-objects", "tagout-alone"] {
        said.finds("configuration-changed", &format!("ValidatingWebhookConfiguration/{name}"));
    }
    said.finds("stray-configuration", "ValidatingWebhookConfiguration/tagout-stray");
    said.finds("replicas-differ", "Deployment/tagout-system/tagout");
    said.finds("versions-differ", "Deployment/tagout-system/tagout");
    said.finds("no-epoch", "Tagout/epoch");
    said.finds("not-enforced", "ProtectionRule/nothing");
    said.finds("static-manifest-unseen", "APIServer/static-manifest");
}
