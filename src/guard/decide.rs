use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::approval::{Flaw, Occasion, Proven, prove, valid_statements};
use super::evidence::{Beside, Epoch, Source, sources};
use super::needs::{Candidate, Needs, Request, Subject};
use super::quorum::{Missing, missing};
use super::{Rule, Rules};
use crate::api::{APPROVAL, Action, Mode, Scope, Statement, StatementError};

/// What was read from the API server for one decision.
#[derive(Debug, Default)]
pub struct Facts {
    /// Absent for cluster-scoped objects, and where the namespace could not be read.
    pub namespace: Option<NamespaceFact>,
    /// The owners that [`Needs::owners`] asks for. Empty: not looked up yet, which is never a reason to allow.
    pub owners: Vec<OwnerFact>,
    /// The namespace itself, with what it presents. Empty: not looked up yet.
    pub contents: Option<Subject<'static>>,
    /// What is said elsewhere. Empty: not looked up yet.
    pub beside: Beside,
    /// Statements that come with the change itself: nobody checked who wrote them, so only signatures count.
    pub proposed: Vec<Statement>,
    pub epoch: Epoch,
    /// What could not be looked up, with the reason.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFact {
    pub labels: BTreeMap<String, String>,
    pub terminating: bool,
}

#[derive(Debug)]
pub enum OwnerFact {
    /// No such object, or one with another UID.
    Gone,
    Alive,
    Terminating(Box<GoingOwner>),
    /// It could not be read, with the reason.
    Unknown(String),
}

/// An owner whose deletion was admitted and is under way.
#[derive(Debug)]
pub struct GoingOwner {
    pub subject: Subject<'static>,
    pub since: Timestamp,
    /// What the `Approval` for its deletion says.
    pub approval: Vec<Statement>,
}

impl OwnerFact {
    fn unknown(&self) -> Option<String> {
        if let Self::Unknown(reason) = self { Some(reason.clone()) } else { None }
    }
}

#[derive(Debug)]
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// An earlier deletion was admitted; this request follows from it.
    AlreadyTerminating,
    /// Everything in a terminating namespace goes, whoever asks.
    NamespaceTerminating,
    /// No rule covers the object.
    NotCovered,
    /// These people approved, or approved the deletion of the owner.
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
    let covering: Vec<Candidate<'r>> =
        needs.candidates.iter().copied().filter(|candidate| in_namespace(candidate, request, facts)).collect();
    let mut decision = Decision {
        verdict: Verdict::Allow,
        because: consequence(request, facts).unwrap_or(Because::NotCovered),
        rules: covering.iter().map(|candidate| candidate.rule).collect(),
        unmet: Vec::new(),
        flaws: Vec::new(),
        unreadable: None,
        unpresented: false,
        unknown: facts.owners.iter().filter_map(OwnerFact::unknown).chain(facts.unknown.iter().cloned()).collect(),
        broke_glass: Vec::new(),
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
    let occasion = Occasion {
        action: request.action,
        requester: Some(request.requester.name),
        new_spec: request.change.as_ref().map(|change| change.new_spec.as_str()),
        epoch: &facts.epoch,
        rules,
        at: now,
    };
    let proven = prove(&sources, &occasion);
    let mut approvers = Vec::new();
    let mut all_approved = true;
    for candidate in covering {
        let rule = candidate.rule;
        let judged = judge(&proven, &occasion, rule);
        if judged.missing.is_empty() {
            approvers.extend(judged.people);
            decision.broke_glass.extend(judged.broke_glass.filter(|_| rule.mode == Mode::Enforce));
        } else if let Some(people) = approved_owner(request, rule, rules, facts, now) {
            approvers.extend(people);
        } else {
            // Whether a condition holds, only the API server knows: it calls that rule's own entry if it does.
            if candidate.called || !rule.conditional {
                decision.verdict = decision.verdict.max(Verdict::from(rule.mode));
                all_approved = false;
            }
            decision.flaws.extend(judged.flaws);
            add_unmet(&mut decision.unmet, rule, judged.missing);
        }
    }
    decision.broke_glass.sort();
    decision.broke_glass.dedup();
    // Nobody has broken what still holds.
    if decision.verdict == Verdict::Deny {
        decision.broke_glass.clear();
    }
    decision.unmet.sort_by(|a, b| (b.mode, &a.rules[0].name).cmp(&(a.mode, &b.rules[0].name)));
    decision.flaws.dedup();
    approvers.sort();
    approvers.dedup();
    decision.because = if all_approved { Because::Approved(approvers) } else { Because::Unapproved };
    decision
}

