//! Limits on mail: messages and bytes in a minute and in a day, for an address and its two wider networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mox_config::ServiceLimits;
use parking_lot::Mutex;

use crate::limits::{Network, networks, reached};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Networks that are counted at once. When there are more, counting begins anew: who can send from that many is not
/// stopped by this.
const NETWORKS_MAX: usize = 100_000;

/// What networks send. Clones share the counts.
#[derive(Clone, Debug)]
pub struct MessageRates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    windows: [Window; 2],
    /// Held from looking to counting, so that of those who send at once none is one too many.
    taking: Mutex<()>,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Of what there was too much: messages or bytes.
    pub what: &'static str,
}

/// Counts of a span of time, which begin anew with each.
#[derive(Debug)]
struct Window {
    span: Duration,
    messages: [u64; 3],
    bytes: [u64; 3],
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    since: Instant,
    networks: HashMap<Network, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    messages: u64,
    bytes: u64,
}

impl Window {
    fn new(span: Duration, messages: [u64; 3], bytes: [u64; 3]) -> Self {
        let counts = Mutex::new(Counts {
            since: Instant::now(),
            networks: HashMap::new(),
        });
        Self {
            span,
            messages,
            bytes,
            counts,
        }
    }

    fn is_unlimited(&self) -> bool {
        self.messages == [0; 3] && self.bytes == [0; 3]
    }

    fn check(&self, networks: &[Network; 3], more: u64, now: Instant) -> Result<(), Over> {
        if self.is_unlimited() {
            return Ok(());
        }
        let mut counts = self.counts.lock();
        counts.renew(self.span, now);
        for (tier, network) in networks.iter().enumerate() {
            let count = counts.networks.get(network).copied().unwrap_or_default();
            if reached(count.messages, self.messages[tier]) {
                return Err(Over { what: "messages" });
            }
            // The last byte of the message that is to come is what may not go beyond.
            if self.bytes[tier] > 0 && reached(count.bytes.saturating_add(more), self.bytes[tier]) {
                return Err(Over { what: "bytes" });
            }
        }
        Ok(())
    }

    fn count(&self, networks: [Network; 3], bytes: u64, now: Instant) {
        if self.is_unlimited() {
            return;
        }
        let mut counts = self.counts.lock();
        counts.renew(self.span, now);
        if counts.networks.len() >= NETWORKS_MAX {
            counts.networks.clear();
        }
        for network in networks {
            let count = counts.networks.entry(network).or_default();
            count.messages += 1;
            count.bytes = count.bytes.saturating_add(bytes);
        }
    }
}

impl Counts {
    fn renew(&mut self, span: Duration, now: Instant) {
        if now.duration_since(self.since) >= span {
            self.since = now;
            self.networks.clear();
        }
    }
}

impl MessageRates {
    /// As configured.
    #[must_use]
    pub fn new(limits: &ServiceLimits) -> Self {
        let windows = [
            Window::new(MINUTE, limits.messages_per_minute, limits.bytes_per_minute),
            Window::new(DAY, limits.messages_per_day, limits.bytes_per_day),
        ];
        Self(Arc::new(Inner {
            windows,
            taking: Mutex::default(),
        }))
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::new(&ServiceLimits::none())
    }

    /// Whether `ip` may send another message, of so many bytes as far as is known.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn check(&self, ip: IpAddr, bytes: u64) -> Result<(), Over> {
        self.check_at(ip, bytes, Instant::now())
    }

    /// Counts a message that was received, of so many bytes, unless it is one too many: others may have come, and it may
    /// be larger than was said, since [`MessageRates::check`].
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn take(&self, ip: IpAddr, bytes: u64) -> Result<(), Over> {
        let now = Instant::now();
        let _taking = self.0.taking.lock();
        self.check_at(ip, bytes, now)?;
        self.count_at(ip, bytes, now);
        Ok(())
    }

    fn check_at(&self, ip: IpAddr, bytes: u64, now: Instant) -> Result<(), Over> {
        let networks = networks(ip);
        self.0
            .windows
            .iter()
            .try_for_each(|window| window.check(&networks, bytes, now))
    }

    fn count_at(&self, ip: IpAddr, bytes: u64, now: Instant) {
        let networks = networks(ip);
        for window in &self.0.windows {
            window.count(networks, bytes, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn messages_and_bytes_are_limited_by_network() {
        let rates = MessageRates::new(&ServiceLimits {
            messages_per_minute: [2, 3, 0],
            bytes_per_day: [0, 1000, 0],
            ..ServiceLimits::none()
        });
        let start = Instant::now();
        let check = |from: &str, bytes, after| rates.check_at(ip(from), bytes, start + after);
        rates.count_at(ip("192.0.2.1"), 10, start);
        assert_eq!(check("192.0.2.1", 0, MINUTE / 2), Ok(()));
        rates.count_at(ip("::ffff:192.0.2.1"), 10, start);
        assert_eq!(check("192.0.2.1", 0, MINUTE / 2), Err(Over { what: "messages" }));
        assert_eq!(check("192.0.2.2", 0, MINUTE / 2), Ok(()));
        rates.count_at(ip("192.0.2.2"), 10, start);
        assert_eq!(
            check("192.0.2.3", 0, MINUTE / 2),
            Err(Over { what: "messages" }),
            "a fourth of the /26"
        );
        assert_eq!(check("192.0.2.64", 0, MINUTE / 2), Ok(()), "of the next /26");
        assert_eq!(check("192.0.2.1", 900, MINUTE), Ok(()), "a new minute");
        assert_eq!(check("192.0.2.1", 970, MINUTE), Err(Over { what: "bytes" }));
        assert_eq!(check("192.0.2.1", 970, DAY), Ok(()), "a new day");
    }

    #[test]
    fn what_is_too_much_is_not_taken_and_does_not_count() {
        let rates = MessageRates::new(&ServiceLimits {
            messages_per_day: [0, 0, 3],
            bytes_per_minute: [1000, 0, 0],
            ..ServiceLimits::none()
        });
        // Nothing was said of its size.
        assert_eq!(rates.check(ip("2001:db8::1"), 0), Ok(()));
        assert_eq!(rates.take(ip("2001:db8::1"), 1000), Err(Over { what: "bytes" }));
        assert_eq!(rates.take(ip("2001:db8::1"), 600), Ok(()));
        assert_eq!(
            rates.take(ip("2001:db8::2"), 600),
            Err(Over { what: "bytes" }),
            "the same /64"
        );
        assert_eq!(rates.take(ip("2001:db8:0:1::1"), 600), Ok(()));
        assert_eq!(rates.take(ip("2001:db8:1::1"), 600), Ok(()));
        assert_eq!(
            rates.take(ip("2001:db8:2::1"), 600),
            Err(Over { what: "messages" }),
            "the same /32"
        );
        assert_eq!(rates.take(ip("2001:db9::1"), 600), Ok(()));
    }

    #[test]
    fn counts_are_bounded_and_none_is_none() {
        let rates = MessageRates::new(&ServiceLimits {
            messages_per_day: [1, 0, 0],
            ..ServiceLimits::none()
        });
        for n in 0..200_000_u32 {
            rates.take(IpAddr::V4((n << 8).into()), 0).unwrap();
        }
        assert!(rates.0.windows[1].counts.lock().networks.len() <= NETWORKS_MAX + 3);
        assert!(rates.0.windows[0].counts.lock().networks.is_empty());
        let rates = MessageRates::none();
        rates.take(ip("192.0.2.1"), u64::MAX).unwrap();
        assert_eq!(rates.check(ip("192.0.2.1"), u64::MAX), Ok(()));
    }
}
