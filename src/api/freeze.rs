use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Period;

/// A time in which a rule lets nothing pass but an emergency, whoever approves.
///
/// Either once, `from` one moment `until` another, or again and again: it begins by `schedule` and lasts for `duration`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.from) && has(self.until) && !has(self.schedule) && !has(self.duration)) || (has(self.schedule) && \
     has(self.duration) && !has(self.from) && !has(self.until))"
).message("say from and until, or schedule and duration"))]
pub struct Freeze {
    /// When it begins, as the clocks in `timeZone` show it: `2026-12-23T18:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$')")
        .message("write a date and a time without an offset, like 2026-12-23T18:00; the place is timeZone"))]
    #[schemars(length(max = 19))]
    pub from: Option<String>,

    /// When it ends: `2027-01-04T08:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$')")
        .message("write a date and a time without an offset, like 2026-12-23T18:00; the place is timeZone"))]
    #[schemars(length(max = 19))]
    pub until: Option<String>,

    /// When it begins each time, as in a `CronJob`: `0 18 * * 5` is Friday at 18:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,

    /// How long it lasts each time, as a Go duration such as 62h; at most 744h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('744h')"
    ).message("write a Go duration of at least 1m and at most 744h, like 62h"))]
    pub duration: Option<Period>,

    /// The place whose clocks count, by its name in the IANA database: `Europe/Berlin`. Default: Etc/UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// What whoever is refused reads.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}
