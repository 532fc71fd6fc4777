//! How much a rule lets pass, and what the ledger says of it. Arithmetic alone: who writes the ledger is elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::needs::Subject;
use crate::api::{Action, Budget, Lapse, LedgerEntry, LedgerSpec, Per, sha256};

/// How far apart the clocks of several API servers may be, and how long a deletion may take that was let pass: everything
/// counts for so much longer.
pub const REPLICA_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// The API server gives up on a request after 60 s, and a deletion may still be written a moment later.
pub const HELD: SignedDuration = SignedDuration::from_secs(75);

/// An entry that was written so lately says as much as a newer one; several entries of the API server ask at once.
const RECENT: SignedDuration = SignedDuration::from_secs(5);

/// A ledger is one object in etcd: a thousand entries are about 400 kB.
const MOST: usize = 1000;
/// What nobody approved leaves room for what people did.
const MOST_UNAPPROVED: usize = MOST / 2;
const MOST_LAPSED: usize = 512;

/// So often in a window may an object be asked for without going, before only people let it go.
const LAPSES: usize = 2;

/// So many may have asked for one object.
const REQUESTERS: usize = 3;

/// The budgets of a rule, as they are counted with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets {
    pub allowance: Option<Limit>,
    pub ceiling: Option<Limit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub count: usize,
    pub volumes: Option<u32>,
    pub window: SignedDuration,
    pub per: Per,
}

/// `20 in 10m for each requester`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Requester => " for each requester",
            Per::Namespace => " in each namespace",
            Per::Rule => "",
        };
        write!(f, "{} in {:#}{per}", self.count, self.window)
    }
}

/// What is about to be let pass.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    pub action: Action,
    pub subject: &'a Subject<'a>,
    pub api_version: &'a str,
    pub requester: &'a str,
    pub volumes: u32,
    pub way: Way,
}

/// By what it would be let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Approved,
    Tolerated,
    Allowance,
    /// An emergency counts, and is never refused.
    BrokenGlass,
}

/// What has become of a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It has a place. What the ledger is to say; nothing where it says so already.
    Granted(Option<LedgerSpec>),
    Full(Full),
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    pub reason: FullReason,
    /// When there is one again, at the latest.
    pub next: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FullReason {
    Allowance(Limit),
    Ceiling(Limit),
    AllowanceVolumes(Limit),
    CeilingVolumes(Limit),
    /// Half of the ceiling is held by what nobody approved and what has not gone yet.
    UnderWay,
    /// It was asked for before, and never went: a review can be forged.
    CameToNothing,
    /// The ledger holds no more.
    Ledger,
}

/// How much of one budget is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub budget: &'static str,
    pub of: Option<String>,
    pub used: usize,
    pub count: usize,
    pub next: Option<Timestamp>,
}

impl Budgets {
    pub fn read(allowance: Option<&Budget>, ceiling: Option<&Budget>) -> Result<Self, String> {
        let limit = |budget: Option<&Budget>, field: &str| budget.map(|budget| Limit::read(budget, field)).transpose();
        Ok(Self { allowance: limit(allowance, "allowance")?, ceiling: limit(ceiling, "ceiling")? })
    }

    /// Whether an action that passes this way takes a place.
    pub fn count(&self, action: Action, way: Way) -> bool {
        self.under_ceiling(action) || (way == Way::Allowance && self.allowance.is_some())
    }

    fn under_ceiling(&self, action: Action) -> bool {
        self.ceiling.is_some() && action == Action::Delete
    }

    fn is_per_requester(&self) -> bool {
        self.allowance.iter().chain(&self.ceiling).any(|limit| limit.per == Per::Requester)
    }

    fn longest(&self) -> SignedDuration {
        let windows = self.allowance.iter().chain(&self.ceiling).map(|limit| limit.window);
        windows.max().unwrap_or_default().max(HELD)
    }

