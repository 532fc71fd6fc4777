use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Protects, Statement};

/// What was destroyed under one name, by whom and on whose approval. Written by Tagout alone, when it lets a deletion
/// pass.
#[expect(clippy::duplicated_attributes, reason = "each column says its type")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "DeletionRecord",
    derive = "PartialEq",
    category = "tagout",
    doc = "A DeletionRecord says what was destroyed under one name, by whom and on whose approval. Tagout writes it.",
    printcolumn(
        name = "Resource",
        type_ = "string",
        json_path = ".spec.resource",
        description = "Plural name and group"
    ),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace", description = "Its namespace"),
    printcolumn(name = "Object", type_ = "string", json_path = ".spec.name", description = "Its name"),
    printcolumn(
        name = "Requester",
        type_ = "string",
        json_path = ".spec.deletions[0].requesters[*]",
        description = "Who asked, as far as the API server could tell"
    ),
    printcolumn(
        name = "Approvers",
        type_ = "string",
        json_path = ".spec.deletions[0].statements[*].approver",
        description = "Who approved"
    ),
    printcolumn(
        name = "Deleted",
        type_ = "date",
        json_path = ".spec.deletions[0].at",
        description = "When it was let pass"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DeletionRecordSpec {
    /// Plural and group, like `deployments.apps`.
    #[schemars(length(max = 512))]
    pub resource: String,
    #[schemars(length(max = 512))]
    pub api_version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub namespace: String,
    #[schemars(length(max = 253))]
    pub name: String,
    /// The newest first. Earlier ones are kept while what went along may still be going.
    #[schemars(length(min = 1, max = 8))]
    pub deletions: Vec<Deletion>,
}

/// One deletion that was let pass. Everything but the requesters is what stood in the cluster at that time.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    #[schemars(length(max = 253))]
    pub uid: String,
    /// When it had been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// When it was let pass, by the API server's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// When it was last asked for.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last: Timestamp,
    /// Who asked, as far as the API server could tell.
    #[schemars(length(max = 8), inner(length(max = 1024)))]
    pub requesters: Vec<String>,
    /// The rules that enforced.
    #[schemars(length(max = 1024), inner(length(max = 63)))]
    pub rules: Vec<String>,
    /// The statements by which it was let pass; none where an allowance let it pass.
    #[schemars(length(max = 64))]
    pub statements: Vec<Statement>,
    /// The protected objects that were to go along.
    pub protects: Protects,
    /// How many objects of each kind were to go along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub radius: BTreeMap<String, i64>,
    /// How many volumes were to lose their data.
    #[serde(default)]
    #[schemars(extend("format" = "int32"))]
    pub volumes: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub owners: Vec<OwnerRecord>,
}

/// An owner that it had.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRecord {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub controller: bool,
}

/// The name of the record of what was destroyed under a name.
pub fn record_name(resource: &str, namespace: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [resource, namespace, name] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    format!("deleted-{:.32}", format!("{:x}", hash.finalize()))
}
