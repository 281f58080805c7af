//! What can go wrong with another server.

use std::io;

use crate::reply::{Enhanced, Reply};

/// Why a step of a session failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed.
    #[error("{during}: connection failed: {source}")]
    Io {
        /// The step.
        during: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("{during}: connection closed by the server")]
    Closed {
        /// The step.
        during: &'static str,
    },
    /// The server didn't answer in time.
    #[error("{during}: no answer in time")]
    Timeout {
        /// The step.
        during: &'static str,
    },
    /// The server said no.
    #[error("{during}: server answered: {reply}")]
    Refused {
        /// The step.
        during: &'static str,
        /// What it said.
        reply: Reply,
    },
    /// What the server sent is not SMTP.
    #[error("{during}: answer is not valid: {why}")]
    Malformed {
        /// The step.
        during: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The message needs what the server doesn't offer.
    #[error("server does not support {what}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// Subject and detail of the enhanced code.
        code: (u16, u16),
    },
    /// The message is larger than what the server said that it takes.
    #[error("message of {size} bytes is larger than the {limit} that the server takes")]
    TooLarge {
        /// Of the message.
        size: u64,
        /// Of the server.
        limit: u64,
    },
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The server offers no mechanism that the settings allow.
    #[error("server offers no usable authentication mechanism: it has {offered:?}")]
    NoMechanism {
        /// What it offers.
        offered: String,
    },
    /// The exchange failed on our side.
    #[error("AUTH: {0}")]
    Sasl(#[from] mox_sasl::ClientError),
    /// The message could not be read to its end. It was not delivered.
    #[error("reading the message to be sent: {0}")]
    Content(io::Error),
    /// The caller no longer wanted it to be sent. It was not delivered.
    #[error("given up before the end of the message")]
    Abandoned,
}

impl ClientError {
    /// The server's reply, if this is one.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Whether trying the same with the same server again will not help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { reply, .. } => reply.is_permanent(),
            Self::Unsupported { .. } | Self::TooLarge { .. } => true,
            _ => false,
        }
    }

    /// An enhanced code that says it: the server's, or ours (RFC 3463).
    #[must_use]
    pub fn enhanced(&self) -> Option<Enhanced> {
        match self {
            Self::Refused { reply, .. } => reply.enhanced,
            Self::Unsupported {
                code: (subject, detail),
                ..
            } => Some(Enhanced(5, *subject, *detail)),
            Self::TooLarge { .. } => Some(Enhanced(5, 3, 4)),
            Self::Tls(_) => Some(Enhanced(4, 7, 5)),
            Self::NoMechanism { .. } | Self::Sasl(_) => Some(Enhanced(4, 7, 8)),
            Self::Malformed { .. } => Some(Enhanced(4, 5, 0)),
            Self::Io { .. } | Self::Closed { .. } => Some(Enhanced(4, 4, 2)),
            Self::Timeout { .. } => Some(Enhanced(4, 4, 1)),
            Self::Content(_) | Self::Abandoned => None,
        }
    }
}
