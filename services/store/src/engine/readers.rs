//! Reads: from memory on the caller's thread, and all others on a fixed number of threads, because they may wait for
//! the disk.
//!
//! Snapshots borrow the database, so they live where it is borrowed for as long as they last: in [`run`]'s scope. What
//! callers hold is a number.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rocksdb::{ErrorKind, ReadOptions, ReadTier};
use tokio::sync::oneshot;

use super::rocks::{Database, VERSION_BYTES};
use super::{EngineError, Limit, Order, Page, Snapshot, Value, after};

type RocksSnapshot<'a> = rocksdb::Snapshot<'a>;

/// Why a read did not succeed.
pub(super) enum ReadError {
    /// Something that is needed is on disk only.
    NotCached,
    /// The disk, or what is on it.
    Failed(String),
}

impl From<rocksdb::Error> for ReadError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Incomplete => ReadError::NotCached,
            _ => ReadError::Failed(format!("reading from the database: {error}")),
        }
    }
}

fn decode(key: &[u8], stored: &[u8]) -> Result<Value, ReadError> {
    let Some((version, data)) = stored.split_first_chunk::<VERSION_BYTES>() else {
        return Err(ReadError::Failed(format!(
            "the value at {key:02x?} is damaged: {} bytes",
            stored.len()
        )));
    };
    Ok(Value {
        data: Bytes::copy_from_slice(data),
        version: u64::from_be_bytes(*version),
    })
}

/// The version of a key's value, if it has one.
pub(super) fn version(database: &Database, key: &[u8]) -> Result<Option<u64>, String> {
    let stored = database
        .db
        .get_pinned_cf(database.family(key), key)
        .map_err(rocksdb::Error::into_string)?;
    let Some(stored) = stored else { return Ok(None) };
    match stored.first_chunk::<VERSION_BYTES>() {
        Some(version) => Ok(Some(u64::from_be_bytes(*version))),
        None => Err(format!("the value at {key:02x?} is damaged: {} bytes", stored.len())),
    }
}

fn options(snapshot: Option<&RocksSnapshot<'_>>, tier: ReadTier) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(snapshot) = snapshot {
        options.set_snapshot(snapshot);
    }
    options.set_read_tier(tier);
    options
}

fn get_many(
    database: &Database,
    snapshot: Option<&RocksSnapshot<'_>>,
    tier: ReadTier,
    keys: &[Bytes],
) -> Result<Vec<Option<Value>>, ReadError> {
    let ascending = keys.len() >= WALKED_KEYS && keys.windows(2).all(|pair| pair[0] < pair[1]);
    if ascending
        && database.in_order(&keys[0], &keys[keys.len() - 1])
        && let Some(values) = walk(database, snapshot, tier, keys)?
    {
        return Ok(values);
    }
    // One by one, as filters tell of most that are absent. Not by RocksDB's MultiGet, which was seen to answer with an
    // empty value for a key that has one, about once in millions of keys, while tables were written and compacted.
    let options = options(snapshot, tier);
    keys.iter()
        .map(|key| {
            let stored = database.db.get_pinned_cf_opt(database.family(key), key, &options)?;
            stored.map(|stored| decode(key, &stored)).transpose()
        })
        .collect()
}

/// Keys from which on they are read by walking along them, if they ascend: as those of a mailbox's messages mostly do,
/// which lie side by side.
const WALKED_KEYS: usize = 16;
/// Steps to the next key that are tried before it is looked for from the top, which costs about as much.
const STEPS: usize = 4;
/// Keys that were looked for from the top after which walking is given up, if they are most of those so far.
const APART: usize = 8;

/// Values of ascending keys of one space. None if they do not lie near each other.
fn walk(
    database: &Database,
    snapshot: Option<&RocksSnapshot<'_>>,
    tier: ReadTier,
    keys: &[Bytes],
) -> Result<Option<Vec<Option<Value>>>, ReadError> {
    let mut options = options(snapshot, tier);
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Ok(Some(Vec::new()));
    };
    options.set_iterate_range(first.to_vec()..after(last).to_vec());
    let mut rows = database.db.raw_iterator_cf_opt(database.family(first), options);
    rows.seek_to_first();
    let mut values = Vec::with_capacity(keys.len());
    let mut apart = 0;
    for key in keys {
        let mut steps = 0;
        while rows.key().is_some_and(|at| at < key.as_ref()) {
            steps += 1;
            if steps > STEPS {
                apart += 1;
                rows.seek(key);
            } else {
                rows.next();
            }
        }
        if apart >= APART && apart * 2 > values.len() {
            return Ok(None);
        }
        let value = match rows.item() {
            Some((at, stored)) if at == key.as_ref() => Some(decode(key, stored)?),
            _ => None,
        };
        values.push(value);
    }
    // An error ends the walk, and what follows would seem to be absent.
    rows.status()?;
    Ok(Some(values))
}

fn scan(
    database: &Database,
    snapshot: Option<&RocksSnapshot<'_>>,
    tier: ReadTier,
    range: &Range<Bytes>,
    limit: Limit,
    order: Order,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    if range.start >= range.end {
        return Ok(page);
    }
    let mut options = options(snapshot, tier);
    options.set_iterate_range(range.start.to_vec()..range.end.to_vec());
    let mut rows = database.db.raw_iterator_cf_opt(database.family(&range.start), options);
    match order {
        Order::Ascending => rows.seek_to_first(),
        Order::Descending => rows.seek_to_last(),
    }
    let mut bytes = 0;
    while let Some((key, stored)) = rows.item() {
        let size = key.len() + stored.len();
        if page.rows.len() >= limit.rows || (!page.rows.is_empty() && bytes + size > limit.bytes) {
            page.more = true;
            return Ok(page);
        }
        bytes += size;
        page.rows.push((Bytes::copy_from_slice(key), decode(key, stored)?));
        match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.prev(),
        }
    }
    rows.status()?;
    Ok(page)
}

