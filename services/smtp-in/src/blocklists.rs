//! DNS blocklists (RFC 5782): asked about clients whose messages would be accepted, and believed only as long as they
//! work.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mox_dns::Resolver;
use mox_mailauth::dnsbl::{self, Verdict};
use mox_service::Clock;
use mox_types::Domain;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

/// For all lists together. Mail that is wanted waits for it.
const TIME: Duration = Duration::from_secs(30);
/// How long it is believed that a list works, or does not.
const HEALTH_KEPT: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a list that works is left alone when it did not answer, so that not each message waits for it.
const PAUSE: Duration = Duration::from_secs(60);

/// What is known of the lists.
#[derive(Debug, Default)]
pub(crate) struct Blocklists {
    /// As many as are configured.
    health: Mutex<HashMap<Domain, Health>>,
}

/// Of a list. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Health {
    /// When it was looked at.
    at: i64,
    works: bool,
    /// When it did not answer.
    silent: Option<i64>,
}

/// That an address is in a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub zone: Domain,
    /// The list's own words.
    pub reason: String,
}

impl Blocklists {
    /// The first of the lists that has an address; those behind it are not asked. None too if they do not answer in time.
    pub(crate) async fn find(
        &self,
        resolver: &dyn Resolver,
        zones: &[Domain],
        ip: IpAddr,
        clock: &Clock,
    ) -> Option<Listed> {
        let deadline = Instant::now() + TIME;
        for zone in zones {
            // One that does not answer is not asked again for hours, so it keeps the others from telling only once.
            match timeout_at(deadline, self.ask(resolver, zone, ip, clock)).await {
                Ok(None) => {}
                Ok(listed) => return listed,
                Err(_) => return None,
            }
        }
        None
    }

    async fn ask(&self, resolver: &dyn Resolver, zone: &Domain, ip: IpAddr, clock: &Clock) -> Option<Listed> {
        if !self.works(resolver, zone, clock).await {
            return None;
        }
        match dnsbl::look_up(resolver, zone.ascii(), ip).await {
            Verdict::Clear => None,
            Verdict::Listed(reason) => Some(Listed {
                zone: zone.clone(),
                reason,
            }),
            Verdict::TempError(error) => {
                tracing::info!(%zone, error, "a blocklist does not answer, and is not asked for a minute");
                if let Some(health) = self.health.lock().get_mut(zone) {
                    health.silent = Some(clock.unix_millis());
                }
                None
            }
        }
    }

    async fn works(&self, resolver: &dyn Resolver, zone: &Domain, clock: &Clock) -> bool {
        let now = clock.unix_millis();
        let known = self.health.lock().get(zone).copied();
        let within = |at: i64, time: Duration| {
            let passed = u128::try_from(now.saturating_sub(at));
            passed.is_ok_and(|passed| passed < time.as_millis())
        };
        if let Some(health) = known
            && within(health.at, HEALTH_KEPT)
        {
            return health.works && !health.silent.is_some_and(|at| within(at, PAUSE));
        }
        let health = dnsbl::check_health(resolver, zone.ascii()).await;
        if let Err(error) = &health {
            tracing::warn!(%zone, %error, "a blocklist does not work, and is not asked for some hours");
        }
        let known = Health {
            at: now,
            works: health.is_ok(),
            silent: None,
        };
        self.health.lock().insert(zone.clone(), known);
        health.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use mox_dns::ZoneResolver;

    use super::*;

    #[tokio::test]
    async fn lists_are_believed_while_they_work() {
        let parse = |text: &str| ZoneResolver::parse(text).unwrap();
        let healthy = "2.0.0.127.good.example A 127.0.0.2\n9.2.0.192.good.example A 127.0.0.4\n\
                       9.2.0.192.good.example TXT spam\n9.2.0.192.broken.example A 127.0.0.4\n";
        let broken = format!("{healthy}1.0.0.127.good.example A 127.0.0.2\n");
        let zones: Vec<Domain> = ["broken.example", "good.example"].map(|z| z.parse().unwrap()).into();
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let lists = Blocklists::default();
        let ask = async |zone: &ZoneResolver, ip: &str| lists.find(zone, &zones, ip.parse().unwrap(), &clock).await;
        let listed = Listed {
            zone: zones[1].clone(),
            reason: "spam".into(),
        };
        assert_eq!(ask(&parse(healthy), "192.0.2.9").await, Some(listed));
        assert_eq!(ask(&parse(healthy), "192.0.2.8").await, None);
        // It begins to list everything: noticed when it is looked at again.
        hand.advance(HEALTH_KEPT - Duration::from_secs(1));
        assert!(ask(&parse(&broken), "192.0.2.9").await.is_some());
        hand.advance(Duration::from_secs(1));
        assert_eq!(ask(&parse(&broken), "192.0.2.9").await, None);
    }

    #[tokio::test]
    async fn a_list_that_falls_silent_is_left_alone_for_a_while() {
        let parse = |text: &str| ZoneResolver::parse(text).unwrap();
        let well = "2.0.0.127.good.example A 127.0.0.2\n9.2.0.192.good.example A 127.0.0.4\n";
        let silent = format!("{well}8.2.0.192.good.example FAIL timeout\n");
        let zones: Vec<Domain> = vec!["good.example".parse().unwrap()];
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let lists = Blocklists::default();
        let ask = async |zone: &ZoneResolver, ip: &str| lists.find(zone, &zones, ip.parse().unwrap(), &clock).await;
        assert_eq!(ask(&parse(&silent), "192.0.2.8").await, None);
        hand.advance(PAUSE - Duration::from_secs(1));
        assert_eq!(ask(&parse(well), "192.0.2.9").await, None, "it is asked");
        hand.advance(Duration::from_secs(1));
        assert!(ask(&parse(well), "192.0.2.9").await.is_some());
    }
}
