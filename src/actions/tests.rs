use proptest::prelude::*;
use rstest::rstest;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

fn seen_in(group: &str, resource: &str, subresource: &str, old: &Value, new: &Value) -> Vec<Seen> {
    let raw = |value: &Value| serde_json::value::to_raw_value(value).unwrap();
    let (old, new): (Box<RawValue>, Box<RawValue>) = (raw(old), raw(new));
    seen(&Write { group, resource, subresource, old: Part::of(Some(&old)), new: Part::of(Some(&new)) })
}

fn actions(group: &str, resource: &str, old: &Value, new: &Value) -> Vec<Action> {
    seen_in(group, resource, "", old, new).into_iter().map(|seen| seen.action).collect()
}

fn replicas(replicas: &Value) -> Value {
    json!({"spec": {"replicas": replicas}})
}

#[rstest]
#[case::to_zero(json!(3), json!(0), true)]
#[case::down(json!(3), json!(1), false)]
#[case::up_from_zero(json!(0), json!(3), false)]
#[case::that_is_zero_already(json!(0), json!(0), false)]
#[case::to_what_its_operator_takes_for_granted(json!(3), Value::Null, false)]
#[case::of_another_type(json!("3"), json!("0"), false)]
fn replicas_that_fall_to_zero_are_seen(#[case] old: Value, #[case] new: Value, #[case] is: bool) {
    for (group, resource) in [("apps", "deployments"), ("databases.example.com", "clusters")] {
        let expected = if is { vec![Action::ScaleToZero] } else { vec![] };
        assert_eq!(actions(group, resource, &replicas(&old), &replicas(&new)), expected);
    }
}

#[test]
fn a_scale_without_replicas_is_a_scale_to_zero() {
    let (two, none) = (replicas(&json!(2)), json!({"spec": {}}));
    assert_eq!(seen_in("apps", "deployments", "scale", &two, &none)[0].action, Action::ScaleToZero);
    assert!(seen_in("apps", "deployments", "scale", &none, &none).is_empty());
    assert!(seen_in("apps", "deployments", "scale", &none, &two).is_empty());
}

#[rstest]
#[case::suspended(json!({"suspend": false}), json!({"suspend": true}), true)]
#[case::suspended_already(json!({"suspend": true}), json!({"suspend": true}), false)]
#[case::resumed(json!({"suspend": true}), json!({}), false)]
#[case::running_nothing(json!({"parallelism": 4}), json!({"parallelism": 0}), true)]
fn a_job_that_is_stopped_is_seen(#[case] old: Value, #[case] new: Value, #[case] is: bool) {
    let found = actions("batch", "jobs", &json!({"spec": old}), &json!({"spec": new}));
    assert_eq!(found, if is { vec![Action::ScaleToZero] } else { vec![] });
}

#[test]
fn another_kinds_suspend_is_its_own_business() {
    let spec = |suspend: bool| json!({"spec": {"suspend": suspend}});
    assert!(actions("kustomize.toolkit.fluxcd.io", "kustomizations", &spec(false), &spec(true)).is_empty());
}

#[test]
fn a_stateful_set_whose_pods_are_numbered_anew_loses_some() {
    let spec = |start: i64| json!({"spec": {"replicas": 3, "ordinals": {"start": start}}});
    assert_eq!(actions("apps", "statefulsets", &spec(0), &spec(3)), [Action::ScaleToZero]);
    assert!(actions("apps", "statefulsets", &spec(1), &spec(1)).is_empty());
}

fn placed(strategy: &str, pod: &Value) -> Value {
    json!({"spec": {"replicas": 2, "strategy": {"type": strategy}, "template": {"spec": pod}}})
}

