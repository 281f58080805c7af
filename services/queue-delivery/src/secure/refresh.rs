//! Fetches policies again before they are over, so that who can keep us from a policy's host for a while gains nothing
//! (RFC 8461 §3.3, §10.2).

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::memory::millis;
use super::sts::{Kept, Policies};

/// How often the store is asked what is to be fetched.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// Policies that are claimed, and fetched, at once.
const CLAIM: u32 = 10;
/// A policy that was of no use for so long is left to its end.
const UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);

impl Policies {
    /// Goes on until it is dropped.
    pub async fn refresh(&self) {
        loop {
            self.refresh_due().await;
            self.memory().clock().sleep(LOOK_EVERY).await;
        }
    }

    /// Fetches what is to be fetched now.
    pub(super) async fn refresh_due(&self) {
        loop {
            let claimed = self.memory().claim_refresh(CLAIM).await;
            if claimed.is_empty() {
                return;
            }
            // At once, so that hosts that hang don't hold up the policies of others.
            join_all(claimed.into_iter().map(|(domain, kept)| self.refresh_one(domain, kept))).await;
        }
    }

    async fn refresh_one(&self, domain: String, kept: Kept) {
        let now = self.memory().now();
        let next = if now - kept.used > millis(UNUSED) {
            Kept {
                refresh: kept.expires,
                ..kept
            }
        } else {
            let id = self.id(&domain).await.unwrap_or_else(|| kept.id.clone());
            match self.fetch_now(&domain).await {
                Ok(fetched) => Kept::new(fetched, id, now, kept.used),
                // RFC 8461 §3.3: a failure to refresh changes nothing.
                Err(_) => kept.postponed(now),
            }
        };
        self.memory().put_domain(&domain, &Arc::new(next)).await;
    }
}
