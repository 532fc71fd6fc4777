//! Places in the budgets of rules. A ledger is changed only in the version that was read: replicas that count at the same
//! time come one after the other, and what is written is there whatever becomes of the one who wrote it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kube::api::PostParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::time::Instant;

use super::clock::ApiClock;
use super::facts::{Named, Unreadable, find};
use super::records::record_of;
use crate::api::{Action, Ledger, LedgerEntry, LedgerSpec, kind_parts};
use crate::guard::{BudgetFact, Budgets, Claim, Claimed, Fate, FullReason, Rule, overdue};

/// The ledgers of rules, as this replica last saw them.
#[derive(Default)]
pub struct Ledgers {
    books: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Ledger>>>>>,
}

/// Until those that are under way are looked at again, each time twice as long. Together a second and a half: what the API
/// server carries out is carried out by then, and every look is several requests.
const MOMENT: Duration = Duration::from_millis(50);
const MOMENTS: u32 = 5;
/// What a look may take.
const TO_LOOK: Duration = Duration::from_millis(500);
/// Of the entries that are overdue, so many are looked at in one call; the others by the registrar.
const LOOKED_AT: usize = 32;

impl super::Cluster {
    /// Takes a place in a rule's budget, or says why there is none. A trial only looks.
    pub async fn claim(&self, rule: &Rule, claim: &Claim<'_>, trial: bool, deadline: Instant) -> BudgetFact {
        let book = self.ledgers.book(&rule.name);
        let mut moments = 0;
        let waits = !trial && self.clock.passes();
        loop {
            let claimed = {
                let Ok(mut book) = tokio::time::timeout_at(deadline, book.lock()).await else {
                    return BudgetFact::Unknown("others are counted before it; try again".to_owned());
                };
                let claiming = claim_once(&self.client, &self.clock, &mut book, rule, claim, trial);
                if let Ok(claimed) = tokio::time::timeout_at(deadline, claiming).await {
                    claimed
                } else {
                    *book = None;
                    Err("its ledger could not be written in time; try again".to_owned())
                }
            };
            match claimed {
                Ok(Claimed::Granted(_)) => return BudgetFact::Granted,
                // They go in a moment, and then there is room: it is worth waiting for.
                Ok(Claimed::Full(full)) if full.reason == FullReason::UnderWay && waits && moments < MOMENTS => {
                    let until = Instant::now() + MOMENT * 2_u32.pow(moments);
                    if until + TO_LOOK >= deadline {
                        return BudgetFact::Full(full);
                    }
                    tokio::time::sleep_until(until).await;
                    moments += 1;
                }
                Ok(Claimed::Full(full)) => return BudgetFact::Full(full),
                Err(reason) => return BudgetFact::Unknown(reason),
            }
        }
    }
}

impl Ledgers {
    /// Rules are those in force: no review adds a name.
    fn book(&self, rule: &str) -> Arc<tokio::sync::Mutex<Option<Ledger>>> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(books.entry(rule.to_owned()).or_default())
    }
}

async fn claim_once(
    client: &Client,
    clock: &ApiClock,
    book: &mut Option<Ledger>,
    rule: &Rule,
    claim: &Claim<'_>,
    trial: bool,
) -> Result<Claimed, String> {
    let mut known = book.take();
    loop {
        let fresh = known.is_none();
        let mut ledger = match known.take() {
            Some(ledger) => ledger,
            None => read(client, &rule.name).await?,
        };
        let now = clock.now().await?;
        let mut claimed = rule.budgets.claim(&ledger.spec, claim, now);
        // What is kept may be old news: a refusal is by what stands.
        if matches!(claimed, Claimed::Full(_)) && !fresh {
            continue;
        }
        if let Claimed::Full(full) = &claimed {
            let every = full.reason == FullReason::UnderWay;
            let looked_at: Vec<_> = if every {
                ledger.spec.entries.iter().enumerate().filter(|(_, entry)| !entry.spent).collect()
            } else {
                overdue(&ledger.spec, now).collect()
            };
            let mut fates = fates(client, looked_at.into_iter().take(LOOKED_AT)).await;
            // What is only under way has time left to go.
            if every {
                fates.retain(|_, fate| *fate == Fate::Done);
            }
            if let Some(settled) = rule.budgets.settled(&ledger.spec, &fates, now) {
                ledger.spec = settled;
                claimed = rule.budgets.claim(&ledger.spec, claim, now);
                if matches!(claimed, Claimed::Full(_)) {
                    if !trial && let Some(written) = write(client, &ledger).await? {
                        *book = Some(written);
                    }
                    return Ok(claimed);
                }
            }
        }
        let Claimed::Granted(Some(next)) = &claimed else {
            *book = Some(ledger);
            return Ok(claimed);
        };
        if trial {
            return Ok(claimed);
        }
        ledger.spec = next.clone();
        if let Some(written) = write(client, &ledger).await? {
            *book = Some(written);
            return Ok(claimed);
        }
    }
}

