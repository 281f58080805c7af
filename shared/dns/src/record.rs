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
