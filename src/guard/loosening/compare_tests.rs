use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{collection, option, prop_assert, prop_assert_eq};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::guard::quorum::{Person, missing};
use crate::guard::{Rule, Subject};

#[path = "budget_tests.rs"]
mod budgets;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

/// What a change from the first to the second is, and the way back.
#[derive(Clone, Copy)]
enum Is {
    Looser,
    /// Nothing that matters: free both ways.
    Same,
    /// Neither is known to be as strong as the other.
    Other,
}
use Is::{Looser, Other, Same};

fn set(spec: &Value, pointer: &str, value: &Value) -> Value {
    let mut spec = spec.clone();
    *spec.pointer_mut(pointer).expect("the field is in the spec") = value.clone();
    spec
}

#[track_caller]
fn both_ways(is: Is, there: &[String], back: &[String]) {
    let loosens = match is {
        Looser => (true, false),
        Same => (false, false),
        Other => (true, true),
    };
    assert_eq!((!there.is_empty(), !back.is_empty()), loosens, "there: {there:?}, back: {back:?}");
}

fn labels(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}

fn condition(name: &str, expression: &str) -> Value {
    json!({"name": name, "expression": expression})
}

fn entry(teams: &[&str], count: u8) -> Value {
    json!({"anyOf": teams, "count": count})
}

fn budget(count: u32, volumes: Option<u32>, window: &str, per: &str) -> Value {
    json!({"count": count, "volumes": volumes, "window": window, "per": per})
}

/// In one November.
fn once(from: &str, until: &str) -> Value {
    json!({"from": format!("2026-11-{from}"), "until": format!("2026-11-{until}"), "reason": "peak season"})
}

fn often(duration: &str) -> Value {
    json!({"schedule": "0 18 * * 5", "duration": duration, "reason": "weekend"})
}

fn with(freeze: &Value, field: &str, value: &str) -> Value {
    let mut freeze = freeze.clone();
    freeze[field] = json!(value);
    freeze
}

#[rstest]
#[case::mode("/mode", json!("Enforce"), json!("Warn"), Looser)]
#[case::mode_twice("/mode", json!("Enforce"), json!("Audit"), Looser)]
#[case::mode_of_a_trial("/mode", json!("Warn"), json!("Audit"), Looser)]
#[case::a_kind("/resources/0/resources", json!(["deployments", "statefulsets"]), json!(["deployments"]), Looser)]
#[case::a_kind_replaced("/resources/0/resources", json!(["deployments"]), json!(["statefulsets"]), Other)]
#[case::kinds_in_another_order(
    "/resources/0/resources", json!(["deployments", "statefulsets"]), json!(["statefulsets", "deployments"]), Same)]
#[case::a_group("/resources/0/apiGroups", json!(["apps", "extensions"]), json!(["apps"]), Looser)]
#[case::every_kind("/resources/0/resources", json!(["*"]), json!(["deployments"]), Looser)]
#[case::kinds_apart("/resources",
    json!([{"apiGroups": ["a", "b"], "resources": ["c"]}]),
    json!([{"apiGroups": ["b"], "resources": ["c"]}, {"apiGroups": ["a"], "resources": ["c"]}]), Same)]
#[case::kinds_crossed("/resources",
    json!([{"apiGroups": ["a", "b"], "resources": ["c", "d"]}]),
    json!([{"apiGroups": ["a"], "resources": ["c"]}, {"apiGroups": ["b"], "resources": ["d"]}]), Looser)]
#[case::namespaces("/namespaceSelector", json!({}), labels("env", "prod"), Looser)]
#[case::namespaces_with_more_labels("/namespaceSelector",
    labels("env", "prod"), json!({"matchLabels": {"env": "prod", "tier": "1"}}), Looser)]
#[case::namespaces_by_an_expression("/namespaceSelector", json!({}),
    json!({"matchExpressions": [{"key": "env", "operator": "Exists"}]}), Looser)]
