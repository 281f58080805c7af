//! Charsets to UTF-8.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How a charset is decoded.
pub(crate) enum Charset {
    /// A charset of the web, decoded piece by piece.
    Known(&'static Encoding),
    /// One that only mail uses (UTF-7, IBM code pages), decoded whole.
    Whole(fn(&[u8]) -> String),
    /// None given, or an unknown name: UTF-8 if it is valid, windows-1252 if not.
    Guess,
}

impl Charset {
    pub(crate) fn from_label(label: &str) -> Self {
        let label = label.trim();
        // RFC 2046 §4.1.2's default, and what is written in its place, often hold UTF-8.
        if label.is_empty() || label.eq_ignore_ascii_case("us-ascii") || label.eq_ignore_ascii_case("ascii") {
            return Self::Guess;
        }
        match Encoding::for_label_no_replacement(label.as_bytes()) {
            Some(encoding) => Self::Known(encoding),
            None => {
                mail_parser::decoders::charsets::map::charset_decoder(label.as_bytes()).map_or(Self::Guess, Self::Whole)
            }
        }
    }
}

/// Decodes bytes of a charset, which may be unknown or empty. What can't be decoded becomes U+FFFD.
#[must_use]
pub fn decode(label: &str, bytes: &[u8]) -> String {
    match Charset::from_label(label) {
        Charset::Known(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        Charset::Whole(decode) => decode(bytes),
        Charset::Guess => guess(bytes),
    }
}

/// UTF-8 if it is valid, windows-1252 if not.
pub(crate) fn guess(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// What undeclared text seems to be, judged by its first piece, which may be all of it.
pub(crate) fn guess_encoding(first: &[u8], is_all: bool) -> &'static Encoding {
    match std::str::from_utf8(first) {
        Ok(_) => UTF_8,
        // Cut in the middle of a character.
        Err(e) if e.error_len().is_none() && !is_all => UTF_8,
        Err(_) => WINDOWS_1252,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_charset_that_mail_uses_is_decoded() {
        assert_eq!(decode("ISO-8859-1", b"\xe4"), "ä");
        assert_eq!(decode("utf-8", "ä".as_bytes()), "ä");
        assert_eq!(decode("iso-2022-jp", b"\x1b$B%O%m!<\x1b(B"), "ハロー");
        assert_eq!(decode("koi8-r", b"\xf0\xd2\xc9"), "При");
        assert_eq!(decode("utf-7", b"+ZYeB9A-"), "文致");
        assert_eq!(decode("us-ascii", "ä".as_bytes()), "ä");
        assert_eq!(decode("x-unknown-thing", b"a\xe4"), "aä");
        assert_eq!(decode("", b"\xff\xfe"), "ÿþ");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_any_charset_make_it_panic(
            label in "(utf-7|utf-16|utf-16le|ibm850|big5|gb18030|iso-2022-kr|hz-gb-2312|x-user-defined|[a-z0-9-]{0,50})",
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = decode(&label, &bytes);
        }
    }
}
