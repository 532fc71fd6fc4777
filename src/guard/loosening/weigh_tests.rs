use authenticator::{Authenticator, Kind};
use serde_json::json;

use super::*;
use crate::api::Action;

const NOW: Timestamp = Timestamp::constant(1_795_255_200, 0);

fn rule(extra: &Value) -> Box<ProtectionRuleSpec> {
    let mut spec = json!({"resources": [{"apiGroups": ["apps"], "resources": ["deployments"]}],
        "approval": {"require": [{"anyOf": ["sre"]}]}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Box::new(serde_json::from_value(spec).unwrap())
}

fn strict() -> Box<ProtectionRuleSpec> {
    rule(&json!({}))
}

fn loose() -> Box<ProtectionRuleSpec> {
    rule(&json!({"mode": "Warn"}))
}

fn terms(approval: &Value) -> Box<ProtectionRuleSpec> {
    rule(&json!({"approval": approval}))
}

fn team(value: &Value) -> ApproverTeamSpec {
    serde_json::from_value(value.clone()).unwrap()
}

fn sre() -> Value {
    json!({"members": [{"user": "alice"}, {"user": "bob"}]})
}

fn hardware(name: &str) -> Value {
    json!({"user": name, "keys": [{"publicKey": Authenticator::new(Kind::SkEd25519, name).line()}]})
}

/// A cluster with a team sre of alice and bob.
fn cluster(rules: Vec<(&str, Result<Rule, String>)>) -> Rules {
    Rules {
        rules: rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect(),
        teams: [("sre".to_owned(), Team::read(team(&sre())))].into(),
        cluster: "c".into(),
        own_namespace: "tagout-system".into(),
    }
}

fn with_settled(name: &str, spec: &ProtectionRuleSpec, teams: BTreeMap<String, String>) -> Rule {
    let mut rule = Rule::read(name, spec).unwrap();
    rule.settled = Some(teams);
    rule
}

/// A rule in force that somebody could meet once, with the teams as they were then.
fn settled<'n>(name: &'n str, spec: &ProtectionRuleSpec) -> (&'n str, Result<Rule, String>) {
    let teams = [("sre".to_owned(), spec_hash(&team(&sre())))].into();
    (name, Ok(with_settled(name, spec, teams)))
}

/// A rule in force that nobody ever could.
fn unsettled<'n>(name: &'n str, spec: &ProtectionRuleSpec) -> (&'n str, Result<Rule, String>) {
    (name, Ok(Rule::read(name, spec).unwrap()))
}

fn changed(stored: Option<Box<ProtectionRuleSpec>>, new: Option<Box<ProtectionRuleSpec>>) -> Changed {
    Changed::Rule { stored, rejected: false, new }
}

/// Whether the change can be made without asking anybody.
fn is_free(weighed: &Weighed) -> bool {
    weighed.refused.is_none()
        && (weighed.loosened.is_empty() || (weighed.needed.is_empty() && weighed.not_in_force.is_none()))
}

/// Whether it needs the approval of this rule.
#[track_caller]
fn needs(weighed: &Weighed, rule: &str) {
    assert!(weighed.refused.is_none() && !weighed.loosened.is_empty(), "{weighed:?}");
    assert_eq!(weighed.needed, [rule]);
}

// Rules

#[test]
fn what_tightens_a_rule_in_force_is_free_and_what_loosens_it_needs_its_own_approval() {
    let rules = cluster(vec![settled("r", &strict()), settled("other", &strict())]);
    let longer = terms(&json!({"require": [{"anyOf": ["sre"]}], "validFor": "2h"}));
    for new in [Some(loose()), Some(longer.clone()), None] {
        needs(&weigh(&changed(Some(strict()), new), "r", &rules, NOW), "r");
    }
    let shorter = terms(&json!({"require": [{"anyOf": ["sre"]}], "validFor": "5m"}));
    for new in [strict(), shorter] {
        assert!(is_free(&weigh(&changed(Some(strict()), Some(new)), "r", &rules, NOW)));
    }
}