#[case::namespaces_with_another_label("/namespaceSelector", labels("env", "prod"), labels("env", "test"), Other)]
#[case::namespaces_with_another_expression("/namespaceSelector",
    json!({"matchExpressions": [{"key": "env", "operator": "In", "values": ["a"]}]}),
    json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["a"]}]}), Other)]
#[case::empty_selectors("/namespaceSelector", json!({}), json!({"matchLabels": {}, "matchExpressions": []}), Same)]
#[case::objects("/objectSelector", json!({}), labels("env", "prod"), Looser)]
#[case::objects_by_an_expression("/objectSelector", json!({}),
    json!({"matchExpressions": [{"key": "env", "operator": "Exists"}]}), Looser)]
#[case::objects_with_another_label("/objectSelector", labels("env", "prod"), labels("env", "test"), Other)]
#[case::an_exception("/except", json!([]), json!([{"name": "preview-*"}]), Looser)]
#[case::another_exception("/except", json!([{"name": "a"}]), json!([{"name": "a*"}]), Other)]
#[case::an_exception_that_asks_less("/except",
    json!([{"name": "a", "annotation": "b"}]), json!([{"name": "a"}]), Other)]
#[case::exceptions_in_another_order("/except",
    json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "b"}, {"name": "a"}]), Same)]
#[case::a_condition("/matchConditions", json!([]), json!([condition("a", "false")]), Looser)]
#[case::a_condition_more("/matchConditions",
    json!([condition("a", "true")]), json!([condition("a", "true"), condition("b", "false")]), Looser)]
#[case::another_condition("/matchConditions",
    json!([condition("a", "true")]), json!([condition("a", "false")]), Other)]
#[case::a_condition_of_another_name("/matchConditions",
    json!([condition("a", "true")]), json!([condition("b", "true")]), Same)]
#[case::no_action("/actions", json!(["Delete"]), json!([]), Looser)]
#[case::proof("/approval/proof", json!("Signature"), json!("Identity"), Looser)]
#[case::proof_by_hardware("/approval/proof", json!("HardwareKey"), json!("Signature"), Looser)]
#[case::verification("/approval/requireVerification", json!(true), json!(false), Looser)]
#[case::fewer_people("/approval/require", json!([entry(&["sre"], 2)]), json!([entry(&["sre"], 1)]), Looser)]
#[case::one_team_more("/approval/require", json!([entry(&["sre"], 1)]), json!([entry(&["sre", "dba"], 1)]), Looser)]
#[case::another_team("/approval/require", json!([entry(&["sre"], 1)]), json!([entry(&["dba"], 1)]), Other)]
#[case::more_of_other_people("/approval/require", json!([entry(&["sre"], 1)]), json!([entry(&["sre", "dba"], 2)]), Other)]
#[case::an_entry_less("/approval/require",
    json!([entry(&["sre"], 1), entry(&["dba"], 1)]), json!([entry(&["sre"], 1)]), Looser)]
#[case::an_entry_less_of_two_alike("/approval/require",
    json!([entry(&["sre"], 1), entry(&["sre"], 1)]), json!([entry(&["sre"], 1)]), Looser)]
#[case::no_entry("/approval/require", json!([entry(&["sre"], 1)]), json!([]), Looser)]
#[case::entries_in_another_order("/approval/require",
    json!([entry(&["sre", "dba"], 1), entry(&["sre"], 1)]), json!([entry(&["sre"], 1), entry(&["dba", "sre"], 1)]), Same)]
#[case::entries_of_which_one_changed_places_and_grew("/approval/require",
    json!([entry(&["sre"], 2), entry(&["sre", "dba"], 1)]), json!([entry(&["sre", "dba"], 1), entry(&["sre"], 1)]), Looser)]
