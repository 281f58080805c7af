//! Messages that could not be submitted, in a folder of the user.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Within the user's home.
const FOLDER: &str = "moxsubmit.failures";

/// Keeps a message, with who should have got it and why not, and answers with the file.
///
/// # Errors
/// If it can't be kept.
pub fn keep(message: &[u8], recipients: &[String], error: &str) -> Result<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.context("this user has no home directory")?;
    keep_in(&home.join(FOLDER), message, recipients, error)
}

fn keep_in(folder: &Path, message: &[u8], recipients: &[String], error: &str) -> Result<PathBuf> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(folder);
    made.with_context(|| format!("making {}", folder.display()))?;
    let mut header = mox_message::compose::Header::new(true);
    if !recipients.is_empty() {
        header.field("X-Mox-Sendmail-Recipients", &recipients.join(", "));
    }
    header.text("X-Mox-Sendmail-Error", error);
    let file = folder.join(format!("newmsg.{:016x}", rand::random::<u64>()));
    let doing = || format!("writing {}", file.display());
    // Nobody else can have made it.
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .with_context(doing)?;
    out.write_all(header.as_bytes()).with_context(doing)?;
    out.write_all(message).with_context(doing)?;
    out.sync_all().with_context(doing)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_not_sent_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a").join(FOLDER);
        let to = "a@example.org".to_owned();
        let message = b"Subject: x\r\n\r\nx\r\n";
        let first = keep_in(&folder, message, std::slice::from_ref(&to), "no\r\nX: y").unwrap();
        let second = keep_in(&folder, message, &[to], "no").unwrap();
        assert_ne!(first, second);
        let text = std::fs::read_to_string(&first).unwrap();
        assert!(
            text.starts_with("X-Mox-Sendmail-Recipients: a@example.org\r\nX-Mox-Sendmail-Error: no"),
            "{text}"
        );
        assert!(
            text.ends_with("Subject: x\r\n\r\nx\r\n") && !text.contains("\r\nX: y"),
            "{text}"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&first)), (0o700, 0o600));
    }
}
