//! Removing all that an account has in the queue.

use mox_types::AccountId;

use super::{ATTEMPTS, Queue, QueueError, record};
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;

/// Entries that are removed in one commit.
const STEP: usize = 256;

impl Queue {
    /// Removes the entries of an account, and all that is kept of what it sent. Nobody is notified. What is being delivered
    /// at this moment may arrive still.
    ///
    /// # Errors
    /// If the engine fails, or others keep changing the entries.
    pub async fn remove_account(&self, account: AccountId) -> Result<(), QueueError> {
        let mut conflicts = 0;
        loop {
            let page = self
                .db()
                .scan(keys::queue_of_account_all(account), Limit::rows(STEP), Order::Ascending)
                .await?;
            if page.rows.is_empty() {
                break;
            }
            let ids: Vec<u64> = page
                .rows
                .iter()
                .filter_map(|(key, _)| keys::parse_queue_of_account(key))
                .collect();
            let mut commit = Commit::new();
            commit.set_frees();
            for ((key, _), stored) in page.rows.into_iter().zip(record::load(self.db().as_ref(), &ids).await?) {
                match stored {
                    Some(stored) => record::remove(&mut commit, &stored, self.now())?,
                    None => {
                        commit.delete(key);
                    }
                }
            }
            match self.db().commit(commit).await {
                Ok(_) => conflicts = 0,
                Err(EngineError::Conflict { .. }) if conflicts < ATTEMPTS => conflicts += 1,
                Err(EngineError::Conflict { .. }) => return Err(QueueError::Contended),
                Err(e) => return Err(e.into()),
            }
        }
        self.remove_retired(account).await?;
        let mut commit = Commit::new();
        commit.set_frees();
        for range in keys::queue_history(account) {
            commit.delete_range(range);
        }
        self.db().commit(commit).await?;
        Ok(())
    }
}
