//! RocksDB: opening it with settings for little memory and quick starts, and [`Engine`] over it.
//!
//! The spaces of [`Options::bulk`] are a column family of their own, so that contents are not moved along when the small
//! records around them are reorganized, and do not push them out of the cache. Their keys ascend in time: what is added
//! lies beside what is there, and a compaction moves what is new and no more. (Blob files would be worse: RocksDB copies
//! what is alive in them whenever a compaction meets its keys, and a compaction meets all keys from the oldest content
//! that was removed on, so that a message costs the more the more there are.)

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, FlushOptions, LogLevel, LruCacheOptions,
};

use super::committer::{CommitQueue, Committer};
use super::lock::{DirectoryLock, LockError};
use super::readers::{self, ReadError, ReadQueue};
use super::space::Reserve;
use super::wal;
use super::{Commit, Engine, EngineError, Limit, Order, Page, Snapshot, Value};

/// Exit status when a write to disk failed, so that nothing that was promised can be kept from here on (`EX_IOERR` of
/// sysexits.h). A restart recovers all that was acknowledged, once the disk works.
pub const EXIT_IO: i32 = 74;

/// Folder of the database within [`Options::path`].
pub const DATABASE: &str = "rocksdb";
/// Bytes in front of each value: the version.
pub(super) const VERSION_BYTES: usize = 8;
/// Name of the column family of [`Options::bulk`].
const BULK: &str = "bulk";
/// All column families.
pub(super) const FAMILIES: [&str; 2] = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, BULK];
/// Size of files of small records.
const FILE_BYTES: u64 = 16 << 20;
/// Size of files of bulk: the unit in which they are reorganized.
const BULK_FILE_BYTES: u64 = 32 << 20;
/// The part of the cache for bulk: for its indices and filters, mostly.
const BULK_CACHE_PART: usize = 4;
/// A file is written anew soon if so many of so many keys beside each other in it say that a key was removed: a scan walks
/// over them, and would take the longer the more there was where it begins. So many cost as much as a few reads.
pub const REMOVED_MANY: usize = 512;
/// See above.
const REMOVED_WINDOW: usize = 1024;
/// Most rows that a scan reads on the caller's thread; longer ones go to the readers.
const INLINE_ROWS: usize = 128;
/// Most keys that are read on the caller's thread.
const INLINE_KEYS: usize = 64;

/// The cache has 2 to this many parts with a lock each: few, for the few threads that read, as each can hold no block that
/// is larger than it.
const CACHE_SHARD_BITS: i32 = 3;

/// How to open the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory, made when missing.
    pub path: PathBuf,
    /// Most bytes of blocks kept in memory; taken as they are used.
    pub cache_bytes: usize,
    /// Free bytes of the disk below which nothing may be added. 0 is none.
    pub reserve_bytes: u64,
    /// Bytes of recent changes in memory before they are written out, of small records or of bulk. Bounds the log too,
    /// and so what a start has to read again.
    pub memtable_bytes: usize,
    /// Writes file space for the log after opening, so that the first commits are as quick as later ones.
    pub prime_log: bool,
    /// Threads for reads that touch the disk.
    pub readers: usize,
    /// Spaces (first bytes of keys) of large values that are written once.
    pub bulk: &'static [u8],
}

impl Options {
    /// The defaults, in a directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 48 << 20,
            reserve_bytes: 0,
            memtable_bytes: 16 << 20,
            prime_log: false,
            readers: 4,
            bulk: crate::keys::BULK,
        }
    }
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database in it cannot be opened.
    #[error("opening the database in {}: {message}", path.display())]
    Database {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB said.
        message: String,
    },
    /// A thread could not be started.
    #[error("starting a thread of the database: {0}")]
    Thread(std::io::Error),
}

/// The database, and where a key is in it.
pub(super) struct Database {
    pub(super) db: DB,
    bulk: &'static [u8],
}

impl Database {
    /// Whether reading keys in order is worth while: both are of one space, whose values lie beside their keys.
    pub(super) fn in_order(&self, first: &[u8], last: &[u8]) -> bool {
        first.first() == last.first() && first.first().is_some_and(|space| !self.bulk.contains(space))
    }

    /// The column family of a key.
    pub(super) fn family(&self, key: &[u8]) -> &ColumnFamily {
        let bulk = key.first().is_some_and(|space| self.bulk.contains(space));
        let name = if bulk {
            BULK
        } else {
            rocksdb::DEFAULT_COLUMN_FAMILY_NAME
        };
        // Both were named at opening, which fails otherwise.
        self.db.cf_handle(name).expect("column families exist since opening")
    }
}

