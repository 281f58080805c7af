//! Bounds on what is read.

/// Octets of an attachment as it was sent, decoded. RFC 7489 §7.2.1.1 has senders keep to the size that a URI asks for;
/// 10 megabytes are what is usual there.
pub const PACKED: usize = 10 << 20;
/// Octets of a report when unpacked. Larger than the largest that big providers send about one domain and day.
pub const UNPACKED: usize = 20 << 20;
/// How many times its packed size a report may have. Reports of thousands of rows that differ in their address only reach
/// about 50; deflate can do 1032.
pub const RATIO: usize = 200;
/// Unpacked octets for which the ratio does not matter.
pub const RATIO_FREE: usize = 256 << 10;
/// Files in a zip archive. A report is one.
pub const ENTRIES: usize = 16;
/// Parts of a message that are tried.
pub const PARTS: usize = 8;
/// How deep elements may nest. RFC 9990 has five levels, and extensions a few more.
pub const DEPTH: usize = 20;
/// Octets of one text: of names, comments and explanations.
pub const TEXT: usize = 1000;
/// Records of a DMARC report that are read at all.
pub const RECORDS_READ: usize = 200_000;
/// Records of a DMARC report that are kept, the first.
pub const RECORDS: usize = 2000;
/// Octets of a report as it is kept.
pub const KEPT: usize = 1 << 20;
/// Signatures, SPF results and reasons of one record. RFC 9990 §2.1.2 bounds signatures by 100.
pub const RESULTS: usize = 100;
/// Errors that a reporter tells of.
pub const ERRORS: usize = 20;
/// Policies of a TLS report.
pub const POLICIES: usize = 200;
/// Lines of a policy, and patterns of hosts.
pub const POLICY_LINES: usize = 100;
/// Kinds of failures of one policy.
pub const FAILURES: usize = 500;
/// Seconds of a report's period: a day is usual, a month is odd.
pub const PERIOD: i64 = 32 * 24 * 3600;
/// Destinations of a record that are used (RFC 9989 §4.7 leaves the number to the sender, with at least two).
pub const URIS: usize = 10;
