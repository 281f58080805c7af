//! What leases of messages and of webhooks have in common: their bounds, and how they are extended.

use mox_proto::queue::v1::{Lease, RenewRequest};

use super::{ATTEMPTS, Now, QueueError};
use crate::engine::{Commit, Db, Engine, EngineError};

/// Shorter leases would end while their claim is answered.
const LEASE_MIN_SECONDS: u32 = 5;
/// Longer ones would keep what a lost worker held.
const LEASE_MAX_SECONDS: u32 = 3600;
/// Leases that are renewed at once.
const RENEW_MAX: usize = 1024;
/// When to look again if others were always faster.
pub(crate) const CONTENDED_MILLIS: i64 = 50;

/// The length of a lease as it is asked for, within bounds.
pub(crate) fn lease_millis(seconds: u32) -> i64 {
    i64::from(seconds.clamp(LEASE_MIN_SECONDS, LEASE_MAX_SECONDS)) * 1000
}

/// Checks the name of who asks.
///
/// # Errors
/// If it is none.
pub(crate) fn check_worker(worker: &str) -> Result<(), QueueError> {
    match worker.len() {
        1..=128 => Ok(()),
        _ => Err(QueueError::Invalid(
            "the name of a worker must have 1 to 128 octets".into(),
        )),
    }
}

/// A record that workers have under leases.
pub(crate) trait Leased: Sized + Send {
    /// The records of ids, in their order.
    fn load(db: &dyn Engine, ids: &[u64]) -> impl Future<Output = Result<Vec<Option<Self>>, QueueError>> + Send;

    /// Whether it is this lease of a worker that was given last.
    fn is_held(&self, lease: &Lease, worker: &str) -> bool;

    /// Makes it due at another time, if nobody changes it meanwhile.
    ///
    /// # Errors
    /// If it is damaged.
    fn extend(&self, commit: &mut Commit, due: i64) -> Result<(), QueueError>;
}

/// Extends leases; answers which are still held. A lease that ended is held still if nobody else took the record.
///
/// # Errors
/// If the request makes no sense, or the engine fails.
pub(crate) async fn renew<R: Leased>(db: &Db, now: &Now, request: &RenewRequest) -> Result<Vec<bool>, QueueError> {
    check_worker(&request.worker)?;
    if request.leases.len() > RENEW_MAX {
        return Err(QueueError::Invalid(format!(
            "at most {RENEW_MAX} leases are renewed at once"
        )));
    }
    let ids: Vec<u64> = request.leases.iter().map(|lease| lease.id).collect();
    for _ in 0..ATTEMPTS {
        let due = now() + lease_millis(request.lease_seconds);
        let mut commit = Commit::new();
        let mut held = Vec::with_capacity(ids.len());
        for (lease, record) in request.leases.iter().zip(R::load(db.as_ref(), &ids).await?) {
            let record = record.filter(|record| record.is_held(lease, &request.worker));
            if let Some(record) = &record {
                record.extend(&mut commit, due)?;
            }
            held.push(record.is_some());
        }
        if commit.operations.is_empty() {
            return Ok(held);
        }
        match db.commit(commit).await {
            Ok(_) => return Ok(held),
            Err(EngineError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(QueueError::Contended)
}
