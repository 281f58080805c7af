//! Removing all webhooks of an account.

use mox_types::AccountId;

use super::{ATTEMPTS, Hooks, record};
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;
use crate::queue::QueueError;

/// Webhooks that are removed in one commit.
const STEP: usize = 256;

impl Hooks {
    /// Removes the webhooks of an account, in the queue and kept. What is being called at this moment may be heard still.
    ///
    /// # Errors
    /// If the engine fails, or others keep changing them.
    pub async fn remove_account(&self, account: AccountId) -> Result<(), QueueError> {
        let mut conflicts = 0;
        loop {
            let (commit, more) = self.removal(account).await?;
            if commit.operations.is_empty() {
                return Ok(());
            }
            match self.db().commit(commit).await {
                Ok(_) if !more => return Ok(()),
                Ok(_) => conflicts = 0,
                Err(EngineError::Conflict { .. }) if conflicts < ATTEMPTS => conflicts += 1,
                Err(EngineError::Conflict { .. }) => return Err(QueueError::Contended),
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn removal(&self, account: AccountId) -> Result<(Commit, bool), QueueError> {
        let mut commit = Commit::new();
        commit.set_frees();
        let due = keys::hook_due_of_account(account);
        let queued = self.db().scan(due, Limit::rows(STEP), Order::Ascending).await?;
        let ids: Vec<u64> = queued
            .rows
            .iter()
            .filter_map(|(key, _)| keys::parse_hook_id(key))
            .collect();
        for stored in record::load(self.db().as_ref(), &ids).await?.into_iter().flatten() {
            let hook = stored.hook()?;
            commit.require_at(keys::hook_entry(hook.id), stored.version);
            commit.delete(keys::hook_entry(hook.id));
            if hook.queue_id != 0 {
                commit.delete(keys::hook_of_message(hook.queue_id));
            }
            record::release(&mut commit, hook, self.now())?;
        }
        for (key, _) in queued.rows {
            commit.delete(key);
        }
        let kept = keys::hooks_retired_of(account);
        let kept = self.db().scan(kept, Limit::rows(STEP), Order::Ascending).await?;
        let ids: Vec<u64> = kept
            .rows
            .iter()
            .filter_map(|(key, _)| keys::parse_hook_id(key))
            .collect();
        self.remove_retired(&mut commit, &ids).await?;
        for (key, _) in kept.rows {
            commit.delete(key);
        }
        Ok((commit, queued.more || kept.more))
    }
}