#[case::separation("/approval/separateFromRequester", json!(true), json!(false), Looser)]
#[case::time("/approval/validFor", json!("30m"), json!("31m"), Looser)]
#[case::the_same_time("/approval/validFor", json!("30m"), json!("1800s"), Same)]
#[case::no_time("/approval/validFor", json!("30m"), json!("soon"), Other)]
#[case::glass("/approval/breakGlass/anyOf", json!([]), json!(["oncall"]), Looser)]
#[case::more_glass("/approval/breakGlass/anyOf", json!(["sre"]), json!(["sre", "oncall"]), Looser)]
#[case::other_glass("/approval/breakGlass/anyOf", json!(["sre"]), json!(["oncall"]), Other)]
#[case::failure_policy("/failurePolicy", json!("Fail"), json!("Ignore"), Looser)]
#[case::owned("/owned", json!("Include"), json!("Auto"), Looser)]
#[case::owned_by_any("/owned", json!("Auto"), json!("Follow"), Other)]
#[case::tolerance("/tolerate", json!(null), json!({"objects": 1}), Looser)]
#[case::more_tolerance("/tolerate", json!({"objects": 1}), json!({"objects": 2}), Looser)]
#[case::an_allowance("/allowance", json!(null), budget(1, None, "10m", "Rule"), Looser)]
#[case::a_greater_allowance("/allowance", budget(1, None, "10m", "Rule"), budget(2, None, "10m", "Rule"), Looser)]
#[case::an_allowance_that_slides_faster(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(1, None, "599s", "Rule"),
    Looser
)]
#[case::an_allowance_in_other_words(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(1, None, "600s", "Rule"),
    Same
)]
#[case::an_allowance_of_any_volumes(
    "/allowance",
    budget(1, Some(5), "10m", "Rule"),
    budget(1, None, "10m", "Rule"),
    Looser
)]
#[case::an_allowance_of_more_volumes(
    "/allowance",
    budget(1, Some(0), "10m", "Rule"),
    budget(1, Some(1), "10m", "Rule"),
    Looser
)]
#[case::an_allowance_for_each_requester(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(1, None, "10m", "Requester"),
    Looser
)]
#[case::an_allowance_for_each_namespace(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(1, None, "10m", "Namespace"),
    Looser
)]
#[case::an_allowance_for_others(
    "/allowance",
    budget(1, None, "10m", "Namespace"),
    budget(1, None, "10m", "Requester"),
    Other
)]
#[case::an_allowance_of_more_that_slides_slower(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(6, None, "1h", "Rule"),
    Other
)]
#[case::an_allowance_without_a_window(
    "/allowance",
    budget(1, None, "10m", "Rule"),
    budget(1, None, "soon", "Rule"),
    Other
)]
#[case::no_ceiling("/ceiling", budget(20, None, "1h", "Rule"), json!(null), Looser)]
#[case::a_higher_ceiling("/ceiling", budget(20, None, "1h", "Rule"), budget(21, None, "1h", "Rule"), Looser)]
#[case::a_ceiling_that_slides_faster(
    "/ceiling",
    budget(20, None, "1h", "Rule"),
    budget(20, None, "59m", "Rule"),
    Looser
)]
#[case::a_ceiling_of_any_volumes("/ceiling", budget(20, Some(1), "1h", "Rule"), budget(20, None, "1h", "Rule"), Looser)]
#[case::a_ceiling_for_each_requester(
    "/ceiling",
    budget(20, None, "1h", "Rule"),
    budget(20, None, "1h", "Requester"),
    Looser
)]
#[case::a_ceiling_for_others(
    "/ceiling",
    budget(20, None, "1h", "Requester"),
    budget(20, None, "1h", "Namespace"),
    Other
)]
#[case::memory("/recreation/window", json!("24h"), json!("23h"), Looser)]
#[case::the_same_memory("/recreation/window", json!("24h"), json!("1440m"), Same)]
#[case::no_memory("/recreation/window", json!("24h"), json!("never"), Other)]
#[case::a_freeze("/freeze", json!([once("20T18:00", "27T08:00")]), json!([]), Looser)]
#[case::a_freeze_that_begins_later(
    "/freeze", json!([once("20T18:00", "27T08:00")]), json!([once("20T18:01", "27T08:00")]), Looser)]
