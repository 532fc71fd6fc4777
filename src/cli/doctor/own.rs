//! Whether Tagout itself is as it should be.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhook, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::finding::{
    CONFIGURATION_CHANGED, Check, Finding, Fix, LOCK_OPEN, NO_EPOCH, NOT_ENFORCED, RULE_NOT_READY, STATIC_MANIFEST,
    STRAY_CONFIGURATION, Severity, Stage, UNLOCKED, Unread,
};
use super::snapshot::Snapshot;
use crate::api::{Mode, Proof, ProtectionRule};
use crate::cli::cluster::condition;
use crate::cli::status::{LockLine, unlocked_by};
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
        // It keeps itself only while something is refused.
        LockLine::Open { .. } if !snapshot.rules().any(|rule| rule.mode == Mode::Enforce) => Vec::new(),
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
            let told: Vec<Leave> = snapshot.pods.iter().flatten().filter_map(told).collect();
            let altered = snapshot.policies.iter().filter(|found| !is_ours(found, &snapshot.home, &told));
            findings.extend(altered.map(|(policy, _)| {
                let says = format!("the policy {} or its binding is not as Tagout writes it", policy.name_any());
                Finding::new(&LOCK_OPEN, Severity::Danger, object, says).fix(fix.clone())
            }));
            findings
        }
    }
}

/// Whether a policy is as Tagout writes it, for whomever it is open. Which Secrets it keeps and who writes them, Tagout's
/// pods were `told`; where there are none, what the policy says of that is taken as it is.
fn is_ours((policy, binding): &Found, home: &str, told: &[Leave]) -> bool {
    let place = Place { namespace: home.to_owned(), ..Place::default() };
    let said = [Leave { secret_writers: writers(policy), secrets: secrets(policy), ..Leave::default() }];
    let leaves = if told.is_empty() { &said } else { told };
    let Some(unlocked) = unlocked_by(policy) else { return false };
    leaves.iter().any(|leave| {
        let leave = Leave { unlocked: unlocked.clone(), ..leave.clone() };
        locks(&place, &leave).into_iter().any(|lock| {
            lock.policy.name_any() == policy.name_any()
                && lock.policy.spec == policy.spec
                && lock.binding.spec == binding.spec
        })
    })
}

/// What a pod of Tagout's was told on its command line of what its policies leave to whom.
fn told(pod: &Pod) -> Option<Leave> {
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == "tagout")?;
    let args = container.args.as_deref().filter(|args| args.first().is_some_and(|first| first == "serve"))?;
    let values = |flag: &str| {
        let value = |(at, arg): (usize, &String)| match arg.strip_prefix(flag)? {
            "" => args.get(at + 1).cloned(),
            value => value.strip_prefix('=').map(str::to_owned),
        };
        args.iter().enumerate().filter_map(value).collect::<Vec<String>>()
    };
    let certificates = values("--certificates-secret").pop().unwrap_or_else(|| CERTIFICATES.to_owned());
    Some(Leave {
        unlocked: Vec::new(),
        secret_writers: values("--secret-writer"),
        secrets: [vec![certificates], values("--keep-secret")].concat(),
    })
}

/// The Secret with certificates, unless Tagout is told another.
const CERTIFICATES: &str = "tagout-certificates";

/// Who writes the certificates' Secrets, as a policy says.
fn writers(policy: &ValidatingAdmissionPolicy) -> Vec<String> {
    let mut variables = policy.spec.iter().flat_map(|spec| spec.variables.iter().flatten());
    let writes = variables.find(|variable| variable.name == "writesSecrets");
    writes.map(|variable| list_after("request.userInfo.username in ", &variable.expression)).unwrap_or_default()
}

/// The Secrets that a policy names beside Tagout's own.
fn secrets(policy: &ValidatingAdmissionPolicy) -> Vec<String> {
    let mut conditions = policy.spec.iter().flat_map(|spec| spec.match_conditions.iter().flatten());
    conditions.next().map(|condition| list_after("(it.metadata.name in ", &condition.expression)).unwrap_or_default()
}

