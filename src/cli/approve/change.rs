//! Changes of rules, teams and Tagout's own definitions.

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::api::{ApproverTeam, ApproverTeamSpec, DELETED, ProtectionRule, ProtectionRuleSpec};
use crate::cli::case::Matter;
use crate::cli::cluster::{Setting, condition};
use crate::cli::connection::Cluster;
use crate::cli::kinds::Kind;
use crate::cli::object::LiveObject;
use crate::guard::{Changed, Weighed, weigh};

/// A rule or team as it is to be.
#[derive(Debug)]
pub struct Manifest {
    pub name: String,
    pub spec: Spec,
}

#[derive(Debug)]
pub enum Spec {
    Rule(Box<ProtectionRuleSpec>),
    Team(ApproverTeamSpec),
}

/// A change, and what a person has to know of it.
pub struct Proposed {
    pub object: LiveObject,
    pub matter: Matter,
    pub notes: Vec<String>,
}

/// The rules and teams in a file of one or several documents, YAML or JSON.
pub fn read(text: &str) -> anyhow::Result<Vec<Manifest>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("it is neither YAML nor JSON")?;
    let mut manifests = Vec::new();
    for document in documents {
        match document["items"].as_array() {
            Some(items) if document["kind"] == "List" => {
                for item in items {
                    manifests.extend(manifest(item)?);
                }
            }
            _ if document.is_null() => {}
            _ => manifests.extend(manifest(&document)?),
        }
    }
    ensure!(!manifests.is_empty(), "there is no ProtectionRule or ApproverTeam in it");
    Ok(manifests)
}

/// Nothing for other kinds: what a chart renders holds many.
fn manifest(document: &Value) -> anyhow::Result<Option<Manifest>> {
    let kind = document["kind"].as_str().unwrap_or_default();
    let group = document["apiVersion"].as_str().unwrap_or_default().split('/').next();
    if group != Some(crate::api::GROUP) || !["ProtectionRule", "ApproverTeam"].contains(&kind) {
        return Ok(None);
    }
    let named = document["metadata"]["name"].as_str().filter(|name| !name.is_empty());
    let name = named.with_context(|| format!("a {kind} in it has no metadata.name"))?.to_owned();
    let wrong =
        || format!("{kind} {name:?} is not as its definition asks; kubectl explain {} tells", kind.to_lowercase());
    let spec = if kind == "ProtectionRule" {
        let rule: ProtectionRule = serde_json::from_value(document.clone()).with_context(wrong)?;
        Spec::Rule(Box::new(rule.spec))
    } else {
        let team: ApproverTeam = serde_json::from_value(document.clone()).with_context(wrong)?;
        Spec::Team(team.spec)
    };
    Ok(Some(Manifest { name, spec }))
}

impl Manifest {
    /// What becomes weaker if this is applied.
    pub async fn proposed(self, at: &Cluster, setting: &Setting) -> anyhow::Result<Proposed> {
        let kind = match &self.spec {
            Spec::Rule(_) => "protectionrules.tagout.dev",
            Spec::Team(_) => "approverteams.tagout.dev",
        };
        let kind = setting.kinds.find(kind).map_err(anyhow::Error::msg)?.clone();
        let found = LiveObject::find(&at.client, kind.clone(), "", &self.name).await?;
        let object = found.unwrap_or_else(|| LiveObject::to_be(kind, &self.name));
        let (changed, notes) = self.changed(setting);
        let weighed = accepted(weigh(&changed, object.name(), setting.rules(), setting.now), &object)?;
        Ok(Proposed { object, matter: Matter::Change(weighed), notes })
    }

    fn changed(self, setting: &Setting) -> (Changed, Vec<String>) {
        let mut notes = Vec::new();
        let changed = match self.spec {
            Spec::Rule(new) => stored_rule(&self.name, Some(new), setting),
            Spec::Team(mut new) => {
                let stored = setting.rules().teams.get(&self.name).map(|team| team.spec.clone());
                if let Some(stored) = &stored {
                    notes.extend(keep_revocations(&mut new, stored));
                }
                Changed::Team { stored, new: Some(new) }
            }
        };
        (changed, notes)
    }
}

/// What `kubectl revoke` and people wrote beside the file stays when the file is applied.
fn keep_revocations(new: &mut ApproverTeamSpec, stored: &ApproverTeamSpec) -> Option<String> {
    let keys = new.revoked_keys.is_empty() && !stored.revoked_keys.is_empty();
    let statements = new.revoked.is_empty() && !stored.revoked.is_empty();
    if keys {
        new.revoked_keys.clone_from(&stored.revoked_keys);
    }
    if statements {
        new.revoked.clone_from(&stored.revoked);
    }
    (keys || statements)
        .then(|| "the file names no revocations; those that the team has stay, as kubectl apply keeps them".to_owned())
}