#[case::a_freeze_that_ends_earlier(
    "/freeze", json!([once("20T18:00", "27T08:00")]), json!([once("20T18:00", "27T07:59:59")]), Looser)]
#[case::a_freeze_at_another_time(
    "/freeze", json!([once("20T18:00", "27T08:00")]), json!([once("21T18:00", "28T08:00")]), Other)]
#[case::a_freeze_elsewhere("/freeze", json!([once("20T18:00", "27T08:00")]),
    json!([with(&once("20T18:00", "27T08:00"), "timeZone", "Europe/Berlin")]), Other)]
#[case::a_freeze_for_another_reason("/freeze", json!([once("20T18:00", "27T08:00")]),
    json!([with(&once("20T18:00", "27T08:00"), "reason", "other")]), Same)]
#[case::a_freeze_among_others("/freeze", json!([once("20T18:00", "27T08:00"), often("62h")]),
    json!([often("62h"), once("20T18:00", "27T08:00")]), Same)]
#[case::a_freeze_that_another_covers("/freeze",
    json!([once("20T18:00", "27T08:00"), once("21T18:00", "22T18:00")]), json!([once("20T18:00", "27T08:00")]), Same)]
#[case::a_freeze_that_comes_again("/freeze", json!([often("62h")]), json!([]), Looser)]
#[case::a_freeze_that_lasts_shorter("/freeze", json!([often("62h")]), json!([often("61h")]), Looser)]
#[case::a_freeze_of_another_schedule(
    "/freeze", json!([often("62h")]), json!([with(&often("62h"), "schedule", "0 17 * * 5")]), Other)]
#[case::a_freeze_once_and_no_more(
    "/freeze", json!([often("62h")]), json!([once("01T00:00", "27T08:00")]), Other)]
fn a_change_of_a_rule(#[case] field: &str, #[case] one: Value, #[case] other: Value, #[case] is: Is) {
    let base = json!({
        "mode": "Enforce",
        "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
        "namespaceSelector": {}, "objectSelector": {}, "except": [], "matchConditions": [], "actions": ["Delete"],
        "owned": "Include", "tolerate": null, "allowance": null, "ceiling": null, "recreation": {"window": "24h"},
        "freeze": [],
        "approval": {"proof": "HardwareKey", "requireVerification": false, "require": [{"anyOf": ["sre"], "count": 1}],
            "separateFromRequester": true, "validFor": "30m", "breakGlass": {"anyOf": []}},
        "failurePolicy": "Fail",
    });
    let read = |value| -> ProtectionRuleSpec { serde_json::from_value(set(&base, field, value)).unwrap() };
    let (one, other) = (read(&one), read(&other));
    let (there, back) = (loosened_rule(&one, &other, NOW), loosened_rule(&other, &one, NOW));
    both_ways(is, &there, &back);
    // It is told by the field in which it lies, once.
    let named = field.trim_start_matches('/').replace('/', ".");
    let named = named.split('.').take(if named.starts_with("approval") { 2 } else { 1 }).collect::<Vec<_>>().join(".");
    for told in [there, back] {
        assert!(told.len() <= 1 && told.iter().all(|text| text.starts_with(&format!("{named}:"))), "{told:?}");
    }
}

fn user(name: &str) -> Value {
    json!({"user": name})
}

fn with_key(key: &Value) -> Value {
    json!([{"user": "alice", "keys": [key]}])
}

fn until(expires: Option<&str>) -> Value {
    let mut revoked = json!({"statement": "sha256:00"});
    if let Some(expires) = expires {
        revoked["expires"] = json!(expires);
    }
    json!([revoked])
}

