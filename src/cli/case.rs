use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use jiff::{SignedDuration, Timestamp};

use super::cluster::{Caller, Setting};
use super::object::LiveObject;
use super::said::{Place, Said};
use crate::api::{Action, MAX_VALID_FOR, Mode, Proof, SYSTEM_PREFIX, Scope, Statement, same_person};
use crate::guard::{
    Because, Beside, Candidate, Change, Decision, Facts, Flaw, NamespaceFact, Needs, Request, Requester, Rule, Rules,
    Subject, Team, Weighed, covering, decide,
};

/// One action on one object, and everything by which the guard would judge it.
pub struct Case<'a> {
    pub matter: Matter,
    pub object: LiveObject,
    /// Absent for cluster-scoped objects, and where the caller may not read it: then every rule may cover the object.
    pub home: Option<LiveObject>,
    /// What has been said already.
    pub said: Vec<Said>,
    pub setting: &'a Setting,
    pub now: Timestamp,
}

/// What it is about.
#[derive(Debug)]
pub enum Matter {
    /// The deletion of the object.
    Deletion,
    /// The deletion of what is in a Namespace, not of the Namespace.
    Contents,
    /// A change of a rule, a team or one of Tagout's definitions.
    Change(Weighed),
}

impl Matter {
    pub fn action(&self) -> Action {
        if let Self::Change(_) = self { Action::Loosen } else { Action::Delete }
    }

    pub fn scope(&self) -> Scope {
        if let Self::Contents = self { Scope::Contents } else { Scope::Object }
    }

    pub fn new_spec(&self) -> Option<&str> {
        if let Self::Change(weighed) = self { Some(&weighed.new_spec) } else { None }
    }
}

