//! Ids of entries and webhooks: small ascending numbers that people type.
//!
//! Each process takes them in blocks, so that those who enqueue do not wait for each other. What is left of a block when
//! the process ends is never used.

use bytes::Bytes;

use crate::engine::{Commit, Db, EngineError};

use super::{ATTEMPTS, QueueError};

/// Ids that are taken at once: one more commit in so many entries.
const BLOCK: u64 = 256;

pub(crate) struct Ids {
    db: Db,
    /// Where the next id is kept.
    key: Bytes,
    /// The next id, and the first that is not ours.
    block: tokio::sync::Mutex<(u64, u64)>,
}

impl Ids {
    pub(crate) fn new(db: Db, key: Bytes) -> Self {
        Self {
            db,
            key,
            block: tokio::sync::Mutex::new((0, 0)),
        }
    }

    /// So many ids that follow each other; the first of them.
    pub(crate) async fn take(&self, count: u64) -> Result<u64, QueueError> {
        let mut block = self.block.lock().await;
        if block.1 - block.0 < count {
            *block = self.reserve(count + BLOCK).await?;
        }
        let first = block.0;
        block.0 += count;
        Ok(first)
    }

    async fn reserve(&self, count: u64) -> Result<(u64, u64), QueueError> {
        for _ in 0..ATTEMPTS {
            let value = self.db.get(self.key.clone()).await?;
            let first = match &value {
                None => 1,
                Some(value) => u64::from_be_bytes(
                    value
                        .data
                        .as_ref()
                        .try_into()
                        .map_err(|_| QueueError::Damaged("the next id of a queue"))?,
                ),
            };
            let end = first + count;
            let mut commit = Commit::new();
            commit.require_unchanged(self.key.clone(), value.as_ref());
            commit.put(self.key.clone(), end.to_be_bytes().to_vec());
            match self.db.commit(commit).await {
                Ok(_) => return Ok((first, end)),
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }
}
