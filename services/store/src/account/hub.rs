//! Telling of changes: to the sessions that watch accounts through this process, and to the other processes.
//!
//! What is told is the account's modification sequence, and, as far as it is known, which mailboxes the changes are of;
//! several changes that nobody took notice of yet become one.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use mox_types::{AccountId, MailboxId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Mailboxes that a notice names; of more changes it says nothing about where they are.
const MAILBOXES: usize = 8;

/// That an account changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The highest modification sequence.
    pub modseq: u64,
    /// What is said of mailboxes holds for changes after this.
    pub since: u64,
    /// Which mailboxes the changes are of; none if that is not known.
    pub mailboxes: BTreeSet<MailboxId>,
}

impl News {
    /// Of changes anywhere.
    #[must_use]
    pub fn anywhere(modseq: u64) -> Self {
        Self {
            modseq,
            ..Self::default()
        }
    }

    /// Takes in news that came later.
    fn join(&mut self, later: &Self) {
        let follows = !self.mailboxes.is_empty() && !later.mailboxes.is_empty() && later.since <= self.modseq;
        self.modseq = self.modseq.max(later.modseq);
        if follows {
            self.mailboxes.extend(&later.mailboxes);
        }
        if !follows || self.mailboxes.len() > MAILBOXES {
            self.mailboxes.clear();
        }
    }
}

/// Who watches accounts.
#[derive(Default)]
pub struct Hub {
    watched: Mutex<HashMap<AccountId, Watched>>,
    outgoing: Mutex<HashMap<AccountId, News>>,
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
    dirty: Mutex<HashMap<u64, News>>,
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
    pub fn committed(&self, account: AccountId, mut news: News) {
        if news.mailboxes.len() > MAILBOXES {
            news.mailboxes.clear();
        }
        self.noticed(account, &news);
        self.outgoing
            .lock()
            .entry(account)
            .and_modify(|n| n.join(&news))
            .or_insert(news);
        self.wake.notify_one();
    }

    /// After any news of an account, from wherever. Older news than what was told is none.
    pub fn noticed(&self, account: AccountId, news: &News) {
        let mut watched = self.watched.lock();
        let Some(watched) = watched.get_mut(&account).filter(|w| w.modseq < news.modseq) else {
            return;
        };
        watched.modseq = news.modseq;
        for ((_, subscription), pending) in &watched.subscriptions {
            pending
                .dirty
                .lock()
                .entry(*subscription)
                .and_modify(|n| n.join(news))
                .or_insert_with(|| news.clone());
            pending.wake.notify_one();
        }
    }

    /// The accounts that are watched, to read their modification sequences again.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        self.watched.lock().keys().copied().collect()
    }

    /// Waits for changes that other processes are to be told of, and takes them.
    pub async fn outgoing(&self) -> HashMap<AccountId, News> {
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

    /// Waits for changes, and takes them: the news of each subscription.
    pub async fn changes(&self) -> HashMap<u64, News> {
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
        let at = News::anywhere;
        hub.committed(a, at(5));
        hub.committed(a, at(6));
        hub.noticed(a, &at(6));
        assert_eq!(watcher.changes().await, HashMap::from([(1, at(6))]));
        hub.noticed(a, &at(4));
        assert!(watcher.changes().now_or_never().is_none());
        assert_eq!(hub.outgoing().await, HashMap::from([(a, at(6))]));
        watcher.unsubscribe(1);
        hub.committed(a, at(9));
        hub.committed(b, at(1));
        assert_eq!(watcher.changes().await, HashMap::from([(2, at(1))]));
        drop(watcher);
        assert!(hub.accounts().is_empty());
    }

    #[tokio::test]
    async fn mailboxes_are_named_while_they_are_few_and_known() {
        let hub = Arc::new(Hub::default());
        let account = AccountId::new();
        let ids: Vec<MailboxId> = (0..10).map(|_| MailboxId::new()).collect();
        let news = |since, modseq, mailboxes: &[MailboxId]| News {
            modseq,
            since,
            mailboxes: mailboxes.iter().copied().collect(),
        };
        let mut watcher = hub.watcher();
        watcher.subscribe(1, account);
        hub.committed(account, news(4, 5, &ids[..1]));
        hub.committed(account, news(5, 7, &ids[1..2]));
        assert_eq!(watcher.changes().await, HashMap::from([(1, news(4, 7, &ids[..2]))]));
        // Something between was missed.
        hub.committed(account, news(7, 8, &ids[..1]));
        hub.noticed(account, &news(9, 10, &ids[..1]));
        assert_eq!(watcher.changes().await, HashMap::from([(1, news(7, 10, &[]))]));
        hub.committed(account, news(10, 11, &ids));
        assert_eq!(watcher.changes().await, HashMap::from([(1, news(10, 11, &[]))]));
        hub.committed(account, news(11, 12, &ids[..5]));
        hub.committed(account, news(12, 13, &ids[5..]));
        assert_eq!(watcher.changes().await, HashMap::from([(1, news(11, 13, &[]))]));
    }
}
