//! Whether the guard itself stands.

use std::sync::atomic::AtomicI64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{debug, info, warn};

use super::Telemetry;
use crate::api::printable;
use crate::cluster::{Announced, Announcement, guards_own};
use crate::guard::Unlocked;
use crate::notify::{Data, Kind, Notification};

#[derive(Default)]
pub(super) struct Guard {
    canary: Family<CheckLabels, Gauge<i64, AtomicI64>>,
    last_refused: Family<CheckLabels, Gauge<i64, AtomicI64>>,
    locked: Gauge<i64, AtomicI64>,
    unlocked: Gauge<i64, AtomicI64>,
    repaired: Family<KindLabels, Counter>,
    epochs_ended: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    check: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    Approval,
    Deletion,
}

/// Something that must not be was tried in a dry-run.
pub struct Tried<'a> {
    pub check: Check,
    pub refused: bool,
    pub detail: &'a str,
    pub hearers: Hearers,
}

/// Who hears of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearers {
    Nobody,
    /// Those who keep alerts, for whom it ends what was told before this process began.
    Alerts,
    Everybody,
}

/// What makes Tagout work was looked at.
pub struct Locked {
    pub locked: bool,
    /// For how many users it is not.
    pub unlocked: usize,
}

/// Something that guards was changed by other hands, and was put back.
pub struct DriftRepaired<'a> {
    pub kind: &'a str,
    pub name: &'a str,
    pub what: &'a str,
    /// The UID of the chart's configuration.
    pub shared: &'a str,
}

/// What makes Tagout work may be changed for a time.
pub struct UnlockGranted<'a> {
    pub unlocked: &'a Unlocked,
    pub shared: &'a str,
}

/// It may not any more.
pub struct Relocked<'a> {
    pub unlocked: &'a Unlocked,
}

/// The shared configuration was changed by other hands while an epoch was current.
pub struct EpochEnded<'a> {
    pub configuration: &'a str,
}

/// A rule is not in force as it is written.
pub struct RuleRejected<'a> {
    pub rule: &'a str,
    pub uid: &'a str,
    pub generation: i64,
    pub why: &'a str,
}

/// Where notifications go was changed.
pub struct NotificationsChanged {
    pub told: Notification,
}

impl Guard {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "canary_success",
            "Whether Tagout was asked, and refused, when this was last tried through the API server",
            self.canary.clone(),
        );
        registry.register(
            "canary_last_success_timestamp_seconds",
            "When Tagout last refused what was tried through the API server",
            self.last_refused.clone(),
        );
        registry.register("locked", "Whether policies keep Tagout itself as it is", self.locked.clone());
        registry.register("unlocked", "Users for whom Tagout is unlocked now", self.unlocked.clone());
        registry.register(
            "drift_repaired",
            "Times that something by which Tagout guards was changed by other hands and put back",
            self.repaired.clone(),
        );
        registry.register(
            "epochs_ended",
            "Times the guard's configuration was changed by other hands",
            self.epochs_ended.clone(),
        );
    }
}

impl Telemetry {
    /// Has it written as an Event about the chart's configuration. `shared` is its UID.
    fn announce_about_guard(&self, reason: &'static str, action: &'static str, note: String, shared: &str) {
        let subject = guards_own(shared.to_owned());
        let object = Announced {
            group: subject.group.into_owned(),
            version: "v1".to_owned(),
            kind: "ValidatingWebhookConfiguration".to_owned(),
            plural: subject.resource.into_owned(),
            namespace: String::new(),
            name: subject.name.into_owned(),
            uid: subject.uid.into_owned(),
        };
        self.announcer.announce(Announcement { object, reason, action, note, seen: true, urgent: true });
    }

    fn tell(&self, kind: Kind, data: Data, distinct: String) {
        self.notifier.tell(&Notification::new(kind, Timestamp::now(), data).distinct_by(distinct));
    }
}

impl Check {
    fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Deletion => "deletion",
        }
    }
}

