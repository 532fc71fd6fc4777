//! What rules leave open: those that cover nothing, refuse nothing, or are passed by whoever uses a person's credentials.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::finding::{
    Finding, Fix, OWNER_UNCOVERED, PROOF_IDENTITY, PROOF_SOFTWARE, RULE_FAILS_OPEN, RULE_LACKS_ACTIONS,
    RULE_MATCHES_EVERYTHING, RULE_MATCHES_NOTHING, RULE_NOT_ENFORCING, RULE_UNREADABLE, SECRETS_UNSEEN, Severity,
    Stage,
};
use super::snapshot::{Seen, Snapshot};
use crate::api::{Action, Mode, Proof, ProtectionRule, RuleFailurePolicy, kind_name};
use crate::guard::{Rule, Subject};

/// The rules that the chart writes by itself: before anything carries their labels they cover nothing.
const DEFAULTS: [&str; 5] =
    ["definitions", "labelled-namespaces", "labelled-objects", "production", "production-settings"];

pub fn check(snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, rule) in &snapshot.setting.rules().rules {
        match rule {
            Ok(rule) => {
                let written = snapshot.setting.protection.written.iter().find(|written| written.name_any() == *name);
                findings.extend(judge(rule, written, snapshot, stage));
            }
            Err(reason) => {
                let fix = Fix::words("Correct it, or apply it again from where it came.").kubectl(
                    "get",
                    "protectionrule",
                    &["-o", "yaml"],
                    name,
                );
                let says = format!("cannot be read: {reason}");
                findings.push(
                    Finding::new(&RULE_UNREADABLE, Severity::Danger, format!("ProtectionRule/{name}"), says).fix(fix),
                );
            }
        }
    }
    if snapshot.secrets_unseen {
        let says = "are named by rules, and you may not list them";
        let fix = Fix::words(
            "Nothing to close. Who may list Secrets sees approvals on them with kubectl tagout get approvals.",
        );
        findings.push(Finding::new(&SECRETS_UNSEEN, Severity::Note, "Kind/secrets", says).fix(fix));
    }
    findings
}

fn judge(rule: &Rule, written: Option<&ProtectionRule>, snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let object = format!("ProtectionRule/{}", rule.name);
    let of_chart = is_default(rule, written);
    let chosen = if of_chart { stage.default_choice() } else { Severity::Warning };
    let edit = |words: &str| Fix::words(words).kubectl("edit", "protectionrule", &[], &rule.name);
    let mut findings = Vec::new();
    let mut add = |known, severity, says: String, fix| {
        findings.push(Finding::new(known, severity, object.clone(), says).fix(fix));
    };
    if rule.mode != Mode::Enforce {
        let says = format!("is in mode {:?}", rule.mode);
        let fix =
            edit("When what it would have refused looks right, set spec.mode to Enforce (of the chart: protect.mode).");
        add(&RULE_NOT_ENFORCING, stage.default_choice(), says, fix);
    }
    match covered(rule, snapshot) {
        Some(0) => {
            let says = "covers no object that is there now".to_owned();
            let fix = Fix::words("Label what it is about, correct its selectors, or take it away.").run(&[
                "kubectl",
                "get",
                "namespaces",
                "--show-labels",
            ]);
            add(&RULE_MATCHES_NOTHING, chosen, says, fix);
        }
        _ if is_open(rule) => {
            let says = "has no selector: it covers every object of its kinds, in every namespace".to_owned();
            add(&RULE_MATCHES_EVERYTHING, chosen, says, edit("Say which namespaces or objects it is about."));
        }
        _ => {}
    }
    if rule.mode == Mode::Enforce && rule.spec.failure_policy == RuleFailurePolicy::Ignore {
        let says = "lets pass what Tagout does not answer (failurePolicy: Ignore)".to_owned();
        add(&RULE_FAILS_OPEN, Severity::Warning, says, edit("Set spec.failurePolicy to Fail."));
    }
    if !of_chart && let Some((severity, lacking)) = lacking(rule) {
        let says = format!("does not guard against {lacking}");
        add(&RULE_LACKS_ACTIONS, severity, says, edit("Add the actions to spec.actions; adding needs no approval."));
    }
    let hardware = "Give people hardware keys (docs/signing.md), then set spec.approval.proof to HardwareKey \
                    (of the chart: protect.proof).";
    match rule.proof {
        Proof::Identity => {
            let says = "is met by unsigned approvals (proof Identity)".to_owned();
            add(&PROOF_IDENTITY, stage.default_choice(), says, Fix::words(hardware));
        }
        Proof::Signature => {
            let says = "is met by keys that are files (proof Signature)".to_owned();
            add(&PROOF_SOFTWARE, stage.default_choice(), says, Fix::words(hardware));
        }
        Proof::HardwareKey => {}
    }
    findings.extend(owners(rule, snapshot));
    findings
}

/// As the chart writes it: a rule of one's own under such a name is judged as any other.
pub fn is_default(rule: &Rule, written: Option<&ProtectionRule>) -> bool {
    let label = |written: &ProtectionRule| {
        let labels = written.labels();
        labels.get("app.kubernetes.io/name").is_some_and(|name| name == "tagout")
            && labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == "Helm")
    };
    DEFAULTS.contains(&rule.name.as_str()) && written.is_some_and(label)
}

