//! TLSA records: their fields, and which of them can be used.

use std::fmt;
use std::str::FromStr;

use mox_dns::Tlsa;
use ring::digest::{SHA256, SHA512, digest};
use rustls::pki_types::CertificateDer;

use crate::fault::subject_public_key_info;

/// Octets of data in a record that was given as text. Certificates have a few thousand.
const DATA_MAX: usize = 64 << 10;

/// What a record is about (RFC 6698 §2.1.1, names of RFC 7218).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// An authority that signed the certificate, which the usual authorities stand behind too.
    PkixTa,
    /// The certificate, which the usual authorities stand behind too.
    PkixEe,
    /// An authority that signed the certificate.
    DaneTa,
    /// The certificate.
    DaneEe,
}

/// Those that mean something for mail from server to server (RFC 7672 §3.1).
pub const SMTP_USAGES: &[Usage] = &[Usage::DaneTa, Usage::DaneEe];
/// All, for where the usual authorities are known to both sides.
pub const PKIX_USAGES: &[Usage] = &[Usage::PkixTa, Usage::PkixEe, Usage::DaneTa, Usage::DaneEe];

/// Which part of a certificate a record names (RFC 6698 §2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// All of it.
    Cert,
    /// Its public key.
    Spki,
}

/// How a record names it (RFC 6698 §2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// As it is.
    Full,
    /// By its SHA-256.
    Sha256,
    /// By its SHA-512.
    Sha512,
}

/// Text that is no TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A field with a word that it does not have.
    #[error("{0:?} is no {1}: say {2}")]
    Field(String, &'static str, &'static str),
    /// It has other than four fields.
    #[error("a TLSA record has usage, selector, matching type and data")]
    Fields,
    /// The data.
    #[error("the data of a TLSA record is hexadecimal")]
    Data,
}

macro_rules! field {
    ($type:ident, $what:literal, $all:literal: $($variant:ident = $number:literal $word:literal),+) => {
        impl $type {
            /// As in a record.
            #[must_use]
            pub fn number(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            /// From a record; `None` if the number means nothing.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl FromStr for $type {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let lower = text.to_ascii_lowercase();
                $(if lower == $word || lower == stringify!($number) {
                    return Ok(Self::$variant);
                })+
                Err(ParseError::Field(text.to_owned(), $what, $all))
            }
        }
    };
}

field!(Usage, "usage", "pkix-ta (0), pkix-ee (1), dane-ta (2) or dane-ee (3)":
    PkixTa = 0 "pkix-ta", PkixEe = 1 "pkix-ee", DaneTa = 2 "dane-ta", DaneEe = 3 "dane-ee");
field!(Selector, "selector", "cert (0) or spki (1)": Cert = 0 "cert", Spki = 1 "spki");
field!(Matching, "matching type", "full (0), sha2-256 (1) or sha2-512 (2)":
    Full = 0 "full", Sha256 = 1 "sha2-256", Sha512 = 2 "sha2-512");

/// What a record of this matching type has as its data for some bytes.
#[must_use]
pub fn association(matching: Matching, bytes: &[u8]) -> Vec<u8> {
    match matching {
        Matching::Full => bytes.to_vec(),
        Matching::Sha256 => digest(&SHA256, bytes).as_ref().to_vec(),
        Matching::Sha512 => digest(&SHA512, bytes).as_ref().to_vec(),
    }
}

/// Whether a record speaks of a certificate, whatever its usage.
pub(super) fn names(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let selected = match Selector::from_number(record.selector) {
        Some(Selector::Cert) => Some(certificate.as_ref()),
        Some(Selector::Spki) => subject_public_key_info(certificate),
        None => None,
    };
    match (selected, Matching::from_number(record.matching)) {
        (Some(bytes), Some(matching)) => association(matching, bytes) == record.data,
        _ => false,
    }
}

/// Whether a record can be used: its fields are known, its usage is wanted, and its data has the form they say.
#[must_use]
pub fn is_usable(record: &Tlsa, wanted: &[Usage]) -> bool {
    let usage = Usage::from_number(record.usage).filter(|usage| wanted.contains(usage));
    let (Some(_), Some(selector), Some(matching)) = (
        usage,
        Selector::from_number(record.selector),
        Matching::from_number(record.matching),
    ) else {
        return false;
    };
    match (matching, selector) {
        (Matching::Sha256, _) => record.data.len() == 32,
        (Matching::Sha512, _) => record.data.len() == 64,
        (Matching::Full, Selector::Cert) => {
            x509_parser::parse_x509_certificate(&record.data).is_ok_and(|(rest, _)| rest.is_empty())
        }
        (Matching::Full, Selector::Spki) => sequence(&record.data).is_some(),
    }
}

/// Those of some records that are to be used.
#[must_use]
pub fn usable(records: &[Tlsa], wanted: &[Usage]) -> Vec<Tlsa> {
    let usable: Vec<&Tlsa> = records.iter().filter(|r| is_usable(r, wanted)).collect();
    // RFC 7671 §9: of several digests for the same usage and selector only the strongest counts, besides data in full.
    let outdone = |record: &Tlsa| {
        record.matching == Matching::Sha256.number()
            && usable.iter().any(|other| {
                (other.usage, other.selector) == (record.usage, record.selector)
                    && other.matching == Matching::Sha512.number()
            })
    };
    usable.iter().filter(|r| !outdone(r)).map(|r| (*r).clone()).collect()
}

/// The contents of a DER SEQUENCE that is all of `bytes`.
pub(super) fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *tag != 0x30 {
        return None;
    }
    let (length, contents) = match *first {
        short if short < 0x80 => (usize::from(short), rest),
        long => {
            // More than 4 octets of length are of no record that fits in DNS.
            let count = usize::from(long & 0x7f);
            let octets = rest.get(..count).filter(|o| (1..=4).contains(&o.len()))?;
            let length = octets.iter().fold(0usize, |sum, o| sum << 8 | usize::from(*o));
            (length, &rest[count..])
        }
    };
    (contents.len() == length).then_some(contents)
}

/// A record from text, as in a zone.
///
/// # Errors
/// If it is none.
pub fn parse(text: &str) -> Result<Tlsa, ParseError> {
    let mut words = text.split_ascii_whitespace();
    let mut number = |what| {
        let word = words.next().ok_or(ParseError::Fields)?;
        let number = word.parse::<u8>();
        number.map_err(|_| ParseError::Field(word.to_owned(), what, "a number from 0 to 255"))
    };
    let (usage, selector, matching) = (number("usage")?, number("selector")?, number("matching type")?);
    // RFC 6698 §2.2: white space is allowed within the data.
    let digits: Vec<u8> = words.flat_map(str::bytes).take(2 * DATA_MAX + 1).collect();
    if digits.is_empty() {
        return Err(ParseError::Fields);
    }
    let octet = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some(digit(*high)? << 4 | digit(*low)?)
        }
        _ => None,
    };
    let data: Option<Vec<u8>> = digits.chunks(2).map(octet).collect();
    Ok(Tlsa {
        usage,
        selector,
        matching,
        data: data.filter(|data| data.len() <= DATA_MAX).ok_or(ParseError::Data)?,
    })
}

/// Records in short, for messages about them: fields, and the beginning of the data.
#[must_use]
pub fn describe(records: &[Tlsa]) -> String {
    let mut text = String::new();
    for record in records {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&format!("{} {} {} ", record.usage, record.selector, record.matching));
        for octet in record.data.iter().take(4) {
            text.push_str(&format!("{octet:02x}"));
        }
        if record.data.len() > 4 {
            text.push('…');
        }
    }
    text
}
