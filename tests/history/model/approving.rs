//! Who may write an approval. What is wrong with it beyond that is seen when it is used.

use controlplane::User;

use super::super::operation::{About, Draft, Life};
use super::super::world::{Action, Target};
use super::{Clause, Model, NOBODY, Papers, Statement};

impl Model {
    /// The statement that a draft makes here and now.
    pub fn statement(&self, target: Target, draft: &Draft) -> Statement {
        let about = match draft.about {
            About::Current => self.id(target),
            About::Former => self.former.get(&target).copied(),
            About::Nobody => None,
        };
        let along = match target {
            Target::Object(key) if self.objects.contains_key(&key) => self.along(key),
            Target::Object(_) => std::collections::BTreeSet::new(),
            Target::Namespace(place) => self.inside(place),
        };
        let names = draft.action == Action::Delete && draft.names && !draft.contents;
        let protects = names.then(|| self.compared(&along));
        Statement { draft: draft.clone(), target, about: about.unwrap_or(NOBODY), protects }
    }

    /// What the annotation says afterwards.
    pub fn annotation(&self, target: Target, draft: &Draft) -> Vec<Statement> {
        let papers = self.papers(target);
        let kept =
            papers.filter(|papers| draft.beside && papers.presented).and_then(|papers| papers.statements.clone());
        let mut statements = kept.unwrap_or_default();
        // So few that nobody loses the view.
        statements.truncate(5);
        statements.push(self.statement(target, draft));
        statements
    }

    /// Whether this may be written on an object by this user.
    pub(super) fn accepts(&self, by: User, target: Target, draft: &Draft) -> bool {
        let Some(papers) = self.papers(target) else { return false };
        if !draft.presented && !papers.presented {
            // Nobody looks at what nothing presents.
            return true;
        }
        let statement = self.statement(target, draft);
        let inert = Some(statement.about) != self.id(target) || draft.life == Life::Over;
        inert
            || !self.is_going(target)
                && (draft.own_act || !self.says(Clause::OwnAct))
                && (!draft.smuggled || !self.says(Clause::NothingElse))
                && self.is_given_by(by, target, draft)
    }

    /// Whether the label alone may present what stands there.
    pub(super) fn accepts_label(&self, target: Target) -> bool {
        let Some(papers) = self.papers(target) else { return false };
        let said = papers.statements.iter().flatten();
        let inert = |one: &Statement| Some(one.about) != self.id(target) || one.draft.life == Life::Over;
        papers.presented || !self.says(Clause::OwnAct) || said.into_iter().all(inert)
    }

    /// Whether this may be written beside an object.
    pub(super) fn accepts_beside(&self, by: User, target: Target, draft: &Draft) -> bool {
        (draft.own_act || !self.says(Clause::OwnAct)) && self.is_given_by(by, target, draft)
    }

    fn is_given_by(&self, by: User, target: Target, draft: &Draft) -> bool {
        (draft.approver == by || !self.says(Clause::Author))
            && (draft.team.has(by) || !self.says(Clause::Member))
            && (!draft.other_cluster || !self.says(Clause::Cluster))
            && (!draft.other_epoch || !self.says(Clause::Epoch))
            && (draft.reason || !draft.break_glass || !self.says(Clause::Reason))
            && draft.may_be_of(target)
    }
}

impl Papers {
    pub(super) fn write(&mut self, statements: Vec<Statement>, presented: bool) {
        self.statements = Some(statements);
        self.presented |= presented;
    }
}
