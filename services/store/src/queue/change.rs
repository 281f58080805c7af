//! Changes of many entries by a filter, in steps of bounded size.
//!
//! A call changes one page in one commit, and says where to go on; the pages are in the order in which entries were
//! queued, which no change moves, so that each entry that matched when the first page was asked for is changed once.

use bytes::Bytes;
use futures::StreamExt as _;
use mox_proto::queue::v1::change_queue_request::Change;
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::{
    AttemptResult, ChangeQueueRequest, ChangeQueueResponse, Entry, ReadQueueContentRequest, RequireTls, Sort, sort,
};
use mox_proto::record::v1::QueueState;
use mox_webhook::Event;
use prost::Message;

use super::find::{Place, find};
use super::list::{EntryFilter, Token};
use super::outcome::Happened;
use super::record::{self, Stored};
use super::{ATTEMPTS, Queue, QueueError};
use crate::content::ContentError;
use crate::engine::{Commit, EngineError};
use crate::idempotency;

/// Entries that one call changes.
const STEP: usize = 1000;
/// Entries that one call gives up: each has a commit of its own, with its notification.
const FAIL_STEP: usize = 100;
/// Notifications that are made at the same time.
const FAIL_AT_ONCE: usize = 8;
/// Octets of the name of a transport.
const TRANSPORT_MAX: usize = 200;
/// What is told of an entry that was dropped.
const DROPPED: &str = "removed from the queue by an administrator";
/// Who makes the keys of changes.
const SCOPE: &[u8] = b"queue-change";

