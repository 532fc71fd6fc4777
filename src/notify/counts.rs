use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of notifications.
#[derive(Clone, Default)]
pub(super) struct Counts {
    pub attempts: Family<OutcomeLabels, Counter>,
    pub dropped: Family<ReasonLabels, Counter>,
    pub pending: Family<SinkLabels, Gauge<i64, AtomicI64>>,
    /// Nothing where nothing is configured.
    pub config_good: Family<[(String, String); 0], Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub sink: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub sink: String,
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkLabels {
    pub sink: String,
}

impl Counts {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "notifications",
            "Attempts to notify somebody, by what became of them",
            self.attempts.clone(),
        );
        registry.register("notifications_dropped", "Notifications that nobody will hear", self.dropped.clone());
        registry.register("notifications_pending", "Notifications that wait to be sent", self.pending.clone());
        registry.register(
            "notifications_config_last_reload_successful",
            "Whether the configuration of notifications could be used when it was last read",
            self.config_good.clone(),
        );
    }

    pub fn attempt(&self, sink: &str, outcome: &'static str) {
        self.attempts.get_or_create(&OutcomeLabels { sink: sink.to_owned(), outcome }).inc();
    }

    pub fn drop(&self, sink: &str, reason: &'static str) {
        self.dropped.get_or_create(&ReasonLabels { sink: sink.to_owned(), reason }).inc();
    }

    pub fn pending(&self, sink: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.pending.get_or_create(&SinkLabels { sink: sink.to_owned() }).set(count);
    }

    /// A sink that is no more has no series.
    pub fn forget(&self, sink: &str) {
        self.pending.remove(&SinkLabels { sink: sink.to_owned() });
    }
}