    /// Whether there is a place, and what the ledger then says.
    pub fn claim(&self, ledger: &LedgerSpec, claim: &Claim, now: Timestamp) -> Claimed {
        let unapproved = matches!(claim.way, Way::Allowance | Way::Tolerated);
        let mut next = self.pruned(ledger, now);
        let own = next.entries.iter().position(|entry| is_of(entry, claim));
        let held_long = own.is_some_and(|own| now.duration_since(next.entries[own].first) > HELD);
        let done = own.is_some_and(|own| next.entries[own].spent);
        if held_long && !done && claim.action != Action::Evict {
            lapse(&mut next, &claim.subject.uid, now);
        }
        if claim.way != Way::BrokenGlass
            && let Some(full) = self.full(&next, claim, unapproved, now)
        {
            return Claimed::Full(full);
        }
        let requester = shortened(claim.requester);
        let Some(own) = own else {
            let nobodys = next.entries.iter().filter(|entry| !entry.approved).count();
            if next.entries.len() >= MOST || (unapproved && nobodys >= MOST_UNAPPROVED) {
                return Claimed::Full(Full { reason: FullReason::Ledger, next: None });
            }
            let subject = claim.subject;
            next.entries.push(LedgerEntry {
                action: claim.action,
                api_version: claim.api_version.to_owned(),
                resource: subject.kind(),
                namespace: subject.namespace.to_string(),
                name: subject.name.to_string(),
                uid: subject.uid.to_string(),
                requesters: vec![requester],
                approved: !unapproved,
                allowance: claim.way == Way::Allowance,
                volumes: claim.volumes,
                first: now,
                last: now,
                spent: false,
            });
            next.changed = Some(now);
            return Claimed::Granted(Some(next));
        };
        let entry = &mut next.entries[own];
        let before = entry.clone();
        if !entry.requesters.contains(&requester) {
            if entry.requesters.len() < REQUESTERS {
                entry.requesters.push(requester);
            } else if unapproved && self.is_per_requester() {
                return Claimed::Full(Full { reason: FullReason::Ledger, next: None });
            }
        }
        entry.approved |= !unapproved;
        entry.allowance |= claim.way == Way::Allowance;
        entry.volumes = entry.volumes.max(claim.volumes);
        if held_long {
            entry.first = now;
        }
        if *entry == before && now.duration_since(entry.last) < RECENT {
            return Claimed::Granted(None);
        }
        entry.last = entry.last.max(now);
        next.changed = Some(now);
        Claimed::Granted(Some(next))
    }

    fn full(&self, ledger: &LedgerSpec, claim: &Claim, unapproved: bool, now: Timestamp) -> Option<Full> {
        if unapproved {
            let own = ledger.lapsed.iter().filter(|lapse| lapse.uid == claim.subject.uid);
            let mut since: Vec<_> = own.map(|lapse| lapse.at).collect();
            since.sort();
            if let Some(over) = since.len().checked_sub(LAPSES) {
                let next = Some(counts_until(since[over], self.longest()));
                return Some(Full { reason: FullReason::CameToNothing, next });
            }
        }
        if claim.way == Way::Allowance
            && let Some(limit) = &self.allowance
        {
            let taken = Taken::of(ledger, limit, |entry| entry.allowance && in_bucket(entry, limit.per, claim), now);
            if taken.others(claim).count() >= limit.count {
                return Some(Full { reason: FullReason::Allowance(limit.clone()), next: taken.next(limit) });
            }
            if taken.too_many_volumes(limit, claim) {
                return Some(Full { reason: FullReason::AllowanceVolumes(limit.clone()), next: None });
            }
        }
        if claim.action == Action::Delete
            && let Some(limit) = &self.ceiling
        {
            let counted = |entry: &LedgerEntry| entry.action == Action::Delete && in_bucket(entry, limit.per, claim);
            let taken = Taken::of(ledger, limit, counted, now);
            if taken.others(claim).count() >= limit.count {
                return Some(Full { reason: FullReason::Ceiling(limit.clone()), next: taken.next(limit) });
            }
            if taken.too_many_volumes(limit, claim) {
                return Some(Full { reason: FullReason::CeilingVolumes(limit.clone()), next: None });
            }
            // Whoever forges reviews of what needs no approval cannot keep out what people approved.
            let under_way = ledger
                .entries
                .iter()
                .filter(|entry| counted(entry) && !entry.spent && !entry.approved && entry.uid != claim.subject.uid);
            if unapproved && under_way.count() >= limit.count.div_ceil(2) {
                return Some(Full { reason: FullReason::UnderWay, next: None });
            }
        }
        None
    }

