//! FETCH: items, macros and modifiers (RFC 9051 §6.4.5).

use bytes::BufMut;

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::limits;
use crate::section::{Partial, Section, parse_part, write_part};
use crate::sequence::SequenceSet;
use crate::window::Window;

/// What is asked about each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// `ENVELOPE`
    Envelope,
    /// `FLAGS`
    Flags,
    /// `INTERNALDATE`
    InternalDate,
    /// `RFC822.SIZE`
    Size,
    /// `UID`
    Uid,
    /// `BODY` without a section: the structure without extension data.
    Body,
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// `RFC822`, `RFC822.HEADER` and `RFC822.TEXT` of IMAP4rev1.
    Rfc822(Rfc822),
    /// `BODY[…]` and `BODY.PEEK[…]`
    Section {
        /// `\Seen` stays as it is.
        peek: bool,
        /// Which.
        section: Section,
        /// How much of it.
        partial: Option<Partial>,
    },
    /// `BINARY[…]` and `BINARY.PEEK[…]` (RFC 3516)
    Binary {
        /// `\Seen` stays as it is.
        peek: bool,
        /// Part numbers.
        part: Vec<u32>,
        /// How much of it.
        partial: Option<Partial>,
    },
    /// `BINARY.SIZE[…]` (RFC 3516)
    BinarySize(Vec<u32>),
    /// `MODSEQ` (RFC 7162)
    ModSeq,
    /// `PREVIEW` (RFC 8970)
    Preview {
        /// With the modifier `LAZY`.
        lazy: bool,
    },
    /// `SAVEDATE` (RFC 8514)
    SaveDate,
    /// `EMAILID` (RFC 8474)
    EmailId,
    /// `THREADID` (RFC 8474)
    ThreadId,
}

/// The items of IMAP4rev1 that stand for sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rfc822 {
    /// `RFC822`: as `BODY[]`.
    All,
    /// `RFC822.HEADER`: as `BODY.PEEK[HEADER]`.
    Header,
    /// `RFC822.TEXT`: as `BODY[TEXT]`.
    Text,
}

/// A FETCH, or a UID FETCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which messages.
    pub set: SequenceSet,
    /// What about them.
    pub items: Vec<FetchItem>,
    /// `CHANGEDSINCE` (RFC 7162)
    pub changed_since: Option<u64>,
    /// `VANISHED` (RFC 7162)
    pub vanished: bool,
    /// `PARTIAL` (RFC 9394 §3.3), of UID FETCH only.
    pub partial: Option<Window>,
}

impl Fetch {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let set = SequenceSet::parse(c)?;
        c.sp()?;
        let items = parse_items(c)?;
        let mut fetch = Self {
            set,
            items,
            changed_since: None,
            vanished: false,
            partial: None,
        };
        if c.take(b' ') {
            c.list(3, false, |c| {
                match c.word("a modifier of FETCH")?.as_str() {
                    "CHANGEDSINCE" => {
                        c.sp()?;
                        fetch.changed_since = Some(c.number64("a modification sequence")?);
                    }
                    "VANISHED" => fetch.vanished = true,
                    "PARTIAL" => {
                        c.sp()?;
                        fetch.partial = Some(Window::parse(c)?);
                    }
                    _ => return Err(c.expected("a modifier of FETCH: CHANGEDSINCE, VANISHED or PARTIAL")),
                }
                Ok(())
            })?;
        }
        Ok(fetch)
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.set.write(out);
        out.extend_from_slice(b" (");
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            item.write(out);
        }
        out.push(b')');
        let mut before: &[u8] = b" (";
        if let Some(n) = self.changed_since {
            out.extend_from_slice(before);
            out.extend_from_slice(format!("CHANGEDSINCE {n}").as_bytes());
            before = b" ";
        }
        if self.vanished {
            out.extend_from_slice(before);
            out.extend_from_slice(b"VANISHED");
            before = b" ";
        }
        if let Some(window) = self.partial {
            out.extend_from_slice(before);
            out.extend_from_slice(b"PARTIAL ");
            window.write(out);
            before = b" ";
        }
        if before == b" " {
            out.push(b')');
        }
    }
}

