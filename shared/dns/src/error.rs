//! Why a question has no answer.

use crate::record::{RecordType, Status};

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// NXDOMAIN: there is no such name, of any type.
    #[error("no such name")]
    NoName,
    /// The name exists, and has no records of this type.
    #[error("no records of this type")]
    NoData,
    /// The text is no domain name.
    #[error("not a domain name")]
    Name,
    /// The answer failed DNSSEC validation.
    #[error("the answer failed DNSSEC validation")]
    Bogus,
    /// More CNAMEs follow each other than are followed.
    #[error("too many CNAMEs, or a loop of them")]
    Loop,
    /// No server answered in time.
    #[error("no answer in time")]
    Timeout,
    /// A server answered with this error, such as SERVFAIL.
    #[error("the server answered {0}")]
    Server(String),
    /// No server could be reached.
    #[error("no server could be asked: {0}")]
    Unreachable(String),
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("looking up {record} records of {name}: {reason}")]
pub struct Error {
    /// The name that was asked for.
    pub name: String,
    /// The type that was asked for.
    pub record: RecordType,
    /// What went wrong.
    pub reason: Reason,
    /// Of the denial, when the reason is that there is no such name or record.
    pub status: Status,
}

impl Error {
    pub(crate) fn new(name: &str, record: RecordType, reason: Reason, status: Status) -> Self {
        Self {
            name: name.trim_end_matches('.').to_owned(),
            record,
            reason,
            status,
        }
    }

    /// Whether there is no such name or record: DNS did answer.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.reason, Reason::NoName | Reason::NoData)
    }

    /// Whether asking again later may have another result. Failed validation is one of them: a signature that expired
    /// is usually mended, and an attack ends (RFC 4035 §4.7).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(self.reason, Reason::NoName | Reason::NoData | Reason::Name)
    }
}
