//! What one rule makes of what people say.

use jiff::Timestamp;

use super::approval::{Extent, Flaw, Occasion, Proven, prove, valid_statements};
use super::evidence::{Epoch, Source};
use super::needs::Subject;
use super::quorum::{Missing, missing};
use super::{Rule, Rules};
use crate::api::{Action, Scope, Statement};

/// What one rule finds in the statements.
pub(super) struct Judged<'r> {
    pub(super) people: Vec<String>,
    /// Who may pass it alone, in an emergency.
    pub(super) emergency: Option<String>,
    pub(super) missing: Vec<Missing<'r>>,
    pub(super) counted: Vec<Statement>,
    pub(super) flaws: Vec<(Statement, Flaw)>,
}

/// What people said when something was destroyed, to be held against a rule again.
pub(super) struct Past<'a> {
    pub(super) said: Vec<Statement>,
    pub(super) about: &'a Subject<'a>,
    /// The namespace, of all that is in which some may have spoken.
    pub(super) contents: Option<&'a Subject<'a>>,
    pub(super) epoch: &'a Epoch,
    pub(super) at: Timestamp,
}

impl Past<'_> {
    /// On whose word it went, if they satisfy the rule.
    pub(super) fn people(self, rule: &Rule, rules: &Rules) -> Option<Vec<String>> {
        let Self { said, about, contents, epoch, at } = self;
        let (of_contents, of_it): (Vec<_>, Vec<_>) = said.into_iter().partition(|one| one.scope == Scope::Contents);
        let mut sources = vec![Source { statements: of_it.into(), about, scope: Scope::Object, checked: true }];
        if let Some(about) = contents {
            sources.push(Source { statements: of_contents.into(), about, scope: Scope::Contents, checked: true });
        }
        let (action, extent) = (Action::Delete, Extent::Settled);
        let occasion = Occasion { action, requester: None, new_spec: None, epoch, rules, extent, at };
        let judged = judge(&prove(&sources, &occasion), &occasion, rule);
        judged.satisfied().then(|| judged.people())
    }
}

pub(super) fn judge<'r>(proven: &[Proven], occasion: &Occasion, rule: &'r Rule) -> Judged<'r> {
    let valid = valid_statements(proven, occasion, rule);
    let missing = missing(&rule.require, &valid.people);
    let people = valid.people.iter().map(|person| person.name.to_owned()).collect();
    let counted = valid.counted.into_iter().cloned().collect();
    let flaws = valid.flaws.into_iter().map(|(statement, flaw)| (statement.clone(), flaw)).collect();
    Judged { people, emergency: valid.broke_glass.map(str::to_owned), missing, counted, flaws }
}

impl Judged<'_> {
    pub(super) fn satisfied(&self) -> bool {
        self.missing.is_empty() || self.emergency.is_some()
    }

    /// On whose word it passes.
    pub(super) fn people(self) -> Vec<String> {
        // Nobody breaks what stands open.
        if self.missing.is_empty() { self.people } else { self.emergency.into_iter().collect() }
    }
}