fn parse_items(c: &mut Cursor<'_>) -> Result<Vec<FetchItem>, ParseError> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Size};
    if c.peek() == Some(b'(') {
        return c.list(limits::FETCH_ITEMS, false, FetchItem::parse);
    }
    // RFC 9051 §6.4.5: a macro stands alone.
    let mut ahead = c.clone();
    let word = ahead.word("an item or a macro of FETCH")?;
    let whole = matches!(ahead.peek(), None | Some(b' '));
    let items = match word.as_str() {
        "ALL" if whole => vec![Flags, InternalDate, Size, Envelope],
        "FAST" if whole => vec![Flags, InternalDate, Size],
        "FULL" if whole => vec![Flags, InternalDate, Size, Envelope, Body],
        _ => return FetchItem::parse(c).map(|item| vec![item]),
    };
    *c = ahead;
    Ok(items)
}

impl FetchItem {
    /// Parses one item.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let start = c.clone();
        let word = c.word("an item of FETCH")?;
        let bracket = c.peek() == Some(b'[');
        Ok(match word.as_str() {
            "ENVELOPE" => Self::Envelope,
            "FLAGS" => Self::Flags,
            "INTERNALDATE" => Self::InternalDate,
            "RFC822.SIZE" => Self::Size,
            "UID" => Self::Uid,
            "BODY" if !bracket => Self::Body,
            "BODYSTRUCTURE" => Self::BodyStructure,
            "RFC822" => Self::Rfc822(Rfc822::All),
            "RFC822.HEADER" => Self::Rfc822(Rfc822::Header),
            "RFC822.TEXT" => Self::Rfc822(Rfc822::Text),
            "BODY" | "BODY.PEEK" if bracket => Self::Section {
                peek: word != "BODY",
                section: Section::parse(c)?,
                partial: Partial::parse(c)?,
            },
            "BINARY" | "BINARY.PEEK" if bracket => Self::Binary {
                peek: word != "BINARY",
                part: parse_binary_part(c)?,
                partial: Partial::parse(c)?,
            },
            "BINARY.SIZE" if bracket => Self::BinarySize(parse_binary_part(c)?),
            "MODSEQ" => Self::ModSeq,
            "PREVIEW" => {
                let mut ahead = c.clone();
                let lazy = ahead.take_word(" (LAZY)");
                if lazy {
                    *c = ahead;
                }
                Self::Preview { lazy }
            }
            "SAVEDATE" => Self::SaveDate,
            "EMAILID" => Self::EmailId,
            "THREADID" => Self::ThreadId,
            _ => return Err(start.expected("an item of FETCH")),
        })
    }

    /// Serializes the item.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(match self {
            Self::Envelope => b"ENVELOPE",
            Self::Flags => b"FLAGS",
            Self::InternalDate => b"INTERNALDATE",
            Self::Size => b"RFC822.SIZE",
            Self::Uid => b"UID",
            Self::Body => b"BODY",
            Self::BodyStructure => b"BODYSTRUCTURE",
            Self::Rfc822(Rfc822::All) => b"RFC822",
            Self::Rfc822(Rfc822::Header) => b"RFC822.HEADER",
            Self::Rfc822(Rfc822::Text) => b"RFC822.TEXT",
            Self::Section { peek: false, .. } => b"BODY",
            Self::Section { peek: true, .. } => b"BODY.PEEK",
            Self::Binary { peek: false, .. } => b"BINARY",
            Self::Binary { peek: true, .. } => b"BINARY.PEEK",
            Self::BinarySize(_) => b"BINARY.SIZE",
            Self::ModSeq => b"MODSEQ",
            Self::Preview { lazy: false } => b"PREVIEW",
            Self::Preview { lazy: true } => b"PREVIEW (LAZY)",
            Self::SaveDate => b"SAVEDATE",
            Self::EmailId => b"EMAILID",
            Self::ThreadId => b"THREADID",
        });
        match self {
            Self::Section { section, .. } => section.write(out),
            Self::Binary { part, .. } | Self::BinarySize(part) => {
                out.put_u8(b'[');
                write_part(part, out);
                out.put_u8(b']');
            }
            _ => {}
        }
        if let Self::Section {
            partial: Some(partial), ..
        }
        | Self::Binary {
            partial: Some(partial), ..
        } = self
        {
            partial.write(out);
        }
    }
}

