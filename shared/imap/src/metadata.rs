//! GETMETADATA and SETMETADATA (RFC 5464 §5).

use std::borrow::Cow;

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::write::{put_astring, put_literal8, put_string};
use crate::{limits, mailbox};

/// How far below the entries that are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// `0`: the entries themselves.
    #[default]
    Entry,
    /// `1`: and those one level below.
    Children,
    /// `infinity`: and all below.
    All,
}

/// Options of GETMETADATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `MAXSIZE`: values with more octets are left out.
    pub max_size: Option<u32>,
    /// `DEPTH`
    pub depth: Depth,
}

/// `GETMETADATA`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMetadata {
    /// Options.
    pub options: Options,
    /// Which; empty is the server.
    pub mailbox: String,
    /// Names in lower case.
    pub entries: Vec<String>,
}

/// `SETMETADATA`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMetadata {
    /// Which; empty is the server.
    pub mailbox: String,
    /// Names in lower case and values; without a value, the entry is removed.
    pub values: Vec<(String, Option<Vec<u8>>)>,
}

/// Parses the name of an entry, giving lower case: names have no case (RFC 5464 §3.2.1).
///
/// # Errors
/// If there is none, or it is not well formed.
pub fn parse_entry(c: &mut Cursor<'_>) -> Result<String, ParseError> {
    let start = c.clone();
    let name = c.astring()?;
    let wrong = |what| Err(start.expected(what));
    if name.len() > limits::METADATA_ENTRY {
        return Err(start.limit("the name of the entry is too long"));
    }
    // RFC 5464 §3.2: these are all that a name can't be.
    if name.first() != Some(&b'/') {
        return wrong("an entry that begins with a slash");
    }
    if name.last() == Some(&b'/') || name.windows(2).any(|w| w == b"//") {
        return wrong("an entry without empty levels");
    }
    if name
        .iter()
        .any(|b| !matches!(b, 0x20..=0x7e) || matches!(b, b'*' | b'%'))
    {
        return wrong("an entry of visible ASCII characters other than * and %");
    }
    let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
    let below = |root: &str| {
        name.strip_prefix(root)
            .is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    if !below("/private") && !below("/shared") {
        return wrong("an entry below /private or /shared");
    }
    Ok(name)
}

/// Parses an entry, or a list of them in parentheses.
///
/// # Errors
/// As [`parse_entry`].
pub fn parse_entries(c: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    if c.peek() == Some(b'(') {
        c.list(limits::METADATA_ENTRIES, false, parse_entry)
    } else {
        Ok(vec![parse_entry(c)?])
    }
}

/// Serializes a list of entries.
pub fn write_entries(entries: &[String], out: &mut Vec<u8>) {
    out.push(b'(');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        put_astring(out, entry.as_bytes(), false);
    }
    out.push(b')');
}

impl Options {
    /// Parses options in parentheses. RFC 5464 §4.2 lets each be given once.
    ///
    /// # Errors
    /// If they are not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut options = Self::default();
        let mut depth = None;
        c.list(2, false, |c| {
            let start = c.clone();
            match c.word("an option: MAXSIZE or DEPTH")?.as_str() {
                "MAXSIZE" if options.max_size.is_none() => {
                    c.sp()?;
                    options.max_size = Some(c.number("a number of octets")?);
                }
                "DEPTH" if depth.is_none() => {
                    c.sp()?;
                    let at = c.clone();
                    depth = Some(match c.word("a depth: 0, 1 or infinity")?.as_str() {
                        "0" => Depth::Entry,
                        "1" => Depth::Children,
                        "INFINITY" => Depth::All,
                        _ => return Err(at.expected("a depth: 0, 1 or infinity")),
                    });
                }
                _ => return Err(start.expected("an option, once each: MAXSIZE or DEPTH")),
            }
            Ok(())
        })?;
        options.depth = depth.unwrap_or_default();
        Ok(options)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let depth = match self.depth {
            Depth::Entry => "0",
            Depth::Children => "1",
            Depth::All => "infinity",
        };
        let mut text = format!("(DEPTH {depth}");
        if let Some(size) = self.max_size {
            text.push_str(&format!(" MAXSIZE {size}"));
        }
        text.push_str(") ");
        out.extend_from_slice(text.as_bytes());
    }
}

