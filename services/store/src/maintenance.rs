//! Clearing away what is no longer needed.

use std::time::Duration;

use mox_service::Clock;

use crate::account::{AccountError, Accounts};
use crate::content::Collector;
use crate::engine::{Db, REMOVED_MANY};
use crate::idempotency;
use crate::queue::Queue;
use crate::registry::Registry;

/// Between two rounds of the collector.
const COLLECT_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at the rejects of all accounts, which are kept for days.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);

/// Removes contents without references, abandoned uploads, results that nobody asks for any longer, and what was kept of
/// messages and webhooks for as long as it was to be.
pub(crate) async fn collect(db: &Db, collector: &Collector, queue: &Queue, clock: &Clock) {
    let mut removed = 0;
    loop {
        match collector.run_once().await {
            Ok(collected) if collected != Default::default() => {
                tracing::debug!(
                    abandoned = collected.abandoned,
                    removed = collected.removed,
                    kept = collected.kept,
                    "contents collected"
                );
                removed += collected.keys;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "collecting contents"),
        }
        if removed >= REMOVED_MANY as u64 {
            match db.settle().await {
                Ok(()) => removed = 0,
                Err(error) => tracing::error!(%error, "giving back the space of contents"),
            }
        }
        if let Err(error) = idempotency::expire(db, clock.unix_millis() / 1000).await {
            tracing::error!(%error, "dropping old results of changes");
        }
        match queue.clean_retired().await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "retired messages removed"),
            Err(error) => tracing::error!(%error, "removing retired messages"),
        }
        match queue.hooks().clean_retired().await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "retired webhooks removed"),
            Err(error) => tracing::error!(%error, "removing retired webhooks"),
        }
        clock.sleep(COLLECT_EVERY).await;
    }
}

/// Removes copies of refused messages that have become old, also from accounts that get no new ones.
pub(crate) async fn tidy_rejects(registry: &Registry, accounts: &Accounts, clock: &Clock) {
    loop {
        let committed = registry.current();
        for (name, settings) in &committed.dynamic.accounts {
            if settings.rejects_mailbox.is_empty() || settings.keep_rejects {
                continue;
            }
            let Some(id) = committed.id(name) else { continue };
            match accounts.tidy_rejects(id).await {
                // Whoever removes an account removes all that it has.
                Ok(()) | Err(AccountError::AccountGone) => {}
                Err(error) => tracing::error!(account = name, %error, "removing old rejects"),
            }
        }
        clock.sleep(TIDY_EVERY).await;
    }
}