    /// Without what counts no more.
    fn pruned(&self, ledger: &LedgerSpec, now: Timestamp) -> LedgerSpec {
        let longest = self.longest();
        // What was never found out counts no more either, once it is old: its kind may have become unreadable.
        let kept = |entry: &&LedgerEntry| {
            let longer = if entry.spent { SignedDuration::ZERO } else { SignedDuration::from_hours(1) };
            counts_until(entry.last, longest.saturating_add(longer)) > now
        };
        LedgerSpec {
            changed: ledger.changed,
            entries: ledger.entries.iter().filter(kept).cloned().collect(),
            lapsed: ledger.lapsed.iter().filter(|lapse| counts_until(lapse.at, longest) > now).cloned().collect(),
        }
    }

    /// The ledger after it was found out what became of entries that are overdue, by their place in it; nothing where
    /// that changes nothing.
    pub fn settled(&self, ledger: &LedgerSpec, fates: &BTreeMap<usize, Fate>, now: Timestamp) -> Option<LedgerSpec> {
        let mut next = ledger.clone();
        for (number, entry) in next.entries.iter_mut().enumerate() {
            entry.spent |= fates.get(&number) == Some(&Fate::Done);
        }
        let nothing = |number: usize| fates.get(&number) == Some(&Fate::CameToNothing);
        let lapsed: Vec<LedgerEntry> = ledger
            .entries
            .iter()
            .enumerate()
            .filter(|(number, _)| nothing(*number))
            .map(|(_, one)| one.clone())
            .collect();
        let mut number = 0;
        next.entries.retain(|_| {
            number += 1;
            !nothing(number - 1)
        });
        // A drain asks again and again for what a disruption budget keeps.
        for entry in lapsed.iter().filter(|entry| entry.action != Action::Evict) {
            lapse(&mut next, &entry.uid, now);
        }
        let next = self.pruned(&next, now);
        (next != *ledger).then_some(next)
    }

    /// What is used, the fullest first.
    pub fn usage(&self, ledger: &LedgerSpec, now: Timestamp) -> Vec<Usage> {
        let of = |entry: &LedgerEntry, per: Per| match per {
            Per::Requester => entry.requesters.iter().cloned().map(Some).collect(),
            Per::Namespace => vec![Some(entry.namespace.clone())],
            Per::Rule => vec![None],
        };
        let budgets = [("allowance", &self.allowance), ("ceiling", &self.ceiling)];
        let mut all = Vec::new();
        for (budget, limit) in budgets.into_iter().filter_map(|(name, limit)| Some((name, limit.as_ref()?))) {
            let counted = |entry: &LedgerEntry| {
                if budget == "allowance" { entry.allowance } else { entry.action == Action::Delete }
            };
            let mut whose: Vec<_> =
                ledger.entries.iter().filter(|entry| counted(entry)).flat_map(|entry| of(entry, limit.per)).collect();
            if limit.per == Per::Rule {
                whose.push(None);
            }
            whose.sort();
            whose.dedup();
            for one in whose {
                let taken =
                    Taken::of(ledger, limit, |entry| counted(entry) && of(entry, limit.per).contains(&one), now);
                let (used, next) = (taken.places.len(), taken.next(limit));
                all.push(Usage { budget, of: one, used, count: limit.count, next });
            }
        }
        all.sort_by(|one, other| (other.used, &one.of).cmp(&(one.used, &other.of)));
        all
    }
}

/// What became of an entry's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    CameToNothing,
    /// It cannot be told.
    Unknown,
}

