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
//! Time is that of the database: in one place for all workers.
//!
//! [`QueueState`]: mox_proto::record::v1::QueueState

mod claim;
mod complete;
mod dsn;
mod enqueue;
mod error;
mod ids;
mod limits;
mod list;
mod record;
mod remove;
mod service;
mod submit;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use mox_events::{Bus, Event};

pub use enqueue::Submitter;
pub use error::QueueError;
pub use service::{AdminApi, Config, QueueApi, Sessions, SubmitApi};
pub use submit::may_send_as;

use crate::account::Accounts;
use crate::content::Contents;
use crate::engine::Db;

/// Milliseconds since 1970, by the database's clock.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Times that a change is tried while others change the same.
const ATTEMPTS: usize = 32;

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
}

impl Queue {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, contents: Contents, accounts: Accounts, bus: Bus, now: Now) -> Self {
        let ids = ids::Ids::new(db.clone());
        Self(Arc::new(Inner {
            db,
            contents,
            accounts,
            bus,
            now,
            ids,
        }))
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn now(&self) -> i64 {
        (self.0.now)()
    }

    /// Tells the workers that something is due. A hint: they look every now and then anyway.
    fn publish(&self) {
        self.0.bus.publish(&Event::QueueDue);
    }
}
