use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::approval::CLOCK_SKEW;
use super::evidence::Epoch;
use super::needs::Requester;
use super::proof::{SignatureFault, Signed};
use super::unlocking::may_be_unlocked_for;
use super::{Rules, Subject};
use crate::api::{
    APPROVAL_MANAGER, Action, MAX_VALID_FOR, SYSTEM_PREFIX, Scope, Statement, StatementError, Unsignable, quoted,
    read_statements,
};

/// A write after which statements stand somewhere that did not stand there before.
#[derive(Debug)]
pub struct Presenting<'a> {
    /// The object as it will be.
    pub subject: Subject<'a>,
    pub place: Place<'a>,
    pub field_manager: &'a str,
    pub requester: Requester<'a>,
}

/// Where statements are written.
#[derive(Debug)]
pub enum Place<'a> {
    /// In the annotation of the object that they are about.
    OnObject {
        /// What the object said before, if it presented it: that was checked when it was written.
        before: Option<&'a str>,
        subresource: &'a str,
        /// Whether the object's deletion is under way.
        terminating: bool,
        /// Where else the write changes the object.
        other_changes: Vec<String>,
    },
    /// In an `Approval`, which holds nothing else.
    Approval {
        /// The name for which the client asked.
        asked: &'a str,
        before: Vec<Statement>,
        now: Vec<Statement>,
    },
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
    #[error("an Approval holds what is said of one action on one object, and is named {0} for this one")]
    OtherApproval(String),
    #[error(
        "this is not the Approval that was sent: something in the cluster changes what people write; ask an administrator"
    )]
    Renamed,
    #[error("the statement names {} as its approver and you are {caller}; approve in your own name", quoted(.named))]
    OtherPerson { named: String, caller: String },
    #[error("{0} is an account of a machine, and only a person approves; use an account that is yours alone")]
    NotAPerson(String),
    #[error("there is no team {}; see `kubectl get approverteams`", quoted(.0))]
    NoSuchTeam(String),
    #[error("you are not in team {0}; ask one of its people (kubectl get approverteam {0} -o yaml)")]
    NotInTeam(String),
    #[error("the statement names {0}, not this object")]
    OtherName(String),
    #[error("only a Namespace has contents that can be approved")]
    NoContents,
    #[error("the statement names another cluster")]
    OtherCluster,
    #[error("{0}; write it without")]
    Unsignable(Unsignable),
    #[error("{0}; sign again with `kubectl tagout approve --sign`")]
    Signature(SignatureFault),
    #[error("a statement that breaks glass says why; give a reason")]
    NoReason,
    #[error(
        "what unlocks Tagout says for whom: name the user who is to change it, and none of Kubernetes' own, with --requester"
    )]
    NoRequester,
    #[error("the statement is dated {0}, which is not now; check this machine's clock and approve again")]
    NotNow(Timestamp),
    #[error("the statement is good for longer than {MAX_VALID_FOR:#}, the longest that is accepted")]
    TooLong,
    #[error("the statement names a time (its epoch) that is over; approve again with `kubectl tagout approve`")]
    EndedEpoch,
    #[error("{0}; approve again in a few seconds")]
    NoEpoch(String),
}

/// How far the clocks of two replicas may be apart, that run in one cluster.
const REPLICAS_APART: SignedDuration = SignedDuration::from_secs(10);

impl Presenting<'_> {
    /// The statements in it that did not stand there before and are worth something there.
    pub fn new_statements(&self, now: Timestamp) -> Result<Vec<Statement>, PresentingError> {
        match &self.place {
            Place::OnObject { before, .. } => {
                let Some(text) = self.subject.statements.as_deref() else { return Ok(Vec::new()) };
                let written = read_statements(text);
                if let Some(error) = written.error {
                    return Err(PresentingError::Unreadable(error));
                }
                let before = before.map(read_statements).unwrap_or_default().readable;
                // What is about another object or long expired is worth nothing here: controllers copy annotations,
                // backups and rollbacks restore them. Not what expired just now: to a slower clock it has not.
                let mut new = written.readable;
                new.retain(|statement| {
                    statement.uid == self.subject.uid
                        && now.duration_since(statement.expires) < REPLICAS_APART
                        && !before.contains(statement)
                });
                Ok(new)
            }
            Place::Approval { before, now, .. } => {
                Ok(now.iter().filter(|one| !before.contains(one)).cloned().collect())
            }
        }
    }

    /// Those that nobody has checked yet. Signed ones prove themselves, whoever writes them.
    fn unchecked(&self, now: Timestamp) -> Result<Vec<Statement>, PresentingError> {
        let mut new = self.new_statements(now)?;
        new.retain(|statement| statement.signature.is_none());
        Ok(new)
    }

    /// Whether there is anything to check for which the epoch must be known.
    pub fn needs_epoch(&self, now: Timestamp) -> bool {
        self.unchecked(now).is_ok_and(|new| !new.is_empty())
    }
}

