//! Modified UTF-7: mailbox names of IMAP4rev1 (RFC 3501 §5.1.3).

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

const ENGINE: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// A name that is not in modified UTF-7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name is not in modified UTF-7")]
pub struct Utf7Error;

/// From UTF-8.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let plain = rest.find(|c| !matches!(c, ' '..='~')).unwrap_or(rest.len());
        out.push_str(&rest[..plain].replace('&', "&-"));
        rest = &rest[plain..];
        let shifted = rest.find(|c| matches!(c, ' '..='~')).unwrap_or(rest.len());
        if shifted > 0 {
            let units: Vec<u8> = rest[..shifted].encode_utf16().flat_map(u16::to_be_bytes).collect();
            out.push('&');
            ENGINE.encode_string(units, &mut out);
            out.push('-');
            rest = &rest[shifted..];
        }
    }
    out
}

/// To UTF-8.
///
/// # Errors
/// If `name` is not in modified UTF-7. What is needlessly encoded is let through.
pub fn decode(name: &str) -> Result<String, Utf7Error> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(shift) = rest.find('&') {
        push_plain(&rest[..shift], &mut out)?;
        let end = rest[shift..].find('-').ok_or(Utf7Error)? + shift;
        let encoded = &rest[shift + 1..end];
        if encoded.is_empty() {
            out.push('&');
        } else {
            let bytes = ENGINE.decode(encoded).map_err(|_| Utf7Error)?;
            if bytes.len() % 2 != 0 {
                return Err(Utf7Error);
            }
            let units = bytes.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]]));
            for c in char::decode_utf16(units) {
                out.push(c.map_err(|_| Utf7Error)?);
            }
        }
        rest = &rest[end + 1..];
    }
    push_plain(rest, &mut out)?;
    Ok(out)
}

fn push_plain(s: &str, out: &mut String) -> Result<(), Utf7Error> {
    if s.bytes().all(|b| matches!(b, b' '..=b'~')) {
        out.push_str(s);
        Ok(())
    } else {
        Err(Utf7Error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_rfc() {
        for (utf8, utf7) in [
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("A&B", "A&-B"),
            ("😀", "&2D3eAA-"),
            ("", ""),
        ] {
            assert_eq!(encode(utf8), utf7);
            assert_eq!(decode(utf7).unwrap(), utf8);
        }
        for bad in ["&", "&A-", "&U,BTFw", "ü", "&!!-", "a\tb", "&2D0-"] {
            assert_eq!(decode(bad), Err(Utf7Error), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(s in "\\PC{0,40}") {
            prop_assert_eq!(decode(&encode(&s)).unwrap(), s);
        }

        #[test]
        fn no_text_makes_it_panic(s in ".{0,40}") {
            let _ = decode(&s);
        }
    }
}
