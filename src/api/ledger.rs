use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Action;

/// What was let pass within the budgets of the rule of the same name. Written by Tagout alone.
#[expect(clippy::duplicated_attributes, reason = "each column says its type")]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "tagout.dev",
    version = "v1alpha1",
    kind = "Ledger",
    derive = "PartialEq",
    category = "tagout",
    doc = "A Ledger says what was let pass within the budgets of the rule of the same name. Tagout writes it.",
    printcolumn(
        name = "Last",
        type_ = "date",
        json_path = ".spec.changed",
        description = "When something was last let pass"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LedgerSpec {
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed: Option<Timestamp>,

    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub entries: Vec<LedgerEntry>,

    /// Places that came to nothing: reviews can be forged, and those are seen by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub lapsed: Vec<Lapse>,
}

/// A place that came to nothing.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Lapse {
    #[schemars(length(max = 253))]
    pub uid: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

/// One request that was let pass. It holds its place until it counts no more; where the object is still there 75 s after
/// it was last asked about, and the 30 s by which clocks may differ, it gives it back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    pub action: Action,
    #[schemars(length(max = 512))]
    pub api_version: String,
    /// Plural and group.
    #[schemars(length(max = 512))]
    pub resource: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub namespace: String,
    #[schemars(length(max = 253))]
    pub name: String,
    #[schemars(length(max = 253))]
    pub uid: String,
    /// Who asked, as far as the API server could tell; names longer than 100 bytes by their beginning and a hash.
    #[schemars(length(max = 3), inner(length(max = 128)))]
    pub requesters: Vec<String>,
    /// Whether people approved it; if not, it was let pass by the allowance, or because so little went.
    pub approved: bool,
    /// Whether it takes from the allowance.
    pub allowance: bool,
    #[serde(default)]
    #[schemars(extend("format" = "int32"))]
    pub volumes: u32,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub first: Timestamp,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last: Timestamp,
    /// Whether it is known that it was done.
    #[serde(default)]
    pub spent: bool,
}
