use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;

use super::ephemeral::is_ephemeral;
use super::{Rule, Rules};
use crate::actions::Owner;
use crate::api::{Action, Statement, kind_name};

/// One request for one action on one object.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub action: Action,
    /// The object as it stands before the request.
    pub subject: Subject<'a>,
    pub owners: Vec<Owner>,
    /// Whether an earlier deletion was admitted and is under way.
    pub terminating: bool,
    /// Of a loosening, what it is.
    pub change: Option<Change>,
    pub requester: Requester<'a>,
    pub reach: Reach,
    /// What it does, where the action's name alone does not say.
    pub what: Option<String>,
}

/// Which rules a request meets.
#[derive(Debug, Clone, Default)]
pub enum Reach {
    /// Those that cover the object.
    #[default]
    Covered,
    /// Those that cover this one, which goes with it: the claim behind a volume.
    Through(Box<Subject<'static>>),
    /// Those that cover the object as it stands, and would not cover it like this; for a Namespace, those that select
    /// it no more.
    Leaving(Box<Subject<'static>>),
    /// Those that would let the object go with a controller that it gets.
    Following,
    /// Those that select the Namespace, whatever of it they name.
    Selecting,
    /// Those that name this kind, of which the object is the definition.
    Definition { group: String, resource: String },
    /// Those of these names, which enforced when the object was destroyed.
    Returning(Vec<String>),
}

/// How a rule, team or definition is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The hash of the new spec, or that there is none any more.
    pub new_spec: String,
    /// Where it is weaker, in words.
    pub loosened: Vec<String>,
}

/// What rules and statements say something about: an object, without its contents.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    pub group: Cow<'a, str>,
    /// The plural name.
    pub resource: Cow<'a, str>,
    /// Empty for cluster-scoped objects, Namespaces included.
    pub namespace: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub uid: Cow<'a, str>,
    pub created: Option<Timestamp>,
    pub labels: Cow<'a, BTreeMap<String, String>>,
    /// The keys of the annotations.
    pub annotations: Vec<Cow<'a, str>>,
    /// What the approval annotation says.
    pub statements: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    pub name: &'a str,
    pub groups: &'a [String],
}

/// What must be known before a request can be decided.
#[derive(Debug)]
pub struct Needs<'r> {
    /// Rules that cover the object as far as the request itself tells; its namespace is still to be looked at.
    pub candidates: Vec<Candidate<'r>>,
    /// The namespace's labels; a cache may tell them. Empty: there is none to look at.
    pub namespace: String,
    /// Owners to read live: what an approved owner's deletion takes along goes, and some follow a living controller.
    pub owners: Vec<Owner>,
}

#[derive(Debug, Clone, Copy)]
pub struct Candidate<'r> {
    pub rule: &'r Rule,
    /// The API server itself evaluated this rule and called its entry.
    pub called: bool,
    /// Nobody can evaluate its conditions here, so they count as met.
    pub assumed: bool,
}

impl Candidate<'_> {
    /// Whether it is known to apply. Whether a condition holds, only the API server knows: it calls that rule's own entry
    /// if it does.
    pub(super) fn holds(&self) -> bool {
        self.called || self.assumed || !self.rule.conditional
    }
}

/// Why no decision can be made. Never a reason to allow.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum NoDecision {
    #[error("rule {0} is not in force as far as this replica knows; try again in a few seconds")]
    UnknownRule(String),
    #[error("there was not enough time to decide; try again in a few seconds")]
    TooLate,
    #[error("of which object the request is cannot be found out: {0} could not be read; try again in a few seconds")]
    NotFound(String),
    #[error("what is in force of rule {0} cannot be read ({1}); apply the rule again")]
    BrokenRule(String, String),
}

/// Kubernetes' own names for the garbage collector: with and without credentials of its own for each controller.
const GARBAGE_COLLECTOR: [&str; 2] =
    ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];

/// An object has one owner, rarely two. More are not looked up: each is a request to the API server, and a review can
/// be forged.
const MAX_OWNERS: usize = 8;

impl Subject<'_> {
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.resource == "namespaces"
    }

    /// Whether a statement names it by kind, namespace and name.
    pub fn is_named_by(&self, statement: &Statement) -> bool {
        statement.resource == self.kind() && statement.namespace == self.namespace && statement.name == self.name
    }

    /// Whether its controllers make it anew as daily work.
    pub fn is_follower(&self) -> bool {
        super::rules::is_follower(self)
    }

    /// The kind, like `deployments.apps`, that it is the definition of.
    pub fn defines(&self) -> Option<&str> {
        let definition = self.group == "apiextensions.k8s.io" && self.resource == "customresourcedefinitions";
        definition.then_some(&self.name)
    }

    /// `deployments.apps`, or `namespaces` for the core group.
    pub fn kind(&self) -> String {
        kind_name(&self.group, &self.resource)
    }
}

impl Request<'_> {
    pub fn by_garbage_collector(&self) -> bool {
        is_garbage_collector(self.requester.name)
    }
}

pub(super) fn is_garbage_collector(requester: &str) -> bool {
    GARBAGE_COLLECTOR.contains(&requester)
}

