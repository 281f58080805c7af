//! Where a command ends: lines, and the literals between them.
//!
//! The buffer of the connection starts with the command. When a line announces a literal, the caller decides: it
//! [accepts](Framer::accept) it into the command, or takes [what came before](Framer::take_start) and reads the
//! literal's octets itself, as for the message of an APPEND, or refuses it.

use bytes::{Bytes, BytesMut};

use crate::limits;

/// What a line's end says about the literal that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiteralHeader {
    /// In octets.
    pub size: u64,
    /// The client waits for a continuation; without, it sends at once (RFC 7888).
    pub synchronizing: bool,
    /// It may hold NUL (RFC 3516).
    pub binary: bool,
}

/// What the buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Neither a command nor a literal's announcement yet.
    NeedMore,
    /// A whole command with its literals, without its line end.
    Command(Bytes),
    /// A line ended in a literal: decide.
    Literal(LiteralHeader),
}

/// Why the connection can't go on, as it can't be known where the next command starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// More than [`limits::COMMAND_TEXT`].
    #[error("the command line is too long")]
    TooLong,
    /// More than the caller allows, or more than [`limits::LITERAL_COUNT`].
    #[error("the literals of the command are too large")]
    Literals,
}

#[derive(Debug)]
enum State {
    /// Looking for a line end.
    Line,
    /// A literal was announced; it starts at `line_start`.
    Announced(LiteralHeader),
    /// The literal ends, and the next line starts, at `line_start`.
    Literal,
}

/// Finds commands in a connection's buffer.
#[derive(Debug)]
pub struct Framer {
    state: State,
    line_start: usize,
    scanned: usize,
    text: usize,
    literals: usize,
    count: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self {
            state: State::Line,
            line_start: 0,
            scanned: 0,
            text: 0,
            literals: 0,
            count: 0,
        }
    }
}

impl Framer {
    /// Looks at what `buffer` holds now; takes a whole command from it.
    ///
    /// # Errors
    /// If the command is larger than commands may be.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Event, FramingError> {
        match self.state {
            State::Announced(header) => return Ok(Event::Literal(header)),
            State::Literal if buffer.len() < self.line_start => return Ok(Event::NeedMore),
            State::Literal => {
                self.state = State::Line;
                self.scanned = self.line_start;
            }
            State::Line => {}
        }
        let Some(found) = memchr::memchr(b'\n', buffer.get(self.scanned..).unwrap_or_default()) else {
            self.scanned = buffer.len();
            return if self.text + (buffer.len() - self.line_start) > limits::COMMAND_TEXT {
                Err(FramingError::TooLong)
            } else {
                Ok(Event::NeedMore)
            };
        };
        let line_end = self.scanned + found;
        self.text += line_end - self.line_start;
        if self.text > limits::COMMAND_TEXT {
            return Err(FramingError::TooLong);
        }
        let line = &buffer[self.line_start..line_end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(header) = literal_at_end(line) {
            self.line_start = line_end + 1;
            self.state = State::Announced(header);
            return Ok(Event::Literal(header));
        }
        let length = self.line_start + line.len();
        let mut command = buffer.split_to(line_end + 1);
        command.truncate(length);
        *self = Self::default();
        Ok(Event::Command(command.freeze()))
    }

    /// Takes the announced literal into the command, if all literals then have at most `most` octets.
    ///
    /// # Errors
    /// If they have more, or there are too many.
    pub fn accept(&mut self, most: usize) -> Result<(), FramingError> {
        if let State::Announced(header) = self.state {
            let size = usize::try_from(header.size).map_err(|_| FramingError::Literals)?;
            self.literals = self.literals.saturating_add(size);
            self.count += 1;
            if self.literals > most || self.count > limits::LITERAL_COUNT {
                return Err(FramingError::Literals);
            }
            self.line_start += size;
            self.state = State::Literal;
        }
        Ok(())
    }

    /// The command as far as it is known, its last line ending in the announcement of a literal.
    #[must_use]
    pub fn start<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(..self.line_start).unwrap_or_default()
    }

    /// Takes [`Framer::start`] off the buffer: what the buffer holds then is the literal, which is the caller's to
    /// read; after it, a new line starts.
    pub fn take_start(&mut self, buffer: &mut BytesMut) -> Bytes {
        let start = buffer.split_to(self.line_start.min(buffer.len())).freeze();
        *self = Self::default();
        start
    }

    /// Whether no part of a command has arrived.
    #[must_use]
    pub fn is_idle(&self, buffer: &[u8]) -> bool {
        buffer.is_empty() && matches!(self.state, State::Line) && self.line_start == 0
    }
}

