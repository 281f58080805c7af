//! Which way a message goes: directly to the recipient's hosts, or by a transport.

use mox_config::{Dynamic, Static, Transport};
use mox_proto::queue::v1::Entry;
use mox_types::{Address, Domain};

/// A destination: what deliveries at the same time, and their failures, have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The hosts of a domain, reached directly or as the named transport says.
    Domain {
        /// The recipient's.
        domain: Domain,
        /// Of a transport that changes how hosts are reached.
        transport: Option<String>,
    },
    /// A transport that takes everything.
    Transport(String),
}

/// Why there is no way for a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// What the queue has as recipient is none.
    #[error("recipient {0:?} is not an address")]
    Recipient(String),
    /// A route, or the entry, names a transport that mox.toml does not have.
    #[error("transport {0:?} is not configured; add it to mox.toml, or change the route that names it")]
    NoTransport(String),
}

impl RouteError {
    /// Whether nothing that an administrator does can help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Recipient(_))
    }
}

/// Where an entry goes: by the transport that it has been given, or else by the first route that matches.
///
/// # Errors
/// If there is no way.
pub fn destination(entry: &Entry, fixed: &Static, dynamic: &Dynamic) -> Result<Destination, RouteError> {
    let recipient: Address = entry
        .recipient
        .parse()
        .map_err(|_| RouteError::Recipient(entry.recipient.clone()))?;
    let from = [&entry.mail_from, &entry.msg_from]
        .into_iter()
        .find_map(|a| a.parse::<Address>().ok());
    let domain = recipient.domain;
    let transport = match entry.transport.as_str() {
        "" => dynamic
            .route(
                &entry.account,
                from.as_ref().map(|a| &a.domain),
                &domain,
                entry.attempts,
            )
            .map(|route| route.transport.clone()),
        name => Some(name.to_owned()),
    };
    let Some(name) = transport else {
        return Ok(Destination::Domain {
            domain,
            transport: None,
        });
    };
    match fixed.transports.get(&name) {
        None => Err(RouteError::NoTransport(name)),
        Some(Transport { socks: Some(_), .. } | Transport { direct: Some(_), .. }) => Ok(Destination::Domain {
            domain,
            transport: Some(name),
        }),
        Some(_) => Ok(Destination::Transport(name)),
    }
}

#[cfg(test)]
mod tests {
    use mox_config::{Route, TransportDirect, TransportFail};

    use super::*;

    fn entry(recipient: &str) -> Entry {
        Entry {
            recipient: recipient.into(),
            mail_from: "me@from.example".into(),
            ..Entry::default()
        }
    }

    #[test]
    fn the_entry_and_then_routes_decide() {
        let mut fixed = Static::new("data".into(), "mail.example".parse().unwrap());
        fixed.transports.insert(
            "no".into(),
            Transport {
                fail: Some(TransportFail::default()),
                ..Default::default()
            },
        );
        fixed.transports.insert(
            "v4".into(),
            Transport {
                direct: Some(TransportDirect::default()),
                ..Default::default()
            },
        );
        let route = |to: &str, attempts, transport: &str| Route {
            from_domain: vec![".from.example".into()],
            to_domain: vec![to.into()],
            minimum_attempts: attempts,
            transport: transport.into(),
        };
        let dynamic = Dynamic {
            routes: vec![
                route("a.example", 2, "no"),
                route(".b.example", 0, "v4"),
                route("c.example", 0, "missing"),
            ],
            ..Dynamic::default()
        };
        let of = |entry: &Entry| destination(entry, &fixed, &dynamic);
        let direct = |domain: &str, transport: Option<&str>| {
            Ok(Destination::Domain {
                domain: domain.parse().unwrap(),
                transport: transport.map(str::to_owned),
            })
        };
        assert_eq!(
            of(&entry("x@a.example")),
            direct("a.example", None),
            "not after so few attempts"
        );
        let late = Entry {
            attempts: 2,
            ..entry("x@a.example")
        };
        assert_eq!(of(&late), Ok(Destination::Transport("no".into())));
        assert_eq!(of(&entry("x@sub.b.example")), direct("sub.b.example", Some("v4")));
        assert_eq!(
            of(&entry("x@c.example")),
            Err(RouteError::NoTransport("missing".into()))
        );
        let chosen = Entry {
            transport: "no".into(),
            ..entry("x@z.example")
        };
        assert_eq!(of(&chosen), Ok(Destination::Transport("no".into())));
        assert!(of(&entry("none")).unwrap_err().is_permanent());
    }
}