/// RFC 3516 §4.2: only part numbers between the brackets.
fn parse_binary_part(c: &mut Cursor<'_>) -> Result<Vec<u32>, ParseError> {
    c.need(b'[', "an opening bracket")?;
    let (part, dot) = parse_part(c)?;
    if dot {
        return Err(c.expected("a part number"));
    }
    c.need(b']', "the closing bracket of the section")?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Names;
    use crate::section::SectionText;

    fn parse(s: &str) -> Result<Fetch, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let fetch = Fetch::parse(&mut c)?;
        c.end()?;
        Ok(fetch)
    }

    #[test]
    fn macros_stand_for_items() {
        assert_eq!(
            parse("1 fast").unwrap(),
            parse("1 (FLAGS INTERNALDATE RFC822.SIZE)").unwrap()
        );
        assert_eq!(
            parse("1 ALL").unwrap(),
            parse("1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)").unwrap()
        );
        assert_eq!(
            parse("1 Full").unwrap(),
            parse("1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)").unwrap()
        );
        assert!(parse("1 (FAST)").is_err());
    }

    #[test]
    fn sections_are_read() {
        let item = |s: &str| parse(&format!("1 {s}")).map(|f| f.items.into_iter().next().unwrap());
        let section = |part: &[u32], text| Section {
            part: part.to_vec(),
            text,
        };
        for (given, peek, want, partial) in [
            ("BODY[]", false, section(&[], None), None),
            (
                "body.peek[1.2]<0.10>",
                true,
                section(&[1, 2], None),
                Some(Partial { offset: 0, length: 10 }),
            ),
            ("BODY[TEXT]", false, section(&[], Some(SectionText::Text)), None),
            ("BODY[3.MIME]", false, section(&[3], Some(SectionText::Mime)), None),
            (
                "BODY[1.HEADER.FIELDS (From \"to\")]",
                false,
                section(&[1], Some(SectionText::HeaderFields(vec!["From".into(), "to".into()]))),
                None,
            ),
        ] {
            assert_eq!(
                item(given).unwrap(),
                FetchItem::Section {
                    peek,
                    section: want,
                    partial
                },
                "{given}"
            );
        }
        for bad in [
            "BODY[MIME]",
            "BODY[0]",
            "BODY[1.]",
            "BODY[.1]",
            "BODY[",
            "BODY[HEADER.FIELDS]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[HEADER.FIELDS (a:b)]",
            "BODY[]<1>",
            "BODY[]<1.0>",
            "BODY[]x",
            "FLAGS[]",
            "BINARY[TEXT]",
            "BINARY",
            "(FLAGS",
            "()",
            "NONE",
        ] {
            assert!(item(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modifiers_are_read() {
        let fetch = parse("1:* (UID FLAGS) (CHANGEDSINCE 12 VANISHED)").unwrap();
        assert_eq!((fetch.changed_since, fetch.vanished), (Some(12), true));
        assert_eq!(fetch.items, [FetchItem::Uid, FetchItem::Flags]);
        assert_eq!(
            parse("1 (PREVIEW (LAZY) UID)").unwrap().items[0],
            FetchItem::Preview { lazy: true }
        );
    }
}
