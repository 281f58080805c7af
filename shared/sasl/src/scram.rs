//! What both sides of SCRAM (RFC 5802) share: the hash functions, names in messages, attributes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::Rng;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Characters of a nonce of ours: 24 of 62 are 142 bits.
const NONCE: usize = 24;
/// Longest nonce of a peer that is accepted; a bound of ours.
pub(crate) const NONCE_MAX: usize = 512;

/// The hash function of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(crate) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    pub(crate) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        // A key of HMAC may have any length: the error can't occur, and an empty MAC would match nothing.
        match self {
            Self::Sha1 => {
                Hmac::<Sha1>::new_from_slice(key).map(|m| m.chain_update(data).finalize().into_bytes().to_vec())
            }
            Self::Sha256 => {
                Hmac::<Sha256>::new_from_slice(key).map(|m| m.chain_update(data).finalize().into_bytes().to_vec())
            }
        }
        .unwrap_or_default()
    }

    /// `Hi` of RFC 5802 §2.2.
    pub(crate) fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
        }
        out
    }
}

pub(crate) fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Without telling by its time where they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Letters and digits at random.
pub(crate) fn nonce() -> String {
    rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(NONCE)
        .map(char::from)
        .collect()
}

/// RFC 5802 §7: `printable`, any visible ASCII but a comma.
pub(crate) fn is_nonce(s: &str) -> bool {
    !s.is_empty() && s.len() <= NONCE_MAX && s.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// A name as `saslname` (RFC 5802 §5.1).
pub(crate) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The reverse of [`escape`]. None if there is another `=`.
pub(crate) fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = part
            .strip_prefix("2C")
            .map(|r| (',', r))
            .or_else(|| part.strip_prefix("3D").map(|r| ('=', r)))?;
        out.push(c);
        out.push_str(rest);
    }
    Some(out)
}

/// The value of the attribute `name` if it is the next of `parts`.
pub(crate) fn attribute<'a>(parts: &mut impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    parts.next()?.strip_prefix(name)?.strip_prefix('=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("a,b=c"), "a=2Cb=3Dc");
        assert_eq!(unescape("a=2Cb=3Dc").unwrap(), "a,b=c");
        assert_eq!(unescape("a=2c"), None);
        assert_eq!(unescape("a="), None);
    }

    proptest! {
        #[test]
        fn any_name_survives(s in ".{0,30}") {
            prop_assert_eq!(unescape(&escape(&s)), Some(s));
        }
    }
}