/// An open database. Dropping it finishes what was asked for, and closes it.
pub struct RocksEngine {
    database: Option<Arc<Database>>,
    commits: Arc<CommitQueue>,
    reads: Arc<ReadQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: DirectoryLock,
}

impl RocksEngine {
    /// Opens, or makes, the database of a directory. Blocks while the log of the last run is read.
    ///
    /// # Errors
    /// If another process uses the directory, or it cannot be read or written, or is damaged.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, Box::new(end_process))
    }

    /// As [`RocksEngine::open`], with `fatal` called instead of ending the process when a write fails.
    pub(super) fn open_with(options: &Options, fatal: Box<dyn Fn(&str) + Send>) -> Result<Self, OpenError> {
        let lock = DirectoryLock::acquire(&options.path)?;
        let path = options.path.join(DATABASE);
        let db = open_database(&path, options).map_err(|error| OpenError::Database {
            path: path.clone(),
            message: error.into_string(),
        })?;
        let database = Arc::new(Database { db, bulk: options.bulk });
        let commits = Arc::new(CommitQueue::default());
        let reads = Arc::new(ReadQueue::default());
        let committer = Committer::new(
            Arc::clone(&database),
            Arc::clone(&commits),
            Reserve::new(options.path.clone(), options.reserve_bytes),
            fatal,
        );
        // Values with their versions take a little more in the log than in memory.
        let log_bytes = options.memtable_bytes + options.memtable_bytes / 4;
        let prime = options.prime_log && wal::has_room(&options.path, options.reserve_bytes, log_bytes);
        let committer = if prime { committer.priming(log_bytes) } else { committer };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(OpenError::Thread)
        };
        let pool = {
            let (database, reads, threads) = (Arc::clone(&database), Arc::clone(&reads), options.readers.max(1));
            Box::new(move || readers::run(&database, &reads, threads))
        };
        let threads = vec![
            spawn("store-commit", Box::new(move || committer.run()))?,
            spawn("store-read", pool)?,
        ];
        Ok(Self {
            database: Some(database),
            commits,
            reads,
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    fn database(&self) -> Result<&Database, EngineError> {
        self.database.as_deref().ok_or(EngineError::Closed)
    }

    /// A figure of the database, by RocksDB's name for it, summed over both column families. For metrics and tests.
    #[must_use]
    pub fn property(&self, name: &str) -> u64 {
        let Some(database) = &self.database else { return 0 };
        FAMILIES
            .iter()
            .filter_map(|family| database.db.cf_handle(family))
            .filter_map(|family| database.db.property_int_value_cf(family, name).ok().flatten())
            .sum()
    }
}

impl Drop for RocksEngine {
    fn drop(&mut self) {
        self.commits.close();
        self.reads.close();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        // Before the lock on the directory goes.
        self.database = None;
    }
}

/// What happens when a write failed: nothing that is in memory may be taken for kept.
fn end_process(error: &str) {
    tracing::error!(error, "writing to the database failed, ending the process");
    eprintln!("store: writing to the database failed, ending the process: {error}");
    std::process::exit(EXIT_IO);
}

fn open_database(path: &Path, options: &Options) -> Result<DB, rocksdb::Error> {
    let cache = |bytes| {
        let mut sizes = LruCacheOptions::default();
        sizes.set_capacity(bytes);
        sizes.set_num_shard_bits(CACHE_SHARD_BITS);
        Cache::new_lru_cache_opts(&sizes)
    };
    let bulk_cache = options.cache_bytes / BULK_CACHE_PART;
    let mut all = rocksdb::Options::default();
    all.create_if_missing(true);
    all.create_missing_column_families(true);
    // Logs: both column families are written out together, so that a log is no longer needed soon after it is full.
    // That bounds how long a start after a kill takes. A used file is written over by a later log. An incomplete end is
    // what a kill leaves: all before it counts.
    all.set_atomic_flush(true);
    all.set_recycle_log_file_num(wal::SPARE_LOGS);
    all.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    all.set_avoid_unnecessary_blocking_io(true);
    // Little noise: an own log file of RocksDB, of bounded size, with warnings and errors only.
    all.set_log_level(LogLevel::Warn);
    all.set_max_log_file_size(1 << 20);
    all.set_keep_log_file_num(2);
    all.set_stats_dump_period_sec(0);
    all.set_stats_persist_period_sec(0);
    all.set_skip_stats_update_on_db_open(true);
    all.set_max_open_files(512);
    all.set_table_cache_num_shard_bits(2);
    all.set_max_background_jobs(2);
    all.set_bytes_per_sync(1 << 20);
    all.set_max_manifest_file_size(4 << 20);
    let mut small = rocksdb::Options::default();
    tune(&mut small, options, &cache(options.cache_bytes - bulk_cache));
    small.set_target_file_size_base(FILE_BYTES);
    small.set_memtable_whole_key_filtering(true);
    small.set_memtable_prefix_bloom_ratio(0.02);
    let mut bulk = rocksdb::Options::default();
    tune(&mut bulk, options, &cache(bulk_cache));
    bulk.set_target_file_size_base(BULK_FILE_BYTES);
    // Contents that earlier versions put into blob files come back from there when a compaction meets them.
    bulk.set_enable_blob_gc(true);
    bulk.set_blob_gc_age_cutoff(1.0);
    let families = [
        ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, small),
        ColumnFamilyDescriptor::new(BULK, bulk),
    ];
    DB::open_cf_descriptors(&all, path, families)
}

