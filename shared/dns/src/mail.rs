//! Which hosts take mail for a domain (RFC 5321 §5.1).

use std::net::IpAddr;

use mox_types::Domain;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::error::{Error, Reason};
use crate::record::{Answer, RecordType, Status};
use crate::resolver::Resolver;

/// MX hosts that are taken note of. A domain that names more gains nothing by it.
const MAX_HOSTS: usize = 20;
/// Addresses of one host that are taken note of.
const MAX_ADDRESSES: usize = 16;

/// A host that takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailHost {
    /// Without the trailing dot, as A-labels.
    pub name: String,
    /// Lower is tried first.
    pub preference: u16,
}

/// Hosts that take mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailHosts {
    /// In the order to try: by preference, and at random among equals. At least one.
    pub hosts: Vec<MailHost>,
    /// Of the MX records, or of the denial that there are any.
    pub status: Status,
    /// The domain, or where its CNAMEs lead.
    pub canonical: String,
    /// Whether the domain has no MX records, and so is its own host.
    pub implicit: bool,
}

/// Why no host takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailHostsError {
    /// The domain says that it takes no mail (RFC 7505).
    #[error("domain {0} does not accept mail: it has a null MX")]
    NullMx(String),
    /// The domain has MX records, and none names a host.
    #[error("domain {0} has no usable MX record")]
    NoUsable(String),
    /// There is no such domain, or it could not be found out.
    #[error(transparent)]
    Dns(#[from] Error),
}

impl MailHostsError {
    /// Whether asking again later may have another result.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Dns(e) if e.is_temporary())
    }
}

/// The hosts that take mail for `domain`, in the order to try them. `seed` orders those of the same preference.
///
/// A domain without MX records is its own host (the implicit MX), also when it turns out to have no addresses.
///
/// # Errors
/// If the domain does not exist, takes no mail, or DNS can't tell now.
pub async fn mail_hosts(resolver: &dyn Resolver, domain: &Domain, seed: u64) -> Result<MailHosts, MailHostsError> {
    let name = domain.ascii();
    let mut answer = match resolver.mx(name).await {
        Ok(answer) => answer,
        Err(e) if e.reason == Reason::NoData => {
            // RFC 5321 §5.1: an empty list of MX is treated as one of preference 0 that points to the domain.
            return Ok(MailHosts {
                hosts: vec![MailHost {
                    name: name.to_owned(),
                    preference: 0,
                }],
                status: e.status,
                canonical: name.to_owned(),
                implicit: true,
            });
        }
        Err(e) => return Err(e.into()),
    };
    let null = answer.records.iter().all(|mx| mx.host.is_empty());
    if null {
        // RFC 7505 §3: one record with preference 0; other preferences occur, and can mean nothing else.
        return Err(MailHostsError::NullMx(domain.to_string()));
    }
    answer.records.retain(|mx| !mx.host.is_empty());
    answer.records.dedup_by(|a, b| a.host == b.host);
    // RFC 5321 §5.1: hosts of equal preference are tried in random order, to spread the load.
    answer.records.shuffle(&mut StdRng::seed_from_u64(seed));
    answer.records.sort_by_key(|mx| mx.preference);
    answer.records.truncate(MAX_HOSTS);
    let hosts: Vec<MailHost> = answer
        .records
        .into_iter()
        .map(|mx| MailHost {
            name: mx.host,
            preference: mx.preference,
        })
        .collect();
    if hosts.is_empty() {
        return Err(MailHostsError::NoUsable(domain.to_string()));
    }
    Ok(MailHosts {
        hosts,
        status: answer.status,
        canonical: answer.canonical,
        implicit: false,
    })
}

/// The addresses of a host. A text that is an address, with or without brackets, stands for itself.
///
/// # Errors
/// If the host has none, or DNS can't tell now.
pub async fn host_addresses(resolver: &dyn Resolver, host: &str) -> Result<Answer<IpAddr>, Error> {
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let literal = literal.strip_prefix("IPv6:").unwrap_or(literal);
    if let Ok(ip) = literal.parse() {
        return Ok(Answer {
            records: vec![ip],
            status: Status::Indeterminate,
            canonical: host.to_owned(),
        });
    }
    let mut answer = resolver.addresses(host).await?;
    answer.records.truncate(MAX_ADDRESSES);
    if answer.records.is_empty() {
        return Err(Error::new(host, RecordType::A, Reason::NoData, answer.status));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::ZoneResolver;

    const ZONE: &str = "
        two.example      MX 10 a.two.example
        two.example      MX 10 b.two.example
        two.example      MX 5  first.two.example
        two.example      MX 20 last.two.example
        null.example     MX 0 .
        partly.example   MX 0 .
        partly.example   MX 10 a.two.example
        implicit.example A 192.0.2.1
        alias.example    CNAME two.example
        broken.example   FAIL servfail
    ";

    async fn of(domain: &str, seed: u64) -> Result<MailHosts, MailHostsError> {
        mail_hosts(&ZoneResolver::parse(ZONE).unwrap(), &domain.parse().unwrap(), seed).await
    }

    #[tokio::test]
    async fn hosts_come_by_preference_and_at_random_among_equals() {
        let mut seconds = std::collections::BTreeSet::new();
        for seed in 0..32 {
            let hosts = of("two.example", seed).await.unwrap().hosts;
            assert_eq!(hosts.len(), 4);
            assert_eq!(
                (hosts[0].name.as_str(), hosts[3].name.as_str()),
                ("first.two.example", "last.two.example")
            );
            seconds.insert(hosts[1].name.clone());
        }
        assert_eq!(seconds.len(), 2);
    }

    #[tokio::test]
    async fn a_domain_without_mx_is_its_own_host() {
        let hosts = of("implicit.example", 0).await.unwrap();
        assert!(hosts.implicit);
        assert_eq!(hosts.hosts[0].name, "implicit.example");
    }

    #[tokio::test]
    async fn aliases_are_followed_and_failures_are_told_apart() {
        assert_eq!(of("alias.example", 0).await.unwrap().canonical, "two.example");
        assert!(matches!(of("null.example", 0).await, Err(MailHostsError::NullMx(_))));
        assert_eq!(of("partly.example", 0).await.unwrap().hosts.len(), 1);
        assert!(!of("none.example", 0).await.unwrap_err().is_temporary());
        assert!(of("broken.example", 0).await.unwrap_err().is_temporary());
    }

    #[tokio::test]
    async fn address_literals_need_no_dns() {
        let zone = ZoneResolver::new();
        for (text, ip) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[192.0.2.1]", "192.0.2.1"),
            ("[IPv6:::1]", "::1"),
        ] {
            assert_eq!(
                host_addresses(&zone, text).await.unwrap().records,
                [ip.parse::<IpAddr>().unwrap()]
            );
        }
    }
}
