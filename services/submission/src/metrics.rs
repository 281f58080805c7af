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
struct LoginLabels {
    mechanism: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    result: &'static str,
}

/// The figures of the service.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    commands: Family<CommandLabels, Histogram>,
    logins: Family<LoginLabels, Counter>,
    messages: Family<MessageLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(telemetry: &Telemetry) -> Self {
        let make = || Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let metrics = Self {
            commands: Family::new_with_constructor(make),
            logins: Family::default(),
            messages: Family::default(),
        };
        let mut registry = telemetry.registry.lock();
        let commands = metrics.commands.clone();
        registry.register(
            "mox_submission_command_duration_seconds",
            "Commands by name and reply code",
            commands,
        );
        registry.register(
            "mox_submission_logins",
            "Logins by mechanism and result",
            metrics.logins.clone(),
        );
        registry.register(
            "mox_submission_messages",
            "Messages by what became of them",
            metrics.messages.clone(),
        );
        metrics
    }

    pub(crate) fn command(&self, command: &'static str, code: u16, seconds: f64) {
        self.commands
            .get_or_create(&CommandLabels { command, code })
            .observe(seconds);
    }

    pub(crate) fn login(&self, mechanism: &'static str, result: &'static str) {
        self.logins.get_or_create(&LoginLabels { mechanism, result }).inc();
    }

    pub(crate) fn message(&self, result: &'static str) {
        self.messages.get_or_create(&MessageLabels { result }).inc();
    }
}
