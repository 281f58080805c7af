//! The bytes of a message, read from the store when they are first needed.

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use mox_proto::queue::v1::ReadQueueContentRequest;
use mox_proto::queue::v1::queue_service_client::QueueServiceClient;
use mox_rpc::Channel;
use mox_spool::{Budget, Excerpt, Message, Spool, SpoolError};
use tokio::sync::OnceCell;
use tonic::Code;

/// Why the bytes of a message can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContentError {
    /// From the store.
    #[error("reading the message from the store: {}", .0.message())]
    Store(tonic::Status),
    /// There is no room for it here.
    #[error("{0}")]
    Spool(String),
}

impl From<SpoolError> for ContentError {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error.to_string())
    }
}

impl ContentError {
    /// Whether it says nothing about the message: the entry left the queue, or the store is away, which is no reason to
    /// put the message off for long.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Store(status) = self else { return false };
        matches!(
            status.code(),
            Code::NotFound
                | Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Aborted
                | Code::Unknown
        )
    }
}

/// The bytes of a message.
pub struct Content {
    store: QueueServiceClient<Channel>,
    budget: Budget,
    /// An entry that has it.
    entry: u64,
    /// Header fields above the content.
    prefix: Bytes,
    /// Of prefix and content.
    size: u64,
    read: OnceCell<Message>,
}

impl Content {
    /// Of an entry.
    #[must_use]
    pub fn new(store: QueueServiceClient<Channel>, budget: Budget, entry: u64, prefix: Bytes, size: u64) -> Self {
        Self {
            store,
            budget,
            entry,
            prefix,
            size,
            read: OnceCell::new(),
        }
    }

    /// Reads it, the first time.
    ///
    /// # Errors
    /// If the store fails, or there is no room.
    pub async fn load(&self) -> Result<(), ContentError> {
        self.read.get_or_try_init(|| self.read()).await.map(|_| ())
    }

    async fn read(&self) -> Result<Message, ContentError> {
        let limit = self.size.saturating_sub(self.prefix.len() as u64);
        let mut spool = Spool::new(&self.budget, limit);
        let request = ReadQueueContentRequest { id: self.entry };
        let mut pieces = self
            .store
            .clone()
            .read_content(request)
            .await
            .map_err(ContentError::Store)?
            .into_inner();
        while let Some(piece) = pieces.message().await.map_err(ContentError::Store)? {
            spool.write(&piece.data).await?;
        }
        if spool.len() != limit {
            let status = tonic::Status::data_loss(format!("it has {} bytes, and should have {limit}", spool.len()));
            return Err(ContentError::Store(status));
        }
        Ok(spool.finish().await?)
    }

    /// Bytes of the whole message.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The whole message, in pieces. Without its content if that was not loaded.
    #[must_use]
    pub fn stream(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let content = self.read.get().cloned().map(Excerpt::from);
        let content = content.into_iter().flat_map(Excerpt::into_pieces);
        stream::iter([self.prefix.clone()].into_iter().chain(content).map(Ok)).boxed()
    }

    /// The beginning of the message, at most so many bytes of the content; with what was loaded.
    #[must_use]
    pub fn beginning(&self, most: usize) -> Vec<u8> {
        let mut all = self.prefix.to_vec();
        if let Some(content) = self.read.get() {
            all.extend_from_slice(&content[..content.len().min(most)]);
        }
        all
    }
}
