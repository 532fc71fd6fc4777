//! By what a rule lets a request pass, decided without a cluster.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use crate::actions::Owner;
use crate::api::{APPROVAL, Action, Per, Statement};
use crate::guard::{
    Because, BudgetFact, Called, Decision, DeletionFact, Epoch, Facts, Full, FullReason, Going, Limit, Listed,
    ListedState, NamespaceFact, OwnerFact, Radius, Reach, RecordFact, Request, Requester, Rule, Rules, Subject, Team,
    Verdict, Way, Why, decide, denial, needs, remembering, warning,
};

#[path = "denial_tests.rs"]
mod denials;
#[path = "return_tests.rs"]
mod returns;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);
const ENFORCE: &str = "Enforce";

fn at(minutes: i64) -> Timestamp {
    NOW + SignedDuration::from_mins(minutes)
}

fn budget(count: u32) -> Value {
    json!({"count": count, "window": "10m", "per": "Rule"})
}

fn limit() -> Limit {
    Limit { count: 2, volumes: None, window: SignedDuration::from_mins(10), per: Per::Rule }
}

/// A freeze that lasts.
fn frozen() -> Value {
    json!([{"from": "2026-11-21T00:00", "until": "2026-11-22T00:00", "reason": "peak season"}])
}

fn full(reason: FullReason) -> BudgetFact {
    BudgetFact::Full(Full { reason, next: Some(at(7)) })
}

fn unknown() -> BudgetFact {
    BudgetFact::Unknown("its ledger could not be read".into())
}

/// By alice, of the deletion of the Deployment, where nothing else is said.
fn said(extra: &Value) -> Statement {
    let mut statement = json!({"action": "Delete", "uid": "u", "resource": "deployments.apps", "namespace": "n",
        "name": "d", "cluster": "c", "epoch": "now", "approver": "alice", "team": "sre",
        "approvedAt": at(-5).to_string(), "expires": at(5).to_string()});
    statement.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(statement).unwrap()
}

fn glass(action: Action) -> Statement {
    said(&json!({"action": action, "approver": "carol", "team": "oncall", "breakGlass": true, "reason": "fire"}))
}

fn going(resource: &'static str, uid: &'static str) -> Going {
    let group = if resource == "secrets" { "" } else { "apps" };
    let subject = Subject {
        group: group.into(),
        resource: resource.into(),
        namespace: "n".into(),
        name: uid.into(),
        uid: uid.into(),
        ..Subject::default()
    };
    let (kind, owners, state) = ("Kind".into(), Vec::new(), ListedState::Plain);
    Going { listed: Listed { subject, kind, owners, terminating: false, state }, with: None }
}

/// Everything on which a decision depends: an agent deletes a Deployment with which nothing goes.
struct Case {
    rules: Vec<(&'static str, Value)>,
    action: Action,
    statements: Vec<Statement>,
    subject: Subject<'static>,
    owners: Vec<Owner>,
    requester: &'static str,
    reach: Reach,
    called: Called<'static>,
    facts: Facts,
}

impl Case {
    /// Under one rule r, with more terms.
    fn new(terms: Value) -> Self {
        let namespace = NamespaceFact { labels: [("env".to_owned(), "prod".to_owned())].into(), terminating: false };
        Self {
            rules: vec![("r", terms)],
            action: Action::Delete,
            statements: Vec::new(),
            subject: Subject {
                group: "apps".into(),
                resource: "deployments".into(),
                namespace: "n".into(),
                name: "d".into(),
                uid: "u".into(),
                ..Subject::default()
            },
            owners: Vec::new(),
            requester: "agent",
            reach: Reach::Covered,
            called: Called::By("r"),
            facts: Facts {
                radius: Some(Radius::default()),
                namespace: Some(namespace),
                epoch: Epoch::Current("now".into()),
                ..Facts::default()
            },
        }
    }

    fn approved(mut self) -> Self {
        self.statements.push(said(&json!({"action": self.action})));
        self
    }

    fn with_glass(mut self) -> Self {
        self.statements.push(glass(self.action));
        self
    }

    fn to(self, action: Action) -> Self {
        Self { action, ..self }
    }

    fn knowing(mut self, way: Way, fact: BudgetFact) -> Self {
        self.facts.budgets.insert(("r".into(), way), fact);
        self
    }

    fn carrying(mut self, going: Vec<Going>) -> Self {
        self.facts.radius.as_mut().unwrap().going = going;
        self
    }

    fn unlisted(mut self, kind: &str, why: &str) -> Self {
        self.facts.radius.as_mut().unwrap().unlisted.insert(kind.into(), why.into());
        self
    }