#[test]
fn a_change_is_named_by_the_hash_of_what_is_to_be() {
    let rules = cluster(vec![settled("r", &strict())]);
    let of = |new: Option<Box<ProtectionRuleSpec>>| weigh(&changed(Some(strict()), new), "r", &rules, NOW).new_spec;
    assert_eq!(of(Some(loose())), spec_hash(&loose()));
    assert_eq!(of(None), DELETED);
    let change = Changed::Team { stored: None, new: Some(team(&sre())) };
    assert_eq!(weigh(&change, "sre", &rules, NOW).new_spec, spec_hash(&team(&sre())));
    let change = Changed::Team { stored: Some(team(&sre())), new: None };
    assert_eq!(weigh(&change, "x", &rules, NOW).new_spec, DELETED);
}

#[test]
fn a_rule_that_nobody_could_ever_meet_may_be_changed_by_whoever_sets_it_up() {
    let rules = cluster(vec![unsettled("r", &strict())]);
    for new in [Some(loose()), None] {
        assert!(is_free(&weigh(&changed(Some(strict()), new), "r", &rules, NOW)));
    }
}

#[test]
fn what_is_compared_is_the_rule_in_force_and_not_what_is_stored() {
    // Somebody loosened the stored rule while Tagout was away; in force is still the strict one.
    let rules = cluster(vec![settled("r", &strict())]);
    needs(&weigh(&changed(Some(loose()), Some(loose())), "r", &rules, NOW), "r");
    // Back to what is in force is free.
    assert!(is_free(&weigh(&changed(Some(loose()), Some(strict())), "r", &rules, NOW)));
    // The same where the rule was deleted meanwhile and is made anew, or where nothing stored can be read.
    needs(&weigh(&changed(None, Some(loose())), "r", &rules, NOW), "r");
    assert!(is_free(&weigh(&changed(None, Some(strict())), "r", &rules, NOW)));
    // And where the stored one was never taken by the API server.
    let rejected = Changed::Rule { stored: Some(loose()), rejected: true, new: Some(loose()) };
    needs(&weigh(&rejected, "r", &rules, NOW), "r");
}

#[test]
fn taking_the_entry_of_a_rule_away_does_not_open_the_rule() {
    for rules in [cluster(Vec::new()), cluster(vec![("r", Err("its origin cannot be read".to_owned()))])] {
        for new in [Some(loose()), None] {
            let weighed = weigh(&changed(Some(strict()), new), "r", &rules, NOW);
            assert!(!is_free(&weighed) && weighed.refused.is_none(), "{weighed:?}");
            assert_eq!(weighed.not_in_force.map(|rule| rule.name.clone()), Some("r".to_owned()));
        }
        assert!(is_free(&weigh(&changed(Some(strict()), Some(strict())), "r", &rules, NOW)));
    }
}

#[test]
fn a_stored_rule_that_never_came_into_force_because_it_could_not_is_free() {
    let rules = cluster(Vec::new());
    let rejected = Changed::Rule { stored: Some(strict()), rejected: true, new: None };
    assert!(is_free(&weigh(&rejected, "r", &rules, NOW)));
    let unreadable = rule(&json!({"approval": {"require": []}}));
    let never = terms(&json!({"require": [{"anyOf": ["nobody"]}]}));
    for stored in [unreadable, never] {
        assert!(is_free(&weigh(&changed(Some(stored), None), "r", &rules, NOW)));
    }
}

#[test]
fn a_rule_that_is_made_loosens_nothing() {
    let rules = cluster(vec![settled("r", &strict())]);
    assert!(is_free(&weigh(&changed(None, Some(loose())), "new", &rules, NOW)));
    assert!(is_free(&weigh(&changed(None, None), "new", &rules, NOW)));
}

#[test]
fn a_change_after_which_nobody_could_meet_the_rule_is_refused() {
    let rules = cluster(vec![settled("r", &strict())]);
    let refused = |new| weigh(&changed(Some(strict()), Some(new)), "r", &rules, NOW).refused.is_some();
    assert!(refused(terms(&json!({"require": [{"anyOf": ["sre"], "count": 3}]}))));
    assert!(refused(terms(&json!({"proof": "Signature", "require": [{"anyOf": ["sre"]}]}))));
    assert!(!refused(terms(&json!({"require": [{"anyOf": ["sre"], "count": 2}]}))));
    // A rule that stops nothing locks nobody out.
    let mut trial = terms(&json!({"require": [{"anyOf": ["sre"], "count": 3}]}));
    trial.mode = Mode::Warn;
    assert!(!refused(trial));
}