async fn read(client: &Client, rule: &str) -> Result<Ledger, String> {
    let ledgers: Api<DeserializeGuard<Ledger>> = Api::all(client.clone());
    match ledgers.get_opt(rule).await {
        Ok(Some(DeserializeGuard(Ok(ledger)))) => Ok(ledger),
        Ok(Some(DeserializeGuard(Err(error)))) => Err(format!("its ledger cannot be read ({})", error.error)),
        Ok(None) => Ok(Ledger::new(rule, LedgerSpec::default())),
        Err(_) => Err("its ledger could not be read; try again in a few seconds".to_owned()),
    }
}

/// Writes a ledger in the version that was read; nothing where somebody else was first.
async fn write(client: &Client, ledger: &Ledger) -> Result<Option<Ledger>, String> {
    let ledgers: Api<Ledger> = Api::all(client.clone());
    let makes = ledger.metadata.resource_version.is_none();
    let written = if makes {
        ledgers.create(&PostParams::default(), ledger).await
    } else {
        let name = ledger.metadata.name.as_deref().unwrap_or_default();
        ledgers.replace(name, &PostParams::default(), ledger).await
    };
    match written {
        Ok(written) => Ok(Some(written)),
        // It was changed, made or removed in between.
        Err(kube::Error::Api(status)) if status.code == 409 || (status.code == 404 && !makes) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err("the definition of ledgers is missing: apply the chart's crds/ again".to_owned())
        }
        Err(_) => Err("its ledger could not be written; try again in a few seconds".to_owned()),
    }
}

/// Finds out what became of what is overdue in the ledger of a rule.
pub async fn settle(client: &Client, clock: &ApiClock, ledger: &Ledger, budgets: &Budgets) -> Result<(), String> {
    let now = clock.now().await?;
    let fates = fates(client, overdue(&ledger.spec, now)).await;
    if let Some(settled) = budgets.settled(&ledger.spec, &fates, now) {
        write(client, &Ledger { spec: settled, ..ledger.clone() }).await?;
    }
    Ok(())
}

async fn fates<'l>(client: &Client, entries: impl Iterator<Item = (usize, &'l LedgerEntry)>) -> BTreeMap<usize, Fate> {
    let each = entries.map(async |(number, entry)| (number, fate(client, entry).await));
    join_all(each).await.into_iter().collect()
}

async fn fate(client: &Client, entry: &LedgerEntry) -> Fate {
    let (plural, group) = kind_parts(&entry.resource);
    let version = entry.api_version.rsplit('/').next().unwrap_or_default();
    let found = find(client, Named { group, version, plural }, &entry.namespace, &entry.name).await;
    let stands = |done: bool| if done { Fate::Done } else { Fate::CameToNothing };
    match found {
        // Of a return, the UID is that of what was before.
        Ok(Some(found)) if entry.action == Action::Recreate => stands(found.subject.uid != entry.uid),
        // It may have returned and gone again.
        Ok(None) if entry.action == Action::Recreate => {
            match record_of(client, &entry.resource, &entry.namespace, &entry.name).await {
                Ok(record) => {
                    let newest = record.as_ref().and_then(|record| record.spec.deletions.first());
                    stands(newest.is_some_and(|newest| newest.uid != entry.uid))
                }
                Err(_) => Fate::Unknown,
            }
        }
        Ok(Some(found)) => stands(found.subject.uid != entry.uid || found.terminating),
        Ok(None) => Fate::Done,
        Err(Unreadable { .. }) => Fate::Unknown,
    }
}