/// The entries of which it is time to find out what became of them, by their place in the ledger.
pub fn overdue(ledger: &LedgerSpec, now: Timestamp) -> impl Iterator<Item = (usize, &LedgerEntry)> {
    ledger.entries.iter().enumerate().filter(move |(_, entry)| !entry.spent && counts_until(entry.last, HELD) <= now)
}

impl Limit {
    fn read(budget: &Budget, field: &str) -> Result<Self, String> {
        let window = budget.window.length().map_err(|error| format!("{field}.window: {error}"))?;
        let count = usize::try_from(budget.count).unwrap_or(usize::MAX);
        Ok(Self { count, volumes: budget.volumes, window, per: budget.per })
    }
}

/// The places of one budget that are taken.
struct Taken<'l> {
    /// By what happened to which object: two requests for the same take one place.
    places: BTreeMap<(Action, &'l str), Place>,
}

#[derive(Clone, Copy)]
struct Place {
    until: Timestamp,
    volumes: u32,
}

impl<'l> Taken<'l> {
    fn of(ledger: &'l LedgerSpec, limit: &Limit, counted: impl Fn(&LedgerEntry) -> bool, now: Timestamp) -> Self {
        let mut places: BTreeMap<_, Place> = BTreeMap::new();
        for entry in ledger.entries.iter().filter(|entry| counted(entry)) {
            // A place is held for as long as its request may still be carried out.
            let length = if entry.spent { limit.window } else { limit.window.max(HELD) };
            let until = counts_until(entry.last, length);
            if until > now {
                let new = Place { until, volumes: entry.volumes };
                let known = places.entry((entry.action, entry.uid.as_str())).or_insert(new);
                *known = Place { until: known.until.max(until), volumes: known.volumes.max(entry.volumes) };
            }
        }
        Self { places }
    }

    fn others<'t>(&'t self, claim: &'t Claim) -> impl Iterator<Item = &'t Place> {
        let own = (claim.action, claim.subject.uid.as_ref());
        self.places.iter().filter(move |(key, _)| **key != own).map(|(_, place)| place)
    }

    fn too_many_volumes(&self, limit: &Limit, claim: &Claim) -> bool {
        let all = self.others(claim).map(|place| place.volumes).fold(claim.volumes, u32::saturating_add);
        claim.volumes > 0 && limit.volumes.is_some_and(|most| all > most)
    }

    /// When there is a place.
    fn next(&self, limit: &Limit) -> Option<Timestamp> {
        let mut until: Vec<_> = self.places.values().map(|place| place.until).collect();
        until.sort();
        until.get(until.len().checked_sub(limit.count)?).copied()
    }
}

fn in_bucket(entry: &LedgerEntry, per: Per, claim: &Claim) -> bool {
    match per {
        Per::Requester => entry.requesters.contains(&shortened(claim.requester)),
        Per::Namespace => entry.namespace == claim.subject.namespace,
        Per::Rule => true,
    }
}

fn is_of(entry: &LedgerEntry, claim: &Claim) -> bool {
    entry.action == claim.action && entry.uid == claim.subject.uid
}

/// A place that came to nothing.
fn lapse(ledger: &mut LedgerSpec, uid: &str, now: Timestamp) {
    ledger.lapsed.push(Lapse { uid: uid.to_owned(), at: now });
    let over = ledger.lapsed.len().saturating_sub(MOST_LAPSED);
    ledger.lapsed.drain(..over);
}

/// A name that fills no ledger, however long it is.
fn shortened(requester: &str) -> String {
    const LONGEST: usize = 100;
    if requester.len() <= LONGEST {
        return requester.to_owned();
    }
    let beginning: String = requester.chars().take(LONGEST / 4).collect();
    format!("{beginning}…{}", &sha256(requester.as_bytes())[..23])
}

fn counts_until(since: Timestamp, length: SignedDuration) -> Timestamp {
    since.checked_add(length).and_then(|until| until.checked_add(REPLICA_SKEW)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
