//! Figures of this service.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Figures of this service. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    results: Family<ResultLabel, Counter>,
    seconds: Histogram,
    /// Attempts that are being made.
    pub active: Gauge,
    /// Entries that are leased to this process.
    pub leased: Gauge,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            results: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 3.0, 11)),
            active: Gauge::default(),
            leased: Gauge::default(),
        };
        registry.register(
            "mox_queue_delivery_results",
            "Recipients by what became of an attempt",
            this.results.clone(),
        );
        registry.register_with_unit(
            "mox_queue_delivery_attempt",
            "Time that attempts took",
            Unit::Seconds,
            this.seconds.clone(),
        );
        registry.register(
            "mox_queue_delivery_active_attempts",
            "Attempts being made now",
            this.active.clone(),
        );
        registry.register(
            "mox_queue_delivery_leased_entries",
            "Entries leased by this process",
            this.leased.clone(),
        );
        this
    }

    /// An attempt came to an end for a recipient.
    pub fn result(&self, result: &'static str) {
        self.results.get_or_create(&ResultLabel { result }).inc();
    }

    /// An attempt took so long.
    pub fn took(&self, millis: i64) {
        self.seconds.observe(millis as f64 / 1000.0);
    }
}
