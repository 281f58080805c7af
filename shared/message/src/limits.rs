//! Bounds on what a message can make this crate return.

/// How deep parts may nest. More is reported as an opaque part. Below the 100 that protobuf decoders nest by default.
pub const DEPTH: usize = 80;
/// How many parts a message may have. More are not reported.
pub const PARTS: usize = 10_000;
/// Octets of one value in an envelope or of one parameter. Longer ones are cut: RFC 5322 §2.1.1 gives a line 998, and
/// lists of addresses are kept one by one.
pub const VALUE: usize = 16 << 10;
/// Octets of everything computed for one message, counted roughly. What comes after is left out, so that a record and
/// a page of an answer stay small.
pub const COMPUTED: usize = 512 << 10;
/// Ids taken from References and In-Reply-To: the first, and the latest of the others.
pub const REFERENCES: usize = 200;
/// Addresses taken from one list for a summary.
pub const ADDRESSES: usize = 1_000;
/// Characters of a preview (RFC 8970 §3.1).
pub const PREVIEW_CHARS: usize = 200;
/// Decoded octets looked at for a preview.
pub const PREVIEW_OCTETS: usize = 16 << 10;
/// Length of the pieces in which a long decoded text is handed out.
pub const PIECE: usize = 1 << 20;
/// How much of one piece is repeated at the start of the next.
pub const PIECE_OVERLAP: usize = 4 << 10;
