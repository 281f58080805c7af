//! Leases: taking what is due, and keeping it.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use mox_proto::hook::v1::{ClaimHooksRequest, ClaimHooksResponse, ClaimedHook, HookRecord};
use mox_proto::queue::v1::{Lease, RenewRequest};
use mox_types::AccountId;
use prost::Message as _;

use super::record::{self, Stored};
use super::{ATTEMPTS, Hooks, payload};
use crate::engine::{Commit, Engine, EngineError, Limit, Order, Snapshot};
use crate::keys::{self, HookSource};
use crate::queue::QueueError;
use crate::queue::lease::{self, CONTENDED_MILLIS, Leased, check_worker, lease_millis};

/// Most webhooks of an answer.
const CLAIM_MAX: usize = 256;
/// Most webhooks of one source in an answer.
const CLAIM_SOURCE_MAX: usize = 8;
/// Bytes of webhooks in an answer, over which no more are added.
const CLAIM_BYTES: usize = 1 << 20;
/// Sources that a worker may name as not wanted.
const BUSY_MAX: usize = 4096;
/// Sources that one claim looks at: some 50 ms. A next one goes on from there.
const SOURCES_MAX: usize = 5000;

/// What a claim collects.
#[derive(Default)]
struct Taking {
    commit: Commit,
    hooks: Vec<ClaimedHook>,
    bytes: usize,
    /// When something that was not taken is due.
    next: Option<i64>,
    /// Where to go on.
    last: Option<HookSource>,
}

impl Taking {
    fn is_full(&self, max: usize) -> bool {
        self.hooks.len() >= max || self.bytes >= CLAIM_BYTES
    }

    fn due(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl Hooks {
    /// Leases webhooks that are due to a worker.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn claim(&self, request: &ClaimHooksRequest) -> Result<ClaimHooksResponse, QueueError> {
        check_worker(&request.worker)?;
        if request.busy.len() > BUSY_MAX {
            return Err(QueueError::Invalid(format!("at most {BUSY_MAX} busy sources")));
        }
        let busy: HashSet<HookSource> = request
            .busy
            .iter()
            .filter_map(|source| {
                Some(HookSource {
                    account: AccountId::try_from(&source.account_id).ok()?,
                    incoming: source.incoming,
                })
            })
            .collect();
        let begin = *self.0.cursor.lock();
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let snapshot = self.db().snapshot().await?;
            let taking = take(snapshot.as_ref(), request, &busy, begin, now).await?;
            drop(snapshot);
            let response = ClaimHooksResponse {
                hooks: taking.hooks,
                next_due: taking.next,
            };
            if !taking.commit.operations.is_empty() {
                match self.db().commit(taking.commit).await {
                    Ok(_) => {}
                    // Another worker took some of them, or one of them left the queue.
                    Err(EngineError::Conflict { .. }) => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            *self.0.cursor.lock() = taking.last;
            return Ok(response);
        }
        Ok(ClaimHooksResponse {
            hooks: Vec::new(),
            next_due: Some(self.now() + CONTENDED_MILLIS),
        })
    }

    /// Extends leases; answers which are still held. A lease that ended is held still if nobody else took the webhook.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn renew(&self, request: &RenewRequest) -> Result<Vec<bool>, QueueError> {
        lease::renew::<Stored>(self.db(), &self.0.now, request).await
    }
}

impl Leased for Stored {
    async fn load(db: &dyn Engine, ids: &[u64]) -> Result<Vec<Option<Self>>, QueueError> {
        record::load(db, ids).await
    }

    fn is_held(&self, lease: &Lease, worker: &str) -> bool {
        self.record.attempt == lease.attempt && self.record.worker == worker
    }

