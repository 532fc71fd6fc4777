//! Where a rule or a team is weaker than another. What is not known to be as strong is weaker.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use crate::api::{
    ApprovalTerms, ApproverTeamSpec, Budget, Freeze, Member, MemberKey, Owned, Per, Period, ProtectionRuleSpec,
    Requirement, ResourceRule, Revocation, RuleFailurePolicy, Tolerate, sha256,
};
use crate::guard::freeze::is_over;

/// The hash by which a statement names a spec.
pub fn spec_hash(spec: &impl Serialize) -> String {
    // Through a value, whose maps are sorted: the same spec always gives the same text.
    let value = serde_json::to_value(spec).expect("a spec that was read can be written");
    sha256(value.to_string().as_bytes())
}

/// Where the new rule is weaker than the one in force, in words. Every field is taken apart by name, so that a field
/// that joins cannot be forgotten here.
pub fn loosened_rule(old: &ProtectionRuleSpec, new: &ProtectionRuleSpec, now: Timestamp) -> Vec<String> {
    let ProtectionRuleSpec {
        mode,
        resources,
        namespace_selector,
        object_selector,
        except,
        match_conditions,
        actions,
        owned,
        tolerate,
        allowance,
        ceiling,
        recreation,
        freeze,
        approval,
        failure_policy,
    } = old;
    let conditions: BTreeSet<&str> = match_conditions.iter().map(|one| one.expression.as_str()).collect();
    let mut loosened = Vec::new();
    let mut note = |loosens: bool, what: String| loosened.extend(loosens.then_some(what));

    note(new.mode < *mode, format!("mode: {mode:?} → {:?}", new.mode));
    note(!cover(&new.resources, resources), from_to("resources", resources, &new.resources));
    note(
        !selects_more(namespace_selector, &new.namespace_selector),
        from_to("namespaceSelector", namespace_selector, &new.namespace_selector),
    );
    note(
        !selects_more(object_selector, &new.object_selector),
        from_to("objectSelector", object_selector, &new.object_selector),
    );
    note(!new.except.iter().all(|one| except.contains(one)), from_to("except", except, &new.except));
    note(
        !new.match_conditions.iter().all(|one| conditions.contains(one.expression.as_str())),
        from_to("matchConditions", match_conditions, &new.match_conditions),
    );
    note(!actions.iter().all(|one| new.actions.contains(one)), "actions: some are named no more".into());
    note(new.owned != *owned && new.owned != Owned::Include, format!("owned: {owned:?} → {:?}", new.owned));
    note(tolerated(new.tolerate.as_ref()) > tolerated(tolerate.as_ref()), from_to("tolerate", tolerate, &new.tolerate));
    note(allows_more(allowance.as_ref(), new.allowance.as_ref()), from_to("allowance", allowance, &new.allowance));
    note(allows_less_often(ceiling.as_ref(), new.ceiling.as_ref()), from_to("ceiling", ceiling, &new.ceiling));
    note(!is_as_short(&recreation.window, &new.recreation.window), from_to("recreation", recreation, &new.recreation));
    note(
        !freeze.iter().all(|one| is_over(one, now) || is_frozen_by(one, &new.freeze)),
        from_to("freeze", freeze, &new.freeze),
    );
    note(
        *failure_policy == RuleFailurePolicy::Fail && new.failure_policy != RuleFailurePolicy::Fail,
        "failurePolicy: no refusal while Tagout is away".into(),
    );
    loosened.extend(loosened_terms(approval, &new.approval));
    loosened
}

/// Whether there is an allowance that there was not, or a greater one.
fn allows_more(old: Option<&Budget>, new: Option<&Budget>) -> bool {
    match (old, new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => !is_as_small(new, old),
    }
}

/// Whether there is no ceiling any more, or a higher one.
fn allows_less_often(old: Option<&Budget>, new: Option<&Budget>) -> bool {
    match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => !is_as_small(new, old),
    }
}

fn is_as_small(new: &Budget, old: &Budget) -> bool {
    let Budget { count, volumes, window, per } = old;
    let most = |volumes: Option<u32>| volumes.unwrap_or(u32::MAX);
    // A rule has fewer budgets as a whole than for each of its namespaces or requesters.
    let as_few = new.per == *per || new.per == Per::Rule;
    new.count <= *count && most(new.volumes) <= most(*volumes) && is_as_short(window, &new.window) && as_few
}

/// Whether what one freeze kept is still kept, as far as that can be seen without a calendar. For what reason does not
/// matter.
fn is_frozen_by(old: &Freeze, new: &[Freeze]) -> bool {
    let Freeze { from, until, schedule, duration, time_zone, reason: _ } = old;
    let lasts = |one: &Freeze| match (duration, &one.duration) {
        (Some(old), Some(new)) => is_as_short(old, new),
        (old, new) => old == new,
    };
    // Written alike, times are in the order of their texts.
    let covers = |one: &Freeze| one.from <= *from && one.until >= *until && one.until.is_some() == until.is_some();
    new.iter().any(|one| one.time_zone == *time_zone && one.schedule == *schedule && lasts(one) && covers(one))
}

fn tolerated(tolerate: Option<&Tolerate>) -> u32 {
    tolerate.map_or(0, |tolerate| tolerate.objects)
}

/// What a person has to compare, as it is written.
fn from_to(field: &str, old: &impl Serialize, new: &impl Serialize) -> String {
    let old = serde_json::to_string(old).unwrap_or_default();
    format!("{field}: {old} → {}", serde_json::to_string(new).unwrap_or_default())
}