impl Queue {
    /// Changes the entries of one page.
    ///
    /// # Errors
    /// If the request makes no sense, the key was used for another, or the engine fails.
    pub async fn change(&self, request: &ChangeQueueRequest) -> Result<ChangeQueueResponse, QueueError> {
        if !(8..=64).contains(&request.key.len()) {
            return Err(QueueError::Invalid("a key must have 8 to 64 bytes".into()));
        }
        let change = match &request.change {
            None => return Err(QueueError::Invalid("there must be a change".into())),
            Some(Change::Requiretls(value)) if RequireTls::try_from(*value).is_err() => {
                return Err(QueueError::Invalid("requiretls is none of its values".into()));
            }
            Some(Change::Transport(name)) if name.len() > TRANSPORT_MAX => {
                return Err(QueueError::Invalid("the name of the transport is too long".into()));
            }
            Some(change) => change,
        };
        if matches!(change, Change::Fail(_)) {
            return self.fail(request).await;
        }
        let digest = idempotency::digest(request);
        let mut step = STEP;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            if let Some(kept) = idempotency::find(self.db(), now / 1000, SCOPE, &request.key, &digest).await? {
                return ChangeQueueResponse::decode(kept).map_err(|_| QueueError::Damaged("a kept result"));
            }
            let (entries, rest, token) = self.page(request, now, step).await?;
            let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
            let mut commit = Commit::new();
            let mut changed = 0;
            let mut told = false;
            for stored in record::load(self.db().as_ref(), &ids).await?.into_iter().flatten() {
                self.change_one(&mut commit, &stored, change, now)?;
                if matches!(change, Change::Drop(_)) {
                    told |= self.dropped(&mut commit, &stored.entry, now).await?;
                }
                changed += 1;
            }
            let response = ChangeQueueResponse {
                changed,
                next_page_token: token.next(entries.len(), rest),
            };
            if commit.operations.is_empty() {
                return Ok(response);
            }
            let kept: Bytes = response.encode_to_vec().into();
            idempotency::record(&mut commit, now / 1000, SCOPE, &request.key, &digest, &kept);
            match self.db().commit(commit).await {
                Ok(_) => {
                    self.publish();
                    self.publish_told(told);
                    return Ok(response);
                }
                // Entries that are being delivered change all the time: fewer at once meet fewer of them.
                Err(EngineError::Conflict { .. }) => step = (step / 2).max(1),
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }

    /// The entries that a call is about, where to go on, and the token it was asked with.
    async fn page(
        &self,
        request: &ChangeQueueRequest,
        now: i64,
        step: usize,
    ) -> Result<(Vec<Entry>, Option<Place>, Token), QueueError> {
        let mut filter = request.filter.clone().unwrap_or_default();
        let token = Token::parse(&request.page_token, filter.max)?;
        // What is queued from now on is not meant.
        let end = now.saturating_add(1);
        filter.submitted_before = Some(filter.submitted_before.map_or(end, |at| at.min(end)));
        let sort = Sort {
            field: sort::Field::Queued.into(),
            ascending: true,
        };
        let asked = EntryFilter::new(&filter, sort, token.after, token.wanted(step))?;
        let snapshot = self.db().snapshot().await?;
        let found = find(snapshot.as_ref(), &asked.query, |entry: &Entry| asked.matches(entry)).await?;
        Ok((found.rows, found.rest, token))
    }

    fn change_one(&self, commit: &mut Commit, stored: &Stored, change: &Change, now: i64) -> Result<(), QueueError> {
        let mut entry = stored.entry.clone();
        let mut state = stored.state.clone();
        match change {
            Change::Hold(hold) => entry.hold = *hold,
            Change::Transport(name) => entry.transport.clone_from(name),
            Change::Requiretls(value) => entry.requiretls = *value,
            Change::Schedule(schedule) => {
                let from = if schedule.from_now { now } else { entry.next_attempt };
                entry.next_attempt = from.saturating_add(schedule.millis).max(0);
                // What is being tried now goes on; what becomes of it decides about the next attempt.
                if !is_leased(&stored.state, now) {
                    state = QueueState {
                        due: entry.next_attempt,
                        attempt: state.attempt,
                        worker: String::new(),
                    };
                }
            }
            Change::Drop(_) => {
                self.leave(commit, stored, &stored.entry, Reason::Dropped, now)?;
                commit.set_frees();
                return Ok(());
            }
            Change::Fail(_) => return Ok(()),
        }
        if entry != stored.entry || state != stored.state {
            record::update(commit, stored, &entry, &state);
        }
        Ok(())
    }

    /// What follows from taking an entry out of the queue.
    async fn dropped(&self, commit: &mut Commit, entry: &Entry, now: i64) -> Result<bool, QueueError> {
        let mut last = entry.clone();
        last.results.push(AttemptResult {
            start: now,
            error: DROPPED.to_owned(),
            ..AttemptResult::default()
        });
        let happened = Happened {
            event: Event::Canceled,
            entry: &last,
            suppressing: false,
        };
        self.follow(commit, &happened).await
    }

    /// Gives up the entries of a page. Repeating it finds those that are left.
    async fn fail(&self, request: &ChangeQueueRequest) -> Result<ChangeQueueResponse, QueueError> {
        let (entries, rest, token) = self.page(request, self.now(), FAIL_STEP).await?;
        let given = entries.len();
        let mut results = futures::stream::iter(entries.into_iter().map(|entry| self.cancel(entry.id)))
            .buffer_unordered(FAIL_AT_ONCE);
        let mut changed = 0;
        while let Some(result) = results.next().await {
            changed += u64::from(result?);
        }
        Ok(ChangeQueueResponse {
            changed,
            next_page_token: token.next(given, rest),
        })
    }

    /// The whole message of an entry, in pieces.
    ///
    /// # Errors
    /// If it is not there, or the engine fails.
    pub async fn dump(
        &self,
        request: &ReadQueueContentRequest,
    ) -> Result<(Bytes, futures::stream::BoxStream<'static, Result<Bytes, ContentError>>), QueueError> {
        let stored = record::load(self.db().as_ref(), &[request.id]).await?.pop().flatten();
        let stored = stored.ok_or(QueueError::NoEntry(request.id))?;
        let content = record::content_of(&stored.entry)?;
        Ok((stored.entry.prefix, self.0.contents.read(content, 0..u64::MAX)))
    }
}

/// Whether somebody is trying it now.
fn is_leased(state: &QueueState, now: i64) -> bool {
    !state.worker.is_empty() && state.due > now
}
