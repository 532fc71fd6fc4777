use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;

/// How much may be destroyed in a time that slides: what was let pass longer ago than `window` counts no more.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// How many requests are let pass in the window. What goes along with one of them does not count by itself.
    #[schemars(range(min = 1, max = 500), extend("format" = "int32"))]
    pub count: u32,

    /// How many volumes may lose their data by those requests. Absent: they are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 500), extend("format" = "int32"))]
    pub volumes: Option<u32>,

    /// How long a request counts, as a Go duration such as 10m or 1h; at most 168h.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')"
    ).message("write a Go duration of at least 1m and at most 168h, like 10m or 1h"))]
    pub window: Period,

    /// What has a budget of its own: each requester, each namespace, or the rule as a whole. Whoever may impersonate others
    /// has as many budgets `per: Requester` as there are names.
    pub per: Per,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    Requester,
    /// Of the object; what is in none shares one budget.
    Namespace,
    Rule,
}
