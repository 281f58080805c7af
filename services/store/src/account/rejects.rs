//! Removing copies of refused messages that have become old, in the background.

use mox_types::AccountId;

use super::ops::TidyRejects;
use super::{AccountError, Accounts};
use crate::engine::{Limit, Order};
use crate::keys;

impl Accounts {
    /// Removes the copies among an account's rejects that are too old. It looks at what it removes, and at a page of what
    /// it leaves; an account without copies is not even opened.
    ///
    /// # Errors
    /// If the store fails. What is left is removed the next time.
    pub async fn tidy_rejects(&self, account: AccountId) -> Result<(), AccountError> {
        let copies = keys::account_table(account, keys::TABLE_REJECTS);
        let page = self.db().scan(copies, Limit::rows(1), Order::Ascending).await?;
        if page.rows.is_empty() {
            return Ok(());
        }
        while self.submit(account, None, TidyRejects).await? {}
        Ok(())
    }
}
