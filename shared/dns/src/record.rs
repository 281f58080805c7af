//! What is asked for, and what is answered.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// DNSSEC status of an answer (RFC 4035 §4.3). The order is that of trust: the status of several records is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Status {
    /// A signature is missing or wrong where there must be one.
    Bogus,
    /// It is not known whether there must be a signature: nothing validates, or needed records could not be had.
    #[default]
    Indeterminate,
    /// Proven to be unsigned.
    Insecure,
    /// Signed, with a chain to a trust anchor.
    Secure,
}

/// The types that mail needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    /// RFC 1035 §3.4.1.
    A,
    /// RFC 3596.
    Aaaa,
    /// RFC 1035 §3.3.1.
    Cname,
    /// RFC 1035 §3.3.9.
    Mx,
    /// RFC 1035 §3.3.11.
    Ns,
    /// RFC 1035 §3.3.12.
    Ptr,
    /// RFC 2782.
    Srv,
    /// RFC 6698.
    Tlsa,
    /// RFC 1035 §3.3.14.
    Txt,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Srv => "SRV",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        })
    }
}

/// A mail exchanger. The null MX (RFC 7505) has an empty host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// Without the trailing dot.
    pub host: String,
}

/// Where a service is (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// TCP or UDP port.
    pub port: u16,
    /// Host, without the trailing dot; empty says that the service is not offered.
    pub target: String,
}

/// A TLSA record (RFC 6698 §2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// PKIX-TA 0, PKIX-EE 1, DANE-TA 2, DANE-EE 3.
    pub usage: u8,
    /// The whole certificate 0, its public key 1.
    pub selector: u8,
    /// As it is 0, SHA-256 1, SHA-512 2.
    pub matching: u8,
    /// The certificate association data.
    pub data: Vec<u8>,
}

impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The data of one record. Names are without the trailing dot, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// Of [`RecordType::A`].
    A(Ipv4Addr),
    /// Of [`RecordType::Aaaa`].
    Aaaa(Ipv6Addr),
    /// Of [`RecordType::Cname`].
    Cname(String),
    /// Of [`RecordType::Mx`].
    Mx(Mx),
    /// Of [`RecordType::Ns`].
    Ns(String),
    /// Of [`RecordType::Ptr`].
    Ptr(String),
    /// Of [`RecordType::Srv`].
    Srv(Srv),
    /// Of [`RecordType::Tlsa`].
    Tlsa(Tlsa),
    /// Of [`RecordType::Txt`], its strings joined (RFC 7208 §3.3).
    Txt(Vec<u8>),
}

impl Record {
    /// The type that it answers.
    #[must_use]
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Cname(_) => RecordType::Cname,
            Self::Mx(_) => RecordType::Mx,
            Self::Ns(_) => RecordType::Ns,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Srv(_) => RecordType::Srv,
            Self::Tlsa(_) => RecordType::Tlsa,
            Self::Txt(_) => RecordType::Txt,
        }
    }
}

/// The records of a name: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// In no order that means anything.
    pub records: Vec<T>,
    /// Of the whole answer, every CNAME that led to it included.
    pub status: Status,
    /// The name that has the records: the one asked for, or where its CNAMEs lead.
    pub canonical: String,
}

impl<T> Answer<T> {
    pub(crate) fn filter_map<U>(self, f: impl FnMut(T) -> Option<U>) -> Answer<U> {
        Answer {
            records: self.records.into_iter().filter_map(f).collect(),
            status: self.status,
            canonical: self.canonical,
        }
    }
}

impl fmt::Display for Record {
    /// The data as zone files have it, with names as absolute ones. Octets of texts that are not printable are escaped
    /// (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => ip.fmt(f),
            Self::Aaaa(ip) => ip.fmt(f),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => write!(f, "{name}."),
            Self::Mx(mx) => write!(f, "{} {}.", mx.preference, mx.host),
            Self::Srv(srv) => write!(f, "{} {} {} {}.", srv.priority, srv.weight, srv.port, srv.target),
            Self::Tlsa(tlsa) => tlsa.fmt(f),
            Self::Txt(text) => {
                f.write_str("\"")?;
                for octet in text {
                    match octet {
                        b'"' | b'\\' => write!(f, "\\{}", char::from(*octet))?,
                        b' '..=b'~' => write!(f, "{}", char::from(*octet))?,
                        other => write!(f, "\\{other:03}")?,
                    }
                }
                f.write_str("\"")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_in_zones() {
        for (record, want) in [
            (Record::A([192, 0, 2, 1].into()), "192.0.2.1"),
            (Record::Cname("a.example".into()), "a.example."),
            (
                Record::Mx(Mx {
                    preference: 0,
                    host: String::new(),
                }),
                "0 .",
            ),
            (
                Record::Srv(Srv {
                    priority: 1,
                    weight: 2,
                    port: 993,
                    target: "mail.example".into(),
                }),
                "1 2 993 mail.example.",
            ),
            (
                Record::Tlsa(Tlsa {
                    usage: 3,
                    selector: 1,
                    matching: 1,
                    data: vec![0, 0xff],
                }),
                "3 1 1 00ff",
            ),
            (Record::Txt(b"a\"\\\n\xff".to_vec()), r#""a\"\\\010\255""#),
        ] {
            assert_eq!(record.to_string(), want);
        }
    }
}
