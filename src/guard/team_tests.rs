use authenticator::{Authenticator, Kind};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn spec(value: &Value) -> ApproverTeamSpec {
    serde_json::from_value(value.clone()).unwrap()
}

fn line(kind: Kind, seed: &str) -> String {
    Authenticator::new(kind, seed).line()
}

fn listing(user: &str, lines: &[String]) -> Value {
    let keys: Vec<_> = lines.iter().map(|line| json!({"publicKey": line})).collect();
    json!({"members": [{"user": user, "keys": keys}]})
}

/// What is wrong with a team sre that is written while these others are there.
fn faults_of(team: &Value, before: Option<&Value>, others: &[(&str, Value)]) -> Vec<String> {
    let teams = others.iter().map(|(name, team)| ((*name).to_owned(), Team::read(spec(team)))).collect();
    faults("sre", &spec(team), before.map(spec).as_ref(), &teams)
}

#[test]
fn a_persons_own_keys_are_right_in_every_team() {
    let keys = Kind::ALL.map(|kind| line(kind, &format!("{kind:?}")));
    let team = listing("alice", &keys);
    let others = [("dba", team.clone()), ("sec", listing("Alice", &keys[..1]))];
    assert_eq!(faults_of(&team, None, &others), Vec::<String>::new());
}

#[rstest]
#[case::the_same(Kind::SkEd25519)]
#[case::the_same_point_as_a_key_in_a_file(Kind::Ed25519)]
fn a_key_under_another_name_is_refused_in_the_same_team_and_in_another(#[case] kind: Kind) {
    let (own, other) = (line(Kind::SkEd25519, "alice"), line(kind, "alice"));
    let both = json!({"members": [{"user": "alice", "keys": [{"publicKey": own}]},
        {"user": "al", "keys": [{"publicKey": other}]}]});
    let found = faults_of(&both, None, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("members[0].keys[0]: ") && found[0].contains("\"al\"'s in team sre"), "{found:?}");
    assert!(found[1].starts_with("members[1].keys[0]: ") && found[1].contains("\"alice\"'s in team sre"), "{found:?}");

    let found = faults_of(&listing("al", &[other]), None, &[("dba", listing("alice", &[own]))]);
    assert!(found.len() == 1 && found[0].contains("\"alice\"'s in team dba"), "{found:?}");
}

#[test]
fn what_the_team_itself_was_before_is_no_other_team() {
    let (before, after) = (listing("alice", &[line(Kind::Ed25519, "k")]), listing("al", &[line(Kind::Ed25519, "k")]));
    assert_eq!(faults_of(&after, Some(&before), &[("sre", before.clone())]), Vec::<String>::new());
}

#[test]
fn a_key_that_is_revoked_in_the_same_team_cannot_be_listed_anew() {
    let mut team = listing("alice", &[line(Kind::Ed25519, "k")]);
    let print = Key::read(&line(Kind::Ed25519, "k")).unwrap().fingerprint();
    let before = team.clone();
    team["revokedKeys"] = json!([print]);
    assert!(faults_of(&team, None, &[])[0].contains("revokedKeys"));
    // One that is listed already can be revoked.
    assert_eq!(faults_of(&team, Some(&before), &[]), Vec::<String>::new());
    // Listed for somebody else it is listed anew.
    let other = json!({"members": [{"user": "bob", "keys": team["members"][0]["keys"]}],
        "revokedKeys": team["revokedKeys"]});
    assert_eq!(faults_of(&other, Some(&before), &[]).len(), 1);
}

#[test]
fn what_is_no_key_is_told_by_its_place_and_never_quoted() {
    let bad = ["-----BEGIN OPENSSH PRIVATE KEY----- hunter2", "ssh-ed25519 hunter2", "hunter2"].map(str::to_owned);
    let team = listing("alice", &[vec![line(Kind::Ed25519, "k")], bad.to_vec()].concat());
    let found = faults_of(&team, None, &[]);
    let places: Vec<_> = found.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["members[0].keys[1]", "members[0].keys[2]", "members[0].keys[3]"]);
    assert!(!found.iter().any(|fault| fault.contains("hunter2")), "{found:?}");
}

/// An older version of Tagout may have let it pass; then other changes of the team must stay possible.
#[test]
fn what_was_wrong_before_is_not_told_again() {
    let team = listing("alice", &["ssh-rsa AAAA".to_owned()]);
    assert_eq!(faults_of(&team, Some(&team), &[]), Vec::<String>::new());
    assert_eq!(faults_of(&listing("bob", &["ssh-rsa AAAA".to_owned()]), Some(&team), &[]).len(), 1);
}

#[test]
fn a_team_knows_the_keys_that_can_be_used_alone() {
    let team = json!({"members": [
        {"user": "alice", "keys": [{"publicKey": "ssh-rsa AAAA"}, {"publicKey": line(Kind::Ecdsa, "k"),
            "validAfter": "2026-01-01T00:00:00Z", "validBefore": "2027-01-01T00:00:00Z"}]},
        {"user": "bob", "keys": [{"publicKey": line(Kind::SkEcdsa, "l")}]},
    ]});
    let team = Team::read(spec(&team));
    let listed: Vec<_> = team.keys.iter().map(|listed| (listed.user.as_str(), listed.after, listed.before)).collect();
    let time = |text: &str| Some(text.parse().unwrap());
    assert_eq!(listed, [("alice", time("2026-01-01T00:00:00Z"), time("2027-01-01T00:00:00Z")), ("bob", None, None)]);
}

#[test]
fn a_person_goes_by_every_name_under_which_one_of_their_keys_is_listed() {
    let teams = [
        ("sre", listing("Alice", &[line(Kind::SkEd25519, "a"), line(Kind::Ecdsa, "b")])),
        ("dba", listing("al", &[line(Kind::Ed25519, "a")])),
        ("sec", listing("ally", &[line(Kind::SkEcdsa, "b")])),
        ("net", listing("bob", &[line(Kind::Ed25519, "c")])),
    ]
    .map(|(_, team)| Team::read(spec(&team)));
    let people = || People(teams.iter().collect());
    let names = |name: &str, key: Option<&Key>| people().names(name, key).into_iter().collect::<BTreeSet<_>>();
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(names("alice", None), set(&["al", "alice", "ally"]));
    // In any chain: ally and al never shared a key.
    assert_eq!(names("al", None), set(&["al", "alice", "ally"]));
    assert_eq!(names("ally", None), set(&["al", "alice", "ally"]));
    assert_eq!(names("Eve", None), set(&["eve"]));
    let key = Key::read(&line(Kind::SkEd25519, "c")).unwrap();
    assert_eq!(names("al", Some(&key)), set(&["al", "alice", "ally", "bob"]));
}

#[test]
fn people_are_in_a_team_by_name_or_group_as_they_are_written() {
    let team = Team::read(spec(&json!({"groups": ["oidc:sre"], "members": [{"user": "alice"}]})));
    let none: [&str; 0] = [];
    assert!(team.has("alice", &none) && team.has("bob", &["x", "oidc:sre"]));
    assert!(!team.has("Alice", &none) && !team.has("bob", &["oidc:SRE"]) && !team.has("oidc:sre", &["alice"]));
}
