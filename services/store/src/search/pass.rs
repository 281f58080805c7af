//! One go through what is new in an account: finding it, reading it, and making segments of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MailboxId, MessageId};
use prost::Message as _;
use roaring::RoaringBitmap;

use super::builder::Builder;
use super::indexer::{Current, Indexer, Progress};
use crate::account::ops::{NumberRows, STEP_MESSAGES};
use crate::account::{AccountError, FromSnapshot, LOG_KEPT, normalize, ranges_from, ranges_of, read_rows};
use crate::content::ContentError;
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;

/// Messages that are read at a time, and about the most bytes of them.
const BATCH: usize = 64;
/// See [`BATCH`].
const BATCH_BYTES: usize = 8 << 20;
/// Rows, or entries of the log, that are read at a time.
pub(super) const PAGE: usize = 4096;

/// One go through what is new.
pub(super) struct Pass<'a> {
    pub(super) indexer: &'a Indexer,
    pub(super) account: AccountId,
    pub(super) current: Current,
    /// Numbers that are in a segment, or about to be.
    pub(super) present: RoaringBitmap,
    pub(super) builder: Builder,
    /// To be read.
    pub(super) waiting: Vec<(u32, MessageId)>,
    pub(super) progress: Progress,
    pub(super) report: &'a (dyn Fn(Progress) + Sync),
}