/// The deletion of a rule, team or definition, or its change to a spec of which only the hash is known.
pub fn without_file(object: LiveObject, new_spec: Option<&str>, setting: &Setting) -> anyhow::Result<Proposed> {
    let name = object.name();
    let changed = if object.kind.is_rule() {
        stored_rule(name, None, setting)
    } else if object.kind.is_team() {
        Changed::Team { stored: setting.rules().teams.get(name).map(|team| team.spec.clone()), new: None }
    } else {
        Changed::Definition { is_own: false, new: None }
    };
    let mut weighed = weigh(&changed, name, setting.rules(), setting.now);
    match new_spec.filter(|hash| *hash != DELETED) {
        Some(hash) => {
            weighed.refused = None;
            hash.clone_into(&mut weighed.new_spec);
            weighed.loosened = vec!["to a spec that is not shown here, only named by its hash".to_owned()];
        }
        // That a team is deleted is said at once, not person by person.
        None if object.kind.is_team() => weighed.loosened = vec!["the team is deleted".to_owned()],
        None if !object.kind.is_rule() => {
            weighed.loosened = vec!["the definition is deleted, with all of its kind".to_owned()];
        }
        None => {}
    }
    let weighed = accepted(weighed, &object)?;
    Ok(Proposed { object, matter: Matter::Change(weighed), notes: Vec::new() })
}

/// Whether what happens to such an object is decided as a change.
pub fn is_guarded(kind: &Kind, name: &str) -> bool {
    kind.is_rule() || kind.is_team() || kind.is_own_definition(name)
}

fn accepted(weighed: Weighed, object: &LiveObject) -> anyhow::Result<Weighed> {
    match &weighed.refused {
        Some(reason) => bail!("this change of {object} is accepted from nobody, approved or not: {reason}"),
        None => Ok(weighed),
    }
}

pub fn stored_rule(name: &str, new: Option<Box<ProtectionRuleSpec>>, setting: &Setting) -> Changed {
    let written = setting.protection.written.iter().find(|rule| rule.metadata.name.as_deref() == Some(name));
    let rejected = written
        .and_then(|rule| condition(rule, "Ready"))
        .is_some_and(|condition| condition.status == "False" && condition.reason == "Rejected");
    Changed::Rule { stored: written.map(|rule| Box::new(rule.spec.clone())), rejected, new }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::case::tests::setting;
    use crate::guard::{Team, spec_hash};

    const RULE: &str = "
apiVersion: tagout.dev/v1alpha1
kind: ProtectionRule
metadata: {name: production}
spec:
  mode: Warn
  resources: [{apiGroups: [apps], resources: [deployments]}]
  namespaceSelector: {matchLabels: {environment: production}}
  approval: {require: [{anyOf: [sre]}], validFor: 30m}
";

    fn setting_in_force() -> Setting {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
        let rule = setting.protection.rules.rules.get_mut("production").unwrap().as_mut().unwrap();
        rule.settled = Some(std::collections::BTreeMap::new());
        setting
    }

    #[test]
    fn what_a_file_loosens_is_said_and_named_by_the_hash_of_its_spec() {
        let mut manifests = read(RULE).unwrap();
        let Spec::Rule(spec) = &manifests[0].spec else { panic!("a rule") };
        let hash = spec_hash(spec);
        let setting = setting_in_force();
        let weighed = weigh(&manifests.remove(0).changed(&setting).0, "production", setting.rules(), setting.now);
        assert_eq!(weighed.loosened, ["mode: Enforce → Warn"]);
        assert_eq!((weighed.needed, weighed.new_spec), (vec!["production".to_owned()], hash));
    }

    #[test]
    fn a_file_may_hold_several_documents_in_yaml_or_json() {
        assert_eq!(read(&format!("---{RULE}---{RULE}---\n")).unwrap().len(), 2);
        let team = json!({"apiVersion": "tagout.dev/v1alpha1", "kind": "ApproverTeam", "metadata": {"name": "sre"},
            "spec": {"groups": ["oidc:sre"]}});
        assert_eq!(read(&team.to_string()).unwrap()[0].name, "sre");
        assert_eq!(read(&json!({"kind": "List", "items": [team, team]}).to_string()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_rule_or_team_is_answered_with_what_to_do() {
        let said = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(
            said("{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}}")
                .contains("there is no ProtectionRule or ApproverTeam in it")
        );
        assert!(
            said("{kind: ProtectionRule, apiVersion: tagout.dev/v1alpha1, metadata: {name: a}, spec: {}}")
                .contains("kubectl explain protectionrule")
        );
        assert!(said("{kind: ProtectionRule, apiVersion: tagout.dev/v1alpha1}").contains("metadata.name"));
        assert!(said("").contains("no ProtectionRule or ApproverTeam"));
        assert!(said("[").contains("neither YAML nor JSON"));
    }

    #[test]
    fn revocations_that_stand_beside_the_file_stay() {
        let mut setting = setting_in_force();
        let revoked = format!("sha256:{}", "0".repeat(64));
        let stored = json!({"groups": ["g"], "revoked": [{"statement": revoked}]});
        setting.protection.rules.teams.insert("sre".into(), Team::read(serde_json::from_value(stored).unwrap()));
        let text = "{apiVersion: tagout.dev/v1alpha1, kind: ApproverTeam, metadata: {name: sre}, spec: {groups: [g]}}";
        let (changed, notes) = read(text).unwrap().remove(0).changed(&setting);
        assert!(weigh(&changed, "sre", setting.rules(), setting.now).loosened.is_empty());
        assert_eq!(notes.len(), 1);
    }
}
