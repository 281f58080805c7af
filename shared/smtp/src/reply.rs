//! Replies (RFC 5321 §4.2) and enhanced status codes (RFC 2034, RFC 3463).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::limits::REPLY_LINE_SENT;

/// An enhanced status code, as `class.subject.detail` (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A text that is no reply, or no enhanced status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct ReplyError(pub String, pub &'static str);

impl FromStr for Enhanced {
    type Err = ReplyError;

    fn from_str(s: &str) -> Result<Self, ReplyError> {
        // RFC 3463 §2: class is 2, 4 or 5; subject and detail have up to three digits.
        let number = |part: Option<&str>| {
            let part = part.filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))?;
            part.parse::<u16>().ok()
        };
        let mut parts = s.split('.');
        match (
            number(parts.next()),
            number(parts.next()),
            number(parts.next()),
            parts.next(),
        ) {
            (Some(class @ (2 | 4 | 5)), Some(subject), Some(detail), None) => Ok(Self(class as u8, subject, detail)),
            _ => Err(ReplyError(s.to_owned(), "an enhanced status code")),
        }
    }
}

/// A reply. Its text may have several lines, separated by "\n".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits: 2xx done, 3xx go on, 4xx try again later, 5xx never.
    pub code: u16,
    /// Left out where RFC 2034 §4 has none: greeting, EHLO, 3xx.
    pub enhanced: Option<Enhanced>,
    /// For people, mostly.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// With an enhanced code, whose class is that of `code`.
    pub fn new(code: u16, (subject, detail): (u16, u16), text: impl Into<Cow<'static, str>>) -> Self {
        // RFC 2034 §4: the class is that of the code. A code of 3xx has none.
        let enhanced = matches!(code / 100, 2 | 4 | 5).then(|| Enhanced((code / 100) as u8, subject, detail));
        Self {
            code,
            enhanced,
            text: text.into(),
        }
    }

    /// Without an enhanced code.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            enhanced: None,
            text: text.into(),
        }
    }

    /// 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx: the same may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply as it is sent. Lines that are too long are broken, and control characters become spaces, since
    /// texts can have parts that come from elsewhere.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let enhanced = self.enhanced.map(|e| format!("{e} ")).unwrap_or_default();
        let room = REPLY_LINE_SENT - 4 - enhanced.len() - 2;
        let lines: Vec<&str> = self.text.split('\n').flat_map(|line| pieces(line, room)).collect();
        for (i, line) in lines.iter().enumerate() {
            let separator = if i + 1 == lines.len() { b' ' } else { b'-' };
            out.extend_from_slice(&digits(self.code));
            out.push(separator);
            out.extend_from_slice(enhanced.as_bytes());
            out.extend(line.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The lines of the text.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// From the lines of a reply, without their line ends.
    ///
    /// # Errors
    /// If a line has no code, they have different codes, or the last one isn't where it should be.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ReplyError> {
        let mut reply: Option<Self> = None;
        let mut ended = false;
        for line in lines {
            let (code, last, text) = parse_line(line)?;
            let text = String::from_utf8_lossy(text);
            let bad = |what| Err(ReplyError(String::from_utf8_lossy(line).into_owned(), what));
            if ended {
                return bad("a line of the same reply");
            }
            ended = last;
            let (enhanced, rest) = split_enhanced(code, &text);
            match &mut reply {
                None => {
                    reply = Some(Self {
                        code,
                        enhanced,
                        text: rest.to_owned().into(),
                    });
                }
                Some(all) if all.code == code => {
                    // Each line repeats the enhanced code (RFC 2034 §4); a line of EHLO has none.
                    let rest = if enhanced == all.enhanced { rest } else { &text };
                    let joined = all.text.to_mut();
                    joined.push('\n');
                    joined.push_str(rest);
                }
                Some(_) => return bad("a reply line with the code of the line before"),
            }
        }
        match reply {
            Some(reply) if ended => Ok(reply),
            _ => Err(ReplyError(String::new(), "a whole reply")),
        }
    }
}

