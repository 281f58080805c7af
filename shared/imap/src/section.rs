//! Parts of a message: `section` and `partial` (RFC 9051 §6.4.5.1).

use bytes::BufMut;

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::limits;
use crate::write::{put_astring, put_number};

/// What of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// `HEADER`: of a message, with the empty line after it.
    Header,
    /// `HEADER.FIELDS`: the fields with these names, and an empty line.
    HeaderFields(Vec<String>),
    /// `HEADER.FIELDS.NOT`: the other fields, and an empty line.
    HeaderFieldsNot(Vec<String>),
    /// `TEXT`: the body of a message.
    Text,
    /// `MIME`: the MIME header of a part.
    Mime,
}

/// What is between the brackets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Part numbers from 1; none for the whole message.
    pub part: Vec<u32>,
    /// What of it; nothing for all of a message, or the body of a part.
    pub text: Option<SectionText>,
}

/// `<offset.length>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Of the first octet.
    pub offset: u64,
    /// At most, from 1.
    pub length: u64,
}

impl Section {
    /// Parses a section with its brackets.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        c.need(b'[', "an opening bracket")?;
        let (part, dot) = parse_part(c)?;
        let text = if dot || (part.is_empty() && c.peek() != Some(b']')) {
            Some(SectionText::parse(c, !part.is_empty())?)
        } else {
            None
        };
        c.need(b']', "the closing bracket of the section")?;
        Ok(Self { part, text })
    }

    /// Serializes a section with its brackets, in the form that responses repeat it.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u8(b'[');
        write_part(&self.part, out);
        if let Some(text) = &self.text {
            if !self.part.is_empty() {
                out.put_u8(b'.');
            }
            text.write(out);
        }
        out.put_u8(b']');
    }
}

impl SectionText {
    fn parse(c: &mut Cursor<'_>, of_part: bool) -> Result<Self, ParseError> {
        let start = c.clone();
        match c
            .word("HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME or a part number")?
            .as_str()
        {
            "HEADER" => Ok(Self::Header),
            "HEADER.FIELDS" => parse_fields(c).map(Self::HeaderFields),
            "HEADER.FIELDS.NOT" => parse_fields(c).map(Self::HeaderFieldsNot),
            "TEXT" => Ok(Self::Text),
            "MIME" if of_part => Ok(Self::Mime),
            _ => Err(start.expected("HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, or MIME after a part number")),
        }
    }

    fn write(&self, out: &mut impl BufMut) {
        let (name, fields): (&[u8], &[String]) = match self {
            Self::Header => (b"HEADER", &[]),
            Self::HeaderFields(fields) => (b"HEADER.FIELDS", fields),
            Self::HeaderFieldsNot(fields) => (b"HEADER.FIELDS.NOT", fields),
            Self::Text => (b"TEXT", &[]),
            Self::Mime => (b"MIME", &[]),
        };
        out.put_slice(name);
        if fields.is_empty() {
            return;
        }
        for (i, field) in fields.iter().enumerate() {
            out.put_slice(if i == 0 { b" (" } else { b" " });
            put_astring(out, field.as_bytes(), true);
        }
        out.put_u8(b')');
    }
}

fn parse_fields(c: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    c.sp()?;
    c.list(limits::HEADER_FIELDS, false, |c| {
        let start = c.clone();
        let name = c.astring_utf8()?;
        // RFC 5322 §3.6.8; a name with other characters can't occur, and could not be repeated in the response.
        if name.is_empty() || !name.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b':') {
            return Err(start.expected("the name of a header field"));
        }
        Ok(name)
    })
}

/// Parses `1.2.3`, also nothing. The flag says that a dot follows that is not a number's.
pub(crate) fn parse_part(c: &mut Cursor<'_>) -> Result<(Vec<u32>, bool), ParseError> {
    let mut part = Vec::new();
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        if part.len() >= limits::SECTION_DEPTH {
            return Err(c.limit("the part number is too deep"));
        }
        part.push(c.nz_number("a part number")?);
        if !c.take(b'.') {
            return Ok((part, false));
        }
    }
    let dot = !part.is_empty();
    Ok((part, dot))
}

pub(crate) fn write_part(part: &[u32], out: &mut impl BufMut) {
    for (i, number) in part.iter().enumerate() {
        if i > 0 {
            out.put_u8(b'.');
        }
        put_number(out, u64::from(*number));
    }
}

impl Partial {
    /// Parses `<offset.length>` if it is there.
    ///
    /// # Errors
    /// If what starts with `<` is none.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Option<Self>, ParseError> {
        if !c.take(b'<') {
            return Ok(None);
        }
        let offset = c.number64("an offset")?;
        c.need(b'.', "a dot after the offset")?;
        let length = c.number64("a length")?;
        if length == 0 {
            return Err(c.expected("a length from 1"));
        }
        c.need(b'>', "the end of the partial range")?;
        Ok(Some(Self { offset, length }))
    }

    pub(crate) fn write(self, out: &mut impl BufMut) {
        out.put_slice(format!("<{}.{}>", self.offset, self.length).as_bytes());
    }
}
