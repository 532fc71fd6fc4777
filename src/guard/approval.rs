use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::carried::Carried;
use super::evidence::{Epoch, Source};
use super::needs::{Subject, is_garbage_collector};
use super::proof::{Gesture, Key, SignatureFault, Signed};
use super::quorum::Person;
use super::team::{People, Team};
use super::{Rule, Rules};
use crate::api::{
    Action, LONGEST_UNLOCK, MAX_VALID_FOR, Proof, SYSTEM_PREFIX, Scope, Statement, Unsignable, quoted, same_person,
};

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
    #[error("it is for what is in a namespace, not for the namespace itself")]
    OnlyContents,
    #[error("it is for the namespace itself, not for what is in it")]
    NotContents,
    #[error("it is for another change than this one")]
    OtherChange,
    #[error("it was given in another cluster")]
    OtherCluster,
    #[error("{0}")]
    Unsignable(#[from] Unsignable),
    #[error("what goes along was not looked up")]
    NotLooked,
    #[error("it names nothing that may go along, and {0} protected {objects} would", objects = objects(*.0))]
    NothingNamed(usize),
    #[error("something protected goes along that it does not name; look at it again and approve anew")]
    NotNamed,
    #[error("it does not accept that nobody could tell which {0} go along")]
    Unlisted(String),
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
    #[error("its approver is not in team {} any more", quoted(.0))]
    NotInTeam(String),
    #[error("it was revoked")]
    Revoked,
    #[error("{} is an account of a machine, and only a person approves", quoted(.0))]
    NotAPerson(String),
    #[error("rule {0} wants it signed; use kubectl tagout approve --sign")]
    Unsigned(String),
    #[error("rule {0} wants it signed with a hardware key")]
    NotHardware(String),
    #[error("nobody touched the hardware key for it")]
    NotPresent,
    #[error("rule {0} wants the hardware key to check a PIN or fingerprint, and it did not")]
    NotVerified(String),
    #[error("{0}")]
    Signature(#[from] SignatureFault),
    #[error("it is signed with a key that team {} does not list for this person", quoted(.0))]
    UnknownKey(String),
    #[error("it is signed with another person's key")]
    OtherPersonsKey,
    #[error("it is signed with a key that was revoked")]
    RevokedKey,
    #[error("it is signed with a key that was not valid at the time")]
    KeyNotValid,
    #[error("it was given before a time at which anybody could have written it; it must be given anew")]
    EndedEpoch,
    #[error("{0}")]
    NoEpoch(String),
    #[error("nobody approves their own request")]
    OwnRequest,
    #[error("the garbage collector asks, and who had it ask is not known; a person must delete this object itself")]
    UnknownRequester,
    #[error("it is for a request by {}", quoted(.0))]
    OtherRequester(String),
    #[error("rule {rule} lets nobody of {} break glass", quoted(.team))]
    NoBreakGlass { rule: String, team: String },
    #[error("it breaks glass without a reason")]
    NoReason,
}

/// What was found out about a statement itself, whatever rule it is held against.
#[derive(Debug)]
pub(super) struct Proven<'s> {
    statement: &'s Statement,
    /// Who it is by, and how that is known; or why it is nothing.
    by: Result<Author, Flaw>,
}

/// The person behind a statement.
#[derive(Debug)]
struct Author {
    /// All names the person goes by, folded.
    names: Vec<String>,
    key: Option<(Key, Gesture)>,
}

/// The people whose statements count, and the statements that do not.
pub(super) struct Valid<'s> {
    pub(super) people: Vec<Person<'s>>,
    /// Who passes the rule alone.
    pub(super) broke_glass: Option<&'s str>,
    pub(super) flaws: Vec<(&'s Statement, Flaw)>,
    pub(super) counted: Vec<&'s Statement>,
}

/// What statements are held against.
pub(super) struct Occasion<'a> {
    pub(super) action: Action,
    /// Absent for an owner's deletion, whose requester was checked when it was admitted.
    pub(super) requester: Option<&'a str>,
    /// Of a loosening, the hash of what is to be.
    pub(super) new_spec: Option<&'a str>,
    pub(super) epoch: &'a Epoch,
    pub(super) rules: &'a Rules,
    pub(super) extent: Extent<'a>,
    pub(super) at: Timestamp,
}

