//! What became of an attempt.

use mox_proto::hook::v1::complete_hook_request::Outcome;
use mox_proto::hook::v1::{CompleteHookRequest, CompleteHookResponse, Hook, HookRecord, HookResult};
use prost::Message as _;

use super::record::{self, Leaving, Stored};
use super::{ATTEMPTS, Hooks};
use crate::engine::{Commit, EngineError};
use crate::keys;
use crate::queue::QueueError;

/// Octets of an error that are kept.
const ERROR_MAX: usize = 2000;
/// Octets of an answer that are kept.
const RESPONSE_MAX: usize = 512;

impl Hooks {
    /// Commits the outcome of an attempt. An attempt whose lease was lost may report a success only: the webhook is at its
    /// receiver, whoever tries it now. What left the queue meanwhile, and is kept, has the result added. Repeating it
    /// changes nothing: its lease is over then.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn complete(&self, request: &CompleteHookRequest) -> Result<CompleteHookResponse, QueueError> {
        if request.outcome() == Outcome::Unspecified {
            return Err(QueueError::Invalid("an outcome must be given".into()));
        }
        for _ in 0..ATTEMPTS {
            let (commit, stale) = self.consequence(request).await?;
            if commit.operations.is_empty() {
                return Ok(CompleteHookResponse { stale });
            }
            match self.db().commit(commit).await {
                Ok(_) => return Ok(CompleteHookResponse { stale }),
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }

    async fn consequence(&self, request: &CompleteHookRequest) -> Result<(Commit, bool), QueueError> {
        let lease = request.lease.unwrap_or_default();
        let now = self.now();
        let result = request.result.clone().map(shortened);
        let mut commit = Commit::new();
        let Some(stored) = record::load(self.db().as_ref(), &[lease.id]).await?.pop().flatten() else {
            if let Some(result) = result.filter(|_| request.outcome() != Outcome::Released) {
                self.add_to_retired(&mut commit, lease.id, result, request.authorization)
                    .await?;
            }
            return Ok((commit, true));
        };
        // A lease that ended is good for as long as nobody else took the webhook.
        let current = stored.record.attempt == lease.attempt && !stored.record.worker.is_empty();
        if !current && request.outcome() != Outcome::Delivered {
            return Ok((commit, true));
        }
        let authorization = stored.record.authorization || request.authorization;
        let released = |hook: Hook| HookRecord {
            due: request.next_attempt.max(0),
            attempt: stored.record.attempt,
            worker: String::new(),
            authorization,
            hook: Some(hook),
        };
        match request.outcome() {
            Outcome::Released => record::update(&mut commit, &stored, &released(stored.hook()?.clone()))?,
            Outcome::Retry => {
                let mut hook = after(&stored, result, now)?;
                hook.next_attempt = request.next_attempt.max(0);
                record::update(&mut commit, &stored, &released(hook))?;
            }
            outcome => {
                let hook = after(&stored, result, now)?;
                let leaving = Leaving {
                    keep: self.keep_millis(&hook.account),
                    hook,
                    authorization,
                    success: outcome == Outcome::Delivered,
                    superseded_by: 0,
                    now,
                };
                record::leave(&mut commit, &stored, leaving)?;
            }
        }
        commit.set_frees();
        Ok((commit, !current))
    }

    /// The webhook was superseded or cancelled while it was being called.
    async fn add_to_retired(
        &self,
        commit: &mut Commit,
        id: u64,
        result: HookResult,
        authorization: bool,
    ) -> Result<(), QueueError> {
        let key = keys::hook_retired(id);
        let Some(value) = self.db().get(key.clone()).await? else {
            return Ok(());
        };
        let mut retired = record::decode_retired(&value.data)?;
        let Some(hook) = &mut retired.hook else { return Ok(()) };
        if hook.results.contains(&result) {
            return Ok(());
        }
        hook.attempts += 1;
        record::add_result(hook, result);
        retired.authorization |= authorization;
        commit.require_at(key.clone(), value.version);
        commit.put(key, retired.encode_to_vec());
        Ok(())
    }
}

/// The webhook after an attempt.
fn after(stored: &Stored, result: Option<HookResult>, now: i64) -> Result<Hook, QueueError> {
    let mut hook = stored.hook()?.clone();
    hook.attempts += 1;
    let result = result.unwrap_or_else(|| HookResult {
        start: now,
        ..HookResult::default()
    });
    record::add_result(&mut hook, result);
    Ok(hook)
}

fn shortened(mut result: HookResult) -> HookResult {
    result.error.truncate(result.error.floor_char_boundary(ERROR_MAX));
    result
        .response
        .truncate(result.response.floor_char_boundary(RESPONSE_MAX));
    result
}
