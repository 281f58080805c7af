//! What goes wrong with an account's mail, and what clients are told.

use crate::engine::EngineError;

/// Why an operation on an account was not done. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The account is gone.
    #[error("account is gone")]
    AccountGone,
    /// The mailbox is gone, or no mailbox has this name.
    #[error("mailbox does not exist")]
    NoMailbox,
    /// The message that was to be replaced is gone.
    #[error("the message to replace is gone")]
    NoMessage,
    /// The content that was uploaded is not there any longer.
    #[error("uploaded content is gone, upload it again")]
    NoContent,
    /// A mailbox has the name already.
    #[error("mailbox {0:?} exists already")]
    Exists(String),
    /// The mailbox has others below it (RFC 9051 §6.3.5, §7.1).
    #[error("haschildren")]
    HasChildren,
    /// It may not be done with the Inbox.
    #[error("{0}")]
    Inbox(&'static str),
    /// A bound of this store is reached.
    #[error("limit: {0}")]
    Limit(&'static str),
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The account's mail would be larger than its quota.
    #[error("overquota")]
    OverQuota,
    /// The disk is about to be full.
    #[error("disk")]
    NoSpace,
    /// The key was used for another request.
    #[error("idempotency key was used for another request")]
    KeyReused,
    /// Others changed the same things at the same time, too often.
    #[error("changed by others at the same time, try again")]
    Contended,
    /// The client saw changes that this store does not have yet.
    #[error("store is behind what was seen of this account, try again")]
    Behind,
    /// The engine failed.
    #[error("{0}")]
    Engine(EngineError),
    /// A record cannot be read.
    #[error("record of {0} is damaged")]
    Damaged(&'static str),
    /// From where contents are kept.
    #[error("{1}")]
    Status(tonic::Code, String),
}

impl From<EngineError> for AccountError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSpace => Self::NoSpace,
            EngineError::Conflict { .. } => Self::Contended,
            other => Self::Engine(other),
        }
    }
}

impl From<crate::content::ContentError> for AccountError {
    fn from(error: crate::content::ContentError) -> Self {
        tonic::Status::from(error).into()
    }
}

impl From<tonic::Status> for AccountError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status.code(), status.message().to_owned())
    }
}

impl From<AccountError> for tonic::Status {
    fn from(error: AccountError) -> Self {
        let text = error.to_string();
        match error {
            AccountError::AccountGone | AccountError::NoMailbox | AccountError::NoContent => Self::not_found(text),
            AccountError::NoMessage => Self::out_of_range(text),
            AccountError::Exists(_) => Self::already_exists(text),
            AccountError::HasChildren | AccountError::Inbox(_) | AccountError::Limit(_) => {
                Self::failed_precondition(text)
            }
            AccountError::Invalid(_) | AccountError::KeyReused => Self::invalid_argument(text),
            AccountError::OverQuota | AccountError::NoSpace => Self::resource_exhausted(text),
            AccountError::Contended | AccountError::Behind => Self::unavailable(text),
            AccountError::Engine(error) => error.into(),
            AccountError::Damaged(_) => Self::data_loss(text),
            AccountError::Status(code, text) => Self::new(code, text),
        }
    }
}
