//! Figures.

use mox_telemetry::Telemetry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoginLabels {
    mechanism: String,
    result: &'static str,
}

/// The figures of the service.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    commands: Family<CommandLabels, Histogram>,
    logins: Family<LoginLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(telemetry: &Telemetry) -> Self {
        let make = || Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let metrics = Self {
            commands: Family::new_with_constructor(make),
            logins: Family::default(),
        };
        let mut registry = telemetry.registry.lock();
        let commands = metrics.commands.clone();
        registry.register(
            "mox_imap_command_duration_seconds",
            "Commands by name and result",
            commands,
        );
        registry.register(
            "mox_imap_logins",
            "Logins by mechanism and result",
            metrics.logins.clone(),
        );
        metrics
    }

    pub(crate) fn command(&self, command: &'static str, result: &'static str, seconds: f64) {
        let command = if command.is_empty() { "unknown" } else { command };
        self.commands
            .get_or_create(&CommandLabels { command, result })
            .observe(seconds);
    }

    pub(crate) fn login(&self, mechanism: &str, result: &'static str) {
        let labels = LoginLabels {
            mechanism: mechanism.to_owned(),
            result,
        };
        self.logins.get_or_create(&labels).inc();
    }
}
