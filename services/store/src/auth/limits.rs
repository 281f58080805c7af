//! Failed logins, counted a minute, of an address and of its two wider networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures a minute, of an address (IPv6: /64), its network (IPv4 /26, IPv6 /48) and the wider one (IPv4 /21,
/// IPv6 /32). 0 is no limit.
pub type Tiers = [u64; 3];

/// Prefix lengths of the tiers.
const PREFIXES_V4: [u32; 3] = [32, 26, 21];
const PREFIXES_V6: [u32; 3] = [64, 48, 32];
/// Time that failures are counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// Most networks that are counted at once. When there are more, those that failed least are forgotten.
const NETWORKS_MAX: usize = 100_000;

#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Network {
    tier: u8,
    v6: bool,
    bits: u128,
}

fn networks(ip: IpAddr) -> [Network; 3] {
    // An IPv4 client of a dual-stack socket is the same client.
    let (bits, width, prefixes) = match ip.to_canonical() {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, PREFIXES_V4),
        IpAddr::V6(ip) => (ip.to_bits(), 128, PREFIXES_V6),
    };
    let mut tier = 0;
    prefixes.map(|prefix| {
        let network = Network {
            tier,
            v6: width == 128,
            bits: bits >> (width - prefix),
        };
        tier += 1;
        network
    })
}

/// The counters, of this process.
pub struct Failures(Mutex<Windows>);

/// Failures of this minute and the one before: together they give a rate without jumps.
struct Windows {
    began: Instant,
    current: HashMap<Network, u64>,
    previous: HashMap<Network, u64>,
}

impl Windows {
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed < WINDOW {
            return;
        }
        let current = std::mem::take(&mut self.current);
        if elapsed < 2 * WINDOW {
            self.previous = current;
            self.began += WINDOW;
        } else {
            self.previous.clear();
            self.began = now;
        }
    }

    /// The failures of the last minute, those of the earlier window taken as evenly spread.
    fn rate(&self, network: &Network, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.began).as_secs_f64() / WINDOW.as_secs_f64();
        let count = |window: &HashMap<Network, u64>| window.get(network).copied().unwrap_or(0) as f64;
        count(&self.current) + count(&self.previous) * (1.0 - passed).max(0.0)
    }
}

impl Default for Failures {
    fn default() -> Self {
        let windows = Windows {
            began: Instant::now(),
            current: HashMap::new(),
            previous: HashMap::new(),
        };
        Self(Mutex::new(windows))
    }
}

impl Failures {
    /// Whether an address may try.
    #[must_use]
    pub fn admits(&self, ip: IpAddr, limits: Tiers) -> bool {
        let now = Instant::now();
        let mut windows = self.0.lock();
        windows.advance(now);
        networks(ip)
            .iter()
            .zip(limits)
            .all(|(network, limit)| limit == 0 || windows.rate(network, now) < limit as f64)
    }

    /// Takes note of a failure.
    pub fn add(&self, ip: IpAddr) {
        let mut windows = self.0.lock();
        windows.advance(Instant::now());
        if windows.current.len() > NETWORKS_MAX {
            windows.current.retain(|_, count| *count > 1);
        }
        if windows.current.len() > NETWORKS_MAX {
            windows.current.clear();
        }
        for network in networks(ip) {
            *windows.current.entry(network).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Tiers = [10, 30, 90];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_after_its_limit_and_admitted_a_minute_later() {
        let failures = Failures::default();
        for _ in 0..10 {
            assert!(failures.admits(ip("192.0.2.1"), LIMITS));
            failures.add(ip("192.0.2.1"));
        }
        assert!(!failures.admits(ip("192.0.2.1"), LIMITS));
        assert!(
            !failures.admits(ip("::ffff:192.0.2.1"), LIMITS),
            "mapped addresses are the same"
        );
        assert!(failures.admits(ip("192.0.2.2"), LIMITS));
        assert!(failures.admits(ip("192.0.2.1"), [0, 0, 0]), "0 is no limit");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(failures.admits(ip("192.0.2.1"), LIMITS), "some of it has passed");
        tokio::time::advance(Duration::from_secs(600)).await;
        for _ in 0..10 {
            assert!(failures.admits(ip("192.0.2.1"), LIMITS));
            failures.add(ip("192.0.2.1"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn networks_have_wider_limits() {
        let failures = Failures::default();
        for host in 0..30u8 {
            assert!(failures.admits(IpAddr::from([192, 0, 2, host]), LIMITS));
            failures.add(IpAddr::from([192, 0, 2, host]));
        }
        assert!(!failures.admits(ip("192.0.2.63"), LIMITS), "same /26");
        assert!(failures.admits(ip("192.0.2.64"), LIMITS), "another /26");
        for host in 0..60u8 {
            failures.add(IpAddr::from([192, 0, 3, host]));
        }
        assert!(!failures.admits(ip("192.0.7.255"), LIMITS), "same /21");
        assert!(failures.admits(ip("192.0.8.0"), LIMITS), "another /21");
        for host in 0..10 {
            failures.add(ip(&format!("2001:db8:0:1::{host:x}")));
        }
        assert!(!failures.admits(ip("2001:db8:0:1:ffff::"), LIMITS), "same /64");
        assert!(failures.admits(ip("2001:db8:0:2::"), LIMITS), "another /64");
    }
}