#[test]
fn a_new_placement_asks_whether_a_node_is_so() {
    let (anywhere, there) = (json!({}), json!({"nodeSelector": {"pool": "x"}}));
    let ask = |resource: &str, strategy: &str, new: &Value| {
        let found = seen_in("apps", resource, "", &placed(strategy, &anywhere), &placed(strategy, new));
        found.into_iter().next().and_then(|seen| seen.unless)
    };
    let Some(Question::NodeFits(placement)) = ask("daemonsets", "", &there) else { panic!("it is not asked") };
    assert!(placement.fits(&[("pool".to_owned(), "x".to_owned())].into()));
    assert!(!placement.fits(&[("pool".to_owned(), "y".to_owned())].into()));
    assert!(ask("deployments", "Recreate", &there).is_some());
    assert!(ask("deployments", "RollingUpdate", &there).is_none(), "old pods stay until new ones run");
    assert!(ask("daemonsets", "", &anywhere).is_none());
    assert!(ask("statefulsets", "", &there).is_some(), "it deletes a pod before it makes the next");
    let stuck = placed("RollingUpdate", &there);
    for strategy in [
        json!({"type": "Recreate"}),
        json!({"rollingUpdate": {"maxUnavailable": "100%"}}),
        json!({"rollingUpdate": {"maxUnavailable": 2}}),
    ] {
        let mut let_go = stuck.clone();
        let_go["spec"]["strategy"] = strategy;
        assert_eq!(actions("apps", "deployments", &stuck, &let_go), [Action::ScaleToZero]);
    }
    let term = |key: &str, operator: &str, values: &[&str]| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
    };
    for (operator, values, fits) in [
        ("In", &["8", "9"][..], true),
        ("In", &["9"], false),
        ("NotIn", &["9"], true),
        ("Exists", &[], true),
        ("DoesNotExist", &[], false),
        ("Gt", &["7"], true),
        ("Lt", &["7"], false),
        ("Near", &["8"], false),
    ] {
        let Some(Question::NodeFits(placement)) = ask("daemonsets", "", &term("cpus", operator, values)) else {
            panic!()
        };
        assert_eq!(placement.fits(&[("cpus".to_owned(), "8".to_owned())].into()), fits, "{operator}");
    }
    let by_field = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
    let Some(Question::NodeFits(placement)) = ask("daemonsets", "", &by_field) else { panic!("it is not asked") };
    assert!(!placement.fits(&[].into()), "what is not understood is not relied upon");
}

fn owned(owners: &[(&str, bool)]) -> Value {
    let one = |(uid, controller): &(&str, bool)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid, "controller": controller});
    json!({"metadata": {"ownerReferences": owners.iter().map(one).collect::<Vec<_>>()}})
}

#[rstest]
#[case::one_joins(&[], &["a"], Some((1, 1)))]
#[case::one_leaves_and_one_stays(&["a", "b"], &["b"], Some((0, 1)))]
#[case::all_leave(&["a"], &[], None)]
#[case::none_changes(&["a", "b"], &["b", "a"], None)]
fn what_owners_must_be_shown_to_live(
    #[case] before: &[&str],
    #[case] after: &[&str],
    #[case] asked: Option<(usize, usize)>,
) {
    let list = |uids: &[&str]| owned(&uids.iter().map(|uid| (*uid, false)).collect::<Vec<_>>());
    let found = seen_in("apps", "deployments", "status", &list(before), &list(after));
    let question = found.into_iter().next().and_then(|seen| seen.unless);
    let counts = question.map(|question| match question {
        Question::OwnersLive { joining, all } => (joining.len(), all.len()),
        other => panic!("{other:?}"),
    });
    assert_eq!(counts, asked);
}

#[test]
fn more_owners_than_anybody_reads_are_refused_unasked() {
    let many: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(|uid| (uid.as_str(), false)).collect();
    let found = seen_in("apps", "deployments", "", &owned(&[]), &owned(&many));
    assert_eq!((found[0].action, &found[0].unless), (Action::Reparent, &None));
}

