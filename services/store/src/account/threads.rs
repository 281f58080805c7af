//! Which conversation a message belongs to, by the Message-IDs that it refers to.

use bytes::Bytes;
use mox_types::{AccountId, MessageId};
use ring::digest;

use super::{AccountError, Facts};
use crate::engine::{Db, Limit, Order};
use crate::keys::{self, MESSAGE_ID_DIGEST};

/// Most references that are looked up, the nearest first.
const LOOKUPS_MAX: usize = 10;

/// Where a message stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// The thread of the nearest known message that it refers to; none begins a thread of its own.
    pub id: Option<Bytes>,
    /// That message.
    pub parent: Option<MessageId>,
    /// There are nearer ones that are not known.
    pub missing_link: bool,
}

/// Finds the nearest known message that a message refers to.
///
/// # Errors
/// If the account cannot be read.
pub async fn find(db: &Db, account: AccountId, facts: &Facts) -> Result<Thread, AccountError> {
    let references = facts.parents();
    for (n, reference) in references.iter().rev().take(LOOKUPS_MAX).enumerate() {
        let range = keys::message_ids(account, &digest(reference));
        let page = db.scan(range, Limit::rows(1), Order::Ascending).await?;
        if let Some((key, value)) = page.rows.into_iter().next() {
            let parent = key
                .len()
                .checked_sub(16)
                .and_then(|at| MessageId::try_from(&key[at..]).ok());
            return Ok(Thread {
                id: Some(value.data),
                parent,
                missing_link: n > 0,
            });
        }
    }
    Ok(Thread {
        missing_link: !references.is_empty(),
        ..Thread::default()
    })
}

/// What a canonical Message-ID is found under: of a fixed length, whatever its own.
#[must_use]
pub fn digest(message_id: &str) -> [u8; MESSAGE_ID_DIGEST] {
    let whole = digest::digest(&digest::SHA256, message_id.as_bytes());
    let mut short = [0; MESSAGE_ID_DIGEST];
    short.copy_from_slice(&whole.as_ref()[..MESSAGE_ID_DIGEST]);
    short
}
