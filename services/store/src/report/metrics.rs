//! Figures of reports.

use mox_proto::report::v1::{DmarcReport, TlsReport};
use mox_reports::{dmarc, tls};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Received {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Messages {
    disposition: &'static str,
    aligned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sessions {
    policy: &'static str,
    result: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    received: Family<Received, Counter>,
    messages: Family<Messages, Counter>,
    sessions: Family<Sessions, Counter>,
    recorded: Counter,
    omitted: Counter,
    pub bundles: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "mox_store_reports_received",
            "Reports of others by kind and what became of them",
            self.received.clone(),
        );
        registry.register(
            "mox_store_reports_dmarc_messages",
            "Messages in our name that others tell of in DMARC reports",
            self.messages.clone(),
        );
        registry.register(
            "mox_store_reports_tls_sessions",
            "Sessions with us that others tell of in TLS reports",
            self.sessions.clone(),
        );
        registry.register(
            "mox_store_reports_recorded",
            "Messages and sessions that were recorded to be reported to others",
            self.recorded.clone(),
        );
        registry.register(
            "mox_store_reports_omitted",
            "Messages and sessions that there was no room for in what is to be reported",
            self.omitted.clone(),
        );
        registry.register(
            "mox_store_reports_waiting",
            "Domains and periods that there is something to be reported about",
            self.bundles.clone(),
        );
    }

    pub fn recorded(&self, many: u64, omitted: u64) {
        self.recorded.inc_by(many);
        self.omitted.inc_by(omitted);
    }

    pub fn refused(&self, kind: &'static str, result: &'static str) {
        self.received.get_or_create(&Received { kind, result }).inc();
    }

    pub fn dmarc(&self, report: &DmarcReport) {
        let (kind, result) = ("dmarc", "kept");
        self.received.get_or_create(&Received { kind, result }).inc();
        for row in &report.rows {
            let labels = Messages {
                disposition: dmarc::disposition(row.disposition()),
                aligned: row.dkim_aligned || row.spf_aligned,
            };
            self.messages.get_or_create(&labels).inc_by(row.count);
        }
    }

    pub fn tls(&self, report: &TlsReport) {
        let (kind, result) = ("tls", "kept");
        self.received.get_or_create(&Received { kind, result }).inc();
        let add = |policy, result, many| {
            self.sessions.get_or_create(&Sessions { policy, result }).inc_by(many);
        };
        for policy in &report.policies {
            let name = tls::policy_name(policy.policy_type());
            add(name, "success", policy.success_count);
            let mut rest = policy.failure_count;
            for failure in &policy.failures {
                let many = failure.failed_session_count.min(rest);
                rest -= many;
                add(name, tls::result_name(failure.result_type()), many);
            }
            add(name, "unspecified", rest);
        }
    }
}
