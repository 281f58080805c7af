//! Telling of changes: to the sessions that watch accounts through this process, and to the other processes.
//!
//! What is told is the account's modification sequence; several changes that nobody took notice of yet become one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use mox_types::AccountId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who watches accounts.
#[derive(Default)]
pub struct Hub {
    watched: Mutex<HashMap<AccountId, Watched>>,
    outgoing: Mutex<HashMap<AccountId, u64>>,
    wake: Notify,
    next: AtomicU64,
}

#[derive(Default)]
struct Watched {
    modseq: u64,
    /// By watcher and its subscription.
    subscriptions: HashMap<(u64, u64), Arc<Pending>>,
}

/// What a watcher was not told yet.
#[derive(Default)]
struct Pending {
    dirty: Mutex<HashMap<u64, u64>>,
    wake: Notify,
}

/// One stream of notices for many accounts. Dropping it ends all of its subscriptions.
pub struct Watcher {
    hub: Weak<Hub>,
    number: u64,
    pending: Arc<Pending>,
    accounts: HashMap<u64, AccountId>,
}

impl Hub {
    /// A new watcher without subscriptions.
    #[must_use]
    pub fn watcher(self: &Arc<Self>) -> Watcher {
        Watcher {
            hub: Arc::downgrade(self),
            number: self.next.fetch_add(1, Ordering::Relaxed),
            pending: Arc::default(),
            accounts: HashMap::new(),
        }
    }

    /// After a commit of this process: tells its watchers, and others through [`Hub::outgoing`].
    pub fn committed(&self, account: AccountId, modseq: u64) {
        self.noticed(account, modseq);
        self.outgoing.lock().insert(account, modseq);
        self.wake.notify_one();
    }

    /// After any news of an account, from wherever. Older news than what was told is none.
    pub fn noticed(&self, account: AccountId, modseq: u64) {
        let mut watched = self.watched.lock();
        let Some(watched) = watched.get_mut(&account).filter(|w| w.modseq < modseq) else {
            return;
        };
        watched.modseq = modseq;
        for ((_, subscription), pending) in &watched.subscriptions {
            pending.dirty.lock().insert(*subscription, modseq);
            pending.wake.notify_one();
        }
    }

    /// The accounts that are watched, to read their modification sequences again.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        self.watched.lock().keys().copied().collect()
    }

    /// Waits for changes that other processes are to be told of, and takes them.
    pub async fn outgoing(&self) -> HashMap<AccountId, u64> {
        loop {
            let waiting = self.wake.notified();
            let taken = std::mem::take(&mut *self.outgoing.lock());
            if !taken.is_empty() {
                return taken;
            }
            waiting.await;
        }
    }
}

impl Watcher {
    /// Watches an account under a number of the caller's. To be called before the account's modification sequence is
    /// read, so that nothing falls between.
    pub fn subscribe(&mut self, subscription: u64, account: AccountId) {
        self.unsubscribe(subscription);
        if let Some(hub) = self.hub.upgrade() {
            let mut watched = hub.watched.lock();
            let watched = watched.entry(account).or_default();
            watched
                .subscriptions
                .insert((self.number, subscription), self.pending.clone());
            self.accounts.insert(subscription, account);
        }
    }

    /// Watches it no longer.
    pub fn unsubscribe(&mut self, subscription: u64) {
        self.pending.dirty.lock().remove(&subscription);
        if let (Some(hub), Some(account)) = (self.hub.upgrade(), self.accounts.remove(&subscription)) {
            let mut all = hub.watched.lock();
            if let Some(watched) = all.get_mut(&account) {
                watched.subscriptions.remove(&(self.number, subscription));
                if watched.subscriptions.is_empty() {
                    all.remove(&account);
                }
            }
        }
    }

    /// Waits for changes, and takes them: the highest modification sequence of each subscription.
    pub async fn changes(&self) -> HashMap<u64, u64> {
        loop {
            let waiting = self.pending.wake.notified();
            let taken = std::mem::take(&mut *self.pending.dirty.lock());
            if !taken.is_empty() {
                return taken;
            }
            waiting.await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        for subscription in self.accounts.keys().copied().collect::<Vec<_>>() {
            self.unsubscribe(subscription);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn changes_are_joined_and_old_news_is_none() {
        let hub = Arc::new(Hub::default());
        let (a, b) = (AccountId::new(), AccountId::new());
        let mut watcher = hub.watcher();
        watcher.subscribe(1, a);
        watcher.subscribe(2, b);
        hub.committed(a, 5);
        hub.committed(a, 6);
        hub.noticed(a, 6);
        assert_eq!(watcher.changes().await, HashMap::from([(1, 6)]));
        hub.noticed(a, 4);
        assert!(watcher.changes().now_or_never().is_none());
        assert_eq!(hub.outgoing().await, HashMap::from([(a, 6)]));
        watcher.unsubscribe(1);
        hub.committed(a, 9);
        hub.committed(b, 1);
        assert_eq!(watcher.changes().await, HashMap::from([(2, 1)]));
        drop(watcher);
        assert!(hub.accounts().is_empty());
    }
}
