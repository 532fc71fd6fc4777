use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Protects, Statement};

/// What was destroyed, by whom and on whose approval. Written by Tagout alone, when it lets an approved deletion pass.
#[expect(clippy::duplicated_attributes, reason = "each column says its type")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "DeletionRecord",
    derive = "PartialEq",
    category = "tagout",
    doc = "A DeletionRecord says what was destroyed, by whom and on whose approval. Tagout writes it.",
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
        json_path = ".spec.requester",
        description = "Who asked, as far as the API server could tell"
    ),
    printcolumn(
        name = "Approvers",
        type_ = "string",
        json_path = ".spec.statements[*].approver",
        description = "Who approved"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
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
    #[schemars(length(max = 253))]
    pub uid: String,
    #[schemars(length(max = 1024))]
    pub requester: String,
    /// The rules that asked for approval.
    #[schemars(length(max = 1024), inner(length(max = 63)))]
    pub rules: Vec<String>,
    /// The statements by which it was let pass.
    #[schemars(length(max = 64))]
    pub statements: Vec<Statement>,
    /// The protected objects that were to go along.
    pub protects: Protects,
}

/// The name of the record of an object's deletion.
pub fn record_name(uid: &str) -> String {
    format!("deleted-{:.32}", format!("{:x}", Sha256::digest(uid)))
}
