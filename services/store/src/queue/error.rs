//! What goes wrong with the queue, and what callers are told.

use crate::account::AccountError;
use crate::engine::EngineError;

/// Why something was not done. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The account may not use an address.
    #[error("account may not send as {0}")]
    NotOwned(String),
    /// The account may send again later.
    #[error("{0}")]
    Limit(String),
    /// The account has no configuration, so it may not send.
    #[error("account {0} is not configured")]
    NoAccount(String),
    /// The entry left the queue.
    #[error("queue entry {0} does not exist")]
    NoEntry(u64),
    /// The message is not, or no longer, among those that are kept.
    #[error(
        "there is no retired message {0}: they are kept for as long as keep_retired_message_period of their account"
    )]
    NoRetired(u64),
    /// There is none of what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// Others changed the same things at the same time, too often.
    #[error("changed by others at the same time, try again")]
    Contended,
    /// A record cannot be read.
    #[error("record of {0} is damaged")]
    Damaged(&'static str),
    /// The engine failed.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// From the sender's account.
    #[error("{0}")]
    Account(#[from] AccountError),
    /// From where contents, results and sessions are kept.
    #[error("{1}")]
    Status(tonic::Code, String),
}

impl From<tonic::Status> for QueueError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status.code(), status.message().to_owned())
    }
}

impl From<QueueError> for tonic::Status {
    fn from(error: QueueError) -> Self {
        let text = error.to_string();
        match error {
            QueueError::Invalid(_) => Self::invalid_argument(text),
            QueueError::NotOwned(_) => Self::permission_denied(text),
            QueueError::Limit(_) => Self::resource_exhausted(text),
            QueueError::NoAccount(_) => Self::failed_precondition(text),
            QueueError::NoEntry(_) | QueueError::NoRetired(_) | QueueError::NotFound(_) => Self::not_found(text),
            QueueError::Exists(_) => Self::already_exists(text),
            QueueError::Contended => Self::unavailable(text),
            QueueError::Damaged(_) => Self::data_loss(text),
            QueueError::Engine(error) => error.into(),
            QueueError::Account(error) => error.into(),
            QueueError::Status(code, text) => Self::new(code, text),
        }
    }
}
