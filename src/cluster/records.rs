//! What is written down of deletions, and read when something goes or returns because of them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use super::Cluster;
use super::facts::{LiveObject, Named};
use crate::api::{Deletion, DeletionRecord, DeletionRecordSpec, OwnerRecord, kind_parts, record_name};
use crate::guard::{Decision, Radius, RecordFact, Request, Rule, Subject};

/// An object goes with one root, rarely with two. Each more is a request to the API server.
const MAX_ROOTS: usize = 4;

/// Records that are read at a time, and how often: a review can be forged.
const PAGE: u32 = 20;
const MAX_PAGES: usize = 20;

/// On a record: the namespace of what was destroyed.
const NAMESPACE: &str = "tagout.dev/namespace";
/// Of a namespace that is made anew: each is a request to the API server.
const MAX_READ: usize = 50;

/// A record is one object in etcd, of 1.5 MiB at most, beside what its statements say.
const MAX_NAMED: usize = 10_000;
const MAX_DELETIONS: usize = 8;
const MAX_REQUESTERS: usize = 8;

/// Written so lately it says as much as written anew.
const RECENT: SignedDuration = SignedDuration::from_secs(5);

/// What goes along is gone by then, unless finalizers keep it.
const SURELY_GOING: SignedDuration = SignedDuration::from_hours(1);

/// A cascade may take as long as finalizers let it.
pub const CASCADES: SignedDuration = SignedDuration::from_hours(72);

impl Cluster {
    /// The records by which an object may go: those of its owners, or else those that name it or its owners.
    pub async fn records(&self, request: &Request<'_>) -> Vec<RecordFact> {
        let mut found = Vec::new();
        for owner in request.owners.iter().take(MAX_ROOTS) {
            let Some((kind, namespace)) = self.home(owner, &request.subject.namespace).await else { continue };
            let record = self.record_of(&kind, &namespace, &owner.name).await.ok().flatten();
            found.extend(record.map(|record| record.spec).and_then(|spec| only(spec, |one| one.uid == owner.uid)));
        }
        if found.is_empty() {
            found = self.records_naming(request).await;
        }
        let mut facts = Vec::new();
        for (spec, deletion) in found {
            facts.push(self.fact(&spec, deletion).await);
        }
        facts
    }

