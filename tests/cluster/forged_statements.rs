//! Statements that are wrong in themselves, and annotations that are no statements, open nothing and are never echoed.

use controlplane::User;
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use crate::approvals::team;
use crate::plantings::{APPROVING, Target};
use crate::world::{presenting, shared};

const MARKER: &str = "hunter2-in-the-junk";

#[rstest]
#[case::dated_in_the_future("approvedAt", from_now(5), "which is not now")]
#[case::dated_an_hour_ago("approvedAt", from_now(-60), "which is not now")]
#[case::good_for_eight_days("expires", from_now(8 * 24 * 60), "longer than 168h")]
#[case::for_another_cluster("cluster", json!(OTHER_UID), "names another cluster")]
#[case::for_another_resource("resource", json!("statefulsets.apps"), "not this object")]
#[case::for_another_group("resource", json!("deployments.extensions"), "not this object")]
#[case::for_another_name("name", json!("web"), "not this object")]
#[case::for_another_namespace("namespace", json!("payments"), "not this object")]
#[case::for_no_namespace("namespace", json!(""), "not this object")]
#[case::for_an_unknown_action("action", json!("Erase"), "cannot be read")]
#[case::in_the_name_of_a_team_that_does_not_exist("team", json!("phantoms"), "there is no team \"phantoms\"")]
#[case::in_the_name_of_no_team("team", json!(""), "there is no team")]
#[case::in_the_name_of_nobody("approver", json!(""), "approve in your own name")]
#[case::in_another_persons_name("approver", json!("bob@example.com"), "approve in your own name")]
#[case::in_her_own_name_in_other_letters("approver", json!("Alice@example.com"), "approve in your own name")]
#[case::with_a_field_nobody_knows("unlimited", json!(true), "cannot be read")]
fn a_statement_by_alice_herself(#[case] field: &str, #[case] value: Value, #[case] words: &str) {
    let target = Target::new();
    let mut statement = target.statement();
    statement[field] = value;
    target.present(User::Alice, &json!([statement])).is_refused(&["(Forbidden)", words]);
    assert_eq!(target.annotation(), "");
    target.survives();
}

#[test]
fn a_statement_by_alice_herself_in_the_name_of_a_team_she_is_not_in() {
    team("forged-dba", &[User::Carol]);
    let target = Target::new();
    let mut statement = target.statement();
    statement["team"] = json!("forged-dba");
    target.present(User::Alice, &json!([statement])).is_refused(&["you are not in team forged-dba"]);
    target.survives();

    // Carol is in it, and the rule does not ask that team.
    statement["approver"] = json!(User::Carol.name());
    target.present(User::Carol, &json!([statement])).succeeds();
    target.survives().is_refused(&["\"forged-dba\" is not asked by rule production"]);
}

#[test]
fn a_statement_by_alice_herself_for_another_uid() {
    let target = Target::new();
    let mut statement = target.statement();
    statement["uid"] = json!(OTHER_UID);
    // Controllers copy annotations, so the write passes, and is worth nothing.
    target.present(User::Alice, &json!([statement])).succeeds();
    target.survives().is_refused(&[&format!("(UID {OTHER_UID:?})")]);
}

#[test]
fn a_statement_by_alice_herself_that_has_expired() {
    let target = Target::new();
    let mut statement = target.statement();
    statement["expires"] = from_now(-1);
    // Rollbacks restore annotations, so the write passes, and is worth nothing.
    target.present(User::Alice, &json!([statement])).succeeds();
    target.survives().is_refused(&["it expired at"]);
}

