//! Signed approvals that somebody without alice's key would like to have. An agent in `system:masters` writes each on
//! the object and beside it, and asks.

use authenticator::{Authenticator, Kind, bytes_of};
use controlplane::User;
use rstest::rstest;
use serde_json::{Value, json};
use tagout::api::SIGNATURE_NAMESPACE;

use crate::signing::{
    again, attempts_by, case, fingerprint, intent, is_refused, key, passes, signed, signed_with, text_of, uid,
};

const OTHER_TEXT: &str = "its signature is over another text";
const UNREADABLE: &str = "its signature is none that ssh-keygen -Y sign makes";

/// What alice signed, changed afterwards.
#[rstest]
#[case::the_object_it_is_for("uid", json!("00000000-0000-4000-8000-000000000000"), "had this name before")]
#[case::the_cluster("cluster", json!("00000000-0000-4000-8000-000000000000"), "another cluster")]
#[case::the_action("action", json!("Loosen"), "another action")]
#[case::the_kind("resource", json!("statefulsets.apps"), "not this object")]
#[case::the_namespace("namespace", json!("default"), "not this object")]
#[case::the_name("name", json!("other"), "not this object")]
#[case::the_approver("approver", json!(User::Bob.name()), "another person's key")]
#[case::the_approver_in_other_letters("approver", json!(User::Alice.name().to_uppercase()), "another person's key")]
#[case::the_team("team", json!("others"), "does not list for this person")]
#[case::the_team_to_one_that_is_gone("team", json!("a-team-that-never-was"), "there is no team")]
#[case::who_may_ask("requester", json!(User::Agent.name()), OTHER_TEXT)]
#[case::the_reason("reason", json!("alice said so"), OTHER_TEXT)]
#[case::its_end("expires", json!((jiff::Timestamp::now() + jiff::SignedDuration::from_mins(25)).to_string()), OTHER_TEXT)]
#[case::its_date("approvedAt", json!((jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1)).to_string()), OTHER_TEXT)]
#[case::to_an_emergency("breakGlass", json!(true), OTHER_TEXT)]
#[case::to_the_contents_of_a_namespace("scope", json!("Contents"), "not for the namespace itself")]
#[case::what_may_go_along("protects", json!({"digest": "sha256:00"}), OTHER_TEXT)]
#[case::to_another_change("newSpec", json!("deleted"), "another change")]
#[case::the_epoch("epoch", json!("0"), OTHER_TEXT)]
fn a_signed_statement_in_which_was_changed(#[case] field: &str, #[case] value: Value, #[case] words: &str) {
    let (namespace, name, statement) =
        case("signed", &format!("swap-{}", field.to_lowercase() + &words.len().to_string()));
    let mut forged = signed(statement, "alice");
    forged[field] = value;
    is_refused(&namespace, &name, &json!([forged]), words);
}

#[test]
fn a_named_requester_taken_out_of_a_signed_statement() {
    let (namespace, name, mut statement) = case("signed", "requester-out");
    statement["requester"] = json!(User::Carol.name());
    let mut forged = signed(statement, "alice");
    forged.as_object_mut().unwrap().remove("requester");
    is_refused(&namespace, &name, &json!([forged]), OTHER_TEXT);
}

#[test]
fn a_reason_that_would_make_lines_of_its_own() {
    let (namespace, name, mut statement) = case("signed", "lines");
    // Signed as the harmless text that it looks like.
    let harmless = text_of(&statement) + "reason: tidy up\nbreakGlass: true\n";
    statement["reason"] = json!("tidy up\nbreakGlass: true");
    statement["signature"] = json!(key("alice").sign(SIGNATURE_NAMESPACE, &harmless));
    is_refused(&namespace, &name, &json!([statement]), "cannot be shown as it is");
}

/// True words, wrongly signed.
#[rstest]
#[case::by_bob("bob", "another person's key")]
#[case::by_a_key_in_no_team("stranger", "does not list for this person")]
#[case::by_a_key_of_another_team("olga", "does not list for this person")]
#[case::by_a_revoked_key("lost", "another person's key")]
fn a_statement_of_alice_signed(#[case] by: &str, #[case] words: &str) {
    let (namespace, name, statement) = case("signed", &format!("signed-by-{by}"));
    is_refused(&namespace, &name, &json!([signed(statement, by)]), words);
}

/// Keys that were theirs, at another time.
#[rstest]
#[case::whose_key_is_over("over@example.com", "over", "was not valid at the time")]
#[case::whose_key_is_not_valid_yet("early@example.com", "early", "was not valid at the time")]
#[case::whose_key_was_revoked("lost@example.com", "lost", "was revoked")]
fn a_statement_of_somebody(#[case] approver: &str, #[case] by: &str, #[case] words: &str) {
    let (namespace, name, mut statement) = case("signed", &format!("key-of-{by}"));
    statement["approver"] = json!(approver);
    is_refused(&namespace, &name, &json!([signed(statement, by)]), words);
}

