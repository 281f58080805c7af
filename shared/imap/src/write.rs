//! Strings and numbers of responses.

use bytes::BufMut;

use crate::cursor::is_astring_char;

/// Longest text that is quoted rather than sent as a literal: clients read lines into buffers.
const QUOTED: usize = 1000;

/// A number in decimal.
pub fn put_number(out: &mut impl BufMut, n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// A string: quoted where that can be, else a literal. Octets above 127 may be quoted only where `utf8` says that
/// the client takes UTF-8 there.
pub fn put_string(out: &mut impl BufMut, bytes: &[u8], utf8: bool) {
    let plain = |b: &u8| !matches!(b, 0 | b'\r' | b'\n') && (b.is_ascii() || utf8);
    if bytes.len() > QUOTED || !bytes.iter().all(plain) || (utf8 && std::str::from_utf8(bytes).is_err()) {
        put_literal_header(out, bytes.len() as u64);
        out.put_slice(bytes);
        return;
    }
    out.put_u8(b'"');
    let mut rest = bytes;
    while let Some(i) = memchr::memchr2(b'"', b'\\', rest) {
        out.put_slice(&rest[..i]);
        out.put_u8(b'\\');
        out.put_u8(rest[i]);
        rest = &rest[i + 1..];
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

/// A string, or NIL.
pub fn put_nstring(out: &mut impl BufMut, bytes: Option<&[u8]>, utf8: bool) {
    match bytes {
        Some(bytes) => put_string(out, bytes, utf8),
        None => out.put_slice(b"NIL"),
    }
}

/// An atom where that can be, else as [`put_string`].
pub fn put_astring(out: &mut impl BufMut, bytes: &[u8], utf8: bool) {
    // NIL is an atom to the grammar, and a surprise to clients.
    if !bytes.is_empty() && bytes.iter().all(|&b| is_astring_char(b)) && !bytes.eq_ignore_ascii_case(b"NIL") {
        out.put_slice(bytes);
    } else {
        put_string(out, bytes, utf8);
    }
}

/// Octets that may hold NUL (RFC 3516 §4.1).
pub fn put_literal8(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_u8(b'~');
    put_literal_header(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// What goes before a literal's octets.
pub fn put_literal_header(out: &mut impl BufMut, size: u64) {
    out.put_u8(b'{');
    put_number(out, size);
    out.put_slice(b"}\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::{Cursor, Names};

    #[test]
    fn strings_take_the_form_they_need() {
        let text = |s: &[u8], utf8| {
            let mut out = Vec::new();
            put_string(&mut out, s, utf8);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(text(b"", false), "\"\"");
        assert_eq!(text(b"a\"b\\", false), "\"a\\\"b\\\\\"");
        assert_eq!(text("ü".as_bytes(), false), "{2}\r\nü");
        assert_eq!(text("ü".as_bytes(), true), "\"ü\"");
        assert_eq!(text(b"a\r\n", true), "{3}\r\na\r\n");
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(n: u64) {
            let mut out = Vec::new();
            put_number(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }

        #[test]
        fn any_string_survives(s in proptest::collection::vec(1u8.., 0..50), utf8: bool, atom: bool) {
            let mut out = Vec::new();
            if atom { put_astring(&mut out, &s, utf8) } else { put_string(&mut out, &s, utf8) }
            let mut c = Cursor::new(&out, Names::Utf7);
            prop_assert_eq!(&*c.astring().unwrap(), &s[..]);
            prop_assert!(c.end().is_ok());
        }
    }
}
