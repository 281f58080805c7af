//! Changing UIDs and UIDVALIDITY, as repairs.

use mox_proto::mail::v1::{CopyResponse, ListMailboxesResponse, UidRange};
use mox_types::{MailboxId, MessageId};
use prost::Message as _;

use super::STEP_MESSAGES;
use crate::account::{AccountError, AccountTx, Op, read_rows};
use crate::keys;

/// Gives mailboxes another UIDVALIDITY, greater than all before.
pub struct BumpUidValidity {
    /// Those that are gone are passed over.
    pub mailboxes: Vec<MailboxId>,
}

impl Op for BumpUidValidity {
    type Output = ListMailboxesResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let mut answer = ListMailboxesResponse::default();
        for id in &self.mailboxes {
            if tx.state().mailbox(*id).is_err() {
                continue;
            }
            bump(tx, *id)?;
            let mailbox = tx.state().mailbox(*id)?;
            answer.mailboxes.push(tx.state().shown(mailbox));
        }
        Ok(answer)
    }
}

/// RFC 9051 §2.3.1.1: UIDVALIDITY ascends.
fn bump(tx: &mut AccountTx, id: MailboxId) -> Result<u32, AccountError> {
    let highest = tx.state().mailboxes.values().map(|m| m.uid_validity).max().unwrap_or(0);
    let next = tx.state().record.next_uid_validity.max(highest.saturating_add(1));
    if next == u32::MAX {
        return Err(AccountError::Limit("the account has used up its UIDVALIDITYs"));
    }
    tx.edit_mailbox(id, |mailbox| mailbox.uid_validity = next)?;
    tx.repair_account(|record| record.next_uid_validity = next + 1);
    Ok(next)
}

/// Gives the messages of a mailbox new UIDs, without gaps, in the order that they have: at most [`STEP_MESSAGES`] of them.
/// Every step gives it another UIDVALIDITY, so that nobody keeps UIDs from in between.
pub struct Renumber {
    /// Which.
    pub mailbox: MailboxId,
    /// The first UID that has not been looked at.
    pub from: u32,
    /// The next one to give.
    pub next: u32,
}

impl Op for Renumber {
    /// `next_uid` is where to go on, and 0 at the end; `destination_uids` has the next UID to give.
    type Output = CopyResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        tx.state().mailbox(self.mailbox)?;
        let all = [UidRange {
            first: self.from.max(1),
            last: u32::MAX,
        }];
        let (rows, next) = read_rows(tx, tx.account(), self.mailbox, &all, STEP_MESSAGES).await?;
        let mut given = self.next.max(1);
        let ids: Vec<MessageId> = rows
            .iter()
            .map(|(_, row)| MessageId::try_from(&row.message_id).map_err(|_| AccountError::Damaged("a row")))
            .collect::<Result<_, _>>()?;
        let messages = tx.messages(&ids).await?;
        let uid_validity = bump(tx, self.mailbox)?;
        tx.forget_log();
        for (((uid, row), message), id) in rows.into_iter().zip(messages).zip(ids) {
            if uid != given {
                tx.renumber_row(self.mailbox, uid, given, row)?;
                if let Some(mut message) = message {
                    message.uid = given;
                    tx.put(keys::message(tx.account(), id), message.encode_to_vec());
                }
            }
            given += 1;
        }
        if next.is_none() {
            tx.edit_mailbox(self.mailbox, |mailbox| mailbox.uid_next = given)?;
        }
        Ok(CopyResponse {
            uid_validity,
            destination_uids: vec![given],
            modseq: tx.state().modseq(),
            next_uid: next.unwrap_or(0),
            ..CopyResponse::default()
        })
    }

    fn size(&self) -> usize {
        1024 * STEP_MESSAGES
    }
}

/// Raises what is next of mailboxes and of the account above what there is.
pub struct RaiseUids {
    /// The least UIDNEXT of mailboxes. Those that are gone are passed over.
    pub mailboxes: Vec<(MailboxId, u32)>,
}