/// Signed by alice, and not true here or now.
#[rstest]
#[case::expired("expires", -1, "it expired at")]
#[case::not_yet_valid("approvedAt", 5, "still to come")]
#[case::longer_than_the_rule_allows("expires", 40, "longer than rule keys-signed allows")]
fn a_statement_by_alice_that_is(#[case] field: &str, #[case] minutes: i64, #[case] words: &str) {
    let (namespace, name, mut statement) = case("signed", &format!("time-{}", words.len()));
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    statement[field] = json!(at.to_string());
    is_refused(&namespace, &name, &json!([signed(statement, "alice")]), words);
}

#[test]
fn a_statement_replayed_after_the_object_was_made_anew() {
    let (namespace, name, statement) = case("signed", "replayed");
    let once = signed(statement, "alice");
    let before = uid(&namespace, &name);
    passes(&namespace, &name, &json!([once]));
    again("signed", &name);
    assert_ne!(uid(&namespace, &name), before);
    is_refused(&namespace, &name, &json!([once]), "had this name before");
}

#[test]
fn a_statement_replayed_from_another_object() {
    let (namespace, name, _) = case("signed", "replay-here");
    let (_, _, elsewhere) = case("signed", "replay-there");
    is_refused(&namespace, &name, &json!([signed(elsewhere, "alice")]), "had this name before");
}

/// The same true text, signed for something else or in a damaged form.
#[rstest]
#[case::for_git("git", "made for another use")]
#[case::for_files("file", "made for another use")]
#[case::for_a_longer_name("approval@tagout.dev.example.com", "made for another use")]
fn a_signature(#[case] namespace_of_use: &str, #[case] words: &str) {
    let (namespace, name, mut statement) = case("signed", &format!("use-{}", namespace_of_use.len()));
    statement["signature"] = json!(key("alice").sign(namespace_of_use, &text_of(&statement)));
    is_refused(&namespace, &name, &json!([statement]), words);
}

#[test]
fn a_signature_over_nothing_at_all() {
    let (namespace, name, mut statement) = case("signed", "over-nothing");
    statement["signature"] = json!(key("alice").sign(SIGNATURE_NAMESPACE, ""));
    is_refused(&namespace, &name, &json!([statement]), OTHER_TEXT);
}

/// Damage to the form of a signature that would otherwise count.
#[rstest]
#[case::of_version_0(0)]
#[case::of_version_2(1)]
#[case::with_reserved_bytes(2)]
#[case::with_trailing_bytes(3)]
#[case::with_bytes_after_the_inner_signature(4)]
#[case::under_a_webauthn_name(5)]
#[case::under_the_name_of_a_hardware_key(6)]
#[case::with_the_hash_renamed(7)]
#[case::with_another_key_inside(8)]
#[case::with_one_bit_changed(9)]
fn a_damaged_signature(#[case] damage: u8) {
    let (namespace, name, statement) = case("signed", &format!("damage-{damage}"));
    let forged = signed_with(statement, "alice", |signature| match damage {
        0 => signature.version = 0,
        1 => signature.version = 2,
        2 => signature.reserved = vec![0],
        3 => signature.trailing = vec![0],
        4 => signature.inner_trailing = vec![0],
        5 => "webauthn-sk-ecdsa-sha2-nistp256@openssh.com".clone_into(&mut signature.algorithm),
        6 => {
            Kind::SkEd25519.name().clone_into(&mut signature.algorithm);
            signature.trailer = Some((5, 1));
        }
        7 => "sha256".clone_into(&mut signature.hash),
        8 => signature.key = key("bob").blob(),
        _ => signature.signature[10] ^= 1,
    });
    let words = match damage {
        7 | 9 => OTHER_TEXT,
        8 => "another person's key",
        _ => UNREADABLE,
    };
    is_refused(&namespace, &name, &json!([forged]), words);
}

/// Text that is no signature.
#[rstest]
#[case::empty("")]
#[case::words("LGTM, alice")]
#[case::the_label_alone("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n")]
#[case::another_label("-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----\n")]
#[case::five_kilobytes(&"A".repeat(5000))]
fn a_statement_whose_signature_is(#[case] signature: &str) {
    let (namespace, name, mut statement) = case("signed", &format!("text-{}", signature.len()));
    statement["signature"] = json!(signature);
    is_refused(&namespace, &name, &json!([statement]), UNREADABLE);
}

