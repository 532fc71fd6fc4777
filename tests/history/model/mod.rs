//! What the documentation says would happen: a plain reading of docs/rules.md, docs/approvals.md and docs/checks.md. It
//! knows nothing of Tagout's code.

mod approving;
mod asking;
mod clause;
mod going;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use controlplane::User;

pub use clause::Clause;

use super::operation::Draft;
use super::world::{Action, Key, Kind, Place, Target, Team};

/// One incarnation of an object: its UID, which only the cluster knows.
pub type Id = u32;

pub const NOBODY: Id = 0;

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub rules: Vec<Rule>,
    pub namespaces: BTreeMap<Place, Namespace>,
    pub objects: BTreeMap<Key, Object>,
    /// What was let pass and written down, the newest last.
    pub memory: BTreeMap<Target, Vec<Deletion>>,
    /// What had a name before.
    pub former: BTreeMap<Target, Id>,
    /// What stands in Approvals, by action, name and incarnation.
    pub detached: BTreeMap<(Action, Target, Id), Vec<Statement>>,
    pub ledger: Vec<Entry>,
    /// Changes of rules that people approved; they stay approved.
    permitted: Vec<(usize, Rule, Vec<User>)>,
    last: Id,
    /// Left out, to see whether that is noticed.
    pub without: Option<Clause>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The end of its name.
    pub name: &'static str,
    pub enforces: bool,
    pub kinds: BTreeSet<Kind>,
    pub namespaces: bool,
    /// Only objects with the label.
    pub gold: bool,
    pub actions: BTreeSet<Action>,
    pub require: Vec<(Team, u8)>,
    pub break_glass: Option<Team>,
    pub tolerate: Option<usize>,
    pub allowance: Option<Limit>,
    pub ceiling: Option<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub count: usize,
    pub per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Per {
    Requester,
    Namespace,
    Rule,
}

#[derive(Clone, Debug)]
pub struct Namespace {
    pub id: Id,
    pub inside: bool,
    pub going: bool,
    pub papers: Papers,
}

#[expect(clippy::struct_excessive_bools, reason = "each is so by itself")]
#[derive(Clone, Debug)]
pub struct Object {
    pub id: Id,
    pub gold: bool,
    pub owners: Vec<Reference>,
    pub hold: bool,
    pub going: bool,
    pub replicas: u8,
    pub suspended: bool,
    pub filled: bool,
    pub papers: Papers,
    /// The garbage collector was refused it, and comes again.
    pub refused: bool,
    /// It may be gone: the garbage collector would not be refused any more, whenever it comes again.
    pub may_go: bool,
}

/// What is said of an object on itself.
#[derive(Clone, Debug, Default)]
pub struct Papers {
    /// The annotation.
    pub statements: Option<Vec<Statement>>,
    /// The label.
    pub presented: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub key: Key,
    pub id: Id,
    pub controller: bool,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub draft: Draft,
    pub target: Target,
    pub about: Id,
    /// What may go along.
    pub protects: Option<BTreeSet<Id>>,
}

#[derive(Clone, Debug)]
pub struct Deletion {
    pub id: Id,
    pub requester: User,
    pub rules: Vec<usize>,
    pub statements: Vec<Statement>,
    /// What was to go along.
    pub along: BTreeSet<Id>,
}

/// A place in a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub rule: usize,
    pub action: Action,
    pub id: Id,
    pub requester: User,
    pub place: Place,
    pub approved: bool,
    pub allowance: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Passes,
    /// By Tagout, for want of what these rules ask.
    Denied(Action, BTreeSet<&'static str>),
    /// By Tagout: who writes an approval may not.
    NotAccepted,
    NotFound,
    Exists,
    Conflict,
    Invalid,
    /// Nothing is made in a namespace that is going.
    Terminating,
}

/// Why there is more than one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Race {
    /// Entries about returns let pass while no process answers.
    Away,
    /// The kinds of owners above what is protected are looked for every five minutes.
    OwnersUnknown,
}

/// One answer, and what is so afterwards.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub after: Model,
    pub race: Option<Race>,
}

impl Model {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(super) fn says(&self, clause: Clause) -> bool {
        self.without != Some(clause)
    }

    fn fresh(&mut self) -> Id {
        self.last += 1;
        self.last
    }

    /// The incarnation that has this name now.
    pub fn id(&self, target: Target) -> Option<Id> {
        match target {
            Target::Object(key) => self.objects.get(&key).map(|object| object.id),
            Target::Namespace(place) => self.namespaces.get(&place).map(|namespace| namespace.id),
        }
    }

    pub fn papers(&self, target: Target) -> Option<&Papers> {
        match target {
            Target::Object(key) => self.objects.get(&key).map(|object| &object.papers),
            Target::Namespace(place) => self.namespaces.get(&place).map(|namespace| &namespace.papers),
        }
    }

    fn papers_mut(&mut self, target: Target) -> Option<&mut Papers> {
        match target {
            Target::Object(key) => self.objects.get_mut(&key).map(|object| &mut object.papers),
            Target::Namespace(place) => self.namespaces.get_mut(&place).map(|namespace| &mut namespace.papers),
        }
    }

    pub fn is_going(&self, target: Target) -> bool {
        match target {
            Target::Object(key) => self.objects.get(&key).is_some_and(|object| object.going),
            Target::Namespace(place) => self.namespaces.get(&place).is_some_and(|namespace| namespace.going),
        }
    }

    /// The garbage collector has come again for what may go.
    pub fn lose(&mut self, key: Key) {
        self.end(key);
        self.collect();
    }

    /// A namespace for the beginning of a history.
    pub fn found(&mut self, place: Place) {
        let id = self.fresh();
        self.namespaces.insert(place, Namespace { id, inside: true, going: false, papers: Papers::default() });
    }
}

impl Draft {
    /// Whether it is about the object itself, or about what is in the namespace.
    fn may_be_of(&self, target: Target) -> bool {
        !self.contents || matches!(target, Target::Namespace(_))
    }
}

impl Rule {
    pub fn full_name(&self, history: &str) -> String {
        format!("{history}-{}", self.name)
    }

    /// Whether it guards something of this name against the action, in a namespace that it selects.
    fn covers(&self, kind: Kind, gold: bool, action: Action) -> bool {
        self.kinds.contains(&kind) && (gold || !self.gold) && self.actions.contains(&action)
    }
}
