//! Figures of reports.

use mox_proto::report::v1::BundleKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PostLabel {
    result: &'static str,
}

/// Figures of reports.
pub(super) struct Metrics {
    reports: Family<Labels, Counter>,
    letters: Family<Labels, Counter>,
    posts: Family<PostLabel, Counter>,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            reports: Family::default(),
            letters: Family::default(),
            posts: Family::default(),
        };
        registry.register(
            "mox_queue_delivery_reports",
            "What was to be reported of a domain and a period, by what became of it",
            this.reports.clone(),
        );
        registry.register(
            "mox_queue_delivery_report_messages",
            "Messages with reports: put into the queue, or suppressed",
            this.letters.clone(),
        );
        registry.register(
            "mox_queue_delivery_report_posts",
            "Posts of TLS reports by HTTPS: taken, or failed",
            this.posts.clone(),
        );
        this
    }

    pub(super) fn posted(&self, taken: usize, failed: usize) {
        for (result, many) in [("taken", taken), ("failed", failed)] {
            self.posts.get_or_create(&PostLabel { result }).inc_by(many as u64);
        }
    }

    pub(super) fn reported(&self, kind: BundleKind, result: &'static str, sent: u32, suppressed: usize) {
        let kind = match kind {
            BundleKind::Dmarc | BundleKind::Unspecified => "dmarc",
            BundleKind::TlsDomain => "tls-domain",
            BundleKind::TlsHost => "tls-host",
        };
        self.reports.get_or_create(&Labels { kind, result }).inc();
        for (result, many) in [("queued", u64::from(sent)), ("suppressed", suppressed as u64)] {
            self.letters.get_or_create(&Labels { kind, result }).inc_by(many);
        }
    }
}
