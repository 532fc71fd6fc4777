use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, json_fault};

/// A named person says that one action on one object may happen, before a time.
///
/// A list of statements is the value of the annotation [`APPROVAL`](super::APPROVAL).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    pub action: Action,
    /// The object's UID: what is made anew under the same name is not approved.
    pub uid: String,
    /// Plural and group, like `deployments.apps`; core kinds have no group, like `namespaces`.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// The UID of the cluster's kube-system namespace.
    pub cluster: String,
    pub approver: String,
    /// The team in whose name the approver speaks.
    pub team: String,
    /// The only user who may act on it; absent: anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub approved_at: Timestamp,
    pub expires: Timestamp,
}

impl Statement {
    /// The object it names, as people read it.
    pub fn object(&self) -> String {
        format!("{} {:?}", self.resource, self.name)
    }
}

/// A statement is about 500 bytes; eight people for each of eight requirements fit, and reading stays cheap.
pub const MAX_STATEMENTS: usize = 64;
pub const MAX_STATEMENT_BYTES: usize = 64 * 1024;

/// Why an annotation's value is no list of statements.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum StatementError {
    #[error("it is {0} bytes long and at most {MAX_STATEMENT_BYTES} are read; remove the annotation and approve anew")]
    TooLong(usize),
    #[error("it holds {0} statements and at most {MAX_STATEMENTS} are read; remove the annotation and approve anew")]
    TooMany(usize),
    #[error("it is not a list of statements ({0}); remove the annotation and approve with `kubectl tagout approve`")]
    Unreadable(String),
}

pub fn read_statements(annotation: &str) -> Result<Vec<Statement>, StatementError> {
    if annotation.len() > MAX_STATEMENT_BYTES {
        return Err(StatementError::TooLong(annotation.len()));
    }
    let statements: Vec<Statement> =
        serde_json::from_str(annotation).map_err(|error| StatementError::Unreadable(place(&error)))?;
    if statements.len() > MAX_STATEMENTS {
        return Err(StatementError::TooMany(statements.len()));
    }
    Ok(statements)
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

    #[test]
    fn a_statement_is_read_and_written_without_loss() {
        let read = read_statements(GOOD).unwrap();
        assert_eq!(read[0].approver, "alice@example.com");
        assert_eq!(read_statements(&serde_json::to_string(&read).unwrap()).unwrap(), read);
    }

    #[test]
    fn a_field_that_this_version_does_not_know_makes_a_statement_unreadable() {
        let text = GOOD.replace("\"uid\"", "\"breakGlass\":true,\"uid\"");
        assert!(matches!(read_statements(&text), Err(StatementError::Unreadable(_))));
    }

    #[test]
    fn a_field_given_twice_makes_a_statement_unreadable() {
        let text = GOOD.replace("\"uid\":\"u\"", "\"uid\":\"u\",\"uid\":\"v\"");
        assert!(matches!(read_statements(&text), Err(StatementError::Unreadable(_))));
    }

    #[test]
    fn an_error_never_quotes_the_annotation() {
        let text = GOOD.replace("\"Delete\"", "\"hunter2\"");
        assert!(!read_statements(&text).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn two_hundred_kilobytes_of_nesting_are_refused_before_they_are_parsed() {
        assert_eq!(read_statements(&"[".repeat(200 * 1024)), Err(StatementError::TooLong(200 * 1024)));
    }

    #[test]
    fn deep_nesting_within_the_limit_is_an_error_and_no_overflow() {
        assert!(matches!(read_statements(&"[".repeat(60 * 1024)), Err(StatementError::Unreadable(_))));
    }

    #[test]
    fn more_statements_than_are_read_is_an_error() {
        let one = GOOD.trim_start_matches('[').trim_end_matches(']').replace(char::is_whitespace, "");
        let many = format!("[{}]", vec![one; 65].join(","));
        assert_eq!(read_statements(&many), Err(StatementError::TooMany(65)));
    }
}
