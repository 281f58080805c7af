//! The text of an SPF record (RFC 7208 §4.5, §5, §6, §12).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::macros::{MacroError, MacroString};

/// Most octets of a record that are looked at. RFC 7208 §3.4 recommends 512 for the whole answer; what is far larger is
/// no policy that anybody wrote.
pub const RECORD_BYTES: usize = 8 << 10;
/// Most terms of a record.
pub const RECORD_TERMS: usize = 256;

/// A record: what hosts may use a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// In order.
    pub directives: Vec<Directive>,
    /// `redirect=` (RFC 7208 §6.1).
    pub redirect: Option<MacroString>,
    /// `exp=` (RFC 7208 §6.2).
    pub explanation: Option<MacroString>,
    /// Modifiers that mean nothing here, name and value.
    pub other: Vec<(String, MacroString)>,
}

/// A mechanism and what it means when it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What a match means.
    pub qualifier: Qualifier,
    /// What is compared.
    pub mechanism: Mechanism,
}

/// RFC 7208 §4.6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qualifier {
    /// `+`
    #[default]
    Pass,
    /// `-`
    Fail,
    /// `~`
    SoftFail,
    /// `?`
    Neutral,
}

/// RFC 7208 §5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// `all`
    All,
    /// `include`
    Include(MacroString),
    /// `a`
    A(Target),
    /// `mx`
    Mx(Target),
    /// `ptr`
    Ptr(Option<MacroString>),
    /// `ip4`, with the length of the network's prefix.
    Ip4(Ipv4Addr, u8),
    /// `ip6`, with the length of the network's prefix.
    Ip6(Ipv6Addr, u8),
    /// `exists`
    Exists(MacroString),
}

/// Whose addresses are compared, and how much of them (RFC 7208 §5.3, §5.4, §5.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The current domain, if absent.
    pub domain: Option<MacroString>,
    /// Bits of IPv4 addresses.
    pub v4: u8,
    /// Bits of IPv6 addresses.
    pub v6: u8,
}

/// Why a text is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The text does not begin as a record does.
    #[error("it does not begin with \"v=spf1\"")]
    NotSpf,
    /// Too much of it.
    #[error("it is longer than {RECORD_BYTES} octets or has more than {RECORD_TERMS} terms")]
    TooLong,
    /// Characters that records can't have.
    #[error("it has characters other than printable ASCII")]
    NotAscii,
    /// A term is none.
    #[error("{term:?}: {what}")]
    Term {
        /// As written.
        term: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A domain or value has a macro that is none.
    #[error("{term:?}: {source}")]
    Macro {
        /// As written.
        term: String,
        /// What is wrong.
        source: MacroError,
    },
}

/// Whether a TXT record is an SPF record: RFC 7208 §4.5.
#[must_use]
pub fn is_record(text: &[u8]) -> bool {
    let Some(version) = text.get(..6) else { return false };
    version.eq_ignore_ascii_case(b"v=spf1") && matches!(text.get(6), None | Some(b' '))
}