/// Takes one line without its end from `buffer`: what answers a continuation.
///
/// # Errors
/// If it has more than `most` octets.
pub fn take_line(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, FramingError> {
    match memchr::memchr(b'\n', buffer) {
        None if buffer.len() > most => Err(FramingError::TooLong),
        None => Ok(None),
        Some(end) if end > most => Err(FramingError::TooLong),
        Some(end) => {
            let mut line = buffer.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            Ok(Some(line.freeze()))
        }
    }
}

/// RFC 9051 §9, literal and literal8, without the line end: `{12}`, `{12+}`, `~{12}`.
fn literal_at_end(line: &[u8]) -> Option<LiteralHeader> {
    let line = line.strip_suffix(b"}")?;
    let (line, synchronizing) = match line.strip_suffix(b"+") {
        Some(line) => (line, false),
        None => (line, true),
    };
    let open = line.iter().rposition(|&b| b == b'{')?;
    let digits = std::str::from_utf8(&line[open + 1..]).ok()?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // What doesn't fit is larger than any limit.
    let size = digits.parse().unwrap_or(u64::MAX);
    let binary = open.checked_sub(1).and_then(|i| line.get(i)) == Some(&b'~');
    Some(LiteralHeader {
        size,
        synchronizing,
        binary,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(input: &[u8], piece: usize) -> Vec<Event> {
        let mut framer = Framer::default();
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for chunk in input.chunks(piece.max(1)) {
            buffer.extend_from_slice(chunk);
            loop {
                match framer.next(&mut buffer) {
                    Ok(Event::NeedMore) => break,
                    Ok(Event::Literal(h)) => {
                        out.push(Event::Literal(h));
                        if framer.accept(1000).is_err() {
                            return out;
                        }
                    }
                    Ok(event) => out.push(event),
                    Err(_) => return out,
                }
            }
        }
        out
    }

    #[test]
    fn commands_are_found_in_any_pieces() {
        let input = b"a noop\r\nb login {3}\r\nx\r\n {1+}\r\ny\r\nc idle\nDONE\r\n";
        for piece in 1..input.len() {
            let commands: Vec<_> = all(input, piece)
                .into_iter()
                .filter_map(|e| if let Event::Command(c) = e { Some(c) } else { None })
                .collect();
            assert_eq!(
                commands,
                [&b"a noop"[..], b"b login {3}\r\nx\r\n {1+}\r\ny", b"c idle", b"DONE"],
                "{piece}"
            );
        }
    }

    #[test]
    fn a_literal_is_read_from_the_end_of_a_line() {
        let h = |size, synchronizing, binary| {
            Some(LiteralHeader {
                size,
                synchronizing,
                binary,
            })
        };
        assert_eq!(literal_at_end(b"a append x {12}"), h(12, true, false));
        assert_eq!(literal_at_end(b"a append x ~{12+}"), h(12, false, true));
        assert_eq!(literal_at_end(b"{99999999999999999999}"), h(u64::MAX, true, false));
        for none in [&b"{}"[..], b"{a}", b"}", b"12}", b"{12} ", b"{-1}", b"\"{1}\""] {
            assert_eq!(literal_at_end(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut framer = Framer::default();
        let mut buffer = BytesMut::from(&vec![b'x'; limits::COMMAND_TEXT + 1][..]);
        assert_eq!(framer.next(&mut buffer), Err(FramingError::TooLong));

        let mut framer = Framer::default();
        let mut buffer = BytesMut::from(&b"a x {11}\r\n"[..]);
        assert!(matches!(framer.next(&mut buffer), Ok(Event::Literal(_))));
        assert_eq!(framer.accept(10), Err(FramingError::Literals));
    }

    #[test]
    fn a_literal_can_be_left_to_the_caller() {
        let mut framer = Framer::default();
        let mut buffer = BytesMut::from(&b"a append x {3}\r\nabc\r\nb noop\r\n"[..]);
        assert!(matches!(framer.next(&mut buffer), Ok(Event::Literal(_))));
        assert_eq!(framer.start(&buffer), b"a append x {3}\r\n");
        assert_eq!(framer.take_start(&mut buffer), &b"a append x {3}\r\n"[..]);
        assert_eq!(buffer.split_to(3), &b"abc"[..]);
        assert_eq!(framer.next(&mut buffer), Ok(Event::Command(Bytes::new())));
        assert_eq!(
            framer.next(&mut buffer),
            Ok(Event::Command(Bytes::from_static(b"b noop")))
        );
    }

    #[test]
    fn lines_answer_continuations() {
        let mut buffer = BytesMut::from(&b"abc\r\nDONE\nx"[..]);
        assert_eq!(take_line(&mut buffer, 10), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(take_line(&mut buffer, 10), Ok(Some(Bytes::from_static(b"DONE"))));
        assert_eq!(take_line(&mut buffer, 10), Ok(None));
        assert_eq!(take_line(&mut buffer, 0), Err(FramingError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_framed_alike_in_any_pieces(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'{'), Just(b'}'), Just(b'1'), any::<u8>()], 0..200),
            piece in 1usize..20,
        ) {
            prop_assert_eq!(all(&input, piece), all(&input, input.len()));
        }
    }
}