fn list_after(words: &str, expression: &str) -> Vec<String> {
    let rest = expression.split_once(words).map(|(_, rest)| rest).unwrap_or_default();
    serde_json::Deserializer::from_str(rest).into_iter().next().and_then(Result::ok).unwrap_or_default()
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
    let written = &snapshot.setting.protection.written;
    let changed = |name: &str, (severity, says): Fault| {
        let fix = Fix::words(
            "Tagout puts it back within seconds while it runs; see in the audit log who changed it, and what passed \
             meanwhile. If it stays, see Tagout's log.",
        )
        .kubectl("get", "validatingwebhookconfiguration", &["-o", "yaml"], name);
        let object = format!("ValidatingWebhookConfiguration/{name}");
        Finding::new(&CONFIGURATION_CHANGED, severity, object, says).fix(fix)
    };
    let Some(shared) = all.iter().find(|one| one.name_any() == SHARED) else {
        return vec![changed(SHARED, danger("is gone, and with it every entry"))];
    };
    let by_others = foreign(all, written).iter().any(|(name, _)| name == SHARED);
    let mut findings: Vec<_> =
        shared_fault(shared, by_others).map(|fault| changed(SHARED, fault)).into_iter().collect();
    let service = place(shared);
    for rule in written {
        let name = configuration_name(&rule.name_any());
        let fault = match all.iter().find(|one| one.name_any() == name) {
            None => Some(danger("is not there: the API server asks nobody about this rule")),
            Some(found) => fault(found, rule, service.as_ref()),
        };
        findings.extend(fault.map(|fault| changed(&name, fault)));
    }
    let known = &snapshot.setting.rules().rules;
    for name in all.iter().map(ResourceExt::name_any) {
        let is_written = |rule: &&str| written.iter().any(|one| one.name_any() == **rule);
        let Some(rule) = rule_name(&name).filter(|rule| !is_written(rule)) else { continue };
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

/// What is wrong with a configuration.
type Fault = (Severity, String);

fn danger(says: impl Into<String>) -> Fault {
    (Severity::Danger, says.into())
}

/// The configurations of rules that say another version of Tagout wrote them than this one knows, and which. The shared
/// one does not say it: it is among them where all of them are.
fn foreign(all: &[ValidatingWebhookConfiguration], written: &[ProtectionRule]) -> Vec<(String, u32)> {
    let compiler = |rule: &ProtectionRule| {
        let name = configuration_name(&rule.name_any());
        let found = all.iter().find(|one| one.name_any() == name)?;
        Some((name, entries::origin(found)?.compiler))
    };
    let mut foreign: Vec<_> = written.iter().filter_map(compiler).filter(|(_, by)| *by != COMPILER).collect();
    if let Some((_, by)) = foreign.first().filter(|_| foreign.len() == written.len()) {
        foreign.push((SHARED.to_owned(), *by));
    }
    foreign
}

/// Of which configurations this command cannot tell whether they are what their rules compile to.
pub fn unread(snapshot: &Snapshot) -> Vec<Unread> {
    let of = |(name, compiler): (String, u32)| Unread {
        check: Check::Tagout,
        what: format!("validatingwebhookconfiguration {name}"),
        reason: format!(
            "version {compiler} of Tagout's entries is said to have written it; this command knows {COMPILER}"
        ),
    };
    let all = snapshot.validating.as_deref().unwrap_or_default();
    foreign(all, &snapshot.setting.protection.written).into_iter().map(of).collect()
}

fn shared_fault(shared: &ValidatingWebhookConfiguration, by_others: bool) -> Option<Fault> {
    let found = shared.webhooks.as_deref().unwrap_or_default();
    let is_ours = place(shared).is_some_and(|place| {
        let wanted = entries::shared(&place);
        if by_others { differs(&wanted, found).is_none() } else { found == wanted }
    });
    (!is_ours).then(|| danger("is not as Tagout writes it"))
}

/// What is wrong with the configuration of a rule, if Tagout is found at this service.
fn fault(found: &ValidatingWebhookConfiguration, rule: &ProtectionRule, service: Option<&Place>) -> Option<Fault> {
    let Some(origin) = entries::origin(found) else {
        return Some(danger("does not say from which rule it was made"));
    };
    let spec = match origin.spec {
        Err(why) => return Some(danger(why)),
        Ok(spec) => spec,
    };
    if origin.generation == rule.metadata.generation.unwrap_or_default() && spec != rule.spec {
        return Some(danger("says another rule than the one that is written"));
    }
    let Some(own) = place(found) else { return Some(danger("calls no service")) };
    let written = ProtectionRule { spec, ..rule.clone() };
    let wanted = compile(&written, &origin.owners, &own).webhooks.unwrap_or_default();
    let has = found.webhooks.as_deref().unwrap_or_default();
    let at = |place: &Place| (place.namespace.clone(), place.service.clone(), place.port);
    if service.map(at) != Some(at(&own)) {
        Some(danger("calls another service than Tagout's"))
    } else if origin.compiler == COMPILER {
        (wanted != has).then(|| danger("is not what its rule compiles to"))
    } else if let Some(how) = differs(&wanted, has) {
        Some(danger(how))
    } else if origin.compiler > COMPILER {
        Some(danger(
            "says that a newer Tagout wrote it, so nobody can tell here whether it is what its rule compiles to; look \
             again with the plugin of the version that is installed",
        ))
    } else {
        let says = "says that an older Tagout wrote it; upgrade that, or look again with its plugin";
        Some((Severity::Warning, says.to_owned()))
    }
}

/// What no version of Tagout writes otherwise: which entries there are, whether they refuse, what they select, and whom
/// they call.
fn differs(wanted: &[ValidatingWebhook], found: &[ValidatingWebhook]) -> Option<String> {
    let called = |one: &ValidatingWebhook| {
        let service = one.client_config.service.as_ref();
        service.map(|service| (service.namespace.clone(), service.name.clone(), service.port))
    };
    let service = wanted.first().and_then(called);
    if let Some(other) = found.iter().find(|one| called(one) != service) {
        return Some(format!("has an entry {:?} that calls another service than Tagout's", other.name));
    }
    wanted.iter().find_map(|own| {
        let name = &own.name;
        let Some(one) = found.iter().find(|one| one.name == *name) else {
            return Some(format!("lacks the entry {name:?}"));
        };
        if one.failure_policy != own.failure_policy {
            Some(format!("lets its entry {name:?} fail otherwise than its rule says"))
        } else if one.namespace_selector != own.namespace_selector || one.object_selector != own.object_selector {
            Some(format!("selects otherwise than its rule says, in its entry {name:?}"))
        } else {
            None
        }
    })
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
#[path = "own_tests.rs"]
mod tests;
