use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::{ApproverTeam, BudgetStatus, FreezeStatus, Mode, ProtectionRule};
use crate::entries;
use crate::guard::{Rule, Team, faults, nobody_can_satisfy};

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RuleState {
    InForce,
    /// The API server does not take it, in its own words; an older version may be in force.
    Rejected {
        words: String,
        generation_in_force: Option<i64>,
    },
}

const READY: &str = "Ready";
const ENFORCED: &str = "Enforced";
const APPROVABLE: &str = "Approvable";

/// What was found out about a rule and what it rests on.
pub(super) struct Findings<'a> {
    pub(super) state: &'a RuleState,
    pub(super) teams: &'a BTreeMap<String, Team>,
    pub(super) cluster: Option<&'a str>,
    pub(super) epoch: Option<&'a str>,
    pub(super) also_asks_about: Vec<String>,
    pub(super) not_remembered: Vec<String>,
    pub(super) budgets: Vec<BudgetStatus>,
    pub(super) freeze: Option<FreezeStatus>,
    /// Whether what Tagout itself tried passed, although it must not.
    pub(super) admitted: bool,
}

pub(super) async fn write_rule(client: &Client, rule: &ProtectionRule, found: &Findings<'_>) -> kube::Result<()> {
    let status = rule.status.clone().unwrap_or_default();
    let generation = rule.metadata.generation;
    let mut conditions = status.conditions.clone();
    set(&mut conditions, READY, ready(rule, found.state, found.teams), generation);
    set(&mut conditions, ENFORCED, enforced(rule, found), generation);
    set(&mut conditions, APPROVABLE, approvable(rule, found.teams), generation);
    let same = status.conditions == conditions
        && status.observed_generation == generation
        && status.cluster.as_deref() == found.cluster
        && status.epoch.as_deref() == found.epoch
        && status.also_asks_about == found.also_asks_about
        && status.not_remembered == found.not_remembered
        && status.budgets == found.budgets
        && status.freeze == found.freeze;
    if same {
        return Ok(());
    }
    let wanted = json!({
        "observedGeneration": generation, "cluster": found.cluster, "epoch": found.epoch, "conditions": conditions,
        "alsoAsksAbout": found.also_asks_about, "notRemembered": found.not_remembered, "budgets": found.budgets,
        "freeze": found.freeze,
    });
    patch::<ProtectionRule>(client, &rule.name_any(), rule.resource_version(), wanted).await
}

/// Says of the rule that nothing calls Tagout: the chart's configuration, which owns all entries, is gone.
pub(super) async fn write_not_installed(client: &Client, rule: &ProtectionRule) -> kube::Result<()> {
    let status = rule.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.clone();
    let message = "ValidatingWebhookConfiguration tagout is gone, and with it every entry: install the chart again.";
    let said = Said { is: false, reason: "NotInstalled", message: message.to_owned() };
    set(&mut conditions, ENFORCED, said, rule.metadata.generation);
    if status.conditions == conditions {
        return Ok(());
    }
    patch::<ProtectionRule>(client, &rule.name_any(), rule.resource_version(), json!({"conditions": conditions})).await
}

pub(super) async fn write_team(
    client: &Client,
    team: &ApproverTeam,
    teams: &BTreeMap<String, Team>,
) -> kube::Result<()> {
    let status = team.status.clone().unwrap_or_default();
    let generation = team.metadata.generation;
    let mut conditions = status.conditions.clone();
    let faults = faults(&team.name_any(), &team.spec, None, teams);
    let said = if faults.is_empty() {
        Said { is: true, reason: "Accepted", message: "The team is read as it is written.".to_owned() }
    } else {
        let message = format!("Some keys sign nothing: {}.", faults.join("; "));
        Said { is: false, reason: "UnusableKeys", message }
    };
    set(&mut conditions, READY, said, generation);
    if status.conditions == conditions && status.observed_generation == generation {
        return Ok(());
    }
    let wanted = json!({"observedGeneration": generation, "conditions": conditions});
    patch::<ApproverTeam>(client, &team.name_any(), team.resource_version(), wanted).await
}

/// The status of an object that is not of the type it should be: stored under an older schema, say.
pub(super) async fn write_unreadable<K: Resource<DynamicType = ()>>(
    client: &Client,
    invalid: &InvalidObject,
    generation_in_force: Option<i64>,
) -> kube::Result<()> {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let generation = invalid.metadata.generation;
    let words = format!("This {} is not as its definition asks ({}); correct it.", K::kind(&()), invalid.error);
    let mut conditions = Vec::new();
    set(&mut conditions, READY, Said { is: false, reason: "Unreadable", message: words }, generation);
    if let Some(in_force) = generation_in_force {
        set(&mut conditions, ENFORCED, older_version(in_force), generation);
    }
    // Its status cannot be read either, so there is nothing to compare with: the time is the object's own, or writing
    // the same again would be a change.
    for condition in &mut conditions {
        if let Some(created) = &invalid.metadata.creation_timestamp {
            condition.last_transition_time = created.clone();
        }
    }
    patch::<K>(client, &name, None, json!({"conditions": conditions})).await
}

