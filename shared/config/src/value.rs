//! The values of settings that are more than text and numbers.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use mox_types::{Address, Domain};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration::Duration;
use crate::section::{Key, leaf};

/// Text that must not be printed: a password, a token, a private key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self)
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And protocol transcripts, without passwords and messages.
    Trace,
    /// And with passwords.
    TraceAuth,
    /// And with whole messages.
    TraceData,
}

impl LogLevel {
    /// Every level, from the least.
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Info,
        Self::Debug,
        Self::Trace,
        Self::TraceAuth,
        Self::TraceData,
    ];

    /// As written in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::TraceAuth => "traceauth",
            Self::TraceData => "tracedata",
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|l| l.as_str() == s)
            .ok_or_else(|| format!("{s:?} is not a log level: use error, info, debug, trace, traceauth or tracedata"))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A regular expression, compiled when the file is read.
#[derive(Debug, Clone)]
pub struct Regexp(regex::Regex);

/// Largest compiled form, in bytes, so that a typo cannot take all memory.
const REGEXP_SIZE_MAX: usize = 1 << 20;

impl Deref for Regexp {
    type Target = regex::Regex;
    fn deref(&self) -> &regex::Regex {
        &self.0
    }
}

impl PartialEq for Regexp {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Regexp {}

impl PartialOrd for Regexp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Regexp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl FromStr for Regexp {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(s)
            .size_limit(REGEXP_SIZE_MAX)
            .build()
            .map(Self)
            .map_err(|e| format!("{s:?} is not a regular expression: {e}"))
    }
}

impl fmt::Display for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// What an account receives: an address, or with `@domain` everything of a domain that nobody else receives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressPattern {
    /// One address.
    Address(Address),
    /// Catch-all for a domain.
    Domain(Domain),
}

impl AddressPattern {
    /// The domain of either form.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        match self {
            Self::Address(a) => &a.domain,
            Self::Domain(d) => d,
        }
    }
}

impl FromStr for AddressPattern {
    type Err = mox_types::AddressError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.strip_prefix('@') {
            Some(domain) => Ok(Self::Domain(domain.parse()?)),
            None => Ok(Self::Address(s.parse()?)),
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(a) => a.fmt(f),
            Self::Domain(d) => write!(f, "@{d}"),
        }
    }
}

/// A range of IP addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: std::net::IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in the range. An IPv4 address in IPv6 form is taken as IPv4.
    #[must_use]
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.address, ip.to_canonical()) {
            (V4(net), V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                shift == 32 || net.to_bits() >> shift == ip.to_bits() >> shift
            }
            (V6(net), V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                shift == 128 || net.to_bits() >> shift == ip.to_bits() >> shift
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a network: write it as 192.0.2.0/24 or 2001:db8::/32");
        let (address, prefix) = s.split_once('/').map_or((s, None), |(a, p)| (a, Some(p)));
        let address: std::net::IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |p| p.parse().map_err(|_| bad()))?;
        if prefix > most {
            Err(bad())
        } else {
            Ok(Self { address, prefix })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Serde for what is written as text.
macro_rules! as_text {
    ($($ty:ty)+) => {
        $(impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        })+
    };
}
as_text! { Duration LogLevel Regexp AddressPattern Network }

/// One of a few words.
macro_rules! words {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $text:literal,)+ })+) => {
        $($(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])+ #[serde(rename = $text)] $variant,)+
        }
        impl $name {
            /// As written in a file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        })+
    };
}

words! {
    /// The oldest version of TLS that is spoken.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "TLSv1.2",
        /// RFC 8446.
        V1_3 = "TLSv1.3",
    }
    /// What senders do when our MTA-STS policy cannot be met (RFC 8461 §5).
    MtastsMode {
        /// They do not deliver.
        Enforce = "enforce",
        /// They deliver, and report.
        Testing = "testing",
        /// They forget the policy.
        None = "none",
    }
    /// The hash of a DKIM signature (RFC 6376 §3.3).
    DkimHash {
        /// The only one that is still safe.
        Sha256 = "sha256",
    }
    /// A SASL mechanism, from the safest.
    Mechanism {
        /// RFC 7677, with channel binding.
        ScramSha256Plus = "SCRAM-SHA-256-PLUS",
        /// RFC 7677.
        ScramSha256 = "SCRAM-SHA-256",
        /// RFC 5802, with channel binding.
        ScramSha1Plus = "SCRAM-SHA-1-PLUS",
        /// RFC 5802.
        ScramSha1 = "SCRAM-SHA-1",
        /// RFC 2195.
        CramMd5 = "CRAM-MD5",
        /// RFC 4616: the password itself.
        Plain = "PLAIN",
    }
    /// A web application of mox.
    WebService {
        /// Administration.
        Admin = "admin",
        /// A user's own settings.
        Account = "account",
        /// Reading and sending mail.
        Webmail = "webmail",
        /// The HTTP API.
        Webapi = "webapi",
    }
    /// Where the store keeps its records.
    StoreEngine {
        /// An embedded database in the data directory.
        Rocksdb = "rocksdb",
        /// A PostgreSQL server, or one that speaks its protocol.
        Postgres = "postgres",
    }
}

/// One or several separators, as text or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Separators(pub Vec<String>);

impl<'de> Deserialize<'de> for Separators {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Given::deserialize(d)? {
            Given::One(s) => Self(vec![s]),
            Given::Many(list) => Self(list),
        })
    }
}

leaf! {
    Duration: "duration", "\"1h30m\"";
    Secret: "secret text", "\"secret\"";
    LogLevel: "error, info, debug, trace, traceauth or tracedata", "\"info\"";
    Regexp: "regular expression", "\"^example\"";
    AddressPattern: "email address or @domain", "\"user@example.org\"";
    Network: "network", "\"192.0.2.0/24\"";
    TlsVersion: "TLSv1.2 or TLSv1.3", "\"TLSv1.2\"";
    MtastsMode: "enforce, testing or none", "\"testing\"";
    DkimHash: "sha256", "\"sha256\"";
    Mechanism: "SASL mechanism", "\"SCRAM-SHA-256\"";
    WebService: "admin, account, webmail or webapi", "\"webmail\"";
    StoreEngine: "rocksdb or postgres", "\"rocksdb\"";
    Separators: "text or list of texts", "\"+\"";
}

impl Key for Regexp {
    const WHAT: &'static str = "regular expression";
    const EXAMPLE: &'static str = "^list-id$";
}

impl Key for AddressPattern {
    const WHAT: &'static str = "email address or @domain";
    const EXAMPLE: &'static str = "user@example.org";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        let n: Network = "192.0.2.0/24".parse().unwrap();
        assert!(n.contains("192.0.2.77".parse().unwrap()));
        assert!(n.contains("::ffff:192.0.2.77".parse().unwrap()));
        assert!(!n.contains("192.0.3.1".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains("8.8.8.8".parse().unwrap())
        );
        assert!(
            "::/0"
                .parse::<Network>()
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        assert!("192.0.2.0/33".parse::<Network>().is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_makes_values_panic(s in ".{0,30}") {
            let _ = s.parse::<Network>();
            let _ = s.parse::<AddressPattern>();
        }
    }
}
