//! The transparency of DATA (RFC 5321 §4.5.2), both ways.

use memchr::{memchr, memchr2};

/// What is done about line ends that are not CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// A bare CR or LF makes the message faulty. It is still read to its real end, so that what follows can't be taken
    /// for commands (SMTP smuggling).
    Strict,
    /// A bare LF becomes CRLF. It never is part of the end, and a dot after it is no stuffing. A bare CR is a fault.
    Mend,
}

/// What is wrong with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 5321 §2.3.8 forbids it.
    #[error("a CR that is not followed by LF")]
    BareCr,
    /// RFC 5321 §2.3.8 forbids it.
    #[error("a LF that does not follow a CR")]
    BareLf,
}

/// What finds a message in what a connection brings: that of DATA, or of BDAT.
pub trait Decode {
    /// Whether there is nothing more to come: reading on would take what is not the message's.
    fn is_done(&self) -> bool;

    /// Decodes as much of `input` as can be given on as one slice. To be called until everything is consumed, or the
    /// end is there.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a>;
}

/// The receiving side: takes what came in, gives what the message is.
#[derive(Debug)]
pub struct DataDecoder {
    lines: Lines,
    state: State,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After CRLF, or at the start.
    LineStart,
    /// Within a line.
    Line,
    /// After a CR that was given on.
    Cr,
    /// After a dot at the start of a line, which was held back.
    Dot,
    /// After such a dot and a CR, both held back.
    DotCr,
    /// After the end.
    Done,
}

/// A step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The next octets of the message; may be empty.
    pub data: &'a [u8],
    /// Octets of the input that were used up. The rest is to be given again.
    pub consumed: usize,
    /// Whether the end was reached: what is left of the input is not the message's.
    pub done: bool,
}

impl DataDecoder {
    /// At the start of a message.
    #[must_use]
    pub fn new(lines: Lines) -> Self {
        Self {
            lines,
            state: State::LineStart,
            fault: None,
        }
    }

    /// The first fault that was found, up to now.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// See [`Decode::decode`].
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        let mut at = 0;
        let given = |data, consumed| Decoded {
            data,
            consumed,
            done: false,
        };
        while let Some(&octet) = input.get(at) {
            match (self.state, octet) {
                (State::LineStart, b'.') => {
                    // Neither the stuffed dot nor the one of the end is part of the message.
                    self.state = State::Dot;
                    return given(&input[..at], at + 1);
                }
                (State::LineStart, _) => self.state = State::Line,
                (State::Line, _) => match memchr2(b'\r', b'\n', &input[at..]) {
                    None => return given(input, input.len()),
                    Some(skip) if input[at + skip] == b'\r' => {
                        at += skip + 1;
                        self.state = State::Cr;
                    }
                    Some(skip) => {
                        at += skip;
                        match self.lines {
                            Lines::Strict => {
                                self.fault.get_or_insert(Fault::BareLf);
                                at += 1;
                            }
                            Lines::Mend if at > 0 => return given(&input[..at], at),
                            Lines::Mend => return given(b"\r\n", 1),
                        }
                    }
                },
                (State::Cr, b'\n') => {
                    at += 1;
                    self.state = State::LineStart;
                }
                (State::Cr, _) => {
                    self.fault.get_or_insert(Fault::BareCr);
                    self.state = State::Line;
                }
                // The held-back octets come first in what is left: `at` is 0 here, as each held-back one ended a call.
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    return given(&[], 1);
                }
                (State::Dot, _) => self.state = State::Line,
                (State::DotCr, b'\n') => {
                    self.state = State::Done;
                    return Decoded {
                        data: &[],
                        consumed: 1,
                        done: true,
                    };
                }
                (State::DotCr, _) => {
                    self.fault.get_or_insert(Fault::BareCr);
                    self.state = State::Line;
                    return given(b"\r", 0);
                }
                (State::Done, _) => {
                    return Decoded {
                        data: &[],
                        consumed: 0,
                        done: true,
                    };
                }
            }
        }
        given(input, input.len())
    }
}

impl Decode for DataDecoder {
    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        self.decode(input)
    }
}

