//! The log of writes, and files for it that are ready to be written over.
//!
//! A sync of a file that grows also has to write down its new size, which costs several times as much as the data. A log
//! that overwrites the file of an earlier one does not grow. Once the database has run for a while, there always is such
//! a file; [`prime`] makes the first ones.

use std::path::Path;

use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};

/// Files made: while one log is written, the one before it may still be needed.
pub(super) const SPARE_LOGS: usize = 2;
/// Bytes that are put into a log at once.
const FILL_BYTES: usize = 1 << 20;
/// Written to have something to flush, in a space of its own.
const KEY: &[u8] = b"\0log";

/// Whether the disk has room for files of `bytes` without getting near its reserve: commits that are less quick are
/// better than a database that does not open.
pub(super) fn has_room(path: &Path, reserve: u64, bytes: usize) -> bool {
    let needed = reserve.saturating_add(4 * SPARE_LOGS as u64 * bytes as u64);
    rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) >= needed)
}

/// Makes files for logs of `bytes`. What is written is nothing but filling: recovering from it does nothing.
pub(super) fn prime(db: &DB, families: &[&str], bytes: usize) -> Result<(), rocksdb::Error> {
    let families: Vec<_> = families.iter().filter_map(|name| db.cf_handle(name)).collect();
    let filling = vec![0; FILL_BYTES];
    for _ in 0..SPARE_LOGS {
        for _ in 0..bytes.div_ceil(FILL_BYTES) {
            let mut batch = WriteBatch::default();
            // Kept in the log only.
            batch.put_log_data(&filling);
            db.write_opt(batch, &WriteOptions::default())?;
        }
        let mut batch = WriteBatch::default();
        batch.put(KEY, []);
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options)?;
        // The next log is begun, and this one is no longer needed.
        db.flush_cfs_opt(&families, &FlushOptions::default())?;
    }
    Ok(())
}