#[test]
fn a_controller_that_joins_is_noticed_and_one_that_was_there_is_not() {
    let joins = |before: &Value, after: &Value| {
        let raw = |value: &Value| serde_json::value::to_raw_value(value).unwrap();
        let (old, new): (Box<RawValue>, Box<RawValue>) = (raw(before), raw(after));
        let (old, new) = (Part::of(Some(&old)), Part::of(Some(&new)));
        unprotect::gets_a_controller(&Write { group: "", resource: "secrets", subresource: "", old, new })
    };
    assert!(joins(&owned(&[]), &owned(&[("a", true)])));
    assert!(joins(&owned(&[("a", false)]), &owned(&[("a", true)])));
    assert!(!joins(&owned(&[]), &owned(&[("a", false)])));
    assert!(!joins(&owned(&[("a", true)]), &owned(&[("a", true), ("b", false)])));
}

fn finalizers(list: &[&str]) -> Value {
    json!({"metadata": {"finalizers": list}})
}

#[rstest]
#[case::any(("", "services"), "example.com/x", json!({}), true)]
#[case::a_load_balancers(("", "services"), "service.kubernetes.io/load-balancer-cleanup", json!({"type": "ClusterIP"}), false)]
#[case::a_load_balancers_that_stays_one(("", "services"), "service.kubernetes.io/load-balancer-cleanup", json!({"type": "LoadBalancer"}), true)]
#[case::a_snapshots(("", "persistentvolumeclaims"), "snapshot.storage.kubernetes.io/pvc-as-source-protection", json!({}), false)]
#[case::a_claims(("", "persistentvolumeclaims"), "kubernetes.io/pvc-protection", json!({}), true)]
#[case::a_disks_that_is_kept(("", "persistentvolumes"), "kubernetes.io/pv-controller", json!({"persistentVolumeReclaimPolicy": "Retain"}), false)]
#[case::a_disks_that_is_not(("", "persistentvolumes"), "kubernetes.io/pv-controller", json!({"persistentVolumeReclaimPolicy": "Delete"}), true)]
fn a_finalizer_taken_off_is_seen_unless_controllers_do_it_as_daily_work(
    #[case] (group, resource): (&str, &str),
    #[case] finalizer: &str,
    #[case] spec: Value,
    #[case] is: bool,
) {
    let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}, "spec": spec});
    let found = actions(group, resource, &with(json!(["kept", finalizer])), &with(json!(["kept"])));
    assert_eq!(found, if is { vec![Action::Finalize] } else { vec![] });
}

#[test]
fn what_is_going_is_left_to_those_who_clean_up() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}, "spec": {"replicas": 1}});
    assert!(actions("apps", "deployments", &going, &replicas(&json!(0))).is_empty());
    assert_eq!(actions("apps", "deployments", &finalizers(&["x"]), &finalizers(&[])), [Action::Finalize]);
}

#[rstest]
#[case::everything(json!({"data": {"a": "x", "b": "y"}}), json!({}), true)]
#[case::everything_but_a_dummy(json!({"data": {"a": "x"}}), json!({"data": {"dummy": "x"}}), true)]
#[case::every_value(json!({"data": {"a": "x"}}), json!({"data": {"a": ""}}), true)]
#[case::binary(json!({"binaryData": {"a": "x"}}), json!({"binaryData": {}}), true)]
#[case::one_key(json!({"data": {"a": "x", "b": "y"}}), json!({"data": {"a": "x"}}), false)]
#[case::rotation(json!({"data": {"a": "x"}}), json!({"data": {"a": "y"}}), false)]
#[case::what_was_empty(json!({"data": {"a": ""}}), json!({}), false)]
fn data_that_is_emptied_is_seen(#[case] old: Value, #[case] new: Value, #[case] is: bool) {
    for resource in ["secrets", "configmaps"] {
        assert_eq!(actions("", resource, &old, &new), if is { vec![Action::DiscardData] } else { vec![] });
    }
}