#[test]
fn a_signature_cut_anywhere() {
    let (namespace, name, mut statement) = case("signed", "cut");
    let whole = key("alice").signature(&intent(&statement)).armored();
    let blob = bytes_of(&whole);
    let cuts: Vec<Value> = (1..blob.len())
        .step_by(9)
        .map(|end| {
            statement["signature"] = json!(authenticator::armor(&blob[..end]));
            statement.clone()
        })
        .collect();
    assert!(cuts.len() > 10);
    is_refused(&namespace, &name, &json!(cuts), UNREADABLE);
}

/// What a hardware key has to have done.
#[rstest]
#[case::by_a_key_in_a_file("touched", "alice", 1, "wants it signed with a hardware key")]
#[case::that_nobody_touched("touched", "alice-touch", 0, "nobody touched the hardware key")]
#[case::that_nobody_touched_with_a_pin("touched", "alice-touch", 4, "nobody touched the hardware key")]
#[case::that_nobody_touched_ecdsa("touched", "alice-touch-ecdsa", 0, "nobody touched the hardware key")]
#[case::that_was_touched_without_a_pin("verified", "alice-touch", 1, "wants the hardware key to check a PIN")]
#[case::with_a_strangers_hardware_key("touched", "stranger-touch", 1, "does not list for this person")]
fn a_statement_signed(#[case] rule: &'static str, #[case] by: &str, #[case] flags: u8, #[case] words: &str) {
    let (namespace, name, mut statement) = case(rule, &format!("{by}-{flags}"));
    let mut how = intent(&statement);
    how.flags = flags;
    statement["signature"] = json!(key(by).signature(&how).armored());
    is_refused(&namespace, &name, &json!([statement]), words);
}

#[test]
fn a_presence_bit_set_after_signing() {
    let (namespace, name, mut statement) = case("touched", "bit");
    let mut how = intent(&statement);
    how.flags = 0;
    let mut forged = key("alice-touch").signature(&how);
    forged.trailer = Some((5, how.counter));
    statement["signature"] = json!(forged.armored());
    is_refused(&namespace, &name, &json!([statement]), OTHER_TEXT);
}

#[test]
fn a_touch_for_another_application() {
    let (namespace, name, mut statement) = case("touched", "application");
    let elsewhere = Authenticator::new(Kind::SkEd25519, "alice-touch").for_application("https://example.com");
    let mut forged = elsewhere.signature(&intent(&statement));
    forged.key = key("alice-touch").blob();
    statement["signature"] = json!(forged.armored());
    is_refused(&namespace, &name, &json!([statement]), OTHER_TEXT);
}

#[test]
fn one_key_under_two_names_and_one_person_with_two_keys_are_one_person() {
    let (namespace, name, statement) = case("two", "quorum");
    let first = signed(statement.clone(), "alice");
    let second = signed(statement.clone(), "alice-second");
    let mut as_bob = statement;
    as_bob["approver"] = json!(User::Bob.name());
    let as_bob = signed(as_bob, "alice");
    for list in [json!([first, first]), json!([first, second]), json!([first, second, as_bob])] {
        is_refused(&namespace, &name, &list, "needs approval by 1 more of signers (has alice@example.com)");
        namespace.world.kubectl(User::Agent, &["delete", "approvals", "--all"]).succeeds();
    }
}

#[test]
fn a_requester_who_signed_for_himself() {
    let (namespace, name, statement) = case("signed", "own");
    let own = json!([signed(statement, "alice")]);
    let shouting = format!("--as={}", User::Alice.name().to_uppercase());
    for (user, flags) in [(User::Alice, &[][..]), (User::Admin, &[shouting.as_str(), "--as-group=system:masters"])] {
        for outcome in attempts_by(user, flags, &namespace, &name, &own) {
            outcome.is_refused(&["nobody approves their own request"]);
        }
        namespace.world.kubectl(User::Agent, &["delete", "approvals", "--all"]).succeeds();
    }
    assert!(namespace.exists(&format!("deployment/{name}")));
}

#[test]
fn a_statement_for_another_requester() {
    let (namespace, name, mut statement) = case("signed", "for-carol");
    statement["requester"] = json!(User::Carol.name());
    is_refused(&namespace, &name, &json!([signed(statement, "alice")]), "it is for a request by");
}

