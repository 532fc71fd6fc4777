//! What was destroyed is remembered for as long as rules say, and what was only asked for is not. Tidying alone: whatever
//! stands here counts only beside what stands in the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::{Deletion, DeletionRecord, Ledger, LedgerSpec};
use crate::cluster::{ApiClock, CASCADES, delete_exactly, find, resource, settle, within};
use crate::entries;
use crate::guard::{HELD, REPLICA_SKEW, Rule};
use crate::telemetry::{Lapsed, Telemetry};

/// Each look lists the names of all records.
const BETWEEN_LOOKS: Duration = Duration::from_secs(20);
/// A look that takes longer goes on with the next.
const PATIENCE: Duration = Duration::from_mins(2);

/// Of a rule that is no more.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Of a rule that is no more, nothing counts any longer than this.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(169);

/// Records of one rule. Beyond that go those that nobody approved, and of them first what had stood the shortest: so
/// nobody floods out what others destroyed.
const MOST: usize = 1000;

/// Looks at what stands in records and ledgers, again and again. Every replica does.
pub struct Memory {
    client: Client,
    clock: ApiClock,
    telemetry: Arc<Telemetry>,
    /// The rules by which the API server asks; nothing in the place of one that cannot be read.
    rules: BTreeMap<String, Option<Rule>>,
    /// The records it has looked at, by name.
    known: HashMap<String, Known>,
    used: watch::Sender<Option<Arc<Used>>>,
}

/// What ledgers said at the last look.
#[derive(Debug)]
pub struct Used {
    pub ledgers: BTreeMap<String, LedgerSpec>,
    pub at: Timestamp,
}

/// What is known of a record in one version of it.
struct Known {
    version: String,
    /// When it can go.
    until: Timestamp,
    /// Whether everything in it is known to be gone.
    settled: bool,
    rules: Vec<String>,
    approved: bool,
    stood: SignedDuration,
}

impl Memory {
    pub fn new(client: Client, telemetry: Arc<Telemetry>) -> Self {
        let clock = ApiClock::new(client.clone());
        let used = watch::Sender::new(None);
        Self { client, clock, telemetry, rules: BTreeMap::new(), known: HashMap::new(), used }
    }

    pub fn used(&self) -> watch::Receiver<Option<Arc<Used>>> {
        self.used.subscribe()
    }

    /// Works until the process ends.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = within(PATIENCE, Box::pin(self.look())).await {
                warn!(error, "records and ledgers cannot be looked at; trying again");
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn look(&mut self) -> kube::Result<()> {
        let now = match self.clock.now().await {
            Ok(now) => now,
            Err(reason) => {
                warn!(reason, "records and ledgers are not looked at");
                return Ok(());
            }
        };
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = configurations.list(&ListParams::default()).await?;
        let named = found.iter().filter_map(|one| Some((entries::rule_name(one.metadata.name.as_deref()?)?, one)));
        self.rules = named
            .map(|(name, one)| {
                let spec = entries::origin(one).and_then(|origin| origin.spec.ok());
                (name.to_owned(), spec.and_then(|spec| Rule::read(name, &spec).ok()))
            })
            .collect();
        self.look_at_ledgers(now).await?;
        self.look_at_records(now).await
    }

    fn until(&self, deletion: &Deletion) -> Timestamp {
        let window = |rule: &String| match self.rules.get(rule) {
            Some(Some(rule)) => rule.remembers,
            // It is in force, and nobody can tell for how long it remembers.
            Some(None) => SignedDuration::MAX,
            None => DEFAULT_WINDOW,
        };
        let window = deletion.rules.iter().map(window).max().unwrap_or(DEFAULT_WINDOW);
        let cascade = if deletion.protects.uids.is_empty() { SignedDuration::ZERO } else { CASCADES };
        deletion.last.checked_add(window.max(cascade)).unwrap_or(Timestamp::MAX)
    }