#[test]
fn a_volume_that_loses_its_policy_or_its_claim_is_seen_and_one_that_is_bound_is_not() {
    let volume =
        |policy: &str, claim: Value| json!({"spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": claim}});
    let claim = json!({"namespace": "n", "name": "c", "uid": "u", "resourceVersion": "1"});
    let of = |old: &Value, new: &Value| actions("", "persistentvolumes", old, new);
    let kept = volume("Retain", claim.clone());
    assert_eq!(of(&kept, &volume("Delete", claim.clone())), [Action::DiscardData]);
    assert_eq!(of(&kept, &volume("Retain", Value::Null)), [Action::DiscardData]);
    for part in ["namespace", "name", "uid"] {
        let mut other = claim.clone();
        other[part] = json!("other");
        assert_eq!(of(&kept, &volume("Retain", other)), [Action::DiscardData], "{part}");
    }
    let mut later = claim.clone();
    later["resourceVersion"] = json!("2");
    assert!(of(&kept, &volume("Retain", later)).is_empty());
    let reserved = json!({"namespace": "n", "name": "c"});
    assert!(of(&volume("Delete", reserved), &volume("Delete", claim.clone())).is_empty(), "binding is daily work");
    assert!(of(&volume("Delete", claim.clone()), &kept).is_empty());
    let phase = |phase: &str| json!({"spec": {"claimRef": claim}, "status": {"phase": phase}});
    let found = seen_in("", "persistentvolumes", "status", &phase("Bound"), &phase("Released"));
    assert!(matches!(&found[0].unless, Some(Question::ClaimGone { uid, .. }) if uid == "u"));
}

#[test]
fn a_definition_that_is_extended_or_gets_a_new_certificate_is_daily_work() {
    let version = |properties: Value, served: bool| json!({"name": "v1", "served": served, "schema": {"openAPIV3Schema": {"properties": {"spec": {"properties": properties}}}}});
    let definition = |versions: Vec<Value>, bundle: &str, service: &str| {
        json!({"spec": {"versions": versions, "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {
            "caBundle": bundle, "service": {"name": service}}}}}})
    };
    let some = || version(json!({"a": {}}), true);
    let old = definition(vec![some()], "x", "s");
    let of = |new: &Value| actions("apiextensions.k8s.io", "customresourcedefinitions", &old, new);
    let mut second = version(json!({}), true);
    second["name"] = json!("v2");
    assert!(of(&definition(vec![some(), second], "y", "s")).is_empty());
    assert!(of(&definition(vec![version(json!({"a": {}, "b": {}}), true)], "x", "s")).is_empty());
    for worse in [
        definition(vec![some()], "x", "other"),
        definition(vec![version(json!({"a": {}}), false)], "x", "s"),
        definition(vec![version(json!({}), true)], "x", "s"),
        definition(vec![version(json!({"b": {}}), true)], "x", "s"),
        json!({"spec": {"versions": [some()]}}),
    ] {
        assert_eq!(of(&worse), [Action::Unprotect], "{worse}");
    }
}

proptest! {
    #[test]
    fn no_object_makes_looking_at_it_panic(old in any::<String>(), new in "\\PC*", depth in 0..40_usize) {
        let nested = format!("{}{}", "{\"spec\":".repeat(depth), "}".repeat(depth));
        for text in [old.as_str(), new.as_str(), nested.as_str(), "{\"spec\":[]}", "{\"metadata\":{\"finalizers\":{}}}"] {
            let Ok(raw) = serde_json::from_str::<Box<RawValue>>(text) else { continue };
            let part = Part::of(Some(&raw));
            for (group, resource) in [("apps", "daemonsets"), ("", "secrets"), ("", "persistentvolumes"),
                ("apiextensions.k8s.io", "customresourcedefinitions"), ("batch", "jobs")] {
                seen(&Write { group, resource, subresource: "", old: part, new: Part::default() });
                seen(&Write { group, resource, subresource: "scale", old: Part::default(), new: part });
            }
        }
    }
}
