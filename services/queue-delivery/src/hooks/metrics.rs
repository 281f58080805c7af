//! Figures of webhooks.

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: String,
}

/// Figures of webhooks. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct HookMetrics {
    results: Family<ResultLabel, Counter>,
    seconds: Histogram,
    /// Receivers being called now.
    pub active: Gauge,
}

impl HookMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            results: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 3.0, 9)),
            active: Gauge::default(),
        };
        registry.register(
            "mox_queue_delivery_webhook_results",
            "Calls of webhooks by the code that was answered, or error",
            this.results.clone(),
        );
        registry.register_with_unit(
            "mox_queue_delivery_webhook",
            "Time that calls of webhooks took",
            Unit::Seconds,
            this.seconds.clone(),
        );
        registry.register(
            "mox_queue_delivery_active_webhooks",
            "Calls of webhooks being made now",
            this.active.clone(),
        );
        this
    }

    /// A call came to an end after so many milliseconds; code 0 is no answer.
    pub(crate) fn called(&self, code: u16, millis: i64) {
        let known = StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason());
        let result = match (code, known) {
            (0, _) => "error".to_owned(),
            (code, Some(_)) => code.to_string(),
            // What receivers make up must not fill the memory of who counts.
            (code, None) => format!("{}xx", code / 100),
        };
        self.results.get_or_create(&ResultLabel { result }).inc();
        self.seconds.observe(millis as f64 / 1000.0);
    }
}
