//! Statements, rules and Approvals as docs/signing.md and docs/rules.md have them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::model::{Id, Limit, NOBODY, Per, Rule, Statement};
use super::operation::Life;
use super::world::{Action, INSIDE, Kind, Target, namespace};

/// What only the cluster knows.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub history: String,
    pub cluster: String,
    pub epoch: String,
    pub uids: BTreeMap<Id, String>,
    /// A kind that rules in the cluster do not name, though the model says so: a fault to be found.
    pub omitted: Option<Kind>,
}

/// A UID that nothing has.
pub const NO_UID: &str = "00000000-0000-4000-8000-000000000000";

impl Names {
    pub fn uid(&self, id: Id) -> &str {
        if id == NOBODY { NO_UID } else { self.uids.get(&id).map_or(NO_UID, String::as_str) }
    }

    pub fn namespace(&self, target: Target) -> String {
        match target {
            Target::Object(key) => namespace(&self.history, key.place),
            Target::Namespace(_) => String::new(),
        }
    }

    pub fn name(&self, target: Target) -> String {
        match target {
            Target::Object(key) => key.name.to_owned(),
            Target::Namespace(place) => namespace(&self.history, place),
        }
    }

    pub fn statement(&self, statement: &Statement) -> Value {
        let draft = &statement.draft;
        let now = Timestamp::now();
        let (at, until) = match draft.life {
            Life::Good => (now, now + SignedDuration::from_mins(25)),
            Life::Long => (now, now + SignedDuration::from_mins(45)),
            Life::Over => (now - SignedDuration::from_mins(9), now - SignedDuration::from_mins(5)),
        };
        let mut text = json!({
            "action": draft.action.name(),
            "uid": self.uid(statement.about),
            "resource": statement.target.resource(),
            "name": self.name(statement.target),
            "cluster": if draft.other_cluster { NO_UID } else { &self.cluster },
            "epoch": if draft.other_epoch { "another" } else { &self.epoch },
            "approver": draft.approver.name(),
            "team": draft.team.name(&self.history),
            "approvedAt": at.to_string(),
            "expires": until.to_string(),
        });
        if let Target::Object(_) = statement.target {
            text["namespace"] = json!(self.namespace(statement.target));
        }
        if let Some(requester) = draft.requester {
            text["requester"] = json!(requester.name());
        }
        if draft.reason {
            text["reason"] = json!("a history");
        }
        if let Some(ids) = &statement.protects {
            let uids: BTreeSet<&str> = ids.iter().map(|id| self.uid(*id)).collect();
            text["protects"] = protects(&uids);
        }
        for (field, is_so) in [("breakGlass", draft.break_glass), ("deleteOnly", draft.delete_only)] {
            if is_so {
                text[field] = json!(true);
            }
        }
        if draft.contents {
            text["scope"] = json!("Contents");
        }
        text
    }

    /// The `Approval` in which a statement stands alone.
    pub fn approval(&self, statement: &Statement) -> Value {
        json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "Approval",
            "metadata": {"name": self.approval_name(statement), "labels": {super::world::OF: self.history}},
            "spec": {"statements": [self.statement(statement)]}})
    }

    fn approval_name(&self, statement: &Statement) -> String {
        let action = statement.draft.action.name();
        let (resource, namespace) = (statement.target.resource(), self.namespace(statement.target));
        let name = self.name(statement.target);
        let mut hash = Sha256::new();
        for part in [action.as_str(), &resource, &namespace, &name, self.uid(statement.about)] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        format!("{}-{:.32}", action.to_lowercase(), format!("{:x}", hash.finalize()))
    }

    pub fn rule(&self, rule: &Rule) -> Value {
        let mut spec = rule_spec(rule, &self.history, self.omitted);
        let glass = rule.break_glass.iter().map(|team| team.name(&self.history)).collect::<Vec<_>>();
        let require: Vec<Value> = rule
            .require
            .iter()
            .map(|(team, count)| json!({"anyOf": [team.name(&self.history)], "count": count}))
            .collect();
        spec["approval"] = json!({"require": require});
        if !glass.is_empty() {
            spec["approval"]["breakGlass"] = json!({"anyOf": glass});
        }
        json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ProtectionRule",
            "metadata": {"name": rule.full_name(&self.history)}, "spec": spec})
    }
}

fn protects(uids: &BTreeSet<&str>) -> Value {
    let lines: String = uids.iter().flat_map(|uid| [*uid, "\n"]).collect();
    json!({"digest": format!("sha256:{:x}", Sha256::digest(lines.as_bytes())), "uids": uids})
}

fn rule_spec(rule: &Rule, history: &str, omitted: Option<Kind>) -> Value {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in rule.kinds.iter().filter(|kind| Some(**kind) != omitted) {
        let (group, _, _, plural) = Kind::names(*kind);
        groups.entry(group).or_default().push(plural);
    }
    if rule.namespaces {
        groups.entry("").or_default().push("namespaces");
    }
    let resources: Vec<Value> =
        groups.iter().map(|(group, plurals)| json!({"apiGroups": [group], "resources": plurals})).collect();
    let actions: Vec<String> = rule.actions.iter().map(|action| Action::name(*action)).collect();
    let mut spec = json!({
        "mode": if rule.enforces { "Enforce" } else { "Warn" },
        "resources": resources,
        "namespaceSelector": {"matchLabels": {INSIDE: history}},
        "actions": actions,
        // Kubernetes puts it into every namespace, and none would be empty.
        "except": [{"name": "kube-root-ca.crt"}],
    });
    if rule.gold {
        spec["objectSelector"] = json!({"matchLabels": {super::world::GOLD: "gold"}});
    }
    if let Some(objects) = rule.tolerate {
        spec["tolerate"] = json!({"objects": objects});
    }
    for (field, limit) in [("allowance", rule.allowance), ("ceiling", rule.ceiling)] {
        if let Some(Limit { count, per }) = limit {
            let per = match per {
                Per::Requester => "Requester",
                Per::Namespace => "Namespace",
                Per::Rule => "Rule",
            };
            spec[field] = json!({"count": count, "window": "1h", "per": per});
        }
    }
    spec
}
