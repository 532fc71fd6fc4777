//! What is remembered of a deletion, and what returns.

use super::*;

/// The return of what was destroyed ten minutes ago, on what was said then.
fn returning(terms: Value, statements: Vec<Statement>) -> Case {
    let mut case = Case { reach: Reach::Returning(vec!["r".into()]), called: Called::Shared, ..Case::new(terms) };
    case.facts.deletion = Some(DeletionFact { at: at(-10), statements });
    case.facts.radius = None;
    case.to(Action::Recreate)
}

/// Was good when it was let pass, and is over now.
fn then(extra: &Value) -> Statement {
    let mut all = json!({"approvedAt": at(-25).to_string(), "expires": at(-9).to_string()});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    said(&all)
}

#[test]
fn what_was_deleted_with_approval_may_return_though_the_approval_is_over() {
    returning(json!({}), vec![then(&json!({}))]).passes(by("alice"));
    returning(json!({}), vec![]).asks_people();
    let glass = json!({"approver": "carol", "team": "oncall", "breakGlass": true, "reason": "fire"});
    returning(json!({}), vec![then(&glass)]).passes(by("carol"));
    returning(json!({}), vec![then(&glass)]).judged(|_, _, decision| assert!(decision.broke_glass.is_empty()));
    // Whoever deleted it may be the one who approved, and anyone may bring it back.
    let for_another = then(&json!({"requester": "ci"}));
    Case { requester: "alice", ..returning(json!({}), vec![for_another]) }.passes(by("alice"));
}

#[rstest]
#[case::for_good(json!({"deleteOnly": true}))]
#[case::of_another_uid(json!({"uid": "older"}))]
#[case::of_another_name(json!({"name": "e"}))]
#[case::of_another_action(json!({"action": "Evict"}))]
#[case::of_another_return(json!({"action": "Recreate"}))]
#[case::of_another_team(json!({"team": "oncall", "approver": "carol"}))]
#[case::over_by_then(json!({"expires": at(-10).to_string()}))]
#[case::given_afterwards(json!({"approvedAt": at(-8).to_string(), "expires": at(5).to_string()}))]
#[case::of_another_cluster(json!({"cluster": "other"}))]
fn what_was_said_otherwise_brings_nothing_back(#[case] extra: Value) {
    returning(json!({}), vec![then(&extra)]).asks_people();
}

#[test]
fn what_was_said_of_a_namespaces_contents_brings_back_what_was_in_it() {
    let contents = |uid: &str| {
        then(&json!({"resource": "namespaces", "namespace": "", "name": "n", "uid": uid, "scope": "Contents"}))
    };
    let case = |statement, there: bool| {
        let mut case = returning(json!({}), vec![statement]);
        let namespace =
            Subject { resource: "namespaces".into(), name: "n".into(), uid: "ns".into(), ..Subject::default() };
        case.facts.contents = there.then_some(namespace);
        case
    };
    case(contents("ns"), true).passes(by("alice"));
    case(contents("older"), true).asks_people();
    case(contents("ns"), false).asks_people();
    let mut for_good = contents("ns");
    for_good.delete_only = true;
    case(for_good, true).asks_people();
}

#[test]
fn one_of_two_people_who_meant_it_for_good_is_enough_to_ask_again() {
    let two = json!({"approval": {"require": [{"anyOf": ["sre", "oncall"], "count": 2}]}});
    let carol = |extra: &Value| {
        let mut statement = then(extra);
        (statement.approver, statement.team) = ("carol".into(), "oncall".into());
        statement
    };
    let both = vec![then(&json!({})), carol(&json!({}))];
    returning(two.clone(), both).passes(Because::Approved(vec!["alice".into(), "carol".into()]));
    returning(two, vec![then(&json!({})), carol(&json!({"deleteOnly": true}))]).asks_people();
}

