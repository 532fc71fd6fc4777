//! Statements that were put on an object by any other way than their approver's own act open nothing.

use controlplane::User;
use rstest::rstest;
use serde_json::{Value, json};

use crate::approvals::{needing, under};
use crate::world::{Namespace, Outcome, deployment, presenting, shared, text};

const OWN_NAME: &str = "approve in your own name";
const OWN_ACT: &str = "an approval is given by an act of its own";

#[rstest]
#[case::by_the_agent(User::Agent)]
#[case::by_ci(User::Ci)]
#[case::by_a_person_outside_the_team(User::Carol)]
#[case::by_another_approver(User::Bob)]
fn a_statement_written_in_alices_name(#[case] attacker: User) {
    let target = Target::new();
    let statement = target.statement();
    target.present(attacker, &json!([statement])).is_refused(&["(Forbidden)", OWN_NAME]);
    target.survives();
}

#[rstest]
#[case::by_a_person_outside_the_team(User::Carol)]
#[case::by_ci(User::Ci)]
#[case::by_the_agent(User::Agent)]
fn a_statement_written_in_ones_own_name(#[case] attacker: User) {
    let target = Target::new();
    let mut statement = target.statement();
    statement["approver"] = json!(attacker.name());
    target.present(attacker, &json!([statement])).is_refused(&["you are not in team approvers"]);
    target.survives();
}

#[test]
fn a_statement_written_by_a_service_account_in_its_own_name() {
    let target = Target::new();
    let (world, namespace) = (shared(), &target.namespace);
    let account = format!("system:serviceaccount:{}:robot", namespace.name);
    namespace.kubectl(User::Admin, &["create", "serviceaccount", "robot"]).succeeds();
    let full_name = format!("--serviceaccount={}:robot", namespace.name);
    let binding = ["create", "clusterrolebinding", &namespace.name, "--clusterrole=cluster-admin", &full_name];
    world.kubectl(User::Admin, &binding).succeeds();
    let token = namespace.kubectl(User::Admin, &["create", "token", "robot"]).succeeds().out;
    let kubeconfig = world.cp.write_kubeconfig(&namespace.name, token.trim()).expect("a kubeconfig");

    let mut statement = target.statement();
    for name in [account.as_str(), User::Alice.name()] {
        statement["approver"] = json!(name);
        let patch = presenting(&json!([statement]).to_string());
        let mut kubectl = world.cp.kubectl_with(&kubeconfig);
        kubectl.args(["-n", &namespace.name, "patch", &target.what, "--type=merge", APPROVING, "-p", &patch]);
        Outcome::of(&mut kubectl, "").is_refused(&["only a person approves"]);
    }
    target.survives();
}

#[rstest]
#[case::a_service_account(&json!({"members": [{"user": "system:serviceaccount:ci:robot"}]}), "accounts of machines")]
#[case::all_service_accounts(&json!({"groups": ["system:serviceaccounts"]}), "name a group of people")]
#[case::everyone(&json!({"groups": ["system:authenticated"]}), "name a group of people")]
fn a_team_of_machines(#[case] spec: &Value, #[case] words: &str) {
    let team = json!({
        "apiVersion": "tagout.dev/v1alpha1",
        "kind": "ApproverTeam",
        "metadata": {"name": "machines"},
        "spec": spec,
    });
    shared().apply(User::Agent, &team).is_refused(&[words]);
}

#[rstest]
#[case::by_the_agent(User::Agent)]
#[case::by_alice_herself(User::Alice)]
fn a_statement_written_through_status_on_a_labelled_object(#[case] writer: User) {
    let target = Target::new();
    target.kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval=true"]).succeeds();
    let statement = target.statement();
    target.through_status(writer, &json!([statement])).is_refused(&["not through its subresource status"]);
    target.survives();
}

#[test]
fn a_statement_written_through_status_and_labelled_afterwards() {
    let target = Target::new();
    let statement = target.statement();
    // A Deployment's status drops the label, so nothing is presented yet.
    target.through_status(User::Agent, &json!([statement]));
    assert!(target.annotation().contains("alice@example.com"), "it is written");
    target.survives();
    target.kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval=true"]).is_refused(&[OWN_ACT]);
    target.kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval=", APPROVING]).is_refused(&[OWN_NAME]);
    target.survives();
}

#[test]
fn an_annotation_without_the_label() {
    let target = Target::new();
    target.annotate(User::Agent, &json!([target.statement()])).succeeds();
    target.survives().is_refused(&["nobody was seen to give it"]);
}

#[test]
fn an_annotation_before_the_label_by_the_attacker() {
    let target = Target::new();
    target.annotate(User::Agent, &json!([target.statement()])).succeeds();
    target
        .kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval=true", APPROVING])
        .is_refused(&[OWN_NAME]);
    target.survives();
}

#[test]
fn an_annotation_by_the_attacker_before_a_label_by_alice() {
    let target = Target::new();
    target.annotate(User::Agent, &json!([target.statement()])).succeeds();
    target.kubectl(User::Alice, &["label", &target.what, "tagout.dev/approval=true"]).is_refused(&[OWN_ACT]);
    target.survives();
}

