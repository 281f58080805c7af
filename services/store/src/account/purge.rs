//! Removing the messages of deleted mailboxes, in the background.

use mox_types::{AccountId, MailboxId};

use super::ops::Purge;
use super::{AccountError, Accounts};
use crate::engine::{Limit, Order};
use crate::keys;

/// Mailboxes that are looked at a time.
const PAGE: usize = 1000;

impl Accounts {
    /// Lets [`Accounts::purge_when_asked`] look for deleted mailboxes.
    pub fn purge_soon(&self) {
        self.0.purge.notify_one();
    }

    /// Removes the messages of deleted mailboxes: those that are left from before, and then whenever there are new ones.
    /// Runs until it is dropped; one is enough in a process.
    pub async fn purge_when_asked(&self) {
        loop {
            let asked = self.0.purge.notified();
            if let Err(error) = self.purge().await {
                tracing::error!(%error, "removing messages of deleted mailboxes, to be tried again with the next one");
            }
            asked.await;
        }
    }

    /// Removes the messages of all mailboxes that are deleted by now.
    ///
    /// # Errors
    /// If the store fails. What is left is removed the next time.
    pub async fn purge(&self) -> Result<(), AccountError> {
        let mut left = Some(keys::deleted_mailboxes());
        while let Some(range) = left.take() {
            let page = self
                .db()
                .scan(range.clone(), Limit::rows(PAGE), Order::Ascending)
                .await?;
            left = page.rest(&range);
            for (key, _) in page.rows {
                let (account, mailbox) =
                    keys::parse_deleted_mailbox(&key).ok_or(AccountError::Damaged("a deleted mailbox"))?;
                self.purge_mailbox(account, mailbox).await?;
            }
        }
        Ok(())
    }

    async fn purge_mailbox(&self, account: AccountId, mailbox: MailboxId) -> Result<(), AccountError> {
        loop {
            match self.submit(account, None, Purge { mailbox }).await {
                Ok(answer) if answer.next_uid == 0 => return Ok(()),
                Ok(_) => {}
                // Whoever removes an account removes all that it has.
                Err(AccountError::AccountGone) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