/// What goes along, as far as statements have to name it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent<'a> {
    /// It was looked at already, or nothing goes along.
    Settled,
    NotLooked,
    Goes(&'a Carried<'a>),
}

/// Checks all that does not depend on a rule, once: verifying a signature is the most expensive thing that is done for
/// a request, and there may be a thousand rules.
pub(super) fn prove<'s>(sources: &'s [Source<'s>], occasion: &Occasion) -> Vec<Proven<'s>> {
    let all = sources.iter().flat_map(|source| source.statements.iter().map(move |statement| (source, statement)));
    let people = People::of(occasion.rules);
    all.map(|(source, statement)| Proven { statement, by: author(statement, source, occasion, &people) }).collect()
}

pub(super) fn valid_statements<'s>(proven: &[Proven<'s>], occasion: &Occasion, rule: &Rule) -> Valid<'s> {
    let mut valid = Valid { people: Vec::new(), broke_glass: None, flaws: Vec::new(), counted: Vec::new() };
    let mut authors: Vec<(&'s Statement, &Author)> = Vec::new();
    for Proven { statement, by } in proven {
        let checked = by.as_ref().map_err(Clone::clone).and_then(|author| {
            check(statement, author, occasion, rule)?;
            Ok(author)
        });
        match checked {
            Ok(_) if statement.break_glass => {
                valid.broke_glass = Some(&statement.approver);
                valid.counted.push(statement);
            }
            Ok(author) => {
                authors.push((statement, author));
                valid.counted.push(statement);
            }
            Err(flaw) => valid.flaws.push((statement, flaw)),
        }
    }
    valid.people = people(&authors);
    valid
}

/// One person for all statements that share a name or a key, in whatever order.
fn people<'s>(authors: &[(&'s Statement, &Author)]) -> Vec<Person<'s>> {
    struct Group<'s> {
        person: Person<'s>,
        names: Vec<String>,
        keys: Vec<Vec<u8>>,
    }
    let mut groups: Vec<Group<'s>> = Vec::new();
    for (statement, author) in authors {
        let keys: Vec<_> = author.key.iter().map(|(key, _)| key.point().to_vec()).collect();
        let same = |group: &Group| {
            author.names.iter().any(|name| group.names.contains(name))
                || keys.iter().any(|key| group.keys.contains(key))
        };
        let mut joined = Group {
            person: Person { name: &statement.approver, teams: [statement.team.as_str()].into() },
            names: author.names.clone(),
            keys: keys.clone(),
        };
        let (theirs, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(same);
        for group in theirs {
            joined.person.name = group.person.name;
            joined.person.teams.extend(group.person.teams);
            joined.names.extend(group.names);
            joined.keys.extend(group.keys);
        }
        groups = others;
        groups.push(joined);
    }
    groups.sort_by(|one, other| one.person.name.cmp(other.person.name));
    groups.into_iter().map(|group| group.person).collect()
}

/// Whose statement it is. The cheap checks come first, the signature last.
fn author(statement: &Statement, source: &Source, occasion: &Occasion, people: &People) -> Result<Author, Flaw> {
    names_this_action(statement, occasion)?;
    names_this_object(statement, source)?;
    names_this_cluster(statement, &occasion.rules.cluster)?;
    names_what_goes_along(statement, source, occasion)?;
    has_not_expired(statement, occasion.at)?;
    is_a_persons(statement)?;
    is_not_revoked(statement, occasion.rules)?;
    if statement.signature.is_some() {
        return signed(statement, occasion, people);
    }
    is_of_this_epoch(statement, source, occasion.epoch)?;
    is_still_in_the_team(statement, occasion.rules)?;
    Ok(Author { names: people.names(&statement.approver, None), key: None })
}

fn check(statement: &Statement, author: &Author, occasion: &Occasion, rule: &Rule) -> Result<(), Flaw> {
    is_as_short_as_the_rule_asks(statement, occasion, rule)?;
    is_proven_as_the_rule_asks(author, rule)?;
    if statement.break_glass {
        may_break_glass(statement, rule)?;
    } else {
        speaks_for_a_team_of_the_rule(statement, rule)?;
        // Who brings something back destroys nothing: one person may do both.
        if occasion.action != Action::Recreate {
            is_not_the_requesters_own(author, occasion, rule)?;
        }
    }
    allows_this_requester(statement, occasion)
}

