//! Macros in SPF records (RFC 7208 §7).

use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// Most octets of a domain name in text (RFC 1035 §2.3.4): a longer one loses labels from the left.
const DOMAIN_BYTES: usize = 253;
/// Most octets that an expansion has, before it is cut or refused.
const EXPANSION_BYTES: usize = 4 << 10;

/// Text with macros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MacroString(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    /// `%%`, `%_` and `%-`, by their last character.
    Escape(u8),
    Macro(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    letter: Letter,
    /// Upper case: what it becomes is escaped as in a URL.
    escaped: bool,
    /// Labels to keep, from the right. 0 is all.
    keep: u8,
    reverse: bool,
    /// Empty is ".".
    delimiters: String,
}

/// RFC 7208 §7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letter {
    Sender,
    Localpart,
    SenderDomain,
    Domain,
    Ip,
    ValidatedName,
    IpVersion,
    Helo,
    ReadableIp,
    Receiver,
    Timestamp,
}

const LETTERS: [(u8, Letter); 11] = [
    (b's', Letter::Sender),
    (b'l', Letter::Localpart),
    (b'o', Letter::SenderDomain),
    (b'd', Letter::Domain),
    (b'i', Letter::Ip),
    (b'p', Letter::ValidatedName),
    (b'v', Letter::IpVersion),
    (b'h', Letter::Helo),
    (b'c', Letter::ReadableIp),
    (b'r', Letter::Receiver),
    (b't', Letter::Timestamp),
];

/// Why text has macros that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacroError {
    /// `%` and then nothing known.
    #[error("\"%\" must be followed by \"{{\", \"%\", \"_\" or \"-\"")]
    Percent,
    /// `%{` and what is not in this language.
    #[error("there is no such macro")]
    Macro,
    /// Only for explanations.
    #[error("the macros c, r and t are only for explanations")]
    OnlyExplanation,
    /// Not a domain.
    #[error("it does not end as a domain does")]
    DomainEnd,
    /// Nothing.
    #[error("the domain is empty")]
    Empty,
    /// A character that is not printable ASCII.
    #[error("it has characters other than printable ASCII")]
    Character,
}

/// What macros stand for.
#[derive(Debug, Clone)]
pub(super) struct Values<'a> {
    pub localpart: &'a str,
    pub sender_domain: &'a str,
    pub domain: &'a str,
    pub ip: IpAddr,
    pub helo: &'a str,
    /// `%{p}`, looked up if a string [needs](MacroString::needs_validated_name) it.
    pub validated_name: &'a str,
    pub receiver: &'a str,
    /// Seconds since 1970.
    pub now: i64,
}

impl MacroString {
    /// Parses text: a modifier's value.
    ///
    /// # Errors
    /// If it has misformed macros, or characters that are not visible ASCII.
    pub fn parse(text: &str) -> Result<Self, MacroError> {
        parse(text, false, false)
    }

    /// Parses an explanation, which has spaces and more macros (RFC 7208 §6.2).
    ///
    /// # Errors
    /// As of [`MacroString::parse`].
    pub fn parse_explanation(text: &str) -> Result<Self, MacroError> {
        parse(text, true, true)
    }

    /// Parses a domain-spec (RFC 7208 §7.1).
    ///
    /// # Errors
    /// As of [`MacroString::parse`], and if it does not end in a macro or the last label of a domain.
    pub fn parse_domain(text: &str) -> Result<Self, MacroError> {
        let parsed = parse(text, false, false)?;
        match parsed.0.last() {
            None => Err(MacroError::Empty),
            Some(Token::Macro(_) | Token::Escape(_)) => Ok(parsed),
            Some(Token::Literal(literal)) => {
                let literal = literal.strip_suffix('.').unwrap_or(literal);
                match literal.rsplit_once('.') {
                    Some((_, label)) if is_top_label(label) => Ok(parsed),
                    _ => Err(MacroError::DomainEnd),
                }
            }
        }
    }

    /// Whether `%{p}` is in it.
    pub(super) fn needs_validated_name(&self) -> bool {
        self.0
            .iter()
            .any(|t| matches!(t, Token::Macro(m) if m.letter == Letter::ValidatedName))
    }