/// How many objects a rule covers; nothing where that cannot be told.
fn covered(rule: &Rule, snapshot: &Snapshot) -> Option<usize> {
    let mut count = 0;
    for (group, plural) in rule.kinds() {
        for kind in snapshot.setting.kinds.named(group, plural) {
            let key = (kind.resource.group.clone(), kind.resource.plural.clone());
            match snapshot.objects.get(&key) {
                Some(objects) => count += objects.iter().filter(|one| covers(rule, &key, one, snapshot)).count(),
                // Secrets are not looked at by most people, and stand beside other things.
                None if key.1 == "secrets" => {}
                None => return None,
            }
        }
    }
    snapshot.namespaces.as_ref().map(|_| count)
}

fn covers(rule: &Rule, (group, plural): &(String, String), one: &Seen, snapshot: &Snapshot) -> bool {
    let subject = Subject {
        group: group.as_str().into(),
        resource: plural.as_str().into(),
        namespace: one.namespace.as_str().into(),
        name: one.name.as_str().into(),
        labels: std::borrow::Cow::Borrowed(&one.labels),
        annotations: one.annotations.iter().map(|key| key.as_str().into()).collect(),
        ..Subject::default()
    };
    let own = |name: &str| name == snapshot.home;
    let selected = if (group.as_str(), plural.as_str()) == ("", "namespaces") {
        !own(&one.name) && rule.selects_namespace(&one.labels)
    } else {
        one.namespace.is_empty() || (!own(&one.namespace) && rule.selects_namespace(snapshot.labels_of(&one.namespace)))
    };
    selected && rule.covers(&subject)
}

/// Whether nothing narrows it. What the chart protects by its definitions is meant so.
fn is_open(rule: &Rule) -> bool {
    let empty = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    };
    empty(&rule.spec.namespace_selector) && empty(&rule.spec.object_selector) && !rule.conditional
}

/// What it could guard against, and does not.
fn lacking(rule: &Rule) -> Option<(Severity, String)> {
    let workloads = rule.names("apps", "deployments") || rule.names("apps", "statefulsets");
    let wanted =
        [(Action::Delete, true), (Action::ScaleToZero, workloads), (Action::Reparent, true), (Action::Unprotect, true)];
    let lacking: Vec<_> = wanted
        .iter()
        .filter(|(action, about)| *about && !rule.actions.contains(action))
        .map(|(action, _)| action)
        .collect();
    let grave = lacking.iter().any(|action| matches!(action, Action::Delete | Action::Unprotect));
    let names: Vec<_> = lacking.iter().map(|action| action.as_str()).collect();
    (!names.is_empty()).then(|| (if grave { Severity::Warning } else { Severity::Note }, names.join(", ")))
}

/// Owners of what the rule covers, about whose deletion nobody is asked.
fn owners(rule: &Rule, snapshot: &Snapshot) -> Vec<Finding> {
    if rule.mode != Mode::Enforce {
        return Vec::new();
    }
    let asked: BTreeSet<(String, String)> = snapshot
        .origin(&rule.name)
        .into_iter()
        .flat_map(|origin| origin.owners)
        .map(|kind| (kind.group, kind.resource))
        .collect();
    let mut found: BTreeSet<(String, String, String)> = BTreeSet::new();
    for (key, objects) in &snapshot.objects {
        let kind = Subject { group: key.0.as_str().into(), resource: key.1.as_str().into(), ..Subject::default() };
        if kind.is_follower() || !rule.names(&key.0, &key.1) {
            continue;
        }
        for one in objects.iter().filter(|one| !one.owners.is_empty() && covers(rule, key, one, snapshot)) {
            for owner in &one.owners {
                let (group, plural) = match snapshot.setting.kinds.of(&owner.api_version, &owner.kind) {
                    Some(kind) => (kind.resource.group.clone(), kind.resource.plural.clone()),
                    None => (group_of(&owner.api_version), owner.kind.clone()),
                };
                let elsewhere = |other: &Rule| {
                    other.mode == Mode::Enforce
                        && other.actions.contains(&Action::Delete)
                        && other.names(&group, &plural)
                        && other.selects_namespace(snapshot.labels_of(&one.namespace))
                };
                let named = snapshot.rules().any(elsewhere) || asked.contains(&(group.clone(), plural.clone()));
                if !named {
                    let whom = format!("{} {}/{}", kind_name(&key.0, &key.1), one.namespace, one.name);
                    // One example of each kind is enough.
                    if !found.iter().any(|(own_group, own, _)| (own_group, own) == (&group, &plural)) {
                        found.insert((group, plural, whom));
                    }
                }
            }
        }
    }
    let finding = |(group, plural, example): (String, String, String)| {
        let kind = kind_name(&group, &plural);
        let says = format!("owns {example}, which rule {} covers; nobody is asked when it is deleted", rule.name);
        let fix = Fix::words(
            "If the operator was installed minutes ago, look again in five. Otherwise let Tagout read the kind (the \
             chart's rbac.ownerKinds), or name it in the rule.",
        )
        .kubectl("edit", "protectionrule", &[], &rule.name);
        Finding::new(&OWNER_UNCOVERED, Severity::Warning, format!("Kind/{kind}"), says).fix(fix)
    };
    found.into_iter().map(finding).collect()
}

fn group_of(api_version: &str) -> String {
    api_version.split_once('/').map_or("", |(group, _)| group).to_owned()
}