#[test]
fn a_rule_asks_as_long_as_it_remembers() {
    let window = |window: &str| returning(json!({"recreation": {"window": window}}), vec![]);
    window("10m").passes(Because::NotCovered);
    window("601s").asks_people();
    returning(json!({}), vec![]).asks_people();
    // A deletion is asked about however long ago another was.
    let mut deleted = Case::new(json!({"recreation": {"window": "10m"}}));
    deleted.facts.deletion = Some(DeletionFact { at: at(-11), statements: vec![] });
    deleted.asks_people();
    for at in [Timestamp::MIN, Timestamp::MAX] {
        let mut case = returning(json!({}), vec![]);
        case.facts.deletion = Some(DeletionFact { at, statements: vec![] });
        assert_eq!(case.decided().0 == Verdict::Allow, at == Timestamp::MIN);
    }
}

#[test]
fn a_rule_that_guards_no_returns_or_is_none_of_those_that_enforced_is_not_asked() {
    let mut case = returning(json!({"actions": ["Delete"]}), vec![]);
    case.passes(Because::NotCovered);
    case = returning(json!({}), vec![]);
    case.reach = Reach::Returning(vec!["other".into()]);
    case.passes(Because::NotCovered);
}

#[test]
fn whoever_returns_something_may_approve_that_and_whoever_deletes_it_may_not() {
    let own = |case: Case| Case { requester: "alice", ..case }.approved();
    own(returning(json!({}), vec![])).passes(by("alice"));
    own(Case::new(json!({}))).asks_people();
    own(Case::new(json!({})).to(Action::Evict)).asks_people();
    let one =
        |separate: bool| json!({"approval": {"require": [{"anyOf": ["sre"]}], "separateFromRequester": separate}});
    own(Case::new(one(false))).passes(by("alice"));
    // An approval of the return is no approval of a deletion, nor of another requester's return.
    let mut other = Case::new(json!({}));
    other.statements = vec![said(&json!({"action": "Recreate"}))];
    other.asks_people();
    let mut other = returning(json!({}), vec![]);
    other.statements = vec![said(&json!({"action": "Recreate", "requester": "ci"}))];
    other.asks_people();
}

#[test]
fn what_returns_is_tolerated_or_allowed_as_what_goes_is() {
    returning(json!({"tolerate": {"objects": 1}}), vec![]).passes(Because::Tolerated);
    let allowed = || returning(json!({"allowance": budget(1), "ceiling": budget(1)}), vec![]);
    allowed().wants(Way::Allowance);
    allowed().knowing(Way::Allowance, BudgetFact::Granted).passes(Because::WithinAllowance);
    // On people's word it takes no place, and a freeze does not keep it.
    let said = vec![then(&json!({}))];
    let terms = json!({"allowance": budget(1), "ceiling": budget(1), "freeze": frozen()});
    returning(terms, said).passes(by("alice"));
}

fn controller() -> Owner {
    Owner {
        api_version: "example.com/v1".into(),
        kind: "Widget".into(),
        name: "w".into(),
        uid: "w".into(),
        controller: true,
    }
}

#[rstest]
#[case::lives(json!({"owned": "Follow"}), OwnerFact::Alive, true)]
#[case::goes(json!({"owned": "Follow"}), OwnerFact::Terminating, false)]
#[case::is_gone(json!({"owned": "Follow"}), OwnerFact::Gone, false)]
#[case::is_unknown(json!({"owned": "Follow"}), OwnerFact::Unknown("no".into()), false)]
#[case::is_nobodys_matter(json!({"owned": "Include"}), OwnerFact::Alive, false)]
#[case::is_not_of_daily_work(json!({}), OwnerFact::Alive, false)]
#[case::and_reparenting_is_free(json!({"owned": "Follow", "actions": ["Delete", "Recreate"]}), OwnerFact::Alive, true)]
fn what_its_living_controller_makes_anew_returns(#[case] terms: Value, #[case] state: OwnerFact, #[case] passes: bool) {
    let mut case = Case { owners: vec![controller()], ..returning(terms, vec![]) };
    case.facts.owners = vec![state];
    assert_eq!(case.decided().0 == Verdict::Allow, passes);
    // An owner that is not its controller makes nothing.
    case.owners[0].controller = false;
    case.asks_people();
}