    fn read(&self) -> Rules {
        let one = |(name, terms): &(&str, Value)| {
            let mut spec = json!({
                "resources": [{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"]},
                    {"apiGroups": [""], "resources": ["secrets", "persistentvolumes", "namespaces"]}],
                "actions": ["Delete", "Recreate", "Evict", "Unprotect"],
                "approval": {"require": [{"anyOf": ["sre"]}], "breakGlass": {"anyOf": ["oncall"]}}});
            spec.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
            ((*name).to_owned(), Rule::read(name, &serde_json::from_value(spec).unwrap()))
        };
        let team = |user: &str| Team::read(serde_json::from_value(json!({"members": [{"user": user}]})).unwrap());
        Rules {
            rules: self.rules.iter().map(one).collect(),
            teams: [("sre".to_owned(), team("alice")), ("oncall".to_owned(), team("carol"))].into(),
            cluster: "c".into(),
            own_namespace: "tagout-system".into(),
        }
    }

    fn request(&self) -> Request<'static> {
        let mut subject = self.subject.clone();
        if !self.statements.is_empty() {
            subject.labels.to_mut().insert(APPROVAL.to_owned(), String::new());
            subject.statements = Some(Cow::Owned(serde_json::to_string(&self.statements).unwrap()));
        }
        Request {
            action: self.action,
            subject,
            owners: self.owners.clone(),
            terminating: false,
            change: None,
            requester: Requester { name: self.requester, groups: &[] },
            reach: self.reach.clone(),
            what: None,
        }
    }

    fn judged<T>(&self, told: impl FnOnce(&Request, &Rules, &Decision) -> T) -> T {
        let (rules, request) = (self.read(), self.request());
        let needs = needs(&request, self.called, &rules).unwrap();
        told(&request, &rules, &decide(&request, &needs, &rules, &self.facts, NOW))
    }

    /// What came of it, the places that it wants, and by what rules it is kept.
    fn decided(&self) -> (Verdict, Because, Vec<(String, Way)>, Vec<Why>) {
        self.judged(|_, _, decision| {
            let wanted = decision.wanted.iter().map(|one| (one.rule.name.clone(), one.way)).collect();
            let kept = decision.kept.iter().map(|kept| kept.why.clone()).collect();
            (decision.verdict, decision.because.clone(), wanted, kept)
        })
    }

    #[track_caller]
    fn passes(&self, because: Because) {
        assert_eq!(self.decided(), (Verdict::Allow, because, Vec::new(), Vec::new()));
    }

    #[track_caller]
    fn wants(&self, way: Way) {
        let wanted = vec![("r".to_owned(), way)];
        assert_eq!(self.decided(), (Verdict::Deny, Because::ToBeCounted, wanted, Vec::new()));
    }

    #[track_caller]
    fn asks_people(&self) {
        assert_eq!(self.decided(), (Verdict::Deny, Because::Unapproved, Vec::new(), Vec::new()));
    }

    #[track_caller]
    fn is_kept(&self, why: Why) {
        assert_eq!(self.decided(), (Verdict::Deny, Because::Unapproved, Vec::new(), vec![why]));
    }

