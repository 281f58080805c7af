//! The mail of accounts: one writer for each, and what is kept of it in memory.
//!
//! [`Accounts`] is the way to both. Changes are operations ([`Op`]): the writer of an account takes those that wait,
//! plans them one after the other in a transaction, commits them together on the condition that the account is as it
//! knows it, and then answers. Reads take the account's state and, for lists, the index of a mailbox ([`Accounts::state`],
//! [`Accounts::view`]); they are never older than what was committed when they began.

mod cache;
mod changes;
mod create;
mod error;
mod flags;
pub mod history;
mod hub;
mod index;
mod ingest;
mod names;
mod notify;
pub mod ops;
mod pack;
mod purge;
mod ranges;
mod recipients;
mod rejects;
mod rights;
mod rows;
mod state;
mod threads;
mod training;
mod transaction;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mox_types::AccountId;
use parking_lot::{Mutex, RwLock};

pub use cache::Slot;
pub use changes::{AccountChanges, Changes, MailboxChanges, account_changes, changes};
pub use create::init;
pub use error::AccountError;
pub use flags::{ALL_BITS, DELETED, KeywordTable, MESSAGE_KEYWORDS_MAX, SEEN, Wanted};
pub use hub::{Hub, News, Watcher};
pub use index::{Chunk, Index, IndexRow, NO_DAY};
pub use ingest::{Facts, Ingested, ingest};
pub use names::{INBOX, canonical};
pub use pack::{Columns, Packer, join as join_rows};
pub use ranges::{
    Collector, RANGES_MAX, contains, from as ranges_from, normalize, of as ranges_of, span as ranges_span,
};
pub use recipients::{
    count_recipients, find_recipient, is_sent, knows_domain, recipient_key, record_recipients, write_to,
};
pub use rights::{Identity, rights};
pub use rows::{FromSnapshot, Reader, read as read_rows};
pub use state::{Counts, Mailbox, State};
pub use threads::{Link, Thread, ThreadPlace, entries as thread_entries, find as find_thread};
pub use training::{JUDGEMENT, JunkRules, JunkRulesOf, Lessons, NOT_JUNK, lesson};
pub use transaction::{AccountTx, LOG_KEPT};
pub use writer::{Key, Op};

use crate::engine::Db;
use crate::search::TextIndex;

/// Bytes of indices kept in memory unless configured: 2.7 million messages.
pub const INDEX_BYTES: usize = 128 << 20;
/// Accounts whose state is kept in memory while nobody uses it.
const IDLE_ACCOUNTS_MAX: usize = 1000;

/// The quota of an account by its name, in bytes; 0 is none.
pub type Quota = Arc<dyn Fn(&str) -> u64 + Send + Sync>;
/// Seconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// All accounts in use.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    db: Db,
    hub: Arc<Hub>,
    quota: Quota,
    now: Now,
    index_budget: usize,
    index_bytes: AtomicUsize,
    tick: AtomicU64,
    purge: tokio::sync::Notify,
    lessons: Lessons,
    junk_rules: std::sync::OnceLock<JunkRulesOf>,
    text: TextIndex,
    accounts: Mutex<HashMap<AccountId, Arc<Account>>>,
}

/// One account in use.
pub struct Account {
    id: AccountId,
    shared: RwLock<cache::Shared>,
    /// Held while the state is behind or about to change: from planning a commit until its result is in `shared`.
    commit: tokio::sync::Mutex<()>,
    /// Held while an index is loaded.
    loading: tokio::sync::Mutex<()>,
    jobs: Mutex<writer::Jobs>,
    used: AtomicU64,
}

impl Accounts {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, quota: Quota, now: Now, index_budget: usize) -> Self {
        Self(Arc::new(Inner {
            db,
            hub: Arc::default(),
            quota,
            now,
            index_budget,
            index_bytes: AtomicUsize::new(0),
            tick: AtomicU64::new(1),
            purge: tokio::sync::Notify::new(),
            lessons: Lessons::default(),
            junk_rules: std::sync::OnceLock::new(),
            text: TextIndex::default(),
            accounts: Mutex::default(),
        }))
    }

    /// Says what the configuration has about junk, once. Until then, no account has a filter.
    pub fn set_junk_rules(&self, rules: JunkRulesOf) {
        let _ = self.0.junk_rules.set(rules);
    }

    /// Accounts whose junk filters have something to learn.
    #[must_use]
    pub fn lessons(&self) -> &Lessons {
        &self.0.lessons
    }

    fn junk_rules(&self, name: &str) -> JunkRules {
        self.0.junk_rules.get().map(|rules| rules(name)).unwrap_or_default()
    }

    /// The engine beneath.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// Who is told of changes.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// The index of the texts of all accounts.
    #[must_use]
    pub fn text(&self) -> &TextIndex {
        &self.0.text
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0.now)()
    }

    /// The quota of an account by its name, in bytes; 0 is none.
    #[must_use]
    pub fn quota(&self, name: &str) -> u64 {
        (self.0.quota)(name)
    }

    fn open(&self, id: AccountId) -> Arc<Account> {
        let mut accounts = self.0.accounts.lock();
        if accounts.len() > IDLE_ACCOUNTS_MAX && !accounts.contains_key(&id) {
            self.drop_idle(&mut accounts);
        }
        let account = accounts.entry(id).or_insert_with(|| {
            Arc::new(Account {
                id,
                shared: RwLock::default(),
                commit: tokio::sync::Mutex::default(),
                loading: tokio::sync::Mutex::default(),
                jobs: Mutex::default(),
                used: AtomicU64::new(0),
            })
        });
        account.used.store(self.0.tick(), Ordering::Relaxed);
        account.clone()
    }

    /// Forgets the least recently used half of the accounts that nobody uses now. What is forgotten is read again.
    fn drop_idle(&self, accounts: &mut HashMap<AccountId, Arc<Account>>) {
        let mut ages: Vec<u64> = accounts.values().map(|a| a.used.load(Ordering::Relaxed)).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        accounts.retain(|_, account| {
            // Only this map refers to it: nobody can begin to use it while the map is locked.
            let idle = Arc::strong_count(account) == 1 && account.used.load(Ordering::Relaxed) < median;
            if idle {
                self.0
                    .index_bytes
                    .fetch_sub(account.shared.read().bytes(), Ordering::Relaxed);
            }
            !idle
        });
    }

    /// Forgets an account whose data was removed.
    pub fn forget(&self, id: AccountId) {
        if let Some(account) = self.0.accounts.lock().remove(&id) {
            let mut shared = account.shared.write();
            self.0.index_bytes.fetch_sub(shared.bytes(), Ordering::Relaxed);
            *shared = cache::Shared::default();
        }
    }
}

impl Inner {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }
}
