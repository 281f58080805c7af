//! Owner and mode of configuration and data, as root, before mox goes on as its user.
//!
//! Only what mox knows as its own is touched: a data_dir or a configuration folder that is shared with others, by
//! mistake or not, loses nothing.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mox_config::{DYNAMIC_FILE, Static};
use mox_control::admin_password_file;

use crate::context::folder_of;
use crate::launch::user::User;

/// What mox has in its data directory.
const DATA: [&str; 3] = ["store", "tmp", "ctl.sock"];
/// Folders of keys in that of the configuration.
const CONFIG_FOLDERS: [&str; 3] = ["dkim", "hostkeys", "tls"];
/// How deep folders are followed.
const DEPTH_MAX: usize = 8;

/// Makes files of configuration and data belong to the user, and closes them to others.
///
/// # Errors
/// If that fails.
pub fn fix(file: &Path, fixed: &Static, user: &User) -> Result<()> {
    let config = folder_of(file);
    let data = fixed.data_dir(&config);
    std::fs::create_dir_all(&data).with_context(|| format!("making data directory {}", data.display()))?;
    one(&data, user)?;
    for name in DATA {
        all(&data.join(name), user, 0)?;
    }
    let mut known: Vec<PathBuf> = CONFIG_FOLDERS.iter().map(|name| config.join(name)).collect();
    known.extend([
        file.to_owned(),
        config.join(DYNAMIC_FILE),
        admin_password_file(fixed, &config),
    ]);
    for path in &known {
        // What is outside of the folder belongs to others.
        if path.starts_with(&config) {
            all(path, user, 0)?;
        }
    }
    // Changes write a new file into the folder. If others' files are there too, it is left to its owner.
    let others = std::fs::read_dir(&config).with_context(|| format!("reading folder {}", config.display()))?;
    let others = others
        .filter_map(Result::ok)
        .find(|entry| !known.contains(&entry.path()) && entry.path() != data);
    match others {
        None => one(&config, user)?,
        Some(other) => eprintln!(
            "mox: folder {} has files that are not mox's, such as {}: its owner stays, so mox config commands may not be \
             able to change domains.toml",
            config.display(),
            other.file_name().display()
        ),
    }
    Ok(())
}

fn all(path: &Path, user: &User, depth: usize) -> Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if metadata.is_dir() && depth < DEPTH_MAX {
        let entries = std::fs::read_dir(path).with_context(|| format!("reading folder {}", path.display()))?;
        for entry in entries {
            all(
                &entry
                    .with_context(|| format!("reading folder {}", path.display()))?
                    .path(),
                user,
                depth + 1,
            )?;
        }
    }
    one(path, user)
}

fn one(path: &Path, user: &User) -> Result<()> {
    fix_one(path, user).with_context(|| {
        format!(
            "repairing owner and mode of {}: do it by hand, and set no_fix_permissions = true in mox.toml",
            path.display()
        )
    })
}

fn fix_one(path: &Path, user: &User) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) != (user.uid, user.gid) {
        lchown(path, Some(user.uid), Some(user.gid))?;
    }
    // The mode of a link means nothing, and changing it would change that of its target.
    if metadata.is_symlink() {
        return Ok(());
    }
    let wanted = (metadata.mode() & 0o770) | if metadata.is_dir() { 0o700 } else { 0o400 };
    if metadata.mode() & 0o7777 != wanted {
        std::fs::set_permissions(path, Permissions::from_mode(wanted))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let me = User {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        let open = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            path
        };
        let known = [
            open("config/mox.toml"),
            open("config/dkim/key.pem"),
            open("data/store/x/y"),
        ];
        let foreign = [open("data/foreign"), open("config/notes.txt")];
        let fixed = Static::new("../data".into(), "mail.example.org".parse().unwrap());
        fix(&dir.path().join("config/mox.toml"), &fixed, &me).unwrap();
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert!(known.iter().all(|path| mode(path) == 0o660));
        assert!(foreign.iter().all(|path| mode(path) == 0o666));
        assert_eq!(std::fs::metadata(dir.path().join("data")).unwrap().mode() & 0o7, 0);
    }
}
