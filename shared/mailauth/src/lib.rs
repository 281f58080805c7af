//! Who a message is from: verdicts on one message and the host that brought it.
//!
//! | module      | question                                                                      |
//! | ----------- | ----------------------------------------------------------------------------- |
//! | [`iprev`]   | does the host's address have a name that leads back to it (RFC 8601 §2.7.3)?   |
//! | [`spf`]     | may this host send mail for that domain (RFC 7208)?                            |
//! | [`dkim`]    | which domains signed the message (RFC 6376)?                                   |
//! | [`arc`]     | what did earlier hops seal (RFC 8617)?                                         |
//! | [`dmarc`]   | does the domain in From vouch for the message (RFC 9989)?                      |
//! | [`dnsbl`]   | is the host's address listed (RFC 5782)?                                       |
//! | [`message`] | DKIM, ARC and DMARC of a message in one                                        |
//! | [`results`] | the Authentication-Results header field (RFC 8601)                             |
//! | [`sign`]    | DKIM signatures of what is sent                                                |
//!
//! Signatures are verified by `mail-auth`, whose questions to DNS are answered by [`mox_dns`], so that every verdict has a
//! DNSSEC status and tests have zones in memory. Every number and time that a sender controls has a bound.

mod answers;
pub mod arc;
pub mod dkim;
pub mod dmarc;
pub mod dnsbl;
pub mod iprev;
pub mod message;
mod organization;
pub mod results;
pub mod sign;
pub mod spf;

pub use organization::organizational_domain;

/// A fault in the server itself: it says nothing about a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Verification could not begin.
    #[error("setting up the verification of a message: {0}")]
    Setup(String),
}