impl GetMetadata {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        // The grammar of RFC 5464 §5 has the options first, its examples have them behind the mailbox: clients do both.
        let mut options = None;
        if c.peek() == Some(b'(') {
            options = Some(Options::parse(c)?);
            c.sp()?;
        }
        let mailbox = mailbox::parse(c)?;
        c.sp()?;
        if options.is_none() && is_options(c) {
            options = Some(Options::parse(c)?);
            c.sp()?;
        }
        Ok(Self {
            options: options.unwrap_or_default(),
            mailbox,
            entries: parse_entries(c)?,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        self.options.write(out);
        mailbox::write(&self.mailbox, names, out);
        out.push(b' ');
        write_entries(&self.entries, out);
    }
}

/// Entries begin with a slash, options don't.
fn is_options(c: &Cursor<'_>) -> bool {
    let mut c = c.clone();
    c.take(b'(') && c.peek().is_some_and(|b| b.is_ascii_alphabetic())
}

impl SetMetadata {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mailbox = mailbox::parse(c)?;
        c.sp()?;
        let values = c.list(limits::METADATA_ENTRIES, false, |c| {
            let start = c.clone();
            let entry = parse_entry(c)?;
            if entry.matches('/').count() < 2 {
                return Err(start.expected("an entry with a name below /private or /shared"));
            }
            c.sp()?;
            let value = if c.peek() == Some(b'~') {
                Some(Cow::Borrowed(c.literal8()?))
            } else {
                c.nstring()?
            };
            Ok((entry, value.map(Cow::into_owned)))
        })?;
        Ok(Self { mailbox, values })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        mailbox::write(&self.mailbox, names, out);
        out.extend_from_slice(b" (");
        for (i, (entry, value)) in self.values.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            put_astring(out, entry.as_bytes(), false);
            out.push(b' ');
            write_value(value.as_deref(), out);
        }
        out.push(b')');
    }
}

/// Serializes a value: with NUL, it needs a literal8.
pub fn write_value(value: Option<&[u8]>, out: &mut impl bytes::BufMut) {
    match value {
        None => out.put_slice(b"NIL"),
        Some(value) if value.contains(&0) => put_literal8(out, value),
        Some(value) => put_string(out, value, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(s: &str) -> Result<GetMetadata, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let get = GetMetadata::parse(&mut c)?;
        c.end()?;
        Ok(get)
    }

    #[test]
    fn options_come_first_or_second() {
        let want = GetMetadata {
            options: Options {
                max_size: Some(1024),
                depth: Depth::Children,
            },
            mailbox: "INBOX".into(),
            entries: vec!["/shared/comment".into(), "/private".into()],
        };
        for given in [
            "(MAXSIZE 1024 DEPTH 1) INBOX (/shared/comment /private)",
            "\"INBOX\" (depth 1 maxsize 1024) (/SHARED/Comment \"/private\")",
        ] {
            assert_eq!(get(given).unwrap(), want, "{given}");
        }
        assert_eq!(get("\"\" /shared/comment").unwrap().mailbox, "");
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for bad in [
            "\"\" comment",
            "\"\" /comment",
            "\"\" /privatex",
            "\"\" /private/",
            "\"\" /private//a",
            "\"\" /private/%",
            "\"\" \"/private/*\"",
            "\"\" ()",
            "(DEPTH 2) \"\" /private",
            "(DEPTH 1 DEPTH 1) \"\" /private",
            "(X 1) \"\" /private",
            "(DEPTH 1) \"\" (DEPTH 1) /private",
            "\"\"",
        ] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_strings_literals_or_nil() {
        let data = b"a (/private/a \"x\" /shared/b NIL /private/c {2}\r\nyz /private/d ~{2}\r\n\0\x01)";
        let mut c = Cursor::new(data, Names::Utf7);
        let set = SetMetadata::parse(&mut c).unwrap();
        let values: Vec<_> = set.values.iter().map(|v| v.1.as_deref()).collect();
        assert_eq!(values, [Some(&b"x"[..]), None, Some(b"yz"), Some(b"\0\x01")]);
        for bad in [
            "a (/private \"x\")",
            "a ()",
            "a (/private/a)",
            "a /private/a x",
            "a (/private/a x)",
        ] {
            assert!(
                SetMetadata::parse(&mut Cursor::new(bad.as_bytes(), Names::Utf7)).is_err(),
                "{bad}"
            );
        }
    }
}
