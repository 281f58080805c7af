//! The ordered key space under everything: reads, snapshots, and conditional commits that are durable once answered.
//!
//! Nothing above [`Engine`] knows which database is beneath. Every value carries the version of the commit that wrote
//! it; conditions compare these versions, so that two writers of the same thing never overwrite each other.
//!
//! A *space* is all keys with the same first byte ([`crate::keys`]). A scan, or a range to delete, lies within one.

mod committer;
mod lock;
mod readers;
mod rocks;
mod space;
mod wal;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use lock::{DirectoryLock, LockError};
pub use rocks::{DATABASE, EXIT_IO, OpenError, Options, REMOVED_MANY, RocksEngine};

/// A value, and which commit wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What was put.
    pub data: Bytes,
    /// The version of the commit that put it: ascending over the life of the data, never reused.
    pub version: u64,
}

/// What must hold for a commit to take place, checked at the moment of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key has no value.
    Absent(Bytes),
    /// The key has the value that the commit of this version put.
    At(Bytes, u64),
    /// The key has a value.
    Present(Bytes),
}

/// One step of a commit. Of several for the same key, the last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Removes a key, if it is there.
    Delete(Bytes),
    /// Removes all keys from the first to before the second, both of one space. For rare use: it costs reads later.
    DeleteRange(Bytes, Bytes),
}

/// Changes that take place together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// In order.
    pub operations: Vec<Operation>,
    /// It leads to less space being used, so it may use some of the disk space that is kept in reserve.
    pub frees: bool,
}

impl Commit {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, key: Bytes, value: impl Into<Bytes>) -> &mut Self {
        self.operations.push(Operation::Put(key, value.into()));
        self
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Bytes) -> &mut Self {
        self.operations.push(Operation::Delete(key));
        self
    }

    /// Removes all keys of a range within one space.
    pub fn delete_range(&mut self, range: Range<Bytes>) -> &mut Self {
        self.operations.push(Operation::DeleteRange(range.start, range.end));
        self
    }

    /// Only if the key has no value.
    pub fn require_absent(&mut self, key: Bytes) -> &mut Self {
        self.conditions.push(Condition::Absent(key));
        self
    }

    /// Only if the key's value is that of this version.
    pub fn require_at(&mut self, key: Bytes, version: u64) -> &mut Self {
        self.conditions.push(Condition::At(key, version));
        self
    }

    /// Only if the key has a value.
    pub fn require_present(&mut self, key: Bytes) -> &mut Self {
        self.conditions.push(Condition::Present(key));
        self
    }

    /// Only if the key is as it was read: at the version of the value, or absent.
    pub fn require_unchanged(&mut self, key: Bytes, read: Option<&Value>) -> &mut Self {
        match read {
            Some(value) => self.require_at(key, value.version),
            None => self.require_absent(key),
        }
    }

    /// Marks it as leading to less space being used ([`Commit::frees`]).
    pub fn set_frees(&mut self) -> &mut Self {
        self.frees = true;
        self
    }

    /// Adds all of another. The indices of its conditions follow those that are here.
    pub fn append(&mut self, mut other: Commit) -> &mut Self {
        self.conditions.append(&mut other.conditions);
        self.operations.append(&mut other.operations);
        self.frees |= other.frees;
        self
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.operations
            .iter()
            .map(|operation| match operation {
                Operation::Put(key, value) => key.len() + value.len(),
                Operation::Delete(key) => key.len(),
                Operation::DeleteRange(start, end) => start.len() + end.len(),
            })
            .sum()
    }
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A condition of the commit does not hold. Nothing was changed.
    #[error("condition {condition} of the commit does not hold")]
    Conflict {
        /// Index into [`Commit::conditions`], the first that failed.
        condition: usize,
    },
    /// The disk has less free space than is kept in reserve. Nothing was changed.
    #[error("the disk of the store has less free space than its reserve")]
    NoSpace,
    /// The engine is shutting down. It is not known whether a commit took place.
    #[error("the store is shutting down")]
    Closed,
    /// The disk, or the data on it, failed a read.
    #[error("{0}")]
    Io(String),
}

