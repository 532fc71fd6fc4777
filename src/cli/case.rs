use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::cluster::Setting;
use super::connection::Cluster;
use super::facts;
use super::goes::Goes;
use super::object::{LiveObject, home};
use super::said::{Place, Said};
use crate::api::{Action, DELETED, Deletion, Scope, Statement, kind_parts};
use crate::guard::{
    Because, Beside, BudgetFact, Candidate, Change, Decision, DeletionFact, EVERYTHING, Facts, Flaw, Needs, Radius,
    Reach, Request, Requester, Rule, Rules, Subject, Way, Weighed, covering, decide, locking,
};

/// Everything that can be approved.
pub const ACTIONS: [Action; 10] = [
    Action::Delete,
    Action::Recreate,
    Action::ScaleToZero,
    Action::Evict,
    Action::Reparent,
    Action::Finalize,
    Action::DiscardData,
    Action::Unprotect,
    Action::Loosen,
    Action::Unlock,
];

/// One action on one object, and everything by which the guard would judge it.
pub struct Case<'a> {
    pub matter: Matter,
    pub object: LiveObject,
    /// Absent for cluster-scoped objects, and where the caller may not read it: then every rule may cover the object. Of
    /// a volume, that of its claim.
    pub home: Option<LiveObject>,
    /// Of a volume, its claim: rules are about that.
    pub claim: Option<Subject<'static>>,
    /// What goes with it, for people.
    pub goes: Goes,
    /// The same and more, for the guard.
    pub facts: RefCell<Facts>,
    /// What has been said already.
    pub said: Vec<Said>,
    pub setting: &'a Setting,
    pub now: Timestamp,
}

/// What it is about.
#[derive(Debug)]
pub enum Matter {
    /// What happens to the object.
    Action(Action),
    /// The deletion of what is in a Namespace, not of the Namespace; or the return of what was destroyed in it.
    Contents(Action),
    /// The return of what was destroyed: the object is as it was then.
    Return(Box<Deletion>),
    /// A change of a rule, a team or one of Tagout's definitions.
    Change(Weighed),
}

impl Matter {
    pub fn action(&self) -> Action {
        match self {
            Self::Action(action) | Self::Contents(action) => *action,
            Self::Return(_) => Action::Recreate,
            Self::Change(_) => Action::Loosen,
        }
    }

    /// Whether the object itself would be gone, and with it more.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Action(Action::Delete)) || self.new_spec() == Some(DELETED)
    }

    pub fn scope(&self) -> Scope {
        if let Self::Contents(_) = self { Scope::Contents } else { Scope::Object }
    }

    /// What stands before the name of the object.
    pub fn of_what(&self) -> &'static str {
        match self {
            Self::Contents(Action::Recreate) => "what was destroyed in ",
            Self::Contents(_) => "what is in ",
            Self::Action(_) | Self::Return(_) | Self::Change(_) => "",
        }
    }

    pub fn new_spec(&self) -> Option<&str> {
        if let Self::Change(weighed) = self { Some(&weighed.new_spec) } else { None }
    }
}

/// Stands for a kind of which no rule is.
const UNCOUNTED: &str = "uncounted.invalid";

/// What nobody has to accept.
const BY_CHOICE: &str = "Tagout may not look";

impl<'a> Case<'a> {
    /// Looks up everything but what has been said.
    pub async fn read(at: &Cluster, setting: &'a Setting, object: LiveObject, matter: Matter) -> anyhow::Result<Self> {
        let client = &at.client;
        let deletion = if let Matter::Return(deletion) = &matter { Some(&**deletion) } else { None };
        let claim = match deletion {
            None => facts::claim(client, setting, &object, matter.is_deletion()).await,
            Some(_) => None,
        };
        let namespace = claim.as_ref().map_or_else(|| object.namespace(), |claim| &claim.namespace);
        let home = home(client, &setting.kinds, namespace).await?;
        let mut known = Facts { namespace: home.as_ref().map(facts::namespace), ..Facts::default() };
        known.epoch = setting.protection.epoch();
        known.radius = Some(Radius::default());
        known.deletion = deletion.map(fact);
        if object.exists() && !matches!(matter, Matter::Contents(_) | Matter::Return(_)) {
            known.owners = facts::owners(client, setting, &object).await;
            if matter.is_deletion() {
                let radius = facts::radius(at, &object).await;
                let near: Vec<_> = home.iter().chain([&object]).collect();
                known.namespaces = facts::labels(client, setting, radius.namespaces(), &near).await;
                known.radius = Some(radius);
            }
        }
        let now = setting.now;
        let facts = RefCell::new(known);
        let mut case =
            Self { matter, object, home, claim, goes: Goes::default(), facts, said: Vec::new(), setting, now };
        let protected = case.decide(&[], None).carries;
        let within = if case.object.kind.is_namespace() { case.object.name() } else { case.object.namespace() };
        case.goes = Goes::of(case.facts.borrow().radius.as_ref(), within, &protected);
        Ok(case)
    }

