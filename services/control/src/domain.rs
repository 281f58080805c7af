//! What a new domain gets: keys for signing, and the id of its first MTA-STS policy.

use std::path::{Path, PathBuf};

use mox_types::Domain;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::configuration::ChangeError;
use crate::edit::NewSelector;
use crate::file::{WriteError, replace};
use crate::keys::{KeyError, new_ed25519, new_rsa};

/// Folder of the keys, in that of the configuration.
const DKIM_DIR: &str = "dkim";
/// Private keys are for the server only.
const KEY_MODE: u32 = 0o600;

/// Keys that were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeKeys {
    /// As the configuration names them.
    pub selectors: Vec<NewSelector>,
    /// Where they are.
    pub files: Vec<PathBuf>,
}

/// Why keys were not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The folder was not made.
    #[error("making folder {folder}: {source}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<MakeError> for ChangeError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Write(error) => Self::Write(error),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Makes an RSA and an Ed25519 key for a domain, with selectors named after the year. Files that are there already are
/// not touched: another selector is taken.
///
/// # Errors
/// If a key or file cannot be made.
pub fn make_keys(config_dir: &Path, domain: &Domain) -> Result<MadeKeys, MakeError> {
    let folder = config_dir.join(DKIM_DIR);
    make_private_dir(&folder).map_err(|source| MakeError::Folder {
        folder: folder.clone(),
        source,
    })?;
    let year = OffsetDateTime::now_utc().year();
    let mut made = MadeKeys {
        selectors: Vec::new(),
        files: Vec::new(),
    };
    let mut letters = 'a'..='z';
    for (kind, make) in [("rsa2048", new_rsa as fn() -> _), ("ed25519", new_ed25519)] {
        let pem = make()?;
        let taken = |selector: &str| {
            ["rsa2048", "ed25519"]
                .iter()
                .any(|kind| folder.join(file_name(selector, domain, kind)).exists())
        };
        let selector = letters
            .by_ref()
            .map(|letter| format!("{year}{letter}"))
            .find(|s| !taken(s));
        let selector = selector.unwrap_or_else(|| format!("{year}{:08x}", rand::random::<u32>()));
        let name = file_name(&selector, domain, kind);
        let file = folder.join(&name);
        replace(&file, pem.as_bytes(), KEY_MODE)?;
        made.files.push(file);
        made.selectors.push(NewSelector {
            name: selector,
            private_key_file: format!("{DKIM_DIR}/{name}"),
        });
    }
    Ok(made)
}

fn file_name(selector: &str, domain: &Domain, kind: &str) -> String {
    format!("{selector}._domainkey.{}.{kind}.privatekey.pkcs8.pem", domain.ascii())
}

/// A folder that only its owner can enter.
///
/// # Errors
/// Of the system.
pub fn make_private_dir(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The id of a policy that begins now.
#[must_use]
pub fn policy_id() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]");
    OffsetDateTime::now_utc()
        .format(format)
        .unwrap_or_else(|_| "1".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn keys_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let domain: Domain = "example.org".parse().unwrap();
        let first = make_keys(dir.path(), &domain).unwrap();
        let second = make_keys(dir.path(), &domain).unwrap();
        assert_eq!(first.selectors.len(), 2);
        assert!(first.files.iter().all(|f| !second.files.contains(f)));
        for file in first.files.iter().chain(&second.files) {
            assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        let id = policy_id();
        assert!(id.len() == 15 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    }
}