/// How the API server came to ask.
#[derive(Debug, Clone, Copy)]
pub enum Called<'a> {
    /// By the entry of this rule, after it looked at the object itself.
    By(&'a str),
    /// By an entry of this rule that is about something else than the object: what only conditions in CEL could tell
    /// counts as matching.
    Beside(&'a str),
    /// By an entry about updates under which the conditions of this rule hold no more.
    Leaves(&'a str),
    /// By an entry that belongs to no rule.
    Shared,
}

impl<'a> Called<'a> {
    pub fn rule(self) -> &'a str {
        match self {
            Self::By(rule) | Self::Beside(rule) | Self::Leaves(rule) => rule,
            Self::Shared => "",
        }
    }
}

/// Every rule that may cover the object, whichever entry was called: all entries give the same answer.
pub fn needs<'r>(request: &Request, called: Called, rules: &'r Rules) -> Result<Needs<'r>, NoDecision> {
    let asked = if let Called::Shared = called { None } else { Some(rules.called(called.rule())?) };
    let reached = reached(request, rules);
    let beside = matches!(called, Called::Beside(_) | Called::Shared);
    let is_asked = |rule: &Rule| asked.is_some_and(|asked| asked.name == rule.name);
    let candidate = |rule: &'r Rule| Candidate { rule, called: !beside && is_asked(rule), assumed: beside };
    let mut candidates: Vec<Candidate<'r>> = reached.map(candidate).collect();
    // What the API server says of the called rule stands, even where Tagout would see it otherwise.
    let by_itself = matches!((called, &request.reach), (Called::By(_), Reach::Covered));
    let stands = asked.filter(|asked| by_itself && guards(asked, request.action));
    if let Some(rule) = stands.filter(|_| !candidates.iter().any(|candidate| is_asked(candidate.rule))) {
        candidates.push(Candidate { rule, called: true, assumed: false });
    }
    // The answer must not tell which entry was called.
    candidates.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));
    let namespace = match &request.reach {
        Reach::Through(other) => other.namespace.to_string(),
        _ => request.subject.namespace.to_string(),
    };
    let few_owners = request.owners.len() <= MAX_OWNERS;
    Ok(Needs { candidates, namespace, owners: if few_owners { request.owners.clone() } else { Vec::new() } })
}

fn reached<'r>(request: &Request, rules: &'r Rules) -> Box<dyn Iterator<Item = &'r Rule> + 'r> {
    let subject = &request.subject;
    match &request.reach {
        Reach::Covered => Box::new(covering(subject, &request.owners, request.action, rules)),
        Reach::Through(other) => Box::new(covering(other, &[], request.action, rules)),
        Reach::Leaving(new) => {
            let leaves = |rule: &&Rule| leaves(rule, subject, new);
            let left: Vec<_> = guarding(subject, &request.owners, request.action, rules).filter(leaves).collect();
            Box::new(left.into_iter())
        }
        Reach::Following => {
            let left = covering(subject, &request.owners, request.action, rules);
            let left: Vec<_> = left.filter(|rule| rule.lets_follow(subject)).collect();
            Box::new(left.into_iter())
        }
        Reach::Selecting => {
            let left: Vec<_> = guarding(subject, &request.owners, request.action, rules)
                .filter(|rule| rule.selects_namespace(&subject.labels))
                .collect();
            Box::new(left.into_iter())
        }
        Reach::Returning(names) => {
            let named = names.iter().filter_map(|name| rules.rules.get(name)?.as_ref().ok());
            let named: Vec<_> = named.filter(|rule| guards(rule, request.action)).collect();
            Box::new(named.into_iter())
        }
        Reach::Definition { group, resource } => {
            let named: Vec<_> = guarding(subject, &[], request.action, rules)
                .filter(|rule| rule.names(group, resource) || rule.covers(subject))
                .collect();
            Box::new(named.into_iter())
        }
    }
}

fn leaves(rule: &Rule, old: &Subject, new: &Subject) -> bool {
    if !old.is_namespace() {
        return rule.covers(old) && !rule.covers(new);
    }
    let selected = rule.selects_namespace(&old.labels);
    selected && (!rule.selects_namespace(&new.labels) || (rule.covers(old) && !rule.covers(new)))
}

/// The rules that cover the object, as far as its namespace and CEL conditions allow.
pub fn covering<'r>(
    subject: &Subject,
    owners: &[Owner],
    action: Action,
    rules: &'r Rules,
) -> impl Iterator<Item = &'r Rule> + use<'r> {
    let covering: Vec<_> = guarding(subject, owners, action, rules).filter(|rule| rule.covers(subject)).collect();
    covering.into_iter()
}

/// The rules that guard against an action where the object is.
fn guarding<'r>(
    subject: &Subject,
    owners: &[Owner],
    action: Action,
    rules: &'r Rules,
) -> impl Iterator<Item = &'r Rule> + use<'r> {
    let home = if subject.is_namespace() { &subject.name } else { &subject.namespace };
    let own = !rules.own_namespace.is_empty() && *home == rules.own_namespace;
    let guarded = !own && !is_ephemeral(subject, owners);
    rules.rules.values().flatten().filter(move |rule| guarded && guards(rule, action))
}

/// Every rule guards itself.
fn guards(rule: &Rule, action: Action) -> bool {
    action == Action::Loosen || rule.actions.contains(&action)
}