impl Record {
    /// Parses a record.
    ///
    /// # Errors
    /// If any part of it is misformed: all of it is read before any of it is used (RFC 7208 §4.6).
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        if !is_record(text) {
            return Err(RecordError::NotSpf);
        }
        if text.len() > RECORD_BYTES {
            return Err(RecordError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| RecordError::NotAscii)?;
        if !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(RecordError::NotAscii);
        }
        let mut record = Self::default();
        let terms = text[6..].split(' ').filter(|term| !term.is_empty());
        for (i, term) in terms.enumerate() {
            if i >= RECORD_TERMS {
                return Err(RecordError::TooLong);
            }
            record.term(term)?;
        }
        Ok(record)
    }

    fn term(&mut self, term: &str) -> Result<(), RecordError> {
        let wrong = |what| RecordError::Term {
            term: term.to_owned(),
            what,
        };
        if let Some((name, value)) = modifier(term) {
            let slot = match name.to_ascii_lowercase().as_str() {
                "redirect" => &mut self.redirect,
                "exp" => &mut self.explanation,
                _ => {
                    let value = MacroString::parse(value).map_err(|source| RecordError::Macro {
                        term: term.to_owned(),
                        source,
                    })?;
                    self.other.push((name.to_owned(), value));
                    return Ok(());
                }
            };
            // RFC 7208 §6: these two must not appear more than once each.
            if slot.is_some() {
                return Err(wrong("a modifier may be there only once"));
            }
            *slot = Some(domain_spec(term, value)?);
            return Ok(());
        }
        let (qualifier, rest) = match term.as_bytes().first() {
            Some(b'+') => (Qualifier::Pass, &term[1..]),
            Some(b'-') => (Qualifier::Fail, &term[1..]),
            Some(b'~') => (Qualifier::SoftFail, &term[1..]),
            Some(b'?') => (Qualifier::Neutral, &term[1..]),
            _ => (Qualifier::Pass, term),
        };
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        let (name, arguments) = rest.split_at(end);
        let mechanism = match name.to_ascii_lowercase().as_str() {
            "all" if arguments.is_empty() => Mechanism::All,
            "all" => return Err(wrong("\"all\" takes no argument")),
            "include" => Mechanism::Include(required(term, arguments)?),
            "exists" => Mechanism::Exists(required(term, arguments)?),
            "ptr" => Mechanism::Ptr(match arguments {
                "" => None,
                _ => Some(required(term, arguments)?),
            }),
            "a" => Mechanism::A(target(term, arguments)?),
            "mx" => Mechanism::Mx(target(term, arguments)?),
            "ip4" => {
                let (ip, bits) = network(term, arguments)?;
                let bits = bits.map_or(Ok(32), |b| prefix_length(b, 32)).map_err(wrong)?;
                Mechanism::Ip4(ip.parse().map_err(|_| wrong("not an IPv4 address"))?, bits)
            }
            "ip6" => {
                let (ip, bits) = network(term, arguments)?;
                let bits = bits.map_or(Ok(128), |b| prefix_length(b, 128)).map_err(wrong)?;
                Mechanism::Ip6(ip.parse().map_err(|_| wrong("not an IPv6 address"))?, bits)
            }
            _ => return Err(wrong("there is no such mechanism")),
        };
        self.directives.push(Directive { qualifier, mechanism });
        Ok(())
    }
}

/// `name=value`, if the term is a modifier: a name, and `=` before any `:` or `/` (RFC 7208 §12).
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let mut bytes = name.bytes();
    let named = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    named.then_some((name, value))
}

fn domain_spec(term: &str, text: &str) -> Result<MacroString, RecordError> {
    MacroString::parse_domain(text).map_err(|source| RecordError::Macro {
        term: term.to_owned(),
        source,
    })
}

/// `:domain`, which must be there.
fn required(term: &str, arguments: &str) -> Result<MacroString, RecordError> {
    match arguments.strip_prefix(':') {
        Some(domain) => domain_spec(term, domain),
        None => Err(RecordError::Term {
            term: term.to_owned(),
            what: "a domain must follow, after \":\"",
        }),
    }
}

/// `[:domain][/24][//64]`. A domain may have slashes itself, so the lengths are looked for at the end.
fn target(term: &str, arguments: &str) -> Result<Target, RecordError> {
    let wrong = |what| RecordError::Term {
        term: term.to_owned(),
        what,
    };
    let (rest, v6) = match split_number(arguments, "//") {
        Some((rest, digits)) => (rest, prefix_length(digits, 128).map_err(wrong)?),
        None => (arguments, 128),
    };
    let (rest, v4) = match split_number(rest, "/") {
        Some((rest, digits)) => (rest, prefix_length(digits, 32).map_err(wrong)?),
        None => (rest, 32),
    };
    let domain = match rest.strip_prefix(':') {
        Some(domain) => Some(domain_spec(term, domain)?),
        None if rest.is_empty() => None,
        None => return Err(wrong("\"/\" must be followed by the bits of a network")),
    };
    Ok(Target { domain, v4, v6 })
}

/// Splits off digits at the end behind `separator`.
fn split_number<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &text[rest.len()..];
    let before = rest.strip_suffix(separator)?;
    (!digits.is_empty()).then_some((before, digits))
}

/// `:address[/bits]`
fn network<'a>(term: &str, arguments: &'a str) -> Result<(&'a str, Option<&'a str>), RecordError> {
    let network = arguments.strip_prefix(':').ok_or_else(|| RecordError::Term {
        term: term.to_owned(),
        what: "an address must follow, after \":\"",
    })?;
    Ok(match network.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (network, None),
    })
}

