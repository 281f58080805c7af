//! Keeping indices up: a task that makes segments of what is new, merges them, and drops what is gone.
//!
//! An account waits a while after a change, so that many become one segment; longer if there is not much to be done. Its messages with numbers from the cursor
//! on are found through the change log, or by going through all rows when there is no cursor, or the log does not reach
//! back to it. Everything is committed on the condition that the record of the index is as it was read, so that several
//! processes may do this: one of them succeeds. What is cut short is begun again; messages that are in a segment by
//! then are not read again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use roaring::RoaringBitmap;
use tokio::time::Instant;

use super::builder::Builder;
use super::pass::{PAGE, Pass, decode_row};
use super::segment::{Head, Kind};
use super::waiting::Pending;
use super::{FORMAT, TextIndex, merge};
use crate::account::{AccountError, Accounts};
use crate::content::Contents;
use crate::engine::{Commit, Db, EngineError, Limit, Order};
use crate::keys;

/// Time before what failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Accounts that are looked at at a time.
const JOBS: usize = 2;
/// An index with more messages than this times those that are left is merged anew.
const GONE_FACTOR: u64 = 2;
/// But not for fewer than these.
const GONE_MIN: u64 = if cfg!(test) { 100 } else { 1000 };
/// Times that a commit is tried again when another process changed the index.
const ATTEMPTS: u32 = 5;

/// How far the making of an index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages that were looked at.
    pub done: u64,
    /// Of so many, about.
    pub total: u64,
}

/// What there is of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Described {
    /// In segments, gone ones included.
    pub messages: u64,
    /// Of all segments.
    pub terms: u64,
    /// Compressed.
    pub bytes: u64,
    /// How many.
    pub segments: u64,
}

/// Makes indices.
#[derive(Clone)]
pub struct Indexer {
    pub(super) accounts: Accounts,
    pub(super) contents: Contents,
    pub(super) text: TextIndex,
    pub(super) db: Db,
}

/// The record of an index, as read or written, with its version.
pub(super) struct Current {
    pub(super) record: record::SearchIndex,
    pub(super) version: u64,
}

impl Indexer {
    /// Over accounts and the contents of their messages.
    #[must_use]
    pub fn new(accounts: Accounts, contents: Contents) -> Self {
        Self {
            text: accounts.text().clone(),
            db: accounts.db().clone(),
            accounts,
            contents,
        }
    }

