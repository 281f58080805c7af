//! Leases that this worker holds, by its own monotonic time.
//!
//! Time is counted from before the claim or renewal was asked for, so that a lease ends here no later than in the
//! store's time. What is about to be irrevocable asks [`Leases::safe`] first.

use std::collections::HashMap;
use std::time::Duration;

use mox_proto::queue::v1::{Lease, RenewRequest};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tonic::{Request, Status};

/// How long a lease is: what a worker that was killed delays its entries by.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often leases are renewed. Two renewals may fail before the margin is reached.
const RENEW_EVERY: Duration = Duration::from_secs(6);
/// Leases that are renewed in one call.
const RENEW_CHUNK: usize = 1000;
/// How long a renewal is waited for: less than is left of the lease then.
pub const RENEW_TIMEOUT: Duration = Duration::from_secs(5);
/// What must be left of a lease before the end of a message is sent.
pub const MARGIN: Duration = Duration::from_secs(12);

/// [`LEASE`], as the store is asked for it.
pub fn lease_seconds() -> u32 {
    u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX)
}

#[derive(Debug, Clone, Copy)]
struct Held {
    attempt: u64,
    until: Instant,
}

/// The leases of this worker.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<u64, Held>>);

impl Leases {
    /// Takes note of a lease that was asked for at `asked`.
    pub fn add(&self, lease: Lease, asked: Instant) {
        self.0.lock().insert(
            lease.id,
            Held {
                attempt: lease.attempt,
                until: asked + LEASE,
            },
        );
    }

    /// Renews all of them, of a worker of this name, again and again. `renew` asks the store, which answers whether each
    /// is still held.
    pub async fn keep<F, Answer>(&self, worker: &str, renew: F)
    where
        F: Fn(Request<RenewRequest>) -> Answer,
        Answer: Future<Output = Result<Vec<bool>, Status>>,
    {
        loop {
            sleep(RENEW_EVERY).await;
            for leases in self.all().chunks(RENEW_CHUNK) {
                let request = RenewRequest {
                    worker: worker.to_owned(),
                    leases: leases.to_vec(),
                    lease_seconds: lease_seconds(),
                };
                let asked = Instant::now();
                match renew(mox_rpc::with_deadline(request, RENEW_TIMEOUT)).await {
                    Ok(held) => {
                        for (lease, held) in leases.iter().zip(held) {
                            self.renewed(*lease, asked, held);
                        }
                    }
                    Err(status) => tracing::info!(worker, error = status.message(), "renewing leases failed"),
                }
            }
        }
    }

    /// Takes note of the answer to a renewal that was asked for at `asked`.
    fn renewed(&self, lease: Lease, asked: Instant, held: bool) {
        let mut all = self.0.lock();
        match all.get_mut(&lease.id).filter(|known| known.attempt == lease.attempt) {
            Some(known) if held => known.until = asked + LEASE,
            Some(_) => {
                all.remove(&lease.id);
            }
            None => {}
        }
    }

    /// The attempt is over.
    pub fn remove(&self, lease: Lease) {
        let mut all = self.0.lock();
        if all.get(&lease.id).is_some_and(|known| known.attempt == lease.attempt) {
            all.remove(&lease.id);
        }
    }

    /// All of them, to be renewed.
    fn all(&self) -> Vec<Lease> {
        self.0
            .lock()
            .iter()
            .map(|(id, held)| Lease {
                id: *id,
                attempt: held.attempt,
            })
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether all of these are held for long enough to finish a delivery.
    pub fn safe(&self, leases: &[Lease]) -> bool {
        let needed = Instant::now() + MARGIN;
        let all = self.0.lock();
        leases.iter().all(|lease| {
            all.get(&lease.id)
                .is_some_and(|held| held.attempt == lease.attempt && held.until > needed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_safe_until_its_margin() {
        let leases = Leases::default();
        let lease = Lease { id: 1, attempt: 1 };
        assert!(!leases.safe(&[lease]));
        leases.add(lease, Instant::now());
        tokio::time::advance(LEASE - MARGIN - Duration::from_millis(1)).await;
        assert!(leases.safe(&[lease]));
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(!leases.safe(&[lease]));
        leases.renewed(lease, Instant::now(), true);
        assert!(leases.safe(&[lease]));
        assert!(!leases.safe(&[lease, Lease { id: 1, attempt: 2 }]));
        leases.renewed(Lease { id: 1, attempt: 2 }, Instant::now(), false);
        assert!(leases.safe(&[lease]), "another attempt's answer");
        leases.renewed(lease, Instant::now(), false);
        assert!(!leases.safe(&[lease]) && leases.len() == 0);
    }
}
