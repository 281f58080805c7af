//! Content-Transfer-Encoding (RFC 2045 §6), decoded piece by piece and forgiving.

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Base64,
    QuotedPrintable,
}

impl Encoding {
    /// From the field's value. What is not known is taken as it is.
    pub(crate) fn from_name(name: &str) -> Self {
        if name.eq_ignore_ascii_case("base64") {
            Self::Base64
        } else if name.eq_ignore_ascii_case("quoted-printable") {
            Self::QuotedPrintable
        } else {
            Self::Identity
        }
    }
}

/// A decoder that is fed any pieces of a body.
pub(crate) struct Decoder {
    encoding: Encoding,
    bits: u32,
    bit_count: u32,
    /// Input of quoted-printable that needs what follows: an "=" and what was seen after it, or trailing white space.
    held: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            bits: 0,
            bit_count: 0,
            held: Vec::new(),
        }
    }

    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Identity => out.extend_from_slice(input),
            Encoding::Base64 => self.base64(input, out),
            Encoding::QuotedPrintable => input.iter().for_each(|b| self.quoted_printable(*b, out)),
        }
    }

    /// To be called once after the last piece.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.held.first() == Some(&b'=') {
            // An "=" at the very end is a soft line break; anything else behind it stays visible.
            if self.held.len() > 1 && self.held[1] != b'\r' {
                out.append(&mut self.held);
            }
        }
        self.held.clear();
    }

    fn base64(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for b in input {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' => {
                    // Padding ends a run. Some writers put several encoded runs after each other.
                    self.bit_count = 0;
                    continue;
                }
                _ => continue, // RFC 2045 §6.8: other characters are passed over
            };
            self.bits = (self.bits << 6 | u32::from(value)) & 0xFF_FFFF;
            self.bit_count += 6;
            if self.bit_count >= 8 {
                self.bit_count -= 8;
                out.push((self.bits >> self.bit_count) as u8);
            }
        }
    }

    fn quoted_printable(&mut self, b: u8, out: &mut Vec<u8>) {
        match (self.held.as_slice(), b) {
            ([b'=', ..], _) => self.after_equals(b, out),
            (_, b'=') => {
                out.append(&mut self.held);
                self.held.push(b);
            }
            // RFC 2045 §6.7 (3): white space at the end of a line was added on the way.
            (_, b' ' | b'\t') => self.held.push(b),
            (_, b'\r' | b'\n') => {
                self.held.clear();
                out.push(b);
            }
            _ => {
                out.append(&mut self.held);
                out.push(b);
            }
        }
        if self.held.len() > 1000 {
            out.append(&mut self.held); // no line is that long
        }
    }

    fn after_equals(&mut self, b: u8, out: &mut Vec<u8>) {
        match (&self.held[1..], b) {
            (_, b'\n') => self.held.clear(), // soft line break
            ([], b' ' | b'\t' | b'\r') | ([.., b' ' | b'\t' | b'\r'], b' ' | b'\t' | b'\r') => self.held.push(b),
            ([], _) if b.is_ascii_hexdigit() => self.held.push(b),
            ([first], _) if first.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                out.push(hex(*first) << 4 | hex(b));
                self.held.clear();
            }
            _ => {
                // Not an encoding after all: it stands for itself.
                out.append(&mut self.held);
                self.quoted_printable(b, out);
            }
        }
    }
}

pub(crate) fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Decodes a whole value.
pub(crate) fn decode(encoding: Encoding, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut decoder = Decoder::new(encoding);
    decoder.feed(input, &mut out);
    decoder.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qp(s: &str) -> String {
        String::from_utf8_lossy(&decode(Encoding::QuotedPrintable, s.as_bytes())).into_owned()
    }

    #[test]
    fn quoted_printable_is_decoded_and_errors_stay_visible() {
        assert_eq!(qp("a=C3=A4b=\r\nc  \r\nd =  \r\ne"), "aäbc\r\nd e");
        assert_eq!(qp("x=zz y=4"), "x=zz y=4");
        assert_eq!(qp("==41 =\n="), "=A ");
        assert_eq!(qp("=4="), "=4");
    }

    #[test]
    fn base64_is_decoded_through_line_ends_and_noise() {
        assert_eq!(decode(Encoding::Base64, b"aGVs\r\nbG8g*d29ybGQ="), b"hello world");
        assert_eq!(decode(Encoding::Base64, b"aGk=aGk="), b"hihi");
    }

    proptest::proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[=A-Fa-f0-9 \t\r\nxyz+/]{0,60}", at in 0usize..60) {
            let input = input.as_bytes();
            let at = at.min(input.len());
            for encoding in [Encoding::Identity, Encoding::Base64, Encoding::QuotedPrintable] {
                let mut out = Vec::new();
                let mut d = Decoder::new(encoding);
                d.feed(&input[..at], &mut out);
                d.feed(&input[at..], &mut out);
                d.finish(&mut out);
                proptest::prop_assert_eq!(&out, &decode(encoding, input));
            }
        }
    }
}
