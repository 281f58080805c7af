//! The user that mox runs as.

use std::process::Command;

use anyhow::{Result, bail};

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Finds a user by name or number. A number need not have a name; its group is then of the same number.
///
/// # Errors
/// If there is no such user.
pub fn find(user: &str) -> Result<User> {
    let local = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(found) = in_passwd(&local, user) {
        return Ok(found);
    }
    // Users may also come from elsewhere, such as LDAP.
    let elsewhere = Command::new("getent").args(["passwd", "--", user]).output();
    if let Ok(output) = elsewhere
        && let Some(found) = in_passwd(&String::from_utf8_lossy(&output.stdout), user)
    {
        return Ok(found);
    }
    match user.parse() {
        Ok(uid) => Ok(User { uid, gid: uid }),
        Err(_) => bail!(
            "there is no user {user:?}: add it with: useradd --system --no-create-home --shell /usr/sbin/nologin {user}; \
             or name another as user in mox.toml"
        ),
    }
}

/// passwd(5): name, password, uid, gid, and more, with colons between.
fn in_passwd(passwd: &str, user: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?;
        let gid = fields.next()?;
        if name != user && uid != user {
            return None;
        }
        Some(User {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmox:x:998:997::/home/mox:/usr/sbin/nologin\nbad\n";
        let mox = Some(User { uid: 998, gid: 997 });
        assert_eq!(in_passwd(passwd, "mox"), mox);
        assert_eq!(in_passwd(passwd, "998"), mox);
        assert_eq!(in_passwd(passwd, "bad"), None);
        assert_eq!(
            find("4000123").unwrap(),
            User {
                uid: 4_000_123,
                gid: 4_000_123
            }
        );
        assert!(find("no-such-user-here").unwrap_err().to_string().contains("useradd"));
    }
}