#[rstest]
#[case::a_group("/groups", json!([]), json!(["oidc:sre"]), Looser)]
#[case::another_group("/groups", json!(["oidc:sre"]), json!(["oidc:dev"]), Other)]
#[case::groups_in_another_order("/groups", json!(["a", "b"]), json!(["b", "a"]), Same)]
#[case::a_member("/members", json!([user("alice")]), json!([user("alice"), user("bob")]), Looser)]
#[case::another_member("/members", json!([user("alice")]), json!([user("bob")]), Other)]
#[case::a_member_in_other_letters("/members", json!([user("alice")]), json!([user("Alice")]), Other)]
#[case::a_key("/members", json!([user("alice")]), with_key(&json!({"publicKey": "k"})), Looser)]
#[case::another_key("/members", with_key(&json!({"publicKey": "k"})), with_key(&json!({"publicKey": "l"})), Other)]
#[case::a_key_of_somebody_else("/members",
    json!([{"user": "alice", "keys": [{"publicKey": "k"}]}, user("bob")]),
    json!([user("alice"), {"user": "bob", "keys": [{"publicKey": "k"}]}]), Other)]
#[case::a_key_for_longer("/members",
    with_key(&json!({"publicKey": "k", "validBefore": "2027-01-01T00:00:00Z"})), with_key(&json!({"publicKey": "k"})), Looser)]
#[case::a_key_for_a_year_longer("/members",
    with_key(&json!({"publicKey": "k", "validBefore": "2027-01-01T00:00:00Z"})),
    with_key(&json!({"publicKey": "k", "validBefore": "2028-01-01T00:00:00Z"})), Looser)]
#[case::a_key_since_always("/members",
    with_key(&json!({"publicKey": "k", "validAfter": "2026-01-01T00:00:00Z"})), with_key(&json!({"publicKey": "k"})), Looser)]
#[case::a_key_since_earlier("/members",
    with_key(&json!({"publicKey": "k", "validAfter": "2026-01-01T00:00:00Z"})),
    with_key(&json!({"publicKey": "k", "validAfter": "2025-01-01T00:00:00Z"})), Looser)]
#[case::a_key_at_another_time("/members",
    with_key(&json!({"publicKey": "k", "validAfter": "2026-01-01T00:00:00Z", "validBefore": "2026-02-01T00:00:00Z"})),
    with_key(&json!({"publicKey": "k", "validAfter": "2026-03-01T00:00:00Z", "validBefore": "2026-04-01T00:00:00Z"})), Other)]
#[case::a_key_that_was_revoked("/revokedKeys", json!(["SHA256:k"]), json!([]), Looser)]
#[case::another_key_that_was_revoked("/revokedKeys", json!(["SHA256:k"]), json!(["SHA256:l"]), Other)]
#[case::a_revocation("/revoked", until(None), json!([]), Looser)]
#[case::a_revocation_that_is_not_over("/revoked", until(Some("2026-11-21T10:00:01Z")), json!([]), Looser)]
#[case::a_revocation_that_is_over("/revoked", until(Some("2026-11-21T10:00:00Z")), json!([]), Same)]
#[case::a_revocation_for_shorter("/revoked", until(None), until(Some("2030-01-01T00:00:00Z")), Looser)]
#[case::a_revocation_for_a_year_less(
    "/revoked",
    until(Some("2031-01-01T00:00:00Z")),
    until(Some("2030-01-01T00:00:00Z")),
    Looser
)]
#[case::a_revocation_of_another("/revoked", until(None), json!([{"statement": "sha256:01"}]), Other)]
fn a_change_of_a_team(#[case] field: &str, #[case] one: Value, #[case] other: Value, #[case] is: Is) {
    let base = json!({"groups": [], "members": [], "revokedKeys": [], "revoked": []});
    let read = |value| -> ApproverTeamSpec { serde_json::from_value(set(&base, field, value)).unwrap() };
    let (one, other) = (read(&one), read(&other));
    let compare = |old, new| loosened_team(Some(old), Some(new), NOW);
    both_ways(is, &compare(&one, &other), &compare(&other, &one));
}