async fn patch<K: Resource<DynamicType = ()>>(
    client: &Client,
    name: &str,
    resource_version: Option<String>,
    status: Value,
) -> kube::Result<()> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    let body = json!({"metadata": {"resourceVersion": resource_version}, "status": status});
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await {
        // Another replica was first, or the object went: there will be another ring of the bell.
        Err(kube::Error::Api(refused)) if refused.code == 409 || refused.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

struct Said {
    is: bool,
    reason: &'static str,
    message: String,
}

/// Whether somebody could approve. Until then rule and teams are free to be changed; afterwards that takes approval.
fn approvable(rule: &ProtectionRule, teams: &BTreeMap<String, Team>) -> Said {
    let lacking = match Rule::read(&rule.name_any(), &rule.spec) {
        Ok(read) => nobody_can_satisfy(&read, teams, Timestamp::now()),
        Err(_) => Some("the rule cannot be read".to_owned()),
    };
    match lacking {
        None => Said { is: true, reason: "Approvable", message: "There are people who can approve.".to_owned() },
        Some(why) => {
            let message = format!(
                "Nobody can approve what this rule protects: {why}. If nobody ever could, the rule and its teams may be \
                 changed without approval until somebody can."
            );
            Said { is: false, reason: "NobodyCanApprove", message }
        }
    }
}

fn ready(rule: &ProtectionRule, state: &RuleState, teams: &BTreeMap<String, Team>) -> Said {
    if let RuleState::Rejected { words, generation_in_force } = state {
        return rejected(words, *generation_in_force);
    }
    let named = rule.spec.approval.require.iter().flat_map(|entry| &entry.any_of);
    let missing: BTreeSet<&str> = named.map(String::as_str).filter(|team| !teams.contains_key(*team)).collect();
    if !missing.is_empty() {
        let listed = missing.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!("There is no ApproverTeam {listed}: create it, or name a team that exists.");
        return Said { is: false, reason: "TeamNotFound", message };
    }
    let careless: Vec<_> = rule
        .spec
        .match_conditions
        .iter()
        .filter(|condition| entries::careless_indexing(&condition.expression))
        .map(|condition| condition.name.as_str())
        .collect();
    let message = if careless.is_empty() {
        "The rule is right as it is written.".to_owned()
    } else {
        format!(
            "Condition {} looks up a label or annotation that may be missing; then the API server refuses the request \
             without asking Tagout. Write object.metadata.?labels['key'].orValue('').",
            careless.join(", ")
        )
    };
    Said { is: true, reason: if careless.is_empty() { "Accepted" } else { "AcceptedWithWarning" }, message }
}

fn rejected(words: &str, generation_in_force: Option<i64>) -> Said {
    let consequence = match generation_in_force {
        Some(generation) => format!("The version of generation {generation} stays in force."),
        None => "Nothing is protected by this rule yet.".to_owned(),
    };
    Said {
        is: false,
        reason: "Rejected",
        message: format!("{}. {consequence}", words.trim_end().trim_end_matches('.')),
    }
}

fn older_version(generation: i64) -> Said {
    let message = format!("The API server still follows generation {generation} of this rule.");
    Said { is: false, reason: "OlderVersion", message }
}

fn enforced(rule: &ProtectionRule, found: &Findings) -> Said {
    match (found.state, rule.spec.mode) {
        (RuleState::Rejected { generation_in_force: Some(generation), .. }, _) => older_version(*generation),
        (RuleState::Rejected { .. }, _) => {
            Said { is: false, reason: "NotInForce", message: "The API server does not know this rule.".to_owned() }
        }
        (RuleState::InForce, Mode::Enforce) if found.admitted => Said {
            is: false,
            reason: "NotAsked",
            message:
                "What Tagout tried in a dry-run passed, although it must not: the API server does not ask Tagout. See \
                      the log, canary."
                    .to_owned(),
        },
        (RuleState::InForce, Mode::Enforce) => Said {
            is: true,
            reason: "InForce",
            message: format!(
                "The API server refuses what is not approved, by ValidatingWebhookConfiguration {}.",
                entries::configuration_name(&rule.name_any())
            ),
        },
        (RuleState::InForce, Mode::Warn) => {
            Said { is: false, reason: "ModeWarn", message: "In mode Warn nothing is refused.".to_owned() }
        }
        (RuleState::InForce, Mode::Audit) => {
            Said { is: false, reason: "ModeAudit", message: "In mode Audit nothing is refused.".to_owned() }
        }
    }
}

/// Changes the transition time only where the status flips, so that writing the same again is writing nothing.
fn set(conditions: &mut Vec<Condition>, type_: &str, said: Said, generation: Option<i64>) {
    let status = if said.is { "True" } else { "False" };
    let since = conditions
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(|| Time(Timestamp::now()), |old| old.last_transition_time.clone());
    let condition = Condition {
        last_transition_time: since,
        message: said.message,
        observed_generation: generation,
        reason: said.reason.to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}
