use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use jiff::{SignedDuration, Timestamp};

use super::object::LiveObject;
use crate::api::{APPROVAL, Action, Mode, SYSTEM_PREFIX, Statement, same_person};
use crate::cli::cluster::Caller;
use crate::guard::{
    Because, Candidate, Decision, Facts, NamespaceFact, Needs, Request, Requester, Rule, Rules, covering, decide,
};

/// One action on one object, and everything by which the guard would judge it.
pub struct Case<'a> {
    pub action: Action,
    pub object: &'a LiveObject,
    pub rules: &'a Rules,
    /// Absent for cluster-scoped objects, and where the caller may not read it: then every rule may cover it.
    pub namespace: Option<NamespaceFact>,
    pub now: Timestamp,
}

impl<'a> Case<'a> {
    /// What the guard would say if the object presented these statements and this user asked.
    pub fn decide(&self, statements: &[Statement], requester: Option<&str>) -> Decision<'a> {
        let mut subject = self.object.subject();
        let mut labels = subject.labels.into_owned();
        labels.insert(APPROVAL.to_owned(), "true".to_owned());
        subject.labels = Cow::Owned(labels);
        subject.statements = serde_json::to_string(statements).ok().map(Cow::Owned);
        let request = Request {
            action: self.action,
            subject,
            owners: Vec::new(),
            terminating: false,
            requester: Requester { name: requester.unwrap_or_default(), groups: &[] },
        };
        // Our label must not change which rules cover the object: that is asked of the object as it stands.
        let stands = self.object.subject();
        let needs = Needs {
            candidates: covering(&stands, &self.object.owners(), self.action, self.rules)
                .map(|rule| Candidate { rule, called: false })
                .collect(),
            namespace: stands.namespace.to_string(),
            live_namespace: false,
            owners: Vec::new(),
        };
        let facts = Facts { namespace: self.namespace.clone(), owners: Vec::new() };
        decide(&request, &needs, self.rules, &facts, self.now)
    }

    /// The rules that cover the object; an error where there is nothing to approve.
    pub fn covering(&self) -> anyhow::Result<Vec<&'a Rule>> {
        let decision = self.decide(&[], None);
        if decision.because == Because::NamespaceTerminating {
            let namespace = self.object.namespace();
            bail!("nothing to approve: namespace {namespace:?} is being deleted, and all that is in it goes too");
        }
        if decision.rules.is_empty() {
            let action = self.action.as_str();
            let broken: String = self
                .unreadable_rules()
                .flat_map(|(name, why)| ["; but rule ", name, " cannot be read: ", why])
                .collect();
            bail!("nothing to approve: no rule covers {action} of {}{broken}", self.object);
        }
        Ok(decision.rules)
    }

    /// Rules of which nobody can tell what they cover.
    pub fn unreadable_rules(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rules = self.rules.rules.iter();
        rules.filter_map(|(name, rule)| rule.as_ref().err().map(|reason| (name.as_str(), reason.as_str())))
    }

    /// The team in whose name the caller approves: what is missing and refused by comes first.
    pub fn team(&self, caller: &Caller, wanted: Option<&str>, kept: &[Statement]) -> anyhow::Result<String> {
        let Caller { name, groups } = caller;
        ensure!(
            !name.is_empty() && !name.starts_with(SYSTEM_PREFIX),
            "you are {name}, an account of a machine, and only a person approves; use an account that is yours alone"
        );
        let decision = self.decide(kept, None);
        let missing = decision.unmet.iter().flat_map(|unmet| &unmet.missing).flat_map(|missing| missing.any_of);
        let required = decision.rules.iter().flat_map(|rule| &rule.require).flat_map(|entry| &entry.any_of);
        let mut seen = BTreeSet::new();
        let asked: Vec<&str> = missing.chain(required).map(String::as_str).filter(|team| seen.insert(*team)).collect();
        let is_in = |team: &str| self.rules.teams.get(team).is_some_and(|team| team.has(name, groups));

        match wanted {
            Some(team) if !self.rules.teams.contains_key(team) => {
                bail!("there is no team {team}; kubectl get approverteams lists them")
            }
            Some(team) if !asked.contains(&team) => {
                bail!("no rule that covers {} asks team {team}; they ask {}", self.object, asked.join(", "))
            }
            Some(team) if !is_in(team) => {
                bail!("you ({name}) are not in team {team}; kubectl get approverteam {team} -o yaml names its people")
            }
            Some(team) => Ok(team.to_owned()),
            None => match asked.iter().find(|team| is_in(team)) {
                Some(team) => Ok((*team).to_owned()),
                None => bail!(
                    "you ({name}) are in none of the teams that may approve this: {}; ask one of their people (kubectl \
                     get approverteams)",
                    asked.join(", ")
                ),
            },
        }
    }

    /// How long the approval is good: a statement that one of the rules finds too long would be worth nothing to it.
    pub fn life(&self, covering: &[&Rule], wanted: Option<SignedDuration>) -> anyhow::Result<SignedDuration> {
        // Rules that refuse nothing shorten nothing, unless there are no others.
        let enforced = covering.iter().filter(|rule| rule.mode == Mode::Enforce).min_by_key(|rule| rule.valid_for);
        let Some(shortest) = enforced.or_else(|| covering.iter().min_by_key(|rule| rule.valid_for)) else {
            bail!("nothing to approve: no rule covers {}", self.object);
        };
        match wanted {
            Some(life) if life > shortest.valid_for => bail!(
                "--for {life:#} is too long: rule {} accepts approvals of at most {:#}",
                shortest.name,
                shortest.valid_for
            ),
            Some(life) => Ok(life),
            None => Ok(shortest.valid_for),
        }
    }
}

