use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::needs::{Subject, is_garbage_collector};
use super::quorum::Person;
use super::{Rule, Rules};
use crate::api::{Action, Statement, quoted, same_person};

/// How far the clocks of an approver's machine, an API server and a replica may be apart. Kubernetes components
/// already need clocks within a minute or so of each other for certificates and leases.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Why a statement does not count for a request. One name for each check.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Flaw {
    #[error("it is about another action")]
    OtherAction,
    #[error("it is for an object that had this name before (UID {})", quoted(.0))]
    OtherObject(String),
    #[error("it names {}, not this object", quoted(.0))]
    OtherName(String),
    #[error("it was given in another cluster")]
    OtherCluster,
    #[error("it is dated {0}, which is still to come")]
    NotYet(Timestamp),
    #[error("it expired at {0}")]
    Expired(Timestamp),
    #[error("it is good for longer than rule {rule} allows ({longest})", longest = minutes(*.longest))]
    TooLong { rule: String, longest: SignedDuration },
    #[error("{} is not asked by rule {rule}", quoted(.team))]
    OtherTeam { rule: String, team: String },
    #[error("there is no team {} any more", quoted(.0))]
    NoSuchTeam(String),
    #[error("nobody approves their own request")]
    OwnRequest,
    #[error("the garbage collector asks, and who had it ask is not known; a person must delete this object itself")]
    UnknownRequester,
    #[error("it is for a request by {}", quoted(.0))]
    OtherRequester(String),
}

/// The people whose statements count, and the statements that do not.
pub(super) struct Valid<'s> {
    pub(super) people: Vec<Person<'s>>,
    pub(super) flaws: Vec<(&'s Statement, Flaw)>,
}

/// What statements are held against.
pub(super) struct Occasion<'a> {
    pub(super) action: Action,
    pub(super) subject: &'a Subject<'a>,
    /// Absent for an owner's deletion, whose requester was checked when it was admitted.
    pub(super) requester: Option<&'a str>,
    pub(super) rules: &'a Rules,
    pub(super) at: Timestamp,
}

pub(super) fn valid_statements<'s>(statements: &'s [Statement], occasion: &Occasion, rule: &Rule) -> Valid<'s> {
    let mut people: BTreeMap<String, Person<'s>> = BTreeMap::new();
    let mut flaws = Vec::new();
    for statement in statements {
        match check(statement, occasion, rule) {
            Ok(()) => {
                people
                    .entry(statement.approver.to_lowercase())
                    .or_insert_with(|| Person { name: &statement.approver, teams: [].into() })
                    .teams
                    .insert(&statement.team);
            }
            Err(flaw) => flaws.push((statement, flaw)),
        }
    }
    Valid { people: people.into_values().collect(), flaws }
}

fn check(statement: &Statement, occasion: &Occasion, rule: &Rule) -> Result<(), Flaw> {
    names_this_action(statement, occasion)?;
    names_this_object(statement, occasion.subject)?;
    names_this_cluster(statement, &occasion.rules.cluster)?;
    is_in_time(statement, rule, occasion.at)?;
    speaks_for_a_team_of_the_rule(statement, occasion.rules, rule)?;
    is_not_the_requesters_own(statement, occasion, rule)?;
    allows_this_requester(statement, occasion)
}

fn names_this_action(statement: &Statement, occasion: &Occasion) -> Result<(), Flaw> {
    if statement.action == occasion.action { Ok(()) } else { Err(Flaw::OtherAction) }
}

fn names_this_object(statement: &Statement, subject: &Subject) -> Result<(), Flaw> {
    if statement.uid != subject.uid || subject.uid.is_empty() {
        return Err(Flaw::OtherObject(statement.uid.clone()));
    }
    if subject.is_named_by(statement) { Ok(()) } else { Err(Flaw::OtherName(statement.object())) }
}

fn names_this_cluster(statement: &Statement, cluster: &str) -> Result<(), Flaw> {
    if statement.cluster == cluster && !cluster.is_empty() { Ok(()) } else { Err(Flaw::OtherCluster) }
}

fn is_in_time(statement: &Statement, rule: &Rule, at: Timestamp) -> Result<(), Flaw> {
    if statement.approved_at.duration_since(at) > CLOCK_SKEW {
        return Err(Flaw::NotYet(statement.approved_at));
    }
    if statement.expires <= at {
        return Err(Flaw::Expired(statement.expires));
    }
    if statement.expires.duration_since(statement.approved_at) > rule.valid_for {
        return Err(Flaw::TooLong { rule: rule.name.clone(), longest: rule.valid_for });
    }
    Ok(())
}

fn speaks_for_a_team_of_the_rule(statement: &Statement, rules: &Rules, rule: &Rule) -> Result<(), Flaw> {
    if !rule.require.iter().any(|requirement| requirement.any_of.contains(&statement.team)) {
        return Err(Flaw::OtherTeam { rule: rule.name.clone(), team: statement.team.clone() });
    }
    if rules.teams.contains_key(&statement.team) { Ok(()) } else { Err(Flaw::NoSuchTeam(statement.team.clone())) }
}

fn is_not_the_requesters_own(statement: &Statement, occasion: &Occasion, rule: &Rule) -> Result<(), Flaw> {
    match occasion.requester {
        _ if !rule.separate_from_requester => Ok(()),
        // Whoever hangs an object on an owner and deletes that has the collector ask in its own name.
        Some(requester) if is_garbage_collector(requester) => Err(Flaw::UnknownRequester),
        Some(requester) if same_person(requester, &statement.approver) => Err(Flaw::OwnRequest),
        _ => Ok(()),
    }
}

fn allows_this_requester(statement: &Statement, occasion: &Occasion) -> Result<(), Flaw> {
    match (&statement.requester, occasion.requester) {
        (Some(named), Some(requester)) if named != requester => Err(Flaw::OtherRequester(named.clone())),
        _ => Ok(()),
    }
}

fn minutes(duration: SignedDuration) -> String {
    format!("{duration:#}")
}
