//! Stage: reports of other servers about DMARC and TLS, at the addresses where they are expected. They come from whoever
//! got mail in our name or delivers to us, so that they are mostly from strangers, and look like nothing else: no history
//! and no filter is asked about them.

use mox_proto::report::v1::received::Report;

use super::Case;

/// Why a message is accepted, if it is a report. smtp-in found it, and that it is from who it says.
pub(super) fn recognized(case: &Case<'_>) -> Option<&'static str> {
    let report = case.envelope.report.as_ref()?.report.as_ref()?;
    let kinds = case.dynamic.reports_to(&case.recipient.address);
    match report {
        Report::Dmarc(_) if kinds.dmarc => Some("dmarc-report"),
        Report::Tls(_) if kinds.tls => Some("tls-report"),
        _ => None,
    }
}