/// What follows from a deletion that was admitted is never refused. State says so, never a name alone.
fn consequence(request: &Request, facts: &Facts) -> Option<Because> {
    if request.terminating {
        return Some(Because::AlreadyTerminating);
    }
    let going = facts.namespace.as_ref().is_some_and(|namespace| namespace.terminating);
    going.then_some(Because::NamespaceTerminating)
}

/// What one rule finds in the statements.
struct Judged<'r> {
    people: Vec<String>,
    broke_glass: Option<String>,
    missing: Vec<Missing<'r>>,
    flaws: Vec<(Statement, Flaw)>,
}

fn judge<'r>(proven: &[Proven], occasion: &Occasion, rule: &'r Rule) -> Judged<'r> {
    let valid = valid_statements(proven, occasion, rule);
    let missing = missing(&rule.require, &valid.people);
    let people = valid.people.iter().map(|person| person.name.to_owned()).collect();
    let flaws = valid.flaws.into_iter().map(|(statement, flaw)| (statement.clone(), flaw)).collect();
    match valid.broke_glass {
        // Nobody breaks what stands open.
        Some(person) if !missing.is_empty() => {
            let person = person.to_owned();
            Judged { people: vec![person.clone()], broke_glass: Some(person), missing: Vec::new(), flaws }
        }
        _ => Judged { people, broke_glass: None, missing, flaws },
    }
}

/// The people who approved the deletion of all owners, where that takes this dependent along under this rule.
///
/// An owner that the rule does not cover, or that was deleted without what the rule asks, opens nothing: otherwise
/// anybody could make a throw-away owner and have the collector do the deleting. The rule must have covered the owner
/// when its deletion was admitted, requester and all, so only rules count whose choice cannot be changed afterwards by
/// a label on the owner. Its approval must still hold, or an owner kept from finishing would be a licence without end;
/// and what is older than its owner was not made by it, but hung on it.
fn approved_owner(request: &Request, rule: &Rule, rules: &Rules, facts: &Facts, now: Timestamp) -> Option<Vec<String>> {
    if facts.owners.is_empty() || !rule.covers_whole_namespaces() {
        return None;
    }
    let mut approvers = Vec::new();
    for owner in &facts.owners {
        let OwnerFact::Terminating(owner) = owner else { return None };
        let GoingOwner { subject, since, approval } = &**owner;
        let older = request.subject.created.is_none_or(|created| subject.created.is_none_or(|made| created < made));
        if subject.namespace != request.subject.namespace || !rule.covers(subject) || older {
            return None;
        }
        let beside = Beside { approval: approval.clone(), namespace_approval: facts.beside.namespace_approval.clone() };
        let (mut sources, _) = sources(subject, &beside, facts.contents.as_ref());
        // What was said afterwards did not let it be deleted.
        for source in &mut sources {
            source.statements.to_mut().retain(|statement| statement.approved_at <= *since);
        }
        for at in [*since, now] {
            let occasion =
                Occasion { action: Action::Delete, requester: None, new_spec: None, epoch: &facts.epoch, rules, at };
            let judged = judge(&prove(&sources, &occasion), &occasion, rule);
            if !judged.missing.is_empty() {
                return None;
            }
            approvers.extend(judged.people);
        }
    }
    Some(approvers)
}