impl Tried<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let check = self.check.as_str();
        let labels = CheckLabels { check };
        telemetry.guard.canary.get_or_create(&labels).set(i64::from(self.refused));
        if self.refused {
            telemetry.guard.last_refused.get_or_create(&labels).set(Timestamp::now().as_second());
            debug!(event = "canary", check, "what must not be was tried and refused");
        } else {
            warn!(
                event = "canary",
                check,
                detail = self.detail,
                "what must not be was tried, and Tagout was not heard to refuse it"
            );
        }
        let (kind, message) = if self.refused {
            (Kind::Reached, format!("What must not be ({check}) was tried, and Tagout is heard to refuse it again"))
        } else {
            let detail = self.detail;
            let message =
                format!("What must not be ({check}) was tried, and Tagout was not heard to refuse it: {detail}");
            (Kind::CanaryFailed, message)
        };
        let data = Data { message, check, because: self.detail.to_owned(), ..Data::default() };
        let told = Notification::new(kind, Timestamp::now(), data);
        match self.hearers {
            Hearers::Nobody => {}
            Hearers::Alerts => telemetry.notifier.tell(&told.quietly()),
            Hearers::Everybody => telemetry.notifier.tell(&told),
        }
    }
}

impl Locked {
    pub fn emit(self, telemetry: &Telemetry) {
        telemetry.guard.locked.set(i64::from(self.locked));
        telemetry.guard.unlocked.set(i64::try_from(self.unlocked).unwrap_or(i64::MAX));
    }
}

impl DriftRepaired<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let Self { kind, name, what, shared } = self;
        telemetry.guard.repaired.get_or_create(&KindLabels { kind: kind.to_owned() }).inc();
        warn!(event = "drift_repaired", kind, name, what);
        let note = format!("{kind} {name} {what} by other hands and is put back: see who may do that");
        let data = Data {
            message: note.clone(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            because: what.to_owned(),
            ..Data::default()
        };
        telemetry.tell(Kind::DriftRepaired, data, format!("{kind} {name} {what}"));
        telemetry.announce_about_guard("GuardRestored", "Restore", note, shared);
    }
}

impl UnlockGranted<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let Unlocked { requester, approvers, broke_glass, until, statements } = self.unlocked;
        warn!(
            event = "unlocked",
            requester,
            approvers = approvers.join(","),
            broke_glass,
            until = %until,
            "what makes Tagout work may be changed by this user"
        );
        let by = if *broke_glass { "who broke the glass for it" } else { "who approved it" };
        let note = printable(&format!(
            "Tagout is unlocked for {requester} until {until} by {}, {by}: what guards the cluster may be changed",
            approvers.join(", ")
        ));
        let data = Data {
            message: note.clone(),
            requester: requester.clone(),
            people: approvers.clone(),
            broke_glass: *broke_glass,
            until: Some(*until),
            ..Data::default()
        };
        telemetry.tell(Kind::Unlocked, data, format!("{requester} {until} {}", statements.join(" ")));
        telemetry.announce_about_guard("Unlocked", "Unlock", note, self.shared);
    }
}

impl Relocked<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let Unlocked { requester, broke_glass, .. } = self.unlocked;
        info!(event = "locked", requester, "Tagout is locked again");
        let message = format!("Tagout is locked again for {requester}");
        let data = Data { message, requester: requester.clone(), broke_glass: *broke_glass, ..Data::default() };
        telemetry.tell(Kind::Relocked, data, format!("{requester} {}", Timestamp::now()));
    }
}

impl EpochEnded<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        const WHAT: &str = "was changed by other hands: approvals by identity given until now do not count any more";
        let Self { configuration } = self;
        telemetry.guard.epochs_ended.inc();
        warn!(event = "epoch_ended", configuration, "{WHAT}");
        let data = Data {
            message: format!("The configuration {configuration} {WHAT}"),
            name: configuration.to_owned(),
            ..Data::default()
        };
        telemetry.tell(Kind::EpochEnded, data, Timestamp::now().to_string());
    }
}

impl RuleRejected<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let Self { rule, uid, generation, why } = self;
        warn!(event = "rule_rejected", rule, generation, why, "what the rule says is not in force");
        let data = Data {
            message: format!("Rule {rule} is not in force as it is written: {why}"),
            rules: vec![rule.to_owned()],
            kind: "protectionrules.tagout.dev".to_owned(),
            name: rule.to_owned(),
            uid: uid.to_owned(),
            because: why.to_owned(),
            ..Data::default()
        };
        telemetry.tell(Kind::RuleRejected, data, generation.to_string());
    }
}

impl NotificationsChanged {
    pub fn emit(self, telemetry: &Telemetry) {
        let what = &self.told.data.message;
        warn!(event = "notifications_changed", what);
        telemetry.announce_about_guard("NotificationsChanged", "Notify", what.clone(), "");
        telemetry.notifier.tell(&self.told);
    }
}
