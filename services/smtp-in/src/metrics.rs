//! Figures.

use mox_proto::delivery::v1::{DmarcResult, Validation};
use mox_telemetry::Telemetry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::analyze::Findings;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    from: &'static str,
    dmarc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    accepted: &'static str,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    what: &'static str,
}

/// Characters of a reason in a label. Those of the store are a few short words each.
const REASON: usize = 40;

/// The figures of the service.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    commands: Family<CommandLabels, Histogram>,
    messages: Family<MessageLabels, Counter>,
    bytes: Histogram,
    authentications: Family<AuthenticationLabels, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    limited: Family<LimitLabels, Counter>,
    delayed: Counter,
    notifications: Counter,
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
            authentications: Family::default(),
            verdicts: Family::default(),
            limited: Family::default(),
            delayed: Counter::default(),
            notifications: Counter::default(),
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
        registry.register(
            "mox_smtp_in_authentications",
            "Messages by how the address in From was verified, and by what DMARC says",
            metrics.authentications.clone(),
        );
        registry.register(
            "mox_smtp_in_verdicts",
            "Recipients' copies by what was decided, and why",
            metrics.verdicts.clone(),
        );
        registry.register(
            "mox_smtp_in_limited",
            "Senders that were put off because their network sends too much, by what there was too much of",
            metrics.limited.clone(),
        );
        registry.register(
            "mox_smtp_in_delayed_replies",
            "Replies that were held back, to clients that made mistakes or sent what nobody wants",
            metrics.delayed.clone(),
        );
        registry.register(
            "mox_smtp_in_notifications",
            "Notifications to senders of messages that some of the recipients did not get",
            metrics.notifications.clone(),
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

    /// What was decided for one recipient.
    pub(crate) fn verdict(&self, accepted: bool, reason: &str) {
        let labels = VerdictLabels {
            accepted: if accepted { "yes" } else { "no" },
            reason: reason.chars().take(REASON).collect(),
        };
        self.verdicts.get_or_create(&labels).inc();
    }

    /// A network sends too much.
    pub(crate) fn limited(&self, what: &'static str) {
        self.limited.get_or_create(&LimitLabels { what }).inc();
    }

    /// A reply was held back.
    pub(crate) fn delayed(&self) {
        self.delayed.inc();
    }

    /// A sender was told that not everybody got the message.
    pub(crate) fn notified(&self) {
        self.notifications.inc();
    }

    /// A message whose sender was looked at.
    pub(crate) fn authenticated(&self, findings: &Findings) {
        let from = match findings.msg_from {
            // Nobody has looked.
            Validation::Unknown => return,
            Validation::Strict => "strict",
            Validation::Dmarc => "dmarc",
            Validation::Relaxed | Validation::Pass => "relaxed",
            Validation::Temperror => "temperror",
            Validation::Permerror => "permerror",
            Validation::Fail | Validation::Softfail => "fail",
            Validation::Neutral | Validation::None => "none",
        };
        let dmarc = match findings.dmarc {
            DmarcResult::Unknown | DmarcResult::None => "none",
            DmarcResult::Pass => "pass",
            DmarcResult::Fail => "fail",
            DmarcResult::Temperror => "temperror",
            DmarcResult::Permerror => "permerror",
        };
        self.authentications
            .get_or_create(&AuthenticationLabels { from, dmarc })
            .inc();
    }
}
