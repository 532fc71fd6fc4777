//! What cannot be right is refused as it is written, and whoever wrote it is told what to write instead.

use controlplane::User;
use serde_json::{Value, json};

use crate::world::{Outcome, eventually, rule, shared, text};

/// A valid rule with this changed: a JSON merge patch of its spec.
fn changed(patch: &Value) -> Value {
    let mut manifest = rule("schema", "schema");
    merge(&mut manifest["spec"], patch);
    manifest
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn named(name: &str) -> Value {
    rule(name, "schema")
}

fn team(spec: &Value) -> Value {
    json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "schema"}, "spec": spec})
}

fn kinds(group: &str, resource: &str) -> Value {
    changed(&json!({"resources": [{"apiGroups": [group], "resources": [resource]}]}))
}

fn valid_for(text: &Value) -> Value {
    changed(&json!({"approval": {"validFor": text}}))
}

fn require(require: &Value) -> Value {
    changed(&json!({"approval": {"require": require}}))
}

fn attempt(manifest: &Value) -> Outcome {
    shared().kubectl_with(User::Admin, &["create", "--dry-run=server", "-f", "-"], &manifest.to_string())
}

/// Every case is refused, in these words; all that are not are named at once.
#[track_caller]
fn all_are_refused(cases: &[(Value, &str)]) {
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(manifest, words)| {
            let outcome = attempt(manifest);
            let spec = format!("{} {}", manifest["metadata"]["name"], manifest["spec"]);
            if outcome.ok {
                Some(format!("accepted: {spec}"))
            } else {
                (!outcome.err.contains(words)).then(|| format!("{words:?} is not in {:?} for {spec}", outcome.err))
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_misspelt_field_is_refused_by_its_name() {
    all_are_refused(&[
        (changed(&json!({"mod": "Warn"})), "unknown field \"spec.mod\""),
        (changed(&json!({"approval": {"validfor": "30m"}})), "unknown field \"spec.approval.validfor\""),
        (changed(&json!({"budget": {"objects": 1}})), "unknown field \"spec.budget\""),
        (changed(&json!({"except": [{"names": "a"}]})), "unknown field \"spec.except[0].names\""),
        (
            changed(&json!({"objectSelector": {"matchLabel": {"a": "b"}}})),
            "unknown field \"spec.objectSelector.matchLabel\"",
        ),
        (team(&json!({"groups": ["a"], "users": ["b"]})), "unknown field \"spec.users\""),
        (team(&json!({"members": [{"user": "b", "key": "x"}]})), "unknown field \"spec.members[0].key\""),
        (team(&json!({"members": [{"user": "b", "keys": [{"publicKey": "x", "comment": "y"}]}]})), "unknown field"),
    ]);
}

#[test]
fn a_name_that_cannot_be_part_of_a_webhooks_name_is_refused() {
    const WORDS: &str = "at most 63 characters, a-z, 0-9 and '-'";
    all_are_refused(&[(named(&"a".repeat(64)), WORDS), (named("with.dots"), WORDS), (named("a.b"), WORDS)]);
    let mut dotted = team(&json!({"groups": ["a"]}));
    dotted["metadata"]["name"] = json!("a.b");
    all_are_refused(&[(dotted, WORDS)]);
}

#[test]
fn nothing_means_everything_by_accident() {
    const BUILT_IN: &str = "name the kinds of a built-in group one by one";
    all_are_refused(&[
        (changed(&json!({"resources": null})), "spec.resources: Required value"),
        (changed(&json!({"resources": []})), "should have at least 1 items"),
        (
            changed(&json!({"resources": [{"apiGroups": [], "resources": ["deployments"]}]})),
            "should have at least 1 items",
        ),
        (changed(&json!({"resources": [{"apiGroups": ["apps"], "resources": []}]})), "should have at least 1 items"),
        (kinds("", "*"), BUILT_IN),
        (kinds("apps", "*"), BUILT_IN),
        (kinds("batch", "*"), BUILT_IN),
        (kinds("rbac.authorization.k8s.io", "*"), BUILT_IN),
        (kinds("coordination.k8s.io", "*"), BUILT_IN),
        (changed(&json!({"resources": [{"apiGroups": ["example.com", ""], "resources": ["*"]}]})), BUILT_IN),
        (changed(&json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments", "*"]}]})), BUILT_IN),
        (kinds("*", "deployments"), "name each API group"),
        (kinds("*", "*"), "name each API group"),
    ]);
}

#[test]
fn what_controllers_delete_as_daily_work_is_not_protected() {
    const WORDS: &str = "protect what owns them";
    all_are_refused(&[
        (kinds("", "events"), WORDS),
        (kinds("events.k8s.io", "events"), WORDS),
        (kinds("", "nodes"), WORDS),
        (kinds("", "endpoints"), WORDS),
        (kinds("", "replicationcontrollers"), WORDS),
        (kinds("apps", "replicasets"), WORDS),
        (kinds("apps", "controllerrevisions"), WORDS),
        (kinds("coordination.k8s.io", "leases"), WORDS),
        (kinds("discovery.k8s.io", "endpointslices"), WORDS),
        (changed(&json!({"resources": [{"apiGroups": ["apps", ""], "resources": ["deployments", "nodes"]}]})), WORDS),
    ]);
}

#[test]
fn what_the_cluster_and_tagout_itself_must_be_able_to_remove_is_not_protected() {
    let cases = [
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("tagout.dev", "protectionrules"),
        ("tagout.dev", "approverteams"),
        ("tagout.dev", "*"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("networking.k8s.io", "ipaddresses"),
    ];
    all_are_refused(&cases.map(|(group, resource)| (kinds(group, resource), "spec.resources[0]")));
}

#[test]
fn a_kind_is_named_by_its_plural_in_lower_case() {
    const WORDS: &str = "plural names in lower case, like 'deployments'";
    all_are_refused(&[
        (kinds("apps", "deployments/scale"), WORDS),
        (kinds("", "pods/eviction"), WORDS),
        (kinds("apps", "Deployments"), WORDS),
        (kinds("apps", "deployments.apps"), WORDS),
        (kinds("apps", "*/*"), WORDS),
        (kinds("apps", ""), "at least 1 chars"),
        (kinds("Apps", "deployments"), "name each API group"),
        (kinds("apps/v1", "deployments"), "name each API group"),
    ]);
}

#[test]
fn an_exception_says_what_to_leave_out_and_never_everything() {
    let except = |except: Value| changed(&json!({"except": [except]}));
    all_are_refused(&[
        (except(json!({})), "say what to leave out"),
        (except(json!({"name": "*"})), "to switch a rule off use mode: Audit"),
        (except(json!({"name": "**"})), "to switch a rule off use mode: Audit"),
        (except(json!({"name": "*", "annotation": "a"})), "to switch a rule off use mode: Audit"),
        (except(json!({"name": ""})), "at least 1 chars"),
        (except(json!({"name": "a|b"})), "a name is letters, digits"),
        (except(json!({"name": "a.+"})), "a name is letters, digits"),
        (except(json!({"name": "a b"})), "a name is letters, digits"),
        (except(json!({"name": "a\nb"})), "a name is letters, digits"),
        (except(json!({"annotation": ""})), "at least 1 chars"),
        (except(json!({"annotation": "a/b/c"})), "an annotation's key is"),
        (except(json!({"annotation": "a\" || true || \""})), "an annotation's key is"),
        (except(json!({"annotation": "helm.sh/*"})), "an annotation's key is"),
    ]);
}

#[test]
fn how_long_an_approval_is_good_is_a_duration_with_an_end() {
    const WORDS: &str = "write a Go duration longer than 0s and at most 168h, like 30m or 2h";
    all_are_refused(&[
        (valid_for(&json!("0s")), WORDS),
        (valid_for(&json!("0h0m")), WORDS),
        (valid_for(&json!("-5m")), WORDS),
        (valid_for(&json!("+5m")), WORDS),
        (valid_for(&json!("169h")), WORDS),
        (valid_for(&json!("168h1ms")), WORDS),
        (valid_for(&json!("1d")), WORDS),
        (valid_for(&json!("30")), WORDS),
        (valid_for(&json!("30 m")), WORDS),
        (valid_for(&json!("")), WORDS),
        (valid_for(&json!("99999999999999999999h")), "spec.approval.validFor"),
        (valid_for(&json!(30)), "must be of type string"),
    ]);
}

#[test]
fn somebody_must_be_able_to_approve() {
    all_are_refused(&[
        (changed(&json!({"approval": null})), "spec.approval: Required value"),
        (changed(&json!({"approval": {"require": null}})), "spec.approval.require: Required value"),
        (require(&json!([])), "should have at least 1 items"),
        (require(&json!([{"count": 1}])), "anyOf: Required value"),
        (require(&json!([{"anyOf": []}])), "should have at least 1 items"),
        (require(&json!([{"anyOf": [""]}])), "at least 1 chars"),
        (require(&json!([{"anyOf": ["a", "a"]}])), "Duplicate value"),
        (require(&json!([{"anyOf": ["a"], "count": 0}])), "greater than or equal to 1"),
        (require(&json!([{"anyOf": ["a"], "count": -1}])), "greater than or equal to"),
        (require(&json!([{"anyOf": ["a"], "count": 9}])), "less than or equal to 8"),
        (require(&json!([{"anyOf": ["a"], "count": "1"}])), "must be of type integer"),
    ]);
}

#[test]
fn an_option_that_would_do_nothing_yet_is_refused() {
    all_are_refused(&[
        (changed(&json!({"approval": {"requireVerification": true}})), "it needs proof: HardwareKey"),
        (changed(&json!({"actions": ["Loosen"]})), "Loosen cannot be named"),
        (changed(&json!({"approval": {"proof": "identity"}})), "supported values: \"Identity\""),
        (changed(&json!({"actions": ["Explode"]})), "supported values: \"Delete\""),
        (changed(&json!({"actions": ["Delete", "Delete"]})), "Duplicate value"),
        (changed(&json!({"allowance": {"count": 1, "window": "1h"}})), "per: Required value"),
        (changed(&json!({"ceiling": {"count": 0, "window": "1h", "per": "Rule"}})), "greater than or equal to 1"),
        (changed(&json!({"ceiling": {"count": 1, "window": "10s", "per": "Rule"}})), "at least 1m"),
        (changed(&json!({"ceiling": {"count": 1, "window": "169h", "per": "Rule"}})), "at most 168h"),
        (changed(&json!({"recreation": {"window": "0s"}})), "longer than 0s"),
        (changed(&json!({"freeze": [{"reason": "x"}]})), "say from and until, or schedule and duration"),
        (
            changed(&json!({"freeze": [{"from": "tomorrow", "until": "2027-01-01T00:00", "reason": "x"}]})),
            "without an offset",
        ),
        (changed(&json!({"actions": []})), "should have at least 1 items"),
        (changed(&json!({"mode": "Block"})), "supported values: \"Audit\", \"Warn\", \"Enforce\""),
        (changed(&json!({"mode": "enforce"})), "supported values: \"Audit\", \"Warn\", \"Enforce\""),
        (changed(&json!({"failurePolicy": "Open"})), "supported values: \"Fail\", \"Ignore\""),
    ]);
}

#[test]
fn a_condition_has_a_name_of_its_own_and_an_expression() {
    let conditions = |conditions: Value| changed(&json!({"matchConditions": conditions}));
    all_are_refused(&[
        (conditions(json!([{"name": "a"}])), "expression: Required value"),
        (conditions(json!([{"expression": "true"}])), "name: Required value"),
        (conditions(json!([{"name": "a", "expression": ""}])), "at least 1 chars"),
        (conditions(json!([{"name": "A b", "expression": "true"}])), "a condition's name is a-z, 0-9 and '-'"),
        (
            conditions(json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "false"}])),
            "Duplicate value",
        ),
        (conditions(json!([{"name": "a", "expression": "x".repeat(2049)}])), "may not be more than 2048"),
    ]);
}

#[test]
fn a_team_is_people() {
    let group = |name: &str| team(&json!({"groups": [name]}));
    let member = |name: &str| team(&json!({"members": [{"user": name}]}));
    all_are_refused(&[
        (team(&json!({})), "a team needs at least one group or member"),
        (team(&json!({"groups": [], "members": []})), "a team needs at least one group or member"),
        (group("system:masters"), "name a group of people"),
        (group("system:authenticated"), "name a group of people"),
        (group("system:serviceaccounts:kube-system"), "name a group of people"),
        (team(&json!({"groups": ["people", "system:nodes"]})), "name a group of people"),
        (group(""), "at least 1 chars"),
        (member("system:serviceaccount:default:ci"), "name a person"),
        (member("system:admin"), "name a person"),
        (member(""), "at least 1 chars"),
        (team(&json!({"members": [{}]})), "user: Required value"),
        (team(&json!({"members": [{"user": "a"}, {"user": "a"}]})), "Duplicate value"),
    ]);
}

#[test]
fn what_is_right_is_accepted() {
    for manifest in [
        named(&"a".repeat(63)),
        kinds("example.com", "*"),
        kinds("cert-manager.io", "certificates"),
        kinds("", "configmaps"),
        kinds("storage.k8s.io", "storageclasses"),
        // Names that only a built-in group gives a special meaning.
        kinds("example.com", "pods"),
        kinds("example.com", "jobs"),
        valid_for(&json!("168h")),
        valid_for(&json!("1ms")),
        valid_for(&json!("1h30m")),
        valid_for(&json!("1.5h")),
        changed(&json!({"except": [{"name": "preview-*"}, {"name": "*-tmp", "annotation": "helm.sh/hook"}]})),
        changed(&json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}})),
        require(&json!([{"anyOf": ["a", "b"], "count": 8}, {"anyOf": ["a"]}])),
        team(&json!({"groups": ["oidc:senior-sre"]})),
        team(&json!({"members": [{"user": "alice@example.com"}]})),
    ] {
        let outcome = attempt(&manifest);
        assert!(outcome.ok, "{} for {manifest}", outcome.err);
    }
}

