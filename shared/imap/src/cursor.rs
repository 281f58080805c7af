//! Reading tokens from the bytes of one command.
//!
//! Literals are part of the bytes: `{3}`, line end, and three octets.

use std::borrow::Cow;

use crate::error::{ErrorKind, ParseError};
use crate::limits;

type Result<T> = std::result::Result<T, ParseError>;

/// How mailbox names travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// Modified UTF-7 (RFC 3501 §5.1.3).
    #[default]
    Utf7,
    /// UTF-8 (RFC 9051, RFC 6855).
    Utf8,
}

/// A place in the bytes of a command.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
    names: Names,
}

/// RFC 9051 §9, atom-specials: what may not be in an atom.
#[must_use]
pub fn is_atom_char(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// RFC 9051 §9, ASTRING-CHAR.
#[must_use]
pub fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

fn is_tag_char(b: u8) -> bool {
    is_astring_char(b) && b != b'+'
}

fn is_list_char(b: u8) -> bool {
    is_astring_char(b) || matches!(b, b'%' | b'*')
}

impl<'a> Cursor<'a> {
    /// At the start of `data`.
    #[must_use]
    pub fn new(data: &'a [u8], names: Names) -> Self {
        Self { data, at: 0, names }
    }

    /// How mailbox names travel.
    #[must_use]
    pub fn names(&self) -> Names {
        self.names
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// The next octet.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    /// A syntax error here.
    #[must_use]
    pub fn expected(&self, what: &'static str) -> ParseError {
        self.error(ErrorKind::Syntax, what)
    }

    /// A limit passed here.
    #[must_use]
    pub fn limit(&self, what: &'static str) -> ParseError {
        self.error(ErrorKind::Limit, what)
    }

    /// An error here.
    #[must_use]
    pub fn error(&self, kind: ErrorKind, what: &'static str) -> ParseError {
        ParseError {
            kind,
            at: self.at,
            what,
        }
    }

    /// Passes `b` if it is next.
    pub fn take(&mut self, b: u8) -> bool {
        let is = self.peek() == Some(b);
        self.at += usize::from(is);
        is
    }

    /// Passes `b`, which must be next.
    ///
    /// # Errors
    /// If it is not.
    pub fn need(&mut self, b: u8, what: &'static str) -> Result<()> {
        if self.take(b) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// Passes one space.
    ///
    /// # Errors
    /// If there is none.
    pub fn sp(&mut self) -> Result<()> {
        self.need(b' ', "a space")
    }

    /// Passes `word` in any case if it is next, whatever follows it.
    pub fn take_word(&mut self, word: &str) -> bool {
        let is = self
            .rest()
            .get(..word.len())
            .is_some_and(|r| r.eq_ignore_ascii_case(word.as_bytes()));
        if is {
            self.at += word.len();
        }
        is
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// If something does.
    pub fn end(&self) -> Result<()> {
        if self.at >= self.data.len() {
            Ok(())
        } else {
            Err(self.expected("the end of the command"))
        }
    }

    /// As many octets as `is` lets through.
    pub fn span(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let n = rest.iter().position(|&b| !is(b)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }

    fn span_str(&mut self, is: impl Fn(u8) -> bool, what: &'static str) -> Result<&'a str> {
        let at = self.at;
        match std::str::from_utf8(self.span(is)) {
            Ok(s) if !s.is_empty() => Ok(s),
            _ => Err(ParseError {
                kind: ErrorKind::Syntax,
                at,
                what,
            }),
        }
    }

    /// An atom.
    ///
    /// # Errors
    /// If there is none.
    pub fn atom(&mut self, what: &'static str) -> Result<&'a str> {
        self.span_str(is_atom_char, what)
    }

    /// A tag: RFC 9051 §9.
    ///
    /// # Errors
    /// If there is none, or it is too long.
    pub fn tag(&mut self) -> Result<&'a str> {
        let tag = self.span_str(is_tag_char, "a tag")?;
        if tag.len() > limits::TAG {
            Err(self.limit("the tag is too long"))
        } else {
            Ok(tag)
        }
    }

    /// Letters, digits, `-`, `.` and `=`: names of commands, items and capabilities.
    ///
    /// # Errors
    /// If there is none.
    pub fn word(&mut self, what: &'static str) -> Result<String> {
        let word = self.span_str(
            |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'=' | b'+' | b'_'),
            what,
        )?;
        Ok(word.to_ascii_uppercase())
    }

    /// An atom or a string.
    ///
    /// # Errors
    /// If there is none.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>> {
        self.string_or(is_astring_char)
    }

    /// `list-mailbox`: as an astring, and with wildcards.
    ///
    /// # Errors
    /// If there is none.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>> {
        self.string_or(is_list_char)
    }

    fn string_or(&mut self, is: impl Fn(u8) -> bool) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            Some(b) if is(b) => Ok(Cow::Borrowed(self.span(is))),
            _ => Err(self.expected("a string")),
        }
    }

    /// A quoted string or a literal.
    ///
    /// # Errors
    /// If there is neither.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => Err(self.expected("a quoted string or a literal")),
        }
    }

    /// A string, or NIL.
    ///
    /// # Errors
    /// If there is neither.
    pub fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>> {
        if self.take_word("NIL") {
            Ok(None)
        } else {
            self.string().map(Some)
        }
    }

    /// An astring that must be UTF-8.
    ///
    /// # Errors
    /// If there is none, or it is not UTF-8.
    pub fn astring_utf8(&mut self) -> Result<String> {
        let at = self.at;
        let bytes = self.astring()?.into_owned();
        String::from_utf8(bytes).map_err(|_| ParseError {
            kind: ErrorKind::Syntax,
            at,
            what: "UTF-8",
        })
    }

    /// RFC 9051 §9, quoted. Octets above 127 are let through: they are UTF-8 to those who enabled it, and clients
    /// send them without.
    fn quoted(&mut self) -> Result<Cow<'a, [u8]>> {
        self.need(b'"', "a quote")?;
        let plain = self.span(is_quoted_plain);
        if self.take(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        loop {
            if self.take(b'"') {
                return Ok(Cow::Owned(out));
            }
            if !self.take(b'\\') {
                return Err(self.expected("the closing quote"));
            }
            match self.peek() {
                Some(b @ (b'"' | b'\\')) => {
                    self.at += 1;
                    out.push(b);
                }
                _ => return Err(self.expected("a quote or a backslash after a backslash")),
            }
            out.extend_from_slice(self.span(is_quoted_plain));
        }
    }

    /// A literal that may hold NUL (RFC 3516 §4.1).
    ///
    /// # Errors
    /// If there is none.
    pub fn literal8(&mut self) -> Result<&'a [u8]> {
        self.need(b'~', "a literal8")?;
        self.literal_octets()
    }

    fn literal(&mut self) -> Result<&'a [u8]> {
        let start = self.clone();
        let bytes = self.literal_octets()?;
        // RFC 9051 §4.3: NUL is for literal8 only.
        if bytes.contains(&0) {
            return Err(start.expected("a literal without NUL"));
        }
        Ok(bytes)
    }

    fn literal_octets(&mut self) -> Result<&'a [u8]> {
        self.need(b'{', "a literal")?;
        let size = self.number64("the size of the literal")?;
        self.take(b'+');
        self.need(b'}', "the end of the literal's size")?;
        self.take(b'\r');
        self.need(b'\n', "a line end after the literal's size")?;
        let bytes = usize::try_from(size)
            .ok()
            .and_then(|size| self.rest().get(..size))
            .ok_or_else(|| self.expected("as many octets as the literal's size says"))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// A number below 2^63 (RFC 9051 §9, number64).
    ///
    /// # Errors
    /// If there is none, or it is too large.
    pub fn number64(&mut self, what: &'static str) -> Result<u64> {
        let start = self.at;
        let digits = self.span_str(|b| b.is_ascii_digit(), what)?;
        match digits.parse::<u64>() {
            Ok(n) if n <= i64::MAX as u64 => Ok(n),
            _ => Err(ParseError {
                kind: ErrorKind::Syntax,
                at: start,
                what: "a number below 2^63",
            }),
        }
    }

    /// A number below 2^32.
    ///
    /// # Errors
    /// If there is none, or it is too large.
    pub fn number(&mut self, what: &'static str) -> Result<u32> {
        let start = self.at;
        u32::try_from(self.number64(what)?).map_err(|_| ParseError {
            kind: ErrorKind::Syntax,
            at: start,
            what: "a number below 2^32",
        })
    }

    /// A number from 1.
    ///
    /// # Errors
    /// If there is none, or it is 0.
    pub fn nz_number(&mut self, what: &'static str) -> Result<u32> {
        let start = self.at;
        match self.number(what)? {
            0 => Err(ParseError {
                kind: ErrorKind::Syntax,
                at: start,
                what: "a number from 1",
            }),
            n => Ok(n),
        }
    }

    /// A list in parentheses, its elements apart by one space, at most `most` of them.
    ///
    /// # Errors
    /// As `element`; if there is no list; if there are too many.
    pub fn list<T>(
        &mut self,
        most: usize,
        empty_allowed: bool,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.need(b'(', "an opening parenthesis")?;
        let mut out = Vec::new();
        if empty_allowed && self.take(b')') {
            return Ok(out);
        }
        loop {
            if out.len() >= most {
                return Err(self.limit("the list is too long"));
            }
            out.push(element(self)?);
            if self.take(b')') {
                return Ok(out);
            }
            self.need(b' ', "a space or a closing parenthesis")?;
        }
    }
}

