//! Steering webhooks in the queue: when they are tried, and whether at all.

use bytes::Bytes;
use mox_proto::hook::v1::change_hooks_request::Change;
use mox_proto::hook::v1::{ChangeHooksRequest, ChangeHooksResponse, HookRecord, HookResult, ListHooksRequest};
use prost::Message as _;

use super::record::{self, Leaving, Stored};
use super::{ATTEMPTS, Hooks};
use crate::engine::{Commit, EngineError};
use crate::idempotency;
use crate::queue::QueueError;

/// Webhooks that are changed in one commit.
const STEP: u32 = 200;
/// Who makes the keys of changes.
const SCOPE: &[u8] = b"hook-change";
/// What a webhook that was cancelled has as its last result.
const CANCELED: &str = "canceled by admin";

impl Hooks {
    /// Changes the webhooks that match a filter, some in each call. What is being called at this moment is called to the
    /// end: a new time is the one after that attempt, and one that is cancelled is not called again.
    ///
    /// # Errors
    /// If the request makes no sense, the key was used for another, or the engine fails.
    pub async fn change(&self, request: &ChangeHooksRequest) -> Result<ChangeHooksResponse, QueueError> {
        if !(8..=64).contains(&request.key.len()) {
            return Err(QueueError::Invalid("a key must have 8 to 64 bytes".into()));
        }
        let Some(change) = &request.change else {
            return Err(QueueError::Invalid("a change must be given".into()));
        };
        let digest = idempotency::digest(request);
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let seconds = now / 1000;
            if let Some(kept) = idempotency::find(self.db(), seconds, SCOPE, &request.key, &digest).await? {
                return ChangeHooksResponse::decode(kept).map_err(|_| QueueError::Damaged("a kept result"));
            }
            let (mut commit, response) = self.changed(request, change, now).await?;
            let kept: Bytes = response.encode_to_vec().into();
            idempotency::record(&mut commit, seconds, SCOPE, &request.key, &digest, &kept);
            match self.db().commit(commit).await {
                Ok(_) => {
                    self.publish();
                    return Ok(response);
                }
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }

    async fn changed(
        &self,
        request: &ChangeHooksRequest,
        change: &Change,
        now: i64,
    ) -> Result<(Commit, ChangeHooksResponse), QueueError> {
        // In the order in which they were queued, which no change changes.
        let (ids, next_page_token) = self.ids_of_page(request).await?;
        let mut commit = Commit::new();
        let mut changed = 0;
        for stored in record::load(self.db().as_ref(), &ids).await?.into_iter().flatten() {
            match change {
                Change::Schedule(schedule) => {
                    let hook = stored.hook()?;
                    let from = if schedule.from_now { now } else { hook.next_attempt };
                    schedule_at(&mut commit, &stored, from.saturating_add(schedule.millis).max(0))?;
                }
                Change::Cancel(_) => self.cancel(&mut commit, &stored, now)?,
            }
            changed += 1;
        }
        Ok((
            commit,
            ChangeHooksResponse {
                changed,
                next_page_token,
            },
        ))
    }

    async fn ids_of_page(&self, request: &ChangeHooksRequest) -> Result<(Vec<u64>, String), QueueError> {
        let list = ListHooksRequest {
            filter: request.filter.clone(),
            sort: Some(super::list::unchanging()),
            page_token: request.page_token.clone(),
        };
        let page = self.list_at_most(&list, STEP as usize).await?;
        Ok((page.hooks.iter().map(|hook| hook.id).collect(), page.next_page_token))
    }

    fn cancel(&self, commit: &mut Commit, stored: &Stored, now: i64) -> Result<(), QueueError> {
        let mut hook = stored.hook()?.clone();
        let result = HookResult {
            start: now,
            error: CANCELED.to_owned(),
            ..HookResult::default()
        };
        record::add_result(&mut hook, result);
        tracing::info!(
            webhook = hook.id,
            account = hook.account,
            event = hook.event,
            "webhook cancelled"
        );
        let leaving = Leaving {
            keep: self.keep_millis(&hook.account),
            hook,
            authorization: stored.record.authorization,
            success: false,
            superseded_by: 0,
            now,
        };
        record::leave(commit, stored, leaving)
    }
}

fn schedule_at(commit: &mut Commit, stored: &Stored, at: i64) -> Result<(), QueueError> {
    let mut hook = stored.hook()?.clone();
    hook.next_attempt = at;
    let due = match stored.record.worker.is_empty() {
        true => at,
        false => stored.record.due,
    };
    let record = HookRecord {
        due,
        hook: Some(hook),
        ..stored.record.clone()
    };
    record::update(commit, stored, &record)
}