    fn remembered(&self) -> Vec<String> {
        self.judged(|request, rules, decision| {
            let remembering = remembering(request, self.called, rules, &self.facts, decision);
            remembering.into_iter().map(|rule| rule.name.clone()).collect()
        })
    }
}

fn by(person: &str) -> Because {
    Because::Approved(vec![person.to_owned()])
}

fn why_frozen() -> Why {
    let until = "2026-11-22T00:00:00Z".parse().unwrap();
    Why::Frozen(crate::guard::Frozen { until, reason: "peak season".into() })
}

#[test]
fn a_freeze_keeps_what_was_approved_and_what_is_tolerated_or_allowed() {
    let case = |extra: Value| {
        let mut terms = json!({"freeze": frozen()});
        terms.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Case::new(terms)
    };
    case(json!({})).is_kept(why_frozen());
    case(json!({})).approved().is_kept(why_frozen());
    case(json!({"tolerate": {"objects": 1}})).is_kept(why_frozen());
    case(json!({"tolerate": {"objects": 1}})).to(Action::Evict).is_kept(why_frozen());
    let allowed = json!({"allowance": budget(2)});
    case(allowed.clone()).knowing(Way::Allowance, BudgetFact::Granted).is_kept(why_frozen());
    case(allowed).is_kept(why_frozen());
    // Before and after it nothing is kept.
    for (from, until) in [("2026-11-20T00:00", "2026-11-21T00:00"), ("2026-11-22T00:00", "2026-11-23T00:00")] {
        let terms = json!({"freeze": [{"from": from, "until": until, "reason": "peak season"}]});
        Case::new(terms).approved().passes(by("alice"));
    }
}

#[test]
fn an_emergency_passes_a_freeze_and_takes_its_place_under_a_ceiling() {
    let case = |terms| Case::new(terms).with_glass();
    case(json!({"freeze": frozen()})).passes(by("carol"));
    case(json!({"freeze": frozen()})).approved().passes(by("carol"));
    case(json!({"freeze": frozen()})).judged(|_, _, decision| assert_eq!(decision.broke_glass, ["carol"]));
    // Nobody breaks what stands open.
    case(json!({})).approved().passes(by("alice"));
    case(json!({})).approved().judged(|_, _, decision| assert!(decision.broke_glass.is_empty()));
    case(json!({"ceiling": budget(2)})).approved().wants(Way::Approved);
    let both = json!({"freeze": frozen(), "ceiling": budget(2)});
    case(both.clone()).wants(Way::BrokenGlass);
    for fact in [BudgetFact::Granted, full(FullReason::Ledger), unknown()] {
        case(both.clone()).knowing(Way::BrokenGlass, fact).passes(by("carol"));
    }
}

#[test]
fn a_freeze_keeps_neither_what_follows_nor_what_returns_nor_whoever_may_end_it() {
    let frozen = json!({"freeze": frozen(), "actions": ["Delete", "Recreate", "Evict", "Unprotect", "Loosen"]});
    Case::new(frozen.clone()).to(Action::Recreate).approved().passes(by("alice"));
    Case::new(frozen.clone()).to(Action::Loosen).approved().passes(by("alice"));
    for action in [Action::Evict, Action::Unprotect] {
        Case::new(frozen.clone()).to(action).approved().is_kept(why_frozen());
    }
    // What returns or is loosened without approval is still asked for.
    Case::new(frozen.clone()).to(Action::Recreate).asks_people();
    Case::new(frozen.clone()).to(Action::Loosen).asks_people();

    let owner = Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: "root".into(),
        uid: "root".into(),
        controller: true,
    };
    let protects = crate::api::Protects::of(&["u".to_owned()].into(), Vec::new());
    let mut follows = Case { owners: vec![owner], ..Case::new(frozen.clone()) };
    follows.facts.owners = vec![OwnerFact::Gone];
    follows.facts.records = vec![RecordFact {
        root: Subject { name: "root".into(), uid: "root".into(), ..follows.subject.clone() },
        state: OwnerFact::Gone,
        at: at(-1),
        uids: vec!["u".into()],
        digest: protects.digest.clone(),
        statements: vec![said(&json!({"name": "root", "uid": "root", "protects": protects}))],
    }];
    follows.passes(by("alice"));
    follows.rules[0].1 = json!({"ceiling": budget(1)});
    follows.passes(by("alice"));
    follows.facts.records.clear();
    follows.asks_people();

    let mut namespace = Case::new(frozen);
    namespace.facts.namespace.as_mut().unwrap().terminating = true;
    namespace.passes(Because::NamespaceTerminating);
}

#[test]
fn under_a_ceiling_nothing_passes_without_a_place() {
    let ceiling = || Case::new(json!({"ceiling": budget(2)}));
    ceiling().asks_people();
    ceiling().approved().wants(Way::Approved);
    ceiling().approved().knowing(Way::Approved, BudgetFact::Granted).passes(by("alice"));
    let tolerant = || Case::new(json!({"ceiling": budget(2), "tolerate": {"objects": 1}}));
    tolerant().wants(Way::Tolerated);
    tolerant().knowing(Way::Tolerated, BudgetFact::Granted).passes(Because::Tolerated);
    // A place that was given for another reason is none.
    tolerant().knowing(Way::Approved, BudgetFact::Granted).wants(Way::Tolerated);
    ceiling().approved().knowing(Way::BrokenGlass, BudgetFact::Granted).wants(Way::Approved);
    let mut of_another = ceiling().approved();
    of_another.facts.budgets = [(("other".to_owned(), Way::Approved), BudgetFact::Granted)].into();
    of_another.wants(Way::Approved);
    // Only deletions are counted under it.
    ceiling().to(Action::Evict).approved().passes(by("alice"));
    ceiling().to(Action::Recreate).approved().passes(by("alice"));
}

