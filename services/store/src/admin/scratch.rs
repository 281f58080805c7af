//! Folders for copies of the data that live as long as an operation.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Folder within the data directory for what need not be kept. It is on the same file system, so that files can be
/// linked.
pub const FOLDER: &str = "tmp";
/// What the names of ours begin with.
const PREFIX: &str = "store-";

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(data_dir: &Path, what: &str) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{what}-{}-{number}", std::process::id());
        let path = data_dir.join(FOLDER).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "removing a copy of the data");
        }
    }
}

/// Removes what a process that was killed left behind. To be called by the only process that uses the data.
pub fn clear(data_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let first = Scratch::new(dir.path(), "a").unwrap();
        std::fs::write(first.path().join("x"), "x").unwrap();
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        let second = Scratch::new(dir.path(), "b").unwrap();
        std::fs::write(dir.path().join("tmp/other"), "").unwrap();
        let path = second.path().to_owned();
        clear(dir.path());
        assert!(!path.exists() && dir.path().join("tmp/other").exists());
    }
}
