//! How a statement is known to be its approver's.

use super::*;

#[rstest]
#[case("Signature", alice(), Flaw::Unsigned("r".into()))]
#[case("HardwareKey", alice(), Flaw::Unsigned("r".into()))]
#[case("HardwareKey", with_flags(0), Flaw::NotPresent)]
#[case("HardwareKey", with_flags(VERIFIED), Flaw::NotPresent)]
fn a_weaker_proof_than_the_rule_asks_does_not_count(
    #[case] proof: &str,
    #[case] statement: Statement,
    #[case] flaw: Flaw,
) {
    assert_eq!(Case::new([statement]).with(json!({"proof": proof})).flaw(), flaw);
}

#[test]
fn proof_is_a_minimum() {
    for proof in ["Identity", "Signature", "HardwareKey"] {
        Case::new([with_flags(PRESENT)]).with(json!({"proof": proof})).allows();
    }
    // Without a touch it is a signature still.
    for proof in ["Identity", "Signature"] {
        Case::new([with_flags(0)]).with(json!({"proof": proof})).allows();
    }
}

#[test]
fn a_key_in_a_file_is_no_hardware_key() {
    let key = Authenticator::new(Kind::Ed25519, "file");
    let team = json!({"members": [{"user": "alice", "keys": [{"publicKey": key.line()}]}]});
    let case =
        |proof: &str| Case::new([signed_with(&key, alice())]).with(json!({"proof": proof})).team("sre", team.clone());
    case("Identity").allows();
    case("Signature").allows();
    assert_eq!(case("HardwareKey").flaw(), Flaw::NotHardware("r".into()));
}

#[test]
fn a_rule_may_ask_that_the_key_verified_its_user() {
    let case =
        |flags| Case::new([with_flags(flags)]).with(json!({"proof": "HardwareKey", "requireVerification": true}));
    case(PRESENT | VERIFIED).allows();
    assert_eq!(case(PRESENT).flaw(), Flaw::NotVerified("r".into()));
    assert_eq!(case(VERIFIED).flaw(), Flaw::NotPresent);
}

#[test]
fn a_signature_that_does_not_count_is_no_unsigned_statement_instead() {
    let with = |signature: &str| Case::new([Statement { signature: Some(signature.into()), ..alice() }]);
    assert_eq!(with("").flaw(), Flaw::Signature(SignatureFault::Unreadable));
    let for_git = hardware("alice").sign("git", &alice().text().unwrap());
    assert_eq!(with(&for_git).flaw(), Flaw::Signature(SignatureFault::OtherUse));
}

#[test]
fn another_persons_signature_does_not_count() {
    let forged = |key: &str| Case::new([signed_with(&hardware(key), alice())]);
    assert_eq!(forged("bob").flaw(), Flaw::OtherPersonsKey);
    assert_eq!(forged("mallory").flaw(), Flaw::UnknownKey("sre".into()));
    // Of a team that does not list the key, somebody else's team does not help.
    let case = forged("mallory").team(
        "dba",
        json!({"members": [{"user": "alice",
        "keys": [{"publicKey": hardware("mallory").line()}]}]}),
    );
    assert_eq!(case.flaw(), Flaw::UnknownKey("sre".into()));
    // Names are listed as they are: nobody signs as somebody who is written almost alike.
    let case = Case::new([signed_with(&hardware("alice"), by("Alice"))]);
    assert_eq!(case.flaw(), Flaw::OtherPersonsKey);
}

