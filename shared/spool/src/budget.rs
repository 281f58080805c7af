//! How many bytes all messages being received may have together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all messages in memory together. Beyond, they are written to files although they are small: thousands of
/// clients that send slowly do not fill the memory.
pub const MEMORY_TOTAL_BYTES: u64 = 48 << 20;

/// Messages in files that are read whole at a time: as long as one is read, it is in memory.
pub const READERS: usize = 2;
/// Larger ones are read alone.
const ALONE_BYTES: u64 = 32 << 20;

/// One for a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: u64,
    used: AtomicU64,
    /// Bytes that may be in memory, and that are.
    memory: u64,
    held: AtomicU64,
    readers: Arc<Semaphore>,
    folder: PathBuf,
}

impl Budget {
    /// Of so many bytes, for messages whose files are in `folder`.
    #[must_use]
    pub fn new(bytes: u64, folder: impl Into<PathBuf>) -> Self {
        Self::within(MEMORY_TOTAL_BYTES, bytes, folder)
    }

    /// As [`Budget::new`], with another bound on memory.
    #[must_use]
    pub fn within(memory: u64, bytes: u64, folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            bytes,
            used: AtomicU64::new(0),
            memory,
            held: AtomicU64::new(0),
            readers: Arc::new(Semaphore::new(READERS)),
            folder: folder.into(),
        }))
    }

    /// Bytes in memory now, without the first few of each message.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Bytes in use now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
            held: 0,
        }
    }
}

/// What one message takes of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: u64,
    held: u64,
}

impl Share {
    /// Takes more, if there is as much.
    pub(crate) fn grow(&mut self, more: u64) -> bool {
        let Inner { bytes, used, .. } = &*self.budget.0;
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|sum| sum <= bytes)
        });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Takes memory for so many bytes altogether, if there is as much.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.held);
        if more == 0 {
            return true;
        }
        let Inner { memory, held, .. } = &*self.budget.0;
        let taken = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| sum <= memory)
        });
        if taken.is_ok() {
            self.held = bytes;
        }
        taken.is_ok()
    }

    /// Gives all memory back.
    pub(crate) fn let_go(&mut self) {
        self.budget
            .0
            .held
            .fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
    }

    /// A turn to read what is in a file, until it is dropped.
    pub(crate) async fn reader(&self) -> Option<OwnedSemaphorePermit> {
        let turns = if self.bytes > ALONE_BYTES { READERS as u32 } else { 1 };
        // It is never closed.
        Arc::clone(&self.budget.0.readers).acquire_many_owned(turns).await.ok()
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget.0.bytes
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.budget.0.folder
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.let_go();
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