#[rstest]
#[case::full(full(FullReason::Ceiling(limit())))]
#[case::too_many_volumes(full(FullReason::CeilingVolumes(limit())))]
#[case::under_way(full(FullReason::UnderWay))]
#[case::came_to_nothing(full(FullReason::CameToNothing))]
#[case::no_room(full(FullReason::Ledger))]
#[case::unknown(unknown())]
fn without_a_place_nothing_passes_but_an_emergency_and_that_wants_one_too(#[case] fact: BudgetFact) {
    let why = match &fact {
        BudgetFact::Full(full) => Why::Full(full.clone()),
        BudgetFact::Unknown(reason) => Why::Uncounted(reason.clone()),
        BudgetFact::Granted => unreachable!(),
    };
    let both = json!({"ceiling": budget(2), "tolerate": {"objects": 1}});
    let allowed = json!({"ceiling": budget(2), "allowance": budget(1)});
    for (terms, way, approved) in [
        (both, Way::Tolerated, false),
        (allowed, Way::Allowance, false),
        (json!({"ceiling": budget(2)}), Way::Approved, true),
    ] {
        let case = || {
            let case = Case::new(terms.clone()).knowing(way, fact.clone());
            if approved { case.approved() } else { case }
        };
        case().is_kept(why.clone());
        case().with_glass().wants(Way::BrokenGlass);
        for found in [BudgetFact::Granted, full(FullReason::Ledger), unknown()] {
            case().with_glass().knowing(Way::BrokenGlass, found).judged(|_, _, decision| {
                assert_eq!((decision.verdict, &decision.because), (Verdict::Allow, &by("carol")));
                assert_eq!((&*decision.broke_glass, decision.kept.len()), (&["carol".to_owned()][..], 0));
            });
        }
        // Nobody has broken what still holds.
        case().with_glass().judged(|_, _, decision| assert!(decision.broke_glass.is_empty()));
    }
}

#[test]
fn an_allowance_lets_pass_what_is_in_a_namespace_and_takes_nothing_protected_along() {
    let allowed = || Case::new(json!({"allowance": budget(2)}));
    allowed().wants(Way::Allowance);
    allowed().knowing(Way::Allowance, BudgetFact::Granted).passes(Because::WithinAllowance);
    allowed().knowing(Way::Allowance, unknown()).is_kept(Why::Uncounted("its ledger could not be read".into()));
    for action in [Action::Evict, Action::Recreate] {
        allowed().to(action).wants(Way::Allowance);
    }
    allowed().to(Action::Unprotect).asks_people();
    allowed().to(Action::Loosen).asks_people();
    // With people's word it takes no place.
    allowed().approved().passes(by("alice"));

    allowed().carrying(vec![going("statefulsets", "s")]).asks_people();
    allowed().carrying(vec![going("widgets", "w")]).wants(Way::Allowance);
    for why in ["it could not be read", "Tagout may not list secrets"] {
        allowed().unlisted("secrets", why).asks_people();
        allowed().unlisted("widgets.example.com", why).wants(Way::Allowance);
    }
    let mut blind = allowed();
    blind.facts.radius = None;
    blind.asks_people();
    let volume =
        Subject { group: "".into(), resource: "persistentvolumes".into(), namespace: "".into(), ..allowed().subject };
    for action in [Action::Delete, Action::Recreate] {
        let mut case = Case { subject: volume.clone(), ..allowed() }.to(action);
        case.facts.namespace = None;
        case.asks_people();
    }
}

#[test]
fn an_allowance_that_is_full_asks_for_approval() {
    for reason in [FullReason::Allowance(limit()), FullReason::AllowanceVolumes(limit()), FullReason::CameToNothing] {
        let case = || Case::new(json!({"allowance": budget(2)})).knowing(Way::Allowance, full(reason.clone()));
        case().is_kept(Why::Full(Full { reason: reason.clone(), next: Some(at(7)) }));
        case().judged(|_, _, decision| assert_eq!(decision.unmet.len(), 1));
        case().approved().passes(by("alice"));
    }
}

#[rstest]
#[case::warn("Warn", Verdict::Warn)]
#[case::audit("Audit", Verdict::Audit)]
fn a_rule_that_refuses_nothing_wants_no_place_and_has_no_allowance(#[case] mode: &str, #[case] verdict: Verdict) {
    let terms = |extra: Value| {
        let mut terms = json!({"mode": mode, "ceiling": budget(1), "allowance": budget(1)});
        terms.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Case::new(terms)
    };
    terms(json!({})).approved().passes(by("alice"));
    terms(json!({"tolerate": {"objects": 1}})).passes(Because::Tolerated);
    assert_eq!(terms(json!({})).decided(), (verdict, Because::Unapproved, Vec::new(), Vec::new()));
    let kept = vec![why_frozen()];
    assert_eq!(
        terms(json!({"freeze": frozen()})).approved().decided(),
        (verdict, Because::Unapproved, Vec::new(), kept)
    );
    terms(json!({})).with_glass().judged(|_, _, decision| assert!(decision.broke_glass.is_empty()));
}

