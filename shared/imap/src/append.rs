//! APPEND (RFC 9051 §6.3.12) with several messages (RFC 3502), CATENATE (RFC 4469) and UTF8 (RFC 6855), and REPLACE
//! (RFC 8508).
//!
//! Messages are literals that are streamed, so a command is parsed in segments: what stands before the first of these
//! literals, between two of them, and behind the last. [`parse_start`] parses the first one, and [`Segment::parse`] each
//! other one from the [`Place`] where the one before it ended.

use crate::command::{Failure, Tagged};
use crate::cursor::{Cursor, Names};
use crate::datetime::DateTime;
use crate::error::ParseError;
use crate::flags::{self, Flag};
use crate::sequence::Bound;
use crate::write::put_string;
use crate::{limits, mailbox};

/// What is done with the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// They are added.
    Append,
    /// One is added, and this one removed: `REPLACE`, and with `uid` `UID REPLACE`.
    Replace {
        /// Which.
        number: Bound,
        /// By UID.
        uid: bool,
    },
}

impl Verb {
    /// The command's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "APPEND",
            Self::Replace { uid: false, .. } => "REPLACE",
            Self::Replace { uid: true, .. } => "UID REPLACE",
        }
    }
}

/// A command up to its first literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// What is done.
    pub verb: Verb,
    /// Where to.
    pub mailbox: String,
    /// What follows.
    pub segment: Segment,
}

/// What is said of a message before its octets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// With which flags.
    pub flags: Vec<Flag>,
    /// Its INTERNALDATE.
    pub received: Option<DateTime>,
}

/// A part of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A message begins.
    Message(Options),
    /// The next part of the message is what this URL names (RFC 4469).
    Url(String),
}

/// What a literal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// The message.
    Whole,
    /// The message, which has UTF-8 in its header.
    Utf8,
    /// The next part of the message (RFC 4469).
    Text,
    /// The next part of the message, which has UTF-8 in a header (RFC 6855 §4).
    Utf8Text,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// In the announcement of a literal that is to be streamed.
    Literal(Data),
    /// In the announcement of a literal that belongs to the segment: to be parsed again with it.
    Accept,
    /// With the command.
    End,
}

/// Where a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind a message.
    Message,
    /// Behind the literal of UTF8.
    Utf8,
    /// Behind a literal of CATENATE.
    Catenate,
    /// Behind the literal of UTF8 in CATENATE.
    Utf8Text,
}

impl From<Data> for Place {
    fn from(data: Data) -> Self {
        match data {
            Data::Whole => Self::Message,
            Data::Utf8 => Self::Utf8,
            Data::Text => Self::Catenate,
            Data::Utf8Text => Self::Utf8Text,
        }
    }
}

/// What stands between streamed literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// In order.
    pub steps: Vec<Step>,
    /// What then.
    pub next: Next,
}

/// Parses the start of a command: all of it without a literal that is streamed, or, where `literal`, up to and with the
/// announcement of a literal. Nothing, if it is another command.
#[must_use]
pub fn parse_start(start: &[u8], names: Names, literal: bool) -> Option<Result<Tagged<Append>, Failure>> {
    let before = if literal { before_literal(start)? } else { start };
    let mut c = Cursor::new(before, names);
    let tag = c.tag().ok()?.to_owned();
    c.sp().ok()?;
    let name = if c.take_word("APPEND ") {
        "APPEND"
    } else if c.take_word("REPLACE ") {
        "REPLACE"
    } else if c.take_word("UID REPLACE ") {
        "UID REPLACE"
    } else {
        return None;
    };
    Some(match Append::parse(&mut c, name, literal) {
        Ok(value) => Ok(Tagged { tag, value }),
        Err(error) => Err(Failure {
            tag: Some(tag),
            name: Some(name),
            error,
        }),
    })
}

/// Without the announcement of the literal.
fn before_literal(segment: &[u8]) -> Option<&[u8]> {
    let open = segment.iter().rposition(|&b| b == b'{')?;
    let before = segment.get(..open)?;
    Some(before.strip_suffix(b"~").unwrap_or(before))
}

impl Append {
    fn parse(c: &mut Cursor<'_>, name: &str, literal: bool) -> Result<Self, ParseError> {
        let verb = if name == "APPEND" {
            Verb::Append
        } else {
            let number = if c.take(b'*') {
                Bound::Largest
            } else {
                Bound::Number(c.nz_number("the number of a message")?)
            };
            c.sp()?;
            Verb::Replace {
                number,
                uid: name == "UID REPLACE",
            }
        };
        if literal && c.rest().is_empty() {
            // It is the mailbox's name.
            let segment = Segment {
                steps: Vec::new(),
                next: Next::Accept,
            };
            let mailbox = String::new();
            return Ok(Self { verb, mailbox, segment });
        }
        let mailbox = mailbox::parse(c)?;
        let segment = Segment::parse_from(c, Place::Message, literal)?;
        if segment.steps.is_empty() && segment.next == Next::End {
            return Err(c.expected("a message"));
        }
        Ok(Self { verb, mailbox, segment })
    }

