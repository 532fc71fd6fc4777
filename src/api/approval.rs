use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Action, Statement};

/// Approvals of one action on one object, kept beside the object instead of on it: by people who may not write to it,
/// or where its owner strips what others write.
#[expect(clippy::duplicated_attributes, reason = "each column says its type")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "Approval",
    derive = "PartialEq",
    category = "tagout",
    doc = "An Approval holds approvals of one action on one object, beside the object. Write it with kubectl tagout.",
    printcolumn(
        name = "Action",
        type_ = "string",
        json_path = ".spec.statements[0].action",
        description = "What may happen"
    ),
    printcolumn(
        name = "Resource",
        type_ = "string",
        json_path = ".spec.statements[0].resource",
        description = "Plural name and group"
    ),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.statements[0].namespace",
        description = "Its namespace"
    ),
    printcolumn(name = "Object", type_ = "string", json_path = ".spec.statements[0].name", description = "Its name"),
    printcolumn(
        name = "Approvers",
        type_ = "string",
        json_path = ".spec.statements[*].approver",
        description = "Who approved"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.statements[*].expires",
        description = "Until when"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// The statements, as they would stand in the annotation tagout.dev/approval of the object.
    #[schemars(length(min = 1, max = 64))]
    pub statements: Vec<Statement>,
}

/// The name of the Approval for an action on an object.
///
/// Not of the UID alone: what does not exist yet has none.
pub fn approval_name(action: Action, resource: &str, namespace: &str, name: &str, uid: &str) -> String {
    let mut hash = Sha256::new();
    for part in [action.as_str(), resource, namespace, name, uid] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    // 128 bits: nobody finds two that share a name.
    format!("{}-{:.32}", action.as_str().to_lowercase(), format!("{:x}", hash.finalize()))
}

impl Statement {
    /// The name of the Approval in which it can stand.
    pub fn approval_name(&self) -> String {
        approval_name(self.action, &self.resource, &self.namespace, &self.name, &self.uid)
    }
}
