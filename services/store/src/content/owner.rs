//! Who refers to a content.

use bytes::{BufMut, Bytes, BytesMut};
use mox_types::{AccountId, MessageId};

/// Names a reference to a content: unique among those of one content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Bytes);

impl Owner {
    /// A message of an account.
    #[must_use]
    pub fn message(account: AccountId, message: MessageId) -> Self {
        let mut owner = BytesMut::with_capacity(33);
        owner.put_u8(b'm');
        owner.extend_from_slice(account.as_bytes());
        owner.extend_from_slice(message.as_bytes());
        Self(owner.freeze())
    }

    /// An entry of the outgoing queue.
    #[must_use]
    pub fn queue(entry: u64) -> Self {
        let mut owner = BytesMut::with_capacity(9);
        owner.put_u8(b'q');
        owner.put_u64(entry);
        Self(owner.freeze())
    }

    /// A webhook about a message that arrived, in the queue or kept after it left it.
    #[must_use]
    pub fn hook(id: u64) -> Self {
        let mut owner = BytesMut::with_capacity(9);
        owner.put_u8(b'h');
        owner.put_u64(id);
        Self(owner.freeze())
    }

    /// As part of a key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
