//! Where a service is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// An address of a service, as configurations write it: `127.0.0.1:7001`, `store:7001`, `[::1]:7001`,
/// `unix:/var/lib/mox/ctl.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Host and port. A name is resolved at each connection attempt.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Host and port of a TCP endpoint; brackets of an IPv6 address are taken off.
    pub(crate) fn host_port(address: &str) -> Option<(&str, u16)> {
        let (host, port) = address.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let plain = !host.is_empty() && !host.contains(['/', '@', '[', ']', ' ']);
        plain.then_some((host, port))
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let bad = || Error::Endpoint(s.to_owned());
        if let Some(path) = s.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        Self::host_port(s).ok_or_else(bad)?;
        Ok(Self::Tcp(s.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_the_forms_that_configurations_use() {
        for text in [
            "127.0.0.1:9000",
            "store:7001",
            "[::1]:7001",
            "unix:/run/mox/ctl.sock",
            "store.mox.svc:1",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_could_be_misread() {
        for text in [
            "",
            "7001",
            ":7001",
            "store",
            "store:",
            "store:70000",
            "::1:7001",
            "[::1:7001",
            "unix:",
            "a/b:1",
            "u@h:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_kept(text in ".*") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string(), text);
            }
        }
    }
}