impl Pass<'_> {
    /// All messages that are in the change log since the cursor.
    pub(super) async fn follow_log(&mut self, until: u64) -> Result<(), AccountError> {
        let db = self.indexer.db.clone();
        let from = self.current.record.cursor_number;
        let first = keys::change(self.account, self.current.record.cursor_modseq + 1);
        let mut left = Some(first..keys::change(self.account, until.saturating_add(1)));
        while let Some(range) = left.take() {
            let page = db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
            left = page.rest(&range);
            let mut changed: HashMap<Bytes, Vec<UidRange>> = HashMap::new();
            for (_, value) in page.rows {
                let entry = record::Change::decode(value.data).map_err(|_| AccountError::Damaged("the change log"))?;
                for change in entry.mailboxes {
                    changed.entry(change.mailbox_id).or_default().extend(change.changed);
                }
            }
            for (mailbox, ranges) in changed {
                let mailbox = MailboxId::try_from(&mailbox).map_err(|_| AccountError::Damaged("the change log"))?;
                let mut rest = normalize(&ranges, u32::MAX);
                while !rest.is_empty() {
                    let snapshot = db.snapshot().await?;
                    let reader = FromSnapshot(&*snapshot);
                    let (rows, next) = read_rows(&reader, self.account, mailbox, &rest, PAGE).await?;
                    drop(snapshot);
                    // Written by a program that is older than the index.
                    let old: Vec<u32> = rows
                        .iter()
                        .filter(|(_, row)| row.number == 0)
                        .map(|(uid, _)| *uid)
                        .collect();
                    for (_, row) in rows {
                        if row.number >= from {
                            self.take(&row).await?;
                        }
                    }
                    self.number(mailbox, &old).await?;
                    rest = next.map_or_else(Vec::new, |next| ranges_from(&rest, next));
                }
            }
        }
        Ok(())
    }

    /// All messages that there are. Those that have no number, as they are older than the index, get one.
    pub(super) async fn all_rows(&mut self) -> Result<(), AccountError> {
        let db = self.indexer.db.clone();
        let mut left = Some(keys::account_table(self.account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let page = db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
            left = page.rest(&range);
            let mut old: HashMap<MailboxId, Vec<u32>> = HashMap::new();
            for (key, value) in page.rows {
                let row = decode_row(value.data)?;
                if row.number != 0 {
                    self.take(&row).await?;
                } else if let Some((mailbox, uid)) = keys::parse_row_of(&key) {
                    old.entry(mailbox).or_default().push(uid);
                }
            }
            for (mailbox, uids) in old {
                self.number(mailbox, &uids).await?;
            }
        }
        Ok(())
    }

    /// Gives numbers to messages, and takes them.
    async fn number(&mut self, mailbox: MailboxId, uids: &[u32]) -> Result<(), AccountError> {
        for uids in uids.chunks(STEP_MESSAGES) {
            let uids = ranges_of(uids.iter().copied());
            let op = NumberRows {
                mailbox,
                uids: uids.clone(),
            };
            match self.indexer.accounts.submit(self.account, None, op).await {
                Ok(_) => {}
                Err(AccountError::NoMailbox) => return Ok(()),
                Err(error) => return Err(error),
            }
            let snapshot = self.indexer.db.snapshot().await?;
            let reader = FromSnapshot(&*snapshot);
            let (rows, _) = read_rows(&reader, self.account, mailbox, &uids, usize::MAX).await?;
            drop(snapshot);
            for (_, row) in rows {
                self.take(&row).await?;
            }
        }
        Ok(())
    }

    /// Takes a message to be read, unless it is in the index.
    async fn take(&mut self, row: &record::Row) -> Result<(), AccountError> {
        self.progress.done += 1;
        if row.number != 0 && self.present.insert(row.number) {
            let id = MessageId::try_from(&row.message_id).map_err(|_| AccountError::Damaged("a row"))?;
            self.waiting.push((row.number, id));
            if self.waiting.len() >= BATCH {
                self.read().await?;
            }
        }
        Ok(())
    }

    /// Reads what waits.
    async fn read(&mut self) -> Result<(), AccountError> {
        let waiting = std::mem::take(&mut self.waiting);
        let keys = waiting.iter().map(|(_, id)| keys::message(self.account, *id)).collect();
        let values = self.indexer.db.get_many(keys).await?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for ((number, _), value) in waiting.into_iter().zip(values) {
            // Gone by now, as may be the content.
            let Some(value) = value else { continue };
            let message = record::Message::decode(value.data).map_err(|_| AccountError::Damaged("a message"))?;
            let content = ContentId::try_from(&message.content_id).map_err(|_| AccountError::Damaged("a message"))?;
            let content = match self.indexer.contents.bytes(content).await {
                Ok(content) => content,
                Err(ContentError::Gone(_)) => continue,
                Err(ContentError::Engine(error)) => return Err(error.into()),
                Err(error) => {
                    // Searching it fails too; the others are not to suffer.
                    tracing::error!(account = %self.account, %error, "reading a message for the search index");
                    continue;
                }
            };
            let whole = match message.prefix.is_empty() {
                true => content,
                false => {
                    let mut whole = BytesMut::with_capacity(message.prefix.len() + content.len());
                    whole.extend_from_slice(&message.prefix);
                    whole.extend_from_slice(&content);
                    whole.freeze()
                }
            };
            bytes += whole.len();
            batch.push((number, whole));
            if bytes >= BATCH_BYTES {
                self.add(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.add(batch).await?;
        (self.report)(self.progress);
        if self.builder.is_full() {
            let record = self.current.record.clone();
            self.flush(record).await?;
        }
        Ok(())
    }

    async fn add(&mut self, batch: Vec<(u32, Bytes)>) -> Result<(), AccountError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut builder = std::mem::take(&mut self.builder);
        let work = tokio::task::spawn_blocking(move || {
            for (number, message) in &batch {
                builder.add(*number, message);
            }
            builder
        });
        self.builder = work.await.map_err(|_| AccountError::Engine(EngineError::Closed))?;
        Ok(())
    }

    /// Makes a segment of what was collected, and commits it with the record.
    async fn flush(&mut self, mut record: record::SearchIndex) -> Result<(), AccountError> {
        let builder = std::mem::take(&mut self.builder);
        let mut commit = Commit::new();
        if !builder.is_empty() {
            let messages = builder.len() as u64;
            let account = self.account;
            let work = tokio::task::spawn_blocking(move || builder.finish(account, rand::random()));
            let (parts, segment) = work.await.map_err(|_| AccountError::Engine(EngineError::Closed))?;
            commit = parts;
            record.segments.push(segment);
            let figures = &self.indexer.text.0.figures;
            figures.messages.fetch_add(messages, Ordering::Relaxed);
            figures.segments.fetch_add(1, Ordering::Relaxed);
            figures.bytes.fetch_add(segment.bytes, Ordering::Relaxed);
        }
        if record != self.current.record {
            let version = Some(self.current.version);
            self.current = self.indexer.commit(self.account, version, record, commit).await?;
        }
        Ok(())
    }

    /// Ends with what is left, and moves the cursor.
    pub(super) async fn end(&mut self, (modseq, number): (u64, u32)) -> Result<(), AccountError> {
        self.read().await?;
        let mut record = self.current.record.clone();
        // Nothing new is no reason to write, unless the log may soon be cut there.
        let moved = record.cursor_number != number
            || !record.complete
            || modseq - record.cursor_modseq > LOG_KEPT / 2
            || !self.builder.is_empty();
        if moved {
            record.cursor_modseq = modseq;
            record.cursor_number = number;
            record.complete = true;
        }
        self.flush(record).await
    }
}

pub(super) fn decode_row(value: Bytes) -> Result<record::Row, AccountError> {
    record::Row::decode(value).map_err(|_| AccountError::Damaged("a row"))
}
