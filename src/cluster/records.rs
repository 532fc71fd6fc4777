//! What is written down of approved deletions, and read when something goes because of them.

use jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};

use super::Cluster;
use super::facts::{LiveObject, Named};
use crate::api::{DeletionRecord, DeletionRecordSpec, Protects, kind_parts, record_name};
use crate::guard::{Decision, RecordFact, Request, Subject};

/// An object goes with one root, rarely with two. Each more is a request to the API server.
const MAX_ROOTS: usize = 4;

/// Records that are read at a time, and how often: a review can be forged.
const PAGE: u32 = 20;
const MAX_PAGES: usize = 20;

impl Cluster {
    /// The records by which an object may go: those of its owners, or else those that name it or its owners.
    pub async fn records(&self, request: &Request<'_>) -> Vec<RecordFact> {
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(self.client.clone());
        let mut found = Vec::new();
        for owner in request.owners.iter().take(MAX_ROOTS) {
            let record = records.get_opt(&record_name(&owner.uid)).await;
            found.extend(record.ok().flatten().and_then(|record| record.0.ok()));
        }
        if found.is_empty() {
            found = self.records_naming(request).await;
        }
        let mut facts = Vec::new();
        for record in found {
            facts.push(self.fact(record).await);
        }
        facts
    }

    /// Page by page: a record may name thousands.
    async fn records_naming(&self, request: &Request<'_>) -> Vec<DeletionRecord> {
        let records: Api<DeserializeGuard<DeletionRecord>> = Api::all(self.client.clone());
        let concerns = |record: &DeletionRecord| {
            let named = |uid: &str| record.spec.protects.uids.iter().any(|one| one == uid);
            named(&request.subject.uid) || request.owners.iter().any(|owner| named(&owner.uid))
        };
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        for _ in 0..MAX_PAGES {
            let Ok(list) = records.list(&page).await else { break };
            let next = list.metadata.continue_.clone().filter(|next| !next.is_empty());
            found.extend(list.into_iter().filter_map(|record| record.0.ok()).filter(concerns));
            let Some(next) = next.filter(|_| found.len() < MAX_ROOTS) else { break };
            page.continue_token = Some(next);
        }
        found.truncate(MAX_ROOTS);
        found
    }

    async fn fact(&self, record: DeletionRecord) -> RecordFact {
        let spec = record.spec;
        let (plural, group) = kind_parts(&spec.resource);
        let version = spec.api_version.rsplit('/').next().unwrap_or_default();
        let state = self.state(Named { group, version, plural }, &spec.namespace, &spec.name, &spec.uid).await;
        let root = Subject {
            group: group.to_owned().into(),
            resource: plural.to_owned().into(),
            namespace: spec.namespace.clone().into(),
            name: spec.name.clone().into(),
            uid: spec.uid.clone().into(),
            ..Subject::default()
        };
        let at = record.metadata.creation_timestamp.map_or(Timestamp::MIN, |time| time.0);
        RecordFact {
            root,
            state,
            at,
            statements: spec.statements,
            uids: spec.protects.uids,
            digest: spec.protects.digest,
        }
    }

    /// Writes down that an object may go. The same again changes nothing; another approval replaces what was said.
    pub async fn write_record(
        &self,
        root: &LiveObject,
        requester: &str,
        decision: &Decision<'_>,
    ) -> Result<(), String> {
        let subject = &root.subject;
        let name = record_name(&subject.uid);
        let record = DeletionRecord {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: DeletionRecordSpec {
                resource: subject.kind(),
                api_version: root.api_version.clone(),
                namespace: subject.namespace.to_string(),
                name: subject.name.to_string(),
                uid: subject.uid.to_string(),
                requester: requester.to_owned(),
                rules: decision.rules.iter().map(|rule| rule.name.clone()).collect(),
                statements: decision.counted.clone(),
                protects: Protects {
                    // What is in a Namespace goes because that is terminating.
                    uids: decision
                        .carries
                        .iter()
                        .take(if subject.is_namespace() { 0 } else { MAX_NAMED })
                        .cloned()
                        .collect(),
                    ..decision.protects.clone().unwrap_or_default()
                },
            },
        };
        let records: Api<DeletionRecord> = Api::all(self.client.clone());
        for _ in 0..3 {
            match records.create(&PostParams::default(), &record).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => return Err(error.to_string()),
            }
            match records.get_opt(&name).await {
                Ok(Some(found)) if found.spec.statements == record.spec.statements => return Ok(()),
                // Its time is the API server's own, so another approval makes another record.
                Ok(Some(found)) => match super::delete_exactly(&records, &found.metadata).await {
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                },
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("others write it at the same time".to_owned())
    }
}

/// A record is one object in etcd, of 1.5 MiB at most, beside what its statements say.
const MAX_NAMED: usize = 10_000;
