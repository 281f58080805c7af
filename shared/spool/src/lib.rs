//! A message while it is being received: in memory to 1 MiB, then in a file without a name, and within one budget of
//! bytes for the whole process. Memory has a budget of its own; when it is used up, small messages go to files too.
//!
//! A [`Spool`] takes what arrives; [`Spool::finish`] makes it a [`Message`], one slice of bytes however large, which is
//! what parsers take. A large message is not read back into memory: its file is mapped, read-only. The file has no name
//! from the start, so nothing is left of it after a crash.
//!
//! What is spooled, and not what may still come, counts against the [`Budget`], until the last clone of the message is
//! dropped. When the budget is used up, writing fails at once: whoever receives answers with a temporary error, and
//! takes no more from the network than it may keep.
//!
//! Writing to files is done away from the runtime's threads. Files go to a folder that is given, which should not be a
//! memory file system.

mod budget;
mod excerpt;
mod file;

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use budget::Share;
pub use budget::{Budget, MEMORY_TOTAL_BYTES, READERS};
use bytes::Bytes;
pub use excerpt::Excerpt;
use file::{Mapped, SpoolFile};

/// Messages up to this size are not written to a file. Nearly all mail is smaller.
pub const MEMORY_BYTES: usize = 1 << 20;

/// What is collected before it is written to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Memory for a message is set aside in steps from here, doubling.
const FIRST_BYTES: usize = 16 << 10;

/// Messages from this size on are read on a thread for such work, rather than beside other sessions.
const OFF_THREAD_BYTES: usize = 64 << 10;

/// Why a message can't be spooled.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It is larger than the limit that was set for it. A permanent error for its sender.
    #[error("the message is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// All messages being received are together larger than the process may spool now. Temporary.
    #[error("all messages being received are together larger than {budget} bytes")]
    Budget {
        /// Bytes of the budget.
        budget: u64,
    },
    /// The file can't be written; when the disk is full, of kind `StorageFull`. Temporary.
    #[error("write the message being received to a file in {folder}: {error}")]
    Io {
        /// Where.
        folder: String,
        /// Why not.
        error: io::Error,
    },
}

/// A message being received.
#[derive(Debug)]
pub struct Spool {
    share: Share,
    limit: u64,
    len: u64,
    /// All of it, or what is not in the file yet.
    buffer: Vec<u8>,
    file: Option<SpoolFile>,
    failed: bool,
}

impl Spool {
    /// An empty one, for a message of at most `limit` bytes.
    #[must_use]
    pub fn new(budget: &Budget, limit: u64) -> Self {
        Self {
            share: budget.share(),
            limit,
            len: 0,
            buffer: Vec::new(),
            file: None,
            failed: false,
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends. Returns at once while the message is small.
    ///
    /// After an error, or when dropped before it completed, the message is lost: further calls fail.
    ///
    /// # Errors
    /// If the message is too large, the budget is used up, or its file can't be written.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        let len = self.len + data.len() as u64;
        if self.failed {
            return Err(self.error(io::Error::other("an earlier write failed")));
        }
        if len > self.limit {
            self.failed = true;
            return Err(SpoolError::TooLarge { limit: self.limit });
        }
        if !self.share.grow(data.len() as u64) {
            self.failed = true;
            return Err(SpoolError::Budget {
                budget: self.share.budget(),
            });
        }
        self.len = len;
        let room = if self.file.is_some() {
            BUFFER_BYTES
        } else {
            MEMORY_BYTES
        };
        let wanted = self.buffer.len() + data.len();
        // Everybody has a few bytes: what comes in drops makes no write each.
        if wanted <= FIRST_BYTES || (wanted <= room && self.share.hold(wanted as u64)) {
            self.append(data);
            return Ok(());
        }
        // Until the file has it, what happens to the future decides what happens to the message.
        self.failed = true;
        self.spill(data).await?;
        self.failed = false;
        Ok(())
    }

    fn append(&mut self, data: &[u8]) {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(FIRST_BYTES.max(data.len()));
        }
        self.buffer.extend_from_slice(data);
    }

    /// Writes the buffer and `data` to the file, which is made if there is none.
    async fn spill(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(data);
        let file = self.file.take();
        let folder = self.share.folder().to_owned();
        let written = blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => SpoolFile::create(&folder)?,
            };
            file.append(&buffer)?;
            Ok(file)
        });
        self.file = Some(written.await.map_err(|e| self.error(e))?);
        self.share.let_go();
        Ok(())
    }

    fn error(&self, error: io::Error) -> SpoolError {
        SpoolError::Io {
            folder: self.share.folder().display().to_string(),
            error,
        }
    }

    /// The whole message.
    ///
    /// # Errors
    /// If its file can't be written or mapped, or an earlier write failed.
    pub async fn finish(mut self) -> Result<Message, SpoolError> {
        if self.failed {
            return Err(self.error(io::Error::other("an earlier write failed")));
        }
        if self.file.is_none() {
            let data = std::mem::take(&mut self.buffer);
            return Ok(Message {
                bytes: Bytes::from_owner(InMemory {
                    data,
                    _share: self.share,
                }),
                file: None,
            });
        }
        if !self.buffer.is_empty() {
            self.spill(&[]).await?;
        }
        let Some(file) = self.file.take() else {
            return Err(self.error(io::ErrorKind::NotFound.into()));
        };
        let mapped = blocking(move || file.map()).await.map_err(|e| self.error(e))?;
        let file = Arc::new(InFile {
            mapped,
            share: self.share,
        });
        Ok(Message {
            bytes: Bytes::from_owner(Shared(Arc::clone(&file))),
            file: Some(file),
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

struct InMemory {
    data: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for InMemory {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[derive(Debug)]
struct InFile {
    mapped: Mapped,
    share: Share,
}

/// As the owner of bytes.
struct Shared(Arc<InFile>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.mapped.as_ref()
    }
}

/// A message that was received. Clones, and slices of its bytes, share it.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    file: Option<Arc<InFile>>,
}

impl Message {
    /// As shared bytes: slices of them keep the message, and its share of the budget.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Reads the message whole; as [`Message::read_on_thread`] if it is not small.
    ///
    /// # Errors
    /// See there.
    pub async fn read<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Bytes) -> T + Send + 'static,
    {
        if self.bytes.len() < OFF_THREAD_BYTES {
            return Ok(work(&self.bytes));
        }
        self.read_on_thread(work).await
    }

    /// Reads the message whole, away from the runtime's threads. Of those in files only [`READERS`] are read at a time,
    /// or a single very large one, and what was read of one is in memory no longer than that.
    ///
    /// # Errors
    /// If the work panics, or the runtime is ending.
    pub async fn read_on_thread<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Bytes) -> T + Send + 'static,
    {
        let turn = match &self.file {
            Some(file) => Some(file.share.reader().await),
            None => None,
        };
        let message = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let done = work(&message.bytes);
            message.release_memory();
            drop(turn);
            done
        });
        reading.await.map_err(io::Error::other)
    }

    /// Takes a large message out of the memory of this process while nobody reads it, as when it waits for its turn. It
    /// is in its file, and comes back as it is read.
    pub fn release_memory(&self) {
        if let Some(file) = &self.file {
            file.mapped.release();
        }
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One that was made here, which is no part of a budget.
impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, file: None }
    }
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Bytes {
        message.bytes
    }
}