    fn extend(&self, commit: &mut Commit, due: i64) -> Result<(), QueueError> {
        let record = HookRecord {
            due,
            ..self.record.clone()
        };
        record::update(commit, self, &record)
    }
}

/// Takes what is due from source after source, from behind `begin` to the last and then from the first to it.
async fn take(
    snapshot: &dyn Snapshot,
    request: &ClaimHooksRequest,
    busy: &HashSet<HookSource>,
    begin: Option<HookSource>,
    now: i64,
) -> Result<Taking, QueueError> {
    let max = (request.max as usize).clamp(1, CLAIM_MAX);
    let all = keys::hook_due_all();
    let rounds = match begin {
        None => vec![all],
        Some(source) => {
            let middle = keys::hook_due_of(source).end;
            vec![middle.clone()..all.end, all.start..middle]
        }
    };
    let mut taking = Taking {
        last: begin,
        ..Taking::default()
    };
    let mut looked = 0;
    for mut range in rounds {
        while let Some((key, _)) = first(snapshot, &range).await? {
            let (source, due, _) = parse(&key)?;
            if looked == SOURCES_MAX {
                taking.due(now);
                return Ok(taking);
            }
            looked += 1;
            let of_source = keys::hook_due_of(source);
            range.start = of_source.end.clone();
            if busy.contains(&source) {
                continue;
            }
            if due > now || taking.is_full(max) {
                taking.due(due.max(now));
                continue;
            }
            let room = (max - taking.hooks.len()).min(CLAIM_SOURCE_MAX);
            take_source(snapshot, &mut taking, request, of_source, room, now).await?;
            taking.last = Some(source);
        }
    }
    Ok(taking)
}

async fn first(snapshot: &dyn Snapshot, range: &Range<Bytes>) -> Result<Option<(Bytes, ())>, QueueError> {
    let page = snapshot.scan(range.clone(), Limit::rows(1), Order::Ascending).await?;
    Ok(page.rows.into_iter().next().map(|(key, _)| (key, ())))
}

fn parse(key: &[u8]) -> Result<(HookSource, i64, u64), QueueError> {
    keys::parse_hook_due(key).ok_or(QueueError::Damaged("the index of webhooks that are due"))
}

async fn take_source(
    snapshot: &dyn Snapshot,
    taking: &mut Taking,
    request: &ClaimHooksRequest,
    range: Range<Bytes>,
    room: usize,
    now: i64,
) -> Result<(), QueueError> {
    let page = snapshot.scan(range, Limit::rows(room + 1), Order::Ascending).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (key, _) in page.rows {
        let (_, due, id) = parse(&key)?;
        rows.push((key, due, id));
    }
    let ids: Vec<u64> = rows.iter().map(|(_, _, id)| *id).collect();
    let lease = lease_millis(request.lease_seconds);
    let mut left = room;
    for ((key, due, _), stored) in rows.into_iter().zip(record::load_at(snapshot, &ids).await?) {
        if due > now || left == 0 || taking.bytes >= CLAIM_BYTES {
            taking.due(due.max(now));
            break;
        }
        // An index that says other than the record is wrong: it is mended, and costs nothing but this look.
        match stored.filter(|s| s.record.due == due) {
            Some(stored) => {
                lend(taking, &stored, &request.worker, now + lease)?;
                left -= 1;
            }
            None => {
                taking.commit.delete(key);
            }
        }
    }
    Ok(())
}

fn lend(taking: &mut Taking, stored: &Stored, worker: &str, until: i64) -> Result<(), QueueError> {
    let hook = stored.hook()?;
    let attempt = stored.record.attempt + 1;
    let record = HookRecord {
        due: until,
        attempt,
        worker: worker.to_owned(),
        ..stored.record.clone()
    };
    record::update(&mut taking.commit, stored, &record)?;
    let payload = match hook.arrival {
        Some(_) => Bytes::new(),
        None => payload::outgoing(hook)?,
    };
    taking.bytes += hook.encoded_len() + payload.len();
    taking.hooks.push(ClaimedHook {
        hook: Some(hook.clone()),
        attempt,
        payload,
    });
    Ok(())
}