/// Nobody approves what only they may then do.
pub fn check_requester(covering: &[&Rule], caller: &Caller, requester: Option<&str>) -> anyhow::Result<()> {
    let own = requester.is_some_and(|requester| same_person(requester, &caller.name));
    let separates = |rule: &&&Rule| rule.mode == Mode::Enforce && rule.separate_from_requester;
    match covering.iter().find(separates) {
        Some(rule) if own => bail!(
            "rule {} lets nobody approve their own request; leave --requester out, or name somebody else",
            rule.name
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub mod tests {
    use kube::core::ApiResource;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::approve::statements::tests::{NOW, statement};
    use crate::cli::kinds::Kind;

    pub fn deployment() -> LiveObject {
        let resource = ApiResource {
            group: "apps".into(),
            version: "v1".into(),
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        };
        let metadata = json!({"name": "api", "namespace": "payments", "uid": "uid-1",
            "creationTimestamp": "2026-11-20T10:00:00Z", "labels": {"app": "api"}});
        LiveObject { kind: Kind::namespaced(resource), metadata: serde_json::from_value(metadata).unwrap() }
    }

    pub fn rules(require: &Value) -> Rules {
        let spec = |require: &Value, mode: &str, valid_for: &str, labels: Value| {
            let spec = json!({"mode": mode, "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
                "namespaceSelector": {"matchLabels": labels}, "approval": {"require": require, "validFor": valid_for}});
            serde_json::from_value(spec).unwrap()
        };
        let read = |name: &str, spec| (name.to_owned(), Rule::read(name, &spec));
        let anyone = json!([{"anyOf": ["everyone"]}]);
        let team = |user: &str| serde_json::from_value(json!({"members": [{"user": user}], "groups": []})).unwrap();
        Rules {
            rules: [
                read("production", spec(require, "Enforce", "30m", json!({"environment": "production"}))),
                read("staging", spec(require, "Enforce", "5m", json!({"environment": "staging"}))),
                read("watched", spec(&anyone, "Audit", "2h", json!({}))),
            ]
            .into(),
            teams: [("sre".to_owned(), team("alice")), ("dba".to_owned(), team("bob"))].into(),
            cluster: "cluster-1".into(),
            own_namespace: String::new(),
        }
    }

    pub fn case<'a>(object: &'a LiveObject, rules: &'a Rules) -> Case<'a> {
        let labels = [("environment".to_owned(), "production".to_owned())].into();
        let namespace = Some(NamespaceFact { labels, terminating: false });
        Case { action: Action::Delete, object, rules, namespace, now: NOW }
    }

    fn caller(name: &str) -> Caller {
        Caller { name: name.to_owned(), groups: Vec::new() }
    }

    #[test]
    fn the_rules_of_the_objects_namespace_cover_it() {
        let (object, rules) = (deployment(), rules(&json!([{"anyOf": ["sre"]}])));
        let names: Vec<_> = case(&object, &rules).covering().unwrap().iter().map(|rule| rule.name.clone()).collect();
        assert_eq!(names, ["production", "watched"]);
    }

    #[test]
    fn where_no_rule_covers_an_object_there_is_nothing_to_approve() {
        let (object, mut rules) = (deployment(), rules(&json!([{"anyOf": ["sre"]}])));
        rules.rules.retain(|name, _| name == "staging");
        let words = case(&object, &rules).covering().unwrap_err().to_string();
        assert_eq!(words, r#"nothing to approve: no rule covers Delete of deployments.apps "api" in "payments""#);
    }

    #[test]
    fn the_team_that_is_still_missing_comes_first() {
        let require = json!([{"anyOf": ["sre"]}, {"anyOf": ["dba"]}]);
        let (object, mut rules) = (deployment(), rules(&require));
        rules.teams.insert("dba".into(), serde_json::from_value(json!({"members": [{"user": "alice"}]})).unwrap());
        let case = case(&object, &rules);
        assert_eq!(case.team(&caller("alice"), None, &[]).unwrap(), "sre");
        assert_eq!(case.team(&caller("alice"), None, &[statement("carol", "sre")]).unwrap(), "dba");
        assert_eq!(case.team(&caller("alice"), Some("dba"), &[]).unwrap(), "dba");
    }

    #[test]
    fn who_is_in_no_team_reads_which_to_ask() {
        let (object, rules) = (deployment(), rules(&json!([{"anyOf": ["sre"]}])));
        let case = case(&object, &rules);
        let said = |name: &str, team| case.team(&caller(name), team, &[]).unwrap_err().to_string();
        assert!(said("carol", None).contains("in none of the teams that may approve this: sre, everyone"));
        assert!(said("bob", Some("sre")).contains("not in team sre"));
        assert!(said("bob", Some("dba")).contains("they ask sre, everyone"));
        assert!(said("bob", Some("nobody")).contains("there is no team nobody"));
        assert!(said("system:serviceaccount:a:b", None).contains("only a person approves"));
    }

    #[test]
    fn an_approval_lives_as_long_as_every_covering_rule_allows() {
        let (object, rules) = (deployment(), rules(&json!([{"anyOf": ["sre"]}])));
        let case = case(&object, &rules);
        let covering = case.covering().unwrap();
        assert_eq!(case.life(&covering, None).unwrap(), SignedDuration::from_mins(30));
        let words = case.life(&covering, Some(SignedDuration::from_hours(1))).unwrap_err().to_string();
        assert_eq!(words, "--for 1h is too long: rule production accepts approvals of at most 30m");
    }

    #[test]
    fn nobody_is_made_the_requester_of_their_own_approval() {
        let (object, rules) = (deployment(), rules(&json!([{"anyOf": ["sre"]}])));
        let case = case(&object, &rules);
        let covering = case.covering().unwrap();
        assert!(check_requester(&covering, &caller("alice"), Some("Alice")).is_err());
        assert!(check_requester(&covering, &caller("alice"), Some("agent-7")).is_ok());
        assert!(check_requester(&covering, &caller("alice"), None).is_ok());
    }
}