#[rstest]
#[case::by_the_agent(User::Agent)]
#[case::by_alice_who_applies_it(User::Alice)]
fn a_statement_on_creation_with_a_uid_of_the_attackers_choice(#[case] creator: User) {
    let target = Target::new();
    let mut statement = target.statement();
    statement["uid"] = json!("11111111-2222-3333-4444-555555555555");
    statement["name"] = json!("planted");
    let mut manifest = marked(deployment("planted"), &json!([statement]));
    manifest["metadata"]["uid"] = statement["uid"].clone();
    let create = ["-n", &target.namespace.name, "create", APPROVING, "-f", "-"];
    shared().kubectl_with(creator, &create, &manifest.to_string()).succeeds();
    Target::of(target.namespace, "deployment/planted").survives().is_refused(&["had this name before"]);
}

#[test]
fn a_statement_copied_from_an_approved_object() {
    let approved = Target::new();
    approved.present(User::Alice, &json!([approved.statement()])).succeeds();
    let annotation = approved.annotation();
    approved.namespace.deployment("other");
    let other = Target::of(approved.namespace, "deployment/other");
    // Controllers copy annotations too: such a write is worth nothing and disturbs nobody.
    other.present_text(User::Agent, &annotation).succeeds();
    other.survives().is_refused(&["had this name before"]);
    other.present_text(User::Agent, &annotation.replace(&approved.uid, &other.uid)).is_refused(&[OWN_NAME]);
    other.survives();
}

#[test]
fn a_statement_slipped_into_a_manifest_that_alice_applies() {
    let target = Target::applied_by(User::Alice);
    let slipped = marked(deployment("api"), &json!([target.statement()]));
    target.namespace.apply(User::Alice, &slipped).is_refused(&["tagout: this approval", "not accepted"]);
    target.survives();
}

#[test]
fn a_statement_slipped_into_a_manifest_that_alice_applies_on_the_server() {
    let target = Target::new();
    let slipped = marked(deployment("api"), &json!([target.statement()]));
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=laptop", "-f", "-"];
    target.kubectl_with(User::Alice, &apply, &slipped.to_string()).is_refused(&[OWN_ACT]);
    target.survives();
}

#[test]
fn a_statement_slipped_into_a_manifest_that_alice_applies_as_an_approver_with_another_image() {
    let target = Target::new();
    let mut slipped = marked(deployment("api"), &json!([target.statement()]));
    slipped["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.com/main:2");
    let apply = ["apply", "--server-side", "--force-conflicts", APPROVING, "-f", "-"];
    target
        .kubectl_with(User::Alice, &apply, &slipped.to_string())
        .is_refused(&["changes nothing else, and this one changes spec;"]);
    target.survives();
}

#[test]
fn a_statement_whose_life_was_extended_after_it_was_accepted() {
    let target = Target::new();
    let mut statement = target.statement();
    target.present(User::Alice, &json!([statement])).succeeds();
    statement["expires"] = json!((jiff::Timestamp::now() + jiff::SignedDuration::from_mins(29)).to_string());
    target.present(User::Agent, &json!([statement])).is_refused(&[OWN_NAME]);
    assert!(!target.annotation().contains(&text(&statement["expires"])));
}

#[test]
fn a_statement_whose_requester_was_removed_after_it_was_accepted() {
    let target = Target::new();
    let mut statement = target.statement();
    statement["requester"] = json!(User::Ci.name());
    target.present(User::Alice, &json!([statement])).succeeds();
    for requester in [Some(User::Agent.name()), None] {
        statement["requester"] = json!(requester);
        target.present(User::Agent, &json!([statement])).is_refused(&[OWN_NAME]);
    }
    target.survives().is_refused(&["it is for a request by \"ci-deployer\""]);
}

#[test]
fn a_label_taken_off_and_put_back() {
    let target = Target::new();
    target.present(User::Alice, &json!([target.statement()])).succeeds();
    target.kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval-"]).succeeds();
    target.survives();
    target
        .kubectl(User::Agent, &["label", &target.what, "tagout.dev/approval=true", APPROVING])
        .is_refused(&[OWN_NAME]);
    target.survives();
}

#[test]
fn an_accepted_statement_duplicated_64_times_under_a_rule_for_two() {
    let target = Target::for_two();
    let statement = target.statement();
    target.present(User::Alice, &json!([statement])).succeeds();
    target.present(User::Agent, &json!(vec![statement; 64])).succeeds();
    target.survives().is_refused(&["needs approval by 1 more of approvers (has alice@example.com)"]);
}

#[test]
fn two_statements_by_one_person_under_a_rule_for_two() {
    let target = Target::for_two();
    let statement = target.statement();
    let mut again = statement.clone();
    again["reason"] = json!("twice");
    target.present(User::Alice, &json!([statement, again])).succeeds();
    target.survives().is_refused(&["needs approval by 1 more of approvers (has alice@example.com)"]);
}

