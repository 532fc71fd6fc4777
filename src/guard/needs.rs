use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use thiserror::Error;

use super::ephemeral::is_ephemeral;
use super::{Rule, Rules};
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

/// An owner, as a dependent names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
}

/// What must be known before a request can be decided.
#[derive(Debug)]
pub struct Needs<'r> {
    /// Rules that cover the object as far as the request itself tells; its namespace is still to be looked at.
    pub candidates: Vec<Candidate<'r>>,
    /// The namespace's labels; a cache may tell them. Empty: there is none to look at.
    pub namespace: String,
    /// Owners to read live before refusing: an approved owner's deletion takes its dependents along.
    pub owners: Vec<Owner>,
}

#[derive(Debug, Clone, Copy)]
pub struct Candidate<'r> {
    pub rule: &'r Rule,
    /// The API server itself evaluated this rule and called its entry.
    pub called: bool,
}

/// Why no decision can be made. Never a reason to allow.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum NoDecision {
    #[error("rule {0} is not in force as far as this replica knows; try again in a few seconds")]
    UnknownRule(String),
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

    /// `deployments.apps`, or `namespaces` for the core group.
    pub fn kind(&self) -> String {
        kind_name(&self.group, &self.resource)
    }
}

impl Request<'_> {
    pub(super) fn by_garbage_collector(&self) -> bool {
        is_garbage_collector(self.requester.name)
    }
}

pub(super) fn is_garbage_collector(requester: &str) -> bool {
    GARBAGE_COLLECTOR.contains(&requester)
}

/// Every rule that may cover the object, whichever entry was called: all entries give the same answer.
pub fn needs<'r>(request: &Request, called: &str, rules: &'r Rules) -> Result<Needs<'r>, NoDecision> {
    let called = rules.called(called)?;
    let subject = &request.subject;
    // What the API server says of the called rule stands, even where Tagout would see it otherwise.
    let mut candidates = vec![Candidate { rule: called, called: true }];
    let others = covering(subject, &request.owners, request.action, rules).filter(|rule| rule.name != called.name);
    candidates.extend(others.map(|rule| Candidate { rule, called: false }));
    // The answer must not tell which entry was called.
    candidates.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));
    let few_owners = request.by_garbage_collector() && request.owners.len() <= MAX_OWNERS;
    Ok(Needs {
        candidates,
        namespace: subject.namespace.to_string(),
        owners: if few_owners { request.owners.clone() } else { Vec::new() },
    })
}

/// The rules that cover the object, as far as its namespace and CEL conditions allow.
pub fn covering<'r>(
    subject: &Subject,
    owners: &[Owner],
    action: Action,
    rules: &'r Rules,
) -> impl Iterator<Item = &'r Rule> {
    let home = if subject.is_namespace() { &subject.name } else { &subject.namespace };
    let own = !rules.own_namespace.is_empty() && *home == rules.own_namespace;
    let guarded = !own && !is_ephemeral(subject, owners);
    rules
        .rules
        .values()
        .flatten()
        .filter(move |_| guarded)
        .filter(move |rule| rule.actions.contains(&action) && rule.covers(subject))
}
