//! APPEND up to its message (RFC 9051 §6.3.12).
//!
//! The message is a literal that is streamed, so what is parsed here is the command as it stands when its literal is
//! announced.

use crate::command::Tagged;
use crate::cursor::{Cursor, Names};
use crate::datetime::DateTime;
use crate::error::ParseError;
use crate::flags::{self, Flag};
use crate::mailbox;

/// What comes before the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub mailbox: String,
    /// With which flags.
    pub flags: Vec<Flag>,
    /// Its INTERNALDATE.
    pub received: Option<DateTime>,
}

/// Parses the start of a command whose last line announces a literal. Nothing, if that literal is not the message of
/// an APPEND: the command is another, or the literal is the mailbox's name, or it is not well formed, which will be
/// found when all of it is parsed.
#[must_use]
pub fn parse_start(start: &[u8], names: Names) -> Option<Tagged<Append>> {
    // Without the literal's announcement.
    let open = start.iter().rposition(|&b| b == b'{')?;
    let before = start.get(..open)?;
    let before = before.strip_suffix(b"~").unwrap_or(before);
    let mut c = Cursor::new(before, names);
    let tag = c.tag().ok()?.to_owned();
    c.sp().ok()?;
    if !c.take_word("APPEND ") {
        return None;
    }
    let append = Append::parse(&mut c).ok()?;
    c.end().ok()?;
    Some(Tagged { tag, value: append })
}

impl Append {
    /// Parses the mailbox, flags and date, and the space before the message.
    fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mailbox = mailbox::parse(c)?;
        c.sp()?;
        let mut append = Self {
            mailbox,
            flags: Vec::new(),
            received: None,
        };
        if c.peek() == Some(b'(') {
            append.flags = flags::parse_list(c)?;
            c.sp()?;
        }
        if c.peek() == Some(b'"') {
            append.received = Some(DateTime::parse(c)?);
            c.sp()?;
        }
        Ok(append)
    }

    /// Serializes the command's name and what comes before the message, with the space before its literal.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        out.extend_from_slice(b"APPEND ");
        mailbox::write(&self.mailbox, names, out);
        out.push(b' ');
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

    #[test]
    fn the_message_is_told_from_other_literals() {
        let parse = |s: &str| parse_start(s.as_bytes(), Names::Utf7);
        let got = parse("a1 append INBOX (\\Seen) \" 1-Jan-1970 00:00:01 +0000\" {12}\r\n").unwrap();
        assert_eq!(got.tag, "a1");
        let want = Append {
            mailbox: "INBOX".into(),
            flags: vec![Flag::Seen],
            received: Some(DateTime(1)),
        };
        assert_eq!(got.value, want);
        assert_eq!(parse("a append {3}\r\na b {12+}\r\n").unwrap().value.mailbox, "a b");
        assert_eq!(parse("a append x ~{12}\r\n").unwrap().value.mailbox, "x");
        for other in [
            "a append {5}\r\n",
            "a login {5}\r\n",
            "a append x (\\Seen {5}\r\n",
            "append x {5}\r\n",
            "{5}\r\n",
        ] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
