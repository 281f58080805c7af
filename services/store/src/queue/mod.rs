//! The outgoing queue: what is to be delivered elsewhere, and who is trying it now.
//!
//! An entry is one recipient of one message. Beside the entry lies its [`QueueState`]: when it is due and whose lease
//! it is under. A lease makes an entry due again at its end, so nothing needs to look for those that were lost.
//!
//! Entries that are due lie in one index a recipient domain, and *tickets* say when which domain is to be looked at: for
//! every entry that waits there is a ticket of its domain that is not later. A claim takes the tickets that are due,
//! takes the first entries of their domains, and replaces the tickets by one for what remains. So it costs the same
//! however much waits, and however much of it is for a domain that takes no more now. Entries on hold are in no index.
//!
//! Lists are read from indices (see [`index`] and [`find`]), so that a page of any filter costs the same however long the
//! queue is. What left the queue is retired, if its account keeps it: a record and indices of the same kind.
//!
//! Time is that of the database: in one place for all workers.
//!
//! [`QueueState`]: mox_proto::record::v1::QueueState

mod admin;
mod cancel;
mod change;
mod claim;
mod complete;
mod dsn;
mod enqueue;
mod error;
mod find;
mod fromid;
mod hold;
pub(crate) mod ids;
mod index;
pub(crate) mod lease;
mod limits;
mod list;
mod notices;
mod outcome;
mod record;
mod remove;
mod reports;
mod retired;
mod service;
mod submit;
mod suppress;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use mox_events::Bus;
use mox_types::AccountId;

pub use admin::AdminApi;
pub use enqueue::Submitter;
pub use error::QueueError;
pub(crate) use notices::Outgoing;
pub use outcome::Happened;
pub(crate) use record::{enter_into_lists, lists};
pub use retired::Sent;
pub use service::{Config, QueueApi, Sessions, SubmitApi};
pub use submit::may_send_as;
pub use suppress::base_address;

use crate::account::Accounts;
use crate::content::Contents;
use crate::engine::Db;
use crate::hook::Hooks;
use crate::keys;

/// Milliseconds since 1970, by the database's clock.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Times that a change is tried while others change the same.
const ATTEMPTS: usize = 32;

/// The id of a configured account, by its name.
pub type AccountIds = Arc<dyn Fn(&str) -> Option<AccountId> + Send + Sync>;

/// What the queue goes by.
pub struct Settings {
    /// The configuration in force.
    pub config: Config,
    /// Accounts.
    pub accounts: AccountIds,
    /// The name of this host, for notifications.
    pub hostname: String,
}

/// The outgoing queue.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    db: Db,
    contents: Contents,
    accounts: Accounts,
    bus: Bus,
    now: Now,
    ids: ids::Ids,
    settings: OnceLock<Settings>,
    hooks: Hooks,
}

impl Queue {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, contents: Contents, accounts: Accounts, bus: Bus, now: Now) -> Self {
        let hooks = Hooks::new(db.clone(), contents.clone(), bus.clone(), now.clone());
        let ids = ids::Ids::new(db.clone(), keys::queue_next());
        Self(Arc::new(Inner {
            db,
            contents,
            accounts,
            bus,
            now,
            ids,
            settings: OnceLock::new(),
            hooks,
        }))
    }

    /// Sets what it goes by, once. Without, nothing that left the queue is kept, and nobody is told anything.
    pub fn configure(&self, settings: Settings) {
        self.0.hooks.configure(settings.config.clone());
        let _ = self.0.settings.set(settings);
    }

    /// What accounts are told of what becomes of their messages.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.0.hooks
    }

    /// Lets webhooks be called that were queued by a commit that took place.
    fn publish_told(&self, told: bool) {
        if told {
            self.0.hooks.publish();
        }
    }

    /// How long an account's messages are kept after they left the queue; 0 is not at all.
    fn keep_millis(&self, account: &str) -> i64 {
        let Some(settings) = self.0.settings.get() else {
            return 0;
        };
        let config = (settings.config)();
        let period = config
            .accounts
            .get(account)
            .map(|account| account.keep_retired_message_period);
        period.map_or(0, |period| i64::try_from(period.as_millis()).unwrap_or(i64::MAX))
    }

    fn hostname(&self) -> &str {
        self.0.settings.get().map_or("localhost", |settings| &settings.hostname)
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn now(&self) -> i64 {
        (self.0.now)()
    }

    /// Tells the workers that something is due. A hint: they look every now and then anyway.
    pub(crate) fn publish(&self) {
        self.0.bus.publish(&mox_events::Event::QueueDue);
    }
}
