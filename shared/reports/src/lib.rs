//! Reports that mail servers send each other: DMARC aggregate reports (RFC 9990, and the form of RFC 7489 that many still
//! send), and reports about TLS (RFC 8460).
//!
//! | module      | what                                                                       |
//! | ----------- | -------------------------------------------------------------------------- |
//! | [`find`]    | the report that a message carries                                          |
//! | [`unpack`]  | gzip and zip, without trusting what they say                               |
//! | [`dmarc`]   | the XML of aggregate reports, read and written                             |
//! | [`tls`]     | the JSON of TLS reports, read and written                                  |
//! | [`uris`]    | where a domain wants its reports                                           |
//! | [`compose`] | messages that carry reports                                                |
//! | [`limits`]  | how large, deep and many anything may be                                   |
//!
//! Reports are the messages of `mox.report.v1`. Nothing here does I/O, so that all of it can be fuzzed. What is read is
//! from strangers: every size, count and depth has a bound, and texts are cut and freed of control characters.

pub mod compose;
pub mod dmarc;
pub mod find;
pub mod limits;
mod text;
pub mod tls;
pub mod unpack;
pub mod uris;

pub use find::{Found, find};
