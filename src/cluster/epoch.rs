//! Since when nobody could have planted an approval.
//!
//! An unsigned approval is worth something because the shared configuration let nobody but its author write it. That
//! holds only while the configuration stands. So Tagout remembers which configuration it knows (its UID and generation,
//! which only ever rises), and a random value, the epoch, that approvals name. Any change by other hands ends the epoch.

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::Cluster;
use super::secrets::Place;
use crate::api::sha256;
use crate::entries::SHARED;
use crate::guard::Epoch;

/// Whoever may write it may make approvals count that were planted.
const RECORD: Place = Place { name: "tagout-epoch", key: "record" };

/// How Kubernetes itself orders a deletion.
const KUBERNETES_OWN: [&str; 2] = ["foregroundDeletion", "orphan"];

/// What Tagout remembers of its shared configuration.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Absent until it is certain that nobody can plant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    pub uid: String,
    pub generation: i64,
    /// The hash of what Tagout itself is about to write as the next generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Which version of Tagout wrote what stands there, as rules' entries say it too.
    #[serde(default)]
    pub compiler: u32,
}

impl Record {
    pub fn of(configuration: &ValidatingWebhookConfiguration) -> Self {
        Self {
            epoch: None,
            uid: configuration.metadata.uid.clone().unwrap_or_default(),
            generation: configuration.metadata.generation.unwrap_or_default(),
            next: None,
            compiler: 0,
        }
    }

    /// Whether the configuration is as Tagout left it, or as it was about to write it.
    pub fn knows(&self, configuration: &ValidatingWebhookConfiguration) -> bool {
        let found = Self::of(configuration);
        let next = || {
            found.generation == self.generation + 1
                && self.next.is_some()
                && self.next == configuration.webhooks.as_deref().map(hash)
        };
        found.uid == self.uid && !self.uid.is_empty() && (found.generation == self.generation || next())
    }
}

pub fn hash(webhooks: &[ValidatingWebhook]) -> String {
    sha256(&serde_json::to_vec(webhooks).expect("what was compiled can be written"))
}

/// The record as it is stored, with its version.
pub struct StoredRecord {
    pub record: Record,
    pub resource_version: Option<String>,
}

pub async fn read_record(client: &Client, namespace: &str) -> kube::Result<Option<StoredRecord>> {
    let found = RECORD.read(client, namespace).await?;
    // What cannot be read knows nothing.
    Ok(found.map(|found| StoredRecord { record: found.said.unwrap_or_default(), resource_version: found.version }))
}

pub async fn write_record(
    client: &Client,
    namespace: &str,
    record: &Record,
    over: Option<String>,
) -> kube::Result<StoredRecord> {
    let resource_version = RECORD.write(client, namespace, record, over).await?;
    Ok(StoredRecord { record: record.clone(), resource_version })
}

impl Cluster {
    /// The epoch as it is now. Read live each time: approvals are rare, and a memory of it would be a time in which
    /// what was planted counts.
    pub async fn epoch(&self) -> Epoch {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        // In this order: a configuration changed in between is then one that the record does not know.
        let record = read_record(&self.client, &self.own_namespace).await;
        let shared = configurations.get_opt(SHARED).await;
        let none = |why: &str| Epoch::None(why.to_owned());
        match (record, shared) {
            (Ok(Some(stored)), Ok(Some(shared))) if stored.record.knows(&shared) => stored
                .record
                .epoch
                .map_or_else(|| none("Tagout still makes sure that nobody can plant approvals"), Epoch::Current),
            (Ok(_), Ok(_)) => {
                none("Tagout's configuration was changed, and whether approvals could be planted is being checked")
            }
            _ => none("whether approvals could have been planted cannot be read from the API server"),
        }
    }

    /// Whether Tagout is being removed: what is in its way then is not guarded any more.
    pub async fn is_removed(&self) -> bool {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        match configurations.get_metadata_opt(SHARED).await {
            // One that somebody keeps from going still guards.
            Ok(found) => found.is_none_or(|shared| {
                let kept =
                    shared.metadata.finalizers.iter().flatten().any(|own| !KUBERNETES_OWN.contains(&own.as_str()));
                shared.metadata.deletion_timestamp.is_some() && !kept
            }),
            // Only the API server's own word counts.
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(uid: &str, generation: i64, name: &str) -> ValidatingWebhookConfiguration {
        let mut configuration = ValidatingWebhookConfiguration {
            webhooks: Some(vec![ValidatingWebhook { name: name.to_owned(), ..ValidatingWebhook::default() }]),
            ..ValidatingWebhookConfiguration::default()
        };
        configuration.metadata.uid = Some(uid.to_owned());
        configuration.metadata.generation = Some(generation);
        configuration
    }

    #[test]
    fn only_what_tagout_left_or_was_about_to_write_is_known() {
        let ours = configuration("u", 6, "ours");
        let record = Record {
            epoch: Some("e".into()),
            uid: "u".into(),
            generation: 5,
            next: ours.webhooks.as_deref().map(hash),
            compiler: 4,
        };
        assert!(record.knows(&configuration("u", 5, "whatever stood there")));
        assert!(record.knows(&ours));
        assert!(!record.knows(&configuration("u", 6, "weakened")));
        assert!(!record.knows(&configuration("u", 7, "ours")), "weakened and put back");
        assert!(!record.knows(&configuration("v", 5, "ours")), "deleted and made anew");
        assert!(!Record { next: None, ..record }.knows(&ours));
    }

    #[test]
    fn a_record_that_says_nothing_knows_nothing() {
        assert!(!Record::default().knows(&configuration("", 0, "ours")));
    }
}
