//! One process at a time: a lock on a file in the data directory, which says who holds it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Name of the lock file within the directory.
const FILE: &str = "lock";

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "data directory {} is in use by another process{}: stop that process, or use another data directory",
        path.display(),
        holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, if it could be found out.
        holder: Option<u32>,
    },
    /// The directory or its lock file cannot be made or opened.
    #[error("preparing data directory {}: {source}: check that it can be made and written to by this user", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A directory that this process alone uses, until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Locks `path`, which is made with mode 0700 when missing.
    ///
    /// # Errors
    /// If another process holds it, or the operating system refuses.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.into(),
            source,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(FILE))
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::InUse {
                    path: path.into(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file would not do while a child process that is just being started has it still.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_dropped_lock_is_free_though_another_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(dir.path()).unwrap();
        let as_in_a_child = first.file.try_clone().unwrap();
        drop(first);
        DirectoryLock::acquire(dir.path()).unwrap();
        drop(as_in_a_child);
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/store");
        let first = DirectoryLock::acquire(&path).unwrap();
        let error = DirectoryLock::acquire(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by another process (pid {})", std::process::id())),
            "{error}"
        );
        assert!(error.contains("data/store"), "{error}");
        drop(first);
        DirectoryLock::acquire(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
