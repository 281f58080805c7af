//! Sessions with one address at once, whatever they are for.
//!
//! Lanes bound what goes to a destination. Hosts of providers take mail for very many of them, and see all of it as ours.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::lanes::LANE_MAX;

/// Sessions of this process with one address: as many as with one destination.
pub const PLACES: usize = LANE_MAX;
/// How long one is waited for. Who waits has one of the sessions of the whole process.
const WAIT: Duration = Duration::from_secs(3);

/// What is taken at each address. Cheap to clone.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<SocketAddr, Arc<There>>>>);

/// One address.
struct There {
    free: Arc<Semaphore>,
    /// A session with it ended its message, and another may use it.
    offered: Notify,
}

/// The right to have a session with an address, until it is dropped.
pub struct Place {
    address: SocketAddr,
    all: Places,
    there: Option<Arc<There>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// To wait for a place with.
    pub fn at(&self, address: SocketAddr) -> Place {
        let new = || {
            Arc::new(There {
                free: Arc::new(Semaphore::new(PLACES)),
                offered: Notify::new(),
            })
        };
        let there = Arc::clone(self.0.lock().entry(address).or_insert_with(new));
        Place {
            address,
            all: self.clone(),
            there: Some(there),
            permit: None,
        }
    }
}

impl Place {
    /// Whether it would have to be waited for.
    pub fn is_full(&self) -> bool {
        self.there
            .as_ref()
            .is_some_and(|there| there.free.available_permits() == 0)
    }

    /// Waits until the place may be taken, or a session with the address is offered, which is to be looked for then.
    /// Answers whether it was taken; not after `end`.
    pub async fn take(&mut self, end: Instant) -> Result<bool, Elapsed> {
        let Some(there) = self.there.clone() else {
            return Ok(false);
        };
        let taken = async {
            tokio::select! {
                biased;
                permit = Arc::clone(&there.free).acquire_owned() => permit.ok(),
                () = there.offered.notified() => None,
            }
        };
        self.permit = timeout_at(end, taken).await?;
        Ok(self.permit.is_some())
    }

    /// Says that the session which has it waits for another message.
    pub fn offer(&self) {
        if let Some(there) = &self.there {
            there.offered.notify_one();
        }
    }

    /// When waiting for it ends.
    pub fn end() -> Instant {
        Instant::now() + WAIT
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        drop(self.permit.take());
        drop(self.there.take());
        // Who has a place, and who waits for one, holds it, too.
        if all
            .get(&self.address)
            .is_some_and(|there| Arc::strong_count(there) == 1)
        {
            all.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken(places: &Places, address: SocketAddr) -> Option<Place> {
        let mut place = places.at(address);
        place.take(Place::end()).await.ok()?.then_some(place)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_places_and_others_theirs() {
        let places = Places::default();
        let (one, two): (SocketAddr, SocketAddr) = ("192.0.2.1:25".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
        let mut all = Vec::new();
        for _ in 0..PLACES {
            assert!(!places.at(one).is_full());
            all.push(taken(&places, one).await.unwrap());
        }
        assert!(places.at(one).is_full() && !places.at(two).is_full());
        let before = Instant::now();
        assert!(taken(&places, one).await.is_none());
        assert_eq!(before.elapsed(), WAIT);
        drop(taken(&places, two).await.unwrap());
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { taken(&places, one).await.is_some() }
        });
        tokio::time::sleep(WAIT / 2).await;
        all.pop();
        assert!(waiting.await.unwrap(), "who waits gets what becomes free");
        all.push(taken(&places, one).await.unwrap());
        all[0].offer();
        assert!(
            !places.at(one).take(Place::end()).await.unwrap(),
            "a session is offered"
        );
        drop(all);
        assert!(places.0.lock().is_empty(), "nothing is remembered of who has none");
    }
}