    /// Serializes the command's name, the mailbox and the steps, up to its first literal.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb.name().as_bytes());
        out.push(b' ');
        if let Verb::Replace { number, .. } = self.verb {
            match number {
                Bound::Number(n) => out.extend_from_slice(format!("{n} ").as_bytes()),
                Bound::Largest => out.extend_from_slice(b"* "),
            }
        }
        mailbox::write(&self.mailbox, names, out);
        self.segment.write(Place::Message, out);
    }
}

impl Segment {
    /// Parses a segment that begins at `place`: to the end of the command, or, where `literal`, up to and with the
    /// announcement of a literal.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(data: &[u8], names: Names, place: Place, literal: bool) -> Result<Self, ParseError> {
        let before = if literal {
            before_literal(data).unwrap_or_default()
        } else {
            data
        };
        Self::parse_from(&mut Cursor::new(before, names), place, literal)
    }

    fn parse_from(c: &mut Cursor<'_>, mut place: Place, literal: bool) -> Result<Self, ParseError> {
        let mut steps = Vec::new();
        let mut first_part = false;
        let next = loop {
            if steps.len() > limits::APPEND_STEPS {
                return Err(c.limit("there are too many parts"));
            }
            let here = |c: &Cursor<'_>| literal && c.rest().is_empty();
            match place {
                Place::Utf8 => {
                    c.need(b')', "a closing parenthesis after the literal of UTF8")?;
                    place = Place::Message;
                }
                Place::Utf8Text => {
                    c.need(b')', "a closing parenthesis after the literal of UTF8")?;
                    place = Place::Catenate;
                }
                Place::Catenate if !first_part && c.take(b')') => place = Place::Message,
                Place::Catenate => {
                    if !std::mem::take(&mut first_part) {
                        c.sp()?;
                    }
                    if c.take_word("TEXT ") {
                        if here(c) {
                            break Next::Literal(Data::Text);
                        }
                        return Err(c.expected("a literal after TEXT"));
                    }
                    if c.take_word("UTF8 (") {
                        if here(c) {
                            break Next::Literal(Data::Utf8Text);
                        }
                        return Err(c.expected("a literal"));
                    }
                    if !c.take_word("URL ") {
                        return Err(c.expected("TEXT, URL or UTF8"));
                    }
                    if here(c) {
                        break Next::Accept;
                    }
                    steps.push(Step::Url(c.astring_utf8()?));
                }
                Place::Message if c.rest().is_empty() && !literal => break Next::End,
                Place::Message => {
                    c.sp()?;
                    steps.push(Step::Message(Options::parse(c)?));
                    if here(c) {
                        break Next::Literal(Data::Whole);
                    }
                    if c.take_word("UTF8 (") {
                        if here(c) {
                            break Next::Literal(Data::Utf8);
                        }
                        return Err(c.expected("a literal"));
                    }
                    if !c.take_word("CATENATE (") {
                        return Err(c.expected("a literal, UTF8 or CATENATE"));
                    }
                    (place, first_part) = (Place::Catenate, true);
                }
            }
        };
        Ok(Self { steps, next })
    }

    /// Serializes the segment, without its literal.
    pub fn write(&self, place: Place, out: &mut Vec<u8>) {
        if matches!(place, Place::Utf8 | Place::Utf8Text) {
            out.push(b')');
        }
        let inside = matches!(place, Place::Catenate | Place::Utf8Text);
        let mut parts = usize::from(inside);
        let mut in_catenate = inside;
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Message(options) => {
                    if in_catenate {
                        out.push(b')');
                    }
                    out.push(b' ');
                    options.write(out);
                    in_catenate = matches!(self.steps.get(i + 1), Some(Step::Url(_)))
                        || (i + 1 == self.steps.len()
                            && matches!(self.next, Next::Literal(Data::Text | Data::Utf8Text) | Next::Accept));
                    parts = 0;
                    if in_catenate {
                        out.extend_from_slice(b"CATENATE (");
                    }
                }
                Step::Url(url) => {
                    out.extend_from_slice(if parts > 0 { b" URL " } else { b"URL " });
                    put_string(out, url.as_bytes(), true);
                    parts += 1;
                }
            }
        }
        match self.next {
            Next::Literal(Data::Whole) => {}
            Next::Literal(Data::Utf8) => out.extend_from_slice(b"UTF8 ("),
            Next::Literal(Data::Text) => out.extend_from_slice(if parts > 0 { b" TEXT " } else { b"TEXT " }),
            Next::Literal(Data::Utf8Text) => out.extend_from_slice(if parts > 0 { b" UTF8 (" } else { b"UTF8 (" }),
            Next::Accept => out.extend_from_slice(if parts > 0 { b" URL " } else { b"URL " }),
            Next::End if in_catenate => out.push(b')'),
            Next::End => {}
        }
    }
}

