//! Putting messages into conversations anew.

use mox_proto::admin::v1::AccountRequest;
use mox_types::MessageId;
use prost::Message as _;

use crate::account::threads::{self, ThreadPlace};
use crate::account::{AccountError, AccountTx, Op};
use crate::keys;

/// What a header says of a message: canonical Message-ID and base subject.
#[derive(Debug, Clone)]
pub struct ThreadNames {
    /// Which.
    pub id: MessageId,
    /// Empty if it has none.
    pub message_id: String,
    /// May be empty.
    pub base_subject: String,
}

/// Takes messages out of their conversations, each into one of its own, and writes down by what they are found. Those
/// that are gone are passed over.
pub struct ResetThreads {
    /// At most [`super::STEP_MESSAGES`].
    pub messages: Vec<ThreadNames>,
}

impl Op for ResetThreads {
    /// Says nothing.
    type Output = AccountRequest;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let ids: Vec<MessageId> = self.messages.iter().map(|m| m.id).collect();
        for (names, message) in self.messages.iter().zip(tx.messages(&ids).await?) {
            let Some(mut message) = message else { continue };
            threads::leave(tx, &message);
            message.message_id.clone_from(&names.message_id);
            message.base_subject.clone_from(&names.base_subject);
            ThreadPlace::default().set(&mut message);
            threads::enter(tx, &message);
            tx.put(keys::message(tx.account(), names.id), message.encode_to_vec());
        }
        Ok(AccountRequest::default())
    }

    fn size(&self) -> usize {
        1024 * self.messages.len()
    }
}

/// Gives messages their places. Those that are gone are passed over.
pub struct SetThreads {
    /// At most [`super::STEP_MESSAGES`].
    pub messages: Vec<(MessageId, ThreadPlace)>,
}

impl Op for SetThreads {
    /// Says nothing.
    type Output = AccountRequest;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let ids: Vec<MessageId> = self.messages.iter().map(|(id, _)| *id).collect();
        for ((id, place), message) in self.messages.iter().zip(tx.messages(&ids).await?) {
            let Some(mut message) = message else { continue };
            place.set(&mut message);
            tx.put(keys::message(tx.account(), *id), message.encode_to_vec());
        }
        Ok(AccountRequest::default())
    }

    fn size(&self) -> usize {
        1024 * self.messages.len()
    }
}
