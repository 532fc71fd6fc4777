use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Action, json_fault, sha256};

/// A named person says that one action on one object may happen, before a time.
///
/// A list of statements is the value of the annotation [`APPROVAL`](super::APPROVAL), and of an
/// [`Approval`](super::Approval).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    pub action: Action,
    /// The object's UID: what is made anew under the same name is not approved. `new` for a rule or team that is to be
    /// created.
    pub uid: String,
    /// Plural and group, like `deployments.apps`; core kinds have no group, like `namespaces`.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// The UID of the cluster's kube-system namespace.
    pub cluster: String,
    /// With proof Identity: the time since which nobody could have planted approvals, as the status of rules names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    pub approver: String,
    /// The team in whose name the approver speaks.
    pub team: String,
    /// The only user who may act on it; absent: anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What may go with the object; absent: it says nothing of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protects: Option<Protects>,
    /// Of a rule, team or definition that is loosened: the hash of the new spec, or `deleted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_spec: Option<String>,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub approved_at: Timestamp,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires: Timestamp,
    /// An emergency: it passes the rule alone, and everybody is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Of a deletion: it is for good. Without this, what was deleted may also be made anew under its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_only: bool,
    #[serde(default, skip_serializing_if = "Scope::is_object")]
    pub scope: Scope,
    /// An SSH signature of the statement's text. Who wrote a signed statement does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What a statement is about: the object it names, or what is in the Namespace it names.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Object,
    Contents,
}

impl Scope {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_object(&self) -> bool {
        *self == Self::Object
    }
}

/// The protected objects that may go with the one that is named. What comes and goes with them by itself (pods,
/// ReplicaSets, Jobs, and Secrets and the like that a controller makes) is not among them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protects {
    /// `sha256:` and the hash of their UIDs, sorted, each followed by a line feed.
    pub digest: String,
    /// The UIDs, where they are few enough to be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<String>,
    /// Kinds of which nobody could tell what would go, like `deployments.apps`, and which may go unseen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<String>,
}

impl Protects {
    /// Longer lists are named by their digest alone: an annotation holds 256 KiB, and a person reads none of it.
    const LISTED: usize = 1000;

    pub fn of(uids: &BTreeSet<String>, unlisted: Vec<String>) -> Self {
        let listed = uids.len() <= Self::LISTED;
        let uids_listed = if listed { uids.iter().cloned().collect() } else { Vec::new() };
        Self { digest: digest(uids), uids: uids_listed, unlisted }
    }

    /// Whether all of these may go. A list that is not what its digest says is nobody's word.
    pub fn names(&self, uids: &BTreeSet<String>) -> bool {
        if self.uids.is_empty() {
            return uids.is_empty() || self.digest == digest(uids);
        }
        let own: BTreeSet<String> = self.uids.iter().cloned().collect();
        self.digest == digest(&own) && uids.is_subset(&own)
    }
}

fn digest(uids: &BTreeSet<String>) -> String {
    let lines: String = uids.iter().flat_map(|uid| [uid, "\n"]).collect();
    sha256(lines.as_bytes())
}

/// The UID of what does not exist yet, and the new spec of what is to exist no more.
pub const NEW_UID: &str = "new";
pub const DELETED: &str = "deleted";

impl Statement {
    /// The object it names, as people read it.
    pub fn object(&self) -> String {
        format!("{} {:?}", self.resource, self.name)
    }
}

/// A statement is about 500 bytes; eight people for each of eight requirements fit, and reading stays cheap.
pub const MAX_STATEMENTS: usize = 64;
pub const MAX_STATEMENT_BYTES: usize = 64 * 1024;

/// Why an annotation's value is no list of statements, or one of the list is none.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum StatementError {
    #[error("it is {0} bytes long and at most {MAX_STATEMENT_BYTES} are read; remove the annotation and approve anew")]
    TooLong(usize),
    #[error("it holds {0} statements and at most {MAX_STATEMENTS} are read; remove the annotation and approve anew")]
    TooMany(usize),
    #[error("it is not a list of statements ({0}); remove the annotation and approve with `kubectl tagout approve`")]
    Unreadable(String),
    #[error(
        "statement {0} of it cannot be read ({1}); remove the annotation and approve with `kubectl tagout approve`"
    )]
    OneUnreadable(usize, String),
}