/// What both column families have in common.
fn tune(family: &mut rocksdb::Options, options: &Options, cache: &Cache) {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    table.set_optimize_filters_for_memory(true);
    // Indices and filters count as cache, so that memory stays bounded however much is kept. In parts, as a block that
    // is larger than its share of the cache is read again, whole, by each look-up.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(8 << 10);
    table.set_pin_top_level_index_and_filter(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    family.set_block_based_table_factory(&table);
    family.set_write_buffer_size(options.memtable_bytes);
    family.set_max_write_buffer_number(3);
    family.set_arena_block_size(256 << 10);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.set_max_bytes_for_level_base(64 << 20);
    family.add_compact_on_deletion_collector_factory(REMOVED_WINDOW, REMOVED_MANY, 0.0);
}

#[async_trait]
impl Engine for RocksEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        Ok(Box::new(ReadQueue::snapshot(&self.reads).await?))
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>, EngineError> {
        if keys.len() <= INLINE_KEYS {
            match readers::get_cached(self.database()?, &keys) {
                Ok(values) => return Ok(values),
                Err(ReadError::NotCached) => {}
                Err(ReadError::Failed(error)) => return Err(EngineError::Io(error)),
            }
        }
        self.reads.get_many(None, keys).await
    }

    async fn scan(&self, range: Range<Bytes>, limit: Limit, order: Order) -> Result<Page, EngineError> {
        if limit.rows <= INLINE_ROWS {
            match readers::scan_cached(self.database()?, &range, limit, order) {
                Ok(page) => return Ok(page),
                Err(ReadError::NotCached) => {}
                Err(ReadError::Failed(error)) => return Err(EngineError::Io(error)),
            }
        }
        self.reads.scan(None, range, limit, order).await
    }

    async fn commit(&self, commit: Commit) -> Result<u64, EngineError> {
        self.commits.commit(commit).await
    }

    async fn checkpoint(&self, folder: PathBuf) -> Result<(), EngineError> {
        let database = self.database.clone().ok_or(EngineError::Closed)?;
        let failed = |error: rocksdb::Error| EngineError::Io(format!("copying the database: {error}"));
        let written = tokio::task::spawn_blocking(move || Checkpoint::new(&database.db)?.create_checkpoint(&folder));
        written.await.map_err(|_| EngineError::Closed)?.map_err(failed)
    }

    async fn settle(&self) -> Result<(), EngineError> {
        let database = self.database.clone().ok_or(EngineError::Closed)?;
        let failed = |error: rocksdb::Error| EngineError::Io(format!("writing out what was removed: {error}"));
        // A file of removed keys is compacted with what it removes (`REMOVED_MANY`).
        let written = tokio::task::spawn_blocking(move || {
            let families: Vec<_> = FAMILIES.iter().filter_map(|name| database.db.cf_handle(name)).collect();
            database.db.flush_cfs_opt(&families, &FlushOptions::default())
        });
        written.await.map_err(|_| EngineError::Closed)?.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use super::*;

    /// Keys that were removed, and that a scan for one row of the space "t" walks over.
    fn walked_over(engine: &RocksEngine) -> u64 {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut context = PerfContext::default();
        context.reset();
        let mut rows = engine.database().unwrap().db.raw_iterator();
        rows.seek(b"t");
        assert!(!rows.valid());
        let walked = context.metric(PerfMetric::InternalDeleteSkippedCount);
        set_perf_stats(PerfStatsLevel::Disable);
        walked
    }

    #[tokio::test]
    async fn scans_do_not_walk_over_what_was_removed_for_long() {
        const KEYS: u32 = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(&Options::new(dir.path())).unwrap();
        for remove in [false, true] {
            let mut commit = Commit::new();
            for n in 0..KEYS {
                let key = Bytes::from([&b"t"[..], &n.to_be_bytes()].concat());
                match remove {
                    true => commit.delete(key),
                    false => commit.put(key, "x"),
                };
            }
            engine.commit(commit).await.unwrap();
            if remove {
                assert!(walked_over(&engine) >= u64::from(KEYS));
            }
            engine.database().unwrap().db.flush().unwrap();
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while walked_over(&engine) > 0 {
            assert!(std::time::Instant::now() < deadline, "{}", walked_over(&engine));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn the_space_of_removed_contents_comes_back_though_nothing_more_is_written() {
        const CONTENTS: u32 = 2000;
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(&Options::new(dir.path())).unwrap();
        let key = |n: u32| Bytes::from([&b"c"[..], &n.to_be_bytes()].concat());
        let mut random = 7u32;
        let mut noise = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        for n in 0..CONTENTS {
            let value: Vec<u8> = (0..4000).map(|_| noise()).collect();
            let mut commit = Commit::new();
            commit.put(key(n), value);
            engine.commit(commit).await.unwrap();
        }
        engine.settle().await.unwrap();
        let size = || engine.property("rocksdb.total-sst-files-size");
        let before = size();
        assert!(before > u64::from(CONTENTS) * 3500, "{before}");
        let mut commit = Commit::new();
        for n in (0..CONTENTS).step_by(2) {
            commit.delete(key(n));
        }
        engine.commit(commit).await.unwrap();
        engine.settle().await.unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while size() > before * 6 / 10 {
            assert!(std::time::Instant::now() < deadline, "{} of {before}", size());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn contents_in_blob_files_are_read_and_come_back_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let key = |n: u32| Bytes::from([crate::keys::BULK, &n.to_be_bytes()].concat());
        let value = |n: u32| vec![b'a' + (n % 26) as u8; 4000 + n as usize];
        {
            // As earlier versions wrote them.
            let mut blobs = rocksdb::Options::default();
            blobs.create_if_missing(true);
            blobs.create_missing_column_families(true);
            blobs.set_enable_blob_files(true);
            blobs.set_min_blob_size(1 << 10);
            let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, blobs.clone()));
            let db = DB::open_cf_descriptors(&blobs, dir.path().join(DATABASE), families).unwrap();
            let bulk = db.cf_handle(BULK).unwrap();
            for n in 0..100 {
                let stored = [&[0; VERSION_BYTES][..], &value(n)].concat();
                db.put_cf(bulk, key(n), stored).unwrap();
            }
            db.flush_cf(bulk).unwrap();
        }
        let engine = RocksEngine::open(&Options::new(dir.path())).unwrap();
        let blobs = || engine.property("rocksdb.total-blob-file-size");
        assert!(blobs() > 0);
        for compacted in [false, true] {
            for n in 0..100 {
                let found = engine.get(key(n)).await.unwrap().unwrap();
                assert!(found.data == value(n), "{n} {compacted}");
            }
            if !compacted {
                let db = &engine.database().unwrap().db;
                let mut all = rocksdb::CompactOptions::default();
                all.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
                let everything: Option<&[u8]> = None;
                db.compact_range_cf_opt(db.cf_handle(BULK).unwrap(), everything, everything, &all);
                assert_eq!(blobs(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_commit_that_meets_damage_is_reported_as_fatal_and_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let (reported, reports) = std::sync::mpsc::channel();
        let fatal = Box::new(move |error: &str| reported.send(error.to_owned()).unwrap_or_default());
        let engine = RocksEngine::open_with(&Options::new(dir.path()), fatal).unwrap();
        // Too short to have a version.
        engine.database().unwrap().db.put(b"tdamaged", b"x").unwrap();
        let key = Bytes::from_static(b"tdamaged");
        let read = engine.get_many(vec![key.clone()]).await;
        assert!(matches!(read, Err(EngineError::Io(what)) if what.contains("damaged")));
        assert!(reports.try_recv().is_err(), "a read that fails is its caller's");
        let mut commit = Commit::new();
        commit.require_present(key).put(Bytes::from_static(b"tother"), "y");
        assert!(matches!(engine.commit(commit).await, Err(EngineError::Io(_))));
        assert!(reports.try_recv().unwrap().contains("damaged"));
        assert_eq!(engine.get(Bytes::from_static(b"tother")).await.unwrap(), None);
    }
}
