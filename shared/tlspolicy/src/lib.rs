//! How far TLS with another mail server can be trusted, and what is demanded of it.
//!
//! - [`dane`]: certificates named in DNS with DNSSEC (RFC 6698, 7671, 7672).
//! - [`mtasts`]: policies that domains publish over HTTPS (RFC 8461).
//! - [`verify`]: a verifier of certificates for rustls that goes by either, by the usual authorities, or by none, and
//!   says afterwards what it found.
//! - [`Trust`]: the authorities that are trusted.
//! - [`ResultType`]: what a failure is in a report (RFC 8460).
//!
//! Parsing and deciding are apart from asking: only [`dane::find`] and [`mtasts::Fetcher`] reach outside, through what
//! they are given.

pub mod dane;
mod fault;
pub mod mtasts;
mod report;
mod trust;
pub mod verify;

pub use fault::{CertificateFault, handshake_fault, subject_public_key_info};
pub use report::ResultType;
pub use trust::{SYSTEM_FILES, Trust, TrustError};