#[test]
fn a_conditional_rule_that_was_not_called_wants_no_place_and_keeps_nothing() {
    let terms = |extra: Value| {
        let mut terms = json!({"mode": ENFORCE, "ceiling": budget(1),
            "matchConditions": [{"name": "c", "expression": "true"}]});
        terms.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        terms
    };
    let open = json!({"tolerate": {"objects": 1}});
    let case = |conditional: Value, called| Case {
        rules: vec![("other", open.clone()), ("r", conditional)],
        called,
        ..Case::new(json!({}))
    };
    let (by_other, by_it) = (Called::By("other"), Called::By("r"));
    case(terms(open.clone()), by_it).wants(Way::Tolerated);
    assert_eq!(case(terms(open.clone()), by_other).decided().0, Verdict::Allow);
    assert_eq!(case(terms(open.clone()), by_other).decided().2, []);
    assert_eq!(case(terms(open.clone()), Called::Shared).decided().0, Verdict::Deny);
    let frozen = terms(json!({"freeze": frozen()}));
    assert_eq!(case(frozen.clone(), by_other).decided().0, Verdict::Allow);
    assert_eq!(case(frozen, by_it).decided().0, Verdict::Deny);
    let full = full(FullReason::Ceiling(limit()));
    let kept = |called| case(terms(open.clone()), called).knowing(Way::Tolerated, full.clone()).decided().0;
    assert_eq!((kept(by_other), kept(by_it)), (Verdict::Allow, Verdict::Deny));
}

#[test]
fn every_rule_wants_its_own_place_and_what_one_refuses_no_other_counts() {
    let ceiling = json!({"ceiling": budget(2)});
    let both = |other: Value| Case { rules: vec![("r", ceiling.clone()), ("s", other)], ..Case::new(json!({})) };
    let wanted = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Way::Approved)).collect::<Vec<_>>();
    let decided = both(ceiling.clone()).approved().decided();
    assert_eq!((decided.1, decided.2), (Because::ToBeCounted, wanted(&["r", "s"])));
    let one = both(ceiling.clone()).approved().knowing(Way::Approved, BudgetFact::Granted).decided();
    assert_eq!((one.0, one.1, one.2), (Verdict::Deny, Because::ToBeCounted, wanted(&["s"])));
    // Nobody has broken one rule while another holds.
    let strict = json!({"approval": {"require": [{"anyOf": ["sre"]}]}});
    both(strict).with_glass().knowing(Way::BrokenGlass, BudgetFact::Granted).judged(|_, _, decision| {
        assert_eq!((decision.verdict, decision.broke_glass.len()), (Verdict::Deny, 0));
    });
    // It is not to be counted where it is refused anyway, and where another rule only warns it is.
    let refused = both(json!({"freeze": frozen()})).approved().decided();
    assert_eq!((refused.0, refused.1), (Verdict::Deny, Because::Unapproved));
    let warned = both(json!({"mode": "Warn", "freeze": frozen()})).approved().decided();
    assert_eq!((warned.0, warned.1), (Verdict::Deny, Because::ToBeCounted));
    let granted = both(json!({"mode": "Warn", "freeze": frozen()})).approved();
    assert_eq!(granted.knowing(Way::Approved, BudgetFact::Granted).decided().0, Verdict::Warn);
}

#[test]
fn what_two_rules_let_pass_in_two_ways_is_approved_if_people_approved_any_of_it() {
    let mut case =
        Case { rules: vec![("r", json!({"allowance": budget(1)})), ("s", json!({}))], ..Case::new(json!({})) };
    case.rules[1].1 = json!({"tolerate": {"objects": 1}});
    case = case.knowing(Way::Allowance, BudgetFact::Granted);
    case.passes(Because::WithinAllowance);
    let facts: BTreeMap<_, _> = case.facts.budgets.clone();
    assert_eq!(facts.len(), 1);
    case.rules[1].1 = json!({"approval": {"require": [{"anyOf": ["oncall"]}]}});
    case.statements = vec![said(&json!({"approver": "carol", "team": "oncall"}))];
    case.passes(by("carol"));
}
