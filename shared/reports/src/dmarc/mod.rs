//! DMARC aggregate reports: XML (RFC 9990 §2.1.1; RFC 7489 appendix C).

mod read;
mod write;

use mox_proto::report::v1::{Disposition, DmarcReport};

pub use read::parse;
pub use write::xml;

/// Why something is no aggregate report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DmarcError {
    /// It is not well-formed.
    #[error("reading the XML of a DMARC report at byte {at}: {cause}")]
    Xml {
        /// Where.
        at: u64,
        /// What is wrong.
        cause: String,
    },
    /// It has what reports have no use for, and attackers do.
    #[error("DMARC report has {0}")]
    Refused(&'static str),
    /// It is something else, or lacks what it must have.
    #[error("DMARC report has no valid {0}")]
    Lacks(&'static str),
}

/// A name of RFC 9990 for what was done.
#[must_use]
pub fn disposition(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::None => "none",
        Disposition::Quarantine => "quarantine",
        Disposition::Reject => "reject",
        Disposition::Pass => "pass",
    }
}

/// How many messages a report is about: those that DMARC passed for, and the others.
#[must_use]
pub fn counts(report: &DmarcReport) -> (u64, u64) {
    let mut counts = (0u64, 0u64);
    for row in &report.rows {
        let count = match row.dkim_aligned || row.spf_aligned {
            true => &mut counts.0,
            false => &mut counts.1,
        };
        *count = count.saturating_add(row.count);
    }
    counts
}

#[cfg(test)]
mod tests;