fn is_quoted_plain(b: u8) -> bool {
    !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(s: &str) -> Cursor<'_> {
        Cursor::new(s.as_bytes(), Names::Utf7)
    }

    #[test]
    fn strings_come_in_three_forms() {
        for (given, value, rest) in [
            ("abc] d", "abc]", " d"),
            ("\"a b\\\"\\\\\")", "a b\"\\", ")"),
            ("\"\" x", "", " x"),
            ("{3}\r\na\r\n x", "a\r\n", " x"),
            ("{3+}\r\nabc", "abc", ""),
            ("{0}\n", "", ""),
        ] {
            let mut c = cursor(given);
            assert_eq!(&*c.astring().unwrap(), value.as_bytes(), "{given:?}");
            assert_eq!(c.rest(), rest.as_bytes(), "{given:?}");
        }
        for bad in [
            "",
            "(",
            "\"a",
            "\"a\\b\"",
            "{3}\r\nab",
            "{}\r\n",
            "{3}abc",
            "\"a\r\nb\"",
            "%",
            "{1}\r\n\0",
        ] {
            assert!(cursor(bad).astring().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(cursor("4294967295").number("n").unwrap(), u32::MAX);
        assert!(cursor("4294967296").number("n").is_err());
        assert!(cursor("0").nz_number("n").is_err());
        assert!(cursor("9223372036854775808").number64("n").is_err());
        assert!(cursor("99999999999999999999999").number64("n").is_err());
        assert!(cursor("x").number("n").is_err());
    }

    #[test]
    fn errors_say_where() {
        let mut c = cursor("a  b");
        c.atom("an atom").unwrap();
        c.sp().unwrap();
        assert_eq!(
            c.atom("an atom").unwrap_err().to_string(),
            "expected an atom at octet 2"
        );
    }
}
