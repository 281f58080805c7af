//! Results of changes, kept by the key that the caller made, so that a change is safe to repeat.
//!
//! A caller makes one random key for each change, and repeats the change with the same key when it does not know
//! whether it took place. The result is put by the commit of the change itself, together with a digest of the request,
//! so that a key used for two different requests is noticed. Results are kept by generation, and whole generations are
//! dropped at once: see [`expire`].

use bytes::Bytes;
use mox_proto::record::v1::Idempotency;
use prost::Message;

use crate::account::AccountError;
use crate::engine::{Commit, Db, EngineError};
use crate::keys;

/// Seconds of a generation.
const GENERATION_SECONDS: i64 = 6 * 3600;
/// Generations that are looked at: a result is kept for at least one of them, and at most two.
pub const GENERATIONS: usize = 2;

/// Why a kept result is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// The key was used for another request.
    #[error("idempotency key was used for another request")]
    Reused,
    /// What is kept cannot be read.
    #[error("a kept result is damaged")]
    Damaged,
}

impl From<KeptError> for AccountError {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Reused => Self::KeyReused,
            KeptError::Damaged => Self::Damaged("a kept result"),
        }
    }
}

impl From<KeptError> for tonic::Status {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Reused => Self::invalid_argument(error.to_string()),
            KeptError::Damaged => Self::data_loss(error.to_string()),
        }
    }
}

fn generation(now: i64) -> u64 {
    u64::try_from(now / GENERATION_SECONDS).unwrap_or(0)
}

/// Where a result is put. `now` is in seconds since 1970; `scope` is who makes keys, of a length fixed for its kind.
#[must_use]
pub fn key(now: i64, scope: &[u8], key: &[u8]) -> Bytes {
    keys::idempotency(generation(now), scope, key)
}

/// Where a result may be, latest first: [`GENERATIONS`] keys.
pub fn lookup_keys(now: i64, scope: &[u8], key: &[u8]) -> impl Iterator<Item = Bytes> {
    let latest = generation(now);
    (0..GENERATIONS as u64).map(move |back| keys::idempotency(latest.saturating_sub(back), scope, key))
}

/// What is put for a result.
#[must_use]
pub fn keep(now: i64, digest: &Bytes, response: &Bytes) -> Bytes {
    let kept = Idempotency {
        request_digest: digest.clone(),
        response: response.clone(),
        at: now,
    };
    kept.encode_to_vec().into()
}

/// The result that was kept, if it is that of the same request.
///
/// # Errors
/// If it is that of another request, or damaged.
pub fn answer<E: From<KeptError>>(kept: &Bytes, digest: &[u8]) -> Result<Bytes, E> {
    let kept = Idempotency::decode(kept.clone()).map_err(|_| KeptError::Damaged)?;
    if kept.request_digest != digest {
        return Err(KeptError::Reused.into());
    }
    Ok(kept.response)
}

/// SHA-256 of a request.
#[must_use]
pub fn digest(request: &impl Message) -> Bytes {
    let digest = ring::digest::digest(&ring::digest::SHA256, &request.encode_to_vec());
    Bytes::copy_from_slice(digest.as_ref())
}

/// The result kept for a key, if there is one of the same request.
///
/// # Errors
/// If the engine fails, or the key was used for another request.
pub async fn find(db: &Db, now: i64, scope: &[u8], key: &[u8], digest: &[u8]) -> Result<Option<Bytes>, tonic::Status> {
    let found = db.get_many(lookup_keys(now, scope, key).collect()).await?;
    found
        .iter()
        .flatten()
        .next()
        .map(|kept| answer(&kept.data, digest))
        .transpose()
}

/// Adds a result to the commit of its change, on condition that there is none yet.
pub fn record(commit: &mut Commit, now: i64, scope: &[u8], key_bytes: &[u8], digest: &Bytes, response: &Bytes) {
    for kept in lookup_keys(now, scope, key_bytes) {
        commit.require_absent(kept);
    }
    commit.put(key(now, scope, key_bytes), keep(now, digest, response));
}

/// Drops the generations that are not looked at any longer.
///
/// # Errors
/// If the engine fails.
pub async fn expire(db: &Db, now: i64) -> Result<(), EngineError> {
    let oldest = generation(now).saturating_sub(GENERATIONS as u64 - 1);
    let range = keys::idempotency_before(oldest);
    // Deleting a range costs later reads something even if nothing was in it.
    let found = db
        .scan(
            range.clone(),
            crate::engine::Limit::rows(1),
            crate::engine::Order::Ascending,
        )
        .await?;
    if !found.rows.is_empty() {
        let mut commit = Commit::new();
        commit.delete_range(range).set_frees();
        db.commit(commit).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Options, RocksEngine};

    #[tokio::test]
    async fn results_are_found_until_they_expire_and_only_for_their_request() {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let (scope, id) = (b"scope", b"0123456789abcdef");
        let (digest, other) = (Bytes::from_static(b"d1"), Bytes::from_static(b"d2"));
        let start = 100 * GENERATION_SECONDS + 17;
        let mut commit = Commit::new();
        record(&mut commit, start, scope, id, &digest, &Bytes::from_static(b"result"));
        db.commit(commit.clone()).await.unwrap();
        assert!(matches!(db.commit(commit).await, Err(EngineError::Conflict { .. })));

        for later in [0, GENERATION_SECONDS] {
            expire(&db, start + later).await.unwrap();
            let found = find(&db, start + later, scope, id, &digest).await.unwrap();
            assert_eq!(found.as_deref(), Some(&b"result"[..]), "after {later} s");
            let error = find(&db, start + later, scope, id, &other).await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert_eq!(find(&db, start + later, b"other", id, &digest).await.unwrap(), None);
        }
        expire(&db, start + 2 * GENERATION_SECONDS).await.unwrap();
        assert_eq!(db.get(key(start, scope, id)).await.unwrap(), None);
    }
}
