//! The files of the configuration, for a backup.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mox_config::Static;
use mox_proto::admin::v1::File;

use crate::admin_password_file;

/// Folders of keys in that of the configuration.
const FOLDERS: [&str; 3] = ["dkim", "hostkeys", "tls"];
/// How deep folders are followed.
const DEPTH_MAX: usize = 8;
/// Most bytes of all files together: a request has to take them.
const BYTES_MAX: u64 = 48 << 20;

/// Where the configuration is.
#[derive(Clone)]
pub struct ConfigFiles {
    fixed: Arc<Static>,
    dir: PathBuf,
}

/// Why the files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// One cannot be read.
    #[error("reading {path} for the backup: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They are too many.
    #[error("the files of the configuration have more than {BYTES_MAX} bytes: are there others in {0}?")]
    TooMuch(PathBuf),
}

impl ConfigFiles {
    /// Of a configuration, and its folder.
    #[must_use]
    pub fn new(fixed: Arc<Static>, dir: PathBuf) -> Self {
        Self { fixed, dir }
    }
}

/// Reads what mox knows as its own in the folder of the configuration.
pub(crate) fn read(config: &ConfigFiles) -> Result<Vec<File>, ReadError> {
    let ConfigFiles { fixed, dir } = config;
    let mut paths = BTreeSet::new();
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { path, source }
    };
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.insert(path);
        }
    }
    paths.insert(admin_password_file(fixed, dir));
    for tls in fixed.listeners.values().filter_map(|l| l.tls.as_ref()) {
        for pair in &tls.key_certs {
            paths.insert(dir.join(&pair.cert_file));
            paths.insert(dir.join(&pair.key_file));
        }
        paths.extend(tls.host_private_key_files.iter().map(|f| dir.join(f)));
    }
    for folder in FOLDERS {
        all(&dir.join(folder), 0, &mut paths).map_err(io(&dir.join(folder)))?;
    }
    let mut files = Vec::new();
    let mut bytes = 0;
    for path in paths {
        // What lies elsewhere belongs to others, who back it up.
        let Ok(relative) = path.strip_prefix(dir) else { continue };
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
        let Some(name) = relative.to_str().filter(|_| plain) else {
            continue;
        };
        let metadata = match std::fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(io(&path))?,
        };
        if !metadata.is_file() {
            continue;
        }
        bytes += metadata.len();
        if bytes > BYTES_MAX {
            return Err(ReadError::TooMuch(dir.clone()));
        }
        files.push(File {
            path: name.to_owned(),
            mode: metadata.mode() & 0o777,
            data: std::fs::read(&path).map_err(io(&path))?.into(),
        });
    }
    Ok(files)
}

fn all(folder: &Path, depth: usize, paths: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEPTH_MAX {
            all(&entry.path(), depth + 1, paths)?;
        } else if kind.is_file() {
            paths.insert(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("mox.toml", "a"),
            ("domains.toml", "b"),
            ("dkim/x/k.pem", "c"),
            ("adminpasswd", "d"),
            ("holiday.jpg", "no"),
            ("data/store/x.toml", "no"),
        ] {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let config = ConfigFiles::new(
            Arc::new(Static::new("data".into(), "localhost".parse().unwrap())),
            dir.path().to_owned(),
        );
        let files = read(&config).unwrap();
        let names: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(names, ["adminpasswd", "dkim/x/k.pem", "domains.toml", "mox.toml"]);
    }
}
