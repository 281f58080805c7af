//! Reports: what DMARC and TLS led to, kept until those are told who asked for it; and the reports of others.
//!
//! Whoever records something ([`record`], [`add_tls_results`], a delivery that carries a report of others) puts one row
//! into an *inbox*, under no condition, so that nobody waits for anybody. A task of the store adds these up ([`fold`]):
//! equal evaluations become one row with a count, in a *bundle* for each domain and period. Bounds are applied there, in
//! one place. When its period is over and some time has passed, queue-delivery composes the reports about a bundle
//! ([`jobs`]); one commit puts them into the queue and removes the bundle, on condition that it is what was reported.
//!
//! Reports of others are kept for [`RETENTION`], with a summary for lists ([`received`]).

mod bounds;
mod fold;
mod jobs;
mod metrics;
mod outcome;
mod period;
mod received;
mod record;
mod service;
mod suppress;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use mox_service::Clock;
use tokio::sync::Notify;

pub(crate) use outcome::on_outcome;
pub(crate) use received::arrived;
pub use service::{ReportAdminApi, ReportApi, ReportJobApi};

use self::metrics::Metrics;
use crate::engine::{Db, EngineError};
use crate::queue::{Now, Queue, QueueError};
use crate::registry::Registry;

/// How long reports of others are kept, after the end of their period.
pub const RETENTION: Duration = Duration::from_secs(180 * 24 * 3600);
/// How often the inbox is looked at without a reason: the queue puts things there without telling.
const POLL: Duration = Duration::from_secs(10);
/// So much is left for more to come, so that several are added up at once.
const PAUSE: Duration = Duration::from_millis(200);
/// How often what is old is removed.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// Times that a change is tried while others change the same.
const ATTEMPTS: usize = 32;

/// Why something of reports was not done. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    None(&'static str),
    /// A record cannot be read.
    #[error("record of {0} is damaged")]
    Damaged(&'static str),
    /// Others changed the same at the same time, too often.
    #[error("changed by others at the same time, try again")]
    Contended,
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The queue does not take a report.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// From where contents and results are kept.
    #[error("{1}")]
    Status(tonic::Code, String),
}

impl From<tonic::Status> for ReportError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status.code(), status.message().to_owned())
    }
}

impl From<ReportError> for tonic::Status {
    fn from(error: ReportError) -> Self {
        let text = error.to_string();
        match error {
            ReportError::Invalid(_) => Self::invalid_argument(text),
            ReportError::None(_) => Self::not_found(text),
            ReportError::Damaged(_) => Self::data_loss(text),
            ReportError::Contended => Self::unavailable(text),
            ReportError::Engine(error) => error.into(),
            ReportError::Queue(error) => error.into(),
            ReportError::Status(code, text) => Self::new(code, text),
        }
    }
}

/// Reports. Cheap to clone.
#[derive(Clone)]
pub struct Reports(Arc<Inner>);

struct Inner {
    db: Db,
    queue: Queue,
    registry: Registry,
    now: Now,
    metrics: Metrics,
    /// Something was put into the inbox.
    recorded: Notify,
}

impl Reports {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, queue: Queue, registry: Registry, now: Now) -> Self {
        Self(Arc::new(Inner {
            db,
            queue,
            registry,
            now,
            metrics: Metrics::default(),
            recorded: Notify::new(),
        }))
    }

    /// Registers its figures.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.metrics.register(registry);
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    /// Milliseconds since 1970.
    fn now(&self) -> i64 {
        (self.0.now)()
    }

    /// Adds up what is recorded, and removes what is old. Ends never.
    pub(crate) async fn run(&self, clock: &Clock) {
        let mut clean_at = 0;
        loop {
            loop {
                match self.fold().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%error, "adding up what is to be reported");
                        break;
                    }
                }
            }
            let now = self.now();
            if now >= clean_at {
                clean_at = now + i64::try_from(CLEAN_EVERY.as_millis()).unwrap_or(i64::MAX);
                if let Err(error) = self.clean().await {
                    tracing::error!(%error, "removing old reports");
                }
            }
            tokio::select! {
                () = self.0.recorded.notified() => clock.sleep(PAUSE).await,
                () = clock.sleep(POLL) => {}
            }
        }
    }
}
