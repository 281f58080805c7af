//! Raw header fields (RFC 5322 §2.2).

use std::borrow::Cow;

use memchr::{memchr, memchr3};

/// One header field as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, without the colon and white space before it.
    pub name: &'a [u8],
    /// What follows the colon, folded as written, without the line end.
    pub raw: &'a [u8],
    /// Offset of the first octet of the name.
    pub start: usize,
    /// Offset after the field's line end.
    pub end: usize,
}

impl<'a> Field<'a> {
    /// Whether this is the field of that name, in any case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value unfolded, without white space around it.
    #[must_use]
    pub fn value(&self) -> Cow<'a, [u8]> {
        unfold(self.raw)
    }

    /// The value as text, with encoded words (RFC 2047) decoded.
    #[must_use]
    pub fn text(&self) -> String {
        crate::decode_header(&self.value())
    }
}

/// Header fields from the top. Lines that are no fields are passed over; see [`headers`].
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    message: &'a [u8],
    position: usize,
    done: bool,
}

impl Headers<'_> {
    /// After the iterator has ended: the offset of the first octet after the empty line, or the end of the message if
    /// there is none.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

/// The header fields of a message, in order. Lines may end in CRLF or LF. A line that is neither a field nor the
/// continuation of one (such as the "From " of an mbox file) is passed over. The header ends at the empty line.
#[must_use]
pub fn headers(message: &[u8]) -> Headers<'_> {
    Headers {
        message,
        position: 0,
        done: false,
    }
}

/// Offset of the body: the first octet after the empty line, or the length of the message if there is none.
#[must_use]
pub fn header_end(message: &[u8]) -> usize {
    let mut position = 0;
    while position < message.len() {
        let next = line_end(message, position);
        if is_empty_line(&message[position..next]) {
            return next;
        }
        position = next;
    }
    position
}

/// Offset after the line that starts at `from`.
pub(crate) fn line_end(message: &[u8], from: usize) -> usize {
    memchr(b'\n', &message[from..]).map_or(message.len(), |n| from + n + 1)
}

/// Whether a line, with its end, is empty.
pub(crate) fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// The line without its end.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Splits a line at its colon, if what stands before is a field name (RFC 5322 §2.2, with the white space before the
/// colon of §4.5).
pub(crate) fn field_name(line: &[u8]) -> Option<(&[u8], usize)> {
    let colon = memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let valid = !name.is_empty() && name.iter().all(|b| (33..=126).contains(b));
    valid.then_some((name, colon + 1))
}

impl<'a> Iterator for Headers<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.done && self.position < self.message.len() {
            let start = self.position;
            let mut end = line_end(self.message, start);
            self.position = end;
            let line = &self.message[start..end];
            if is_empty_line(line) {
                self.done = true;
                return None;
            }
            if line[0].is_ascii_whitespace() {
                continue; // continues nothing
            }
            while end < self.message.len() && matches!(self.message[end], b' ' | b'\t') {
                end = line_end(self.message, end);
            }
            self.position = end;
            if let Some((name, value)) = field_name(line) {
                return Some(Field {
                    name,
                    raw: without_line_end(&self.message[start + value..end]),
                    start,
                    end,
                });
            }
        }
        None
    }
}

/// Removes folding (RFC 5322 §2.2.3), and what may not stand in a header at all: further CR, LF and NUL. White space
/// at both ends goes too.
#[must_use]
pub fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    let raw = raw.trim_ascii();
    if memchr3(b'\r', b'\n', 0, raw).is_none() {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(
        raw.iter()
            .copied()
            .filter(|b| !matches!(b, b'\r' | b'\n' | 0))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &str) -> Vec<(String, String)> {
        headers(message.as_bytes())
            .map(|f| {
                (
                    String::from_utf8_lossy(f.name).into(),
                    String::from_utf8_lossy(&f.value()).into(),
                )
            })
            .collect()
    }

    #[test]
    fn fields_are_unfolded_and_odd_lines_passed_over() {
        let m = "From me Sat Jan 1\r\nSubject : a\r\n\tb\r\n  c \r\nnonsense\r\n x\r\nTo:\r\nX: 1\n\nBody: no\r\n";
        assert_eq!(
            all(m),
            [
                ("Subject".into(), "a\tb  c".into()),
                ("To".into(), String::new()),
                ("X".into(), "1".into())
            ]
        );
        assert_eq!(&m[header_end(m.as_bytes())..], "Body: no\r\n");
        let mut fields = headers(m.as_bytes());
        fields.by_ref().for_each(drop);
        assert_eq!(fields.position(), header_end(m.as_bytes()));
    }

    #[test]
    fn a_message_may_be_header_only_or_empty() {
        assert_eq!(all(""), []);
        assert_eq!(all("\r\nA: b\r\n"), []);
        assert_eq!(all("A: b"), [("A".into(), "b".into())]);
        assert_eq!(header_end(b"A: b"), 4);
    }

    #[test]
    fn offsets_cover_the_whole_field() {
        let m = b"A: 1\r\nB: 2\r\n 3\r\nC: 4\r\n\r\n";
        let b = headers(m).find(|f| f.is("b")).unwrap();
        assert_eq!(&m[b.start..b.end], b"B: 2\r\n 3\r\n");
        assert_eq!(b.raw, b" 2\r\n 3");
    }

    proptest::proptest! {
        #[test]
        fn fields_lie_in_order_within_the_header(m in proptest::collection::vec(
            proptest::sample::select(&b"aB: \t\r\n\x00-\xff"[..]), 0..200)) {
            let (mut last, body) = (0, header_end(&m));
            for f in headers(&m) {
                assert!(f.start >= last && f.end > f.start && f.end <= body);
                last = f.end;
            }
        }
    }
}
