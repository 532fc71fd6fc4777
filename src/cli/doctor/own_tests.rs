use std::slice::from_ref;

use k8s_openapi::api::admissionregistration::v1::MatchResources;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const CERT_MANAGER: &str = "system:serviceaccount:cert-manager:cert-manager";

/// What the pods were told.
fn leave() -> Leave {
    Leave {
        unlocked: Vec::new(),
        secret_writers: vec![CERT_MANAGER.to_owned()],
        secrets: vec!["tagout-certificates".to_owned(), "mine".to_owned()],
    }
}

fn lock(name: &str, leave: &Leave) -> Found {
    let place = Place { namespace: "home".to_owned(), ..Place::default() };
    let leave = Leave { unlocked: vec!["ci".to_owned()], ..leave.clone() };
    let found = locks(&place, &leave).into_iter().find(|lock| lock.policy.name_any() == name);
    found.map(|lock| (lock.policy, lock.binding)).expect("it is one of them")
}

#[rstest]
#[case("tagout")]
#[case("tagout-home")]
fn a_policy_as_tagout_writes_it_is_known_for_whomever_it_is_open(#[case] name: &str) {
    let found = lock(name, &leave());
    for told in [vec![], vec![leave()], vec![Leave::default(), leave()]] {
        assert!(is_ours(&found, "home", &told));
        assert!(!is_ours(&found, "elsewhere", &told));
    }
}

type Change = fn(&mut Found);

fn variable(found: &mut Found, name: &str, change: impl Fn(&mut String)) {
    let variables = found.0.spec.as_mut().and_then(|spec| spec.variables.as_mut()).expect("variables");
    variables.iter_mut().filter(|one| one.name == name).for_each(|one| change(&mut one.expression));
}

#[rstest]
#[case::refuses_nothing(|found: &mut Found| found.0.spec.as_mut().expect("it is there").validations.as_mut().expect("it is there")[0].expression = "true".into())]
#[case::fails_open(|found: &mut Found| found.0.spec.as_mut().expect("it is there").failure_policy = Some("Ignore".into()))]
#[case::looks_at_nothing(|found: &mut Found| found.0.spec.as_mut().expect("it is there").match_conditions.as_mut().expect("it is there")[0].expression = "false".into())]
#[case::looks_at_less(|found: &mut Found| drop(found.0.spec.as_mut().expect("it is there").match_constraints.as_mut().expect("it is there").resource_rules.as_mut().expect("it is there").pop()))]
#[case::takes_others_for_tagout(|found: &mut Found| variable(found, "tagout", |text| *text += " || true"))]
#[case::opens_for_all(|found: &mut Found| variable(found, "unlocked", |text| *text += " || true"))]
#[case::only_warns(|found: &mut Found| found.1.spec.as_mut().expect("it is there").validation_actions = Some(vec!["Deny".into(), "Warn".into()]))]
#[case::is_bound_to_little(|found: &mut Found| found.1.spec.as_mut().expect("it is there").match_resources = Some(MatchResources::default()))]
#[case::says_it_is_newer(|found: &mut Found| {
    found.0.metadata.annotations.as_mut().expect("it is there").insert("tagout.dev/compiler".into(), "99".into());
    found.0.spec.as_mut().expect("it is there").failure_policy = Some("Ignore".into());
})]
fn one_that_somebody_weakened_is_not(#[case] change: Change) {
    for name in ["tagout", "tagout-home"] {
        let mut found = lock(name, &leave());
        change(&mut found);
        for told in [vec![], vec![leave()]] {
            assert!(!is_ours(&found, "home", &told), "{name}");
        }
    }
}

#[test]
fn one_that_lets_others_write_secrets_is_not_tagouts() {
    let mut everybody = lock("tagout-home", &leave());
    variable(&mut everybody, "writesSecrets", |text| *text = "true".to_owned());
    let mut all_secrets = lock("tagout-home", &leave());
    variable(&mut all_secrets, "writesSecrets", |text| *text += " || request.userInfo.username == 'eve'");
    for told in [vec![], vec![leave()]] {
        assert!(!is_ours(&everybody, "home", &told));
        assert!(!is_ours(&all_secrets, "home", &told));
    }
    // What a policy may well say is measured by what Tagout was told.
    let one_more = Leave { secret_writers: vec![CERT_MANAGER.to_owned(), "eve".to_owned()], ..leave() };
    let one_secret_less = Leave { secrets: vec!["tagout-certificates".to_owned()], ..leave() };
    let another_secret = Leave { secrets: vec!["tagout-certificates".to_owned(), "another".to_owned()], ..leave() };
    for weaker in [one_more, one_secret_less, another_secret] {
        assert!(!is_ours(&lock("tagout-home", &weaker), "home", &[leave()]), "{weaker:?}");
    }
}

fn pod(args: &Value) -> Pod {
    let containers = json!([{"name": "sidecar", "args": ["serve"]}, {"name": "tagout", "args": args}]);
    serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).expect("a pod")
}

#[test]
fn what_tagout_was_told_stands_on_its_command_line() {
    let args =
        json!(["serve", "--secret-writer=system:serviceaccount:cert-manager:cert-manager", "--keep-secret", "mine"]);
    assert_eq!(told(&pod(&args)), Some(leave()));
    let another =
        told(&pod(&json!(["serve", "--certificates-secret=a", "--certificates-secret=b"]))).expect("it is told");
    assert_eq!((another.secrets, another.secret_writers), (vec!["b".to_owned()], Vec::new()));
    assert_eq!(told(&pod(&json!(["crds", "apply"]))), None);
    assert_eq!(told(&Pod::default()), None);
}

