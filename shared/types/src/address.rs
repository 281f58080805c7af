//! Localpart, domain, address (RFC 5321 §4.1.2, RFC 6531 §3.3, RFC 5890).

use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

/// RFC 5321 §4.5.3.1.1, in octets.
const LOCALPART_MAX: usize = 64;
/// RFC 1035 §2.3.4 as text without the trailing dot.
const DOMAIN_MAX: usize = 253;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no "@", or nothing on one side of it.
    #[error("address {0:?} must be localpart@domain")]
    Form(String),
    /// The localpart has a character that needs quoting, or is too long.
    #[error("localpart {0:?} is not valid: {1}")]
    Localpart(String, &'static str),
    /// The domain is not a valid (internationalized) domain name.
    #[error("domain {0:?} is not valid")]
    Domain(String),
}

/// The part before the "@", unquoted, NFC. Its case is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Localpart(String);

impl Localpart {
    /// From its unquoted form.
    ///
    /// # Errors
    /// If it is empty, over 64 octets, or has control characters.
    pub fn from_unquoted(s: &str) -> Result<Self, AddressError> {
        let s: String = s.nfc().collect();
        if s.is_empty() {
            return Err(AddressError::Localpart(s, "it is empty"));
        }
        if s.len() > LOCALPART_MAX {
            return Err(AddressError::Localpart(s, "it is longer than 64 octets"));
        }
        if s.chars().any(char::is_control) {
            return Err(AddressError::Localpart(s, "it has a control character"));
        }
        Ok(Self(s))
    }

    /// Unquoted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether any octet is outside of ASCII, so that SMTPUTF8 is needed.
    #[must_use]
    pub fn is_international(&self) -> bool {
        !self.0.is_ascii()
    }

    fn is_dot_atom(&self) -> bool {
        self.0.split('.').all(|a| !a.is_empty() && a.chars().all(is_atext))
    }
}

/// RFC 5322 §3.2.3 with RFC 6532 §3.2.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

impl FromStr for Localpart {
    type Err = AddressError;

    /// From its form in an address: a dot-atom or a quoted string.
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let Some(quoted) = s.strip_prefix('"') else {
            let l = Self::from_unquoted(s)?;
            return if l.is_dot_atom() {
                Ok(l)
            } else {
                Err(AddressError::Localpart(s.into(), "it needs quotes"))
            };
        };
        let bad = |why| AddressError::Localpart(s.into(), why);
        let mut out = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next().ok_or_else(|| bad("the closing quote is missing"))? {
                '"' => break,
                '\\' => out.push(chars.next().ok_or_else(|| bad("it ends in a backslash"))?),
                c => out.push(c),
            }
        }
        if chars.next().is_some() {
            return Err(bad("there is text after the closing quote"));
        }
        Self::from_unquoted(&out)
    }
}

impl fmt::Display for Localpart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dot_atom() {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// A domain name in lower case, as U-labels, without a trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    unicode: String,
    ascii: String,
}

impl Domain {
    /// As U-labels, for people and for comparing.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.unicode
    }

    /// As A-labels, for DNS and for peers without SMTPUTF8.
    #[must_use]
    pub fn ascii(&self) -> &str {
        &self.ascii
    }

    /// Whether this is `other`, or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Domain) -> bool {
        self.ascii
            .strip_suffix(other.ascii.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Domain(s.into());
        let given = s.strip_suffix('.').unwrap_or(s);
        let ascii = idna::domain_to_ascii_cow(given.as_bytes(), idna::AsciiDenyList::EMPTY)
            .map_err(|_| bad())?
            .into_owned();
        // Underscores occur in names of hosts that mail is received from, so they are let pass.
        let label_ok = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if ascii.is_empty() || ascii.len() > DOMAIN_MAX || !ascii.split('.').all(label_ok) {
            return Err(bad());
        }
        let (unicode, valid) = idna::domain_to_unicode(&ascii);
        valid.map_err(|_| bad())?;
        Ok(Self { unicode, ascii })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.unicode)
    }
}

/// localpart@domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Before the "@".
    pub localpart: Localpart,
    /// After the "@".
    pub domain: Domain,
}

impl Address {
    /// Whether SMTPUTF8 is needed to send it: only the localpart has no ASCII form.
    #[must_use]
    pub fn is_international(&self) -> bool {
        self.localpart.is_international()
    }

    /// With the domain as A-labels.
    #[must_use]
    pub fn to_ascii_domain(&self) -> String {
        format!("{}@{}", self.localpart, self.domain.ascii())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        let (localpart, domain) = s.rsplit_once('@').ok_or_else(|| AddressError::Form(s.into()))?;
        Ok(Self {
            localpart: localpart.parse()?,
            domain: domain.parse()?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.localpart, self.domain)
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text!(Localpart);
text!(Domain);
text!(Address);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(s: &str) -> Result<Address, AddressError> {
        s.parse()
    }

    #[test]
    fn addresses_are_read_and_printed() {
        for (given, printed) in [
            ("mox@localhost", "mox@localhost"),
            ("A.b+c@EXAMPLE.org.", "A.b+c@example.org"),
            ("\"a b\"@example.org", "\"a b\"@example.org"),
            ("\"ab\"@example.org", "ab@example.org"),
            ("\"a@b\\\"\"@example.org", "\"a@b\\\"\"@example.org"),
            ("u@xn--bcher-kva.example", "u@bücher.example"),
            ("u@BÜCHER.example", "u@bücher.example"),
        ] {
            assert_eq!(address(given).unwrap().to_string(), printed, "{given}");
        }
        assert_eq!(
            address("u@bücher.example").unwrap().to_ascii_domain(),
            "u@xn--bcher-kva.example"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "", "a", "@b", "a@", "a b@c", "a@b..c", "a@-b", "\"a@b", ".a@b", "a\u{7}@b", "a@b c",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_domain_lies_within_its_parents_only() {
        let d = |s: &str| s.parse::<Domain>().unwrap();
        assert!(d("a.example.org").is_within(&d("example.org")));
        assert!(d("example.org").is_within(&d("example.org")));
        assert!(!d("badexample.org").is_within(&d("example.org")));
    }

    proptest! {
        #[test]
        fn any_localpart_survives_printing(s in "[^\\p{Cc}]{1,16}") {
            if let Ok(l) = Localpart::from_unquoted(&s) {
                prop_assert_eq!(l.to_string().parse::<Localpart>().unwrap(), l);
            }
        }

        #[test]
        fn no_text_makes_it_panic(s in ".{0,80}") {
            let _ = address(&s);
        }
    }
}