/// The sending side: takes a message in pieces, and appends what is to be sent.
#[derive(Debug)]
pub struct DataEncoder {
    line_start: bool,
    last_cr: bool,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// At the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            line_start: true,
            last_cr: false,
        }
    }

    /// Appends `data` to `out`, with a dot before each dot at the start of a line.
    ///
    /// Line ends are left as they are, except for a bare LF, which becomes CRLF: nothing that we send can end a message
    /// anywhere but where it ends.
    pub fn encode(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        out.reserve(data.len() + data.len() / 64);
        while let Some(&first) = data.first() {
            if self.line_start && first == b'.' {
                out.push(b'.');
            }
            let Some(lf) = memchr(b'\n', data) else {
                out.extend_from_slice(data);
                self.line_start = false;
                self.last_cr = data.last() == Some(&b'\r');
                return;
            };
            let after_cr = if lf == 0 { self.last_cr } else { data[lf - 1] == b'\r' };
            out.extend_from_slice(&data[..lf]);
            out.extend_from_slice(if after_cr { b"\n" } else { b"\r\n" });
            data = &data[lf + 1..];
            self.line_start = true;
            self.last_cr = false;
        }
    }

    /// Appends the end, with a line end before it if the message has none.
    pub fn finish(self, out: &mut Vec<u8>) {
        // A CR at the very end of the message gets its LF.
        let end: &[u8] = match (self.line_start, self.last_cr) {
            (true, _) => b".\r\n",
            (false, true) => b"\n.\r\n",
            (false, false) => b"\r\n.\r\n",
        };
        out.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Message, what follows it, fault; with the input in pieces of `piece` octets. None without an end.
    fn decode(input: &[u8], lines: Lines, piece: usize) -> Option<(Vec<u8>, Vec<u8>, Option<Fault>)> {
        let mut decoder = DataDecoder::new(lines);
        let mut message = Vec::new();
        let mut start = 0;
        while start < input.len() {
            let end = (start + piece).min(input.len());
            while start < end {
                let step = decoder.decode(&input[start..end]);
                message.extend_from_slice(step.data);
                start += step.consumed;
                if step.done {
                    return Some((message, input[start..].to_vec(), decoder.fault()));
                }
            }
        }
        None
    }

    fn all(input: &str, lines: Lines) -> Option<(String, String, Option<Fault>)> {
        let whole = decode(input.as_bytes(), lines, usize::MAX / 2);
        for piece in 1..8 {
            assert_eq!(
                decode(input.as_bytes(), lines, piece),
                whole,
                "{input:?} in pieces of {piece}"
            );
        }
        whole.map(|(m, r, f)| (String::from_utf8(m).unwrap(), String::from_utf8(r).unwrap(), f))
    }

    fn message(m: &str, rest: &str, fault: Option<Fault>) -> Option<(String, String, Option<Fault>)> {
        Some((m.into(), rest.into(), fault))
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found() {
        let strict = |s| all(s, Lines::Strict);
        assert_eq!(strict(".\r\nQUIT\r\n"), message("", "QUIT\r\n", None));
        assert_eq!(strict("a\r\n.\r\nb"), message("a\r\n", "b", None));
        assert_eq!(
            strict("..\r\n...a\r\nb.\r\n.\r\n"),
            message(".\r\n..a\r\nb.\r\n", "", None)
        );
        assert_eq!(strict(".a\r\n.\r\n"), message("a\r\n", "", None));
        assert_eq!(strict("\r\n\r\n.\r\n.\r\n"), message("\r\n\r\n", ".\r\n", None));
        assert_eq!(strict("a\r\n."), None);
        assert_eq!(strict("a.\r\n"), None);
    }

    #[test]
    fn nothing_else_is_an_end() {
        use Fault::{BareCr, BareLf};
        for (input, faulty, fault) in [
            ("a\n.\n\r\n.\r\n", "a\n.\n\r\n", BareLf),
            ("a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", BareLf),
            ("a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", BareLf),
            ("a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", BareCr),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", BareCr),
            ("a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\n", BareCr),
            ("a\r\r\n.\r\n", "a\r\r\n", BareCr),
            ("a\n\r\n.\r\n", "a\n\r\n", BareLf),
        ] {
            assert_eq!(all(input, Lines::Strict), message(faulty, "", Some(fault)), "{input:?}");
        }
    }

    #[test]
    fn bare_lf_is_mended_and_bare_cr_is_not() {
        let mend = |s| all(s, Lines::Mend);
        assert_eq!(mend("a\nb\n\nc\r\n.\r\n"), message("a\r\nb\r\n\r\nc\r\n", "", None));
        assert_eq!(mend("\na\n.\n.b\r\n.\r\n"), message("\r\na\r\n.\r\n.b\r\n", "", None));
        assert_eq!(mend("a\n.\r\nb\r\n.\r\n"), message("a\r\n.\r\nb\r\n", "", None));
        assert_eq!(mend("a\rb\r\n.\r\n"), message("a\rb\r\n", "", Some(Fault::BareCr)));
    }

    fn encode(data: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = DataEncoder::new();
        for part in data.chunks(piece) {
            encoder.encode(part, &mut out);
        }
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn dots_are_stuffed_and_the_end_is_added() {
        for (data, sent) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n..a\r\nb.\r\n", "..\r\n...a\r\nb.\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
        ] {
            for piece in 1..5 {
                assert_eq!(encode(data.as_bytes(), piece), sent.as_bytes(), "{data:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_message_arrives_as_it_was(lines in prop::collection::vec("\\.{0,2}[a-c.]{0,4}", 0..8), piece in 1usize..9, other in 1usize..9) {
            let message: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let mut sent = encode(message.as_bytes(), piece);
            sent.extend_from_slice(b"QUIT\r\n");
            let (received, rest, fault) = decode(&sent, Lines::Strict, other).unwrap();
            prop_assert_eq!(received, message.as_bytes());
            prop_assert_eq!(rest, b"QUIT\r\n");
            prop_assert_eq!(fault, None);
        }

        #[test]
        fn any_octets_are_sent_without_an_early_end(data in prop::collection::vec(prop::sample::select(b"\r\n.a".to_vec()), 0..20), piece in 1usize..9) {
            let sent = encode(&data, piece);
            let (_, rest, _) = decode(&sent, Lines::Mend, usize::MAX / 2).unwrap();
            prop_assert_eq!(rest, b"");
        }

        #[test]
        fn pieces_make_no_difference(data in prop::collection::vec(prop::sample::select(b"\r\n.a".to_vec()), 0..24), piece in 1usize..9) {
            for lines in [Lines::Strict, Lines::Mend] {
                prop_assert_eq!(decode(&data, lines, piece), decode(&data, lines, usize::MAX / 2));
            }
        }

        #[test]
        fn the_end_is_where_a_search_finds_it(data in prop::collection::vec(prop::sample::select(b"\r\n.a".to_vec()), 0..24)) {
            let framed = [b"\r\n", &data[..]].concat();
            let found = framed.windows(5).position(|w| w == b"\r\n.\r\n").map(|i| i + 5 - 2);
            let decoded = decode(&data, Lines::Strict, usize::MAX / 2).map(|(_, rest, _)| data.len() - rest.len());
            prop_assert_eq!(decoded, found);
        }
    }
}