#[test]
fn a_team_that_comes_loosens_by_whom_it_names_and_one_that_goes_by_what_it_revoked() {
    let team: ApproverTeamSpec =
        serde_json::from_value(json!({"groups": ["g"], "members": [user("alice")], "revokedKeys": ["SHA256:k"]}))
            .unwrap();
    assert_eq!(loosened_team(None, Some(&team), NOW), ["group \"g\" may approve", "\"alice\" may approve"]);
    assert_eq!(loosened_team(Some(&team), None, NOW), ["key SHA256:k is revoked no more"]);
    let team = ApproverTeamSpec { revoked_keys: Vec::new(), ..team };
    assert!(loosened_team(Some(&team), None, NOW).is_empty());
    assert!(loosened_team(None, None, NOW).is_empty());
}

#[test]
fn a_spec_has_one_hash_however_it_is_written_and_another_one_another() {
    let read = |text: &str| -> ProtectionRuleSpec { serde_json::from_str(text).unwrap() };
    let short =
        r#"{"resources":[{"apiGroups":["apps"],"resources":["x"]}],"approval":{"require":[{"anyOf":["sre"]}]}}"#;
    let long = r#"{"mode":"Enforce","approval":{"validFor":"30m","require":[{"count":1,"anyOf":["sre"]}],
        "separateFromRequester":true,"proof":"Identity"},"resources":[{"resources":["x"],"apiGroups":["apps"]}],
        "actions":["Delete","Recreate","ScaleToZero","Reparent","Finalize","DiscardData","Unprotect"],"except":[],"failurePolicy":"Fail"}"#;
    assert_eq!(spec_hash(&read(short)), spec_hash(&read(long)));
    assert_eq!(spec_hash(&read(short)), spec_hash(&serde_json::to_value(read(long)).unwrap()));
    for (from, to) in [("sre", "dba"), ("\"x\"", "\"y\""), ("{\"require", "{\"validFor\":\"1800s\",\"require")] {
        assert_ne!(spec_hash(&read(short)), spec_hash(&read(&short.replace(from, to))), "{to}");
    }
}

fn words() -> impl Strategy<Value = Vec<String>> {
    collection::btree_set("[abc]", 1..3).prop_map(|words| words.into_iter().collect())
}

fn selectors() -> impl Strategy<Value = Value> {
    let expression = ("[ab]", prop_oneof![Just("In"), Just("NotIn"), Just("Exists"), Just("DoesNotExist")], words());
    let expression = expression.prop_map(|(key, operator, values)| {
        let values = if operator.ends_with("In") { values } else { Vec::new() };
        json!({"key": key, "operator": operator, "values": values})
    });
    (collection::btree_map("[ab]", "[ab]", 0..3), collection::vec(expression, 0..3))
        .prop_map(|(labels, expressions)| json!({"matchLabels": labels, "matchExpressions": expressions}))
}

fn requirements() -> impl Strategy<Value = Value> {
    let entry = (words(), 1_u8..4).prop_map(|(teams, count)| json!({"anyOf": teams, "count": count}));
    collection::vec(entry, 1..4).prop_map(Value::from)
}