/// What an annotation says. One statement that cannot be read does not take the others along: anyone may add one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statements {
    pub readable: Vec<Statement>,
    /// Why the first that cannot be read cannot.
    pub error: Option<StatementError>,
}

pub fn read_statements(annotation: &str) -> Statements {
    let nothing = |error| Statements { readable: Vec::new(), error: Some(error) };
    if annotation.len() > MAX_STATEMENT_BYTES {
        return nothing(StatementError::TooLong(annotation.len()));
    }
    let list: Vec<&RawValue> = match serde_json::from_str(annotation) {
        Ok(list) => list,
        Err(error) => return nothing(StatementError::Unreadable(place(&error))),
    };
    if list.len() > MAX_STATEMENTS {
        return nothing(StatementError::TooMany(list.len()));
    }
    let mut statements = Statements::default();
    for (number, one) in list.into_iter().enumerate() {
        match serde_json::from_str(one.get()) {
            Ok(statement) => statements.readable.push(statement),
            Err(error) => {
                statements.error.get_or_insert(StatementError::OneUnreadable(number + 1, place(&error)));
            }
        }
    }
    statements
}

/// Where the text stops being a list of statements.
fn place(error: &serde_json::Error) -> String {
    format!("{} at line {} column {}", json_fault(error), error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[{"action":"Delete","uid":"u","resource":"deployments.apps","namespace":"payments",
        "name":"api","cluster":"c","approver":"alice@example.com","team":"senior-sre",
        "approvedAt":"2026-11-21T10:00:00Z","expires":"2026-11-21T10:30:00Z"}]"#;

    fn error(text: &str) -> StatementError {
        read_statements(text).error.unwrap()
    }

    #[test]
    fn a_statement_is_read_and_written_without_loss() {
        let read = read_statements(GOOD);
        assert_eq!((read.readable[0].approver.as_str(), &read.error), ("alice@example.com", &None));
        assert_eq!(read_statements(&serde_json::to_string(&read.readable).unwrap()), read);
    }

    #[test]
    fn a_field_that_this_version_does_not_know_makes_a_statement_unreadable() {
        let text = GOOD.replace("\"uid\"", "\"unlimited\":true,\"uid\"");
        assert!(matches!(error(&text), StatementError::OneUnreadable(1, _)));
    }

    #[test]
    fn a_field_given_twice_makes_a_statement_unreadable() {
        let text = GOOD.replace("\"uid\":\"u\"", "\"uid\":\"u\",\"uid\":\"v\"");
        assert!(matches!(error(&text), StatementError::OneUnreadable(1, _)));
    }

    #[test]
    fn a_statement_that_cannot_be_read_does_not_take_the_others_along() {
        let text = GOOD.replace('[', "[{}, 7, ");
        let read = read_statements(&text);
        assert_eq!(read.readable, read_statements(GOOD).readable);
        assert!(matches!(read.error, Some(StatementError::OneUnreadable(1, _))));
    }

    #[test]
    fn an_error_never_quotes_the_annotation() {
        let text = GOOD.replace("\"Delete\"", "\"hunter2\"");
        assert!(!error(&text).to_string().contains("hunter2"));
    }

    #[test]
    fn two_hundred_kilobytes_of_nesting_are_refused_before_they_are_parsed() {
        assert_eq!(error(&"[".repeat(200 * 1024)), StatementError::TooLong(200 * 1024));
    }

    #[test]
    fn deep_nesting_within_the_limit_is_an_error_and_no_overflow() {
        assert!(matches!(error(&"[".repeat(60 * 1024)), StatementError::Unreadable(_)));
        let inside = format!("[{}{}]", "[".repeat(30_000), "]".repeat(30_000));
        assert!(read_statements(&inside).error.is_some());
    }

    #[test]
    fn more_statements_than_are_read_is_an_error() {
        let one = GOOD.trim_start_matches('[').trim_end_matches(']').replace(char::is_whitespace, "");
        let many = format!("[{}]", vec![one; 65].join(","));
        assert_eq!(error(&many), StatementError::TooMany(65));
        assert!(read_statements(&many).readable.is_empty());
    }
}
