//! Writes: one thread takes all commits that wait, checks their conditions in order, and makes one synced write of
//! those that hold. While it waits for the disk, the next group gathers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rocksdb::{WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use super::rocks::{Database, FAMILIES, VERSION_BYTES};
use super::space::Reserve;
use super::{Commit, Condition, EngineError, Operation, readers, wal};

/// Bytes after which a group is written without looking for more: bounds memory, and how long the first waits.
const GROUP_BYTES: usize = 8 << 20;
/// What RocksDB's message of a full disk has in it (`strerror(ENOSPC)`), or of a quota (`EDQUOT`).
const FULL: [&str; 3] = ["No space left on device", "NoSpace", "quota exceeded"];

struct Waiting {
    commit: Commit,
    reply: oneshot::Sender<Result<u64, EngineError>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

/// Commits that wait for the committer.
#[derive(Default)]
pub(super) struct CommitQueue {
    state: Mutex<State>,
    wake: Condvar,
}

impl CommitQueue {
    /// Lets the committer end once nothing waits.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<u64, EngineError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(EngineError::Closed);
            }
            state.waiting.push_back(Waiting { commit, reply });
        }
        self.wake.notify_one();
        answer.await.unwrap_or(Err(EngineError::Closed))
    }

    /// All that waits, within [`GROUP_BYTES`]; `None` when closed and empty.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            self.wake.wait(&mut state);
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = state.waiting.front() {
            let size = next.commit.size();
            if !group.is_empty() && bytes + size > GROUP_BYTES {
                break;
            }
            bytes += size;
            group.extend(state.waiting.pop_front());
        }
        Some(group)
    }
}

/// The thread that writes.
pub(super) struct Committer {
    database: Arc<Database>,
    queue: Arc<CommitQueue>,
    reserve: Reserve,
    fatal: Box<dyn Fn(&str) + Send>,
    last_version: u64,
    /// Bytes of logs to prepare.
    prime: Option<usize>,
}

impl Committer {
    pub(super) fn new(
        database: Arc<Database>,
        queue: Arc<CommitQueue>,
        reserve: Reserve,
        fatal: Box<dyn Fn(&str) + Send>,
    ) -> Self {
        Self {
            database,
            queue,
            reserve,
            fatal,
            last_version: 0,
            prime: None,
        }
    }

    /// Prepares files for logs of so many bytes before the first commit: not at opening, which has others waiting.
    pub(super) fn priming(self, log_bytes: usize) -> Self {
        Self {
            prime: Some(log_bytes),
            ..self
        }
    }

    pub(super) fn run(mut self) {
        if let Some(bytes) = self.prime
            && let Err(error) = wal::prime(&self.database.db, &FAMILIES, bytes)
        {
            (self.fatal)(&format!("preparing files for the log: {error}"));
        }
        while let Some(group) = self.queue.next_group() {
            self.commit_group(group);
        }
    }

    fn commit_group(&mut self, waiting: Vec<Waiting>) {
        // RocksDB numbers every operation, ascending over the life of the data, and its number survives a restart. A
        // version is the number that the commit's first operation gets.
        self.last_version = self.last_version.max(self.database.db.latest_sequence_number());
        let mut group = Group::new(&self.database, self.last_version);
        let mut outcomes = Vec::with_capacity(waiting.len());
        for Waiting { commit, reply } in waiting {
            let outcome = match group.check(&commit) {
                Ok(()) if !self.reserve.admits(&commit) => Err(EngineError::NoSpace),
                Ok(()) => Ok(group.add(commit)),
                Err(error) => Err(error),
            };
            outcomes.push((reply, outcome));
        }
        self.last_version = group.version;
        let failed = group.write().err();
        for (reply, outcome) in outcomes {
            let outcome = match (&failed, outcome) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, outcome) => outcome,
            };
            if let Err(EngineError::Io(error)) = &outcome {
                (self.fatal)(error);
            }
            // Whoever asked may be gone; the commit took place nevertheless.
            let _ = reply.send(outcome);
        }
    }
}

/// The commits of one write.
struct Group<'a> {
    database: &'a Database,
    batch: WriteBatch,
    version: u64,
    /// What keys of this group will be: the version of their value, or none.
    keys: HashMap<Bytes, Option<u64>>,
    /// Deleted ranges; `keys` has what was put into them after.
    ranges: Vec<(Bytes, Bytes)>,
    /// A value with its version in front, while it is copied.
    value: Vec<u8>,
}

impl<'a> Group<'a> {
    fn new(database: &'a Database, version: u64) -> Self {
        Self {
            database,
            batch: WriteBatch::default(),
            version,
            keys: HashMap::new(),
            ranges: Vec::new(),
            value: Vec::new(),
        }
    }

    fn current(&self, key: &Bytes) -> Result<Option<u64>, EngineError> {
        if let Some(version) = self.keys.get(key) {
            return Ok(*version);
        }
        if self.ranges.iter().any(|(start, end)| start <= key && key < end) {
            return Ok(None);
        }
        readers::version(self.database, key).map_err(|e| EngineError::Io(format!("checking a condition: {e}")))
    }

    fn check(&self, commit: &Commit) -> Result<(), EngineError> {
        for (number, condition) in commit.conditions.iter().enumerate() {
            let holds = match condition {
                Condition::Absent(key) => self.current(key)?.is_none(),
                Condition::Present(key) => self.current(key)?.is_some(),
                Condition::At(key, version) => self.current(key)? == Some(*version),
            };
            if !holds {
                return Err(EngineError::Conflict { condition: number });
            }
        }
        Ok(())
    }

    fn add(&mut self, commit: Commit) -> u64 {
        let version = self.version + 1;
        self.version += (commit.operations.len() as u64).max(1);
        for operation in commit.operations {
            match operation {
                Operation::Put(key, value) => {
                    self.value.clear();
                    self.value.reserve(VERSION_BYTES + value.len());
                    self.value.extend_from_slice(&version.to_be_bytes());
                    self.value.extend_from_slice(&value);
                    self.batch.put_cf(self.database.family(&key), &key, &self.value);
                    self.keys.insert(key, Some(version));
                }
                Operation::Delete(key) => {
                    self.batch.delete_cf(self.database.family(&key), &key);
                    self.keys.insert(key, None);
                }
                Operation::DeleteRange(start, end) => {
                    if start >= end {
                        continue;
                    }
                    self.batch.delete_range_cf(self.database.family(&start), &start, &end);
                    for (_, version) in self.keys.iter_mut().filter(|(key, _)| start <= **key && **key < end) {
                        *version = None;
                    }
                    self.ranges.push((start, end));
                }
            }
        }
        version
    }

    fn write(self) -> Result<(), EngineError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.db.write_opt(self.batch, &options).map_err(|error| {
            let error = error.into_string();
            // The reserve is there so that this does not happen; but others fill disks too. RocksDB takes no writes
            // until there is space, and then goes on by itself; nothing of this group was applied.
            if FULL.iter().any(|full| error.contains(full)) {
                tracing::error!(error, "the disk of the store is full");
                return EngineError::NoSpace;
            }
            EngineError::Io(format!("writing a commit: {error}"))
        })
    }
}