    /// What the text becomes. None if it would contain an internationalized localpart, which matches nothing
    /// (RFC 8616 §4), or is longer than anything that is used.
    pub(super) fn expand(&self, values: &Values<'_>) -> Option<String> {
        let mut out = String::new();
        for token in &self.0 {
            match token {
                Token::Literal(text) => out.push_str(text),
                Token::Escape(b'%') => out.push('%'),
                Token::Escape(b'_') => out.push(' '),
                Token::Escape(_) => out.push_str("%20"),
                Token::Macro(m) => m.expand(values, &mut out)?,
            }
            if out.len() > EXPANSION_BYTES {
                return None;
            }
        }
        Some(out)
    }

    /// As [`MacroString::expand`], for a domain: without its last dot, and shortened from the left to the length that
    /// domains have (RFC 7208 §7.3).
    pub(super) fn expand_domain(&self, values: &Values<'_>) -> Option<String> {
        let expanded = self.expand(values)?;
        let mut domain = expanded.strip_suffix('.').unwrap_or(&expanded);
        while domain.len() > DOMAIN_BYTES {
            domain = domain.split_once('.')?.1;
        }
        Some(domain.to_owned())
    }
}

/// RFC 7208 §7.1, toplabel: letters, digits and inner hyphens, and not only digits.
fn is_top_label(label: &str) -> bool {
    let all = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = label.bytes().all(|b| b.is_ascii_digit());
    all && !digits && !label.starts_with('-') && !label.ends_with('-') && !label.is_empty()
}

fn parse(text: &str, spaces: bool, explanation: bool) -> Result<MacroString, MacroError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find('%').unwrap_or(rest.len());
        let (literal, after) = rest.split_at(end);
        if !literal.bytes().all(|b| matches!(b, b'!'..=b'~') || spaces && b == b' ') {
            return Err(MacroError::Character);
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal.to_owned()));
        }
        rest = match after.as_bytes() {
            [] => after,
            [b'%', escape @ (b'%' | b'_' | b'-'), ..] => {
                tokens.push(Token::Escape(*escape));
                &after[2..]
            }
            [b'%', b'{', ..] => {
                let (body, rest) = after[2..].split_once('}').ok_or(MacroError::Macro)?;
                tokens.push(Token::Macro(Macro::parse(body, explanation)?));
                rest
            }
            _ => return Err(MacroError::Percent),
        };
    }
    Ok(MacroString(tokens))
}

impl Macro {
    fn parse(body: &str, explanation: bool) -> Result<Self, MacroError> {
        let mut bytes = body.bytes();
        let first = bytes.next().ok_or(MacroError::Macro)?;
        let (_, letter) = LETTERS
            .into_iter()
            .find(|l| l.0 == first.to_ascii_lowercase())
            .ok_or(MacroError::Macro)?;
        if !explanation && matches!(letter, Letter::ReadableIp | Letter::Receiver | Letter::Timestamp) {
            return Err(MacroError::OnlyExplanation);
        }
        let rest = &body[1..];
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &rest[..rest.len() - after.len()];
        let keep = match digits {
            "" => 0,
            // RFC 7208 §7.3: the number must not be zero; there are never more than 128 labels.
            _ => match digits.parse::<u32>() {
                Ok(0) => return Err(MacroError::Macro),
                Ok(n) => u8::try_from(n).unwrap_or(u8::MAX),
                Err(_) => u8::MAX,
            },
        };
        let (reverse, delimiters) = match after.strip_prefix(['r', 'R']) {
            Some(rest) => (true, rest),
            None => (false, after),
        };
        if !delimiters
            .bytes()
            .all(|b| matches!(b, b'.' | b'-' | b'+' | b',' | b'/' | b'_' | b'='))
        {
            return Err(MacroError::Macro);
        }
        Ok(Self {
            letter,
            escaped: first.is_ascii_uppercase(),
            keep,
            reverse,
            delimiters: delimiters.to_owned(),
        })
    }

