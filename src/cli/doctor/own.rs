//! Whether Tagout itself is as it should be.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use kube::ResourceExt;

use super::finding::{
    CONFIGURATION_CHANGED, Finding, Fix, LOCK_OPEN, NO_EPOCH, NOT_ENFORCED, RULE_NOT_READY, STATIC_MANIFEST,
    STRAY_CONFIGURATION, Severity, Stage, UNLOCKED,
};
use super::snapshot::Snapshot;
use crate::api::{Mode, Proof, ProtectionRule};
use crate::cli::cluster::condition;
use crate::cli::status::LockLine;
use crate::entries::{self, COMPILER, Leave, Place, SHARED, compile, configuration_name, locks, rule_name};

pub fn check(snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let mut findings = lock(snapshot);
    findings.extend(statuses(snapshot));
    findings.extend(configurations(snapshot));
    let identity = snapshot.rules().any(|rule| rule.mode == Mode::Enforce && rule.proof == Proof::Identity);
    if identity && snapshot.setting.protection.epoch.is_none() {
        let fix =
            Fix::words("It begins within seconds after Tagout has started. If it does not, look at Tagout's log.")
                .run(&["kubectl", "logs", "deployment/tagout", "-n", &snapshot.home]);
        let says = "has no epoch: no approval by identity counts";
        findings.push(Finding::new(&NO_EPOCH, Severity::Warning, "Tagout/epoch", says).fix(fix));
    }
    let fix = Fix::words(
        "Put the policy into the files of every API server (Kubernetes 1.36 and newer), then accept this finding with \
         --config; no request tells whether it is there.",
    )
    .run(&["kubectl", "tagout", "static-manifest", "--tagout-namespace", &snapshot.home]);
    let says = "cannot be seen from here";
    findings.push(Finding::new(&STATIC_MANIFEST, stage.default_choice(), "APIServer/static-manifest", says).fix(fix));
    findings
}

fn lock(snapshot: &Snapshot) -> Vec<Finding> {
    let object = "Tagout/lock";
    let fix =
        Fix::words("Let Tagout keep itself (of the chart: selfProtection.enabled=true), and see why it does not.")
            .run(&["kubectl", "tagout", "status"]);
    match &snapshot.lock {
        LockLine::Open { missing } => {
            let says = format!("policies are missing: {}", missing.join(", "));
            vec![Finding::new(&LOCK_OPEN, Severity::Danger, object, says).fix(fix)]
        }
        LockLine::Unknown { reason } if reason.starts_with("the policy") => {
            vec![Finding::new(&LOCK_OPEN, Severity::Danger, object, reason).fix(fix)]
        }
        LockLine::Unknown { .. } => Vec::new(),
        LockLine::Locked { unlocked_for } => {
            let mut findings: Vec<_> = unlocked_for
                .iter()
                .map(|user| {
                    let fix =
                        Fix::words("When the work is done, take the approval away; it ends by itself within the hour.")
                            .run(&["kubectl", "tagout", "get", "approvals"]);
                    let says = format!("Tagout is unlocked for {user:?}");
                    Finding::new(&UNLOCKED, Severity::Warning, format!("User/{user}"), says).fix(fix)
                })
                .collect();
            let altered =
                snapshot.policies.iter().filter(|(policy, binding)| !is_ours(policy, binding, &snapshot.home));
            findings.extend(altered.map(|(policy, _)| {
                let says = format!("the policy {} or its binding is not as Tagout writes it", policy.name_any());
                Finding::new(&LOCK_OPEN, Severity::Danger, object, says).fix(fix.clone())
            }));
            findings
        }
    }
}

/// Whether a policy is as Tagout writes it, but for what differs from cluster to cluster: for whom it is open, and who
/// writes which certificates.
fn is_ours(policy: &ValidatingAdmissionPolicy, binding: &ValidatingAdmissionPolicyBinding, home: &str) -> bool {
    let place = Place { namespace: home.to_owned(), ..Place::default() };
    let Some(found) = &policy.spec else { return false };
    let condition =
        found.match_conditions.iter().flatten().next().map(|one| one.expression.as_str()).unwrap_or_default();
    let leave = Leave { secrets: secrets(condition), ..Leave::default() };
    let Some(lock) = locks(&place, &leave).into_iter().find(|lock| lock.policy.name_any() == policy.name_any()) else {
        return false;
    };
    let mut wanted = lock.policy.spec.clone().unwrap_or_default();
    let mut found = found.clone();
    for spec in [&mut wanted, &mut found] {
        let variables = spec.variables.iter_mut().flatten();
        variables.filter(|one| ["unlocked", "writesSecrets"].contains(&one.name.as_str())).for_each(|one| {
            one.expression.clear();
        });
    }
    wanted == found && lock.binding.spec == binding.spec
}

