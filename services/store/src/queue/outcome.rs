//! What became of an entry, for those who take note of it in the same commit.

use mox_proto::queue::v1::Entry;
use mox_webhook::Event;

use super::{Queue, QueueError};
use crate::engine::Commit;
use crate::hook::Outcome;

/// What became of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Happened<'a> {
    /// What happened.
    pub event: Event,
    /// The entry as it is from now on, or was last; the result of the attempt is the last of its results.
    pub entry: &'a Entry,
    /// Its recipient went onto the suppression list with this.
    pub suppressing: bool,
}

impl Queue {
    /// Adds to the commit of an outcome what follows from it elsewhere in the store. If it answers true,
    /// [`crate::hook::Hooks::publish`] is to be called after the commit.
    pub(super) async fn follow(&self, commit: &mut Commit, happened: &Happened<'_>) -> Result<bool, QueueError> {
        let entry = happened.entry;
        tracing::debug!(entry = entry.id, event = %happened.event, suppressing = happened.suppressing, "outcome");
        // What the system sends itself is nobody's to be told of.
        if entry.dsn || entry.dmarc_report || entry.tls_report {
            return Ok(false);
        }
        let good = matches!(happened.event, Event::Delivered | Event::Relayed);
        let result = entry.results.last().filter(|_| !good).cloned().unwrap_or_default();
        let outcome = Outcome {
            event: happened.event,
            entry,
            dsn: false,
            suppressing: happened.suppressing,
            smtp_code: result.smtp_code,
            enhanced_code: &result.enhanced_code,
            error: &result.error,
        };
        self.hooks().on_outcome(commit, &outcome).await
    }
}
