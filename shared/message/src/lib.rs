//! Internet messages (RFC 5322) and their MIME structure (RFC 2045, 2046), as bytes.
//!
//! Everything here takes a message as one slice, or a header and a slice, and does no I/O. Messages come from
//! anybody: nothing panics on any input, the work is linear in its length, and what is returned is bounded by the
//! constants in [`limits`].
//!
//! - [`headers`] iterates over raw header fields; [`header_end`] says where the body starts.
//! - [`computed`] makes what is computed once at delivery: ENVELOPE, structure with offsets, preview.
//! - [`HeaderSummary`] is what threading, rules and rights look at: canonical Message-ID, references, base subject,
//!   addresses, date.
//! - [`decoded_text`] and [`decoded_body`] give text for searching, whatever its charset and encoding.
//! - [`without_fields`] and [`to_crlf`] change a message as little as possible.
//! - [`archive`] reads and writes mbox and maildir.
//! - [`received`] writes trace fields, [`compose`] builds messages, [`dsn`] builds delivery status notifications, and
//!   [`delivery_status`] reads those of others.
//!
//! Charsets, dates and HTML are read with `mail-parser` and `encoding_rs`. The structure is scanned here, because IMAP
//! wants raw octets, line counts and offsets, and nothing decoded.

mod address;
pub mod archive;
mod charset;
pub mod compose;
mod computed;
pub mod delivery_status;
pub mod dsn;
mod edit;
mod encoded_word;
mod envelope;
mod fields;
pub mod limits;
mod params;
mod preview;
pub mod received;
mod structure;
mod subject;
mod summary;
mod text;
mod transfer;

pub use charset::decode as decode_charset;
pub use computed::{computed, computed_with_prefix, references};
pub use edit::{received_count, to_crlf, without_fields};
pub use encoded_word::decode as decode_header;
pub use fields::{Field, Headers, header_end, headers, unfold};
pub use params::parameter;
pub use subject::base_subject;
pub use summary::{HeaderSummary, NamedAddress, parse_addresses, parse_date, sent_day};
pub use text::{decode_octets, decode_part, decode_part_start, decoded_body, decoded_size, decoded_text};
