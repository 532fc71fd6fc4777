//! Whose statements count together, and for whom.

use super::*;

fn two() -> Value {
    json!({"require": [{"anyOf": ["sre", "dba"], "count": 2}]})
}

#[test]
fn two_people_are_two() {
    Case::new([alice(), by("bob")]).with(two()).allows();
    Case::new([signed(alice()), by("bob")]).with(two()).allows();
    Case::new([signed(alice()), signed(by("bob"))]).with(two()).allows();
}

#[rstest]
#[case::twice_the_same(vec![alice(), alice()])]
#[case::once_in_either_way(vec![alice(), signed(alice())])]
#[case::of_two_teams(vec![alice(), Statement { team: "dba".into(), ..alice() }])]
#[case::signed_for_two_teams(vec![signed(alice()), signed(Statement { team: "dba".into(), ..alice() })])]
#[case::in_other_letters(vec![alice(), by("ALICE")])]
#[case::with_a_sign_that_folds(vec![by("kim"), by("\u{212a}im")])]
fn one_person_does_not_count_twice(#[case] statements: Vec<Statement>) {
    for statements in [statements.clone(), statements.into_iter().rev().collect()] {
        let case = Case::new(statements).with(two());
        let outcome = case.decide();
        let others = outcome.flaws.iter().filter(|flaw| !matches!(flaw, Flaw::NotInTeam(_))).count();
        assert_eq!((outcome.verdict, others), (Verdict::Deny, 0), "{outcome:?}");
    }
}

fn member(name: &str, keys: &[&Authenticator]) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| json!({"publicKey": key.line()})).collect();
    json!({"user": name, "keys": keys})
}

#[test]
fn one_key_under_two_names_is_one_person_whatever_it_is_called() {
    let (hard, soft) = (hardware("alice"), Authenticator::new(Kind::Ed25519, "alice"));
    for (one, other) in [(&hard, &hard), (&hard, &soft), (&soft, &hard)] {
        for dba in [false, true] {
            let statements = [
                signed_with(one, alice()),
                signed_with(other, Statement { team: if dba { "dba" } else { "sre" }.into(), ..by("al") }),
            ];
            let teams = if dba {
                (json!({"members": [member("alice", &[one])]}), json!({"members": [member("al", &[other])]}))
            } else {
                (json!({"members": [member("alice", &[one]), member("al", &[other])]}), json!({"groups": ["g"]}))
            };
            let case = Case::new(statements).with(two()).team("sre", teams.0).team("dba", teams.1);
            let outcome = case.decide();
            assert_eq!((outcome.verdict, outcome.flaws.len()), (Verdict::Deny, 0), "{outcome:?}");
        }
    }
}

#[test]
fn one_person_with_two_keys_is_one_person() {
    let keys = [hardware("one"), Authenticator::new(Kind::SkEcdsa, "two")];
    let team = json!({"members": [member("alice", &[&keys[0], &keys[1]])]});
    let case = Case::new(keys.iter().map(|key| signed_with(key, alice()))).with(two()).team("sre", team);
    let outcome = case.decide();
    assert_eq!((outcome.verdict, outcome.flaws.len()), (Verdict::Deny, 0), "{outcome:?}");
}

/// Two that have nothing in common are one person where a third has something in common with both.
#[test]
fn names_and_keys_that_hang_together_are_one_person_in_whatever_order() {
    let keys = [hardware("one"), hardware("two")];
    let team = json!({"members": [member("alice", &[&keys[0]]), member("al", &[&keys[0], &keys[1]]), member("ally", &[&keys[1]])]});
    let statements =
        [signed_with(&keys[0], alice()), signed_with(&keys[1], by("ally")), signed_with(&keys[1], by("al"))];
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [1, 0, 2], [2, 0, 1]] {
        let statements = order.map(|at| statements[at].clone());
        Case::new(statements).with(two()).team("sre", team.clone()).denies();
    }
}

#[test]
fn two_names_that_share_a_key_are_one_person_unsigned_too() {
    let key = hardware("shared");
    let team = json!({"members": [member("alice", &[&key]), member("al", &[&key])]});
    Case::new([alice(), by("al")]).with(two()).team("sre", team.clone()).denies();
    assert_eq!(Case::new([by("al")]).requested_by("alice").team("sre", team).flaw(), Flaw::OwnRequest);
}

// Separation

#[rstest]
#[case::the_same(alice(), "alice")]
#[case::signed(signed(alice()), "alice")]
#[case::in_other_letters(alice(), "Alice")]
#[case::who_named_themselves(Statement { requester: Some("alice".into()), ..alice() }, "alice")]
fn nobody_approves_their_own_request(#[case] statement: Statement, #[case] requester: &'static str) {
    let case = Case::new([statement]).requested_by(requester);
    assert_eq!(case.flaw(), Flaw::OwnRequest);
    case.with(json!({"separateFromRequester": false})).allows();
}

#[test]
fn an_alias_of_the_requesters_key_approves_nothing_for_them() {
    let key = hardware("alice");
    for (sre, dba) in [
        (json!({"members": [member("al", &[&key]), member("alice", &[&key])]}), json!({"groups": ["g"]})),
        (json!({"members": [member("al", &[&key])]}), json!({"members": [member("Alice", &[&key])]})),
        (
            json!({"members": [member("al", &[&key])]}),
            json!({"members": [member("alice", &[&Authenticator::new(Kind::Ed25519, "alice")])]}),
        ),
    ] {
        let either = json!({"require": [{"anyOf": ["sre", "dba"]}]});
        let case = Case::new([signed_with(&key, by("al"))]).with(either).team("sre", sre).team("dba", dba);
        assert_eq!(case.requested_by("alice").flaw(), Flaw::OwnRequest);
    }
}

