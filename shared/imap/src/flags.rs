//! Flags and keywords (RFC 9051 §2.3.2).

use crate::cursor::{Cursor, is_atom_char};
use crate::error::ParseError;
use crate::limits;

/// A flag of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// `\Seen`
    Seen,
    /// `\Answered`
    Answered,
    /// `\Flagged`
    Flagged,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// A keyword in the case it was given; keywords are compared without regard to it.
    Keyword(String),
}

impl Flag {
    /// Parses a flag that a client may set, so not `\Recent`.
    ///
    /// # Errors
    /// If there is none, or it is a system flag that we don't know.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let system = c.take(b'\\');
        let name = c.atom("a flag")?;
        if !system {
            return Self::keyword(name).ok_or_else(|| c.limit("the keyword is too long"));
        }
        let flags = [Self::Seen, Self::Answered, Self::Flagged, Self::Deleted, Self::Draft];
        flags
            .into_iter()
            .find(|f| f.as_str()[1..].eq_ignore_ascii_case(name))
            .ok_or_else(|| c.expected("a flag that can be set: \\Seen, \\Answered, \\Flagged, \\Deleted or \\Draft"))
    }

    /// A keyword, if it can be one.
    #[must_use]
    pub fn keyword(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= limits::KEYWORD && name.bytes().all(is_atom_char);
        fits.then(|| Self::Keyword(name.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Seen => "\\Seen",
            Self::Answered => "\\Answered",
            Self::Flagged => "\\Flagged",
            Self::Deleted => "\\Deleted",
            Self::Draft => "\\Draft",
            Self::Keyword(name) => name,
        }
    }
}

/// Parses a list in parentheses, which may be empty.
///
/// # Errors
/// As [`Flag::parse`]; if there is no list, or too many flags.
pub fn parse_list(c: &mut Cursor<'_>) -> Result<Vec<Flag>, ParseError> {
    c.list(limits::FLAGS, true, Flag::parse)
}

/// Parses what STORE takes: a list, or flags apart by spaces (RFC 9051 §9, store-att-flags).
///
/// # Errors
/// As [`parse_list`].
pub fn parse_store(c: &mut Cursor<'_>) -> Result<Vec<Flag>, ParseError> {
    if c.peek() == Some(b'(') {
        return parse_list(c);
    }
    let mut flags = vec![Flag::parse(c)?];
    while c.take(b' ') {
        if flags.len() >= limits::FLAGS {
            return Err(c.limit("there are too many flags"));
        }
        flags.push(Flag::parse(c)?);
    }
    Ok(flags)
}

/// Serializes a list in parentheses.
pub fn write_list(flags: &[Flag], out: &mut Vec<u8>) {
    out.push(b'(');
    for (i, flag) in flags.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(flag.as_str().as_bytes());
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Names;

    #[test]
    fn flags_are_read() {
        let list = |s: &str| parse_store(&mut Cursor::new(s.as_bytes(), Names::Utf7));
        assert_eq!(list("()").unwrap(), []);
        assert_eq!(
            list("(\\seen $Junk \\DELETED)").unwrap(),
            [Flag::Seen, Flag::Keyword("$Junk".into()), Flag::Deleted]
        );
        assert_eq!(
            list("\\Flagged work").unwrap(),
            [Flag::Flagged, Flag::Keyword("work".into())]
        );
        for bad in ["(\\Recent)", "(\\Custom)", "(a", "", "(a  b)", "\\*", "(\"a\")"] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
        assert!(list(&"k".repeat(300)).is_err());
    }
}
