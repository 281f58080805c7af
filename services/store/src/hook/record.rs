//! Reading and writing webhooks with all that is derived from them.

use bytes::Bytes;
use mox_proto::hook::v1::{Hook, HookRecord, HookResult, RetiredHook};
use mox_types::{AccountId, ContentId};
use prost::Message as _;

use crate::content::{self, Owner};
use crate::engine::{Commit, Engine, Snapshot, Value};
use crate::keys::{self, HookSource};
use crate::queue::QueueError;

/// Results that a webhook keeps, the latest.
const RESULTS_MAX: usize = 20;

/// A webhook in the queue, as it was read.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub record: HookRecord,
    pub version: u64,
}

impl Stored {
    pub fn hook(&self) -> Result<&Hook, QueueError> {
        self.record.hook.as_ref().ok_or(QueueError::Damaged("a webhook"))
    }
}

pub(super) fn decode(data: &Bytes) -> Result<HookRecord, QueueError> {
    HookRecord::decode(data.clone()).map_err(|_| QueueError::Damaged("a webhook"))
}

pub(super) fn decode_retired(data: &Bytes) -> Result<RetiredHook, QueueError> {
    RetiredHook::decode(data.clone()).map_err(|_| QueueError::Damaged("a retired webhook"))
}

fn stored(values: Vec<Option<Value>>) -> Result<Vec<Option<Stored>>, QueueError> {
    let read = |value: Value| {
        Ok(Stored {
            record: decode(&value.data)?,
            version: value.version,
        })
    };
    values.into_iter().map(|value| value.map(read).transpose()).collect()
}

fn wanted(ids: &[u64]) -> Vec<Bytes> {
    ids.iter().map(|id| keys::hook_entry(*id)).collect()
}

/// Webhooks in the order asked; those that left the queue are `None`.
pub(super) async fn load(db: &dyn Engine, ids: &[u64]) -> Result<Vec<Option<Stored>>, QueueError> {
    stored(db.get_many(wanted(ids)).await?)
}

/// As [`load`], as of a moment.
pub(super) async fn load_at(snapshot: &dyn Snapshot, ids: &[u64]) -> Result<Vec<Option<Stored>>, QueueError> {
    stored(snapshot.get_many(wanted(ids)).await?)
}

pub(super) fn account_of(hook: &Hook) -> Result<AccountId, QueueError> {
    AccountId::try_from(&hook.account_id).map_err(|_| QueueError::Damaged("a webhook's account"))
}

pub(super) fn source_of(hook: &Hook) -> Result<HookSource, QueueError> {
    Ok(HookSource {
        account: account_of(hook)?,
        incoming: hook.arrival.is_some(),
    })
}

/// The content that it needs, if it does.
pub(super) fn content_of(hook: &Hook) -> Result<Option<ContentId>, QueueError> {
    match hook.content_id.is_empty() {
        true => Ok(None),
        false => ContentId::try_from(&hook.content_id)
            .map(Some)
            .map_err(|_| QueueError::Damaged("a webhook's content")),
    }
}

/// Adds a webhook that was not there, due at its next attempt.
pub(super) fn insert(commit: &mut Commit, hook: &Hook) -> Result<(), QueueError> {
    let record = HookRecord {
        due: hook.next_attempt,
        hook: Some(hook.clone()),
        ..HookRecord::default()
    };
    commit.put(keys::hook_entry(hook.id), record.encode_to_vec());
    commit.put(keys::hook_due(source_of(hook)?, record.due, hook.id), Bytes::new());
    if hook.queue_id != 0 {
        commit.put(keys::hook_of_message(hook.queue_id), hook.id.to_be_bytes().to_vec());
    }
    Ok(())
}

/// Changes a webhook in the queue.
pub(super) fn update(commit: &mut Commit, stored: &Stored, record: &HookRecord) -> Result<(), QueueError> {
    let hook = stored.hook()?;
    let source = source_of(hook)?;
    commit.require_at(keys::hook_entry(hook.id), stored.version);
    commit.put(keys::hook_entry(hook.id), record.encode_to_vec());
    if record.due != stored.record.due {
        commit.delete(keys::hook_due(source, stored.record.due, hook.id));
        commit.put(keys::hook_due(source, record.due, hook.id), Bytes::new());
    }
    Ok(())
}

/// How a webhook leaves the queue.
pub(super) struct Leaving {
    /// As it is kept.
    pub hook: Hook,
    pub authorization: bool,
    pub success: bool,
    pub superseded_by: u64,
    /// Milliseconds since 1970.
    pub now: i64,
    /// Milliseconds; 0 is not at all.
    pub keep: i64,
}

/// Takes a webhook out of the queue, and keeps it if it is to be kept. That it was its message's is the caller's to
/// change if another is now.
pub(super) fn leave(commit: &mut Commit, stored: &Stored, leaving: Leaving) -> Result<(), QueueError> {
    let hook = stored.hook()?;
    let id = hook.id;
    commit.require_at(keys::hook_entry(id), stored.version);
    commit.delete(keys::hook_entry(id));
    commit.delete(keys::hook_due(source_of(hook)?, stored.record.due, id));
    if hook.queue_id != 0 && leaving.superseded_by == 0 {
        commit.delete(keys::hook_of_message(hook.queue_id));
    }
    if leaving.keep == 0 {
        release(commit, hook, leaving.now)?;
        commit.set_frees();
        return Ok(());
    }
    let account = account_of(hook)?;
    let retired = RetiredHook {
        keep_until: leaving.now.saturating_add(leaving.keep),
        last_activity: leaving.now,
        authorization: leaving.authorization,
        success: leaving.success,
        superseded_by: leaving.superseded_by,
        hook: Some(leaving.hook),
    };
    commit.put(keys::hook_retired(id), retired.encode_to_vec());
    commit.put(keys::hook_retired_until(retired.keep_until, id), Bytes::new());
    commit.put(keys::hook_retired_of(account, id), Bytes::new());
    commit.set_frees();
    Ok(())
}

/// Lets go of the content that a webhook refers to.
pub(super) fn release(commit: &mut Commit, hook: &Hook, now: i64) -> Result<(), QueueError> {
    if let Some(id) = content_of(hook)? {
        content::release(commit, id, &Owner::hook(hook.id), now);
    }
    Ok(())
}

/// Adds a result, and forgets the first of too many.
pub(super) fn add_result(hook: &mut Hook, result: HookResult) {
    hook.results.push(result);
    let surplus = hook.results.len().saturating_sub(RESULTS_MAX);
    hook.results.drain(..surplus);
}