#[test]
fn what_the_collector_asks_was_asked_by_nobody_knows_whom() {
    let case = Case::new([alice()]).requested_by(COLLECTOR);
    assert_eq!(case.flaw(), Flaw::UnknownRequester);
    case.with(json!({"separateFromRequester": false})).allows();
}

// Breaking glass

fn glass(extra: &Value) -> Value {
    let mut terms = json!({"require": [{"anyOf": ["sre"], "count": 3}], "breakGlass": {"anyOf": ["dba"]}});
    terms.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    terms
}

fn breaking(approver: &str) -> Statement {
    Statement { team: "dba".into(), break_glass: true, reason: Some("fire".into()), ..by(approver) }
}

#[test]
fn whoever_breaks_glass_passes_quorum_and_separation_and_is_named() {
    for statement in [breaking("eve"), breaking("alice"), signed(breaking("alice"))] {
        let outcome = Case::new([statement.clone()]).with(glass(&json!({}))).requested_by("alice").decide();
        assert_eq!(outcome.verdict, Verdict::Allow, "{outcome:?}");
        assert_eq!(outcome.broke_glass, [statement.approver]);
    }
}

#[test]
fn nobody_breaks_what_stands_open() {
    let outcome = Case::new([alice(), by("bob"), by("carol"), breaking("eve")]).with(glass(&json!({}))).decide();
    assert_eq!((outcome.verdict, outcome.broke_glass.len()), (Verdict::Allow, 0));
    let people = ["alice", "bob", "carol"].map(str::to_owned).to_vec();
    assert_eq!(outcome.because, Because::Approved(people));
}

#[test]
fn who_breaks_glass_is_not_counted_among_those_who_approve() {
    let terms = json!({"require": [{"anyOf": ["dba"]}], "breakGlass": {"anyOf": ["sre"]}});
    Case::new([breaking("eve")]).with(terms).denies();
}

#[rstest]
#[case::without_a_reason(json!({}), Statement { reason: None, ..breaking("eve") }, Flaw::NoReason)]
#[case::with_an_empty_reason(json!({}), Statement { reason: Some(String::new()), ..breaking("eve") },
    Flaw::Unsignable(Unsignable::Empty("reason")))]
#[case::by_a_team_that_is_asked_but_not_for_this(json!({}), Statement { team: "sre".into(), ..breaking("alice") },
    Flaw::NoBreakGlass { rule: "r".into(), team: "sre".into() })]
#[case::unsigned(json!({"proof": "Signature"}), breaking("alice"), Flaw::Unsigned("r".into()))]
#[case::for_another_requester(json!({}), Statement { requester: Some("x".into()), ..breaking("eve") },
    Flaw::OtherRequester("x".into()))]
#[case::for_too_long(json!({"validFor": "1m"}), breaking("eve"),
    Flaw::TooLong { rule: "r".into(), longest: SignedDuration::from_mins(1) })]
#[case::of_an_ended_epoch(json!({}), Statement { epoch: Some("d".into()), ..breaking("eve") }, Flaw::EndedEpoch)]
fn glass_is_not_broken(#[case] extra: Value, #[case] statement: Statement, #[case] flaw: Flaw) {
    let case = Case::new([statement]).with(glass(&extra));
    assert_eq!(case.flaw(), flaw);
    assert!(case.decide().broke_glass.is_empty());
}

// Loosening

fn loosening(statement: Statement) -> Case {
    Case { action: Action::Loosen, new_spec: Some("sha256:00"), ..Case::new([statement]) }
}

#[test]
fn a_loosening_is_approved_for_one_change_and_for_up_to_a_week() {
    let statement = Statement { action: Action::Loosen, new_spec: Some("sha256:00".into()), ..alice() };
    loosening(statement.clone()).allows();
    let other = |new_spec: Option<&str>| Statement { new_spec: new_spec.map(str::to_owned), ..statement.clone() };
    assert_eq!(loosening(other(None)).flaw(), Flaw::OtherChange);
    assert_eq!(loosening(other(Some("deleted"))).flaw(), Flaw::OtherChange);
    assert_eq!(loosening(Statement { action: Action::Delete, ..statement.clone() }).flaw(), Flaw::OtherAction);
    let until = |expires| Statement { expires, ..statement.clone() };
    loosening(until(NOW + MAX_VALID_FOR)).allows();
    let longer = loosening(until(NOW + MAX_VALID_FOR + SignedDuration::from_secs(1)));
    assert_eq!(longer.flaw(), Flaw::TooLong { rule: "r".into(), longest: MAX_VALID_FOR });
}

#[test]
fn who_is_listed_no_more_approves_nothing_and_of_a_group_nobody_can_tell() {
    let only = json!({"members": [{"user": "bob"}]});
    assert_eq!(Case::new([alice()]).team("sre", only).flaw(), Flaw::NotInTeam("sre".into()));
    Case::new([alice()]).team("sre", json!({"members": [{"user": "ALICE"}]})).allows();
    Case::new([alice()]).team("sre", json!({"groups": ["g"], "members": [{"user": "bob"}]})).allows();
}
