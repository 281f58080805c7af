//! Content transfer encodings (RFC 2045 §6), decoded piece by piece.
//!
//! What is not as it should be is passed over or kept as it is, as mail readers do: the same octets give the same result
//! however they are cut into pieces.

/// An encoding to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Base64,
    QuotedPrintable,
}

/// Undoes an encoding.
#[derive(Debug)]
pub(super) enum Decoder {
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
}

impl Decoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Base64 => Self::Base64(Base64::default()),
            Encoding::QuotedPrintable => Self::QuotedPrintable(QuotedPrintable::default()),
        }
    }

    /// Takes a piece, and adds what it stands for to `out`.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Base64(decoder) => decoder.push(piece, out),
            Self::QuotedPrintable(decoder) => piece.iter().for_each(|b| decoder.push(*b, out)),
        }
    }

    /// The end of it.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Base64(decoder) => decoder.end_quantum(out),
            Self::QuotedPrintable(decoder) => decoder.finish(out),
        }
    }
}

/// What an octet that is no digit of base64 has in [`DIGITS`].
const NO_DIGIT: u8 = 0xff;

const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NO_DIGIT; 256];
    let mut i = 0;
    while i < alphabet.len() {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// RFC 2045 §6.8: other characters are ignored; an equals sign ends a group, and more may follow.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    digits: u8,
}

impl Base64 {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() / 4 * 3 + 3);
        for &b in piece {
            let digit = DIGITS[usize::from(b)];
            if digit == NO_DIGIT {
                if b == b'=' {
                    self.end_quantum(out);
                }
                continue;
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.digits += 1;
            if self.digits == 4 {
                out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                (self.bits, self.digits) = (0, 0);
            }
        }
    }

    fn end_quantum(&mut self, out: &mut Vec<u8>) {
        match self.digits {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&[(self.bits >> 10) as u8, (self.bits >> 2) as u8]),
            // One digit alone stands for nothing.
            _ => {}
        }
        (self.bits, self.digits) = (0, 0);
    }
}

/// Whitespace that is held back, as a line end may follow. A line has at most 76 characters (RFC 2045 §6.7).
const HELD_MAX: usize = 1000;

/// RFC 2045 §6.7.
#[derive(Debug, Default)]
pub(super) struct QuotedPrintable {
    state: Quoted,
    /// Whitespace that goes if the line ends behind it.
    held: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Quoted {
    #[default]
    Text,
    /// Behind an equals sign.
    Equals,
    /// Behind an equals sign and a hexadecimal digit.
    Digit(u8),
    /// Behind an equals sign and whitespace: a soft line break, if the line ends.
    Space,
    /// Behind an equals sign and a carriage return.
    Return,
}

impl QuotedPrintable {
    fn push(&mut self, b: u8, out: &mut Vec<u8>) {
        match self.state {
            Quoted::Text => self.text(b, out),
            Quoted::Equals => match b {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => self.state = Quoted::Digit(b),
                b' ' | b'\t' => self.state = Quoted::Space,
                b'\r' => self.state = Quoted::Return,
                b'\n' => self.state = Quoted::Text,
                _ => self.give_up(b"=", b, out),
            },
            Quoted::Digit(first) => {
                let digit = |b: u8| (b as char).to_digit(16);
                match (digit(first), digit(b)) {
                    (Some(high), Some(low)) => {
                        out.push((high << 4 | low) as u8);
                        self.state = Quoted::Text;
                    }
                    _ => self.give_up(&[b'=', first], b, out),
                }
            }
            Quoted::Space => match b {
                b' ' | b'\t' => {}
                b'\r' => self.state = Quoted::Return,
                b'\n' => self.state = Quoted::Text,
                _ => self.give_up(b"= ", b, out),
            },
            Quoted::Return => match b {
                b'\n' => self.state = Quoted::Text,
                _ => self.give_up(b"=\r", b, out),
            },
        }
    }

    fn text(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            b' ' | b'\t' => {
                if self.held.len() >= HELD_MAX {
                    out.append(&mut self.held);
                }
                self.held.push(b);
                return;
            }
            // RFC 2045 §6.7 (3): whitespace at the end of a line was added on the way.
            b'\r' | b'\n' => self.held.clear(),
            _ => out.append(&mut self.held),
        }
        match b {
            b'=' => self.state = Quoted::Equals,
            _ => out.push(b),
        }
    }

    /// It was no encoded octet after all.
    fn give_up(&mut self, passed: &[u8], b: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(passed);
        self.state = Quoted::Text;
        self.text(b, out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Quoted::Digit(first) = self.state {
            out.extend_from_slice(&[b'=', first]);
        }
        self.state = Quoted::Text;
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn decode(encoding: Encoding, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(encoding);
        for piece in pieces {
            decoder.push(piece, &mut out);
        }
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn base64_is_read_leniently() {
        for (given, want) in [
            ("aGVsbG8=", "hello"),
            ("aGVs\r\nbG8=\r\n", "hello"),
            ("aGVsbG8", "hello"),
            ("aGVsbG8=aGk=", "hellohi"),
            ("a G!V-s", "hel"),
            ("a", ""),
            ("", ""),
        ] {
            assert_eq!(
                decode(Encoding::Base64, &[given.as_bytes()]),
                want.as_bytes(),
                "{given:?}"
            );
        }
    }

    #[test]
    fn quoted_printable_is_read_leniently() {
        for (given, want) in [
            ("a=3Db", "a=b"),
            ("a=c3=BC", "a\u{fc}"),
            ("soft=\r\n break=\nhere= \t\r\n!", "soft breakhere!"),
            ("end  \t\r\nnext", "end\r\nnext"),
            ("in  between", "in  between"),
            ("=", ""),
            ("a=4", "a=4"),
            ("=ZZ =4Z = x", "=ZZ =4Z = x"),
            ("last ", "last"),
        ] {
            let got = decode(Encoding::QuotedPrintable, &[given.as_bytes()]);
            assert_eq!(String::from_utf8_lossy(&got), want, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn base64_gives_back_what_was_encoded(data in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(Encoding::Base64, &[STANDARD.encode(&data).as_bytes()]), data);
        }

        #[test]
        fn pieces_make_no_difference(data in "[a-fA-F0-9=+ \t\r\n]{0,60}", at in 0usize..60, base64: bool) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::QuotedPrintable };
            let (a, b) = data.as_bytes().split_at(at.min(data.len()));
            prop_assert_eq!(decode(encoding, &[a, b]), decode(encoding, &[data.as_bytes()]));
        }
    }
}