fn in_namespace(candidate: &Candidate, request: &Request, facts: &Facts) -> bool {
    let subject = &request.subject;
    if candidate.called {
        true
    } else if subject.is_namespace() {
        candidate.rule.selects_namespace(&subject.labels)
    } else if subject.namespace.is_empty() {
        true
    } else {
        // A namespace that cannot be read may be one that the rule protects.
        facts.namespace.as_ref().is_none_or(|namespace| candidate.rule.selects_namespace(&namespace.labels))
    }
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::guard::{Owner, Requester, Team, needs};

    const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
    const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

    fn rules(extra: &serde_json::Value) -> Rules {
        let mut spec = json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
            "approval": {"require": [{"anyOf": ["sre"]}]}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let team = serde_json::from_value(json!({"groups": [], "members": [{"user": "alice"}]})).unwrap();
        Rules {
            rules: [("r".to_owned(), Rule::read("r", &serde_json::from_value(spec).unwrap()))].into(),
            teams: [("sre".to_owned(), Team::read(team))].into(),
            cluster: "c".into(),
            own_namespace: "tagout-system".into(),
        }
    }

    fn approved(uid: &str) -> Subject<'static> {
        let statement = json!([{"action": "Delete", "uid": uid, "resource": "deployments.apps", "namespace": "n",
            "name": "d", "cluster": "c", "epoch": "e", "approver": "alice", "team": "sre",
            "approvedAt": NOW.to_string(), "expires": (NOW + jiff::SignedDuration::from_mins(5)).to_string()}]);
        Subject {
            group: "apps".into(),
            resource: "deployments".into(),
            namespace: "n".into(),
            name: "d".into(),
            uid: uid.to_owned().into(),
            created: Some(NOW - jiff::SignedDuration::from_hours(1)),
            labels: Cow::Owned([(APPROVAL.to_owned(), String::new())].into()),
            annotations: vec![APPROVAL.into()],
            statements: Some(statement.to_string().into()),
        }
    }

    /// What is decided of an unapproved dependent of these owners.
    fn dependent(rules: &Rules, owners: Vec<OwnerFact>) -> Verdict {
        let owner = |_: &OwnerFact| Owner {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "d".into(),
            uid: "owner".into(),
            controller: false,
        };
        let request = Request {
            action: Action::Delete,
            subject: Subject { statements: None, uid: "dependent".into(), ..approved("owner") },
            owners: owners.iter().map(owner).collect(),
            terminating: false,
            change: None,
            requester: Requester { name: COLLECTOR, groups: &[] },
        };
        let needs = needs(&request, "r", rules).unwrap();
        decide(&request, &needs, rules, &Facts { owners, epoch: Epoch::Current("e".into()), ..Facts::default() }, NOW)
            .verdict
    }

    fn going_since(subject: Subject<'static>, since: Timestamp) -> OwnerFact {
        OwnerFact::Terminating(Box::new(GoingOwner { subject, since, approval: Vec::new() }))
    }

    fn going() -> OwnerFact {
        going_since(approved("owner"), NOW)
    }

    #[test]
    fn a_dependent_follows_owners_whose_deletion_was_approved_under_its_own_rule() {
        assert_eq!(dependent(&rules(&json!({})), vec![going()]), Verdict::Allow);
    }

    #[test]
    fn one_owner_that_is_not_an_approved_one_going_keeps_the_dependent() {
        let rules = rules(&json!({}));
        assert_eq!(dependent(&rules, vec![]), Verdict::Deny);
        for other in [OwnerFact::Gone, OwnerFact::Alive, OwnerFact::Unknown("forbidden".into())] {
            assert_eq!(dependent(&rules, vec![going(), other]), Verdict::Deny);
        }
    }

    #[test]
    fn an_owner_without_its_own_approval_opens_nothing() {
        let unapproved = Subject { statements: None, ..approved("owner") };
        let late = going_since(approved("owner"), NOW + jiff::SignedDuration::from_hours(1));
        let rules = rules(&json!({}));
        assert_eq!(dependent(&rules, vec![going_since(unapproved, NOW)]), Verdict::Deny);
        assert_eq!(dependent(&rules, vec![late]), Verdict::Deny);
    }

    #[test]
    fn what_is_older_than_its_owner_was_hung_on_it_and_stays() {
        let young = Subject { created: Some(NOW), ..approved("owner") };
        let unknown = Subject { created: None, ..approved("owner") };
        for owner in [young, unknown] {
            let owner = going_since(owner, NOW);
            assert_eq!(dependent(&rules(&json!({})), vec![owner]), Verdict::Deny);
        }
    }

    #[test]
    fn an_owner_kept_from_finishing_opens_nothing_once_its_approval_is_over() {
        let long_since = NOW - jiff::SignedDuration::from_hours(2);
        let mut owner = approved("owner");
        let expired = owner.statements.unwrap().replace(
            &(NOW + jiff::SignedDuration::from_mins(5)).to_string(),
            &(NOW - jiff::SignedDuration::from_mins(1)).to_string(),
        );
        let expired =
            expired.replace(&format!("\"approvedAt\":\"{NOW}\""), &format!("\"approvedAt\":\"{long_since}\""));
        owner.statements = Some(expired.into());
        let owner = going_since(owner, long_since);
        assert_eq!(dependent(&rules(&json!({})), vec![owner]), Verdict::Deny);
    }

    #[test]
    fn a_rule_whose_choice_an_owner_could_be_edited_into_opens_nothing() {
        for narrow in [
            json!({"objectSelector": {"matchLabels": {APPROVAL: ""}}}),
            json!({"except": [{"name": "preview-*"}]}),
            json!({"matchConditions": [{"name": "c", "expression": "true"}]}),
        ] {
            assert_eq!(dependent(&rules(&narrow), vec![going()]), Verdict::Deny, "{narrow}");
        }
    }
}