/// Values of keys as of now, if all that is needed is in memory.
pub(super) fn get_cached(database: &Database, keys: &[Bytes]) -> Result<Vec<Option<Value>>, ReadError> {
    // One key needs nothing to be consistent with.
    let snapshot = (keys.len() > 1).then(|| database.db.snapshot());
    get_many(database, snapshot.as_ref(), ReadTier::BlockCache, keys)
}

/// Rows of a range as of now, if all that is needed is in memory.
pub(super) fn scan_cached(
    database: &Database,
    range: &Range<Bytes>,
    limit: Limit,
    order: Order,
) -> Result<Page, ReadError> {
    // An iterator is a snapshot of its own.
    scan(database, None, ReadTier::BlockCache, range, limit, order)
}

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

enum Job {
    Snapshot(Reply<u64>),
    Release(u64),
    GetMany {
        snapshot: Option<u64>,
        keys: Vec<Bytes>,
        reply: Reply<Vec<Option<Value>>>,
    },
    Scan {
        snapshot: Option<u64>,
        range: Range<Bytes>,
        limit: Limit,
        order: Order,
        reply: Reply<Page>,
    },
}

/// Reads that wait for a thread.
#[derive(Default)]
pub(super) struct ReadQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl ReadQueue {
    /// Lets threads end once nothing waits.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_all();
    }

    fn push(&self, job: Job) {
        let mut waiting = self.waiting.lock();
        // A job dropped tells its caller so.
        if !waiting.closed {
            waiting.jobs.push_back(job);
            drop(waiting);
            self.wake.notify_one();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            self.wake.wait(&mut waiting);
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.push(job(reply));
        answer.await.unwrap_or(Err(EngineError::Closed))
    }

    pub(super) async fn get_many(
        &self,
        snapshot: Option<u64>,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Option<Value>>, EngineError> {
        self.ask(|reply| Job::GetMany { snapshot, keys, reply }).await
    }

    pub(super) async fn scan(
        &self,
        snapshot: Option<u64>,
        range: Range<Bytes>,
        limit: Limit,
        order: Order,
    ) -> Result<Page, EngineError> {
        self.ask(|reply| Job::Scan {
            snapshot,
            range,
            limit,
            order,
            reply,
        })
        .await
    }

    pub(super) async fn snapshot(queue: &Arc<Self>) -> Result<PooledSnapshot, EngineError> {
        let number = queue.ask(Job::Snapshot).await?;
        Ok(PooledSnapshot {
            number,
            queue: Arc::clone(queue),
        })
    }
}

/// A snapshot held by [`run`].
pub(super) struct PooledSnapshot {
    number: u64,
    queue: Arc<ReadQueue>,
}

impl Drop for PooledSnapshot {
    fn drop(&mut self) {
        self.queue.push(Job::Release(self.number));
    }
}

#[async_trait]
impl Snapshot for PooledSnapshot {
    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>, EngineError> {
        self.queue.get_many(Some(self.number), keys).await
    }

    async fn scan(&self, range: Range<Bytes>, limit: Limit, order: Order) -> Result<Page, EngineError> {
        self.queue.scan(Some(self.number), range, limit, order).await
    }
}

/// Snapshots by number.
#[derive(Default)]
struct Snapshots<'a> {
    last: u64,
    held: HashMap<u64, Arc<RocksSnapshot<'a>>>,
}

/// Reads with `threads` threads until the queue is closed and empty.
pub(super) fn run(database: &Database, queue: &Arc<ReadQueue>, threads: usize) {
    let snapshots = Mutex::new(Snapshots::default());
    std::thread::scope(|scope| {
        for number in 1..threads {
            let thread = std::thread::Builder::new().name(format!("store-read-{number}"));
            if let Err(error) = thread.spawn_scoped(scope, || work(database, queue, &snapshots)) {
                tracing::error!(%error, "starting a reader thread of the store");
            }
        }
        work(database, queue, &snapshots);
    });
}

fn work<'a>(database: &'a Database, queue: &ReadQueue, snapshots: &Mutex<Snapshots<'a>>) {
    let find = |number: Option<u64>| match number {
        None => Ok(Arc::new(database.db.snapshot())),
        Some(number) => snapshots.lock().held.get(&number).cloned().ok_or(EngineError::Closed),
    };
    let failed = |error| match error {
        ReadError::NotCached => EngineError::Io("reading from the database: the read was incomplete".into()),
        ReadError::Failed(error) => EngineError::Io(error),
    };
    while let Some(job) = queue.next() {
        match job {
            Job::Snapshot(reply) => {
                let taken = Arc::new(database.db.snapshot());
                let mut snapshots = snapshots.lock();
                snapshots.last += 1;
                let number = snapshots.last;
                if reply.send(Ok(number)).is_ok() {
                    snapshots.held.insert(number, taken);
                }
            }
            Job::Release(number) => {
                let released = snapshots.lock().held.remove(&number);
                drop(released);
            }
            Job::GetMany { snapshot, keys, reply } => {
                if !reply.is_closed() {
                    let values =
                        find(snapshot).and_then(|s| get_many(database, Some(&s), ReadTier::All, &keys).map_err(failed));
                    let _ = reply.send(values);
                }
            }
            Job::Scan {
                snapshot,
                range,
                limit,
                order,
                reply,
            } => {
                if !reply.is_closed() {
                    let page = find(snapshot)
                        .and_then(|s| scan(database, Some(&s), ReadTier::All, &range, limit, order).map_err(failed));
                    let _ = reply.send(page);
                }
            }
        }
    }
}
