//! DANE: the certificate of a server, or who may sign it, is named in DNS with DNSSEC (RFC 6698, RFC 7671; for SMTP RFC
//! 7672).

mod check;
mod find;
mod record;
#[cfg(test)]
mod tests;

pub use check::{Names, check};
pub use find::{Found, find};
pub use record::{
    Matching, PKIX_USAGES, ParseError, SMTP_USAGES, Selector, Usage, association, describe, is_usable, parse, usable,
};
