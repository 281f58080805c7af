//! DNS blocklists (RFC 5782): lists of addresses that are known for bad mail, asked by DNS.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mox_dns::{Resolver, reverse_name};
use tokio::time::timeout;

/// How long a question may take: a list that is slow must not hold mail up.
pub const TIME: Duration = Duration::from_secs(10);
/// Octets of a list's reason that are kept.
const REASON_BYTES: usize = 300;

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not listed.
    Clear,
    /// Listed, with the list's reason, if it gives one.
    Listed(String),
    /// It could not be found out.
    TempError(String),
}

/// Why a list is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// RFC 5782 §5: a list must have this test entry.
    #[error("the list {zone} does not have its test entry 127.0.0.2: {what}")]
    TestEntry {
        /// The list.
        zone: String,
        /// What it said.
        what: String,
    },
    /// RFC 5782 §5: a list must not have this one. One that does has everything.
    #[error("the list {zone} lists 127.0.0.1, and so probably everything")]
    ListsAll {
        /// The list.
        zone: String,
    },
}

/// The name of an address in a list (RFC 5782 §2.1, §2.4).
#[must_use]
pub fn name(zone: &str, ip: IpAddr) -> String {
    let reverse = reverse_name(ip);
    let labels = reverse
        .strip_suffix(".in-addr.arpa")
        .or_else(|| reverse.strip_suffix(".ip6.arpa"))
        .unwrap_or(&reverse);
    format!("{labels}.{}", zone.trim_matches('.'))
}

/// Asks a list about an address.
pub async fn look_up(resolver: &dyn Resolver, zone: &str, ip: IpAddr) -> Verdict {
    let name = name(zone, ip);
    match timeout(TIME, ask(resolver, &name)).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict::TempError(format!("asking {name}: no answer in time")),
    }
}

async fn ask(resolver: &dyn Resolver, name: &str) -> Verdict {
    let codes = match resolver.a(name).await {
        Ok(answer) => answer.records,
        Err(error) if error.is_not_found() => return Verdict::Clear,
        Err(error) => return Verdict::TempError(error.to_string()),
    };
    // RFC 5782 §2.1: entries are in 127/8. Answers elsewhere are of an expired zone that is parked, and 127.255.255/24 is
    // how large lists say that they don't answer this resolver.
    let entry = |code: &&Ipv4Addr| code.is_loopback() && !code.octets().starts_with(&[127, 255, 255]);
    let Some(code) = codes.iter().find(entry) else {
        return Verdict::TempError(format!("{name} has the address {}, which no entry has", codes[0]));
    };
    let reason = match resolver.txt(name).await {
        Ok(answer) => answer.records.into_iter().next().unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let mut reason: String = String::from_utf8_lossy(&reason)
        .chars()
        .filter(|c| matches!(c, ' '..='~'))
        .collect();
    reason.truncate(REASON_BYTES);
    if reason.is_empty() {
        reason = format!("listed with code {code}");
    }
    Verdict::Listed(reason)
}

/// Whether a list works: has its test entry, and not everything.
///
/// # Errors
/// If it does not.
pub async fn check_health(resolver: &dyn Resolver, zone: &str) -> Result<(), HealthError> {
    let zone = zone.to_owned();
    match look_up(resolver, &zone, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).await {
        Verdict::Listed(_) => {}
        Verdict::Clear => {
            let what = "there is no such name".to_owned();
            return Err(HealthError::TestEntry { zone, what });
        }
        Verdict::TempError(what) => return Err(HealthError::TestEntry { zone, what }),
    }
    match look_up(resolver, &zone, IpAddr::V4(Ipv4Addr::LOCALHOST)).await {
        Verdict::Listed(_) => Err(HealthError::ListsAll { zone }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mox_dns::ZoneResolver;

    use super::*;

    #[tokio::test]
    async fn lists_are_asked() {
        let zone = ZoneResolver::parse(
            "2.0.0.127.list.example A 127.0.0.2\n9.2.0.192.list.example A 127.0.0.4\n\
             9.2.0.192.list.example TXT spam source\n8.2.0.192.list.example A 127.0.0.4\n\
             7.2.0.192.list.example A 203.0.113.1\n6.2.0.192.list.example A 127.255.255.254\n\
             5.2.0.192.list.example FAIL timeout\n\
             2.0.0.127.all.example A 127.0.0.2\n1.0.0.127.all.example A 127.0.0.2\n",
        )
        .unwrap();
        let ask = async |ip: &str| look_up(&zone, "list.example.", ip.parse().unwrap()).await;
        assert_eq!(ask("192.0.2.9").await, Verdict::Listed("spam source".into()));
        assert_eq!(
            ask("192.0.2.8").await,
            Verdict::Listed("listed with code 127.0.0.4".into())
        );
        assert_eq!(ask("192.0.2.1").await, Verdict::Clear);
        for ip in ["192.0.2.7", "192.0.2.6", "192.0.2.5"] {
            assert!(matches!(ask(ip).await, Verdict::TempError(_)), "{ip}");
        }
        assert_eq!(check_health(&zone, "list.example").await, Ok(()));
        assert!(matches!(
            check_health(&zone, "all.example").await,
            Err(HealthError::ListsAll { .. })
        ));
        assert!(matches!(
            check_health(&zone, "none.example").await,
            Err(HealthError::TestEntry { .. })
        ));
        let v6 = name("list.example", "2001:db8::1".parse().unwrap());
        assert!(
            v6.starts_with("1.0.0.0.") && v6.ends_with(".1.0.0.2.list.example"),
            "{v6}"
        );
    }
}