fn loosened_terms(old: &ApprovalTerms, new: &ApprovalTerms) -> Vec<String> {
    let ApprovalTerms { proof, require_verification, require, separate_from_requester, valid_for, break_glass } = old;
    let mut loosened = Vec::new();
    let mut note = |loosens: bool, what: String| loosened.extend(loosens.then_some(what));
    note(new.proof < *proof, format!("approval.proof: {} → {}", proof.as_str(), new.proof.as_str()));
    note(*require_verification && !new.require_verification, "approval.requireVerification: no more".into());
    note(!asks_as_much(&new.require, require), from_to("approval.require", require, &new.require));
    note(*separate_from_requester && !new.separate_from_requester, "approval.separateFromRequester: no more".into());
    note(!is_as_short(&new.valid_for, valid_for), from_to("approval.validFor", valid_for, &new.valid_for));
    note(
        !new.break_glass.any_of.iter().all(|team| break_glass.any_of.contains(team)),
        from_to("approval.breakGlass", break_glass, &new.break_glass),
    );
    loosened
}

/// Where the new team lets more people or keys approve than the old one did, or than none did.
pub fn loosened_team(old: Option<&ApproverTeamSpec>, new: Option<&ApproverTeamSpec>, now: Timestamp) -> Vec<String> {
    let none =
        ApproverTeamSpec { groups: Vec::new(), members: Vec::new(), revoked_keys: Vec::new(), revoked: Vec::new() };
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let ApproverTeamSpec { groups, members, revoked_keys, revoked } = old;
    let mut loosened = Vec::new();
    for group in new.groups.iter().filter(|group| !groups.contains(group)) {
        loosened.push(format!("group {group:?} may approve"));
    }
    for member in &new.members {
        match members.iter().find(|known| known.user == member.user) {
            None => loosened.push(format!("{:?} may approve", member.user)),
            Some(known) => loosened.extend(loosened_member(known, member)),
        }
    }
    for key in revoked_keys.iter().filter(|key| !new.revoked_keys.contains(key)) {
        loosened.push(format!("key {key} is revoked no more"));
    }
    for Revocation { statement, expires } in revoked {
        let over = expires.as_ref().is_some_and(|expires| expires.0 <= now);
        let still = new
            .revoked
            .iter()
            .any(|kept| kept.statement == *statement && ends(kept.expires.as_ref()) >= ends(expires.as_ref()));
        if !over && !still {
            loosened.push(format!("approval {statement} is revoked no more, or not for as long"));
        }
    }
    loosened
}

fn loosened_member(old: &Member, new: &Member) -> Vec<String> {
    let Member { user, keys } = old;
    let mut loosened = Vec::new();
    for key in &new.keys {
        let MemberKey { public_key, valid_after, valid_before } = key;
        let Some(known) = keys.iter().find(|known| known.public_key == *public_key) else {
            loosened.push(format!("{user:?} may sign with another key"));
            continue;
        };
        let begins = |time: &MemberKey| time.valid_after.as_ref().map_or(Timestamp::MIN, |time| time.0);
        let earlier = valid_after.as_ref().map_or(Timestamp::MIN, |time| time.0) < begins(known);
        if earlier || ends(valid_before.as_ref()) > ends(known.valid_before.as_ref()) {
            loosened.push(format!("{user:?} may sign with a key for longer"));
        }
    }
    loosened
}

fn ends(time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> Timestamp {
    time.map_or(Timestamp::MAX, |time| time.0)
}

/// Whether every kind that was named still is.
fn cover(new: &[ResourceRule], old: &[ResourceRule]) -> bool {
    let names = |group: &String, resource: &String| {
        new.iter().any(|named| {
            named.api_groups.contains(group) && named.resources.iter().any(|own| own == "*" || own == resource)
        })
    };
    old.iter().all(|named| named.api_groups.iter().all(|group| named.resources.iter().all(|one| names(group, one))))
}

/// Whether everything that the old one asks of labels, or less, is asked by the new one.
fn selects_more(old: &LabelSelector, new: &LabelSelector) -> bool {
    let LabelSelector { match_labels, match_expressions } = new;
    let known_labels = old.match_labels.clone().unwrap_or_default();
    let known_expressions = old.match_expressions.clone().unwrap_or_default();
    match_labels.iter().flatten().all(|(key, value)| known_labels.get(key) == Some(value))
        && match_expressions.iter().flatten().all(|expression| known_expressions.contains(expression))
}

/// Whether whoever meets the new entries has met the old ones: each old entry has a new one of its own that asks at
/// least as many of no other people.
fn asks_as_much(new: &[Requirement], old: &[Requirement]) -> bool {
    let stricter = |one: &Requirement, entry: &Requirement| {
        one.count >= entry.count && one.any_of.iter().all(|team| entry.any_of.contains(team))
    };
    // What did not change first, so that it does not matter in what order entries are written.
    let mut free: Vec<&Requirement> = new.iter().collect();
    let changed = old.iter().filter(|entry| {
        let found = free.iter().position(|one| stricter(one, entry) && stricter(entry, one));
        found.map(|at| free.remove(at)).is_none()
    });
    let changed: Vec<&Requirement> = changed.collect();
    changed.into_iter().all(|entry| {
        let found = free.iter().position(|one| stricter(one, entry));
        found.map(|at| free.remove(at)).is_some()
    })
}

fn is_as_short(new: &Period, old: &Period) -> bool {
    match (new.length(), old.length()) {
        (Ok(new), Ok(old)) => new <= old,
        _ => false,
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