impl<'a> Case<'a> {
    /// What the guard would say if just this were said and this user asked.
    pub fn decide(&self, said: &[Said], requester: Option<&str>) -> Decision<'a> {
        self.decide_by(self.candidates(), said, requester)
    }

    /// Why this rule does not count this statement, if it does not.
    pub fn flaw(&self, said: &Said, rule: &'a Rule, requester: Option<&str>) -> Option<Flaw> {
        let requester = requester.or(said.statement.requester.as_deref());
        let candidate = Candidate { rule, called: true };
        let decision = self.decide_by(vec![candidate], std::slice::from_ref(said), requester);
        decision.flaws.into_iter().map(|(_, flaw)| flaw).next()
    }

    /// The rules for which a statement counts, and why it does not count for others. Of rules that ask other people it
    /// says nothing, unless there are no others.
    pub fn judged(&self, said: &Said, requester: Option<&str>) -> (Vec<&'a Rule>, Vec<Flaw>) {
        let rules = self.decide(&[], None).rules;
        let asks = |rule: &&&Rule| rule.teams().any(|team| team == said.statement.team);
        let asking: Vec<&'a Rule> = rules.iter().filter(asks).copied().collect();
        let (mut counts, mut flaws) = (Vec::new(), Vec::new());
        for rule in if asking.is_empty() { rules } else { asking } {
            match self.flaw(said, rule, requester) {
                None => counts.push(rule),
                Some(flaw) => flaws.push(flaw),
            }
        }
        flaws.dedup();
        (counts, flaws)
    }

    fn decide_by(&self, candidates: Vec<Candidate<'a>>, said: &[Said], requester: Option<&str>) -> Decision<'a> {
        let at = |place: Place| -> Vec<Statement> {
            said.iter().filter(|said| said.place == place).map(|said| said.statement.clone()).collect()
        };
        let (mut subject, mut beside, mut contents) = (Subject::default(), Beside::default(), None);
        if let Matter::Contents = self.matter {
            // Something in the namespace, whatever it is.
            subject.namespace = self.object.name().into();
            contents = Some(self.object.presenting(&at(Place::Object)));
            beside.namespace_approval = at(Place::Approval);
        } else {
            subject = self.object.presenting(&at(Place::Object));
            contents = contents.or_else(|| self.home.as_ref().map(|home| home.presenting(&at(Place::Namespace))));
            beside.approval = at(Place::Approval);
            beside.namespace_approval = at(Place::NamespaceApproval);
        }
        let namespace = subject.namespace.to_string();
        let change = match &self.matter {
            Matter::Change(Weighed { new_spec, loosened, .. }) => {
                Some(Change { new_spec: new_spec.clone(), loosened: loosened.clone() })
            }
            _ => None,
        };
        let request = Request {
            action: self.matter.action(),
            subject,
            owners: Vec::new(),
            terminating: false,
            change,
            requester: Requester { name: requester.unwrap_or_default(), groups: &[] },
        };
        let needs = Needs { candidates, namespace, owners: Vec::new() };
        let facts = Facts {
            namespace: self.home.as_ref().map(fact),
            contents,
            beside,
            epoch: self.setting.protection.epoch(),
            ..Facts::default()
        };
        decide(&request, &needs, self.setting.rules(), &facts, self.now)
    }

    /// The rules that may be asked.
    fn candidates(&self) -> Vec<Candidate<'a>> {
        let setting: &'a Setting = self.setting;
        let rules: &'a Rules = setting.rules();
        match &self.matter {
            // Our label must not change which rules cover the object: that is asked of the object as it stands.
            Matter::Deletion => covering(&self.object.subject(), &self.object.owners(), Action::Delete, rules)
                .map(|rule| Candidate { rule, called: false })
                .collect(),
            Matter::Contents => rules
                .rules
                .values()
                .flatten()
                .filter(|rule| rule.actions.contains(&Action::Delete) && self.covers_contents(rule))
                .map(|rule| Candidate { rule, called: true })
                .collect(),
            Matter::Change(weighed) if weighed.loosened.is_empty() => Vec::new(),
            Matter::Change(weighed) => weighed
                .needed
                .iter()
                .filter_map(|name| rules.rules.get(name)?.as_ref().ok())
                .map(|rule| Candidate { rule, called: true })
                .collect(),
        }
    }

    fn covers_contents(&self, rule: &Rule) -> bool {
        let within =
            |(group, plural): (&str, &str)| self.setting.kinds.named(group, plural).iter().any(|kind| kind.namespaced);
        rule.selects_namespace(&self.object.labels()) && rule.kinds().any(within)
    }

    /// The rules that cover the object; an error where there is nothing to approve.
    pub fn covering(&self) -> anyhow::Result<Vec<&'a Rule>> {
        let decision = self.decide(&[], None);
        if decision.because == Because::NamespaceTerminating {
            let namespace = self.object.namespace();
            bail!("nothing to approve: namespace {namespace:?} is being deleted, and all that is in it goes too");
        }
        if !decision.rules.is_empty() {
            return Ok(decision.rules);
        }
        let broken: String =
            self.unreadable_rules().flat_map(|(name, why)| ["; but rule ", name, " cannot be read: ", why]).collect();
        let object = &self.object;
        match &self.matter {
            Matter::Deletion if object.kind.is_namespace() => bail!(
                "nothing to approve: no rule covers Delete of {object}{broken}; what is in it is approved with --contents"
            ),
            Matter::Deletion => bail!("nothing to approve: no rule covers Delete of {object}{broken}"),
            Matter::Contents => bail!("nothing to approve: no rule covers Delete of what is in {object}{broken}"),
            Matter::Change(weighed) if weighed.loosened.is_empty() => {
                bail!("nothing to approve: {object} becomes weaker nowhere by this change, and that is free")
            }
            Matter::Change(_) => bail!(
                "nothing to approve: no rule that somebody can meet depends on {object} yet; until then whoever has the \
                 right may change it{broken}"
            ),
        }
    }

    /// Rules of which nobody can tell what they cover.
    pub fn unreadable_rules(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let setting: &'a Setting = self.setting;
        let rules = setting.rules().rules.iter();
        rules.filter_map(|(name, rule)| rule.as_ref().err().map(|reason| (name.as_str(), reason.as_str())))
    }

    /// The team in whose name the caller approves: what is missing and refused by comes first, and of that the teams
    /// for which the caller has the proof that is asked.
    pub fn team(&self, wanted: &Wanted) -> anyhow::Result<String> {
        let Caller { name, groups } = &self.setting.caller;
        ensure!(
            !name.is_empty() && !name.starts_with(SYSTEM_PREFIX),
            "you are {name}, an account of a machine, and only a person approves; use an account that is yours alone"
        );
        let teams = &self.setting.rules().teams;
        let asked = self.asked(wanted.break_glass);
        let is_in = |team: &str| teams.get(team).is_some_and(|team| team.has(name, groups));
        let object = &self.object;

        match wanted.team {
            Some(team) if !teams.contains_key(team) => {
                bail!("there is no team {team}; kubectl get approverteams lists them")
            }
            Some(team) if !asked.contains(&team) && wanted.break_glass => {
                bail!("no rule that covers {object} lets team {team} break glass; {}", listed(&asked))
            }
            Some(team) if !asked.contains(&team) => {
                bail!("no rule that covers {object} asks team {team}; they ask {}", asked.join(", "))
            }
            Some(team) if !is_in(team) => {
                bail!("you ({name}) are not in team {team}; kubectl get approverteam {team} -o yaml names its people")
            }
            Some(team) => Ok(team.to_owned()),
            None => {
                let own: Vec<&str> = asked.iter().copied().filter(|team| is_in(team)).collect();
                let proven = own.iter().find(|team| {
                    let proof = self.proof(team).max(wanted.proof);
                    proof == Proof::Identity || teams.get(**team).is_some_and(|team| has_key(team, name, proof))
                });
                match proven.or(own.first()) {
                    Some(team) => Ok((*team).to_owned()),
                    None if wanted.break_glass => {
                        bail!("you ({name}) are in no team that may break glass for {object}; {}", listed(&asked))
                    }
                    None => bail!(
                        "you ({name}) are in none of the teams that may approve this: {}; ask one of their people \
                         (kubectl get approverteams)",
                        asked.join(", ")
                    ),
                }
            }
        }
    }

    /// The teams that may speak, those that are still missing first.
    fn asked(&self, break_glass: bool) -> Vec<&'a str> {
        let decision = self.decide(&self.said, None);
        let mut seen = BTreeSet::new();
        if break_glass {
            let mut rules = decision.rules;
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.mode));
            let teams = rules.into_iter().flat_map(|rule| &rule.break_glass).map(String::as_str);
            return teams.filter(|team| seen.insert(*team)).collect();
        }
        let missing = decision.unmet.iter().flat_map(|unmet| &unmet.missing).flat_map(|missing| missing.any_of);
        let required = decision.rules.iter().flat_map(|rule| &rule.require).flat_map(|entry| &entry.any_of);
        missing.chain(required).map(String::as_str).filter(|team| seen.insert(*team)).collect()
    }

    /// The strongest proof that the rules which ask a team want. Rules that refuse nothing ask for nothing, unless
    /// there are no others.
    pub fn proof(&self, team: &str) -> Proof {
        let asking: Vec<&Rule> =
            self.decide(&[], None).rules.into_iter().filter(|rule| rule.teams().any(|own| own == team)).collect();
        let enforced = asking.iter().filter(|rule| rule.mode == Mode::Enforce).map(|rule| rule.proof).max();
        enforced.or_else(|| asking.iter().map(|rule| rule.proof).max()).unwrap_or_default()
    }

    /// How long the approval is good: a statement that one of the rules finds too long would be worth nothing to it.
    pub fn life(&self, covering: &[&Rule], wanted: Option<SignedDuration>) -> anyhow::Result<SignedDuration> {
        // Rules that refuse nothing shorten nothing, unless there are no others.
        let enforced = covering.iter().filter(|rule| rule.mode == Mode::Enforce).min_by_key(|rule| rule.valid_for);
        let Some(shortest) = enforced.or_else(|| covering.iter().min_by_key(|rule| rule.valid_for)) else {
            bail!("nothing to approve: no rule covers {}", self.object);
        };
        let is_change = matches!(self.matter, Matter::Change(_));
        match wanted {
            Some(life) if is_change && life > MAX_VALID_FOR => {
                bail!("--for {life:#} is too long: approvals are good for at most {MAX_VALID_FOR:#}")
            }
            Some(life) if !is_change && life > shortest.valid_for => bail!(
                "--for {life:#} is too long: rule {} accepts approvals of at most {:#}",
                shortest.name,
                shortest.valid_for
            ),
            Some(life) => Ok(life),
            None => Ok(shortest.valid_for),
        }
    }

    /// Nobody approves what only they may then do.
    pub fn check_requester(&self, covering: &[&Rule], requester: Option<&str>) -> anyhow::Result<()> {
        let own = requester.is_some_and(|requester| same_person(requester, &self.setting.caller.name));
        let separates = |rule: &&&Rule| rule.mode == Mode::Enforce && rule.separate_from_requester;
        match covering.iter().find(separates) {
            Some(rule) if own => bail!(
                "rule {} lets nobody approve their own request; leave --requester out, or name somebody else",
                rule.name
            ),
            _ => Ok(()),
        }
    }
}

