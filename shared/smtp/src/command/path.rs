//! Paths and host names (RFC 5321 §4.1.2, §4.1.3; RFC 6531 §3.3).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use mox_types::{Address, Domain, Localpart};

use crate::limits;

/// Localpart and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Unquoted.
    pub localpart: Localpart,
    /// A domain, or an address in brackets.
    pub host: PathHost,
    /// Whether it was written with octets outside of ASCII, which needs SMTPUTF8.
    pub international: bool,
}

/// After the "@".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathHost {
    /// A domain name.
    Domain(Domain),
    /// An address literal (RFC 5321 §4.1.3).
    Ip(IpAddr),
}

/// Whom RCPT names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// An address.
    Path(Path),
    /// `<Postmaster>` without a domain, in any case: always to be accepted (RFC 5321 §4.5.1).
    Postmaster,
}

/// How a client calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A domain name.
    Domain(Domain),
    /// An address literal.
    Ip(IpAddr),
    /// Something else. RFC 5321 §4.1.4 forbids refusing mail for what doesn't verify, and clients do send such names.
    Other(String),
}

impl Path {
    /// The address, if it has a domain.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.host {
            PathHost::Domain(domain) => Some(Address {
                localpart: self.localpart.clone(),
                domain: domain.clone(),
            }),
            PathHost::Ip(_) => None,
        }
    }
}

impl From<Address> for Path {
    fn from(address: Address) -> Self {
        let international = address.is_international();
        Self {
            localpart: address.localpart,
            host: PathHost::Domain(address.domain),
            international,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            PathHost::Domain(domain) => write!(f, "{}@{domain}", self.localpart),
            PathHost::Ip(ip) => write!(f, "{}@{}", self.localpart, Literal(*ip)),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Postmaster => f.write_str("postmaster"),
        }
    }
}

/// An address literal as it is written.
struct Literal(IpAddr);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "[{ip}]"),
            IpAddr::V6(ip) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

impl HostName {
    pub(super) fn parse(argument: Option<&str>) -> Option<Self> {
        let name = argument.filter(|a| a.len() <= limits::HOST_NAME)?;
        // Some clients send more words. The first is the name; it is put into headers, so it has nothing special.
        let name = name.split([' ', '\t']).next().unwrap_or(name);
        if name.starts_with('[') {
            return Some(literal(name).map_or_else(|| Self::Other(name.to_owned()), Self::Ip));
        }
        let plain = |c: char| c.is_alphanumeric() || "-._:!#$%&'*+/=?^`{|}~@".contains(c);
        if !name.chars().all(plain) {
            return None;
        }
        Some(name.parse().map_or_else(|_| Self::Other(name.to_owned()), Self::Domain))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // As A-labels: the name goes into headers of messages that need not be SMTPUTF8.
            Self::Domain(domain) => f.write_str(domain.ascii()),
            Self::Ip(ip) => Literal(*ip).fmt(f),
            Self::Other(name) => f.write_str(name),
        }
    }
}

fn literal(s: &str) -> Option<IpAddr> {
    let inner = s.strip_prefix('[')?.strip_suffix(']')?;
    match inner.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // `[::1]` without its tag is not in the grammar, but means only one thing.
        _ => inner.parse().ok(),
    }
}

/// `<>` or a path, and the parameters after it.
pub(super) fn reverse(s: &str) -> Result<(Option<Path>, &str), String> {
    if let Some(params) = s.strip_prefix("<>") {
        return Ok((None, separated(params)?));
    }
    let (path, params) = bracketed(s)?;
    Ok((Some(mailbox(path)?), params))
}

/// A path or `<postmaster>`, and the parameters after it.
pub(super) fn forward(s: &str) -> Result<(Recipient, &str), String> {
    let (path, params) = bracketed(s)?;
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok((Recipient::Postmaster, params));
    }
    Ok((Recipient::Path(mailbox(path)?), params))
}

/// What is in the brackets, without a source route, and what follows them.
fn bracketed(s: &str) -> Result<(&str, &str), String> {
    let inner = s.strip_prefix('<').ok_or("it must be in < and >")?;
    // A quoted localpart can have any of these characters.
    let (mut quoted, mut escaped) = (false, false);
    let mut end = None;
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                end = Some(i);
                break;
            }
            _ => {}
        }
    }
    let end = end.ok_or("the closing > is missing")?;
    if end + 2 > limits::PATH {
        return Err("it is too long".into());
    }
    let path = &inner[..end];
    // RFC 5321 §4.1.1.3 and Appendix C: source routes must be accepted, and should be ignored.
    let path = if path.starts_with('@') {
        path.split_once(':')
            .map(|(_, mailbox)| mailbox)
            .ok_or("its source route has no end")?
    } else {
        path
    };
    Ok((path, separated(&inner[end + 1..])?))
}

fn separated(params: &str) -> Result<&str, String> {
    match params.strip_prefix(' ') {
        Some(params) => Ok(params),
        None if params.is_empty() => Ok(params),
        None => Err("there is text after the closing >".into()),
    }
}

fn mailbox(s: &str) -> Result<Path, String> {
    if s.is_empty() {
        return Err("it is empty".into());
    }
    let (localpart, host) = s.rsplit_once('@').ok_or("it must be localpart@domain")?;
    let localpart = localpart.parse().map_err(|e: mox_types::AddressError| e.to_string())?;
    let host = if host.starts_with('[') {
        PathHost::Ip(literal(host).ok_or("its address literal is not valid")?)
    } else {
        PathHost::Domain(host.parse().map_err(|e: mox_types::AddressError| e.to_string())?)
    };
    Ok(Path {
        localpart,
        host,
        international: !s.is_ascii(),
    })
}
