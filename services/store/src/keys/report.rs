//! Keys of reports: those of others, and what is to be reported to others.

use mox_proto::report::v1::{BundleId, BundleKind};

use super::*;

/// What was recorded and is not yet added up: `i`, time, key.
const INBOX: u8 = b'i';
/// Bundles: `b`, kind, domain, 0, end.
const BUNDLES: u8 = b'b';
/// Rows of bundles: `r`, kind, domain, 0, end, digest.
const ROWS: u8 = b'r';
/// When bundles are due: `u`, time, kind, domain, 0, end.
const DUE: u8 = b'u';
/// How much there is: this one key.
const TOTALS: u8 = b't';
/// Leases of periodic jobs: `l`, name.
const LEASES: u8 = b'l';
/// Where reports are not sent to: `s`, address.
const SUPPRESSED: u8 = b's';
/// What is told of reports of others in lists: `S`, kind, id.
const SUMMARIES: u8 = b'S';
/// Reports of others: `R`, kind, id.
const RECEIVED: u8 = b'R';
/// How many reports a sender's reports were kept in a day: `n`, day, domain.
const SENDERS: u8 = b'n';

/// Bytes of a digest in keys.
pub const REPORT_DIGEST: usize = 16;

fn table(table: u8) -> Builder {
    Builder::new(REPORT).u8(table)
}

/// Milliseconds since 1970, as they sort.
fn millis(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// What was recorded at a time, [`mox_proto::report::v1::Recorded`].
#[must_use]
pub fn report_inbox(time: i64, key: &[u8]) -> Bytes {
    table(INBOX).u64(millis(time)).raw(key).build()
}

/// All that was recorded and is not yet added up.
#[must_use]
pub fn report_inbox_all() -> Range<Bytes> {
    table(INBOX).prefix()
}

fn bundle(builder: Builder, id: &BundleId) -> Builder {
    // Domains have no 0 in them.
    let kind = u8::try_from(id.kind).unwrap_or_default();
    builder.u8(kind).raw(id.domain.as_bytes()).u8(0).u64(millis(id.end))
}

/// A bundle, [`mox_proto::report::v1::Bundle`].
#[must_use]
pub fn report_bundle(id: &BundleId) -> Bytes {
    bundle(table(BUNDLES), id).build()
}

/// All bundles.
#[must_use]
pub fn report_bundles() -> Range<Bytes> {
    table(BUNDLES).prefix()
}

/// A row of a bundle, [`mox_proto::report::v1::DmarcRow`] or [`mox_proto::report::v1::TlsResult`].
#[must_use]
pub fn report_row(id: &BundleId, digest: &[u8; REPORT_DIGEST]) -> Bytes {
    bundle(table(ROWS), id).raw(digest).build()
}

/// All rows of a bundle.
#[must_use]
pub fn report_rows(id: &BundleId) -> Range<Bytes> {
    bundle(table(ROWS), id).prefix()
}

/// When a bundle is due.
#[must_use]
pub fn report_due(time: i64, id: &BundleId) -> Bytes {
    bundle(table(DUE).u64(millis(time)), id).build()
}

/// All bundles in the order that they are due.
#[must_use]
pub fn report_due_all() -> Range<Bytes> {
    table(DUE).prefix()
}

/// The time and the bundle in a key of [`report_due`].
#[must_use]
pub fn parse_report_due(key: &[u8]) -> Option<(i64, BundleId)> {
    let (due, rest) = key.get(2..)?.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    let (domain, end) = rest.split_last_chunk::<8>()?;
    let (zero, domain) = domain.split_last()?;
    if *zero != 0 {
        return None;
    }
    let id = BundleId {
        kind: BundleKind::try_from(i32::from(*kind)).ok()?.into(),
        domain: String::from_utf8(domain.to_vec()).ok()?,
        end: i64::try_from(u64::from_be_bytes(*end)).ok()?,
    };
    Some((i64::try_from(u64::from_be_bytes(*due)).ok()?, id))
}

/// How much is kept of reports, [`mox_proto::report::v1::BundleTotals`].
#[must_use]
pub fn report_totals() -> Bytes {
    table(TOTALS).build()
}

/// The lease of a periodic job, [`mox_proto::report::v1::JobLease`].
#[must_use]
pub fn job_lease(name: &str) -> Bytes {
    table(LEASES).raw(name.as_bytes()).build()
}

/// That no reports are sent to an address, [`mox_proto::report::v1::Suppressed`].
#[must_use]
pub fn report_suppressed(address: &str) -> Bytes {
    table(SUPPRESSED).raw(address.to_lowercase().as_bytes()).build()
}

/// All addresses that no reports are sent to.
#[must_use]
pub fn report_suppressed_all() -> Range<Bytes> {
    table(SUPPRESSED).prefix()
}

/// Kinds of reports of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedKind {
    /// DMARC.
    Dmarc,
    /// TLS.
    Tls,
}

impl ReceivedKind {
    fn letter(self) -> u8 {
        match self {
            Self::Dmarc => b'd',
            Self::Tls => b't',
        }
    }
}

/// Names a report of others: the end of its period, so that the oldest are first, and a digest.
#[must_use]
pub fn received_report_id(end: i64, digest: &[u8; REPORT_DIGEST]) -> Bytes {
    let mut id = BytesMut::with_capacity(8 + REPORT_DIGEST);
    id.put_u64(u64::try_from(end).unwrap_or_default());
    id.extend_from_slice(digest);
    id.freeze()
}

/// The end of the period, in seconds since 1970, in the key of a summary.
#[must_use]
pub fn parse_received_summary(key: &[u8]) -> Option<(i64, Bytes)> {
    let id = key.get(3..)?;
    let (end, _) = id.split_first_chunk::<8>()?;
    let end = i64::try_from(u64::from_be_bytes(*end)).ok()?;
    Some((end, Bytes::copy_from_slice(id)))
}

/// What is told of a report, [`mox_proto::report::v1::ReportSummary`].
#[must_use]
pub fn received_summary(kind: ReceivedKind, id: &[u8]) -> Bytes {
    table(SUMMARIES).u8(kind.letter()).raw(id).build()
}

/// Reports whose period ended from one time on to before another, in seconds since 1970.
#[must_use]
pub fn received_summaries(kind: ReceivedKind, from: i64, to: i64) -> Range<Bytes> {
    let at = |time| table(SUMMARIES).u8(kind.letter()).u64(millis(time)).build();
    at(from)..at(to)
}

/// A report, [`mox_proto::report::v1::DmarcReport`] or [`mox_proto::report::v1::TlsReport`].
#[must_use]
pub fn received_report(kind: ReceivedKind, id: &[u8]) -> Bytes {
    table(RECEIVED).u8(kind.letter()).raw(id).build()
}

/// How many reports of a sender were kept in a day: a number of 4 bytes.
#[must_use]
pub fn report_sender(day: u32, domain: &str) -> Bytes {
    table(SENDERS).u32(day).raw(domain.as_bytes()).build()
}

/// Those of days before one.
#[must_use]
pub fn report_senders_before(day: u32) -> Range<Bytes> {
    table(SENDERS).build()..table(SENDERS).u32(day).build()
}
