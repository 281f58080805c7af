//! The chunks of BDAT (RFC 3030), the server's side.
//!
//! A chunk is as many octets as its command says, whatever they are. Without BINARYMIME, the chunks together are a
//! message of lines, so they are held to the same rules as DATA: what would be a fault there is one here.

use memchr::memchr2;

use crate::data::{Decode, Decoded, Fault, Lines};

/// The receiving side: takes the octets of one chunk after the other, gives what the message is.
#[derive(Debug)]
pub struct ChunkDecoder {
    lines: Lines,
    /// Octets of the chunk that are still to come.
    open: u64,
    /// The last octet was a CR, and was given on.
    after_cr: bool,
    /// The last octets were a line end, or there were none yet.
    at_line_start: bool,
    fault: Option<Fault>,
}

impl ChunkDecoder {
    /// At the start of a message, before its first chunk.
    #[must_use]
    pub fn new(lines: Lines) -> Self {
        Self {
            lines,
            open: 0,
            after_cr: false,
            at_line_start: true,
            fault: None,
        }
    }

    /// A chunk of so many octets follows.
    pub fn begin(&mut self, octets: u64) {
        self.open = octets;
    }

    /// The first fault that was found, up to now.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// What is missing at the end of the message, once its last chunk was read: nothing, or its last line's end, which
    /// DATA can't be without (RFC 5321 §2.3.8), and which signatures count as there (RFC 6376 §3.4.3).
    pub fn finish(&mut self) -> &'static [u8] {
        match (self.at_line_start, self.after_cr) {
            (true, _) => b"",
            (false, false) => b"\r\n",
            (false, true) => b"\n",
        }
    }
}

impl Decode for ChunkDecoder {
    fn is_done(&self) -> bool {
        self.open == 0
    }

    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        let length = usize::try_from(self.open).unwrap_or(usize::MAX).min(input.len());
        let chunk = &input[..length];
        let mut at = 0;
        let given = |decoder: &mut Self, data: &'a [u8], consumed: usize| {
            decoder.open -= consumed as u64;
            Decoded {
                data,
                consumed,
                // What is given with the last octet is still to be taken.
                done: decoder.open == 0 && data.is_empty(),
            }
        };
        if let Some(first) = chunk.first()
            && std::mem::take(&mut self.after_cr)
        {
            if *first == b'\n' {
                self.at_line_start = true;
                return given(self, &chunk[..1], 1);
            }
            self.fault.get_or_insert(Fault::BareCr);
        }
        while let Some(found) = memchr2(b'\r', b'\n', &chunk[at..]) {
            let place = at + found;
            if chunk[place] == b'\n' {
                match self.lines {
                    Lines::Strict => {
                        self.fault.get_or_insert(Fault::BareLf);
                        at = place + 1;
                        self.at_line_start = true;
                    }
                    Lines::Mend if place > 0 => {
                        self.at_line_start = at == place && self.at_line_start;
                        return given(self, &chunk[..place], place);
                    }
                    Lines::Mend => {
                        self.at_line_start = true;
                        return given(self, b"\r\n", 1);
                    }
                }
                continue;
            }
            match chunk.get(place + 1) {
                Some(b'\n') => {
                    at = place + 2;
                    self.at_line_start = true;
                }
                Some(_) => {
                    self.fault.get_or_insert(Fault::BareCr);
                    at = place + 1;
                    self.at_line_start = false;
                }
                None => {
                    at = place + 1;
                    self.after_cr = true;
                    self.at_line_start = false;
                }
            }
        }
        if at < chunk.len() {
            self.at_line_start = false;
        }
        given(self, chunk, chunk.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The message, its fault, and what of the input is left.
    fn decode(lines: Lines, chunks: &[&[u8]], piece: usize) -> (Vec<u8>, Option<Fault>) {
        let mut decoder = ChunkDecoder::new(lines);
        let mut message = Vec::new();
        for chunk in chunks {
            // What follows a chunk is not its own.
            let input = [chunk, &b"NOOP\r\n"[..]].concat();
            decoder.begin(chunk.len() as u64);
            let mut at = 0;
            while !decoder.is_done() {
                let end = (at + piece).min(input.len());
                let step = decoder.decode(&input[at..end]);
                message.extend_from_slice(step.data);
                at += step.consumed;
            }
            assert_eq!(at, chunk.len());
        }
        message.extend_from_slice(decoder.finish());
        (message, decoder.fault())
    }

    #[test]
    fn chunks_are_taken_as_they_are() {
        for piece in [1, 2, 3, 100] {
            let read = |chunks: &[&[u8]]| decode(Lines::Strict, chunks, piece);
            assert_eq!(
                read(&[b"a\r\n.\r\n", b"..b\r\n"]),
                (b"a\r\n.\r\n..b\r\n".to_vec(), None)
            );
            assert_eq!(read(&[b"a\r", b"\nb\r\n"]), (b"a\r\nb\r\n".to_vec(), None));
            assert_eq!(read(&[b"", b"a", b""]), (b"a\r\n".to_vec(), None));
            assert_eq!(read(&[b"a\r"]), (b"a\r\n".to_vec(), None));
            assert_eq!(read(&[b""]), (Vec::new(), None));
            assert_eq!(read(&[b"a\nb\r\n"]).1, Some(Fault::BareLf));
            assert_eq!(read(&[b"a\r", b"b\r\n"]).1, Some(Fault::BareCr));
            assert_eq!(read(&[b"a\r\rb\r\n"]).1, Some(Fault::BareCr));
        }
    }

    #[test]
    fn line_ends_are_mended_for_users() {
        for piece in [1, 2, 3, 100] {
            let read = |chunks: &[&[u8]]| decode(Lines::Mend, chunks, piece);
            assert_eq!(read(&[b"a\nb\n", b"\nc\r\n"]), (b"a\r\nb\r\n\r\nc\r\n".to_vec(), None));
            assert_eq!(read(&[b"a\n.\n"]), (b"a\r\n.\r\n".to_vec(), None));
            assert_eq!(read(&[b"\n"]), (b"\r\n".to_vec(), None));
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(parts in prop::collection::vec("[ab.\r\n]{0,12}", 0..5), piece in 1usize..8) {
            for lines in [Lines::Strict, Lines::Mend] {
                let chunks: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
                let whole = parts.concat();
                let (message, fault) = decode(lines, &chunks, piece);
                prop_assert_eq!((&message, fault), (&decode(lines, &[whole.as_bytes()], usize::MAX / 2).0, fault));
                prop_assert!(message.is_empty() || message.ends_with(b"\n"));
                if lines == Lines::Strict {
                    prop_assert!(message.starts_with(whole.as_bytes()));
                }
            }
        }
    }
}
