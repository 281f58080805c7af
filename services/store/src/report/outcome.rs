//! What an attempt of the queue means for reports.

use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::{CompleteRequest, Entry};
use mox_proto::report::v1::Recorded;
use prost::Message as _;

use super::{bounds, suppress};
use crate::engine::Commit;
use crate::keys;

/// Adds to the commit of an outcome what reports need of it: the results of TLS, and that an address for reports takes
/// none.
pub(crate) fn on_outcome(commit: &mut Commit, entry: &Entry, request: &CompleteRequest, now: i64) {
    let is_report = entry.dmarc_report || entry.tls_report;
    if is_report && request.outcome() == Outcome::Failed {
        let error = request.result.as_ref().map_or("", |result| result.error.as_str());
        suppress::after_failure(commit, &entry.recipient, error, now);
    }
    // RFC 8460 §3: sessions that bring reports are not reported.
    if is_report || request.tls_results.is_empty() {
        return;
    }
    let mut recorded = Recorded {
        tls_results: request.tls_results.iter().take(bounds::RECORDED).cloned().collect(),
        at: now,
        ..Recorded::default()
    };
    recorded.tls_results.iter_mut().for_each(bounds::result);
    commit.put(keys::report_inbox(now, &request.key), recorded.encode_to_vec());
}
