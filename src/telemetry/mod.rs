//! What is logged, counted and told. One struct for each event emits all of it: the log's line, the metric, the Event,
//! the annotations of the audit log and the notification never disagree.

mod decided;
mod guard;
#[cfg(feature = "otel")]
mod traces;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::api::Statement;
use crate::cluster::Announcer;
use crate::notify::{Data, Kind, Notification, Notifier};

use decided::Decisions;
pub use decided::{BREAK_GLASS, Decided, Unweighed};
use guard::Guard;
pub use guard::{
    Check, DriftRepaired, EpochEnded, Hearers, Locked, NotificationsChanged, Relocked, RuleRejected, Tried,
    UnlockGranted,
};

#[cfg(feature = "otel")]
pub use traces::Traces;

pub struct Telemetry {
    registry: Registry,
    announcer: Announcer,
    notifier: Notifier,
    decisions: Decisions,
    presented: Family<PresentedLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    rules: Family<RuleLabels, Gauge<i64, AtomicI64>>,
    lapsed: Family<RuleNameLabels, Gauge<i64, AtomicI64>>,
    guard: Guard,
    certificates: Family<CertificateLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleNameLabels {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PresentedLabels {
    accepted: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

/// Somebody wrote an approval.
pub struct Presented<'a> {
    pub kind: String,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub approver: &'a str,
    /// What was said that was not said there before.
    pub statements: &'a [Statement],
    pub refused: Option<String>,
    pub dry_run: bool,
}

/// A call could not be answered; the API server treats it by the entry's failure policy.
pub struct Failed<'a> {
    pub reason: &'static str,
    pub detail: &'a str,
}

/// The registrar has looked at all rules.
pub struct Registered {
    pub in_force: usize,
    pub rejected: usize,
}

/// Places in the budgets of a rule were held and came to nothing: forged reviews leave these behind.
pub struct Lapsed<'a> {
    pub rule: &'a str,
    pub count: usize,
}

impl Telemetry {
    /// Writes Events by the one, and tells others by the other.
    pub fn new(announcer: Announcer, notifier: Notifier) -> Self {
        let mut registry = Registry::with_prefix("tagout");
        let this = Self {
            announcer,
            notifier,
            decisions: Decisions::default(),
            presented: Family::default(),
            failures: Family::default(),
            rules: Family::default(),
            lapsed: Family::default(),
            guard: Guard::default(),
            certificates: Family::default(),
            registry: Registry::default(),
        };
        this.decisions.register(&mut registry);
        this.notifier.register(&mut registry);
        registry.register("approvals_presented", "Approvals written on objects", this.presented.clone());
        registry.register("calls_failed", "Calls that could not be answered", this.failures.clone());
        registry.register("rules", "Rules, by whether the API server holds their latest version", this.rules.clone());
        registry.register(
            "places_lapsed",
            "Deletions let pass in the window of a rule's budgets that never happened",
            this.lapsed.clone(),
        );
        this.guard.register(&mut registry);
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate and its authority run out, in seconds since 1970",
            this.certificates.clone(),
        );
        Self { registry, ..this }
    }

    /// The served certificate and its authority run out then, in seconds since 1970.
    pub fn certificates_end(&self, serving: i64, authority: i64) {
        for (certificate, ends) in [("serving", serving), ("authority", authority)] {
            self.certificates.get_or_create(&CertificateLabels { certificate }).set(ends);
        }
    }

    /// All metrics in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Presented<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let accepted = if self.refused.is_none() { "true" } else { "false" };
        // Tagout tries in dry-runs whether a forged one is accepted.
        if !self.dry_run {
            telemetry.presented.get_or_create(&PresentedLabels { accepted }).inc();
        }
        info!(
            event = "presented",
            accepted,
            refused = self.refused,
            kind = self.kind,
            namespace = self.namespace,
            name = self.name,
            uid = self.uid,
            approver = self.approver,
            dry_run = self.dry_run,
        );
        if self.refused.is_none() && !self.dry_run && telemetry.notifier.wants(Kind::Presented) {
            for statement in self.statements {
                telemetry.notifier.tell(&written(statement, self.approver));
            }
        }
    }
}

/// Signed, it may be carried by somebody else than who said it.
fn written(statement: &Statement, writer: &str) -> Notification {
    let short = |name: &str| name.chars().take(256).collect::<String>();
    let (action, kind, name) = (statement.action.as_str(), short(&statement.resource), short(&statement.name));
    let (approver, writer) = (short(&statement.approver), short(writer));
    let how = if statement.break_glass { "An approval in an emergency" } else { "An approval" };
    let data = Data {
        message: format!("{how} of {action} of {kind} {name} by {approver} was written by {writer}"),
        action,
        kind,
        namespace: statement.namespace.clone(),
        name,
        uid: statement.uid.clone(),
        requester: writer,
        people: vec![approver],
        broke_glass: statement.break_glass,
        ..Data::default()
    };
    let distinct = statement.hash().unwrap_or_default();
    Notification::new(Kind::Presented, Timestamp::now(), data).distinct_by(distinct)
}

impl Failed<'_> {
    /// The annotations of the API server's audit log, where it was refused for that.
    pub fn audit() -> BTreeMap<&'static str, String> {
        BTreeMap::from([("verdict", "deny".to_owned()), ("because", "it could not be decided".to_owned())])
    }

    pub fn emit(self, telemetry: &Telemetry) {
        telemetry.failures.get_or_create(&FailureLabels { reason: self.reason }).inc();
        warn!(event = "call_failed", reason = self.reason, detail = self.detail);
    }
}

impl Lapsed<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        let before = telemetry.lapsed.get_or_create(&RuleNameLabels { rule: self.rule.to_owned() }).set(count);
        if count > before {
            warn!(
                event = "places_lapsed",
                rule = self.rule,
                count,
                "deletions were let pass and never happened: see whether reviews are forged"
            );
        }
    }
}

impl Registered {
    pub fn emit(self, telemetry: &Telemetry) {
        for (state, count) in [("in_force", self.in_force), ("rejected", self.rejected)] {
            telemetry.rules.get_or_create(&RuleLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::api::{Action, Scope};

    #[test]
    fn two_approvals_by_one_person_are_told_as_two_with_what_they_are_about() {
        let now = Timestamp::UNIX_EPOCH;
        let delete = Statement {
            action: Action::Delete,
            uid: "u".into(),
            resource: "deployments.apps".into(),
            namespace: "payments".into(),
            name: "api".into(),
            cluster: "c".into(),
            epoch: None,
            approver: "carol".into(),
            team: "breakers".into(),
            requester: None,
            reason: None,
            protects: None,
            new_spec: None,
            approved_at: now,
            expires: now + SignedDuration::from_mins(1),
            break_glass: false,
            delete_only: false,
            scope: Scope::Object,
            signature: None,
        };
        let scale = Statement { action: Action::ScaleToZero, break_glass: true, ..delete.clone() };
        let (first, second) = (written(&delete, "ci"), written(&scale, "ci"));
        assert_ne!(first.id(), second.id());
        let Data { action, kind, name, uid, requester, people, broke_glass, message, .. } = second.data;
        assert_eq!((action, &*kind, &*name, &*uid), ("ScaleToZero", "deployments.apps", "api", "u"));
        assert_eq!((&*requester, people, broke_glass), ("ci", vec!["carol".to_owned()], true));
        assert!(message.starts_with("An approval in an emergency of ScaleToZero"), "{message}");
    }
}