#[rstest]
#[case::status("status")]
#[case::finalize("finalize")]
fn a_namespace_approved_through_its_subresource(#[case] subresource: &str) {
    let namespace = shared().production();
    let what = format!("namespace/{}", namespace.name);
    let statement = namespace.statement(&what, User::Alice);
    let slipped = marked(namespace.get(&what), &json!([statement])).to_string();
    let path = format!("/api/v1/namespaces/{}/{subresource}", namespace.name);
    for writer in [User::Agent, User::Alice] {
        let through = format!("{path}?fieldManager=tagout-approval");
        shared()
            .kubectl_with(writer, &["replace", "--raw", &through, "-f", "-"], &slipped)
            .is_refused(&[&format!("not through its subresource {subresource}")]);
    }
    let denial = namespace.kubectl(User::Agent, &["delete", &what]);
    denial.is_refused(&["needs approval by 1 of approvers (rules production"]);
    assert_eq!(namespace.get(&what)["status"]["phase"], "Active");
}

#[test]
fn who_may_impersonate_an_approver_can_approve_which_identity_cannot_prevent() {
    let target = Target::new();
    let patch = presenting(&json!([target.statement()]).to_string());
    let patch = ["patch", &target.what, "--type=merge", APPROVING, "-p", &patch];
    let as_alice = ["--as=alice@example.com", "--as-group=senior-sre"];
    target.kubectl(User::Agent, &[&patch[..], &as_alice].concat()).succeeds();
    target.kubectl(User::Agent, &["delete", &target.what]).succeeds();
}

#[test]
fn an_approval_in_a_dry_run() {
    let target = Target::new();
    let patch = presenting(&json!([target.statement()]).to_string());
    target
        .kubectl(User::Alice, &["patch", &target.what, "--type=merge", APPROVING, "--dry-run=server", "-p", &patch])
        .succeeds();
    assert_eq!(target.annotation(), "");
    target.survives();
}

pub const APPROVING: &str = "--field-manager=tagout-approval";

/// What is attacked.
pub struct Target {
    pub namespace: Namespace<'static>,
    pub what: String,
    pub uid: String,
}

impl Target {
    /// A Deployment in a production namespace.
    pub fn new() -> Self {
        Self::applied_by(User::Admin)
    }

    fn applied_by(user: User) -> Self {
        let namespace = shared().production();
        namespace.apply(user, &deployment("api")).succeeds();
        Self::of(namespace, "deployment/api")
    }

    /// A Deployment under a rule that asks for two people.
    fn for_two() -> Self {
        let namespace = under(&[needing("for-two", "for-two", &json!([{"anyOf": ["approvers"], "count": 2}]))]);
        namespace.deployment("api");
        Self::of(namespace, "deployment/api")
    }

    pub fn of(namespace: Namespace<'static>, what: &str) -> Self {
        let uid = text(&namespace.get(what)["metadata"]["uid"]);
        Self { namespace, what: what.to_owned(), uid }
    }

    /// A statement that would be accepted if alice presented it.
    pub fn statement(&self) -> Value {
        self.namespace.statement(&self.what, User::Alice)
    }

    pub fn present(&self, user: User, statements: &Value) -> Outcome {
        self.present_text(user, &statements.to_string())
    }

    /// Label and annotation as an approval writes them, from a file: an argument cannot be that long.
    pub fn present_text(&self, user: User, annotation: &str) -> Outcome {
        let patch = ["patch", &self.what, "--type=merge", APPROVING, "--patch-file=/dev/stdin"];
        self.kubectl_with(user, &patch, &presenting(annotation))
    }

    fn through_status(&self, user: User, statements: &Value) -> Outcome {
        let patch = presenting(&statements.to_string());
        self.kubectl(user, &["patch", &self.what, "--subresource=status", "--type=merge", APPROVING, "-p", &patch])
    }

    fn annotate(&self, user: User, statements: &Value) -> Outcome {
        self.kubectl(user, &["annotate", &self.what, &format!("tagout.dev/approval={statements}")])
    }

    pub fn annotation(&self) -> String {
        text(&self.namespace.get(&self.what)["metadata"]["annotations"]["tagout.dev/approval"])
    }

    pub fn kubectl(&self, user: User, args: &[&str]) -> Outcome {
        self.namespace.kubectl(user, args)
    }

    pub fn kubectl_with(&self, user: User, args: &[&str], input: &str) -> Outcome {
        shared().kubectl_with(user, &[&["-n", &self.namespace.name], args].concat(), input)
    }

    /// The agent's deletion is refused by Tagout and the object is still there, the same one.
    #[track_caller]
    pub fn survives(&self) -> Outcome {
        let denial = self.kubectl(User::Agent, &["delete", &self.what, "--wait=false"]);
        let denial = denial.is_refused(&["tagout: denied Delete of ", "needs approval by "]);
        let live = self.namespace.get(&self.what);
        assert_eq!(text(&live["metadata"]["uid"]), self.uid);
        assert!(live["metadata"]["deletionTimestamp"].is_null());
        denial
    }
}

/// The manifest with label and annotation in it.
fn marked(mut manifest: Value, statements: &Value) -> Value {
    manifest["metadata"]["labels"]["tagout.dev/approval"] = json!("true");
    manifest["metadata"]["annotations"]["tagout.dev/approval"] = json!(statements.to_string());
    manifest
}