impl Op for RaiseUids {
    type Output = CopyResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        for (id, least) in &self.mailboxes {
            if tx.state().mailbox(*id).is_ok_and(|m| m.uid_next < *least) {
                tx.edit_mailbox(*id, |mailbox| mailbox.uid_next = *least)?;
            }
        }
        let highest = tx.state().mailboxes.values().map(|m| m.uid_validity).max().unwrap_or(0);
        if tx.state().record.next_uid_validity <= highest {
            tx.repair_account(|record| record.next_uid_validity = highest.saturating_add(1));
        }
        Ok(CopyResponse::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::DELETED;
    use crate::account::ops::Expunge;
    use crate::mail::tests::{World, message, range};

    async fn add(world: &World, bits: u32) -> u32 {
        world.append("Inbox", bits, &message("s", "b")).await.unwrap().uids[0]
    }

    #[tokio::test]
    async fn uids_are_given_anew_and_whoever_knew_others_reads_all_again() {
        let world = World::new().await;
        for uid in 1..=8 {
            let bits = if [1, 2, 5, 8].contains(&uid) { DELETED } else { 0 };
            assert_eq!(add(&world, bits).await, uid);
        }
        let accounts = world.mail.accounts();
        let inbox = accounts
            .state(world.account, 0)
            .await
            .unwrap()
            .named("Inbox")
            .unwrap()
            .id;
        let op = Expunge {
            mailbox: inbox,
            uids: range(1, u32::MAX),
        };
        accounts.submit(world.account, None, op).await.unwrap();
        // The index is in use.
        let (before, index) = accounts.view(world.account, inbox, 0).await.unwrap();
        assert_eq!(index.uids().collect::<Vec<_>>(), [3, 4, 6, 7]);
        let before = before.mailbox(inbox).unwrap().clone();
        let op = Renumber {
            mailbox: inbox,
            from: 1,
            next: 1,
        };
        let answer = accounts.submit(world.account, None, op).await.unwrap();
        assert_eq!((answer.next_uid, answer.destination_uids), (0, vec![5]));
        let (state, index) = accounts.view(world.account, inbox, 0).await.unwrap();
        assert_eq!(index.uids().collect::<Vec<_>>(), [1, 2, 3, 4]);
        let now = state.mailbox(inbox).unwrap().clone();
        assert!(now.uid_validity > before.uid_validity && state.record.next_uid_validity > now.uid_validity);
        assert_eq!((now.uid_next, now.counts), (5, before.counts));
        assert_eq!(state.record.log_watermark, state.modseq());
        // As another process reads it.
        let world = world.reopen().await;
        let accounts = world.mail.accounts();
        let (_, index) = accounts.view(world.account, inbox, 0).await.unwrap();
        assert_eq!(index.uids().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(add(&world, 0).await, 5);
        let content = world.mail.content(world.account, &inbox.to_bytes(), 4, 0, 0).await;
        assert_eq!(content.unwrap(), message("s", "b"));
    }

    #[tokio::test]
    async fn what_is_next_is_raised() {
        let world = World::new().await;
        let accounts = world.mail.accounts();
        let inbox = accounts
            .state(world.account, 0)
            .await
            .unwrap()
            .named("Inbox")
            .unwrap()
            .id;
        for (least, next) in [(77, 77), (5, 78)] {
            let op = RaiseUids {
                mailboxes: vec![(inbox, least), (MailboxId::new(), 5)],
            };
            accounts.submit(world.account, None, op).await.unwrap();
            assert_eq!(add(&world, 0).await, next);
        }
        let op = BumpUidValidity {
            mailboxes: vec![inbox, MailboxId::new()],
        };
        let bumped = accounts.submit(world.account, None, op).await.unwrap().mailboxes;
        assert_eq!(bumped.len(), 1);
        let state = accounts.state(world.account, 0).await.unwrap();
        assert_eq!(state.mailbox(inbox).unwrap().uid_validity, bumped[0].uid_validity);
        assert_eq!(state.record.next_uid_validity, bumped[0].uid_validity + 1);
    }
}
