//! Figures about TLS with others.

use mox_reports::tls::result_name;
use mox_tlspolicy::ResultType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::results::wire;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verification {
    verification: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Figures about TLS with others. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SecurityMetrics {
    connections: Family<Verification, Counter>,
    failures: Family<ResultLabel, Counter>,
    fetches: Family<ResultLabel, Counter>,
}

impl SecurityMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "mox_queue_delivery_connections",
            "Sessions with recipients' hosts by how far they were verified: dane, mta-sts, pkix, none, or plain",
            this.connections.clone(),
        );
        registry.register(
            "mox_queue_delivery_tls_failures",
            "TLS failures with recipients' hosts, by their names in reports (RFC 8460)",
            this.failures.clone(),
        );
        registry.register(
            "mox_queue_delivery_mtasts_fetches",
            "MTA-STS policies that were fetched, or could not be",
            this.fetches.clone(),
        );
        this
    }

    /// There is a session.
    pub fn connected(&self, verification: &'static str) {
        self.connections.get_or_create(&Verification { verification }).inc();
    }

    /// TLS failed.
    pub fn failed(&self, kind: ResultType) {
        let result = result_name(wire(kind));
        self.failures.get_or_create(&ResultLabel { result }).inc();
    }

    /// A policy was fetched, or not.
    pub fn fetched(&self, result: Result<(), ResultType>) {
        let result = result.map_or_else(|kind| result_name(wire(kind)), |()| "ok");
        self.fetches.get_or_create(&ResultLabel { result }).inc();
    }
}
