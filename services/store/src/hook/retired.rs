//! Webhooks that left the queue, for as long as their account wants to look at them.

use mox_proto::hook::v1::RetiredHook;

use super::{Hooks, gone, record};
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;
use crate::queue::QueueError;

/// Webhooks that are removed in one commit.
const STEP: usize = 500;

impl Hooks {
    /// One that left the queue and is kept.
    ///
    /// # Errors
    /// If it is not, or the engine fails.
    pub async fn retired(&self, id: u64) -> Result<RetiredHook, QueueError> {
        let value = self.db().get(keys::hook_retired(id)).await?;
        record::decode_retired(&value.ok_or(gone(id))?.data)
    }

    /// Removes those whose time is over; answers how many.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn clean_retired(&self) -> Result<u64, QueueError> {
        let mut removed = 0;
        loop {
            let range = keys::hooks_retired_over(self.now());
            let page = self.db().scan(range, Limit::rows(STEP), Order::Ascending).await?;
            let ids: Vec<u64> = page
                .rows
                .iter()
                .filter_map(|(key, _)| keys::parse_hook_id(key))
                .collect();
            if ids.is_empty() {
                return Ok(removed);
            }
            let mut commit = Commit::new();
            commit.set_frees();
            let many = self.remove_retired(&mut commit, &ids).await?;
            for (key, _) in page.rows {
                commit.delete(key);
            }
            match self.db().commit(commit).await {
                Ok(_) => removed += many,
                // A result was added to one of them.
                Err(EngineError::Conflict { .. }) => continue,
                Err(e) => return Err(e.into()),
            }
            if !page.more {
                return Ok(removed);
            }
        }
    }

    /// Adds their removal to a commit; answers how many there are.
    pub(super) async fn remove_retired(&self, commit: &mut Commit, ids: &[u64]) -> Result<u64, QueueError> {
        let wanted = ids.iter().map(|id| keys::hook_retired(*id)).collect();
        let mut removed = 0;
        for value in self.db().get_many(wanted).await?.into_iter().flatten() {
            let retired = record::decode_retired(&value.data)?;
            let Some(hook) = &retired.hook else { continue };
            commit.require_at(keys::hook_retired(hook.id), value.version);
            commit.delete(keys::hook_retired(hook.id));
            commit.delete(keys::hook_retired_until(retired.keep_until, hook.id));
            commit.delete(keys::hook_retired_of(record::account_of(hook)?, hook.id));
            record::release(commit, hook, self.now())?;
            removed += 1;
        }
        Ok(removed)
    }
}
