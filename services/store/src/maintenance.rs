//! Clearing away what is no longer needed.

use std::time::Duration;

use mox_service::Clock;

use crate::content::Collector;
use crate::engine::Db;
use crate::idempotency;

/// Between two rounds of the collector.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// Removes contents without references, abandoned uploads, and results that nobody asks for any longer.
pub(crate) async fn collect(db: &Db, collector: &Collector, clock: &Clock) {
    loop {
        match collector.run_once().await {
            Ok(collected) if collected != Default::default() => {
                tracing::debug!(
                    abandoned = collected.abandoned,
                    removed = collected.removed,
                    kept = collected.kept,
                    "contents collected"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "collecting contents"),
        }
        if let Err(error) = idempotency::expire(db, clock.unix_millis() / 1000).await {
            tracing::error!(%error, "dropping old results of changes");
        }
        clock.sleep(COLLECT_EVERY).await;
    }
}