#[test]
fn a_revoked_statement_put_back() {
    let (namespace, name, statement) = case("signed", "revoked");
    let read: tagout::api::Statement = serde_json::from_value(statement.clone()).unwrap();
    let hash = read.hash().unwrap();
    let revoked = json!([{"op": "add", "path": "/spec/revoked", "value": [{"statement": hash, "expires": statement["expires"]}]}]);
    let patch = ["patch", "approverteam", crate::signing::TEAM, "--type=json", "-p", &revoked.to_string()];
    namespace.world.kubectl(User::Bob, &patch).succeeds();
    is_refused(&namespace, &name, &json!([signed(statement, "alice")]), "it was revoked");
    let back = json!([{"op": "remove", "path": "/spec/revoked"}]).to_string();
    let patch = ["patch", "approverteam", crate::signing::TEAM, "--type=json", "-p", &back];
    namespace.world.kubectl(User::Agent, &patch).is_refused(&["is revoked no more"]);
    let unlost = json!({"spec": {"revokedKeys": []}}).to_string();
    let patch = ["patch", "approverteam", crate::signing::TEAM, "--type=merge", "-p", &unlost];
    namespace.world.kubectl(User::Agent, &patch).is_refused(&[&fingerprint("lost")]);
}

#[test]
fn ten_thousand_statements_in_one_annotation_are_one_clear_error() {
    let (namespace, name, statement) = case("signed", "flood");
    let small = json!({"action": "Delete", "uid": statement["uid"]});
    let flood = json!(vec![small; 10_000]).to_string();
    assert!(flood.len() < 900_000);
    // On stdin: it is longer than an argument may be.
    let manifest =
        json!({"metadata": {"labels": {"tagout.dev/approval": ""}, "annotations": {"tagout.dev/approval": flood}}});
    let file = namespace.world.cp.dir().join("flood.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let what = format!("deployment/{name}");
    let patch = ["patch", &what, "--type=merge", "--patch-file", &file.display().to_string()];
    let outcome = namespace.kubectl(User::Agent, &patch);
    // The API server takes no more than 256 KiB of annotations; Tagout, less.
    outcome.is_refused(&["Too long"]);
    let less = json!(vec![json!({"action": "Delete"}); 10_000]).to_string();
    assert!(less.len() < 250_000);
    let manifest =
        json!({"metadata": {"labels": {"tagout.dev/approval": ""}, "annotations": {"tagout.dev/approval": less}}});
    std::fs::write(&file, manifest.to_string()).unwrap();
    let outcome = namespace.kubectl(User::Agent, &patch);
    outcome.is_refused(&["bytes long and at most 65536 are read"]);
    namespace.kubectl(User::Agent, &["delete", &what]).is_refused(&["denied Delete"]);
}

#[test]
fn junk_beside_it_does_not_take_a_true_statement_along() {
    let (namespace, name, statement) = case("signed", "junk");
    let mut junk = statement.clone();
    junk["signature"] = json!("LGTM");
    let mut list = vec![junk; 63];
    list.push(signed(statement, "alice"));
    passes(&namespace, &name, &json!(list));
}

/// An agent that may impersonate is that person to the API server: the proof `Identity` cannot tell. A signature can.
#[test]
fn an_impersonated_alice_passes_identity_and_neither_signature_nor_hardware_key() {
    let as_alice = ["--as", User::Alice.name(), "--as-group", "senior-sre", "--as-group", "system:masters"];
    for (rule, passes) in [("plain", true), ("signed", false), ("touched", false), ("two", false)] {
        let (namespace, name, mut statement) = case(rule, "impersonated");
        statement["epoch"] = json!(namespace.world.epoch());
        statement["team"] = json!(if passes { "approvers" } else { crate::signing::TEAM });
        let what = format!("deployment/{name}");
        let patch = crate::world::presenting(&json!([statement]).to_string());
        let present = ["patch", &what, "--type=merge", "--field-manager=tagout-approval", "-p", &patch];
        namespace.kubectl(User::Agent, &[&present[..], &as_alice].concat()).succeeds();
        let create = ["create", "--field-manager=tagout-approval", "-f", "-"];
        let object = crate::world::approval_object(&statement).to_string();
        namespace.world.kubectl_with(User::Agent, &[&create[..], &as_alice].concat(), &object).succeeds();
        let outcome = namespace.kubectl(User::Agent, &["delete", &what]);
        if passes {
            outcome.succeeds();
        } else {
            outcome.is_refused(&["wants it signed"]);
            // Neither may she, impersonated, give herself a key.
            let mut team = namespace.world.get(&["approverteam/signers"]);
            let line = key("stranger").line();
            team["spec"]["members"][0]["keys"].as_array_mut().unwrap().push(json!({"publicKey": line}));
            let apply = ["replace", "-f", "-"];
            namespace
                .world
                .kubectl_with(User::Agent, &[&apply[..], &as_alice].concat(), &team.to_string())
                .is_refused(&["may sign with another key"]);
        }
    }
}
