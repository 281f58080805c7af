//! Changing a message as little as possible.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::{memchr_iter, memchr2_iter};

use crate::Field;

/// The message without the header fields that `is_removed`: what remains, as slices in order, of which the last is to the
/// end. All other bytes stay.
#[must_use]
pub fn without_fields(message: &Bytes, mut is_removed: impl FnMut(&Field<'_>) -> bool) -> Vec<Bytes> {
    let mut slices = Vec::new();
    let mut kept = 0;
    for field in crate::headers(message) {
        if is_removed(&field) {
            if field.start > kept {
                slices.push(message.slice(kept..field.start));
            }
            kept = field.end;
        }
    }
    slices.push(message.slice(kept..));
    slices
}

/// The message with each bare LF and bare CR made CRLF (RFC 5321 §2.3.8).
#[must_use]
pub fn to_crlf(message: &[u8]) -> Cow<'_, [u8]> {
    let is_bare = |at: usize| match message[at] {
        b'\n' => at == 0 || message[at - 1] != b'\r',
        _ => message.get(at + 1) != Some(&b'\n'),
    };
    let Some(first) = memchr2_iter(b'\r', b'\n', message).find(|at| is_bare(*at)) else {
        return Cow::Borrowed(message);
    };
    let mut out = Vec::with_capacity(message.len() + message.len() / 32 + 2);
    let mut kept = 0;
    for at in memchr2_iter(b'\r', b'\n', &message[first..])
        .map(|n| n + first)
        .filter(|at| is_bare(*at))
    {
        out.extend_from_slice(&message[kept..at]);
        out.extend_from_slice(b"\r\n");
        kept = at + 1;
    }
    out.extend_from_slice(&message[kept..]);
    Cow::Owned(out)
}

/// How many Received fields there are, to find loops (RFC 5321 §6.3).
#[must_use]
pub fn received_count(message: &[u8]) -> usize {
    crate::headers(message).filter(|f| f.is("received")).count()
}

/// Whether any octet is not ASCII.
pub(crate) fn is_eight_bit(message: &[u8]) -> bool {
    !message.is_ascii()
}

/// Whether a line is longer than RFC 5322 §2.1.1 allows, without its end.
pub(crate) fn has_long_line(message: &[u8]) -> bool {
    let mut start = 0;
    for end in memchr_iter(b'\n', message) {
        if end - start > 999 {
            return true;
        }
        start = end + 1;
    }
    message.len() - start > 998
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_fields_go() {
        let m = Bytes::from_static(
            b"BCC: w\r\nA: 1\r\nBcc: x\r\n y\r\nbcc: y\r\nBAD LINE\r\nB: 2\nbcc : z\r\n\r\nBcc: body\r\n",
        );
        let slices = without_fields(&m, |field| field.is("BCC"));
        assert_eq!(slices.len(), 3);
        assert_eq!(slices.concat(), b"A: 1\r\nBAD LINE\r\nB: 2\n\r\nBcc: body\r\n");
        assert_eq!(without_fields(&m, |field| field.is("Cc")), [m]);
    }

    #[test]
    fn line_ends_are_mended() {
        assert_eq!(
            to_crlf(b"\na\rb\r\nc\n\r\r\n\r").as_ref(),
            b"\r\na\r\nb\r\nc\r\n\r\n\r\n\r\n"
        );
        assert!(matches!(to_crlf(b"a\r\nb"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_lines_are_found() {
        assert!(!has_long_line(&[b"a".repeat(998), b"\r\n".to_vec()].concat()));
        assert!(has_long_line(&[b"a".repeat(999), b"\r\n".to_vec()].concat()));
        assert!(has_long_line(&b"a".repeat(999)));
    }

    proptest::proptest! {
        #[test]
        fn mended_line_ends_stay(m in proptest::collection::vec(proptest::sample::select(&b"a\r\n"[..]), 0..40)) {
            let once = to_crlf(&m).into_owned();
            proptest::prop_assert!(matches!(to_crlf(&once), Cow::Borrowed(_)));
        }
    }
}