fn names_this_action(statement: &Statement, occasion: &Occasion) -> Result<(), Flaw> {
    if statement.action != occasion.action {
        return Err(Flaw::OtherAction);
    }
    if statement.new_spec.as_deref() == occasion.new_spec { Ok(()) } else { Err(Flaw::OtherChange) }
}

fn names_this_object(statement: &Statement, source: &Source) -> Result<(), Flaw> {
    let subject: &Subject = source.about;
    if statement.uid != subject.uid || subject.uid.is_empty() {
        return Err(Flaw::OtherObject(statement.uid.clone()));
    }
    if !subject.is_named_by(statement) {
        return Err(Flaw::OtherName(statement.object()));
    }
    match (statement.scope, source.scope) {
        (Scope::Contents, Scope::Object) => Err(Flaw::OnlyContents),
        (Scope::Object, Scope::Contents) => Err(Flaw::NotContents),
        _ => Ok(()),
    }
}

fn names_this_cluster(statement: &Statement, cluster: &str) -> Result<(), Flaw> {
    if statement.cluster == cluster && !cluster.is_empty() { Ok(()) } else { Err(Flaw::OtherCluster) }
}

/// What is said of the contents of a namespace is said of all that goes with any of them; in an emergency nobody counts.
fn names_what_goes_along(statement: &Statement, source: &Source, occasion: &Occasion) -> Result<(), Flaw> {
    let carried = match occasion.extent {
        Extent::Settled => return Ok(()),
        Extent::NotLooked => return Err(Flaw::NotLooked),
        Extent::Goes(_) if source.scope == Scope::Contents || statement.break_glass => return Ok(()),
        Extent::Goes(carried) => carried,
    };
    let accepted = statement.protects.as_ref().map(|protects| &protects.unlisted);
    if let Some(kind) = carried.unlisted.iter().find(|kind| !accepted.is_some_and(|all| all.contains(kind))) {
        return Err(Flaw::Unlisted(kind.clone()));
    }
    match &statement.protects {
        None if carried.named.is_empty() => Ok(()),
        None => Err(Flaw::NothingNamed(carried.named.len())),
        Some(protects) if protects.names(&carried.named) => Ok(()),
        Some(_) => Err(Flaw::NotNamed),
    }
}

fn objects(count: usize) -> &'static str {
    if count == 1 { "object" } else { "objects" }
}

fn has_not_expired(statement: &Statement, at: Timestamp) -> Result<(), Flaw> {
    if statement.approved_at.duration_since(at) > CLOCK_SKEW {
        return Err(Flaw::NotYet(statement.approved_at));
    }
    if statement.expires <= at { Err(Flaw::Expired(statement.expires)) } else { Ok(()) }
}

fn is_a_persons(statement: &Statement) -> Result<(), Flaw> {
    if statement.approver.starts_with(SYSTEM_PREFIX) {
        return Err(Flaw::NotAPerson(statement.approver.clone()));
    }
    Ok(())
}

/// What cannot be shown as it is has no hash either: nobody read it before they approved it.
fn is_not_revoked(statement: &Statement, rules: &Rules) -> Result<(), Flaw> {
    let team = rules.teams.get(&statement.team).ok_or_else(|| Flaw::NoSuchTeam(statement.team.clone()))?;
    let hash = statement.hash()?;
    if team.spec.revoked.iter().any(|revoked| revoked.statement == hash) { Err(Flaw::Revoked) } else { Ok(()) }
}

/// Who is in a group is known only when an approval is written; who is listed, always.
fn is_still_in_the_team(statement: &Statement, rules: &Rules) -> Result<(), Flaw> {
    let listed = |team: &Team| team.spec.members.iter().any(|member| same_person(&member.user, &statement.approver));
    let gone = |team: &Team| team.spec.groups.is_empty() && !listed(team);
    if rules.teams.get(&statement.team).is_some_and(gone) {
        return Err(Flaw::NotInTeam(statement.team.clone()));
    }
    Ok(())
}

fn is_of_this_epoch(statement: &Statement, source: &Source, epoch: &Epoch) -> Result<(), Flaw> {
    // What stands beside a change was seen by nobody who knows its writer.
    if !source.checked {
        return Err(Flaw::EndedEpoch);
    }
    match epoch {
        Epoch::Current(current) if statement.epoch.as_ref() == Some(current) => Ok(()),
        Epoch::Current(_) => Err(Flaw::EndedEpoch),
        Epoch::None(why) => Err(Flaw::NoEpoch(why.clone())),
    }
}

