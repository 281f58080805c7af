//! The reserve of disk space: growth is refused while there is still room to finish what runs, to delete, and to
//! reorganize, so that a write of the database itself never fails for want of space.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Commit, Operation};

/// How long a look at the disk is good for, unless much is written.
const FRESH: Duration = Duration::from_millis(250);
/// Bytes written after which the disk is looked at again.
const FRESH_BYTES: u64 = 4 << 20;
/// What frees space may use of the reserve: all but one part in this many.
const FLOOR: u64 = 4;

/// Free bytes of a file system, as last seen.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    free: u64,
    at: Option<Instant>,
    written: u64,
}

impl Reserve {
    /// Of the file system that `path` is on. A reserve of 0 bytes switches it off.
    pub(super) fn new(path: PathBuf, bytes: u64) -> Self {
        Self {
            path,
            bytes,
            free: u64::MAX,
            at: None,
            written: 0,
        }
    }

    /// Whether a commit may be written; if so, its size is taken note of.
    pub(super) fn admits(&mut self, commit: &Commit) -> bool {
        if self.bytes == 0 || !commit.operations.iter().any(|o| matches!(o, Operation::Put(..))) {
            return true;
        }
        let size = commit.size() as u64;
        if self.at.is_none_or(|at| at.elapsed() > FRESH) || self.written > FRESH_BYTES {
            self.look();
        }
        let needed = size + if commit.frees { self.bytes / FLOOR } else { self.bytes };
        let admitted = self.free.saturating_sub(self.written) >= needed;
        if admitted {
            self.written += size;
        }
        admitted
    }

    fn look(&mut self) {
        match rustix::fs::statvfs(&self.path) {
            Ok(stat) => self.free = stat.f_bavail.saturating_mul(stat.f_frsize),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "looking up free disk space");
                self.free = u64::MAX;
            }
        }
        self.at = Some(Instant::now());
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(size: usize) -> Commit {
        let mut commit = Commit::new();
        commit.put(Bytes::from_static(b"k"), vec![0; size]);
        commit
    }

    #[test]
    fn growth_is_refused_below_the_reserve_and_freeing_above_its_floor() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(dir.path().into(), 1000);
        reserve.at = Some(Instant::now());
        reserve.free = 1100;
        assert!(reserve.admits(&put(50)));
        assert!(!reserve.admits(&put(60)), "what was admitted before counts");
        assert!(reserve.admits(put(60).set_frees()));
        reserve.free = 200;
        assert!(!reserve.admits(put(1).set_frees()));
        assert!(reserve.admits(Commit::new().delete(Bytes::from_static(b"k"))));
    }

    #[test]
    fn a_reserve_larger_than_the_disk_refuses_and_none_admits() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Reserve::new(dir.path().into(), u64::MAX / 2).admits(&put(1)));
        assert!(Reserve::new(dir.path().into(), 0).admits(&put(1)));
        assert!(Reserve::new(dir.path().into(), 1).admits(&put(1)));
    }
}
