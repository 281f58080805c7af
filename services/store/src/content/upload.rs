//! Receiving contents before anything refers to them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use mox_proto::record::v1 as record;
use mox_types::ContentId;
use prost::Message;

use super::{ContentError, Contents, INLINE_BYTES, Inner, Staged, small};
use crate::engine::{Commit, EngineError};
use crate::keys;

/// Chunks that are being written at once: so that one sync serves several.
const IN_FLIGHT: usize = 4;

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// To be referred to by.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
}

impl Uploaded {
    /// Ready to be referred to.
    #[must_use]
    pub fn staged(&self) -> Staged {
        Staged {
            id: self.id,
            size: self.size,
            inline: None,
        }
    }
}

/// Keeps an upload from being abandoned while it is received.
struct Receiving {
    contents: Arc<Inner>,
    id: ContentId,
}

impl Receiving {
    fn new(contents: &Contents, id: ContentId) -> Self {
        contents.0.receiving.lock().insert(id);
        Self {
            contents: Arc::clone(&contents.0),
            id,
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.contents.receiving.lock().remove(&self.id);
    }
}

impl Contents {
    /// Receives the bytes of a content, up to `limit` of them. They are durable when this returns. If it fails or is
    /// dropped, what was received is abandoned.
    ///
    /// # Errors
    /// If there are too many, the stream fails, or the engine does.
    pub async fn upload<S>(&self, mut parts: S, limit: u64) -> Result<Uploaded, ContentError>
    where
        S: Stream<Item = Result<Bytes, tonic::Status>> + Unpin + Send,
    {
        let id = ContentId::new();
        let chunk_bytes = self.0.blobs.chunk_bytes().max(INLINE_BYTES);
        let mut buffer = BytesMut::new();
        let mut size = 0u64;
        let mut chunks = Chunks::new(self, id);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|s| ContentError::Sender(s.code(), s.message().to_owned()))?;
            size += part.len() as u64;
            if size > limit {
                return Err(ContentError::TooLarge(limit));
            }
            buffer.extend_from_slice(&part);
            // Exactly one chunk may still be all there is.
            while buffer.len() > chunk_bytes {
                chunks.add(buffer.split_to(chunk_bytes).freeze()).await?;
            }
        }
        let rest = buffer.freeze();
        let mut commit = Commit::new();
        let record = if chunks.count == 0 {
            commit.put(keys::upload(id), self.upload_record());
            small(&rest)
        } else {
            chunks.add(rest).await?;
            commit.require_present(keys::upload(id));
            chunks.finish(size, chunk_bytes).await?
        };
        commit.put(keys::content(id), record.encode_to_vec());
        match self.0.db.commit(commit).await {
            Ok(_) => Ok(Uploaded { id, size }),
            Err(EngineError::Conflict { .. }) => Err(ContentError::NoUpload),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Contents::upload`], of bytes at hand, and only if they are too many for [`Staged::inline`].
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn upload_bytes(&self, bytes: Bytes) -> Result<Staged, ContentError> {
        if bytes.len() <= INLINE_BYTES {
            return Ok(Staged::inline(bytes));
        }
        let size = bytes.len() as u64;
        let uploaded = self.upload(futures::stream::iter([Ok(bytes)]), size).await?;
        Ok(uploaded.staged())
    }

    fn upload_record(&self) -> Vec<u8> {
        record::Upload { started: self.now() }.encode_to_vec()
    }
}

type Write = futures::future::BoxFuture<'static, Result<(), EngineError>>;

/// The chunks of an upload.
struct Chunks<'a> {
    contents: &'a Contents,
    id: ContentId,
    count: u32,
    digest: ring::digest::Context,
    writing: FuturesUnordered<Write>,
    receiving: Option<Arc<Receiving>>,
}

impl<'a> Chunks<'a> {
    fn new(contents: &'a Contents, id: ContentId) -> Self {
        Self {
            contents,
            id,
            count: 0,
            digest: ring::digest::Context::new(&ring::digest::SHA256),
            writing: FuturesUnordered::new(),
            receiving: None,
        }
    }

    async fn add(&mut self, chunk: Bytes) -> Result<(), ContentError> {
        if self.receiving.is_none() {
            // First of all, so that there is no chunk that the collector cannot find.
            self.receiving = Some(Arc::new(Receiving::new(self.contents, self.id)));
            let mut commit = Commit::new();
            commit.put(keys::upload(self.id), self.contents.upload_record());
            self.contents.0.db.commit(commit).await?;
        }
        while self.writing.len() >= IN_FLIGHT {
            if let Some(written) = self.writing.next().await {
                written?;
            }
        }
        self.digest.update(&chunk);
        let (blobs, id, number) = (Arc::clone(&self.contents.0.blobs), self.id, self.count);
        self.count += 1;
        // In a task of its own, so that it goes on while the next bytes are awaited.
        // It holds the upload, which else may be abandoned and removed before the chunk is written.
        let receiving = self.receiving.clone();
        let task = tokio::spawn(async move {
            let written = blobs.put(id, number, chunk).await;
            drop(receiving);
            written
        });
        self.writing
            .push(Box::pin(async move { task.await.unwrap_or(Err(EngineError::Closed)) }));
        Ok(())
    }

    async fn finish(&mut self, size: u64, chunk_bytes: usize) -> Result<record::Content, ContentError> {
        while let Some(written) = self.writing.next().await {
            written?;
        }
        let digest = std::mem::replace(&mut self.digest, ring::digest::Context::new(&ring::digest::SHA256));
        Ok(record::Content {
            size,
            chunks: self.count,
            chunk_bytes: u32::try_from(chunk_bytes).unwrap_or(u32::MAX),
            sha256: Bytes::copy_from_slice(digest.finish().as_ref()),
            ..Default::default()
        })
    }
}
