//! Webhooks: what accounts are told of what becomes of the messages they sent, and of messages that arrive.
//!
//! A webhook is queued by the commit of what it tells of ([`Hooks::on_outcome`], [`arrival`]), so that none is lost and
//! none tells of what did not happen. Its record says all that is told of a message that was sent. For one that arrived
//! it has a reference to the content, of which the JSON object is made each time that it is needed: so delivering costs
//! the same whatever a message has in it, and the object is there even if the message is removed meanwhile.
//!
//! Of each message that was sent there is at most one webhook in the queue: that of a later event retires the one
//! before as superseded. As with the outgoing queue, workers claim what is due under leases. What is due lies in one
//! index, by source (the URL for one direction of an account): a claim goes from source to source, where the last one
//! ended, so that none has to wait for another that has much to tell.
//!
//! What left the queue is retired, if its account keeps it, until its time is over.

pub mod arrival;
mod change;
mod claim;
mod complete;
mod list;
mod outcome;
mod payload;
mod record;
mod remove;
mod retired;
mod returned;
mod service;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use mox_config::{Account, Dynamic};
use mox_events::{Bus, Event};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use outcome::Outcome;
pub use service::{AdminApi, HookApi};

use crate::content::Contents;
use crate::engine::Db;
use crate::keys::{self, HookSource};
use crate::queue::ids::Ids;
use crate::queue::{Config, Now, QueueError};

/// Times that a change is tried while others change the same.
const ATTEMPTS: usize = 32;
/// JSON objects of messages that are made at once: each needs the whole message in memory.
const COMPOSING_MAX: usize = 4;

/// The webhooks of all accounts. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    db: Db,
    contents: Contents,
    bus: Bus,
    now: Now,
    ids: Ids,
    config: OnceLock<Config>,
    /// The source that the last claim ended with.
    cursor: Mutex<Option<HookSource>>,
    composing: Semaphore,
}

impl Hooks {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, contents: Contents, bus: Bus, now: Now) -> Self {
        let ids = Ids::new(db.clone(), keys::hook_next());
        Self(Arc::new(Inner {
            db,
            contents,
            bus,
            now,
            ids,
            config: OnceLock::new(),
            cursor: Mutex::new(None),
            composing: Semaphore::new(COMPOSING_MAX),
        }))
    }

    /// Sets which accounts want what, once. Without, nobody is told anything.
    pub fn configure(&self, config: Config) {
        let _ = self.0.config.set(config);
    }

    /// Tells the workers that something is due, once it is committed. A hint: they look every now and then anyway.
    pub fn publish(&self) {
        self.0.bus.publish(&Event::HookDue);
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn now(&self) -> i64 {
        (self.0.now)()
    }

    fn config(&self) -> Option<Arc<Dynamic>> {
        self.0.config.get().map(|config| config())
    }

    /// How long an account's webhooks are kept after they left the queue, in milliseconds; 0 is not at all.
    fn keep_millis(&self, account: &str) -> i64 {
        let config = self.config();
        let settings = config.as_ref().and_then(|config| config.accounts.get(account));
        settings.map_or(0, |account| {
            i64::try_from(account.keep_retired_webhook_period.as_millis()).unwrap_or(i64::MAX)
        })
    }
}

/// Where an account wants to be told of an event of messages that were sent, if it does.
fn outgoing_url(account: &Account, event: mox_webhook::Event) -> Option<&str> {
    let webhook = account.outgoing_webhook.as_ref()?;
    let wanted = webhook.events.is_empty() || webhook.events.iter().any(|name| name == event.name());
    wanted.then_some(webhook.url.as_str())
}

/// What who asks for a webhook is told that is not there.
fn gone(id: u64) -> QueueError {
    QueueError::NotFound(format!(
        "there is no webhook {id}: those that left the queue are kept for as long as keep_retired_webhook_period of their \
         account"
    ))
}
