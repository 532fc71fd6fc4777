//! What the chart makes of values.

use std::collections::BTreeSet;
use std::fs;

use controlplane::Program;
use serde_json::{Value, json};

use crate::{BINARIES, chart, everything, little, object, objects, root, said, with};

/// Everything turned on, and nothing turned off.
fn on() -> Value {
    with(everything(), "crds", None)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn arguments(values: &Value) -> Vec<String> {
    let objects = objects(values);
    let container = &object(&objects, "Deployment", "tagout")["spec"]["template"]["spec"]["containers"][0];
    list(&container["args"]).iter().map(|argument| argument.as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_everything_turned_on_each_template_renders_objects_with_names_of_tagouts_own() {
    let mut kinds = BTreeSet::new();
    for object in objects(&on()) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        kinds.insert(kind.to_owned());
        // Rules and teams have names for people.
        if !["ProtectionRule", "ApproverTeam"].contains(&kind) {
            assert!(name == "tagout" || name.starts_with("tagout-"), "{kind} {name}");
        }
        assert_eq!(object["metadata"]["labels"]["team"], "platform", "{kind} {name}");
        assert_eq!(object["metadata"]["annotations"]["example.com/owner"], "platform", "{kind} {name}");
    }
    for kind in [
        "Certificate",
        "ConfigMap",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
        "ServiceMonitor",
        "ValidatingWebhookConfiguration",
    ] {
        assert!(kinds.contains(kind), "there is no {kind} among {kinds:?}");
    }
}

#[test]
fn no_pod_has_rights_on_its_node_and_only_those_that_ask_the_api_server_have_a_token() {
    for values in [little(), on()] {
        let objects = objects(&values);
        for (kind, name, token) in
            [("Deployment", "tagout", true), ("Job", "tagout-crds", true), ("Pod", "tagout-test", false)]
        {
            let object = object(&objects, kind, name);
            let pod = if kind == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
            assert_eq!(pod["automountServiceAccountToken"], token, "{kind}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
            for container in list(&pod["containers"]) {
                let security = &container["securityContext"];
                assert_eq!(security["readOnlyRootFilesystem"], true, "{kind}");
                assert_eq!(security["allowPrivilegeEscalation"], false, "{kind}");
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{kind}");
                assert!(!container["resources"]["limits"]["memory"].is_null(), "{kind}");
            }
        }
        for object in objects.iter().filter(|object| object["kind"] == "ServiceAccount") {
            assert_eq!(object["automountServiceAccountToken"], false);
        }
    }
}

#[test]
fn what_runs_once_is_never_found_by_the_service_or_counted_as_a_replica() {
    let objects = objects(&on());
    let selector = object(&objects, "Service", "tagout")["spec"]["selector"].as_object().unwrap();
    let matches = |labels: &Value| selector.iter().all(|(key, value)| labels[key] == *value);
    assert!(matches(&object(&objects, "Deployment", "tagout")["spec"]["template"]["metadata"]["labels"]));
    assert!(!matches(&object(&objects, "Job", "tagout-crds")["spec"]["template"]["metadata"]["labels"]));
    assert!(!matches(&object(&objects, "Pod", "tagout-test")["metadata"]["labels"]));
}

#[test]
fn labels_in_the_values_never_hide_the_pods_from_the_service() {
    let own = json!({"app.kubernetes.io/name": "mine", "app.kubernetes.io/instance": "mine", "app.kubernetes.io/version": "mine"});
    for value in ["commonLabels", "podLabels"] {
        let objects = objects(&with(little(), value, Some(own.clone())));
        let labels = &object(&objects, "Deployment", "tagout")["spec"]["template"]["metadata"]["labels"];
        for (label, _) in own.as_object().unwrap() {
            assert!(labels[label] != "mine", "{value}: {labels}");
        }
    }
}

#[test]
fn a_drain_takes_one_replica_at_a_time_and_is_never_kept_by_one_that_is_not_ready() {
    let objects = objects(&little());
    let budget = &object(&objects, "PodDisruptionBudget", "tagout")["spec"];
    assert_eq!((&budget["maxUnavailable"], &budget["unhealthyPodEvictionPolicy"]), (&json!(1), &json!("AlwaysAllow")));
    assert!(budget["minAvailable"].is_null());
    let deployment = &object(&objects, "Deployment", "tagout")["spec"];
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let spread = list(&deployment["template"]["spec"]["topologySpreadConstraints"]);
    let over: Vec<_> = spread.iter().map(|it| it["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(over, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
}

#[test]
fn a_class_of_the_systems_brings_the_quota_that_some_clusters_ask_for() {
    let little = little();
    let with_class = objects(&little);
    let quota = object(&with_class, "ResourceQuota", "tagout-priority");
    let class = &object(&with_class, "Deployment", "tagout")["spec"]["template"]["spec"]["priorityClassName"];
    assert_eq!(quota["spec"]["scopeSelector"]["matchExpressions"][0]["values"], json!([class]));
    for other in ["", "platform"] {
        let objects = objects(&with(little.clone(), "priorityClassName", Some(json!(other))));
        assert!(objects.iter().all(|object| object["kind"] != "ResourceQuota"), "{other}");
    }
}

#[test]
fn the_image_is_named_by_version_and_by_digest_where_there_is_one() {
    let image = |values: &Value| {
        let objects = objects(values);
        let pods = [object(&objects, "Deployment", "tagout"), object(&objects, "Job", "tagout-crds")];
        let images =
            pods.map(|it| it["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned());
        assert_eq!(images[0], images[1], "the Job is of another version");
        images[0].clone()
    };
    assert_eq!(image(&little()), concat!("tagout:", env!("CARGO_PKG_VERSION")));
    assert!(image(&on()).starts_with("registry.example.com/tagout:1.2.3@sha256:0123456789abcdef"));
}

#[test]
fn flags_are_given_only_where_they_differ_from_what_tagout_does_by_itself() {
    let of = |path: &str, value: Value| arguments(&with(little(), path, Some(value))).join(" ");
    let plain = arguments(&little()).join(" ");
    for flag in ["--certificates", "--self-protection", "--client-ca"] {
        assert!(!plain.contains(flag), "{plain}");
    }
    assert!(of("selfProtection", json!({"enabled": false})).contains("--self-protection=false"));
    let provided = of("certificates", json!({"source": "CertManager"}));
    assert!(provided.contains("--certificates=provided"), "{provided}");
    assert!(provided.ends_with("--secret-writer=system:serviceaccount:cert-manager:cert-manager"), "{provided}");
    let secret = of("certificates", json!({"source": "Secret", "secretName": "mine"}));
    assert!(secret.contains("--certificates=provided --certificates-secret=mine"), "{secret}");
    assert!(of("extraArgs", json!(["--drain-delay=9"])).ends_with(" --drain-delay=9"));
}

#[test]
fn a_certificate_that_others_make_is_read_and_never_written() {
    for (source, verbs) in
        [("Own", json!(["get", "update"])), ("CertManager", json!(["get"])), ("Secret", json!(["get"]))]
    {
        let objects = objects(&with(little(), "certificates", Some(json!({"source": source, "secretName": "mine"}))));
        let rules = list(&object(&objects, "Role", "tagout")["rules"]);
        let about: Vec<_> = rules.iter().filter(|rule| list(&rule["resourceNames"]).contains(&json!("mine"))).collect();
        assert_eq!(about.len(), 1, "{source}");
        assert_eq!(about[0]["verbs"], verbs, "{source}");
        let certificates = objects.iter().filter(|object| object["kind"] == "Certificate").count();
        assert_eq!(certificates, if source == "CertManager" { 2 } else { 0 }, "{source}");
    }
    let values = with(little(), "certificates", Some(json!({"source": "CertManager"})));
    let objects = objects(&values);
    let leaf = &object(&objects, "Certificate", "tagout")["spec"];
    let issuer = object(&objects, "Issuer", leaf["issuerRef"]["name"].as_str().unwrap());
    let authority = &object(&objects, "Certificate", "tagout-ca")["spec"];
    assert_eq!(authority["isCA"], true);
    assert_eq!(issuer["spec"]["ca"]["secretName"], authority["secretName"]);
    assert_eq!(leaf["secretName"], "tagout-certificates");
    assert_eq!(leaf["dnsNames"][0], "tagout.tagout-system.svc");
}

#[test]
fn the_job_that_writes_definitions_may_touch_no_others_and_removes_none() {
    let objects = objects(&little());
    let rules = list(&object(&objects, "ClusterRole", "tagout-crds")["rules"]);
    let names: BTreeSet<String> = tagout::api::crds().iter().map(|crd| crd.metadata.name.clone().unwrap()).collect();
    let given: BTreeSet<String> =
        list(&rules[0]["resourceNames"]).iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(given, names);
    assert_eq!((rules.len(), &rules[0]["verbs"]), (1, &json!(["create", "get", "patch"])));
    for (kind, name) in
        [("ServiceAccount", "tagout-crds"), ("ClusterRoleBinding", "tagout-crds"), ("Job", "tagout-crds")]
    {
        let annotations = &object(&objects, kind, name)["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-upgrade", "{kind}");
        assert_eq!(annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded", "{kind}");
        let before = annotations["helm.sh/hook-weight"].as_str().unwrap().parse::<i32>().unwrap() < 0;
        assert_eq!(before, kind != "Job", "the Job comes after its rights");
    }
}

#[test]
fn tagouts_own_account_is_bound_to_nothing_of_the_jobs() {
    for object in objects(&on()) {
        let subjects = list(&object["subjects"]);
        let own = subjects.iter().any(|subject| subject["kind"] == "ServiceAccount" && subject["name"] == "tagout");
        if own {
            assert!(["tagout", "view"].contains(&object["roleRef"]["name"].as_str().unwrap()), "{object}");
        }
    }
}

#[test]
fn rules_and_teams_in_the_values_stand_beside_the_charts() {
    let objects = objects(&on());
    let own = &everything();
    assert_eq!(object(&objects, "ProtectionRule", "batch")["spec"], own["rules"][0]["spec"]);
    assert_eq!(object(&objects, "ApproverTeam", "emergency")["spec"], own["teams"][0]["spec"]);
    object(&objects, "ProtectionRule", "labelled-namespaces");
    object(&objects, "ApproverTeam", "approvers");
}

#[test]
fn kustomize_makes_of_the_plain_manifests_what_the_chart_installs() {
    let mut kubectl = std::process::Command::new(BINARIES.path(Program::Kubectl));
    let made = said(kubectl.arg("kustomize").arg(root().join("deploy")), "").unwrap();
    let name = |object: &Value| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    };
    let made: BTreeSet<String> =
        format!("\n{made}").split("\n---\n").map(crate::yaml).map(|object| name(&object)).collect();
    let mut wanted: BTreeSet<String> = objects(&little())
        .iter()
        .filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null())
        .map(name)
        .collect();
    wanted.extend(
        tagout::api::crds()
            .iter()
            .map(|crd| format!("CustomResourceDefinition/{}", crd.metadata.name.as_ref().unwrap())),
    );
    wanted.insert("Namespace/tagout-system".to_owned());
    assert_eq!(made, wanted);
}

#[test]
fn the_dashboard_is_rendered_as_the_file_has_it() {
    let objects = objects(&on());
    let rendered = object(&objects, "ConfigMap", "tagout-dashboard")["data"]["tagout.json"].as_str().unwrap();
    assert_eq!(rendered, fs::read_to_string(chart().join("files/dashboard.json")).unwrap());
}
