use jiff::Timestamp;
use thiserror::Error;

use super::approval::CLOCK_SKEW;
use super::needs::Requester;
use super::{Rules, Subject};
use crate::api::{APPROVAL_MANAGER, MAX_VALID_FOR, SYSTEM_PREFIX, Statement, StatementError, read_statements};

/// A write after which an object presents statements that it did not present before.
#[derive(Debug)]
pub struct Presenting<'a> {
    /// The object as it will be.
    pub subject: Subject<'a>,
    /// What the object said before, if it presented it: that was checked when it was written.
    pub before: Option<&'a str>,
    pub subresource: &'a str,
    pub field_manager: &'a str,
    /// Whether the object's deletion is under way.
    pub terminating: bool,
    /// Where else the write changes the object.
    pub other_changes: Vec<String>,
    pub requester: Requester<'a>,
}

/// Why a statement may not be presented. One name for each check.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PresentingError {
    #[error("the annotation tagout.dev/approval cannot be read: {0}")]
    Unreadable(StatementError),
    #[error("an approval is written on the object itself, not through its subresource {0}")]
    Subresource(String),
    #[error("its deletion is under way already, and nothing is left to approve")]
    TooLate,
    #[error("an approval is given by an act of its own and this write was not one; use `kubectl tagout approve`")]
    NotOnPurpose,
    #[error(
        "a write that approves changes nothing else, and this one changes {0}; use `kubectl tagout \
             approve`. If this restores an earlier state, take the label tagout.dev/approval off first"
    )]
    ChangesMore(String),
    #[error("the statement names {named} as its approver and you are {caller}; approve in your own name")]
    OtherPerson { named: String, caller: String },
    #[error("{0} is an account of a machine, and only a person approves; use an account that is yours alone")]
    NotAPerson(String),
    #[error("there is no team {0}; see `kubectl get approverteams`")]
    NoSuchTeam(String),
    #[error("you are not in team {0}; ask one of its people (kubectl get approverteam {0} -o yaml)")]
    NotInTeam(String),
    #[error("the statement names {0}, not this object")]
    OtherName(String),
    #[error("the statement names another cluster")]
    OtherCluster,
    #[error("the statement is dated {0}, which is not now; check this machine's clock and approve again")]
    NotNow(Timestamp),
    #[error("the statement is good for longer than {MAX_VALID_FOR:#}, the longest that is accepted")]
    TooLong,
}

pub fn check_presented(write: &Presenting, rules: &Rules, now: Timestamp) -> Result<(), PresentingError> {
    let statements = match write.subject.statements.as_deref() {
        Some(text) => read_statements(text).map_err(PresentingError::Unreadable)?,
        None => return Ok(()),
    };
    let before = write.before.and_then(|text| read_statements(text).ok()).unwrap_or_default();
    // What is about another object or expired is worth nothing here: controllers copy annotations, backups and rollbacks
    // restore them.
    let mut new = statements
        .iter()
        .filter(|statement| {
            statement.uid == write.subject.uid && statement.expires > now && !before.contains(statement)
        })
        .peekable();
    if new.peek().is_some() {
        is_an_act_of_its_own(write)?;
    }
    new.try_for_each(|statement| {
        is_the_callers(statement, write)?;
        is_by_a_person_of_the_team(statement, write, rules)?;
        names_this_object(statement, &write.subject, rules)?;
        has_sane_times(statement, now)
    })
}

fn is_an_act_of_its_own(write: &Presenting) -> Result<(), PresentingError> {
    // An approval given afterwards would let what hangs on the object follow it.
    if write.terminating {
        return Err(PresentingError::TooLate);
    }
    if !write.subresource.is_empty() {
        return Err(PresentingError::Subresource(write.subresource.to_owned()));
    }
    if !write.other_changes.is_empty() {
        let some: Vec<_> = write.other_changes.iter().take(5).map(String::as_str).collect();
        return Err(PresentingError::ChangesMore(some.join(", ")));
    }
    if write.field_manager != APPROVAL_MANAGER {
        return Err(PresentingError::NotOnPurpose);
    }
    Ok(())
}

fn is_the_callers(statement: &Statement, write: &Presenting) -> Result<(), PresentingError> {
    let caller = write.requester.name;
    if caller.is_empty() || caller.starts_with(SYSTEM_PREFIX) {
        return Err(PresentingError::NotAPerson(caller.to_owned()));
    }
    if statement.approver != caller {
        return Err(PresentingError::OtherPerson { named: statement.approver.clone(), caller: caller.to_owned() });
    }
    Ok(())
}

/// Membership is known only now: at use, the groups of the person who approved are not there to be seen.
fn is_by_a_person_of_the_team(statement: &Statement, write: &Presenting, rules: &Rules) -> Result<(), PresentingError> {
    let team = rules.teams.get(&statement.team).ok_or_else(|| PresentingError::NoSuchTeam(statement.team.clone()))?;
    let groups: Vec<_> = write.requester.groups.iter().filter(|group| !group.starts_with(SYSTEM_PREFIX)).collect();
    if team.has(write.requester.name, &groups) {
        return Ok(());
    }
    Err(PresentingError::NotInTeam(statement.team.clone()))
}

fn names_this_object(statement: &Statement, subject: &Subject, rules: &Rules) -> Result<(), PresentingError> {
    if statement.cluster != rules.cluster {
        return Err(PresentingError::OtherCluster);
    }
    if subject.is_named_by(statement) { Ok(()) } else { Err(PresentingError::OtherName(statement.object())) }
}

/// Ten minutes back: a person may read for a while between the question and the answer.
fn has_sane_times(statement: &Statement, now: Timestamp) -> Result<(), PresentingError> {
    let age = now.duration_since(statement.approved_at);
    if age < -CLOCK_SKEW || age > jiff::SignedDuration::from_mins(10) {
        return Err(PresentingError::NotNow(statement.approved_at));
    }
    let life = statement.expires.duration_since(statement.approved_at);
    if life > MAX_VALID_FOR {
        return Err(PresentingError::TooLong);
    }
    Ok(())
}
