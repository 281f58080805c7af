//! Removing messages.

use bytes::Bytes;
use mox_proto::mail::v1::{ExpungeResponse, UidRange};
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{ContentId, MailboxId, MessageId};

use super::{STEP_MESSAGES, rejects};
use crate::account::flags::DELETED;
use crate::account::ranges::Collector;
use crate::account::{AccountError, AccountTx, Op, history, lesson, normalize, read_rows, threads};
use crate::content::{self, Owner};
use crate::keys;

/// Removes those of at most [`STEP_MESSAGES`] messages that are marked `\Deleted`.
pub struct Expunge {
    /// Where they are.
    pub mailbox: MailboxId,
    /// Which to look at.
    pub uids: Vec<UidRange>,
}

impl Op for Expunge {
    type Output = ExpungeResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let mailbox = tx.state().mailbox(self.mailbox)?.clone();
        let mut answer = ExpungeResponse {
            modseq: tx.state().modseq(),
            ..ExpungeResponse::default()
        };
        if mailbox.counts.deleted == 0 {
            return Ok(answer);
        }
        let uids = normalize(&self.uids, mailbox.uid_next);
        let (mut rows, next) = read_rows(tx, tx.account(), self.mailbox, &uids, STEP_MESSAGES).await?;
        rows.retain(|(_, row)| row.flags & DELETED != 0);
        let mut removed = Collector::default();
        remove(tx, &rows).await?;
        for (uid, row) in &rows {
            tx.delete_row(self.mailbox, *uid, row)?;
            removed.push(*uid);
        }
        answer.uids = removed.into_ranges();
        answer.modseq = tx.state().modseq();
        answer.next_uid = next.unwrap_or(0);
        Ok(answer)
    }

    fn size(&self) -> usize {
        512 * crate::account::ranges::span(&self.uids).min(STEP_MESSAGES as u64) as usize
    }

    fn frees(&self) -> bool {
        true
    }
}

/// Removes what belongs to messages but their rows.
pub(super) async fn remove(tx: &mut AccountTx, rows: &[(u32, record::Row)]) -> Result<(), AccountError> {
    let id = |bytes: &Bytes| MessageId::try_from(bytes).map_err(|_| AccountError::Damaged("a row"));
    let ids: Vec<MessageId> = rows
        .iter()
        .map(|(_, row)| id(&row.message_id))
        .collect::<Result<_, _>>()?;
    let account = tx.account();
    for ((id, message), (_, row)) in ids.iter().zip(tx.messages(&ids).await?).zip(rows) {
        tx.delete(keys::message(account, *id));
        tx.delete(keys::computed(account, *id));
        let Some(message) = message else { continue };
        threads::leave(tx, &message);
        if lesson(row.flags) != Training::None {
            history::leave(tx, &message);
        }
        rejects::leave(tx, *id, &message).await?;
        // What the junk filter learned from is released when it was unlearned.
        if tx.untrain(*id, &message) {
            continue;
        }
        if let Ok(content) = ContentId::try_from(&message.content_id) {
            let now = tx.now.saturating_mul(1000);
            content::release(tx.extra(), content, &Owner::message(account, *id), now);
        }
    }
    Ok(())
}

/// Removes messages of a mailbox that was deleted, [`STEP_MESSAGES`] at most. Answers with no UIDs when there are none
/// left.
pub struct Purge {
    /// It is not in the account's list any more.
    pub mailbox: MailboxId,
}

impl Op for Purge {
    type Output = ExpungeResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let all = [UidRange {
            first: 1,
            last: u32::MAX,
        }];
        let (rows, next) = read_rows(tx, tx.account(), self.mailbox, &all, STEP_MESSAGES).await?;
        remove(tx, &rows).await?;
        let account = tx.account();
        let mut removed = Collector::default();
        for (uid, _) in &rows {
            tx.delete(keys::row(account, self.mailbox, *uid));
            removed.push(*uid);
        }
        if next.is_none() {
            tx.extra().delete(keys::deleted_mailbox(account, self.mailbox));
        }
        Ok(ExpungeResponse {
            uids: removed.into_ranges(),
            modseq: tx.state().modseq(),
            next_uid: next.unwrap_or(0),
        })
    }

    fn size(&self) -> usize {
        512 * STEP_MESSAGES
    }

    fn frees(&self) -> bool {
        true
    }
}