/// The Secrets that a policy names beside Tagout's own.
fn secrets(condition: &str) -> Vec<String> {
    let named = condition.split_once("(it.metadata.name in ").and_then(|(_, rest)| rest.split_once(" || "));
    named.and_then(|(list, _)| serde_json::from_str(list).ok()).unwrap_or_default()
}

/// What the API server follows, by what Tagout says of each rule.
fn statuses(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in &snapshot.setting.protection.written {
        let name = rule.name_any();
        let object = format!("ProtectionRule/{name}");
        let fix = |words: &str| Fix::words(words).kubectl("get", "protectionrule", &["-o", "yaml"], &name);
        let said = |type_: &str| condition(rule, type_);
        let unknown = "Tagout has not looked at this version of the rule".to_owned();
        if rule.spec.mode == Mode::Enforce {
            let wrong = match said("Enforced") {
                None => Some(unknown.clone()),
                Some(one) if one.status != "True" => Some(one.message.clone()),
                Some(_) => None,
            };
            let fix = fix("See whether Tagout runs, and what its log says.");
            findings.extend(wrong.map(|says| Finding::new(&NOT_ENFORCED, Severity::Danger, &object, says).fix(fix)));
        }
        let wrong = match said("Ready") {
            None => Some(unknown),
            Some(one) if one.status != "True" => Some(one.message.clone()),
            Some(_) => None,
        };
        let fix = fix("Correct the rule as its message says.");
        findings.extend(wrong.map(|says| Finding::new(&RULE_NOT_READY, Severity::Warning, &object, says).fix(fix)));
    }
    findings
}

/// Whether the API server's entries are those that the rules compile to.
fn configurations(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(all) = &snapshot.validating else { return Vec::new() };
    let mut findings = Vec::new();
    let mut changed = |name: &str, says: &str| {
        let fix = Fix::words(
            "Tagout puts it back within seconds while it runs; see in the audit log who changed it, and what passed \
             meanwhile. If it stays, see Tagout's log.",
        )
        .kubectl("get", "validatingwebhookconfiguration", &["-o", "yaml"], name);
        let object = format!("ValidatingWebhookConfiguration/{name}");
        findings.push(Finding::new(&CONFIGURATION_CHANGED, Severity::Danger, object, says).fix(fix));
    };
    let Some(shared) = all.iter().find(|one| one.name_any() == SHARED) else {
        changed(SHARED, "is gone, and with it every entry");
        return findings;
    };
    let service = place(shared);
    let mine = |found: &ValidatingWebhookConfiguration| {
        let (own, first) = (place(found), &service);
        own.as_ref().map(|own| (&own.namespace, &own.service, own.port))
            == first.as_ref().map(|own| (&own.namespace, &own.service, own.port))
    };
    // Another version of Tagout may have written all of it, but not one among many.
    let compilers: BTreeSet<u32> = all.iter().filter_map(entries::origin).map(|origin| origin.compiler).collect();
    let same_version = compilers.iter().all(|compiler| *compiler == COMPILER);
    if compilers.len() > 1 {
        changed(SHARED, "owns entries that different versions of Tagout wrote; that is right during an upgrade only");
    }
    if same_version && service.as_ref().is_none_or(|place| shared.webhooks.as_ref() != Some(&entries::shared(place))) {
        changed(SHARED, "is not as Tagout writes it");
    }
    for rule in &snapshot.setting.protection.written {
        let name = configuration_name(&rule.name_any());
        let Some(found) = all.iter().find(|one| one.name_any() == name) else {
            changed(&name, "is not there: the API server asks nobody about this rule");
            continue;
        };
        let Some(origin) = entries::origin(found) else {
            changed(&name, "does not say from which rule it was made");
            continue;
        };
        let generation = rule.metadata.generation.unwrap_or_default();
        match origin.spec {
            Err(why) => changed(&name, &why),
            Ok(spec) if origin.generation == generation && spec != rule.spec => {
                changed(&name, "says another rule than the one that is written");
            }
            Ok(spec) if origin.compiler == COMPILER => {
                let written = ProtectionRule { spec, ..rule.clone() };
                let wanted = place(found).map(|place| compile(&written, &origin.owners, &place).webhooks);
                if wanted.as_ref() != Some(&found.webhooks) {
                    changed(&name, "is not what its rule compiles to");
                } else if !mine(found) {
                    changed(&name, "calls another service than Tagout's");
                }
            }
            Ok(_) => {}
        }
    }
    let known = &snapshot.setting.rules().rules;
    let written = |rule: &str| snapshot.setting.protection.written.iter().any(|one| one.name_any() == rule);
    for name in all.iter().map(ResourceExt::name_any) {
        let Some(rule) = rule_name(&name).filter(|rule| !written(rule)) else { continue };
        let says = if known.contains_key(rule) {
            "keeps a rule in force that cannot be read or was lost"
        } else {
            "belongs to no rule"
        };
        let fix = Fix::words("Restore the rule that it keeps, or ask whoever made it.").kubectl(
            "get",
            "validatingwebhookconfiguration",
            &["-o", "yaml"],
            &name,
        );
        let object = format!("ValidatingWebhookConfiguration/{name}");
        findings.push(Finding::new(&STRAY_CONFIGURATION, Severity::Warning, object, says).fix(fix));
    }
    findings
}