impl From<EngineError> for tonic::Status {
    fn from(error: EngineError) -> Self {
        match error {
            // Callers that can resolve a conflict do so; one that reaches a client may be tried again.
            EngineError::Conflict { .. } => tonic::Status::aborted("changed by another at the same time, try again"),
            EngineError::NoSpace => tonic::Status::resource_exhausted("disk"),
            EngineError::Closed => tonic::Status::unavailable(error.to_string()),
            EngineError::Io(what) => tonic::Status::internal(what),
        }
    }
}

/// Where a page of a scan ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Most rows.
    pub rows: usize,
    /// Most bytes of keys and values; a page has at least one row nevertheless.
    pub bytes: usize,
}

impl Limit {
    /// So many rows, and at most [`mox_rpc::PAGE_BYTES`]-like 1 MiB.
    #[must_use]
    pub fn rows(rows: usize) -> Self {
        Self {
            rows,
            bytes: PAGE_BYTES,
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            rows: usize::MAX,
            bytes: PAGE_BYTES,
        }
    }
}

/// Most bytes that a scan reads unless told otherwise: what an answer can carry.
const PAGE_BYTES: usize = 1 << 20;

/// Direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the start of the range.
    Ascending,
    /// From the end of the range.
    Descending,
}

/// What a scan read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, in the order of the scan.
    pub rows: Vec<(Bytes, Value)>,
    /// The range has further rows.
    pub more: bool,
}

impl Page {
    /// What is left of a range after this page, ascending; `None` if nothing is.
    #[must_use]
    pub fn rest(&self, range: &Range<Bytes>) -> Option<Range<Bytes>> {
        let (last, _) = self.rows.last().filter(|_| self.more)?;
        Some(after(last)..range.end.clone())
    }
}

/// The first key after another.
#[must_use]
pub fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// A key space in order, with conditional, durable commits.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What is committed now, to read from repeatedly. To be held for one call, never while waiting for a peer.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError>;
    /// Values of keys, all as of one moment, in the order asked.
    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>, EngineError>;
    /// Rows of a range.
    async fn scan(&self, range: Range<Bytes>, limit: Limit, order: Order) -> Result<Page, EngineError>;
    /// Makes the changes if all conditions hold, and answers with the version that its puts now have, once they are on
    /// disk. Dropping the future does not undo it.
    async fn commit(&self, commit: Commit) -> Result<u64, EngineError>;

    /// Writes all that is committed now as a database of its own into a folder, which must not exist, in one that does.
    /// Files that do not change any more are linked where the file system allows, and copied otherwise.
    async fn checkpoint(&self, folder: PathBuf) -> Result<(), EngineError> {
        Err(EngineError::Io(format!(
            "this database cannot be copied into {}: use its own tools",
            folder.display()
        )))
    }

    /// Lets the space of what was removed come back now, rather than when so much more was written that what is in
    /// memory is written out. To be asked when many keys were removed.
    async fn settle(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The value of one key.
    async fn get(&self, key: Bytes) -> Result<Option<Value>, EngineError> {
        Ok(self.get_many(vec![key]).await?.pop().flatten())
    }
}

/// What was committed at one moment.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Values of keys, in the order asked.
    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>, EngineError>;
    /// Rows of a range.
    async fn scan(&self, range: Range<Bytes>, limit: Limit, order: Order) -> Result<Page, EngineError>;

    /// The value of one key.
    async fn get(&self, key: Bytes) -> Result<Option<Value>, EngineError> {
        Ok(self.get_many(vec![key]).await?.pop().flatten())
    }
}

/// A shared engine.
pub type Db = Arc<dyn Engine>;

#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod tests;
