//! Limits on connections: at once and new in a minute, for an address and its two wider networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mox_config::ServiceLimits;
use mox_telemetry::Telemetry;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

const MINUTE: Duration = Duration::from_secs(60);

/// Prefix lengths of an address and its two wider networks: what a customer, a provider's range and a provider have.
const PREFIXES_V4: [u8; 3] = [32, 26, 21];
const PREFIXES_V6: [u8; 3] = [64, 48, 32];

/// The limits of one service, shared by all of its sockets. Clones share the counts.
#[derive(Clone, Debug)]
pub struct ConnectionLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: [u64; 3],
    a_minute: [u64; 3],
    counts: Mutex<Counts>,
    metrics: Option<Metrics>,
}

#[derive(Debug)]
struct Counts {
    minute: Instant,
    networks: HashMap<Network, Count>,
}

#[derive(Debug, Default)]
struct Count {
    now: u64,
    this_minute: u64,
}

/// A tier with the bits of an address that it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(u8, IpAddr);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug)]
struct Metrics {
    open: Gauge,
    outcomes: Family<Outcome, Counter>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many at once.
    AtOnce,
    /// Too many new ones in a minute.
    Rate,
}

impl ConnectionLimits {
    /// As configured.
    #[must_use]
    pub fn new(limits: &ServiceLimits) -> Self {
        Self::build(limits.connections, limits.new_connections_per_minute, None)
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::build([0; 3], [0; 3], None)
    }

    /// As configured, counted in the metrics `mox_<package>_connections…`.
    #[must_use]
    pub fn measured(limits: &ServiceLimits, package: &str, telemetry: &Telemetry) -> Self {
        let metrics = Metrics {
            open: Gauge::default(),
            outcomes: Family::default(),
        };
        let name = package.replace('-', "_");
        let mut registry = telemetry.registry.lock();
        registry.register(
            format!("mox_{name}_connections_open"),
            "Connections now",
            metrics.open.clone(),
        );
        let help = "Connections by what became of them at their start";
        registry.register(format!("mox_{name}_connections"), help, metrics.outcomes.clone());
        Self::build(limits.connections, limits.new_connections_per_minute, Some(metrics))
    }

    fn build(at_once: [u64; 3], a_minute: [u64; 3], metrics: Option<Metrics>) -> Self {
        let counts = Mutex::new(Counts {
            minute: Instant::now(),
            networks: HashMap::new(),
        });
        Self(Arc::new(Inner {
            at_once,
            a_minute,
            counts,
            metrics,
        }))
    }

    /// Takes a connection from `ip`, unless one of its networks has too many. The permit is held as long as it lasts.
    ///
    /// # Errors
    /// Which kind of limit was reached.
    pub fn admit(&self, ip: IpAddr) -> Result<Permit, Refused> {
        let admitted = self.admit_at(ip, Instant::now());
        if let Some(metrics) = &self.0.metrics {
            let outcome = match admitted {
                Ok(_) => "accepted",
                Err(Refused::AtOnce) => "too_many",
                Err(Refused::Rate) => "too_fast",
            };
            metrics.outcomes.get_or_create(&Outcome { outcome }).inc();
            if admitted.is_ok() {
                metrics.open.inc();
            }
        }
        admitted
    }

    fn admit_at(&self, ip: IpAddr, now: Instant) -> Result<Permit, Refused> {
        let networks = networks(ip);
        let inner = &*self.0;
        let mut counts = inner.counts.lock();
        if now.duration_since(counts.minute) >= MINUTE {
            counts.minute = now;
            counts.networks.retain(|_, count| {
                count.this_minute = 0;
                count.now > 0
            });
        }
        for (tier, network) in networks.iter().enumerate() {
            let Some(count) = counts.networks.get(network) else {
                continue;
            };
            if reached(count.now, inner.at_once[tier]) {
                return Err(Refused::AtOnce);
            }
            if reached(count.this_minute, inner.a_minute[tier]) {
                return Err(Refused::Rate);
            }
        }
        for network in networks {
            let count = counts.networks.entry(network).or_default();
            count.now += 1;
            count.this_minute += 1;
        }
        drop(counts);
        Ok(Permit {
            limits: self.clone(),
            networks,
        })
    }
}

pub(crate) fn reached(count: u64, limit: u64) -> bool {
    limit > 0 && count >= limit
}

/// The address and its wider networks. An IPv4 address in IPv6 clothes is an IPv4 address.
pub(crate) fn networks(ip: IpAddr) -> [Network; 3] {
    let ip = ip.to_canonical();
    let prefixes = if ip.is_ipv4() { PREFIXES_V4 } else { PREFIXES_V6 };
    let mut tier = 0;
    prefixes.map(|prefix| {
        tier += 1;
        let base = match ip {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX << (32 - prefix)).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & u128::MAX << (128 - prefix)).into()),
        };
        Network(tier, base)
    })
}

/// A connection that was taken; dropping it gives its place back.
#[derive(Debug)]
pub struct Permit {
    limits: ConnectionLimits,
    networks: [Network; 3],
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.0.counts.lock();
        for network in self.networks {
            if let Some(count) = counts.networks.get_mut(&network) {
                count.now = count.now.saturating_sub(1);
            }
        }
        drop(counts);
        if let Some(metrics) = &self.limits.0.metrics {
            metrics.open.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(at_once: [u64; 3], a_minute: [u64; 3]) -> ConnectionLimits {
        ConnectionLimits::build(at_once, a_minute, None)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn concurrent_connections_are_limited_and_come_back() {
        let limits = limits([2, 0, 0], [0; 3]);
        let first = limits.admit(ip("192.0.2.1")).unwrap();
        let _second = limits.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(limits.admit(ip("192.0.2.1")).unwrap_err(), Refused::AtOnce);
        let _other = limits.admit(ip("192.0.2.2")).unwrap();
        drop(first);
        let _third = limits.admit(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn wider_networks_have_their_own() {
        let limits = limits([10, 2, 3], [0; 3]);
        let _a = limits.admit(ip("2001:db8::1")).unwrap();
        let _b = limits.admit(ip("2001:db8:0:1::1")).unwrap();
        assert!(limits.admit(ip("2001:db8:0:2::1")).is_err(), "a third of the /48");
        let _c = limits.admit(ip("2001:db8:1::1")).unwrap();
        assert!(limits.admit(ip("2001:db8:2::1")).is_err(), "a fourth of the /32");
        let _d = limits.admit(ip("2001:db9::1")).unwrap();
    }

    #[test]
    fn rates_begin_anew_each_minute() {
        let limits = limits([0; 3], [2, 0, 0]);
        let start = Instant::now();
        drop(limits.admit_at(ip("192.0.2.1"), start));
        drop(limits.admit_at(ip("192.0.2.1"), start));
        assert_eq!(limits.admit_at(ip("192.0.2.1"), start).unwrap_err(), Refused::Rate);
        drop(limits.admit_at(ip("192.0.2.1"), start + MINUTE).unwrap());
        assert_eq!(limits.0.counts.lock().networks.len(), 3, "what is over is forgotten");
    }

    #[test]
    fn none_is_none() {
        let limits = ConnectionLimits::none();
        let permits: Vec<_> = (0..10_000).map(|_| limits.admit(ip("127.0.0.1")).unwrap()).collect();
        drop(permits);
    }
}
