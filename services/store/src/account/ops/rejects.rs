//! Copies of refused messages, in the mailbox that an account has for them.
//!
//! One copy of a message is kept, however often it is sent. It goes when it is old, when there are too many, and when the
//! message is accepted after all. What is cleared away at once is bounded: a few when another one is added, so that it
//! keeps up and never takes long, and what has become old now and then ([`TidyRejects`]).

use bytes::Bytes;
use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1 as record;
use mox_types::{MailboxId, MessageId};

use super::expunge::remove;
use crate::account::{AccountError, AccountTx, Op, Reader as _, canonical, read_rows};
use crate::keys;

/// How long a copy is kept, in seconds: as long as people take to miss a message.
const KEPT: i64 = 14 * 24 * 60 * 60;
/// Copies that are kept: more, nobody looks through.
const COPIES_MAX: u32 = 1000;
/// Copies that are looked at when another one is added.
const STEP: usize = 10;
/// Copies that one [`TidyRejects`] looks at.
const TIDY_STEP: usize = 200;

/// A message that is in a mailbox as the copy that is known by a digest.
async fn copy(
    tx: &AccountTx,
    mailbox: MailboxId,
    digest: &Bytes,
) -> Result<Option<(MessageId, record::Message)>, AccountError> {
    let key = keys::reject(tx.account(), digest);
    let Some(id) = tx.get_many(vec![key]).await?.pop().flatten() else {
        return Ok(None);
    };
    let id = MessageId::try_from(&id).map_err(|_| AccountError::Damaged("a reject"))?;
    let message = tx.messages(&[id]).await?.pop().flatten();
    // Users move copies to where they want them; those are no longer ours.
    Ok(message
        .filter(|message| message.mailbox_id == mailbox.to_bytes())
        .map(|message| (id, message)))
}

/// The copy of a message that is there already.
pub(super) async fn find(tx: &AccountTx, mailbox: &str, digest: &Bytes) -> Result<Option<MessageId>, AccountError> {
    let Some(mailbox) = tx.state().named(mailbox).map(|m| m.id) else {
        return Ok(None);
    };
    Ok(copy(tx, mailbox, digest).await?.map(|(id, _)| id))
}

/// Lets a copy be found.
pub(super) fn enter(tx: &mut AccountTx, digest: &Bytes, id: MessageId) {
    tx.put(keys::reject(tx.account(), digest), id.to_bytes());
}

/// Takes back what [`enter`] did, of a message that is removed.
pub(super) async fn leave(tx: &mut AccountTx, id: MessageId, message: &record::Message) -> Result<(), AccountError> {
    if message.reject_digest.is_empty() {
        return Ok(());
    }
    let key = keys::reject(tx.account(), &message.reject_digest);
    // It may lead to a later copy.
    if tx.get_many(vec![key.clone()]).await?.pop().flatten() == Some(id.to_bytes()) {
        tx.delete(key);
    }
    Ok(())
}

/// Makes room for one copy more: removes a few of the oldest, if they are old or too many.
pub(super) async fn tidy(tx: &mut AccountTx, mailbox: &str) -> Result<(), AccountError> {
    if tx.rules().rejects().is_none_or(|(_, keep)| keep) {
        return Ok(());
    }
    clear(tx, mailbox, STEP, 1).await?;
    Ok(())
}

/// Removes copies that are old, or too many with as many more, of the first ones of a mailbox: those that came first, as
/// UIDs ascend. Answers how many.
async fn clear(tx: &mut AccountTx, mailbox: &str, first: usize, more: u32) -> Result<usize, AccountError> {
    let Some((mailbox, messages)) = tx.state().named(mailbox).map(|m| (m.id, m.counts.messages)) else {
        return Ok(0);
    };
    let all = [UidRange {
        first: 1,
        last: u32::MAX,
    }];
    let (mut rows, _) = read_rows(tx, tx.account(), mailbox, &all, first).await?;
    let surplus = messages.saturating_add(more).saturating_sub(COPIES_MAX);
    let old = tx.now.saturating_sub(KEPT);
    let mut n = 0;
    rows.retain(|(_, row)| {
        n += 1;
        n <= surplus || row.saved < old
    });
    remove(tx, &rows).await?;
    for (uid, row) in &rows {
        tx.delete_row(mailbox, *uid, row)?;
    }
    Ok(rows.len())
}

/// Removes copies that have become old, a bounded number. Answers whether there may be more.
pub struct TidyRejects;

impl Op for TidyRejects {
    type Output = bool;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let Some((name, false)) = tx.rules().rejects() else {
            return Ok(false);
        };
        let Ok(name) = canonical(name) else { return Ok(false) };
        Ok(clear(tx, &name, TIDY_STEP, 0).await? == TIDY_STEP)
    }

    fn size(&self) -> usize {
        512 * TIDY_STEP
    }

    fn frees(&self) -> bool {
        true
    }
}

/// Removes the copy of a message that is accepted.
pub(super) async fn withdraw(tx: &mut AccountTx, digest: &Bytes) -> Result<(), AccountError> {
    let Some(name) = tx.rules().rejects().and_then(|(name, _)| canonical(name).ok()) else {
        return Ok(());
    };
    let mailbox = tx.state().named(&name).filter(|m| m.counts.messages > 0).map(|m| m.id);
    let Some(mailbox) = mailbox else { return Ok(()) };
    let Some((_, message)) = copy(tx, mailbox, digest).await? else {
        return Ok(());
    };
    let range = [UidRange {
        first: message.uid,
        last: message.uid,
    }];
    let (rows, _) = read_rows(tx, tx.account(), mailbox, &range, 1).await?;
    remove(tx, &rows).await?;
    for (uid, row) in &rows {
        tx.delete_row(mailbox, *uid, row)?;
    }
    Ok(())
}