    async fn look_at_ledgers(&mut self, now: Timestamp) -> kube::Result<()> {
        let ledgers: Api<DeserializeGuard<Ledger>> = Api::all(self.client.clone());
        let list = match ledgers.list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            list => list?,
        };
        let mut read = BTreeMap::new();
        for ledger in list {
            let ledger = match ledger.0 {
                Ok(ledger) => ledger,
                Err(error) => {
                    let name = error.metadata.name.unwrap_or_default();
                    warn!(rule = name, "the ledger cannot be read: its rule lets nothing pass that it counts");
                    continue;
                }
            };
            let name = ledger.name_any();
            if name == entries::CANARY {
                continue;
            }
            if let Some(Some(rule)) = self.rules.get(&name) {
                Lapsed { rule: &name, count: ledger.spec.lapsed.len() }.emit(&self.telemetry);
                if let Err(reason) = settle(&self.client, &self.clock, &ledger, &rule.budgets).await {
                    warn!(rule = name, reason, "what became of what was let pass is not known yet");
                }
            }
            let unused = ledger.spec.changed.is_none_or(|changed| now.duration_since(changed) > LONGEST_WINDOW);
            if !self.rules.contains_key(&name) && unused {
                delete_exactly(&ledgers, &ledger.metadata).await?;
            }
            read.insert(name, ledger.spec);
        }
        self.used.send_replace(Some(Arc::new(Used { ledgers: read, at: now })));
        Ok(())
    }

    async fn look_at_records(&mut self, now: Timestamp) -> kube::Result<()> {
        let records: Api<PartialObjectMeta<DeletionRecord>> = Api::all(self.client.clone());
        let list = match records.list_metadata(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            list => list?,
        };
        let by_name: HashMap<String, _> = list.iter().map(|record| (record.name_any(), record)).collect();
        self.known.retain(|name, _| by_name.contains_key(name));
        for (name, record) in &by_name {
            let version = record.resource_version().unwrap_or_default();
            let still = |known: &Known| known.version == version && known.settled && now < known.until;
            if self.known.get(name).is_some_and(still) {
                continue;
            }
            match self.look_at_record(name, now).await? {
                Some(known) => self.known.insert(name.clone(), known),
                None => self.known.remove(name),
            };
        }
        for name in self.too_many() {
            info!(record = name, "a rule has more records than are kept: it goes");
            if let Some(record) = by_name.get(&name) {
                delete_exactly(&records, &record.metadata).await?;
            }
            self.known.remove(&name);
        }
        Ok(())
    }

    async fn look_at_record(&self, name: &str, now: Timestamp) -> kube::Result<Option<Known>> {
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(self.client.clone());
        let Some(found) = records.get_opt(name).await? else { return Ok(None) };
        let mut record = match found.0 {
            Ok(record) => record,
            // It is of another version of Tagout, and nothing that it says counts.
            Err(unreadable) => {
                let made = unreadable.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
                if now.duration_since(made) > CASCADES {
                    let records: Api<PartialObjectMeta<DeletionRecord>> = Api::all(self.client.clone());
                    delete_exactly(&records, &unreadable.metadata).await?;
                }
                return Ok(None);
            }
        };
        let named = &record.spec;
        let (live, mut settled) = match find(&self.client, resource(named), &named.namespace, &named.name).await {
            Ok(live) => (live, true),
            // What may not be read any more goes when its time is over.
            Err(unreadable) if unreadable.forbidden => (None, false),
            // What cannot be looked at now is looked at again.
            Err(_) => return Ok(None),
        };
        let mut kept = Vec::new();
        for deletion in record.spec.deletions.clone() {
            let fresh = now.duration_since(deletion.last) < HELD + REPLICA_SKEW;
            let stands = live.as_ref().filter(|live| live.subject.uid == deletion.uid);
            settled &= !fresh && stands.is_none();
            let came_to_nothing = !fresh && stands.is_some_and(|live| !live.terminating);
            let over = stands.is_none() && self.until(&deletion) <= now;
            if !came_to_nothing && !over {
                kept.push(deletion);
            }
        }
        let Some(newest) = kept.first() else {
            delete_exactly(&records, &record.metadata).await?;
            return Ok(None);
        };
        let known = Known {
            version: record.resource_version().unwrap_or_default(),
            until: kept.iter().map(|one| self.until(one)).min().unwrap_or(now),
            settled,
            rules: newest.rules.clone(),
            approved: !newest.statements.is_empty(),
            stood: newest.created.map_or(SignedDuration::ZERO, |created| newest.at.duration_since(created)),
        };
        if kept.len() == record.spec.deletions.len() {
            return Ok(Some(known));
        }
        record.spec.deletions = kept;
        let records: Api<DeletionRecord> = Api::all(self.client.clone());
        match records.replace(name, &PostParams::default(), &record).await {
            Ok(_) => Ok(None),
            // It was written in the meantime.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The records that go because their rules have too many.
    fn too_many(&self) -> Vec<String> {
        let mut by_rule: BTreeMap<&str, Vec<(&String, &Known)>> = BTreeMap::new();
        for (name, known) in &self.known {
            for rule in &known.rules {
                by_rule.entry(rule).or_default().push((name, known));
            }
        }
        let mut all = Vec::new();
        for records in by_rule.values_mut() {
            let over = records.len().saturating_sub(MOST);
            records.retain(|(_, known)| !known.approved && known.settled);
            records.sort_by_key(|(_, known)| known.stood);
            all.extend(records.iter().take(over).map(|(name, _)| (*name).clone()));
        }
        all.sort();
        all.dedup();
        all
    }
}
