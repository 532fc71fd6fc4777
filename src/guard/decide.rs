use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::approval::{Extent, Flaw, Occasion, prove};
use super::budget::Way;
use super::carried::{Carried, carried};
use super::cascade::follows;
use super::covered::{follows_its_controller, in_namespace, is_seen, still_remembers};
use super::evidence::{Source, sources};
use super::facts::{Facts, OwnerFact};
use super::judged::{Judged, judge};
use super::needs::{Candidate, Needs, Request};
use super::passage::{Kept, Passage, Wanted, is_little, passage};
use super::quorum::Missing;
use super::radius::Radius;
use super::returning::returns;
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
    /// The rules that cover it as far as Tagout itself can see. That its entry was called may be a lie.
    pub seen: Vec<&'r Rule>,
    /// The places in budgets without which it does not pass.
    pub wanted: Vec<Wanted<'r>>,
    /// What keeps it, whoever approves.
    pub kept: Vec<Kept<'r>>,
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
    /// So much is allowed without approval.
    WithinAllowance,
    /// It has no place in a budget yet.
    ToBeCounted,
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
    let radius = facts.radius.as_ref().filter(|_| request.action == Action::Delete);
    let carried = radius.map(|radius| carried(request, radius, rules, facts));
    let consequence = consequence(request, facts, radius);
    let covering = covering(request, needs, carried.as_ref(), facts, now);
    let is_seen = |one: &&Candidate<'r>| one.holds() && is_seen(one, request, facts, carried.as_ref());
    let mut decision = Decision {
        because: consequence.unwrap_or_default(),
        rules: covering.iter().map(|candidate| candidate.rule).collect(),
        seen: covering.iter().filter(is_seen).map(|one| one.rule).collect(),
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
    let mut tally = Tally { tolerated: true, all_pass: true, ..Tally::default() };
    for candidate in covering {
        let rule = candidate.rule;
        if let Some(people) = follows(request, rule, rules, facts).or_else(|| returns(request, rule, rules, facts)) {
            tally.approved_by(people);
            continue;
        }
        let judged = judge(&proven, &occasion, rule);
        let found = passage(request, rule, &judged, carried.as_ref(), facts, now);
        let small = is_little(request, rule, facts, carried.as_ref());
        tally.note(&mut decision, candidate, judged, found, small);
    }
    tally.conclude(&mut decision);
    decision
}

/// The rules that have a say: those that cover it, and those of what goes along.
fn covering<'r>(
    request: &Request,
    needs: &Needs<'r>,
    carried: Option<&Carried<'r>>,
    facts: &Facts,
    now: Timestamp,
) -> Vec<Candidate<'r>> {
    let mut covering: Vec<Candidate<'r>> = needs
        .candidates
        .iter()
        .copied()
        .filter(|candidate| {
            in_namespace(candidate, request, facts)
                && !follows_its_controller(candidate, request, facts)
                && still_remembers(candidate.rule, request, facts, now)
        })
        .collect();
    for (rule, _) in carried.iter().flat_map(|carried| carried.rules.values()) {
        match covering.iter_mut().find(|candidate| candidate.rule.name == rule.name) {
            Some(known) => known.assumed = true,
            None => covering.push(Candidate { rule, called: false, assumed: true }),
        }
    }
    covering.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));
    covering
}

/// What all rules together say.
#[derive(Default)]
struct Tally {
    approvers: Vec<String>,
    all_pass: bool,
    tolerated: bool,
    by_allowance: bool,
}

impl Tally {
    fn approved_by(&mut self, people: Vec<String>) {
        self.tolerated = false;
        self.approvers.extend(people);
    }

    fn note<'r>(
        &mut self,
        decision: &mut Decision<'r>,
        candidate: Candidate<'r>,
        judged: Judged<'r>,
        found: Passage,
        small: bool,
    ) {
        let rule = candidate.rule;
        if candidate.holds() {
            self.tolerated &= matches!(found, Passage::By(Way::Tolerated));
            self.by_allowance |= matches!(found, Passage::By(Way::Allowance));
        }
        let kept = match found {
            Passage::By(way) => return self.passed(decision, rule, judged, way),
            Passage::Wanted(way) => {
                let seen = decision.seen.iter().any(|one| one.name == rule.name);
                return decision.wanted.extend(candidate.holds().then_some(Wanted { rule, way, seen }));
            }
            Passage::Unmet => None,
            Passage::Kept(why) => Some(why),
        };
        if candidate.holds() {
            decision.verdict = decision.verdict.max(Verdict::from(rule.mode));
            self.all_pass = false;
        }
        let people_help = kept.as_ref().map_or(!small, |why| why.people_help(small));
        decision.kept.extend(kept.map(|why| Kept { rule, why }));
        decision.flaws.extend(judged.flaws);
        if !judged.missing.is_empty() && people_help {
            add_unmet(&mut decision.unmet, rule, judged.missing);
        }
    }

    fn passed(&mut self, decision: &mut Decision, rule: &Rule, judged: Judged, way: Way) {
        let Judged { people, emergency, counted, .. } = judged;
        match (way, emergency) {
            (Way::BrokenGlass, Some(person)) => {
                self.approvers.push(person.clone());
                decision.broke_glass.extend((rule.mode == Mode::Enforce).then_some(person));
            }
            (Way::Approved, _) => self.approvers.extend(people),
            _ => return,
        }
        for statement in counted {
            if !decision.counted.contains(&statement) {
                decision.counted.push(statement);
            }
        }
    }

    fn conclude(mut self, decision: &mut Decision) {
        decision.broke_glass.sort();
        decision.broke_glass.dedup();
        let to_be_counted = decision.verdict != Verdict::Deny && !decision.wanted.is_empty();
        if to_be_counted {
            decision.verdict = Verdict::Deny;
        }
        // Nobody has broken what still holds.
        if decision.verdict == Verdict::Deny {
            decision.broke_glass.clear();
        }
        decision.unmet.sort_by(|a, b| (b.mode, &a.rules[0].name).cmp(&(a.mode, &b.rules[0].name)));
        decision.flaws.dedup();
        self.approvers.sort();
        self.approvers.dedup();
        decision.because = match (self.all_pass, self.tolerated) {
            _ if to_be_counted => Because::ToBeCounted,
            (true, true) => Because::Tolerated,
            (true, false) if self.approvers.is_empty() && self.by_allowance => Because::WithinAllowance,
            (true, false) => Because::Approved(self.approvers),
            (false, _) => Because::Unapproved,
        };
    }
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

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