pub fn check_presented(
    write: &Presenting,
    rules: &Rules,
    epoch: &Epoch,
    now: Timestamp,
) -> Result<(), PresentingError> {
    if let Place::Approval { asked, now: statements, .. } = &write.place {
        is_the_approval_for(statements, &write.subject.name)?;
        is_named_by_its_writer(asked, &write.subject.name)?;
    }
    let new = write.unchecked(now)?;
    if !new.is_empty() {
        is_an_act_of_its_own(write)?;
    }
    new.iter().try_for_each(|statement| {
        is_the_callers(statement, write)?;
        is_by_a_person_of_the_team(statement, write, rules)?;
        names_this_object(statement, write, rules)?;
        can_be_read(statement)?;
        says_for_whom(statement)?;
        has_sane_times(statement, now)?;
        is_of_this_epoch(statement, epoch)
    })?;
    match &write.place {
        Place::Approval { now: statements, .. } => is_no_junk(statements, now),
        Place::OnObject { .. } => Ok(()),
    }
}

fn is_the_approval_for(statements: &[Statement], name: &str) -> Result<(), PresentingError> {
    let other = statements.iter().map(Statement::approval_name).find(|own| own != name);
    other.map_or(Ok(()), |own| Err(PresentingError::OtherApproval(own)))
}

/// A policy that mutates could make an approval of one object one of another; the name that was asked for it cannot
/// change.
fn is_named_by_its_writer(asked: &str, name: &str) -> Result<(), PresentingError> {
    if asked == name { Ok(()) } else { Err(PresentingError::Renamed) }
}

/// Who signs does not matter here, but an Approval is not kept from others by what never counts.
fn is_no_junk(statements: &[Statement], now: Timestamp) -> Result<(), PresentingError> {
    for statement in statements {
        if statement.expires.duration_since(now) > MAX_VALID_FOR + CLOCK_SKEW {
            return Err(PresentingError::TooLong);
        }
        if let Some(signature) = &statement.signature {
            Signed::read(signature).map_err(PresentingError::Signature)?;
        }
    }
    Ok(())
}

fn is_an_act_of_its_own(write: &Presenting) -> Result<(), PresentingError> {
    if let Place::OnObject { subresource, terminating, other_changes, .. } = &write.place {
        // An approval given afterwards would let what hangs on the object follow it.
        if *terminating {
            return Err(PresentingError::TooLate);
        }
        if !subresource.is_empty() {
            return Err(PresentingError::Subresource((*subresource).to_owned()));
        }
        if !other_changes.is_empty() {
            let some: Vec<_> = other_changes.iter().take(5).map(String::as_str).collect();
            return Err(PresentingError::ChangesMore(some.join(", ")));
        }
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

fn names_this_object(statement: &Statement, write: &Presenting, rules: &Rules) -> Result<(), PresentingError> {
    if statement.cluster != rules.cluster {
        return Err(PresentingError::OtherCluster);
    }
    if statement.scope == Scope::Contents && statement.resource != "namespaces" {
        return Err(PresentingError::NoContents);
    }
    let named = matches!(write.place, Place::Approval { .. }) || write.subject.is_named_by(statement);
    if named { Ok(()) } else { Err(PresentingError::OtherName(statement.object())) }
}

fn can_be_read(statement: &Statement) -> Result<(), PresentingError> {
    statement.text().map_err(PresentingError::Unsignable)?;
    if statement.break_glass && statement.reason.is_none() { Err(PresentingError::NoReason) } else { Ok(()) }
}

fn says_for_whom(statement: &Statement) -> Result<(), PresentingError> {
    let named = statement.requester.as_deref().is_some_and(may_be_unlocked_for);
    if statement.action != Action::Unlock || named { Ok(()) } else { Err(PresentingError::NoRequester) }
}

fn is_of_this_epoch(statement: &Statement, epoch: &Epoch) -> Result<(), PresentingError> {
    match epoch {
        Epoch::Current(current) if statement.epoch.as_ref() == Some(current) => Ok(()),
        Epoch::Current(_) => Err(PresentingError::EndedEpoch),
        Epoch::None(why) => Err(PresentingError::NoEpoch(why.clone())),
    }
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

#[cfg(test)]
#[path = "presenting_tests.rs"]
mod tests;