    /// The namespace of the object, where what is said of its contents counts.
    pub fn place(&self) -> Option<&LiveObject> {
        self.home.as_ref().filter(|_| !self.object.namespace().is_empty())
    }

    /// Why nothing of what goes along could be looked up, if so.
    pub fn nothing_known(&self) -> Option<&str> {
        self.goes.unlisted.get(EVERYTHING).map(String::as_str)
    }

    /// What the caller may not list, and rules are about: what Tagout finds of it, the approval does not name.
    pub fn unseen(&self) -> Option<String> {
        let named = |kind: &str| {
            let (resource, group) = kind_parts(kind);
            self.setting.rules().rules.values().flatten().any(|rule| rule.names(group, resource))
        };
        let all = self.goes.unlisted.iter().filter(|(kind, why)| why.starts_with("you may not") && named(kind));
        let kinds: Vec<_> = all.map(|(kind, _)| kind.as_str()).collect();
        (!kinds.is_empty()).then(|| {
            format!(
                "you may not list {}; if something protected is among them, ask somebody who may to approve instead",
                kinds.join(", ")
            )
        })
    }

    /// What the guard would say if just this were said and this user asked.
    pub fn decide(&self, said: &[Said], requester: Option<&str>) -> Decision<'a> {
        self.decide_by(self.candidates(), said, requester)
    }

    /// Why this rule does not count this statement, if it does not.
    pub fn flaw(&self, said: &Said, rule: &'a Rule, requester: Option<&str>) -> Option<Flaw> {
        let requester = requester.or(said.statement.requester.as_deref());
        let said = std::slice::from_ref(said);
        // By this rule alone: what goes along brings the rules of others in.
        let whole = self.facts.borrow_mut().radius.replace(self.uncounted());
        // And as if it had no allowance, by which it asks nobody.
        let allowance = (rule.name.clone(), Way::Allowance);
        self.facts.borrow_mut().budgets.insert(allowance.clone(), BudgetFact::Unknown(String::new()));
        let candidate = Candidate { rule, called: true, assumed: false };
        let own = self.decide_by(vec![candidate], said, requester);
        self.facts.borrow_mut().radius = whole;
        self.facts.borrow_mut().budgets.remove(&allowance);
        // And whether it names what goes along, which is the same for every rule.
        let all = || self.decide(said, requester).flaws.into_iter().map(|(_, flaw)| flaw).find(is_about_the_rest);
        own.flaws.into_iter().map(|(_, flaw)| flaw).next().or_else(all)
    }

    /// Nothing goes along, and yet nobody can tell that it is little: then nothing is tolerated, and no rule comes in.
    fn uncounted(&self) -> Radius {
        // Of single objects only so little is tolerated at all, and by none of them everything of a kind is held.
        let kind = if self.object.namespace().is_empty() { UNCOUNTED } else { EVERYTHING };
        Radius { unlisted: [(kind.to_owned(), BY_CHOICE.to_owned())].into(), ..Radius::default() }
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
        if let Matter::Contents(_) = self.matter {
            // Something in the namespace, whatever it is.
            subject.namespace = self.object.name().into();
            contents = Some(self.object.presenting(&at(Place::Object)));
            beside.namespace_approval = at(Place::Approval);
        } else {
            subject = self.object.presenting(&at(Place::Object));
            contents = contents.or_else(|| self.place().map(|home| home.presenting(&at(Place::Namespace))));
            beside.approval = at(Place::Approval);
            beside.namespace_approval = at(Place::NamespaceApproval);
        }
        let change = match &self.matter {
            Matter::Change(Weighed { new_spec, loosened, .. }) => {
                Some(Change { new_spec: new_spec.clone(), loosened: loosened.clone() })
            }
            _ => None,
        };
        let (owners, reach) = match (&self.matter, &self.claim) {
            (Matter::Contents(_), _) => (Vec::new(), Reach::Covered),
            // By which controller it would be made anew is not known before it is.
            (Matter::Return(deletion), _) => (Vec::new(), Reach::Returning(deletion.rules.clone())),
            (_, Some(claim)) => (self.object.owners(), Reach::Through(Box::new(claim.clone()))),
            (_, None) => (self.object.owners(), Reach::Covered),
        };
        let request = Request {
            action: self.matter.action(),
            subject,
            owners,
            terminating: false,
            change,
            requester: Requester { name: requester.unwrap_or_default(), groups: &[] },
            reach,
            what: None,
        };
        // What is only needed to look up facts is left empty: they are at hand.
        let needs = Needs { candidates, namespace: String::new(), owners: Vec::new() };
        let mut facts = self.facts.borrow_mut();
        facts.contents = contents;
        facts.beside = beside;
        decide(&request, &needs, self.setting.rules(), &facts, self.now)
    }

    /// The rules that guard against an action on the object as it stands: our label must not change which those are.
    fn guarding(&self, action: Action) -> Vec<&'a Rule> {
        let setting: &'a Setting = self.setting;
        let rules: &'a Rules = setting.rules();
        if let Some(claim) = &self.claim {
            return covering(claim, &[], action, rules).collect();
        }
        let subject = self.object.subject();
        let mut guarding: Vec<_> = covering(&subject, &self.object.owners(), action, rules).collect();
        if action == Action::Unprotect {
            let all = rules.rules.values().flatten().filter(|rule| rule.actions.contains(&action));
            let known: BTreeSet<_> = guarding.iter().map(|rule| &rule.name).collect();
            let more: Vec<_> =
                all.filter(|rule| !known.contains(&rule.name) && holds_through(rule, &subject)).collect();
            guarding.extend(more);
        }
        guarding
    }

    /// The rules that may be asked.
    fn candidates(&self) -> Vec<Candidate<'a>> {
        let setting: &'a Setting = self.setting;
        let rules: &'a Rules = setting.rules();
        match &self.matter {
            Matter::Action(Action::Unlock) if !self.object.is_the_guards_own() => Vec::new(),
            Matter::Action(Action::Unlock) => {
                locking(rules).map(|rule| Candidate { rule, called: true, assumed: false }).collect()
            }
            Matter::Action(action) => self
                .guarding(*action)
                .into_iter()
                .map(|rule| Candidate { rule, called: false, assumed: false })
                .collect(),
            Matter::Contents(action) => rules
                .rules
                .values()
                .flatten()
                .filter(|rule| rule.actions.contains(action) && self.covers_contents(rule))
                .map(|rule| Candidate { rule, called: true, assumed: false })
                .collect(),
            Matter::Return(deletion) => deletion
                .rules
                .iter()
                .filter_map(|name| rules.rules.get(name)?.as_ref().ok())
                .filter(|rule| rule.actions.contains(&Action::Recreate))
                .map(|rule| Candidate { rule, called: false, assumed: true })
                .collect(),
            Matter::Change(weighed) if weighed.loosened.is_empty() => Vec::new(),
            Matter::Change(weighed) => weighed
                .needed
                .iter()
                .filter_map(|name| rules.rules.get(name)?.as_ref().ok())
                .map(|rule| Candidate { rule, called: true, assumed: false })
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
        let object = &self.object;
        match &decision.because {
            // Nobody has said anything yet: it is what was said before it was destroyed.
            Because::Approved(people) if matches!(self.matter, Matter::Return(_)) => bail!(
                "nothing to approve: the deletion of {object} was approved by {}, and so is its return",
                people.join(", ")
            ),
            Because::Tolerated if !decision.rules.is_empty() => {
                let action = self.matter.action().as_str();
                bail!("nothing to approve: so little goes with {action} of {object} that its rules ask nobody")
            }
            _ => {}
        }
        if !decision.rules.is_empty() {
            return Ok(decision.rules);
        }
        if let Some(reason) = self.nothing_known() {
            bail!("what goes with {object} could not be looked up: {reason}; try again");
        }
        let broken: String =
            self.unreadable_rules().flat_map(|(name, why)| ["; but rule ", name, " cannot be read: ", why]).collect();
        match &self.matter {
            Matter::Action(Action::Delete) if object.kind.is_namespace() => bail!(
                "nothing to approve: no rule covers Delete of {object}{broken}; what is in it is approved with --contents"
            ),
            Matter::Action(action) => {
                bail!("nothing to approve: no rule covers {} of {object}{broken}", action.as_str())
            }
            Matter::Contents(action) => {
                let (action, what) = (action.as_str(), self.matter.of_what());
                bail!("nothing to approve: no rule covers {action} of {what}{object}{broken}")
            }
            Matter::Return(deletion) => bail!(
                "nothing to approve: {object} was destroyed at {}, and no rule that is in force asks about its return any \
                 more; it may simply be made{broken}",
                deletion.at
            ),
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
}

fn fact(deletion: &Deletion) -> DeletionFact {
    DeletionFact { at: deletion.at, statements: deletion.statements.clone() }
}

/// Whether it is about what goes with the object, not about who speaks.
fn is_about_the_rest(flaw: &Flaw) -> bool {
    matches!(flaw, Flaw::NothingNamed(_) | Flaw::NotNamed | Flaw::Unlisted(_) | Flaw::NotLooked)
}

/// Whether a rule would lose what it protects by a change of this object, which it does not cover: its namespace, or the
/// definition of a kind that it names.
fn holds_through(rule: &Rule, subject: &Subject) -> bool {
    if subject.is_namespace() {
        // What selects every namespace is left by none.
        return !selects_all(&rule.spec.namespace_selector) && rule.selects_namespace(&subject.labels);
    }
    subject.defines().is_some_and(|kind| {
        let (resource, group) = kind_parts(kind);
        rule.names(group, resource)
    })
}

fn selects_all(selector: &LabelSelector) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    match_labels.iter().all(BTreeMap::is_empty) && match_expressions.iter().all(Vec::is_empty)
}

#[cfg(test)]
#[path = "case_tests.rs"]
pub mod tests;