/// Where a configuration has the API server look for Tagout.
fn place(configuration: &ValidatingWebhookConfiguration) -> Option<Place> {
    let client = &configuration.webhooks.as_ref()?.first()?.client_config;
    let service = client.service.as_ref()?;
    Some(Place {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        port: u16::try_from(service.port.unwrap_or(443)).ok()?,
        ca_bundle: client.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default(),
        ..Place::default()
    })
}

/// A policy with its binding, as they stand.
pub type Found = (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::MatchResources;
    use rstest::rstest;

    use super::*;

    fn lock(name: &str) -> Found {
        let place = Place { namespace: "home".to_owned(), ..Place::default() };
        let leave = Leave {
            unlocked: vec!["ci".to_owned()],
            secret_writers: vec!["system:serviceaccount:cert-manager:cert-manager".to_owned()],
            secrets: vec!["tagout-certificates".to_owned(), "mine".to_owned()],
        };
        let found = locks(&place, &leave).into_iter().find(|lock| lock.policy.name_any() == name);
        found.map(|lock| (lock.policy, lock.binding)).expect("it is one of them")
    }

    #[rstest]
    #[case("tagout")]
    #[case("tagout-home")]
    fn a_policy_as_tagout_writes_it_is_known_whatever_a_cluster_puts_into_it(#[case] name: &str) {
        let (policy, binding) = lock(name);
        assert!(is_ours(&policy, &binding, "home"));
        assert!(!is_ours(&policy, &binding, "elsewhere"));
    }

    type Change = fn(&mut Found);

    #[rstest]
    #[case::refuses_nothing(|found: &mut Found| found.0.spec.as_mut().expect("it is there").validations.as_mut().expect("it is there")[0].expression = "true".into())]
    #[case::fails_open(|found: &mut Found| found.0.spec.as_mut().expect("it is there").failure_policy = Some("Ignore".into()))]
    #[case::looks_at_nothing(|found: &mut Found| found.0.spec.as_mut().expect("it is there").match_conditions.as_mut().expect("it is there")[0].expression = "false".into())]
    #[case::looks_at_less(|found: &mut Found| drop(found.0.spec.as_mut().expect("it is there").match_constraints.as_mut().expect("it is there").resource_rules.as_mut().expect("it is there").pop()))]
    #[case::lets_somebody(|found: &mut Found| found.0.spec.as_mut().expect("it is there").variables.as_mut().expect("it is there")[1].expression += " || true")]
    #[case::only_warns(|found: &mut Found| found.1.spec.as_mut().expect("it is there").validation_actions = Some(vec!["Deny".into(), "Warn".into()]))]
    #[case::is_bound_to_little(|found: &mut Found| found.1.spec.as_mut().expect("it is there").match_resources = Some(MatchResources::default()))]
    #[case::says_it_is_newer(|found: &mut Found| {
        found.0.metadata.annotations.as_mut().expect("it is there").insert("tagout.dev/compiler".into(), "99".into());
        found.0.spec.as_mut().expect("it is there").failure_policy = Some("Ignore".into());
    })]
    fn one_that_somebody_weakened_is_not(#[case] change: Change) {
        for name in ["tagout", "tagout-home"] {
            let mut found = lock(name);
            change(&mut found);
            assert!(!is_ours(&found.0, &found.1, "home"), "{name}");
        }
    }
}