impl Options {
    /// Parses flags and date, each with the space behind it.
    fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut options = Self::default();
        if c.peek() == Some(b'(') {
            options.flags = flags::parse_list(c)?;
            c.sp()?;
        }
        if c.peek() == Some(b'"') {
            options.received = Some(DateTime::parse(c)?);
            c.sp()?;
        }
        Ok(options)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.flags.is_empty() {
            flags::write_list(&self.flags, out);
            out.push(b' ');
        }
        if let Some(received) = self.received {
            received.write(out);
            out.push(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(s: &str) -> Option<Result<Tagged<Append>, Failure>> {
        parse_start(s.as_bytes(), Names::Utf7, s.ends_with("}\r\n"))
    }

    fn ok(s: &str) -> Append {
        start(s).unwrap().unwrap().value
    }

    #[test]
    fn the_message_is_told_from_other_literals() {
        let got = ok("a1 append INBOX (\\Seen) \" 1-Jan-1970 00:00:01 +0000\" {12}\r\n");
        let options = Options {
            flags: vec![Flag::Seen],
            received: Some(DateTime(1)),
        };
        assert_eq!((got.verb, got.mailbox.as_str()), (Verb::Append, "INBOX"));
        assert_eq!(got.segment.steps, [Step::Message(options)]);
        assert_eq!(got.segment.next, Next::Literal(Data::Whole));
        assert_eq!(ok("a append {3}\r\na b {12+}\r\n").mailbox, "a b");
        assert_eq!(ok("a append x ~{12}\r\n").mailbox, "x");
        assert_eq!(ok("a append x UTF8 (~{12}\r\n").segment.next, Next::Literal(Data::Utf8));
        assert_eq!(ok("a append {5}\r\n").segment.next, Next::Accept);
        assert_eq!(ok("a append x catenate (url {5}\r\n").segment.next, Next::Accept);
        for other in ["a login {5}\r\n", "append x {5}\r\n", "{5}\r\n", "a noop"] {
            assert_eq!(start(other), None, "{other:?}");
        }
        for bad in [
            "a append x (\\Seen {5}\r\n",
            "a append x (\\Seen){5}\r\n",
            "a append x",
            "a append x \"text\"",
            "a append x CATENATE ()",
            "a append x CATENATE (TEXT \"x\")",
            "a append x CATENATE (URL \"x\"",
            "a append x CATENATE (URL \"x\") y",
            "a append x UTF8 (URL {1}\r\n",
            "a replace x y {5}\r\n",
            "a replace 0 y {5}\r\n",
        ] {
            assert!(start(bad).unwrap().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn replace_names_a_message() {
        let verb = |number, uid| Verb::Replace { number, uid };
        assert_eq!(ok("a replace * x {5}\r\n").verb, verb(Bound::Largest, false));
        assert_eq!(ok("a uid replace 7 x {5}\r\n").verb, verb(Bound::Number(7), true));
    }

    #[test]
    fn segments_follow_each_other() {
        let parse = |s: &str, place| Segment::parse(s.as_bytes(), Names::Utf7, place, s.ends_with("}\r\n"));
        let url = |u: &str| Step::Url(u.into());
        let message = Step::Message(Options::default());
        let got = ok("a append x CATENATE (URL \"/a;uid=1\" TEXT {5}\r\n").segment;
        assert_eq!(
            (got.steps, got.next),
            (vec![message.clone(), url("/a;uid=1")], Next::Literal(Data::Text))
        );
        let got = parse(" URL b URL c) (\\Seen) {12}\r\n", Place::Catenate).unwrap();
        assert_eq!((got.steps.len(), got.next), (3, Next::Literal(Data::Whole)));
        assert_eq!(parse(")", Place::Catenate).unwrap().next, Next::End);
        assert_eq!(parse(")", Place::Utf8).unwrap().next, Next::End);
        let got = parse(" UTF8 (~{5}\r\n", Place::Catenate).unwrap();
        assert_eq!(got.next, Next::Literal(Data::Utf8Text));
        assert_eq!(parse("))", Place::Utf8Text).unwrap().next, Next::End);
        assert_eq!(parse("", Place::Message).unwrap().next, Next::End);
        assert_eq!(parse(" {3}\r\n", Place::Message).unwrap().steps, [message]);
        for (bad, place) in [
            ("", Place::Utf8),
            ("", Place::Catenate),
            (" x", Place::Message),
            (")", Place::Message),
            ("URL x)", Place::Catenate),
            (" ", Place::Message),
            ("{3}\r\n", Place::Message),
        ] {
            assert!(parse(bad, place).is_err(), "{bad:?} {place:?}");
        }
    }
}