/// In whose name a person wants to approve.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wanted<'o> {
    pub team: Option<&'o str>,
    pub break_glass: bool,
    /// What they want to prove by themselves.
    pub proof: Proof,
}

/// Whether a team lists a key for a person that may be good for this proof.
pub fn has_key(team: &Team, user: &str, proof: Proof) -> bool {
    team.keys.iter().any(|listed| listed.user == user && (proof < Proof::HardwareKey || listed.key.is_hardware()))
}

fn listed(teams: &[&str]) -> String {
    if teams.is_empty() { "no rule names one".to_owned() } else { format!("the rules name {}", teams.join(", ")) }
}

fn fact(namespace: &LiveObject) -> NamespaceFact {
    NamespaceFact { labels: namespace.labels().into_owned(), terminating: namespace.is_terminating() }
}

#[cfg(test)]
pub mod tests {
    use kube::core::ApiResource;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::cluster::Protection;
    use crate::cli::kinds::{Kind, Kinds};
    use crate::cli::statements::tests::{NOW, statement};

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

    /// A cluster with rules for production and staging, in which alice asks.
    pub fn setting(require: &Value) -> Setting {
        let protection = Protection { rules: rules(require), written: Vec::new(), epoch: Some("epoch-1".into()) };
        Setting { kinds: Kinds::default(), protection, caller: caller("alice"), now: NOW }
    }