fn rules() -> impl Strategy<Value = ProtectionRuleSpec> {
    let resources = (words(), prop_oneof![words(), Just(vec!["*".to_owned()])]);
    let resources = resources.prop_map(|(groups, resources)| json!({"apiGroups": groups, "resources": resources}));
    let except = (option::of("[ab]"), option::of("[ab]")).prop_filter_map("says nothing", |(name, annotation)| {
        (name.is_some() || annotation.is_some()).then(|| json!({"name": name, "annotation": annotation}))
    });
    let choice = (
        collection::vec(resources, 1..3),
        selectors(),
        selectors(),
        collection::vec(except, 0..3),
        collection::vec("[ab]", 0..3),
    );
    let terms = (
        prop_oneof![Just("Identity"), Just("Signature"), Just("HardwareKey")],
        any::<bool>(),
        requirements(),
        any::<bool>(),
        1_u32..90,
        collection::btree_set("[abc]", 0..3),
    );
    let rest = (prop_oneof![Just("Audit"), Just("Warn"), Just("Enforce")], prop_oneof![Just("Fail"), Just("Ignore")]);
    (choice, terms, rest).prop_map(|(choice, terms, rest)| {
        let conditions: Vec<_> = choice.4.iter().map(|expression| condition("c", expression)).collect();
        let approval = json!({"proof": terms.0, "requireVerification": terms.1, "require": terms.2,
            "separateFromRequester": terms.3, "validFor": format!("{}m", terms.4), "breakGlass": {"anyOf": terms.5}});
        let spec = json!({"mode": rest.0, "resources": choice.0, "namespaceSelector": choice.1,
            "objectSelector": choice.2, "except": choice.3, "matchConditions": conditions, "actions": ["Delete"],
            "approval": approval, "failurePolicy": rest.1});
        serde_json::from_value(spec).unwrap()
    })
}

/// A rule like another but for one thing.
fn alike() -> impl Strategy<Value = (ProtectionRuleSpec, ProtectionRuleSpec)> {
    (rules(), rules(), 0..6).prop_map(|(old, other, field)| {
        let mut new = old.clone();
        match field {
            0 => new.resources = other.resources,
            1 => new.namespace_selector = other.namespace_selector,
            2 => new.object_selector = other.object_selector,
            3 => new.except = other.except,
            4 => new.approval.require = other.approval.require,
            _ => new = other,
        }
        (old, new)
    })
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_rule_is_no_weaker_than_itself(rule in rules()) {
        prop_assert_eq!(loosened_rule(&rule, &rule, NOW), Vec::<String>::new());
    }

    #[test]
    fn a_rule_is_no_weaker_than_itself_with_its_lists_turned_round(rule in rules()) {
        let mut turned = rule.clone();
        turned.resources.reverse();
        turned.except.reverse();
        turned.match_conditions.reverse();
        turned.approval.require.reverse();
        turned.approval.require.iter_mut().for_each(|entry| entry.any_of.reverse());
        turned.approval.break_glass.any_of.reverse();
        prop_assert_eq!(loosened_rule(&rule, &turned, NOW), Vec::<String>::new());
    }

    #[test]
    fn what_a_rule_covers_a_rule_that_is_no_weaker_covers_too(
        (old, new) in alike(),
        names in ("[abc]", "[abc]", "[abc]"),
        labels in collection::btree_map("[ab]", "[abc]", 0..3),
        annotation in "[abc]",
    ) {
        if loosened_rule(&old, &new, NOW).is_empty() {
            let (old, new) = (Rule::read("r", &old).unwrap(), Rule::read("r", &new).unwrap());
            let subject = Subject {
                group: names.0.into(),
                resource: names.1.into(),
                name: names.2.into(),
                labels: std::borrow::Cow::Borrowed(&labels),
                annotations: vec![annotation.into()],
                ..Subject::default()
            };
            prop_assert!(new.covers(&subject) || !old.covers(&subject));
            prop_assert!(new.selects_namespace(&labels) || !old.selects_namespace(&labels));
        }
    }

    #[test]
    fn whoever_meets_a_rule_that_is_no_weaker_meets_the_one_before(
        old in requirements(),
        new in requirements(),
        people in collection::vec(collection::btree_set("[abc]", 0..3), 0..7),
    ) {
        let read = |value| -> Vec<Requirement> { serde_json::from_value(value).unwrap() };
        let (old, new) = (read(old), read(new));
        let people: Vec<_> =
            people.iter().map(|teams| Person { name: "x", teams: teams.iter().map(String::as_str).collect() }).collect();
        if asks_as_much(&new, &old) && missing(&new, &people).is_empty() {
            prop_assert!(missing(&old, &people).is_empty());
        }
    }
}
