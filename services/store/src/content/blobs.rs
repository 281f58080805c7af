//! Where the bytes of large contents are: in chunks, each durable once written.

use async_trait::async_trait;
use bytes::Bytes;
use mox_types::ContentId;

use crate::engine::{Commit, Db, EngineError};
use crate::keys;

/// Chunks of contents. What refers to a content, and whether anything does, is not its concern.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Size of all chunks of a new content but the last.
    fn chunk_bytes(&self) -> usize;
    /// Keeps a chunk; it is durable when this returns.
    async fn put(&self, id: ContentId, number: u32, data: Bytes) -> Result<(), EngineError>;
    /// A chunk; `None` if it is not there.
    async fn get(&self, id: ContentId, number: u32) -> Result<Option<Bytes>, EngineError>;
    /// Removes the chunks of a content; without their number, all that were written of it. Repeating it does no harm.
    async fn delete(&self, id: ContentId, chunks: Option<u32>) -> Result<(), EngineError>;
}

/// Chunks in the engine itself.
pub struct EngineBlobs(Db);

/// Large enough for reading at the speed of a disk, small enough to answer with and to commit along with others.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks removed in one commit.
const DELETE_CHUNKS: usize = 1024;

impl EngineBlobs {
    /// In an engine.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self(db)
    }
}

#[async_trait]
impl Blobs for EngineBlobs {
    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES
    }

    async fn put(&self, id: ContentId, number: u32, data: Bytes) -> Result<(), EngineError> {
        let mut commit = Commit::new();
        commit.put(keys::chunk(id, number), data);
        self.0.commit(commit).await.map(|_| ())
    }

    async fn get(&self, id: ContentId, number: u32) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get(keys::chunk(id, number)).await?.map(|chunk| chunk.data))
    }

    async fn delete(&self, id: ContentId, chunks: Option<u32>) -> Result<(), EngineError> {
        let Some(chunks) = chunks else {
            let mut commit = Commit::new();
            commit.delete_range(keys::chunks(id));
            return self.0.commit(commit).await.map(|_| ());
        };
        // One by one, since deleted ranges stay in the way of reads.
        for first in (0..chunks).step_by(DELETE_CHUNKS) {
            let mut commit = Commit::new();
            for number in first..chunks.min(first + DELETE_CHUNKS as u32) {
                commit.delete(keys::chunk(id, number));
            }
            self.0.commit(commit).await?;
        }
        Ok(())
    }
}
