//! Access control lists: SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314).

use std::fmt;

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::write::put_astring;
use crate::{limits, mailbox};

/// Something that may be done with a mailbox (RFC 4314 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// `l`: see it in LIST, subscribe it.
    Lookup,
    /// `r`: SELECT, STATUS, FETCH, SEARCH, COPY from it.
    Read,
    /// `s`: keep and change `\Seen`.
    Seen,
    /// `w`: change other flags, and shared annotations.
    Write,
    /// `i`: APPEND, COPY into it.
    Insert,
    /// `p`: send mail to its address.
    Post,
    /// `k`: create mailboxes below it.
    Create,
    /// `x`: delete or rename it.
    Delete,
    /// `t`: change `\Deleted`.
    DeleteMessages,
    /// `e`: EXPUNGE.
    Expunge,
    /// `a`: change and see its access control list.
    Administer,
}

const ALL: [(Right, char); 11] = [
    (Right::Lookup, 'l'),
    (Right::Read, 'r'),
    (Right::Seen, 's'),
    (Right::Write, 'w'),
    (Right::Insert, 'i'),
    (Right::Post, 'p'),
    (Right::Create, 'k'),
    (Right::Delete, 'x'),
    (Right::DeleteMessages, 't'),
    (Right::Expunge, 'e'),
    (Right::Administer, 'a'),
];

/// The rights that RFC 4314 has beside those of RFC 2086, for the capability `RIGHTS=`.
pub const NEW_RIGHTS: &str = "kxte";

impl Right {
    /// As it is written.
    #[must_use]
    pub fn letter(self) -> char {
        ALL.iter().find(|r| r.0 == self).map_or('?', |r| r.1)
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u16);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);

    /// Of letters; what is no right is left out.
    #[must_use]
    pub fn of(letters: &str) -> Self {
        letters
            .chars()
            .fold(Self::NONE, |all, c| Self(all.0 | bits(c).unwrap_or(0)))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, right: Right) -> bool {
        bits(right.letter()).is_some_and(|b| self.0 & b != 0)
    }

    /// With others.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Without some.
    #[must_use]
    pub fn without(self, some: Self) -> Self {
        Self(self.0 & !some.0)
    }

    /// Parses letters; each must be a right.
    fn parse_letters(letters: &[u8], at: &Cursor<'_>) -> Result<Self, ParseError> {
        let mut rights = Self::NONE;
        for b in letters {
            rights.0 |= bits(char::from(*b)).ok_or_else(|| at.expected("rights: letters of lrswipkxteacd"))?;
        }
        Ok(rights)
    }
}

/// RFC 4314 §2.1.1: `c` and `d` are what RFC 2086 has in place of several.
fn bits(letter: char) -> Option<u16> {
    let bit = |c: char| ALL.iter().position(|r| r.1 == c).map(|n| 1u16 << n);
    match letter {
        'c' => Some(bit('k')? | bit('x')?),
        'd' => Some(bit('t')? | bit('e')? | bit('x')?),
        c => bit(c),
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (right, letter) in ALL {
            if self.has(right) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// What SETACL does with the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They become all there are.
    Replace,
    /// `+`
    Add,
    /// `-`
    Remove,
}

/// A command on an access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acl {
    /// `SETACL`
    Set {
        /// Of which.
        mailbox: String,
        /// Who.
        identifier: String,
        /// What to do with the rights.
        change: Change,
        /// Which.
        rights: Rights,
    },
    /// `DELETEACL`
    Delete {
        /// Of which.
        mailbox: String,
        /// Who.
        identifier: String,
    },
    /// `GETACL`
    Get(String),
    /// `LISTRIGHTS`
    List {
        /// Of which.
        mailbox: String,
        /// Who.
        identifier: String,
    },
    /// `MYRIGHTS`
    Mine(String),
}

impl Acl {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>, word: &str) -> Result<Self, ParseError> {
        let mailbox = mailbox::parse(c)?;
        if matches!(word, "GETACL" | "MYRIGHTS") {
            return Ok(if word == "GETACL" {
                Self::Get(mailbox)
            } else {
                Self::Mine(mailbox)
            });
        }
        c.sp()?;
        let at = c.clone();
        let identifier = c.astring_utf8()?;
        if identifier.len() > limits::ACL_IDENTIFIER {
            return Err(at.limit("the identifier is too long"));
        }
        Ok(match word {
            "DELETEACL" => Self::Delete { mailbox, identifier },
            "LISTRIGHTS" => Self::List { mailbox, identifier },
            _ => {
                c.sp()?;
                let at = c.clone();
                let text = c.astring()?;
                let (change, letters) = match text.first() {
                    Some(b'+') => (Change::Add, &text[1..]),
                    Some(b'-') => (Change::Remove, &text[1..]),
                    _ => (Change::Replace, &text[..]),
                };
                let rights = Rights::parse_letters(letters, &at)?;
                Self::Set {
                    mailbox,
                    identifier,
                    change,
                    rights,
                }
            }
        })
    }

    /// The command's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Set { .. } => "SETACL",
            Self::Delete { .. } => "DELETEACL",
            Self::Get(_) => "GETACL",
            Self::List { .. } => "LISTRIGHTS",
            Self::Mine(_) => "MYRIGHTS",
        }
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        match self {
            Self::Get(mailbox) | Self::Mine(mailbox) => mailbox::write(mailbox, names, out),
            Self::Delete { mailbox, identifier } | Self::List { mailbox, identifier } => {
                mailbox::write(mailbox, names, out);
                out.push(b' ');
                put_astring(out, identifier.as_bytes(), true);
            }
            Self::Set {
                mailbox,
                identifier,
                change,
                rights,
            } => {
                mailbox::write(mailbox, names, out);
                out.push(b' ');
                put_astring(out, identifier.as_bytes(), true);
                out.push(b' ');
                let sign = match change {
                    Change::Replace => "",
                    Change::Add => "+",
                    Change::Remove => "-",
                };
                put_astring(out, format!("{sign}{rights}").as_bytes(), false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_letters() {
        assert_eq!(Rights::of("lrswipkxteacd").to_string(), "lrswipkxtea");
        assert_eq!(Rights::of("c").to_string(), "kx");
        assert_eq!(Rights::of("d").to_string(), "xte");
        assert!(Rights::of("li").has(Right::Insert) && !Rights::of("li").has(Right::Read));
    }

    #[test]
    fn commands_are_read() {
        let parse = |word: &str, s: &str| Acl::parse(&mut Cursor::new(s.as_bytes(), Names::Utf7), word);
        assert_eq!(
            parse("SETACL", "INBOX fred +rx").unwrap(),
            Acl::Set {
                mailbox: "INBOX".into(),
                identifier: "fred".into(),
                change: Change::Add,
                rights: Rights::of("rx"),
            }
        );
        assert_eq!(parse("MYRIGHTS", "\"a b\"").unwrap(), Acl::Mine("a b".into()));
        assert!(parse("SETACL", "INBOX fred \"\"").is_ok(), "no rights");
        for (word, bad) in [
            ("SETACL", "INBOX fred"),
            ("SETACL", "INBOX fred z"),
            ("SETACL", "INBOX fred +L"),
            ("DELETEACL", "INBOX"),
            ("GETACL", ""),
        ] {
            assert!(parse(word, bad).is_err(), "{word} {bad}");
        }
    }
}
