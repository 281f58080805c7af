//! How many bytes all messages being received may have together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One for a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: u64,
    used: AtomicU64,
    folder: PathBuf,
}

impl Budget {
    /// Of so many bytes, for messages whose files are in `folder`.
    #[must_use]
    pub fn new(bytes: u64, folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            bytes,
            used: AtomicU64::new(0),
            folder: folder.into(),
        }))
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
        }
    }
}

/// What one message takes of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: u64,
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

    pub(crate) fn budget(&self) -> u64 {
        self.budget.0.bytes
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.budget.0.folder
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