    /// Keeps all indices up. Runs until it is dropped.
    pub async fn run(&self) {
        if let Err(error) = self.note_all().await {
            tracing::error!(%error, "looking for messages that are not in the search index yet; they are searched more slowly");
        }
        let mut jobs = FuturesUnordered::new();
        let mut busy: HashSet<AccountId> = HashSet::new();
        loop {
            let woken = self.text.0.wake.notified();
            let mut next = None;
            while jobs.len() < JOBS {
                let (account, pending) = match self.take_due(&busy) {
                    Ok(taken) => taken,
                    Err(at) => {
                        next = at;
                        break;
                    }
                };
                busy.insert(account);
                jobs.push(async move { (account, self.job(account, pending.anew).await) });
            }
            let later = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = woken => {}
                () = later => {}
                Some((account, failed)) = jobs.next() => {
                    busy.remove(&account);
                    if let Some(anew) = failed {
                        self.text.wait_for(account, 0, RETRY, anew);
                    }
                }
            }
        }
    }

    /// An account that is due, or when the next one will be.
    fn take_due(&self, busy: &HashSet<AccountId>) -> Result<(AccountId, Pending), Option<Instant>> {
        let mut waiting = self.text.0.waiting.lock();
        let first = waiting
            .accounts
            .iter()
            .filter(|(id, _)| !busy.contains(id))
            .map(|(id, pending)| (pending.due(), *id))
            .min();
        let (at, account) = first.ok_or(None)?;
        if at > Instant::now() {
            return Err(Some(at));
        }
        let pending = waiting.accounts.remove(&account).ok_or(None)?;
        Ok((account, pending))
    }

    /// What there is of an account's index.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn describe(&self, account: AccountId) -> Result<Described, AccountError> {
        let Some(value) = self.db.get(keys::search_index(account)).await? else {
            return Ok(Described::default());
        };
        let record = super::decode(&value.data)?;
        let sum = |of: fn(&record::SearchSegment) -> u64| record.segments.iter().map(of).sum();
        Ok(Described {
            messages: sum(|s| u64::from(s.messages)),
            terms: sum(|s| s.terms),
            bytes: sum(|s| s.bytes),
            segments: record.segments.len() as u64,
        })
    }

    /// Answers, if it failed, whether the index has to be made anew.
    async fn job(&self, account: AccountId, anew: bool) -> Option<bool> {
        let result = match anew {
            true => self.rebuild(account, &|_| {}).await,
            false => self.update(account, &|_| {}).await,
        };
        match result {
            Ok(()) | Err(AccountError::AccountGone) => None,
            Err(error) => {
                tracing::warn!(%account, %error, "keeping the search index up, to be tried again");
                Some(anew || matches!(error, AccountError::Damaged(_)))
            }
        }
    }

    /// Notes all accounts whose index is behind.
    async fn note_all(&self) -> Result<(), AccountError> {
        let mut left = Some(keys::names());
        while let Some(range) = left.take() {
            let page = self.db.scan(range.clone(), Limit::rows(1000), Order::Ascending).await?;
            left = page.rest(&range);
            for (_, value) in page.rows {
                let Ok(registration) = record::Registration::decode(value.data) else {
                    continue;
                };
                let Ok(account) = AccountId::try_from(&registration.account_id) else {
                    continue;
                };
                let keys = vec![keys::account(account), keys::search_index(account)];
                let mut values = self.db.get_many(keys).await?.into_iter();
                let (Some(Some(of_account)), Some(index)) = (values.next(), values.next()) else {
                    continue;
                };
                let of_account =
                    record::Account::decode(of_account.data).map_err(|_| AccountError::Damaged("an account"))?;
                let index = index.map(|v| super::decode(&v.data)).transpose()?.unwrap_or_default();
                let behind =
                    of_account.next_number.max(1) - index.cursor_number.clamp(1, of_account.next_number.max(1));
                let anew = index.format != FORMAT || !index.complete;
                if of_account.messages > 0 && (behind > 0 || anew) {
                    let all = u32::try_from(of_account.messages).unwrap_or(u32::MAX);
                    self.text.note(account, if anew { all } else { behind });
                }
            }
        }
        Ok(())
    }

    /// Makes an account's index anew, and says how far it is.
    ///
    /// # Errors
    /// If the account is gone, or cannot be read. What was made until then is gone on with.
    pub async fn rebuild(&self, account: AccountId, report: &(dyn Fn(Progress) + Sync)) -> Result<(), AccountError> {
        let lock = self.text.lock(account);
        let _held = lock.lock().await;
        let found = self.db.get(keys::search_index(account)).await?;
        self.start(account, found.map(|v| v.version)).await?;
        self.bring_up(account, report).await
    }

    /// Brings an account's index up to now.
    ///
    /// # Errors
    /// If the account is gone, or cannot be read.
    pub async fn update(&self, account: AccountId, report: &(dyn Fn(Progress) + Sync)) -> Result<(), AccountError> {
        let lock = self.text.lock(account);
        let _held = lock.lock().await;
        self.bring_up(account, report).await
    }

    async fn bring_up(&self, account: AccountId, report: &(dyn Fn(Progress) + Sync)) -> Result<(), AccountError> {
        for attempt in 1.. {
            match self.pass(account, report).await {
                Err(AccountError::Contended) if attempt < ATTEMPTS => {
                    // Another process does the same: it may be done with it.
                    let wait = Duration::from_millis(rand::random_range(50..500)) * attempt;
                    tokio::time::sleep(wait).await;
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// An empty index in place of what there is.
    async fn start(&self, account: AccountId, version: Option<u64>) -> Result<Current, AccountError> {
        let record = record::SearchIndex {
            format: FORMAT,
            ..Default::default()
        };
        let mut commit = Commit::new();
        commit.delete_range(keys::search_all(account));
        self.commit(account, version, record, commit).await
    }

    /// Commits a new record of an index, and what goes with it.
    pub(super) async fn commit(
        &self,
        account: AccountId,
        version: Option<u64>,
        record: record::SearchIndex,
        with: Commit,
    ) -> Result<Current, AccountError> {
        let key = keys::search_index(account);
        let mut commit = Commit::new();
        match version {
            Some(version) => commit.require_at(key.clone(), version),
            None => commit.require_absent(key.clone()),
        };
        // A removed account gets no more keys.
        commit.require_present(keys::account(account));
        commit.append(with);
        commit.put(key, record.encode_to_vec());
        match self.db.commit(commit).await {
            Ok(version) => Ok(Current { record, version }),
            Err(EngineError::Conflict { condition: 1 }) => Err(AccountError::AccountGone),
            Err(EngineError::Conflict { .. }) => Err(AccountError::Contended),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at everything that is not in the index, and merges.
    async fn pass(&self, account: AccountId, report: &(dyn Fn(Progress) + Sync)) -> Result<(), AccountError> {
        let snapshot = self.db.snapshot().await?;
        let value = snapshot
            .get(keys::account(account))
            .await?
            .ok_or(AccountError::AccountGone)?;
        let now = record::Account::decode(value.data).map_err(|_| AccountError::Damaged("an account"))?;
        let found = snapshot.get(keys::search_index(account)).await?;
        let opened = self.text.open(&*snapshot, account).await?;
        drop(snapshot);
        let (current, present) = match (found, opened) {
            (Some(value), Some(opened)) => {
                let mut present = RoaringBitmap::new();
                opened
                    .segments
                    .iter()
                    .for_each(|(_, head)| present.extend(&head.numbers));
                let record = super::decode(&value.data)?;
                let version = value.version;
                (Current { record, version }, present)
            }
            (found, _) => (
                self.start(account, found.map(|v| v.version)).await?,
                RoaringBitmap::new(),
            ),
        };
        let by_log = current.record.complete && current.record.cursor_modseq >= now.log_watermark;
        let total = match by_log {
            true => u64::from(now.next_number.saturating_sub(current.record.cursor_number)),
            false => now.messages,
        };
        let mut pass = Pass {
            indexer: self,
            account,
            current,
            present,
            builder: Builder::default(),
            waiting: Vec::new(),
            progress: Progress { done: 0, total },
            report,
        };
        match by_log {
            true => pass.follow_log(now.modseq).await?,
            false => pass.all_rows().await?,
        }
        let done = (now.modseq, now.next_number.max(1));
        pass.end(done).await?;
        let current = pass.current;
        self.merge(account, current, now.messages).await
    }

    /// Merges segments while there are too many, or too many of their messages are gone.
    async fn merge(&self, account: AccountId, mut current: Current, messages: u64) -> Result<(), AccountError> {
        loop {
            let segments = &current.record.segments;
            let all: u64 = segments.iter().map(|s| u64::from(s.messages)).sum();
            let gone = all > messages * GONE_FACTOR + GONE_MIN;
            let chosen = match merge::due(segments) {
                Some(chosen) => chosen,
                // Each on its own: what is left of them is merged like others.
                None if gone => (0..segments.len()).collect(),
                None => return Ok(()),
            };
            let size: u64 = chosen.iter().map(|n| u64::from(segments[*n].messages)).sum();
            let live = match gone || size * 4 >= all {
                true => Some(self.live(account).await?),
                false => None,
            };
            if merge::due(segments).is_some() {
                current = self.merge_some(account, current, &chosen, live.as_ref()).await?;
                continue;
            }
            let ids: Vec<u64> = segments.iter().map(|s| s.id).collect();
            for id in ids {
                let head = self.head(account, id).await?;
                let left = live
                    .as_ref()
                    .map_or(0, |live| head.numbers.iter().filter(|n| live.contains(**n)).count());
                if left * 2 > head.numbers.len() {
                    continue;
                }
                if let Some(n) = current.record.segments.iter().position(|s| s.id == id) {
                    current = self.merge_some(account, current, &[n], live.as_ref()).await?;
                }
            }
            if merge::due(&current.record.segments).is_none() {
                return Ok(());
            }
        }
    }

    /// The numbers of all messages that there are.
    async fn live(&self, account: AccountId) -> Result<RoaringBitmap, AccountError> {
        let mut live = RoaringBitmap::new();
        let mut left = Some(keys::account_table(account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let page = self.db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
            left = page.rest(&range);
            for (_, value) in page.rows {
                live.insert(decode_row(value.data)?.number);
            }
            tokio::task::yield_now().await;
        }
        Ok(live)
    }

    async fn head(&self, account: AccountId, segment: u64) -> Result<Arc<Head>, AccountError> {
        let key = keys::search_part(account, segment, Kind::Head as u8, 0);
        let value = self.db.get(key).await?.ok_or_else(super::block::damaged)?;
        Ok(Arc::new(Head::decode(&value.data)?))
    }

    async fn merge_some(
        &self,
        account: AccountId,
        current: Current,
        chosen: &[usize],
        live: Option<&RoaringBitmap>,
    ) -> Result<Current, AccountError> {
        let id: u64 = rand::random();
        let Current { mut record, version } = current;
        // Said first, so that what is left when this is cut short is known and removed.
        let mut first = Commit::new();
        if record.building != 0 {
            first.delete_range(keys::search_segment(account, record.building));
        }
        record.building = id;
        let Current { mut record, version } = self.commit(account, Some(version), record, first).await?;
        let mut inputs: Vec<(record::SearchSegment, Arc<Head>)> = Vec::new();
        for n in chosen {
            let segment = record.segments[*n];
            inputs.push((segment, self.head(account, segment.id).await?));
        }
        let commit = |mut part: Commit| async move {
            part.require_at(keys::search_index(account), version);
            match self.db.commit(part).await {
                Ok(_) => Ok(()),
                Err(EngineError::Conflict { .. }) => Err(AccountError::Contended),
                Err(error) => Err(error.into()),
            }
        };
        let (mut last, segment) = merge::merge(&self.db, account, id, &inputs, live, commit).await?;
        for (old, _) in &inputs {
            merge::parts(account, old).for_each(|key| {
                last.delete(key);
            });
        }
        record.segments.retain(|s| inputs.iter().all(|(old, _)| old.id != s.id));
        if segment.messages > 0 {
            record.segments.push(segment);
        }
        record.building = 0;
        self.text.0.figures.merges.fetch_add(1, Ordering::Relaxed);
        self.text.0.figures.bytes.fetch_add(segment.bytes, Ordering::Relaxed);
        self.commit(account, Some(version), record, last).await
    }
}