#[rstest]
#[case::text_that_is_not_json(MARKER, "it is not JSON")]
#[case::nothing("", "it ends early")]
#[case::an_object_instead_of_a_list(&json!({"approver": MARKER}).to_string(), "of the wrong type")]
#[case::an_action_of_its_own(&json!([{"action": MARKER}]).to_string(), "cannot be read")]
#[case::a_field_of_its_own(&json!([{ MARKER: true }]).to_string(), "cannot be read")]
#[case::two_hundred_kilobytes_of_nesting(&format!("{}{MARKER}", "[".repeat(200 * 1024)), "bytes long")]
#[case::sixty_kilobytes_of_nesting(&format!("{}{MARKER}", "[".repeat(60 * 1024)), "cannot be read")]
fn an_annotation_of(#[case] junk: &str, #[case] words: &str) {
    let target = Target::new();
    let said = target.present_text(User::Agent, junk).is_refused(&["(Forbidden)", words]).err;
    assert!(!said.contains(MARKER), "{said}");
    let denial = target.survives().err;
    assert!(!denial.contains(MARKER), "{denial}");

    // Without the label it can be written, and a manifest can bring both into being.
    let annotate = ["patch", &target.what, "--type=merge", "--patch-file=/dev/stdin"];
    let unlabelled = json!({"metadata": {"annotations": {"tagout.dev/approval": junk}}}).to_string();
    target.kubectl_with(User::Agent, &annotate, &unlabelled).succeeds();
    let denial = target.survives().err;
    assert!(!denial.contains(MARKER), "{denial}");
    assert!(!shared().tagout.log().contains(MARKER));
}

#[test]
fn junk_that_an_object_was_created_with() {
    let target = Target::new();
    let mut manifest = crate::world::deployment("junk");
    manifest["metadata"]["labels"]["tagout.dev/approval"] = json!("true");
    manifest["metadata"]["annotations"]["tagout.dev/approval"] = json!(format!("[{{\"{MARKER}\":"));
    target.kubectl_with(User::Agent, &["create", "-f", "-"], &manifest.to_string()).succeeds();
    let junk = Target::of(target.namespace, "deployment/junk");
    let denial = junk.survives().is_refused(&["The approval on it does not count: it is not a list of statements"]);
    assert!(!denial.err.contains(MARKER), "{}", denial.err);
    assert!(!shared().tagout.log().contains(MARKER));
}

#[test]
fn a_list_of_more_statements_than_are_read() {
    let target = Target::new();
    let statement = target.statement();
    target.present(User::Alice, &json!([statement])).succeeds();
    target.present(User::Agent, &json!(vec![&statement; 65])).is_refused(&["it holds 65 statements"]);
    target.present(User::Alice, &json!(vec![&statement; 65])).is_refused(&["it holds 65 statements"]);
}

#[test]
fn a_statement_with_its_uid_given_twice() {
    let target = Target::new();
    let text = json!([target.statement()]).to_string();
    let own = format!("\"uid\":\"{}\"", target.uid);
    for twice in [format!("\"uid\":\"{OTHER_UID}\",{own}"), format!("{own},\"uid\":\"{OTHER_UID}\"")] {
        let doubled = text.replace(&own, &twice);
        assert_ne!(doubled, text);
        for writer in [User::Agent, User::Alice] {
            target.present_text(writer, &doubled).is_refused(&["cannot be read"]);
        }
        target.survives();
    }
}

#[test]
fn an_approval_that_changes_a_secret_is_refused_without_its_contents() {
    let target = Target::new();
    let namespace = &target.namespace;
    namespace.kubectl(User::Admin, &["create", "secret", "generic", "password", "--from-literal=a=old"]).succeeds();
    let mut statement = target.statement();
    statement["uid"] = namespace.get("secret/password")["metadata"]["uid"].clone();
    statement["resource"] = json!("secrets");
    statement["name"] = json!("password");
    let mut patch: Value = serde_json::from_str(&presenting(&json!([statement]).to_string())).expect("JSON");
    patch["data"] = json!({"a": SECRET});
    let patch = patch.to_string();
    let said = namespace
        .kubectl(User::Alice, &["patch", "secret/password", "--type=merge", APPROVING, "-p", &patch])
        .is_refused(&["changes nothing else, and this one changes data; use"])
        .err;
    assert!(!said.contains(SECRET), "{said}");
    assert!(!shared().tagout.log().contains(SECRET));
    assert_eq!(namespace.get("secret/password")["data"]["a"], "b2xk");
    // The same without the change is accepted: it was the change that was refused.
    namespace.present(User::Alice, "secret/password", &json!([statement])).succeeds();
}

const OTHER_UID: &str = "11111111-2222-3333-4444-555555555555";
/// `a very private value`, as Secrets hold it.
const SECRET: &str = "YSB2ZXJ5IHByaXZhdGUgdmFsdWU=";

fn from_now(minutes: i64) -> Value {
    json!((Timestamp::now() + SignedDuration::from_mins(minutes)).to_string())
}
