//! Each alert fires when it should, alone, and not otherwise: judged by Prometheus' own evaluation.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::{everything, little, object, objects, root, said, with};

/// The chart's alerts, as a cluster gets them.
pub fn rules() -> Vec<Value> {
    let values = with(little(), "prometheusRule", Some(json!({"enabled": true})));
    let objects = objects(&values);
    object(&objects, "PrometheusRule", "tagout")["spec"]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn promtool(arguments: &[&str]) -> Result<String, String> {
    let mut go = Command::new("go");
    go.env("GOWORK", "off").env("CGO_ENABLED", "0").arg("-C").arg(root().join("tests/chart/go/promtool"));
    // Discovery of machines in clouds is half of the program, and nothing of what is asked of it here.
    go.args(["run", "-tags=remove_all_sd", "github.com/prometheus/prometheus/cmd/promtool"]).args(arguments);
    said(&mut go, "")
}

/// Has Prometheus' own parser look at rules.
pub fn check(rules: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.json");
    fs::write(&file, json!({"groups": [{"name": "tagout", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", file.to_str().unwrap()]).unwrap();
}

/// A metric with labels, and its values, as promtool has them.
type Series = (&'static str, &'static str);

/// A cluster in which all is well, minute by minute for two hours.
const WELL: &[Series] = &[
    (r#"tagout_rules{state="in_force",pod="a"}"#, "5x120"),
    (r#"tagout_rules{state="in_force",pod="b"}"#, "5x120"),
    (r#"tagout_rules{state="rejected",pod="a"}"#, "0x120"),
    (r#"tagout_rules{state="rejected",pod="b"}"#, "0x120"),
    (r#"tagout_canary_success{check="deletion",pod="a"}"#, "1x120"),
    (r#"tagout_canary_last_success_timestamp_seconds{check="deletion",pod="a"}"#, "0+60x120"),
    (r#"tagout_unlocked{pod="a"}"#, "0x120"),
    (r#"tagout_drift_repaired_total{pod="a"}"#, "2x120"),
    (r#"tagout_epochs_ended_total{pod="a"}"#, "1x120"),
    (r#"tagout_break_glass_total{rule="production",pod="a"}"#, "1x120"),
    (r#"tagout_places_lapsed{rule="production",pod="a"}"#, "3x120"),
    (r#"tagout_calls_failed_total{reason="too_late",pod="a"}"#, "4x120"),
    (r#"tagout_calls_failed_total{reason="unauthenticated",pod="a"}"#, "0+9x120"),
    (r#"tagout_notifications_dropped_total{sink="slack",reason="refused",pod="a"}"#, "3x120"),
    (r#"tagout_notifications_pending{sink="slack",pod="a"}"#, "0x120"),
    (r#"tagout_notifications_config_last_reload_successful{pod="a"}"#, "1x120"),
    (r#"tagout_certificate_expiry_timestamp_seconds{pod="a"}"#, "7776000x120"),
    (
        r#"apiserver_admission_webhook_rejection_count{name="delete.production.tagout.dev",error_type="no_error"}"#,
        "0+1x120",
    ),
    (
        r#"apiserver_admission_webhook_rejection_count{name="other.example.com",error_type="calling_webhook_error"}"#,
        "0+1x120",
    ),
    (r#"apiserver_admission_webhook_fail_open_count{name="other.example.com"}"#, "0+1x120"),
];

/// An alert; what is otherwise in that cluster from the thirtieth minute on; when it fires.
const ILL: &[(&str, &[Series], &str)] = &[
    (
        "TagoutAbsent",
        &[
            (r#"tagout_rules{state="in_force",pod="a"}"#, "5x29 stale"),
            (r#"tagout_rules{state="in_force",pod="b"}"#, "5x29 stale"),
        ],
        "36m",
    ),
    ("TagoutReplicasMissing", &[(r#"tagout_rules{state="in_force",pod="b"}"#, "5x29 stale")], "46m"),
    (
        "TagoutUnreachable",
        &[(
            r#"apiserver_admission_webhook_rejection_count{name="delete.production.tagout.dev",error_type="calling_webhook_error"}"#,
            "_x30 1x90",
        )],
        "31m",
    ),
    (
        "TagoutPassedOver",
        &[(r#"apiserver_admission_webhook_fail_open_count{name="return.production.tagout.dev"}"#, "1x30 2x90")],
        "32m",
    ),
    ("TagoutCanaryFailing", &[(r#"tagout_canary_success{check="deletion",pod="b"}"#, "1x29 0x90")], "33m"),
    (
        "TagoutCanarySilent",
        &[(r#"tagout_canary_last_success_timestamp_seconds{check="deletion",pod="a"}"#, "0+60x29 1740x90")],
        "38m",
    ),
    ("TagoutUnlocked", &[(r#"tagout_unlocked{pod="b"}"#, "0x29 1x90")], "31m"),
    ("TagoutDriftRepaired", &[(r#"tagout_drift_repaired_total{pod="b"}"#, "_x30 1x90")], "31m"),
    ("TagoutDriftRepaired", &[(r#"tagout_drift_repaired_total{pod="a"}"#, "2x29 3x90")], "32m"),
    ("TagoutEpochEnded", &[(r#"tagout_epochs_ended_total{pod="a"}"#, "1x29 2x90")], "32m"),
    ("TagoutGlassBroken", &[(r#"tagout_break_glass_total{rule="settings",pod="a"}"#, "_x30 1x90")], "31m"),
    ("TagoutGlassBroken", &[(r#"tagout_break_glass_total{rule="production",pod="a"}"#, "1x29 2x90")], "32m"),
    ("TagoutPlacesLapsed", &[(r#"tagout_places_lapsed{rule="production",pod="a"}"#, "3x29 4x90")], "31m"),
    ("TagoutRuleRejected", &[(r#"tagout_rules{state="rejected",pod="a"}"#, "0x29 1x90")], "36m"),
    ("TagoutCallsFailing", &[(r#"tagout_calls_failed_total{reason="undecided",pod="a"}"#, "_x30 1x90")], "31m"),
    (
        "TagoutNotificationsLost",
        &[(r#"tagout_notifications_dropped_total{sink="pager",reason="expired",pod="a"}"#, "_x30 1x90")],
        "31m",
    ),
    ("TagoutNotificationsStuck", &[(r#"tagout_notifications_pending{sink="slack",pod="b"}"#, "0x29 1x90")], "66m"),
    (
        "TagoutNotificationsStuck",
        &[(r#"tagout_notifications_config_last_reload_successful{pod="b"}"#, "1x29 0x90")],
        "36m",
    ),
    (
        "TagoutCertificateRunsOut",
        &[(r#"tagout_certificate_expiry_timestamp_seconds{pod="b"}"#, "7776000x29 1200000x90")],
        "91m",
    ),
];

/// One test of promtool's: that at these times these alerts fire, and no others.
fn test(name: &str, ill: &[Series], times: &[(&str, Option<&str>)]) -> Value {
    let well = WELL.iter().filter(|(series, _)| ill.iter().all(|(other, _)| other != series));
    let series: Vec<Value> =
        well.chain(ill).map(|(series, values)| json!({"series": series, "values": values})).collect();
    let expected = times.iter().map(|(time, alert)| {
        let samples: Vec<Value> =
            alert.iter().map(|alert| json!({"labels": format!("{{alertname={alert:?}}}"), "value": 1})).collect();
        let expression = r#"group by (alertname) (ALERTS{alertstate="firing"})"#;
        json!({"expr": expression, "eval_time": time, "exp_samples": samples})
    });
    let expected: Vec<Value> = expected.collect();
    json!({"name": name, "interval": "1m", "input_series": series, "promql_expr_test": expected})
}

#[test]
fn each_alert_fires_alone_when_it_should_and_none_while_all_is_well() {
    // Not in the first ten minutes, when everything is new to Prometheus.
    let mut tests = vec![test("all is well", &[], &[("11m", None), ("29m", None), ("59m", None), ("119m", None)])];
    for (alert, ill, when) in ILL {
        tests.push(test(alert, ill, &[("11m", None), ("29m", None), (when, Some(alert))]));
    }
    let covered: Vec<&str> = ILL.iter().map(|(alert, _, _)| *alert).collect();
    for rule in rules() {
        assert!(covered.contains(&rule["alert"].as_str().unwrap()), "{} has no test", rule["alert"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = json!({"groups": [{"name": "tagout", "rules": rules()}]});
    fs::write(folder.path().join("rules.json"), rules.to_string()).unwrap();
    let file = folder.path().join("test.json");
    let all = json!({"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": tests});
    fs::write(&file, all.to_string()).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()]).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_alert_is_one_that_prometheus_takes_and_says_how_bad_it_is() {
    check(&rules());
    for rule in rules() {
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
        assert!(!rule.to_string().contains("REPLICAS"), "{rule}");
    }
}

#[test]
fn every_alert_is_explained_and_every_explanation_has_its_alert() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let explained: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `Tagout")?.split('`').next()).collect();
    let rules = rules();
    let alerts: Vec<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(explained.iter().map(|name| format!("Tagout{name}")).collect::<Vec<_>>(), alerts);
}

#[test]
fn an_alert_that_is_named_is_left_out_and_replicas_are_counted_against_the_values() {
    let objects = objects(&everything());
    let rules = &object(&objects, "PrometheusRule", "tagout")["spec"]["groups"][0]["rules"];
    let rules = rules.as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["alert"] != "TagoutUnlocked"));
    let missing = rules.iter().find(|rule| rule["alert"] == "TagoutReplicasMissing").unwrap();
    assert!(missing["expr"].as_str().unwrap().ends_with("< 3"), "{missing}");
}