/// The signature is this person's, by a key that their team lists, and that was good at the time and still is.
fn signed(statement: &Statement, occasion: &Occasion, people: &People) -> Result<Author, Flaw> {
    let signature = Signed::read(statement.signature.as_deref().unwrap_or_default())?;
    let team = occasion.rules.teams.get(&statement.team).ok_or_else(|| Flaw::NoSuchTeam(statement.team.clone()))?;
    let of_the_key: Vec<_> = team.keys.iter().filter(|listed| signature.is_by(&listed.key)).collect();
    if of_the_key.is_empty() {
        return Err(Flaw::UnknownKey(statement.team.clone()));
    }
    let Some(listed) = of_the_key.into_iter().find(|listed| listed.user == statement.approver) else {
        return Err(Flaw::OtherPersonsKey);
    };
    let early = listed.after.is_some_and(|after| statement.approved_at < after);
    let late = listed.before.is_some_and(|before| statement.approved_at >= before || occasion.at >= before);
    if early || late {
        return Err(Flaw::KeyNotValid);
    }
    if team.revokes(&listed.key) {
        return Err(Flaw::RevokedKey);
    }
    let gesture = signature.verify(&listed.key, &statement.text()?)?;
    let names = people.names(&statement.approver, Some(&listed.key));
    Ok(Author { names, key: Some((listed.key.clone(), gesture)) })
}

fn is_as_short_as_the_rule_asks(statement: &Statement, occasion: &Occasion, rule: &Rule) -> Result<(), Flaw> {
    // What loosens a rule is written into one change, and travels through reviews and pipelines with it.
    let longest = match occasion.action {
        Action::Loosen => MAX_VALID_FOR,
        Action::Unlock => rule.valid_for.min(LONGEST_UNLOCK),
        _ => rule.valid_for,
    };
    if statement.expires.duration_since(statement.approved_at) > longest {
        return Err(Flaw::TooLong { rule: rule.name.clone(), longest });
    }
    Ok(())
}

fn is_proven_as_the_rule_asks(author: &Author, rule: &Rule) -> Result<(), Flaw> {
    let name = || rule.name.clone();
    match (rule.proof, &author.key) {
        (Proof::Signature | Proof::HardwareKey, None) => Err(Flaw::Unsigned(name())),
        (Proof::HardwareKey, Some((key, _))) if !key.is_hardware() => Err(Flaw::NotHardware(name())),
        (Proof::HardwareKey, Some((_, gesture))) if !gesture.present => Err(Flaw::NotPresent),
        (Proof::HardwareKey, Some((_, gesture))) if rule.require_verification && !gesture.verified => {
            Err(Flaw::NotVerified(name()))
        }
        (Proof::Identity, _) | (Proof::Signature | Proof::HardwareKey, Some(_)) => Ok(()),
    }
}

fn speaks_for_a_team_of_the_rule(statement: &Statement, rule: &Rule) -> Result<(), Flaw> {
    if rule.require.iter().any(|requirement| requirement.any_of.contains(&statement.team)) {
        return Ok(());
    }
    Err(Flaw::OtherTeam { rule: rule.name.clone(), team: statement.team.clone() })
}

fn may_break_glass(statement: &Statement, rule: &Rule) -> Result<(), Flaw> {
    if !rule.break_glass.contains(&statement.team) {
        return Err(Flaw::NoBreakGlass { rule: rule.name.clone(), team: statement.team.clone() });
    }
    if statement.reason.is_none() { Err(Flaw::NoReason) } else { Ok(()) }
}

fn is_not_the_requesters_own(author: &Author, occasion: &Occasion, rule: &Rule) -> Result<(), Flaw> {
    match occasion.requester {
        _ if !rule.separate_from_requester => Ok(()),
        // Whoever hangs an object on an owner and deletes that has the collector ask in its own name.
        Some(requester) if is_garbage_collector(requester) => Err(Flaw::UnknownRequester),
        Some(requester) if author.names.iter().any(|name| same_person(name, requester)) => Err(Flaw::OwnRequest),
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

#[cfg(test)]
#[path = "approval_tests/mod.rs"]
mod tests;
