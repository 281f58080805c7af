//! Reading and replacing files: a reader sees the old file or the new one, also after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file, its folder or its file system may not be written.
    #[error(
        "{file} cannot be changed, since it is read-only here ({source}): change it where it comes from (its owner's \
         account, the ConfigMap); mox takes it over by itself"
    )]
    ReadOnly {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else, such as a full disk.
    #[error("writing {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Stamp {
    /// Of a file as it is now; nothing if it cannot be asked.
    pub fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// Replaces a file: writes another beside it, syncs it, renames it, and syncs the folder. Owner and mode stay; a new
/// file gets `mode`. A symbolic link stays one, and the file that it leads to is replaced.
///
/// # Errors
/// If that is not allowed, or fails; the old file is still there then.
pub fn replace(file: &Path, contents: &[u8], mode: u32) -> Result<(), WriteError> {
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let fail = |source: io::Error| {
        let file = file.clone();
        // Names as in errno(3); a file system may be mounted read-only.
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                WriteError::ReadOnly { file, source }
            }
            _ => WriteError::Io { file, source },
        }
    };
    let before = std::fs::metadata(&file).ok();
    // A file that nobody may write is meant to stay as it is, even if its folder could be written, or root could.
    if before.as_ref().is_some_and(|m| m.permissions().readonly()) {
        return Err(fail(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "nobody may write it",
        )));
    }
    let folder = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{:016x}.tmp", rand::random::<u64>()));
    let written = write_synced(&temporary, contents, before.as_ref(), mode)
        .and_then(|()| std::fs::rename(&temporary, &file))
        .and_then(|()| File::open(&folder)?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(fail)
}

fn write_synced(file: &Path, contents: &[u8], like: Option<&std::fs::Metadata>, mode: u32) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(contents)?;
    if let Some(like) = like {
        let now = out.metadata()?;
        if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(&out, Some(like.uid()), Some(like.gid()))?;
        }
    }
    let mode = like.map_or(mode, |m| m.mode() & 0o777);
    out.set_permissions(std::fs::Permissions::from_mode(mode))?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("domains.toml");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = Stamp::of(&file);
        replace(&file, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_ne!(Stamp::of(&file), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("domains.toml"));
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, b"new", 0o600).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn a_read_only_file_stays_and_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("domains.toml");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        let error = replace(&file, b"new", 0o600).unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
    }
}