/// Each change makes the statement fit a request that it was not signed for.
#[rstest]
#[case::uid(|s: &mut Statement| s.uid = "v".into())]
#[case::name(|s: &mut Statement| s.name = "x".into())]
#[case::namespace(|s: &mut Statement| s.namespace = "m".into())]
#[case::resource(|s: &mut Statement| s.resource = "services".into())]
#[case::action(|s: &mut Statement| s.action = Action::Loosen)]
#[case::new_spec(|s: &mut Statement| s.new_spec = Some("deleted".into()))]
#[case::cluster(|s: &mut Statement| s.epoch = Some("e".into()))]
#[case::expires(|s: &mut Statement| s.expires = minutes_from_now(20))]
#[case::approved_at(|s: &mut Statement| s.approved_at = minutes_from_now(-1))]
#[case::reason(|s: &mut Statement| s.reason = Some("OPS-1".into()))]
#[case::requester(|s: &mut Statement| s.requester = None)]
#[case::team(|s: &mut Statement| s.team = "dba".into())]
#[case::break_glass(|s: &mut Statement| { s.break_glass = true; s.reason = Some("fire".into()); })]
fn a_signed_statement_that_was_changed_afterwards_does_not_count(#[case] change: fn(&mut Statement)) {
    let original = signed(Statement { requester: Some("agent".into()), ..alice() });
    let mut changed = original.clone();
    change(&mut changed);
    let mut case = Case::new([changed.clone()])
        .with(json!({"require": [{"anyOf": ["sre", "dba"]}], "breakGlass": {"anyOf": ["sre"]}}));
    case.action = changed.action;
    case.new_spec = changed.new_spec.as_ref().map(|_| "deleted");
    let group = if changed.resource == "services" { "" } else { "apps" };
    case.subject = Subject {
        group: group.into(),
        resource: if group.is_empty() { "services" } else { "deployments" }.into(),
        namespace: changed.namespace.clone().into(),
        name: changed.name.clone().into(),
        uid: changed.uid.clone().into(),
        ..Subject::default()
    };
    assert_eq!(case.flaw(), Flaw::Signature(SignatureFault::OtherText));
    // It would have counted, had that been signed.
    Case { on_object: vec![signed_with(&hardware("alice"), changed)], ..case }.allows();
}

#[rstest]
#[case::always(json!({}), None)]
#[case::since_just_now(json!({"validAfter": NOW.to_string()}), None)]
#[case::not_yet(json!({"validAfter": minutes_from_now(1).to_string()}), Some(Flaw::KeyNotValid))]
#[case::until_soon(json!({"validBefore": minutes_from_now(1).to_string()}), None)]
#[case::until_now(json!({"validBefore": NOW.to_string()}), Some(Flaw::KeyNotValid))]
#[case::long_over(json!({"validBefore": minutes_from_now(-60).to_string()}), Some(Flaw::KeyNotValid))]
fn a_key_counts_within_its_window_alone(#[case] window: Value, #[case] flaw: Option<Flaw>) {
    let mut key = json!({"publicKey": hardware("alice").line()});
    key.as_object_mut().unwrap().extend(window.as_object().unwrap().clone());
    let case = Case::new([signed(alice())]).team("sre", json!({"members": [{"user": "alice", "keys": [key]}]}));
    assert_eq!(case.decide().flaws.first().cloned(), flaw);
    assert_eq!(case.decide().verdict == Verdict::Allow, flaw.is_none());
}

#[test]
fn a_stolen_key_that_ran_out_cannot_date_its_approval_back_nor_forward() {
    let team = |window: Value| {
        let mut key = json!({"publicKey": hardware("alice").line()});
        key.as_object_mut().unwrap().extend(window.as_object().unwrap().clone());
        json!({"members": [{"user": "alice", "keys": [key]}]})
    };
    let ran_out = team(json!({"validBefore": minutes_from_now(-10).to_string()}));
    let back = signed(Statement { approved_at: minutes_from_now(-20), ..alice() });
    assert_eq!(Case::new([back]).team("sre", ran_out).flaw(), Flaw::KeyNotValid);
    let ahead = signed(Statement { approved_at: NOW + CLOCK_SKEW, ..alice() });
    let ends = team(json!({"validBefore": (NOW + SignedDuration::from_secs(30)).to_string()}));
    assert_eq!(Case::new([ahead]).team("sre", ends).flaw(), Flaw::KeyNotValid);
}

#[test]
fn a_revoked_key_does_not_count() {
    let print = Key::read(&hardware("alice").line()).unwrap().fingerprint();
    let revoked = json!({"members": [person("alice")], "revokedKeys": [print]});
    assert_eq!(Case::new([signed(alice())]).team("sre", revoked.clone()).flaw(), Flaw::RevokedKey);
    // What the same person says without the key still does.
    Case::new([alice()]).team("sre", revoked).allows();
}

#[test]
fn a_key_that_cannot_sign_does_not_count_even_where_it_stands_listed() {
    let key = hardware("alice").for_application("https://login.example.com");
    let team = json!({"members": [{"user": "alice", "keys": [{"publicKey": key.line()}]}]});
    let case = Case::new([signed_with(&key, alice())]).team("sre", team);
    assert_eq!(case.flaw(), Flaw::UnknownKey("sre".into()));
}
