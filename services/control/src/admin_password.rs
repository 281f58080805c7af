//! The password of the administrator: its hash, in a file.

use std::path::{Path, PathBuf};

use mox_config::Static;

use crate::file::{WriteError, replace};

/// The file, if the configuration names no other, beside `mox.toml`.
pub const ADMIN_PASSWORD_FILE: &str = "adminpasswd";

/// Passwords shorter than this are refused, in characters (NIST SP 800-63B §5.1.1.1 asks for 8).
pub const PASSWORD_MIN: usize = 8;

/// Why a password was not set.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It can be guessed.
    #[error("the password must have at least {PASSWORD_MIN} characters: choose a longer one")]
    TooShort,
    /// It has characters that cannot be typed reliably, or hashing failed.
    #[error(transparent)]
    Derive(#[from] mox_sasl::DeriveError),
    /// The file was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Refuses passwords that are too short.
///
/// # Errors
/// If it is.
pub fn check_password(password: &str) -> Result<(), PasswordError> {
    if password.chars().count() < PASSWORD_MIN {
        Err(PasswordError::TooShort)
    } else {
        Ok(())
    }
}

/// Where the hash is.
#[must_use]
pub fn admin_password_file(fixed: &Static, config_dir: &Path) -> PathBuf {
    let file = fixed
        .admin_password_file
        .as_deref()
        .unwrap_or(Path::new(ADMIN_PASSWORD_FILE));
    config_dir.join(file)
}

/// Writes the hash of a password. Takes tens of milliseconds: not on a runtime's thread.
///
/// # Errors
/// If the password is no good, or the file can't be written.
pub fn write_admin_password(file: &Path, password: &str) -> Result<(), PasswordError> {
    check_password(password)?;
    let hash = mox_sasl::Credentials::derive(password)?.argon2id;
    replace(file, format!("{hash}\n").as_bytes(), 0o600)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_hash_and_short_passwords_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(ADMIN_PASSWORD_FILE);
        assert!(matches!(
            write_admin_password(&file, "seven77"),
            Err(PasswordError::TooShort)
        ));
        assert!(!file.exists());
        write_admin_password(&file, "eight888").unwrap();
        let hash = std::fs::read_to_string(&file).unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("eight888"), "{hash}");
    }
}
