//! Encoded words in header fields (RFC 2047, RFC 2231 §5).

use memchr::memchr;

use crate::charset;
use crate::transfer::hex;

/// One encoded word, decoded to bytes of its charset.
struct Word<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    length: usize,
}

/// Decodes the value of an unstructured field, or a phrase, to text. It should be unfolded. Text outside of encoded
/// words is taken as UTF-8 if it is valid (RFC 6532), and as windows-1252 if not.
#[must_use]
pub fn decode(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    // Bytes of adjacent words of one charset are decoded together: writers split characters.
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    let (mut position, mut plain) = (0, 0);
    while let Some(found) = find_start(value, position) {
        let Some(word) = word(&value[found..]) else {
            position = found + 2;
            continue;
        };
        let between = &value[plain..found];
        match &mut pending {
            // RFC 2047 §6.2: white space between encoded words is not shown.
            Some((charset, bytes)) if between.trim_ascii().is_empty() => {
                if charset.eq_ignore_ascii_case(word.charset) {
                    bytes.extend_from_slice(&word.bytes);
                } else {
                    flush(&mut pending, &mut out);
                    pending = Some((word.charset, word.bytes));
                }
            }
            _ => {
                flush(&mut pending, &mut out);
                out.push_str(&charset::guess(between));
                pending = Some((word.charset, word.bytes));
            }
        }
        position = found + word.length;
        plain = position;
    }
    flush(&mut pending, &mut out);
    out.push_str(&charset::guess(&value[plain..]));
    out
}

fn flush(pending: &mut Option<(&[u8], Vec<u8>)>, out: &mut String) {
    if let Some((label, bytes)) = pending.take() {
        out.push_str(&charset::decode(&String::from_utf8_lossy(label), &bytes));
    }
}

fn find_start(value: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(&value[from..], b"=?").map(|n| from + n)
}

/// `=?charset*language?encoding?text?=`
fn word(value: &[u8]) -> Option<Word<'_>> {
    let rest = &value[2..];
    let charset_end = memchr(b'?', rest)?;
    let charset = &rest[..charset_end];
    let charset = &charset[..memchr(b'*', charset).unwrap_or(charset.len())];
    if charset.is_empty() || charset.len() > 64 || !charset.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let text_start = charset_end + 3;
    if rest.get(charset_end + 2) != Some(&b'?') {
        return None;
    }
    let text = rest.get(text_start..)?;
    let encoding = rest[charset_end + 1].to_ascii_lowercase();
    let end = memchr(b'?', text)?;
    if text.get(end + 1) != Some(&b'=') {
        return None;
    }
    let bytes = match encoding {
        b'b' => crate::transfer::decode(crate::transfer::Encoding::Base64, &text[..end]),
        b'q' => q(&text[..end]),
        _ => return None,
    };
    Some(Word {
        charset,
        bytes,
        length: 2 + text_start + end + 2,
    })
}

/// RFC 2047 §4.2.
fn q(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'_', _) => out.push(b' '),
            (b'=', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                out.push(hex(*a) << 4 | hex(*b));
                rest = after;
            }
            (other, _) => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_decoded() {
        for (given, expected) in [
            ("plain", "plain"),
            ("=?UTF-8?Q?a_=C3=A4?= b", "a ä b"),
            ("x =?iso-8859-1?q?=E4?= =?iso-8859-1?b?5A==?= y", "x ää y"),
            ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
            ("=?utf-8*de?q?a?=", "a"),
            ("=?utf-8?q?a b?=", "a b"),
            ("=?utf-8?x?a?= =?utf-8?q?a", "=?utf-8?x?a?= =?utf-8?q?a"),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("ä =??q?a?=", "ä =??q?a?="),
        ] {
            assert_eq!(decode(given.as_bytes()), expected, "{given}");
        }
    }

    #[test]
    fn many_unfinished_words_take_no_time() {
        let value = b"=?xx?q?a ".repeat(200_000);
        assert_eq!(decode(&value).len(), value.len());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(value in "[=?qQbB*a-d_ \u{e4}]{0,60}") {
            let _ = decode(value.as_bytes());
        }
    }
}
