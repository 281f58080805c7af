//! What became of an entry, for those who take note of it in the same commit.

use mox_proto::queue::v1::Entry;

use super::{Queue, QueueError};
use crate::engine::Commit;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A host has taken the responsibility for it, and will tell the sender of what becomes of it.
    Delivered,
    /// A host has taken it that sends no notifications (RFC 3461 §5.2.2).
    Relayed,
    /// An attempt failed, and there will be another.
    Delayed,
    /// It was given up.
    Failed,
    /// It was not tried, as its recipient is on the suppression list.
    Suppressed,
    /// An administrator gave it up.
    Canceled,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Happened<'a> {
    /// What happened.
    pub event: Event,
    /// The entry as it is from now on, or was last; the result of the attempt is the last of its results.
    pub entry: &'a Entry,
    /// Its recipient went onto the suppression list with this.
    pub suppressing: bool,
    /// Milliseconds since 1970.
    pub at: i64,
}

impl Queue {
    /// Adds to the commit of an outcome what follows from it elsewhere in the store.
    #[allow(clippy::unused_async, reason = "others look up what they have before")]
    pub(super) async fn follow(&self, _commit: &mut Commit, happened: &Happened<'_>) -> Result<(), QueueError> {
        tracing::debug!(entry = happened.entry.id, event = ?happened.event, suppressing = happened.suppressing, "outcome");
        Ok(())
    }
}
