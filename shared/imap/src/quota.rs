//! GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208).

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::write::put_astring;
use crate::{limits, mailbox};

/// A command on quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quota {
    /// `GETQUOTA`, of a root.
    Get(String),
    /// `GETQUOTAROOT`, of a mailbox.
    Root(String),
    /// `SETQUOTA`
    Set {
        /// Of which root.
        root: String,
        /// Resources, in upper case, and limits.
        limits: Vec<(String, u64)>,
    },
}

impl Quota {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>, word: &str) -> Result<Self, ParseError> {
        if word == "GETQUOTAROOT" {
            return Ok(Self::Root(mailbox::parse(c)?));
        }
        let root = c.astring_utf8()?;
        if word == "GETQUOTA" {
            return Ok(Self::Get(root));
        }
        c.sp()?;
        let limits = c.list(limits::QUOTA_RESOURCES, true, |c| {
            let resource = c.word("a resource")?;
            c.sp()?;
            Ok((resource, c.number64("a limit")?))
        })?;
        Ok(Self::Set { root, limits })
    }

    /// The command's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "GETQUOTA",
            Self::Root(_) => "GETQUOTAROOT",
            Self::Set { .. } => "SETQUOTA",
        }
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        match self {
            Self::Get(root) => put_astring(out, root.as_bytes(), true),
            Self::Root(mailbox) => mailbox::write(mailbox, names, out),
            Self::Set { root, limits } => {
                put_astring(out, root.as_bytes(), true);
                let limits: Vec<String> = limits.iter().map(|(r, n)| format!("{r} {n}")).collect();
                out.extend_from_slice(format!(" ({})", limits.join(" ")).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let parse = |word: &str, s: &str| Quota::parse(&mut Cursor::new(s.as_bytes(), Names::Utf7), word);
        assert_eq!(parse("GETQUOTA", "\"\"").unwrap(), Quota::Get(String::new()));
        assert_eq!(parse("GETQUOTAROOT", "INBOX").unwrap(), Quota::Root("INBOX".into()));
        let set = Quota::Set {
            root: "a".into(),
            limits: vec![("STORAGE".into(), 5)],
        };
        assert_eq!(parse("SETQUOTA", "a (storage 5)").unwrap(), set);
        for bad in ["a", "a ()x", "a (STORAGE)", "a (STORAGE -1)"] {
            let mut c = Cursor::new(bad.as_bytes(), Names::Utf7);
            assert!(Quota::parse(&mut c, "SETQUOTA").and_then(|_| c.end()).is_err(), "{bad}");
        }
    }
}
