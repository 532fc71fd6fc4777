//! What users write: rules, teams, and the statements by which people approve.

mod action;
mod approval;
mod budget;
mod freeze;
mod ledger;
mod period;
mod record;
mod rule;
mod statement;
mod team;
mod text;

use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use action::Action;
pub use approval::{Approval, ApprovalSpec, approval_name};
pub use budget::{Budget, Per};
pub use freeze::Freeze;
pub use ledger::{Lapse, Ledger, LedgerEntry, LedgerSpec};
pub use period::Period;
pub use record::{Deletion, DeletionRecord, DeletionRecordSpec, OwnerRecord, record_name};
pub use rule::{
    ApprovalTerms, BreakGlass, BudgetStatus, Exception, FreezeStatus, MatchCondition, Mode, Owned, Proof,
    ProtectionRule, ProtectionRuleSpec, ProtectionRuleStatus, Recreation, Requirement, ResourceRule, RuleFailurePolicy,
    Tolerate,
};
pub use statement::{
    DELETED, MAX_STATEMENT_BYTES, MAX_STATEMENTS, NEW_UID, Protects, Scope, Statement, StatementError, Statements,
    read_statements,
};
pub use team::{ApproverTeam, ApproverTeamSpec, ApproverTeamStatus, Member, MemberKey, Revocation};
pub use text::{Unsignable, sha256};

pub const GROUP: &str = "tagout.dev";

/// The label that presents the statements of an object, and the annotation that holds them.
pub const APPROVAL: &str = "tagout.dev/approval";

/// The field manager of whoever approves. The writer's own client chooses it; a manifest that somebody slipped a
/// statement into, or a policy that mutates, cannot.
pub const APPROVAL_MANAGER: &str = "tagout-approval";

/// No statement may live longer than this, whatever a rule says: a signature for "some day" is a standing permission.
pub const MAX_VALID_FOR: SignedDuration = SignedDuration::from_hours(168);

/// The longest time for which Tagout's own parts may be changed: enough for an upgrade in a large cluster.
pub const LONGEST_UNLOCK: SignedDuration = SignedDuration::from_hours(1);

/// Names that Kubernetes keeps for its own accounts: controllers, nodes, service accounts and built-in groups.
/// Nobody with such a name is a person.
pub const SYSTEM_PREFIX: &str = "system:";

/// The namespace of SSH signatures under approvals: a signature made for anything else is none.
pub const SIGNATURE_NAMESPACE: &str = "approval@tagout.dev";

/// How people and statements name a kind: `deployments.apps`, or `namespaces` for the core group.
pub fn kind_name(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// The plural and the group in such a name.
pub fn kind_parts(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// What is wrong with JSON, without a word of the JSON itself: serde's own messages quote it.
pub fn json_fault(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends early",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
        serde_json::error::Category::Io => "it cannot be read",
    }
}

/// Identity providers may treat names alike that differ in letter case; two such names never count as two people.
pub fn same_person(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// A person's name without letter case. Up first: `ſ` and `K` (the Kelvin sign) have no other lower case than their own.
pub fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// Text that others wrote, as it may be shown: nothing in it moves the cursor, breaks the line or turns the direction
/// of reading.
pub fn printable(text: &str) -> String {
    let hidden = |character: char| {
        character.is_control()
            || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e01ef}')
    };
    text.chars().map(|character| if hidden(character) { ' ' } else { character }).collect()
}

/// The beginning of what others wrote, in quotation marks: it cannot pass for words of Tagout's own, or fill a screen.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let text = printable(text);
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    format!("{:?}", text.chars().take(LONGEST).chain("…".chars()).collect::<String>())
}

/// The definitions that the chart installs, in the order in which they are installed.
pub fn crds() -> [CustomResourceDefinition; 5] {
    [Approval::crd(), ApproverTeam::crd(), DeletionRecord::crd(), Ledger::crd(), ProtectionRule::crd()]
}

/// The definitions as the chart has them in `crds/`.
pub fn crds_yaml() -> anyhow::Result<String> {
    let mut text = String::from("# Generated by `make generate` from src/api; do not edit.\n");
    for crd in crds() {
        // Through JSON, whose maps are sorted: the same types always give the same file.
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&serde_json::to_value(crd)?)?);
    }
    Ok(text)
}