    /// What is written down of what was destroyed under a name.
    pub async fn record_of(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DeletionRecord>, String> {
        record_of(&self.client, resource, namespace, name).await
    }

    /// Whether a watch has told that something was destroyed under a name.
    pub fn has_heard_of_a_record(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.recorded.get(&ObjectRef::new(&record_name(resource, namespace, name))).is_some()
    }

    /// What is written down of objects in a namespace, as far as a watch has told.
    pub async fn recorded_in(&self, namespace: &str) -> Result<Vec<DeletionRecordSpec>, String> {
        let is_in = |labels: &BTreeMap<String, String>| labels.get(NAMESPACE).is_some_and(|home| home == namespace);
        let known = self.recorded.state();
        let names = known.iter().filter(|one| one.metadata.labels.as_ref().is_some_and(is_in)).take(MAX_READ);
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(self.client.clone());
        let mut found = Vec::new();
        for name in names.filter_map(|one| one.metadata.name.clone()) {
            let read = records.get_opt(&name).await.map_err(|_| "records could not be read".to_owned())?;
            found.extend(read.and_then(|record| record.0.ok()).map(|record| record.spec));
        }
        Ok(found)
    }

    /// Page by page: a record may name thousands.
    async fn records_naming(&self, request: &Request<'_>) -> Vec<(DeletionRecordSpec, Deletion)> {
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(self.client.clone());
        let concerns = |deletion: &Deletion| {
            let named = |uid: &str| deletion.protects.uids.iter().any(|one| one == uid);
            named(&request.subject.uid) || request.owners.iter().any(|owner| named(&owner.uid))
        };
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        for _ in 0..MAX_PAGES {
            let Ok(list) = records.list(&page).await else { break };
            let next = list.metadata.continue_.clone().filter(|next| !next.is_empty());
            let readable = list.into_iter().filter_map(|record| record.0.ok());
            found.extend(readable.filter_map(|record| only(record.spec, concerns)));
            let Some(next) = next.filter(|_| found.len() < MAX_ROOTS) else { break };
            page.continue_token = Some(next);
        }
        found.truncate(MAX_ROOTS);
        found
    }

    async fn fact(&self, spec: &DeletionRecordSpec, deletion: Deletion) -> RecordFact {
        let root = root(spec, &deletion);
        let state = self.state(resource(spec), &spec.namespace, &spec.name, &deletion.uid).await;
        RecordFact {
            root,
            state,
            at: deletion.at,
            statements: deletion.statements,
            uids: deletion.protects.uids,
            digest: deletion.protects.digest,
        }
    }

    /// Writes down that an object may go. The same again changes nothing; another approval replaces what was said.
    pub async fn write_record(
        &self,
        going: &LiveObject,
        requester: &str,
        decision: &Decision<'_>,
        rules: &[&Rule],
        radius: Option<&Radius>,
    ) -> Result<(), String> {
        let subject = &going.subject;
        let at = self.clock.now().await?;
        let new = deletion(going, requester, decision, rules, radius, at);
        let name = record_name(&subject.kind(), &subject.namespace, &subject.name);
        let records: Api<DeletionRecord> = Api::all(self.client.clone());
        for _ in 0..TRIES {
            let found = self.record_of(&subject.kind(), &subject.namespace, &subject.name).await?;
            let written = match found {
                None => {
                    let spec = DeletionRecordSpec {
                        resource: subject.kind(),
                        api_version: going.api_version.clone(),
                        namespace: subject.namespace.to_string(),
                        name: subject.name.to_string(),
                        deletions: vec![new.clone()],
                    };
                    let labels = [(NAMESPACE.to_owned(), subject.namespace.to_string())].into();
                    let metadata =
                        ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
                    records.create(&PostParams::default(), &DeletionRecord { metadata, spec }).await
                }
                Some(mut record) => {
                    let before = record.spec.clone();
                    record.spec.api_version.clone_from(&going.api_version);
                    add(&mut record.spec.deletions, new.clone(), at)?;
                    if record.spec == before {
                        return Ok(());
                    }
                    records.replace(&name, &PostParams::default(), &record).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                // Another review of the same, or the sweeper, was first.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
                Err(_) => return Err("the API server did not take it".to_owned()),
            }
        }
        Err("others write it at the same time".to_owned())
    }
}

const TRIES: usize = 8;

pub(super) async fn record_of(
    client: &Client,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<DeletionRecord>, String> {
    let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(client.clone());
    match records.get_opt(&record_name(resource, namespace, name)).await {
        Ok(Some(DeserializeGuard(Ok(record)))) => Ok(Some(record)),
        Ok(None) => Ok(None),
        Ok(Some(DeserializeGuard(Err(_)))) | Err(_) => {
            Err("what was destroyed under its name could not be read".to_owned())
        }
    }
}

/// The object that was destroyed, as rules see it.
pub fn root(spec: &DeletionRecordSpec, deletion: &Deletion) -> Subject<'static> {
    let (plural, group) = kind_parts(&spec.resource);
    Subject {
        group: group.to_owned().into(),
        resource: plural.to_owned().into(),
        namespace: spec.namespace.clone().into(),
        name: spec.name.clone().into(),
        uid: deletion.uid.clone().into(),
        labels: std::borrow::Cow::Owned(deletion.labels.clone()),
        ..Subject::default()
    }
}

/// Its kind, as the API server serves it.
pub fn resource(spec: &DeletionRecordSpec) -> Named<'_> {
    let (plural, group) = kind_parts(&spec.resource);
    Named { group, version: spec.api_version.rsplit('/').next().unwrap_or_default(), plural }
}

fn only(mut spec: DeletionRecordSpec, wanted: impl Fn(&Deletion) -> bool) -> Option<(DeletionRecordSpec, Deletion)> {
    let at = spec.deletions.iter().position(wanted)?;
    let deletion = spec.deletions.swap_remove(at);
    Some((spec, deletion))
}

fn deletion(
    going: &LiveObject,
    requester: &str,
    decision: &Decision<'_>,
    rules: &[&Rule],
    radius: Option<&Radius>,
    at: Timestamp,
) -> Deletion {
    // What is in a Namespace goes because that is terminating.
    let named = if going.subject.is_namespace() { 0 } else { MAX_NAMED };
    let counts = radius.map(Radius::counts).unwrap_or_default();
    let owner = |owner: &crate::guard::Owner| OwnerRecord {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: owner.controller,
    };
    Deletion {
        uid: going.subject.uid.to_string(),
        created: going.subject.created,
        at,
        last: at,
        requesters: vec![requester.chars().take(1024).collect()],
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        statements: decision.counted.clone(),
        protects: crate::api::Protects {
            uids: decision.carries.iter().take(named).cloned().collect(),
            ..decision.protects.clone().unwrap_or_default()
        },
        radius: counts.into_iter().map(|(kind, count)| (kind, i64::try_from(count).unwrap_or(i64::MAX))).collect(),
        volumes: radius.map(volumes).unwrap_or_default(),
        labels: going.subject.labels.clone().into_owned(),
        owners: going.owners.iter().take(64).map(owner).collect(),
    }
}

/// How many volumes lose their data.
pub fn volumes(radius: &Radius) -> u32 {
    u32::try_from(radius.lost_volumes().count()).unwrap_or(u32::MAX)
}

/// The newest first; earlier ones as long as what went along may still be going.
fn add(deletions: &mut Vec<Deletion>, new: Deletion, at: Timestamp) -> Result<(), String> {
    if let Some(known) = deletions.iter_mut().find(|known| known.uid == new.uid) {
        let Deletion { requesters, statements, rules, .. } = new;
        for requester in requesters.into_iter().filter(|one| !known.requesters.contains(one)).collect::<Vec<_>>() {
            // The first ones and the last: whoever forges reviews pushes nobody's name out for good.
            if known.requesters.len() >= MAX_REQUESTERS {
                known.requesters.remove(MAX_REQUESTERS / 2);
            }
            known.requesters.push(requester);
        }
        known.rules.extend(rules);
        known.rules.sort();
        known.rules.dedup();
        // Whoever tidies up meanwhile finds another version of it.
        if at.duration_since(known.last) > RECENT {
            known.last = at;
        }
        // What was believed at another time is held against that time.
        if !statements.is_empty() && known.statements != statements {
            (known.statements, known.at, known.protects) = (statements, at, new.protects);
        }
        return Ok(());
    }
    deletions.retain(|old| !old.protects.uids.is_empty() && at.duration_since(old.at) < CASCADES);
    let too_many = |deletions: &[Deletion]| {
        let named: usize = deletions.iter().map(|old| old.protects.uids.len()).sum();
        deletions.len() >= MAX_DELETIONS || (!deletions.is_empty() && named + new.protects.uids.len() > MAX_NAMED)
    };
    while too_many(deletions) {
        // Of the oldest nothing goes any more, as far as anybody can tell.
        if deletions.last().is_some_and(|oldest| at.duration_since(oldest.at) < SURELY_GOING) {
            return Err("too much is still going along with earlier ones of this name; wait an hour".to_owned());
        }
        deletions.pop();
    }
    deletions.insert(0, new);
    Ok(())
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