#[test]
fn a_rule_that_nobody_can_meet_any_more_can_still_be_tightened() {
    let lost = terms(&json!({"require": [{"anyOf": ["gone"]}]}));
    let tighter = terms(&json!({"require": [{"anyOf": ["gone"], "count": 2}]}));
    let rules = cluster(vec![settled("r", &lost)]);
    assert!(is_free(&weigh(&changed(Some(lost), Some(tighter)), "r", &rules, NOW)));
}

#[test]
fn a_new_spec_that_cannot_be_read_as_a_rule_loosens() {
    let rules = cluster(vec![settled("r", &strict())]);
    for new in [
        terms(&json!({"require": []})),
        terms(&json!({"require": [{"anyOf": ["sre"]}], "validFor": "soon"})),
        rule(&json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "Magic"}]}})),
    ] {
        needs(&weigh(&changed(Some(strict()), Some(new)), "r", &rules, NOW), "r");
    }
}

// Teams

#[test]
fn while_a_rule_in_force_cannot_be_read_no_team_and_no_definition_is_loosened() {
    let rules = cluster(vec![settled("a", &strict()), ("e", Err("broken".into()))]);
    let more = json!({"members": [{"user": "alice"}, {"user": "bob"}, {"user": "mallory"}]});
    let loosens = Changed::Team { stored: Some(team(&sre())), new: Some(team(&more)) };
    assert!(weigh(&loosens, "sre", &rules, NOW).refused.unwrap().contains("rule e cannot be read"));
    assert!(weigh(&Changed::Definition { is_own: false, new: None }, "x", &rules, NOW).refused.is_some());
    // What tightens goes on, and so does mending it.
    let fewer = Changed::Team { stored: Some(team(&sre())), new: Some(team(&json!({"members": [{"user": "alice"}]}))) };
    assert!(weigh(&fewer, "sre", &rules, NOW).refused.is_none());
    assert!(is_free(&weigh(&changed(Some(strict()), Some(strict())), "e", &rules, NOW)));
    assert!(weigh(&changed(None, Some(strict())), "e", &rules, NOW).refused.is_some());
}

#[test]
fn revocations_end_by_themselves_so_that_nobody_fills_the_list_for_good() {
    let rules = cluster(vec![settled("a", &strict())]);
    let hash = format!("sha256:{}", "0".repeat(64));
    let with = |expires: Option<&str>| {
        let mut spec = team(&sre());
        let one = json!({"statement": hash, "expires": expires});
        spec.revoked = vec![serde_json::from_value(one).unwrap()];
        weigh(&Changed::Team { stored: Some(team(&sre())), new: Some(spec) }, "sre", &rules, NOW)
    };
    assert!(with(None).refused.unwrap().contains("revoked[0]: say when the approval ends"));
    assert!(with(Some("2099-01-01T00:00:00Z")).refused.is_some());
    assert!(is_free(&with(Some("2026-11-22T00:00:00Z"))));
}

#[test]
fn what_loosens_a_team_needs_every_rule_in_force_that_names_it() {
    let glass = terms(&json!({"require": [{"anyOf": ["dba"]}], "breakGlass": {"anyOf": ["sre"]}}));
    let other = terms(&json!({"require": [{"anyOf": ["dba"]}]}));
    let rules =
        cluster(vec![settled("a", &strict()), settled("b", &glass), settled("c", &other), unsettled("d", &strict())]);
    let more = json!({"members": [{"user": "alice"}, {"user": "bob"}, {"user": "mallory"}]});
    let weighed = weigh(&Changed::Team { stored: Some(team(&sre())), new: Some(team(&more)) }, "sre", &rules, NOW);
    assert_eq!((weighed.needed, weighed.loosened.len(), weighed.refused), (vec!["a".into(), "b".into()], 1, None));
    // What tightens it, or is of a team that no rule names, is free.
    let fewer = json!({"members": [{"user": "alice"}]});
    let change = Changed::Team { stored: Some(team(&sre())), new: Some(team(&fewer)) };
    assert!(is_free(&weigh(&change, "sre", &rules, NOW)));
    assert!(is_free(&weigh(&Changed::Team { stored: None, new: Some(team(&more)) }, "unnamed", &rules, NOW)));
}

