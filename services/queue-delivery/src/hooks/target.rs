//! Where a webhook goes, or a report that is posted.

use http::Uri;
use http::uri::Scheme;

/// A receiver: what a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Receiver {
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
}

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub receiver: Receiver,
    /// As it stands in the Host field.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Of a URL that begins with `http://` or `https://`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{url:?} is not a URL that can be called: {why}");
        let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("credentials belong into the authorization setting"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(Self {
            receiver: Receiver {
                tls,
                host: host.to_lowercase(),
                port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            },
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

impl Receiver {
    /// Of a URL that may be none: then one that stands for itself, so that it is tried and its failure told.
    pub(crate) fn of(url: &str) -> Self {
        match Target::parse(url) {
            Ok(target) => target.receiver,
            Err(_) => Self {
                tls: false,
                host: url.to_owned(),
                port: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let t = Target::parse("https://Hooks.example/a/b?c=d").unwrap();
        assert_eq!(
            (t.receiver.tls, t.receiver.host.as_str(), t.receiver.port),
            (true, "hooks.example", 443)
        );
        assert_eq!((t.authority.as_str(), t.path.as_str()), ("Hooks.example", "/a/b?c=d"));
        let t = Target::parse("http://[::1]:8080").unwrap();
        assert_eq!(
            (t.receiver.host.as_str(), t.receiver.port, t.path.as_str()),
            ("::1", 8080, "/")
        );
        assert_eq!(t.authority, "[::1]:8080");
        for bad in [
            "ftp://a/",
            "http://",
            "/a",
            "http://a:b@c/",
            "http://a b/",
            "http://a/\n",
            "http://[::1/",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
            assert_eq!(Receiver::of(bad).port, 0);
        }
    }
}