fn service() -> Place {
    Place { namespace: "home".into(), service: "tagout".into(), port: 443, ..Place::default() }
}

fn rule() -> ProtectionRule {
    let spec = json!({
        "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
        "namespaceSelector": {"matchLabels": {"environment": "production"}},
        "approval": {"require": [{"anyOf": ["sre"]}]},
    });
    serde_json::from_value(json!({"metadata": {"name": "r", "generation": 1}, "spec": spec})).expect("a rule")
}

/// What stands for the rule, changed by somebody, and as if written by this compiler.
fn found(compiler: u32, change: impl Fn(&mut ValidatingWebhook)) -> ValidatingWebhookConfiguration {
    let mut found = compile(&rule(), &[], &service());
    let annotations = found.metadata.annotations.as_mut().expect("annotations");
    annotations.insert("tagout.dev/compiler".into(), compiler.to_string());
    found.webhooks.iter_mut().flatten().for_each(change);
    found
}

fn severity(found: &ValidatingWebhookConfiguration) -> Option<Severity> {
    fault(found, &rule(), Some(&service())).map(|(severity, _)| severity)
}

#[test]
fn nobody_hides_what_they_changed_behind_the_name_of_another_version() {
    let nothing = |_: &mut ValidatingWebhook| {};
    assert_eq!(severity(&found(COMPILER, nothing)), None);
    assert_eq!(severity(&found(COMPILER + 1, nothing)), Some(Severity::Danger));
    assert_eq!(severity(&found(COMPILER - 1, nothing)), Some(Severity::Warning));
}

type Entry = fn(&mut ValidatingWebhook);

#[rstest]
#[case::lets_pass(|entry: &mut ValidatingWebhook| entry.failure_policy = Some("Ignore".into()))]
#[case::selects_no_namespace(|entry: &mut ValidatingWebhook| entry.namespace_selector = Some(nowhere()))]
#[case::selects_no_object(|entry: &mut ValidatingWebhook| entry.object_selector = Some(nowhere()))]
#[case::calls_another(|entry: &mut ValidatingWebhook| entry.client_config.service.as_mut().expect("a service").name = "mine".into())]
#[case::calls_a_url(|entry: &mut ValidatingWebhook| { entry.client_config.service = None; entry.client_config.url = Some("https://127.0.0.1/".into()); })]
fn an_entry_that_asks_less_is_a_danger_whoever_is_said_to_have_written_it(#[case] change: Entry) {
    for compiler in [COMPILER - 1, COMPILER, COMPILER + 1] {
        let changed = found(compiler, change);
        let (severity, says) = fault(&changed, &rule(), Some(&service())).expect("it is found");
        assert_eq!(severity, Severity::Danger);
        assert!(!says.contains("newer"), "what differs is said: {says}");
    }
}

fn nowhere() -> LabelSelector {
    LabelSelector { match_labels: Some([("no".to_owned(), "where".to_owned())].into()), match_expressions: None }
}

fn named(mut found: ValidatingWebhookConfiguration, name: &str) -> ValidatingWebhookConfiguration {
    found.metadata.name = Some(format!("tagout-{name}"));
    found
}

#[test]
fn what_another_version_is_said_to_have_written_is_not_read() {
    let nothing = |_: &mut ValidatingWebhook| {};
    let second = || {
        let mut second = rule();
        second.metadata.name = Some("second".to_owned());
        second
    };
    let (ours, newer) = (found(COMPILER, nothing), found(99, nothing));
    let foreign = |all: &[ValidatingWebhookConfiguration], rules: &[ProtectionRule]| -> Vec<String> {
        foreign(all, rules).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(foreign(from_ref(&ours), &[rule()]), [""; 0]);
    assert_eq!(foreign(from_ref(&newer), &[rule()]), ["tagout-r", "tagout"]);
    // One among others says nothing of what all share, and a stray one says nothing at all.
    let both = [ours, named(newer, "second")];
    assert_eq!(foreign(&both, &[rule(), second()]), ["tagout-second"]);
    assert_eq!(foreign(&both, &[rule()]), [""; 0]);
    assert_eq!(foreign(&[], &[]), [""; 0]);
}

#[test]
fn a_configuration_without_its_entries_is_a_danger_whoever_is_said_to_have_written_it() {
    for compiler in [COMPILER - 1, COMPILER, COMPILER + 1] {
        let mut changed = found(compiler, |_| {});
        changed.webhooks.as_mut().expect("entries").truncate(1);
        assert_eq!(severity(&changed), Some(Severity::Danger));
        changed.webhooks = None;
        assert_eq!(severity(&changed), Some(Severity::Danger));
    }
}

#[test]
fn the_shared_entries_are_compared_whoever_is_said_to_have_written_others() {
    let webhooks = entries::shared(&service());
    let with = |change: &dyn Fn(&mut Vec<ValidatingWebhook>)| {
        let mut webhooks = webhooks.clone();
        change(&mut webhooks);
        ValidatingWebhookConfiguration { webhooks: Some(webhooks), ..ValidatingWebhookConfiguration::default() }
    };
    for by_others in [false, true] {
        assert_eq!(shared_fault(&with(&|_| {}), by_others), None);
        for change in [
            &(|all: &mut Vec<ValidatingWebhook>| all[1].failure_policy = Some("Ignore".into())) as &dyn Fn(&mut _),
            &|all: &mut Vec<ValidatingWebhook>| drop(all.pop()),
            &|all: &mut Vec<ValidatingWebhook>| all.clear(),
        ] {
            assert!(shared_fault(&with(change), by_others).is_some());
        }
    }
}
