//! Keys of what is remembered of TLS with others.

use super::*;

/// MTA-STS policies: `d`, domain.
const POLICY_DOMAINS: u8 = b'd';
/// When to fetch which policy again: `r`, time, domain.
const POLICY_REFRESHES: u8 = b'r';
/// Hosts: `h`, name.
const POLICY_HOSTS: u8 = b'h';
/// Hosts by when they last had TLS: `o`, time, name.
const POLICY_HOSTS_BY_TIME: u8 = b'o';

fn policy(table: u8) -> Builder {
    Builder::new(POLICY).u8(table)
}

fn at(table: u8, time: i64) -> Builder {
    policy(table).u64(u64::try_from(time).unwrap_or_default())
}

fn until(table: u8, time: i64) -> Range<Bytes> {
    policy(table).build()..at(table, time.saturating_add(1)).build()
}

/// The policy of a domain, [`mox_proto::policy::v1::DomainPolicy`].
#[must_use]
pub fn policy_domain(domain: &str) -> Bytes {
    policy(POLICY_DOMAINS).raw(domain.as_bytes()).build()
}

/// That the policy of a domain is to be fetched again.
#[must_use]
pub fn policy_refresh(time: i64, domain: &str) -> Bytes {
    at(POLICY_REFRESHES, time).raw(domain.as_bytes()).build()
}

/// All policies that are to be fetched again at a time, or before.
#[must_use]
pub fn policy_refreshes(time: i64) -> Range<Bytes> {
    until(POLICY_REFRESHES, time)
}

/// What is remembered of a host, [`mox_proto::policy::v1::Host`].
#[must_use]
pub fn policy_host(name: &str) -> Bytes {
    policy(POLICY_HOSTS).raw(name.as_bytes()).build()
}

/// That a host had TLS.
#[must_use]
pub fn policy_host_at(time: i64, name: &str) -> Bytes {
    at(POLICY_HOSTS_BY_TIME, time).raw(name.as_bytes()).build()
}

/// All hosts that had TLS at a time for the last time, or before.
#[must_use]
pub fn policy_hosts_until(time: i64) -> Range<Bytes> {
    until(POLICY_HOSTS_BY_TIME, time)
}

/// The name in a key of [`policy_refresh`] or [`policy_host_at`].
#[must_use]
pub fn parse_policy_name(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(10..)?).ok()
}
