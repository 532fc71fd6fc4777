//! Where statements stand, and which of them are about the object in question.

use std::borrow::Cow;

use super::needs::Subject;
use crate::api::{APPROVAL, Scope, Statement, StatementError, read_statements};

/// Statements from one place.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) statements: Cow<'a, [Statement]>,
    /// The object that they have to name.
    pub(super) about: &'a Subject<'a>,
    pub(super) scope: Scope,
    /// Whether an unsigned one that stands there was checked when it was written.
    pub(super) checked: bool,
}

/// The time since which nobody could have planted an unsigned statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epoch {
    Current(String),
    /// There is none, or it is not known, with the reason.
    None(String),
}

impl Default for Epoch {
    fn default() -> Self {
        Self::None("whether it could have been planted was not looked up".to_owned())
    }
}

/// What is said beside an object and its namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// On the `Approval` for the object.
    pub approval: Vec<Statement>,
    /// On the `Approval` for its namespace.
    pub namespace_approval: Vec<Statement>,
}

/// What an object presents: without the label nobody ever checked who wrote it.
pub(super) fn presented<'a>(subject: &'a Subject<'a>, scope: Scope) -> (Source<'a>, Option<StatementError>) {
    let text = subject.statements.as_deref().filter(|_| subject.labels.contains_key(APPROVAL));
    let read = text.map(read_statements).unwrap_or_default();
    (Source { statements: Cow::Owned(read.readable), about: subject, scope, checked: true }, read.error)
}

/// Everything that is said of an object: on it, beside it, and on its namespace of its contents.
pub(super) fn sources<'a>(
    subject: &'a Subject<'a>,
    beside: &'a Beside,
    namespace: Option<&'a Subject<'a>>,
) -> (Vec<Source<'a>>, Option<StatementError>) {
    let (own, error) = presented(subject, Scope::Object);
    let stored = |statements: &'a [Statement], about, scope| Source {
        statements: Cow::Borrowed(statements),
        about,
        scope,
        checked: true,
    };
    let mut sources = vec![own, stored(&beside.approval, subject, Scope::Object)];
    if let Some(namespace) = namespace.filter(|_| !subject.namespace.is_empty()) {
        sources.push(presented(namespace, Scope::Contents).0);
        sources.push(stored(&beside.namespace_approval, namespace, Scope::Contents));
    }
    // What is about other scopes on a namespace is no flaw of an approval of what is in it.
    for source in sources.iter_mut().filter(|source| source.scope == Scope::Contents) {
        source.statements.to_mut().retain(|statement| statement.scope == Scope::Contents);
    }
    (sources, error)
}