#[test]
fn a_team_that_was_lost_may_come_back_as_it_was_and_not_otherwise() {
    let mut rules = cluster(vec![settled("r", &strict())]);
    rules.teams.clear();
    let come_back =
        |rules: &Rules, spec: &Value| weigh(&Changed::Team { stored: None, new: Some(team(spec)) }, "sre", rules, NOW);
    assert!(is_free(&come_back(&rules, &sre())));
    needs(&come_back(&rules, &json!({"members": [{"user": "alice"}, {"user": "mallory"}]})), "r");
    needs(&come_back(&rules, &json!({"members": [{"user": "alice"}]})), "r");
    // Another rule may have known it otherwise, or not at all.
    let unknown = with_settled("s", &strict(), BTreeMap::new());
    rules.rules.insert("s".into(), Ok(unknown));
    needs(&come_back(&rules, &sre()), "s");
    // As it was then is not as it is now, where it is still there.
    let fewer = json!({"members": [{"user": "alice"}]});
    let rules = cluster(vec![settled("r", &strict())]);
    let change = Changed::Team { stored: Some(team(&fewer)), new: Some(team(&sre())) };
    needs(&weigh(&change, "sre", &rules, NOW), "r");
}

#[test]
fn a_team_without_which_nobody_could_meet_a_rule_cannot_go_nor_shrink_too_far() {
    let rules = cluster(vec![settled("r", &terms(&json!({"require": [{"anyOf": ["sre"], "count": 2}]})))]);
    let refused = |new: Option<Value>| {
        weigh(&Changed::Team { stored: Some(team(&sre())), new: new.as_ref().map(team) }, "sre", &rules, NOW).refused
    };
    assert!(refused(None).is_some_and(|why| why.contains("rule r")));
    assert!(refused(Some(json!({"members": [{"user": "alice"}]}))).is_some());
    assert!(refused(Some(json!({"members": [{"user": "alice"}], "groups": ["g"]}))).is_none());
}

#[test]
fn a_stolen_key_is_revoked_whatever_that_leaves() {
    let spec = terms(&json!({"proof": "HardwareKey", "require": [{"anyOf": ["sre"]}]}));
    let before = json!({"members": [hardware("alice")]});
    let mut rules = cluster(vec![settled("r", &spec)]);
    rules.teams.insert("sre".into(), Team::read(team(&before)));
    let print = rules.teams["sre"].keys[0].key.fingerprint();
    let weigh =
        |new: &Value| weigh(&Changed::Team { stored: Some(team(&before)), new: Some(team(new)) }, "sre", &rules, NOW);
    assert!(is_free(&weigh(&json!({"members": [hardware("alice")], "revokedKeys": [print]}))));
    // To take the key out is to lock everybody out.
    assert!(weigh(&json!({"members": [{"user": "alice"}]})).refused.is_some());
}

#[test]
fn a_team_with_a_key_that_cannot_sign_is_refused_whoever_approves() {
    let rules = cluster(Vec::new());
    let bad = json!({"members": [{"user": "alice", "keys": [{"publicKey": "ssh-rsa AAAA"}, {"publicKey": "x"}]}]});
    let weighed = weigh(&Changed::Team { stored: None, new: Some(team(&bad)) }, "sre", &rules, NOW);
    let refused = weighed.refused.unwrap();
    assert!(refused.contains("members[0].keys[0]: ") && refused.contains("; members[0].keys[1]: "), "{refused}");
    let weighed = weigh(&Changed::Team { stored: Some(team(&bad)), new: Some(team(&bad)) }, "sre", &rules, NOW);
    assert!(is_free(&weighed));
}

// Definitions

#[test]
fn a_change_of_tagouts_own_definitions_needs_every_rule_in_force() {
    let rules = cluster(vec![settled("a", &strict()), unsettled("b", &strict()), settled("c", &loose())]);
    let weigh = |is_own, new| weigh(&Changed::Definition { is_own, new }, "approverteams.tagout.dev", &rules, NOW);
    let weighed = weigh(false, Some(json!({"a": 1})));
    assert_eq!((weighed.needed, weighed.new_spec), (vec!["a".into(), "c".into()], spec_hash(&json!({"a": 1}))));
    assert!(!weighed.loosened.is_empty());
    assert_eq!(weigh(false, None).new_spec, DELETED);
    assert!(is_free(&weigh(true, Some(json!({"a": 1})))));
}

#[test]
fn nothing_that_a_rule_says_of_its_actions_switches_the_guard_over_itself_off() {
    let spec = strict();
    assert!(!spec.actions.contains(&Action::Loosen));
    let rules = cluster(vec![settled("r", &spec)]);
    needs(&weigh(&changed(Some(spec), None), "r", &rules, NOW), "r");
}
