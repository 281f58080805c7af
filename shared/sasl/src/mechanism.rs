//! Names of mechanisms, and what ties an exchange to its TLS connection.

use std::fmt;
use std::str::FromStr;

/// A mechanism that this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// RFC 4616: name and password in the clear.
    Plain,
    /// Name and password in the clear, each asked for. Never standardized, and the only one of some old clients.
    Login,
    /// RFC 2195.
    CramMd5,
    /// RFC 5802.
    ScramSha1,
    /// RFC 5802, bound to the TLS connection.
    ScramSha1Plus,
    /// RFC 7677.
    ScramSha256,
    /// RFC 7677, bound to the TLS connection.
    ScramSha256Plus,
    /// RFC 4422 Appendix A: whom the TLS client certificate names.
    External,
}

/// A name that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown SASL mechanism {0:?}")]
pub struct UnknownMechanism(pub String);

impl Mechanism {
    /// All of them, from the strongest to the weakest.
    pub const ALL: [Self; 8] = [
        Self::External,
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha1Plus,
        Self::ScramSha1,
        Self::CramMd5,
        Self::Plain,
        Self::Login,
    ];

    /// What a relay is authenticated to with unless its settings name mechanisms: none that shows the password.
    pub const CLIENT_DEFAULT: [Self; 5] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha1Plus,
        Self::ScramSha1,
        Self::CramMd5,
    ];

    /// As registered, in upper case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
        }
    }

    /// Whether it needs channel bindings, and so TLS.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        matches!(self, Self::ScramSha1Plus | Self::ScramSha256Plus)
    }

    /// Whether the password itself is sent: only over TLS then.
    #[must_use]
    pub const fn shows_password(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }

    /// Whether the first message of the exchange is the server's, so that an initial response is an error (RFC 4422 §5).
    #[must_use]
    pub const fn is_server_first(self) -> bool {
        matches!(self, Self::CramMd5)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    /// In any case, although RFC 4422 §3.1 has only upper case: clients differ.
    fn from_str(s: &str) -> Result<Self, UnknownMechanism> {
        Self::ALL
            .into_iter()
            .find(|m| m.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| UnknownMechanism(s.into()))
    }
}

/// What is unique to the TLS connection that an exchange runs over. Empty without TLS, and where -PLUS isn't offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// "tls-exporter" (RFC 9266): 32 octets of exported keying material, of TLS 1.3.
    pub tls_exporter: Option<Vec<u8>>,
    /// "tls-server-end-point" (RFC 5929 §4): hash of the server's certificate.
    pub tls_server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// Registered name of [`ChannelBindings::tls_exporter`].
    pub const TLS_EXPORTER: &'static str = "tls-exporter";
    /// Registered name of [`ChannelBindings::tls_server_end_point`].
    pub const TLS_SERVER_END_POINT: &'static str = "tls-server-end-point";

    /// From pairs of registered name and data, as they travel between processes. Other names are left out.
    pub fn from_pairs<N: AsRef<str>, D: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, D)>) -> Self {
        let mut all = Self::default();
        for (name, data) in pairs {
            match name.as_ref() {
                Self::TLS_EXPORTER => all.tls_exporter = Some(data.as_ref().to_vec()),
                Self::TLS_SERVER_END_POINT => all.tls_server_end_point = Some(data.as_ref().to_vec()),
                _ => {}
            }
        }
        all
    }

    /// Pairs of registered name and data: what [`ChannelBindings::from_pairs`] reads.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        [
            (Self::TLS_EXPORTER, &self.tls_exporter),
            (Self::TLS_SERVER_END_POINT, &self.tls_server_end_point),
        ]
        .into_iter()
        .filter_map(|(name, data)| Some((name, data.as_deref()?)))
    }

    /// Whether there is none, so that no -PLUS mechanism works.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tls_exporter.is_none() && self.tls_server_end_point.is_none()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.pairs().find(|(n, _)| *n == name).map(|(_, data)| data)
    }

    /// The best there is, for a client to choose: the exporter is unique to the connection, not only to the server.
    pub(crate) fn best(&self) -> Option<(&'static str, &[u8])> {
        self.pairs().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        for m in Mechanism::ALL {
            assert_eq!(m.name().parse(), Ok(m));
            assert_eq!(m.name().to_lowercase().parse(), Ok(m));
        }
        assert!("SCRAM-SHA-512".parse::<Mechanism>().is_err());
    }

    #[test]
    fn bindings_survive_travelling() {
        let all = ChannelBindings {
            tls_exporter: Some(vec![1]),
            tls_server_end_point: Some(vec![2]),
        };
        assert_eq!(ChannelBindings::from_pairs(all.pairs()), all);
        assert_eq!(all.best(), Some(("tls-exporter", &[1][..])));
        assert!(ChannelBindings::default().is_empty());
        assert!(ChannelBindings::from_pairs([("tls-unique", [1u8])]).is_empty());
    }
}