    pub fn said(statement: Statement) -> Said {
        Said { place: Place::Object, statement }
    }

    fn rules(require: &Value) -> Rules {
        let spec = |require: &Value, mode: &str, valid_for: &str, labels: Value| {
            let spec = json!({"mode": mode, "resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
                "namespaceSelector": {"matchLabels": labels}, "approval": {"require": require, "validFor": valid_for}});
            serde_json::from_value(spec).unwrap()
        };
        let read = |name: &str, spec| (name.to_owned(), Rule::read(name, &spec));
        let anyone = json!([{"anyOf": ["everyone"]}]);
        let team = |user: &str| Team::read(serde_json::from_value(json!({"members": [{"user": user}]})).unwrap());
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

    pub fn case(setting: &Setting) -> Case<'_> {
        let namespace = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "Namespace".into(),
            plural: "namespaces".into(),
        };
        let metadata = json!({"name": "payments", "uid": "uid-ns", "labels": {"environment": "production"}});
        let home =
            LiveObject { kind: Kind::namespaced(namespace), metadata: serde_json::from_value(metadata).unwrap() };
        Case { matter: Matter::Deletion, object: deployment(), home: Some(home), said: Vec::new(), setting, now: NOW }
    }

    pub fn caller(name: &str) -> Caller {
        Caller { name: name.to_owned(), groups: Vec::new() }
    }

    fn team(setting: &Setting, wanted: Option<&str>, said: Vec<Said>) -> anyhow::Result<String> {
        Case { said, ..case(setting) }.team(&Wanted { team: wanted, ..Wanted::default() })
    }

    #[test]
    fn the_rules_of_the_objects_namespace_cover_it() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let names: Vec<_> = case(&setting).covering().unwrap().iter().map(|rule| rule.name.clone()).collect();
        assert_eq!(names, ["production", "watched"]);
    }

    #[test]
    fn where_no_rule_covers_an_object_there_is_nothing_to_approve() {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
        setting.protection.rules.rules.retain(|name, _| name == "staging");
        let words = case(&setting).covering().unwrap_err().to_string();
        assert_eq!(words, r#"nothing to approve: no rule covers Delete of deployments.apps "api" in "payments""#);
    }

    #[test]
    fn the_team_that_is_still_missing_comes_first() {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}, {"anyOf": ["dba"]}]));
        let dba = serde_json::from_value(json!({"members": [{"user": "alice"}]})).unwrap();
        setting.protection.rules.teams.insert("dba".into(), Team::read(dba));
        assert_eq!(team(&setting, None, vec![]).unwrap(), "sre");
        assert_eq!(team(&setting, None, vec![said(statement("alice", "sre"))]).unwrap(), "dba");
        assert_eq!(team(&setting, Some("dba"), vec![]).unwrap(), "dba");
    }

    #[test]
    fn who_is_in_no_team_reads_which_to_ask() {
        let setting = |name| Setting { caller: caller(name), ..setting(&json!([{"anyOf": ["sre"]}])) };
        let words = |name, wanted| team(&setting(name), wanted, vec![]).unwrap_err().to_string();
        assert!(words("carol", None).contains("in none of the teams that may approve this: sre, everyone"));
        assert!(words("bob", Some("sre")).contains("not in team sre"));
        assert!(words("bob", Some("dba")).contains("they ask sre, everyone"));
        assert!(words("bob", Some("nobody")).contains("there is no team nobody"));
        assert!(words("system:serviceaccount:a:b", None).contains("only a person approves"));
    }

    #[test]
    fn glass_is_broken_only_by_a_team_that_a_rule_names_for_it() {
        let mut setting = setting(&json!([{"anyOf": ["sre"]}]));
        let broken = Wanted { break_glass: true, ..Wanted::default() };
        let words = case(&setting).team(&broken).unwrap_err().to_string();
        assert!(words.contains("no rule names one"), "{words}");
        setting.protection.rules.rules.get_mut("production").unwrap().as_mut().unwrap().break_glass =
            vec!["sre".into()];
        assert_eq!(case(&setting).team(&broken).unwrap(), "sre");
    }

    #[test]
    fn an_approval_lives_as_long_as_every_covering_rule_allows() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let case = case(&setting);
        let covering = case.covering().unwrap();
        assert_eq!(case.life(&covering, None).unwrap(), SignedDuration::from_mins(30));
        let words = case.life(&covering, Some(SignedDuration::from_hours(1))).unwrap_err().to_string();
        assert_eq!(words, "--for 1h is too long: rule production accepts approvals of at most 30m");
    }

    #[test]
    fn what_loosens_a_rule_may_be_approved_for_a_week() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let weighed = Weighed {
            loosened: vec!["mode: Enforce → Warn".into()],
            needed: vec!["production".into()],
            new_spec: "sha256:1".into(),
            ..Weighed::default()
        };
        let case = Case { matter: Matter::Change(weighed), ..case(&setting) };
        let covering = case.covering().unwrap();
        assert_eq!(covering.len(), 1);
        assert!(case.life(&covering, Some(MAX_VALID_FOR)).is_ok());
        assert!(case.life(&covering, Some(MAX_VALID_FOR * 2)).is_err());
    }

    #[test]
    fn a_statement_counts_for_a_rule_or_it_is_said_why_not() {
        let setting = setting(&json!([{"anyOf": ["sre"], "count": 2}]));
        let case = case(&setting);
        let rule = case.covering().unwrap()[0];
        assert_eq!(case.flaw(&said(statement("alice", "sre")), rule, None), None);
        let ended = Statement { epoch: Some("epoch-0".into()), ..statement("alice", "sre") };
        assert_eq!(case.flaw(&said(ended), rule, None), Some(Flaw::EndedEpoch));
        assert_eq!(case.flaw(&said(statement("alice", "sre")), rule, Some("alice")), Some(Flaw::OwnRequest));
    }

    #[test]
    fn of_rules_that_ask_other_people_a_statement_says_nothing() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let (counts, flaws) = case(&setting).judged(&said(statement("alice", "sre")), None);
        assert_eq!((counts.len(), flaws.len()), (1, 0));
        let (counts, flaws) = case(&setting).judged(&said(statement("bob", "dba")), None);
        assert!(counts.is_empty() && matches!(flaws[0], Flaw::OtherTeam { .. }), "{flaws:?}");
    }

    #[test]
    fn nobody_is_made_the_requester_of_their_own_approval() {
        let setting = setting(&json!([{"anyOf": ["sre"]}]));
        let case = case(&setting);
        let covering = case.covering().unwrap();
        assert!(case.check_requester(&covering, Some("Alice")).is_err());
        assert!(case.check_requester(&covering, Some("agent-7")).is_ok());
        assert!(case.check_requester(&covering, None).is_ok());
    }
}
