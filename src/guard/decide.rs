use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::approval::{Extent, Flaw, Occasion, Proven, prove, valid_statements};
use super::carried::{Carried, carried};
use super::cascade::follows;
use super::evidence::{Source, sources};
use super::facts::{Facts, OwnerFact};
use super::needs::{Candidate, Needs, Reach, Request};
use super::quorum::{Missing, missing};
use super::radius::Radius;
use super::summary::summary;
use super::{Rule, Rules};
use crate::api::{APPROVAL, Action, Mode, Protects, Scope, Statement, StatementError};

#[derive(Debug, Default)]
pub struct Decision<'r> {
    pub verdict: Verdict,
    pub because: Because,
    /// The rules that cover the object.
    pub rules: Vec<&'r Rule>,
    /// What each rule still needs, the gravest first; also of rules that only warn or audit.
    pub unmet: Vec<Unmet<'r>>,
    /// Statements on the object that do not count, with the reason.
    pub flaws: Vec<(Statement, Flaw)>,
    /// Why the annotation as a whole is not counted.
    pub unreadable: Option<StatementError>,
    /// Statements are written on the object, and nobody ever checked who wrote them.
    pub unpresented: bool,
    /// What could not be looked at, with the reason.
    pub unknown: Vec<String>,
    /// Who passed a rule alone, in an emergency.
    pub broke_glass: Vec<String>,
    /// The statements that counted.
    pub counted: Vec<Statement>,
    /// The UIDs of the protected objects that go with it, and what an approval has to say of them.
    pub carries: BTreeSet<String>,
    pub protects: Option<Protects>,
    /// What goes along, in words.
    pub summary: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    #[default]
    Allow,
    /// Allowed, and noted that it was not approved.
    Audit,
    Warn,
    Deny,
}

/// What follows where a rule in this mode is not satisfied.
impl From<Mode> for Verdict {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Audit => Self::Audit,
            Mode::Warn => Self::Warn,
            Mode::Enforce => Self::Deny,
        }
    }
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Because {
    /// An earlier deletion was admitted; this request follows from it.
    AlreadyTerminating,
    /// Everything in a terminating namespace goes, whoever asks.
    NamespaceTerminating,
    /// No rule covers the object.
    #[default]
    NotCovered,
    /// The definition of a kind of which there is nothing.
    Empty,
    /// So little goes that the rules ask nobody.
    Tolerated,
    /// These people approved, or approved the deletion that it follows from.
    Approved(Vec<String>),
    Unapproved,
}

/// What one rule, or several that ask the same, still needs.
#[derive(Debug)]
pub struct Unmet<'r> {
    pub rules: Vec<&'r Rule>,
    pub mode: Mode,
    pub missing: Vec<Missing<'r>>,
}

pub fn decide<'r>(
    request: &Request,
    needs: &Needs<'r>,
    rules: &'r Rules,
    facts: &Facts,
    now: Timestamp,
) -> Decision<'r> {
    let mut covering: Vec<Candidate<'r>> = needs
        .candidates
        .iter()
        .copied()
        .filter(|candidate| {
            in_namespace(candidate, request, facts) && !follows_its_controller(candidate, request, facts)
        })
        .collect();
    let radius = facts.radius.as_ref().filter(|_| request.action == Action::Delete);
    let carried = radius.map(|radius| carried(request, radius, rules, facts));
    let consequence = consequence(request, facts, radius);
    for (rule, _) in carried.iter().flat_map(|carried| carried.rules.values()) {
        match covering.iter_mut().find(|candidate| candidate.rule.name == rule.name) {
            Some(known) => known.assumed = true,
            None => covering.push(Candidate { rule, called: false, assumed: true }),
        }
    }
    covering.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));
    let mut decision = Decision {
        because: consequence.unwrap_or_default(),
        rules: covering.iter().map(|candidate| candidate.rule).collect(),
        unknown: facts.owners.iter().filter_map(OwnerFact::unknown).chain(facts.unknown.iter().cloned()).collect(),
        carries: carried.as_ref().map(|carried| carried.all.clone()).unwrap_or_default(),
        protects: carried.as_ref().and_then(Carried::protects),
        summary: radius
            .zip(carried.as_ref())
            .map(|(radius, carried)| summary(radius, &carried.worth_saying))
            .unwrap_or_default(),
        ..Decision::default()
    };
    if decision.because != Because::NotCovered || covering.is_empty() {
        return decision;
    }

    let subject = &request.subject;
    let (mut sources, error) = sources(subject, &facts.beside, facts.contents.as_ref());
    sources.push(Source {
        statements: Cow::Borrowed(&facts.proposed),
        about: subject,
        scope: Scope::Object,
        checked: false,
    });
    decision.unreadable = error;
    decision.unpresented = subject.statements.is_some() && !subject.labels.contains_key(APPROVAL);
    let extent = match (&carried, request.action) {
        (Some(carried), _) => Extent::Goes(carried),
        (None, Action::Delete) => Extent::NotLooked,
        (None, _) => Extent::Settled,
    };
    let occasion = Occasion {
        action: request.action,
        requester: Some(request.requester.name),
        new_spec: request.change.as_ref().map(|change| change.new_spec.as_str()),
        epoch: &facts.epoch,
        rules,
        extent,
        at: now,
    };
    let proven = prove(&sources, &occasion);
    let mut approvers = Vec::new();
    let (mut all_approved, mut tolerated) = (true, true);
    for candidate in covering {
        let rule = candidate.rule;
        if is_tolerated(request, rule, carried.as_ref()) {
            continue;
        }
        tolerated = false;
        let judged = judge(&proven, &occasion, rule);
        if judged.missing.is_empty() {
            approvers.extend(judged.people);
            decision.broke_glass.extend(judged.broke_glass.filter(|_| rule.mode == Mode::Enforce));
            decision.counted.extend(judged.counted);
        } else if let Some(people) = follows(request, rule, rules, facts) {
            approvers.extend(people);
        } else {
            // Whether a condition holds, only the API server knows: it calls that rule's own entry if it does.
            if candidate.called || candidate.assumed || !rule.conditional {
                decision.verdict = decision.verdict.max(Verdict::from(rule.mode));
                all_approved = false;
            }
            decision.flaws.extend(judged.flaws);
            add_unmet(&mut decision.unmet, rule, judged.missing);
        }
    }
    decision.broke_glass.sort();
    decision.broke_glass.dedup();
    decision.counted.dedup();
    // Nobody has broken what still holds.
    if decision.verdict == Verdict::Deny {
        decision.broke_glass.clear();
    }
    decision.unmet.sort_by(|a, b| (b.mode, &a.rules[0].name).cmp(&(a.mode, &b.rules[0].name)));
    decision.flaws.dedup();
    approvers.sort();
    approvers.dedup();
    decision.because = match (all_approved, tolerated) {
        (true, true) => Because::Tolerated,
        (true, false) => Because::Approved(approvers),
        (false, _) => Because::Unapproved,
    };
    decision
}