#[test]
fn defaults_are_written_in_and_the_rest_stays_as_it_was_written() {
    let world = shared();
    let manifest = rule("schema-defaults", "schema-defaults");
    world.rule(&manifest);
    let stored = world.get(&["protectionrule/schema-defaults"]);
    let mut expected = manifest["spec"].clone();
    let defaults = json!({
        "mode": "Enforce",
        "actions": ["Delete", "Recreate", "ScaleToZero", "Reparent", "Finalize", "DiscardData", "Unprotect"],
        "failurePolicy": "Fail",
        "approval": {
            "proof": "Identity",
            "require": [{"anyOf": ["approvers"], "count": 1}],
            "separateFromRequester": true,
            "validFor": "30m",
        },
    });
    merge(&mut expected, &defaults);
    assert_eq!(stored["spec"], expected);

    let mut full = rule("schema-full", "schema-full");
    full["spec"] = json!({
        "mode": "Warn",
        "resources": [{"apiGroups": ["apps"], "resources": ["statefulsets", "deployments"]}],
        "namespaceSelector": {"matchLabels": {"rule": "schema-full"}},
        "objectSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b", "c"]}]},
        "except": [{"name": "preview-*", "annotation": "helm.sh/hook"}],
        "matchConditions": [{"name": "tier", "expression": "object.metadata.?labels['tier'].orValue('') != 'batch'"}],
        "actions": ["Delete", "Recreate", "ScaleToZero", "Reparent", "Finalize", "DiscardData", "Unprotect"],
        "allowance": {"count": 5, "window": "10m", "per": "Requester"},
        "ceiling": {"count": 20, "volumes": 2, "window": "1h", "per": "Rule"},
        "recreation": {"window": "48h"},
        "freeze": [
            {"schedule": "0 18 * * 5", "duration": "62h", "timeZone": "Europe/Berlin", "reason": "weekend"},
            {"from": "2026-12-23T18:00", "until": "2027-01-04T08:00", "timeZone": "Etc/UTC", "reason": "holidays"},
        ],
        "approval": {
            "proof": "Identity",
            "require": [{"anyOf": ["approvers"], "count": 2}],
            "separateFromRequester": false,
            "validFor": "1h30m",
        },
        "failurePolicy": "Ignore",
    });
    world.rule(&full);
    let live = world.get(&["protectionrule/schema-full"]);
    assert_eq!(live["spec"], full["spec"]);
    // What was compiled from it is what the API server holds: nothing is written a second time.
    let version =
        || text(&world.get(&["validatingwebhookconfiguration/tagout-schema-full"])["metadata"]["resourceVersion"]);
    let first = version();
    world.kubectl(User::Admin, &["annotate", "protectionrule", "schema-full", "example.com/touched=1"]).succeeds();
    eventually("the rule is looked at", || {
        world.get(&["protectionrule/schema-full"])["status"]["observedGeneration"] == live["metadata"]["generation"]
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(first, version());
}
