//! Putting right what is counted or promised wrongly.

use mox_proto::record::v1 as record;
use mox_types::MailboxId;

use crate::account::state::Counts;
use crate::account::{AccountError, AccountTx, Op};

/// How much counters are off: what to add to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Off {
    /// Messages.
    pub messages: i64,
    /// Those without `\Seen`.
    pub unseen: i64,
    /// Those with `\Deleted`.
    pub deleted: i64,
    /// Bytes.
    pub size: i64,
    /// Bytes of those with `\Deleted`.
    pub deleted_size: i64,
}

impl Off {
    /// From what is kept to what there is.
    #[must_use]
    pub fn between(kept: &Counts, is: &Counts) -> Self {
        let small = |kept: u32, is: u32| i64::from(is) - i64::from(kept);
        let large = |kept: u64, is: u64| i64::try_from(i128::from(is) - i128::from(kept)).unwrap_or_default();
        Self {
            messages: small(kept.messages, is.messages),
            unseen: small(kept.unseen, is.unseen),
            deleted: small(kept.deleted, is.deleted),
            size: large(kept.size, is.size),
            deleted_size: large(kept.deleted_size, is.deleted_size),
        }
    }
}

/// Corrects the counters of mailboxes, and of the account. It says by how much and not to what, so that what is added
/// and removed while it is counted does not matter.
pub struct CorrectCounts {
    /// Of mailboxes. Those that are gone are passed over.
    pub mailboxes: Vec<(MailboxId, Off)>,
    /// Of all messages of the account: their number, and their bytes.
    pub account: (i64, i64),
}

impl Op for CorrectCounts {
    type Output = record::Counts;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        for (id, off) in &self.mailboxes {
            if tx.state().mailbox(*id).is_err() {
                continue;
            }
            tx.edit_mailbox(*id, |mailbox| {
                let small = |n: u32, by: i64| u32::try_from((i64::from(n) + by).max(0)).unwrap_or(u32::MAX);
                let counts = &mut mailbox.counts;
                *counts = Counts {
                    messages: small(counts.messages, off.messages),
                    unseen: small(counts.unseen, off.unseen),
                    deleted: small(counts.deleted, off.deleted),
                    size: counts.size.saturating_add_signed(off.size),
                    deleted_size: counts.deleted_size.saturating_add_signed(off.deleted_size),
                };
            })?;
        }
        if self.account != (0, 0) {
            tx.repair_account(|record| {
                record.messages = record.messages.saturating_add_signed(self.account.0);
                record.size = record.size.saturating_add_signed(self.account.1);
            });
        }
        Ok(record::Counts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::tests::World;

    #[tokio::test]
    async fn counters_are_corrected_by_what_they_are_off() {
        let world = World::new().await;
        let accounts = world.mail.accounts();
        let state = accounts.state(world.account, 0).await.unwrap();
        let inbox = state.named("Inbox").unwrap().clone();
        let is = Counts {
            messages: 3,
            unseen: 1,
            deleted: 0,
            size: 700,
            deleted_size: 0,
        };
        let kept = Counts {
            messages: 1,
            unseen: 5,
            ..Counts::default()
        };
        let off = Off::between(&kept, &is);
        assert_eq!((off.messages, off.unseen, off.size), (2, -4, 700));
        let op = CorrectCounts {
            mailboxes: vec![(inbox.id, off), (MailboxId::new(), off)],
            account: (2, 700),
        };
        accounts.submit(world.account, None, op).await.unwrap();
        let state = accounts.state(world.account, 0).await.unwrap();
        let counts = state.mailbox(inbox.id).unwrap().counts;
        // What would be below zero is zero.
        assert_eq!((counts.messages, counts.unseen, counts.size), (2, 0, 700));
        assert_eq!((state.record.messages, state.record.size), (2, 700));
    }
}