/// Code, whether it is the last line, text (RFC 5321 §4.2.1).
pub(crate) fn parse_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyError> {
    let bad = || ReplyError(String::from_utf8_lossy(line).into_owned(), "a reply line");
    let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) = line.split_first_chunk().ok_or_else(bad)? else {
        return Err(bad());
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match rest.split_first() {
        // "If there is no text, the space may be absent": old servers do so.
        None => Ok((code, true, b"")),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(bad()),
    }
}

/// The enhanced code in front of a text, if its class fits the reply's code (RFC 2034 §4).
fn split_enhanced(code: u16, text: &str) -> (Option<Enhanced>, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match first.parse::<Enhanced>() {
        Ok(e) if u16::from(e.0) == code / 100 => (Some(e), rest),
        _ => (None, text),
    }
}

/// The code, of three digits whatever happens.
fn digits(code: u16) -> [u8; 3] {
    let code = if (200..600).contains(&code) { code } else { 451 };
    [
        b'0' + (code / 100) as u8,
        b'0' + (code / 10 % 10) as u8,
        b'0' + (code % 10) as u8,
    ]
}

/// A line in pieces of at most `room` octets, not within a character, at a space if there is one.
fn pieces(mut line: &str, room: usize) -> Vec<&str> {
    let mut out = Vec::new();
    while line.len() > room {
        let at = line.floor_char_boundary(room);
        let at = line[..at].rfind(' ').filter(|&i| i > 0).unwrap_or(at);
        out.push(&line[..at]);
        line = line[at..].trim_start_matches(' ');
    }
    out.push(line);
    out
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.lines() {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn read(text: &str) -> Result<Reply, ReplyError> {
        Reply::parse(text.split("\r\n").filter(|l| !l.is_empty()).map(str::as_bytes))
    }

    #[test]
    fn replies_are_written() {
        assert_eq!(written(&Reply::new(250, (2, 0), "ok")), "250 2.2.0 ok\r\n");
        assert_eq!(written(&Reply::new(354, (0, 0), "go on")), "354 go on\r\n");
        assert_eq!(written(&Reply::plain(250, "a\nB C")), "250-a\r\n250 B C\r\n");
        assert_eq!(
            written(&Reply::new(550, (1, 1), "no\r\tsuch\nuser")),
            "550-5.1.1 no  such\r\n550 5.1.1 user\r\n"
        );
        let long = written(&Reply::new(550, (0, 0), "é ".repeat(600)));
        assert!(long.lines().count() > 2);
        assert!(long.split_inclusive("\r\n").all(|l| l.len() <= REPLY_LINE_SENT));
    }

    #[test]
    fn replies_are_read() {
        assert_eq!(read("250 2.1.5 fine").unwrap(), Reply::new(250, (1, 5), "fine"));
        assert_eq!(read("250").unwrap(), Reply::plain(250, ""));
        assert_eq!(
            read("250-a.example hi\r\n250-SIZE 1\r\n250 DSN").unwrap(),
            Reply::plain(250, "a.example hi\nSIZE 1\nDSN")
        );
        assert_eq!(
            read("550-5.1.1 a\r\n550 5.1.1 b").unwrap(),
            Reply::new(550, (1, 1), "a\nb")
        );
        // A class that is not the code's is text.
        assert_eq!(read("250 5.1.1 a").unwrap(), Reply::plain(250, "5.1.1 a"));
        for bad in [
            "",
            "25",
            "abc d",
            "150 x",
            "650 x",
            "250x",
            "250-a",
            "250-a\r\n251 b",
            "250 a\r\n250 b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn enhanced_codes() {
        assert_eq!("5.7.1".parse(), Ok(Enhanced(5, 7, 1)));
        for bad in ["", "5.7", "3.7.1", "5.7.1.2", "5.7.1000", "5..1", "5.+7.1"] {
            assert!(bad.parse::<Enhanced>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(code in prop::sample::select(vec![250u16, 354, 421, 550]), text in "[a-zA-Z][ -~]{0,40}(\n[a-zA-Z][ -~]{0,40}){0,3}") {
            let reply = Reply::new(code, (1, 2), text);
            prop_assert_eq!(read(&written(&reply)).unwrap(), reply);
        }

        #[test]
        fn no_lines_make_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4)) {
            let _ = Reply::parse(lines.iter().map(Vec::as_slice));
        }
    }
}
