//! What is counted and logged. One struct for each event emits all of it, so that log and metrics never disagree.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::guard::Verdict;

pub struct Telemetry {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    presented: Family<PresentedLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    rules: Family<RuleLabels, Gauge<i64, AtomicI64>>,
    broken_glass: Family<GlassLabels, Counter>,
    epochs_ended: Counter,
}

/// Labels come from rules, never from a review: reviews can be forged, and every value is a time series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    rule: String,
    action: &'static str,
    resource: String,
    verdict: VerdictLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VerdictLabel(Verdict);

impl EncodeLabelValue for VerdictLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GlassLabels {
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

/// A request was decided.
pub struct Decided<'a> {
    pub request: String,
    pub rule: &'a str,
    /// The kind as the rule names it, or `other`.
    pub resource_label: &'a str,
    pub action: &'static str,
    pub kind: String,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub requester: &'a str,
    pub verdict: Verdict,
    pub because: String,
    /// Who passed a rule alone, in an emergency.
    pub broke_glass: &'a [String],
    pub dry_run: bool,
}

/// Somebody wrote an approval.
pub struct Presented<'a> {
    pub kind: String,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub approver: &'a str,
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

impl Telemetry {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tagout");
        let this = Self {
            decisions: Family::default(),
            presented: Family::default(),
            failures: Family::default(),
            rules: Family::default(),
            broken_glass: Family::default(),
            epochs_ended: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("decisions", "Requests decided, by the rule that was asked", this.decisions.clone());
        registry.register("approvals_presented", "Approvals written on objects", this.presented.clone());
        registry.register("calls_failed", "Calls that could not be answered", this.failures.clone());
        registry.register("rules", "Rules, by whether the API server holds their latest version", this.rules.clone());
        registry.register(
            "break_glass",
            "Requests let pass in an emergency, by the rule that was asked",
            this.broken_glass.clone(),
        );
        registry.register(
            "epochs_ended",
            "Times the guard's configuration was changed by other hands",
            this.epochs_ended.clone(),
        );
        Self { registry, ..this }
    }

    /// The shared configuration was changed by other hands.
    pub fn epoch_ended(&self) {
        self.epochs_ended.inc();
    }

    /// All metrics in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Decided<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        telemetry
            .decisions
            .get_or_create(&DecisionLabels {
                rule: self.rule.to_owned(),
                action: self.action,
                resource: self.resource_label.to_owned(),
                verdict: VerdictLabel(self.verdict),
            })
            .inc();
        if !self.broke_glass.is_empty() && !self.dry_run {
            telemetry.broken_glass.get_or_create(&GlassLabels { rule: self.rule.to_owned() }).inc();
            warn!(
                event = "break_glass",
                request = self.request,
                people = self.broke_glass.join(","),
                rule = self.rule,
                action = self.action,
                kind = self.kind,
                namespace = self.namespace,
                name = self.name,
                uid = self.uid,
                requester = self.requester,
                "an emergency: a rule was passed by one person alone"
            );
        }
        info!(
            event = "decided",
            request = self.request,
            verdict = self.verdict.as_str(),
            because = self.because,
            rule = self.rule,
            action = self.action,
            kind = self.kind,
            namespace = self.namespace,
            name = self.name,
            uid = self.uid,
            requester = self.requester,
            dry_run = self.dry_run,
        );
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
    }
}

impl Failed<'_> {
    pub fn emit(self, telemetry: &Telemetry) {
        telemetry.failures.get_or_create(&FailureLabels { reason: self.reason }).inc();
        warn!(event = "call_failed", reason = self.reason, detail = self.detail);
    }
}

impl Registered {
    pub fn emit(self, telemetry: &Telemetry) {
        for (state, count) in [("in_force", self.in_force), ("rejected", self.rejected)] {
            telemetry.rules.get_or_create(&RuleLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
