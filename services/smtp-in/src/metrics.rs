//! Figures.

use mox_telemetry::Telemetry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    result: &'static str,
}

/// The figures of the service.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    commands: Family<CommandLabels, Histogram>,
    messages: Family<MessageLabels, Counter>,
    bytes: Histogram,
}

impl Metrics {
    pub(crate) fn register(telemetry: &Telemetry) -> Self {
        // From 100 µs to half a minute.
        let times = || Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        let metrics = Self {
            commands: Family::new_with_constructor(times),
            messages: Family::default(),
            // From 1 KiB to 256 MiB.
            bytes: Histogram::new(exponential_buckets(1024.0, 4.0, 10)),
        };
        let mut registry = telemetry.registry.lock();
        registry.register(
            "mox_smtp_in_command_duration_seconds",
            "Commands by name and reply code",
            metrics.commands.clone(),
        );
        registry.register(
            "mox_smtp_in_messages",
            "Messages by what became of them",
            metrics.messages.clone(),
        );
        registry.register(
            "mox_smtp_in_message_size_bytes",
            "Sizes of messages that were received",
            metrics.bytes.clone(),
        );
        metrics
    }

    pub(crate) fn command(&self, command: &'static str, code: u16, seconds: f64) {
        self.commands
            .get_or_create(&CommandLabels { command, code })
            .observe(seconds);
    }

    /// A message, by its final reply.
    pub(crate) fn message(&self, code: u16, size: u64) {
        let result = match code / 100 {
            2 => "delivered",
            4 => "deferred",
            _ => "refused",
        };
        self.messages.get_or_create(&MessageLabels { result }).inc();
        self.bytes.observe(size as f64);
    }
}