    fn expand(&self, values: &Values<'_>, out: &mut String) -> Option<()> {
        let value = match self.letter {
            Letter::Sender => format!("{}@{}", values.localpart, values.sender_domain),
            Letter::Localpart => values.localpart.to_owned(),
            Letter::SenderDomain => values.sender_domain.to_owned(),
            Letter::Domain => values.domain.to_owned(),
            Letter::Ip => dotted(values.ip),
            Letter::ValidatedName => values.validated_name.to_owned(),
            Letter::IpVersion => if values.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            Letter::Helo => values.helo.to_owned(),
            Letter::ReadableIp => values.ip.to_string(),
            Letter::Receiver => values.receiver.to_owned(),
            Letter::Timestamp => values.now.to_string(),
        };
        if !value.is_ascii() {
            return None;
        }
        let delimiters: &[char] = &match self.delimiters.as_str() {
            "" => vec!['.'],
            some => some.chars().collect(),
        };
        let mut parts: Vec<&str> = value.split(delimiters).collect();
        if self.reverse {
            parts.reverse();
        }
        let keep = if self.keep == 0 {
            parts.len()
        } else {
            usize::from(self.keep)
        };
        let value = parts[parts.len().saturating_sub(keep)..].join(".");
        if !self.escaped {
            out.push_str(&value);
            return Some(());
        }
        for b in value.bytes() {
            // RFC 3986 §2.3.
            if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(b));
            } else {
                let _ = write!(out, "%{b:02X}");
            }
        }
        Some(())
    }
}

/// RFC 7208 §7.3: an address with a dot between each part that zones are made of.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|b| [b >> 4, b & 0xf]);
            nibbles.map(|n| format!("{n:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

impl fmt::Display for MacroString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in &self.0 {
            match token {
                Token::Literal(text) => f.write_str(text)?,
                Token::Escape(b) => write!(f, "%{}", char::from(*b))?,
                Token::Macro(m) => {
                    let letter = LETTERS.into_iter().find(|l| l.1 == m.letter).map_or(b's', |l| l.0);
                    let letter = if m.escaped { letter.to_ascii_uppercase() } else { letter };
                    write!(f, "%{{{}", char::from(letter))?;
                    if m.keep != 0 {
                        write!(f, "{}", m.keep)?;
                    }
                    if m.reverse {
                        f.write_str("r")?;
                    }
                    write!(f, "{}}}", m.delimiters)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, ip: &str) -> Option<String> {
        let values = Values {
            localpart: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            ip: ip.parse().unwrap(),
            helo: "mx.example.org",
            validated_name: "unknown",
            receiver: "mail.example.net",
            now: 1_700_000_000,
        };
        let parsed = MacroString::parse_explanation(text).unwrap();
        assert_eq!(parsed.to_string(), text);
        parsed.expand(&values)
    }

    /// RFC 7208 §7.4.
    #[test]
    fn the_examples_of_the_standard() {
        for (text, want) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            (
                "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
                "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
            ),
            (
                "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
                "3.2.0.192.in-addr.strong.lp._spf.example.com",
            ),
            (
                "%{d2}.trusted-domains.example.net",
                "example.com.trusted-domains.example.net",
            ),
            ("%{S}", "strong-bad%40email.example.com"),
            (
                "%{c} %{r} %{t} 100%%%_%-",
                "192.0.2.3 mail.example.net 1700000000 100% %20",
            ),
        ] {
            assert_eq!(expand(text, "192.0.2.3").as_deref(), Some(want), "{text}");
        }
        assert_eq!(
            expand("%{ir}.%{v}._spf.%{d2}", "2001:db8::cb01").as_deref(),
            Some("1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com")
        );
    }

    #[test]
    fn long_domains_lose_labels_from_the_left() {
        let long = format!("{}.%{{d}}", vec!["label"; 60].join("."));
        let parsed = MacroString::parse_domain(&long).unwrap();
        let values = Values {
            localpart: "a",
            sender_domain: "example.org",
            domain: "example.org",
            ip: "192.0.2.1".parse().unwrap(),
            helo: "h",
            validated_name: "unknown",
            receiver: "r",
            now: 0,
        };
        let domain = parsed.expand_domain(&values).unwrap();
        assert!(
            domain.len() <= DOMAIN_BYTES && domain.len() > DOMAIN_BYTES - 6,
            "{}",
            domain.len()
        );
        assert!(domain.starts_with("label.") && domain.ends_with(".example.org"));
        let international = Values {
            localpart: "j\u{f6}rg",
            ..values
        };
        assert_eq!(MacroString::parse("%{l}").unwrap().expand(&international), None);
    }

    #[test]
    fn domains_end_as_domains_do() {
        for text in ["example.org", "example.org.", "a.%{d}", "a.b-c", "x.%%", "%{i}"] {
            assert!(MacroString::parse_domain(text).is_ok(), "{text}");
        }
        for text in [
            "", "example", "a.1", "a.-b", "a.b-", "a..", "%{d}x", "%", "%{", "%{d0}", "%{d!}", "%{c}.ex", "a b.c",
        ] {
            assert!(MacroString::parse_domain(text).is_err(), "{text}");
        }
    }
}