/// RFC 7208 §12: no leading zeros.
fn prefix_length(digits: &str, most: u8) -> Result<u8, &'static str> {
    const WRONG: &str = "not the bits of a network";
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    match digits.parse::<u8>() {
        Ok(bits) if canonical && bits <= most => Ok(bits),
        _ => Err(WRONG),
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "",
            Self::Fail => "-",
            Self::SoftFail => "~",
            Self::Neutral => "?",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, ":{domain}")?;
        }
        if self.v4 != 32 {
            write!(f, "/{}", self.v4)?;
        }
        if self.v6 != 128 {
            write!(f, "//{}", self.v6)?;
        }
        Ok(())
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Include(domain) => write!(f, "include:{domain}"),
            Self::A(target) => write!(f, "a{target}"),
            Self::Mx(target) => write!(f, "mx{target}"),
            Self::Ptr(None) => f.write_str("ptr"),
            Self::Ptr(Some(domain)) => write!(f, "ptr:{domain}"),
            Self::Ip4(ip, 32) => write!(f, "ip4:{ip}"),
            Self::Ip4(ip, bits) => write!(f, "ip4:{ip}/{bits}"),
            Self::Ip6(ip, 128) => write!(f, "ip6:{ip}"),
            Self::Ip6(ip, bits) => write!(f, "ip6:{ip}/{bits}"),
            Self::Exists(domain) => write!(f, "exists:{domain}"),
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.qualifier, self.mechanism)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=spf1")?;
        for directive in &self.directives {
            write!(f, " {directive}")?;
        }
        if let Some(redirect) = &self.redirect {
            write!(f, " redirect={redirect}")?;
        }
        if let Some(explanation) = &self.explanation {
            write!(f, " exp={explanation}")?;
        }
        for (name, value) in &self.other {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        match Record::parse(text.as_bytes()) {
            Ok(record) => record.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn records_are_understood() {
        for text in [
            "v=spf1",
            "v=spf1 -all",
            "v=spf1 a mx ptr ?all",
            "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all",
            "v=spf1 a:example.org/24//64 mx//48 mx:mail.%{d2} -all",
            "v=spf1 include:_spf.example.org -exists:%{ir}.%{l1r+-}._spf.%{d} redirect=_spf.example.com",
            "v=spf1 -all exp=explain._spf.%{d} moo=%{s}",
        ] {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("V=SPF1  +A  -ALL "), "v=spf1 a -all");
        assert_eq!(written("v=spf1 A:Example.org/32//128"), "v=spf1 a:Example.org");
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for text in [
            "v=spf10",
            "v=spf2",
            " v=spf1",
            "v=spf1 all:x",
            "v=spf1 include",
            "v=spf1 include:",
            "v=spf1 include:example.org/24",
            "v=spf1 exists",
            "v=spf1 ip4",
            "v=spf1 ip4:192.0.2",
            "v=spf1 ip4:192.0.2.0/33",
            "v=spf1 ip4:192.0.2.0/024",
            "v=spf1 ip4:192.0.2.0/",
            "v=spf1 ip6:192.0.2.0",
            "v=spf1 ip6:::1/129",
            "v=spf1 a:",
            "v=spf1 a:example.org/33",
            "v=spf1 a:example.org//129",
            "v=spf1 a:example.org:8080",
            "v=spf1 a:1.2.3.4",
            "v=spf1 a/",
            "v=spf1 mx:%{x}.example.org",
            "v=spf1 foo",
            "v=spf1 -",
            "v=spf1 redirect=a.example redirect=b.example",
            "v=spf1 exp=",
            "v=spf1 =x",
            "v=spf1 a\u{e9}",
            "v=spf1 \tall",
        ] {
            let got = written(text);
            // RFC 7208 has "a:example.org:8080" as a domain with a colon in it, which is no domain's end.
            assert!(got.starts_with("error: "), "{text:?}: {got}");
        }
    }

    #[test]
    fn there_are_bounds() {
        let long = format!("v=spf1{}", " a".repeat(RECORD_TERMS + 1));
        assert_eq!(Record::parse(long.as_bytes()), Err(RecordError::TooLong));
        let long = format!("v=spf1 exists:{}.example", "a.".repeat(RECORD_BYTES));
        assert_eq!(Record::parse(long.as_bytes()), Err(RecordError::TooLong));
    }

    proptest! {
        #[test]
        fn any_octets_are_parsed_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&text);
            let _ = Record::parse(&[b"v=spf1 ".as_slice(), &text].concat());
        }

        #[test]
        fn what_is_written_is_what_was_read(
            terms in proptest::collection::vec("(\\+|-|~|\\?)?(all|a|mx|ptr|a:[a-z]{1,5}\\.ex|mx/2[0-9]|a//6[0-9]|ip4:10\\.0\\.0\\.[0-9]|include:[a-z]{1,3}\\.%\\{[slodiph][1-9]?r?\\}|x=y)", 0..10),
        ) {
            let text = format!("v=spf1 {}", terms.join(" "));
            if let Ok(record) = Record::parse(text.as_bytes()) {
                prop_assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
            }
        }
    }
}