/// What follows from a deletion that was admitted is never refused. State says so, never a name alone.
fn consequence(request: &Request, facts: &Facts, radius: Option<&Radius>) -> Option<Because> {
    if request.terminating {
        return Some(Because::AlreadyTerminating);
    }
    let going = facts.namespace.as_ref().is_some_and(|namespace| namespace.terminating);
    if going {
        return Some(Because::NamespaceTerminating);
    }
    // What a definition stands for are its objects.
    let empty = radius.is_some_and(|radius| radius.is_complete() && radius.going.is_empty());
    (empty && request.subject.defines().is_some()).then_some(Because::Empty)
}

/// Whether its controller lives, and would make it anew: then the rule leaves it to that.
fn follows_its_controller(candidate: &Candidate, request: &Request, facts: &Facts) -> bool {
    let about_that = matches!(request.action, Action::Unprotect | Action::Reparent);
    !about_that
        && candidate.rule.lets_follow(&request.subject)
        && request.owners.iter().zip(&facts.owners).any(|(owner, found)| owner.controller && *found == OwnerFact::Alive)
}

/// Whether so little goes that the rule asks nobody. What could not be counted is too much.
fn is_tolerated(request: &Request, rule: &Rule, carried: Option<&Carried>) -> bool {
    let counted = match request.action {
        Action::Delete => carried.filter(|carried| carried.sees_all_of(rule)).map(|carried| carried.all.len()),
        Action::Evict => Some(0),
        _ => None,
    };
    let tolerated = usize::try_from(rule.tolerated).unwrap_or(usize::MAX);
    !request.subject.namespace.is_empty() && counted.is_some_and(|others| others < tolerated)
}

/// What one rule finds in the statements.
pub(super) struct Judged<'r> {
    pub(super) people: Vec<String>,
    broke_glass: Option<String>,
    pub(super) missing: Vec<Missing<'r>>,
    counted: Vec<Statement>,
    flaws: Vec<(Statement, Flaw)>,
}

pub(super) fn judge<'r>(proven: &[Proven], occasion: &Occasion, rule: &'r Rule) -> Judged<'r> {
    let valid = valid_statements(proven, occasion, rule);
    let missing = missing(&rule.require, &valid.people);
    let people = valid.people.iter().map(|person| person.name.to_owned()).collect();
    let counted = valid.counted.into_iter().cloned().collect();
    let flaws = valid.flaws.into_iter().map(|(statement, flaw)| (statement.clone(), flaw)).collect();
    match valid.broke_glass {
        // Nobody breaks what stands open.
        Some(person) if !missing.is_empty() => {
            let person = person.to_owned();
            Judged { people: vec![person.clone()], broke_glass: Some(person), missing: Vec::new(), counted, flaws }
        }
        _ => Judged { people, broke_glass: None, missing, counted, flaws },
    }
}

fn in_namespace(candidate: &Candidate, request: &Request, facts: &Facts) -> bool {
    let subject = &request.subject;
    if candidate.called {
        return true;
    }
    if subject.is_namespace() {
        return candidate.rule.selects_namespace(&subject.labels);
    }
    let home = if let Reach::Through(other) = &request.reach { &other.namespace } else { &subject.namespace };
    // A namespace that cannot be read may be one that the rule protects.
    home.is_empty()
        || facts.namespace.as_ref().is_none_or(|namespace| candidate.rule.selects_namespace(&namespace.labels))
}

fn add_unmet<'r>(unmet: &mut Vec<Unmet<'r>>, rule: &'r Rule, missing: Vec<Missing<'r>>) {
    let alike = |other: &&mut Unmet| {
        let first = other.rules[0];
        other.mode == rule.mode
            && other.missing == missing
            && (first.conditional, first.proof) == (rule.conditional, rule.proof)
    };
    match unmet.iter_mut().find(alike) {
        Some(same) => same.rules.push(rule),
        None => unmet.push(Unmet { rules: vec![rule], mode: rule.mode, missing }),
    }
}
