//! Reading contents: a range of bytes, chunk by chunk.

use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use mox_proto::record::v1 as record;
use mox_types::ContentId;
use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;

use super::{ContentError, Contents};
use crate::keys;

/// Kibibytes of large contents that are read whole at a time, see [`Contents::whole`].
pub(super) const WHOLE_KIB: u32 = 64 << 10;

/// A content with its turn to be in memory.
#[derive(Debug)]
pub struct Whole {
    bytes: Bytes,
    _turn: Option<OwnedSemaphorePermit>,
}

/// One that needs no turn.
impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, _turn: None }
    }
}

impl Deref for Whole {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Contents {
    /// How many bytes a content has.
    ///
    /// # Errors
    /// If it is gone, or the engine fails.
    pub async fn size(&self, id: ContentId) -> Result<u64, ContentError> {
        Ok(self.record(id).await?.size)
    }

    /// A content as a whole. For what is known to be small enough.
    ///
    /// # Errors
    /// If it is gone, or the engine fails.
    pub async fn bytes(&self, id: ContentId) -> Result<Bytes, ContentError> {
        let record = self.record(id).await?;
        if record.chunks == 0 {
            return Ok(record.small);
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(record.size).unwrap_or(0));
        for number in 0..record.chunks {
            bytes.extend_from_slice(&self.chunk(id, number).await?);
        }
        if bytes.len() as u64 != record.size {
            return Err(ContentError::Damaged(id));
        }
        Ok(bytes.freeze())
    }

    /// The bytes of a content that may be large, when it is its turn: those read at a time are together not larger than
    /// [`WHOLE_KIB`], but for a single one that is. Whoever has one must not wait for another.
    ///
    /// # Errors
    /// As [`Contents::bytes`].
    pub async fn whole(&self, id: ContentId) -> Result<Whole, ContentError> {
        let record = self.record(id).await?;
        if record.chunks == 0 {
            return Ok(record.small.into());
        }
        let kib = u32::try_from(record.size.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .min(WHOLE_KIB);
        let turn = Arc::clone(&self.0.whole).acquire_many_owned(kib).await;
        Ok(Whole {
            bytes: self.bytes(id).await?,
            // It is never closed.
            _turn: turn.ok(),
        })
    }

    /// Contents as wholes, each as far as its record has it: `None` for one that is kept in chunks, which are to be
    /// read by [`Contents::read`]. For those that are known to be small, at once.
    ///
    /// # Errors
    /// If one is gone, or the engine fails.
    pub async fn small_many(&self, ids: &[ContentId]) -> Result<Vec<Option<Bytes>>, ContentError> {
        let wanted = ids.iter().map(|id| keys::content(*id)).collect();
        let values = self.0.db.get_many(wanted).await?;
        let records = ids.iter().zip(values).map(|(id, value)| {
            let value = value.ok_or(ContentError::Gone(*id))?;
            let record = record::Content::decode(value.data).map_err(|_| ContentError::Damaged(*id))?;
            Ok((record.chunks == 0).then_some(record.small))
        });
        records.collect()
    }

    /// The bytes of a content from `range.start` to before `range.end`, or to its end if that comes first, in pieces of
    /// at most a chunk.
    #[must_use]
    pub fn read(&self, id: ContentId, range: Range<u64>) -> BoxStream<'static, Result<Bytes, ContentError>> {
        enum At {
            Start,
            Chunk { number: u32, chunk_bytes: u64, end: u64 },
            End,
        }
        let contents = self.clone();
        try_unfold(At::Start, move |at| {
            let (contents, range) = (contents.clone(), range.clone());
            async move {
                let (number, chunk_bytes, end) = match at {
                    At::End => return Ok(None),
                    At::Chunk {
                        number,
                        chunk_bytes,
                        end,
                    } => (number, chunk_bytes, end),
                    At::Start => {
                        let record = contents.record(id).await?;
                        let end = range.end.min(record.size);
                        if range.start >= end {
                            return Ok(None);
                        }
                        if record.chunks == 0 {
                            let piece = part(id, &record.small, range.start, end)?;
                            return Ok(Some((piece, At::End)));
                        }
                        let chunk_bytes = u64::from(record.chunk_bytes).max(1);
                        let number = u32::try_from(range.start / chunk_bytes).unwrap_or(u32::MAX);
                        (number, chunk_bytes, end)
                    }
                };
                let chunk = contents.chunk(id, number).await?;
                let start = u64::from(number) * chunk_bytes;
                let piece_end = end.min(start + chunk_bytes);
                let piece = part(id, &chunk, range.start.saturating_sub(start), piece_end - start)?;
                let next = if piece_end < end {
                    At::Chunk {
                        number: number + 1,
                        chunk_bytes,
                        end,
                    }
                } else {
                    At::End
                };
                Ok(Some((piece, next)))
            }
        })
        .boxed()
    }

    /// How many bytes of one chunk of a large content are kept.
    ///
    /// # Errors
    /// If it is gone, or the engine fails.
    pub async fn chunk_bytes(&self, id: ContentId, number: u32) -> Result<u64, ContentError> {
        Ok(self.chunk(id, number).await?.len() as u64)
    }

    async fn chunk(&self, id: ContentId, number: u32) -> Result<Bytes, ContentError> {
        self.0.blobs.get(id, number).await?.ok_or(ContentError::Gone(id))
    }
}

fn part(id: ContentId, bytes: &Bytes, start: u64, end: u64) -> Result<Bytes, ContentError> {
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
        _ => Err(ContentError::Damaged(id)),
    }
}