#[test]
fn where_nobody_asks_who_gets_a_controller_having_one_lets_nothing_go() {
    let follow = |actions: Value| {
        let terms = json!({"owned": "Follow", "actions": actions});
        let mut case = Case { owners: vec![controller()], ..Case::new(terms) };
        case.facts.owners = vec![OwnerFact::Alive];
        case
    };
    follow(json!(["Delete", "Unprotect"])).passes(Because::NotCovered);
    follow(json!(["Delete", "Recreate"])).asks_people();
}

#[test]
fn a_deletion_is_remembered_by_the_rules_that_enforce() {
    let rules = vec![
        ("audit", json!({"mode": "Audit"})),
        ("deletes", json!({"actions": ["Delete"]})),
        ("elsewhere", json!({"namespaceSelector": {"matchLabels": {"env": "test"}}})),
        ("others", json!({"resources": [{"apiGroups": ["batch"], "resources": ["jobs"]}]})),
        ("r", json!({})),
        ("returns", json!({"actions": ["Recreate"]})),
        ("returns-elsewhere", json!({"actions": ["Recreate"], "namespaceSelector": {"matchLabels": {"env": "test"}}})),
        ("returns-warned", json!({"actions": ["Recreate"], "mode": "Warn"})),
        ("warn", json!({"mode": "Warn"})),
    ];
    let case = Case { rules, ..Case::new(json!({})) }.approved();
    assert_eq!(case.remembered(), ["deletes", "r", "returns"]);
    assert_eq!(Case::new(json!({"mode": "Warn"})).approved().remembered(), Vec::<String>::new());
}

#[test]
fn what_is_tolerated_is_not_remembered_unless_people_said_something() {
    let tolerant = || Case::new(json!({"tolerate": {"objects": 1}}));
    assert_eq!(tolerant().remembered(), Vec::<String>::new());
    assert_eq!(tolerant().approved().remembered(), ["r"]);
    // What was said and was not enough let nothing pass.
    let two = json!({"tolerate": {"objects": 1}, "approval": {"require": [{"anyOf": ["sre"], "count": 2}]}});
    assert_eq!(Case::new(two).approved().remembered(), Vec::<String>::new());
    // Without a namespace nothing is tolerated.
    let mut case = tolerant();
    case.subject =
        Subject { resource: "persistentvolumes".into(), group: "".into(), namespace: "".into(), ..case.subject };
    case.facts.namespace = None;
    assert_eq!(case.remembered(), ["r"]);
    let allowed = Case::new(json!({"allowance": budget(1)})).knowing(Way::Allowance, BudgetFact::Granted);
    assert_eq!(allowed.remembered(), ["r"]);
}

#[test]
fn what_follows_its_controller_is_not_remembered() {
    let mut case = Case { owners: vec![controller()], ..Case::new(json!({"owned": "Follow"})) };
    case.facts.owners = vec![OwnerFact::Alive];
    assert_eq!(case.remembered(), Vec::<String>::new());
    case.facts.owners = vec![OwnerFact::Gone];
    assert_eq!(case.remembered(), ["r"]);
}

#[test]
fn a_conditional_rule_remembers_returns_where_it_was_called() {
    let conditional = json!({"actions": ["Recreate"], "matchConditions": [{"name": "c", "expression": "true"}]});
    let case = |called| {
        let rules = vec![("conditional", conditional.clone()), ("r", json!({}))];
        Case { rules, called, ..Case::new(json!({})) }.approved().remembered()
    };
    assert_eq!(case(Called::By("r")), ["r"]);
    assert_eq!(case(Called::By("conditional")), ["conditional", "r"]);
}
