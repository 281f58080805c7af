//! The changes of one batch to one account, before they are committed.
//!
//! A transaction starts from a [`State`], and collects changes of it and of keys, which its own reads see. Each
//! operation of the batch begins with [`AccountTx::begin`] and ends with [`AccountTx::keep`] or [`AccountTx::undo`], so
//! that one that fails leaves nothing behind.
//!
//! Every change of a message's flags, mailbox or existence goes through [`AccountTx::insert_row`],
//! [`AccountTx::update_row`] and [`AccountTx::delete_row`]: they keep the counters, the change log, the index and, when
//! the operation ends, the history of senders ([`super::history`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;

use super::AccountError;
use super::flags::Wanted;
use super::history;
use super::index::{Delta, IndexRow};
use super::names;
use super::ranges;
use super::rows::{Reader, Scanned};
use super::state::{MAILBOXES_MAX, Mailbox, State};
use super::training::{JUDGEMENT, JunkRules};
use crate::engine::{Commit, Db, Limit, Order};
use crate::keys;

/// Changes that the log keeps at least. A client that is further behind reads everything again.
pub const LOG_KEPT: u64 = 100_000;
/// Changes beyond [`LOG_KEPT`] before the log is trimmed, so that trimming is rare.
pub const LOG_SLACK: u64 = 10_000;

/// What one operation changed in a mailbox.
#[derive(Debug, Default)]
struct MailboxChange {
    changed: Vec<u32>,
    vanished: Vec<u32>,
    itself: bool,
    gone: bool,
    metadata: Vec<String>,
}

/// What one operation changed.
#[derive(Debug, Default)]
struct Noted {
    mailboxes: BTreeMap<MailboxId, MailboxChange>,
    subscriptions: Vec<String>,
    server_metadata: Vec<String>,
}

/// To go back to.
struct Saved {
    state: State,
    conditions: usize,
    operations: usize,
    deltas: usize,
}

/// Changes to one account.
pub struct AccountTx {
    db: Db,
    /// Seconds since 1970.
    pub now: i64,
    /// Bytes that the account's messages may take; 0 is no limit.
    quota: u64,
    junk_rules: JunkRules,
    training: bool,
    base: State,
    state: State,
    overlay: BTreeMap<Bytes, Option<Bytes>>,
    journal: Vec<(Bytes, Option<Option<Bytes>>)>,
    extra: Commit,
    mailboxes: BTreeSet<MailboxId>,
    /// Something changed that is of no mailbox.
    anywhere: bool,
    subscriptions: BTreeSet<Arc<str>>,
    deltas: Vec<(MailboxId, Delta)>,
    saved: Option<Saved>,
    modseq: Option<u64>,
    changes: Noted,
    /// Messages that were judged, or are no longer, in the operation.
    pub(super) judged: history::Changes,
}

impl AccountTx {
    /// On top of a state.
    #[must_use]
    pub fn new(db: Db, base: State, quota: u64, now: i64) -> Self {
        Self {
            db,
            now,
            quota,
            junk_rules: JunkRules::default(),
            training: false,
            state: base.clone(),
            base,
            overlay: BTreeMap::new(),
            journal: Vec::new(),
            extra: Commit::new(),
            mailboxes: BTreeSet::new(),
            anywhere: false,
            subscriptions: BTreeSet::new(),
            deltas: Vec::new(),
            saved: None,
            modseq: None,
            changes: Noted::default(),
            judged: history::Changes::default(),
        }
    }

    /// With what the configuration says about junk.
    #[must_use]
    pub(super) fn with_junk_rules(mut self, rules: JunkRules) -> Self {
        self.junk_rules = rules;
        self
    }

    /// What the configuration says about junk.
    pub(super) fn rules(&self) -> &JunkRules {
        &self.junk_rules
    }

    /// There is something in the queue of the junk filter. A hint: it stays when the operation is undone.
    pub(super) fn note_training(&mut self) {
        self.training = true;
    }

    /// Whose.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.state.account
    }

    /// The account with the changes so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Starts an operation.
    pub(super) fn begin(&mut self) {
        self.journal.clear();
        self.modseq = None;
        self.changes = Noted::default();
        self.judged = history::Changes::default();
        self.saved = Some(Saved {
            state: self.state.clone(),
            conditions: self.extra.conditions.len(),
            operations: self.extra.operations.len(),
            deltas: self.deltas.len(),
        });
    }

    /// Ends an operation whose changes stay.
    pub(super) fn keep(&mut self) {
        if let Some(modseq) = self.modseq {
            let changes = std::mem::take(&mut self.changes);
            let entry = record::Change {
                subscriptions: changes.subscriptions,
                server_metadata: changes.server_metadata,
                mailboxes: changes
                    .mailboxes
                    .into_iter()
                    .map(|(id, change)| record::change::MailboxChange {
                        mailbox_id: id.to_bytes(),
                        changed: ranges::of(change.changed),
                        vanished: ranges::of(change.vanished),
                        mailbox_changed: change.itself,
                        mailbox_gone: change.gone,
                        metadata: change.metadata,
                    })
                    .collect(),
            };
            self.put(keys::change(self.account(), modseq), entry.encode_to_vec());
        }
        self.saved = None;
    }

    /// Ends an operation of which nothing stays.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.journal.drain(..).rev() {
            match before {
                Some(value) => self.overlay.insert(key, value),
                None => self.overlay.remove(&key),
            };
        }
        if let Some(saved) = self.saved.take() {
            self.state = saved.state;
            self.extra.conditions.truncate(saved.conditions);
            self.extra.operations.truncate(saved.operations);
            self.deltas.truncate(saved.deltas);
        }
    }

    /// How many conditions the operations so far have added.
    pub(super) fn conditions(&self) -> usize {
        self.extra.conditions.len()
    }

    /// Sets a key.
    pub fn put(&mut self, key: Bytes, value: impl Into<Bytes>) {
        let before = self.overlay.insert(key.clone(), Some(value.into()));
        self.journal.push((key, before));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Bytes) {
        let before = self.overlay.insert(key.clone(), None);
        self.journal.push((key, before));
    }

    /// For what does not lie in the account's keys: contents, idempotency, other spaces. Not seen by reads.
    pub fn extra(&mut self) -> &mut Commit {
        &mut self.extra
    }

    /// The modification sequence of this operation.
    pub fn modseq(&mut self) -> u64 {
        *self.modseq.get_or_insert_with(|| {
            self.state.record.modseq += 1;
            self.state.record.modseq
        })
    }

    fn change(&mut self, mailbox: MailboxId) -> &mut MailboxChange {
        self.modseq();
        self.changes.mailboxes.entry(mailbox).or_default()
    }

    /// Counts an annotation, by the lengths of its value before and after.
    pub(super) fn count_annotation(&mut self, name: &str, before: Option<usize>, after: Option<usize>) {
        let bytes = |value: usize| (name.len() + value) as u64;
        let record = &mut self.state.record;
        if let Some(value) = before {
            record.annotations = record.annotations.saturating_sub(1);
            record.annotation_bytes = record.annotation_bytes.saturating_sub(bytes(value));
        }
        if let Some(value) = after {
            record.annotations = record.annotations.saturating_add(1);
            record.annotation_bytes = record.annotation_bytes.saturating_add(bytes(value));
        }
    }

    /// Changes a mailbox's record.
    fn edit(&mut self, id: MailboxId, change: impl FnOnce(&mut Mailbox)) -> Result<(), AccountError> {
        let modseq = self.modseq();
        let mut mailbox = Mailbox::clone(self.state.mailbox(id)?);
        mailbox.modseq = modseq;
        change(&mut mailbox);
        self.state.put_mailbox(Arc::new(mailbox));
        self.mailboxes.insert(id);
        Ok(())
    }

    /// Adds a mailbox; its parents are the caller's concern.
    ///
    /// # Errors
    /// If the name is taken, or there are too many.
    pub fn create_mailbox(&mut self, name: &str, special_use: Vec<String>) -> Result<MailboxId, AccountError> {
        if self.state.names.contains_key(name) {
            return Err(AccountError::Exists(name.to_owned()));
        }
        if self.state.mailboxes.size() >= MAILBOXES_MAX {
            return Err(AccountError::Limit("at most 10000 mailboxes an account"));
        }
        // RFC 9051 §2.3.1.1: a mailbox that is made again under a name gets a greater UIDVALIDITY. Time serves for an
        // account that is made again, or restored from a backup.
        let uid_validity = self
            .state
            .record
            .next_uid_validity
            .max(u32::try_from(self.now).unwrap_or(1))
            .max(1);
        self.state.record.next_uid_validity = uid_validity.saturating_add(1);
        let modseq = self.modseq();
        let id = MailboxId::new();
        self.state.put_mailbox(Arc::new(Mailbox {
            id,
            name: name.into(),
            uid_validity,
            uid_next: 1,
            create_modseq: modseq,
            modseq,
            special_use,
            keywords: Vec::new(),
            counts: Default::default(),
        }));
        self.mailboxes.insert(id);
        self.change(id).itself = true;
        Ok(id)
    }

    /// Makes a mailbox with its missing parents, and answers with the names that were made.
    ///
    /// # Errors
    /// As [`AccountTx::create_mailbox`], but not if it exists.
    pub fn ensure_mailbox(&mut self, name: &str) -> Result<(MailboxId, Vec<String>), AccountError> {
        let mut created = Vec::new();
        for parent in names::parents(name).chain([name]) {
            if self.state.named(parent).is_none() {
                self.create_mailbox(parent, Vec::new())?;
                created.push(parent.to_owned());
            }
        }
        let id = self.state.named(name).ok_or(AccountError::NoMailbox)?.id;
        Ok((id, created))
    }

    /// Changes the name or use of a mailbox.
    ///
    /// # Errors
    /// If it is gone.
    pub fn edit_mailbox(&mut self, id: MailboxId, change: impl FnOnce(&mut Mailbox)) -> Result<(), AccountError> {
        self.edit(id, change)?;
        self.change(id).itself = true;
        Ok(())
    }

    /// Changes the account's own record, as a repair. Its modification sequence and version are not to be changed.
    pub fn repair_account(&mut self, change: impl FnOnce(&mut record::Account)) {
        self.modseq();
        change(&mut self.state.record);
    }

    /// Makes the log begin here: whoever knows an earlier state reads all again. For changes that the log cannot tell.
    pub fn forget_log(&mut self) {
        let account = self.account();
        let modseq = self.modseq();
        let watermark = self.state.record.log_watermark;
        self.extra
            .delete_range(keys::change(account, watermark)..keys::change(account, modseq));
        self.state.record.log_watermark = modseq;
    }

    /// Gives a message another UID, not above the one that it has, which no other message has. The counters stay. The
    /// caller gives the mailbox another UIDVALIDITY, and forgets the log: a UID may be another message's before and
    /// after.
    ///
    /// # Errors
    /// If the mailbox is gone.
    pub fn renumber_row(
        &mut self,
        mailbox: MailboxId,
        uid: u32,
        new_uid: u32,
        mut row: record::Row,
    ) -> Result<(), AccountError> {
        row.modseq = self.modseq();
        self.edit(mailbox, |_| {})?;
        let account = self.account();
        self.delete(keys::row(account, mailbox, uid));
        self.note(mailbox, uid, None);
        self.put(keys::row(account, mailbox, new_uid), row.encode_to_vec());
        self.note(mailbox, new_uid, Some(&row));
        Ok(())
    }

    /// Removes a mailbox at once; its messages are removed later ([`super::ops::Purge`]).
    ///
    /// # Errors
    /// If it is gone.
    pub fn remove_mailbox(&mut self, id: MailboxId) -> Result<(), AccountError> {
        let counts = self.state.mailbox(id)?.counts;
        self.modseq();
        self.state.remove_mailbox(id);
        let record = &mut self.state.record;
        record.size = record.size.saturating_sub(counts.size);
        record.messages = record.messages.saturating_sub(u64::from(counts.messages));
        self.mailboxes.insert(id);
        self.change(id).gone = true;
        self.extra.put(keys::deleted_mailbox(self.account(), id), Bytes::new());
        Ok(())
    }

    /// Subscribes a name, or no longer.
    ///
    /// # Errors
    /// If there are too many.
    pub fn set_subscribed(&mut self, name: &str, subscribed: bool) -> Result<(), AccountError> {
        if self.state.subscriptions.contains(name) == subscribed {
            return Ok(());
        }
        let name: Arc<str> = name.into();
        if subscribed {
            if self.state.subscriptions.size() >= super::state::SUBSCRIPTIONS_MAX {
                return Err(AccountError::Limit("at most 20000 subscribed names an account"));
            }
            self.state.subscriptions.insert_mut(name.clone());
        } else {
            self.state.subscriptions.remove_mut(&name);
        }
        self.modseq();
        if let Some(id) = self.state.names.get(&name).copied() {
            self.edit_mailbox(id, |_| {})?;
        }
        self.changes.subscriptions.push(name.to_string());
        self.subscriptions.insert(name);
        Ok(())
    }

    /// Says in the change log that an entry of a mailbox's metadata was set or removed, or of the server's.
    ///
    /// # Errors
    /// If the mailbox is gone.
    pub fn note_metadata(&mut self, mailbox: Option<MailboxId>, entry: &str) -> Result<(), AccountError> {
        self.modseq();
        match mailbox {
            Some(id) => {
                self.edit(id, |_| {})?;
                self.change(id).metadata.push(entry.to_owned());
            }
            None => {
                self.anywhere = true;
                self.changes.server_metadata.push(entry.to_owned());
            }
        }
        Ok(())
    }

    /// The numbers of keywords, new ones for those that were never used.
    ///
    /// # Errors
    /// If there are too many.
    pub fn keywords(&mut self, wanted: &Wanted) -> Result<Vec<u32>, AccountError> {
        let mut numbers = Vec::with_capacity(wanted.keywords.len());
        for keyword in &wanted.keywords {
            numbers.push(self.state.keywords.ensure(keyword)?);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A number for the text of a new message, never given before; 0 when they are used up, which only makes searches
    /// slower.
    pub fn number(&mut self) -> u32 {
        let next = &mut self.state.record.next_number;
        let number = (*next).max(1);
        *next = number.saturating_add(1);
        if number == u32::MAX { 0 } else { number }
    }

    /// Whether so many more bytes are within the quota.
    ///
    /// # Errors
    /// If not.
    pub fn check_quota(&self, more: u64) -> Result<(), AccountError> {
        if self.quota != 0 && self.state.record.size.saturating_add(more) > self.quota {
            return Err(AccountError::OverQuota);
        }
        Ok(())
    }

    /// Adds a row at the end of a mailbox, and answers with its UID. Sets the row's modification sequence.
    ///
    /// # Errors
    /// If the mailbox is gone, or has used up its UIDs.
    pub fn insert_row(&mut self, mailbox: MailboxId, mut row: record::Row) -> Result<u32, AccountError> {
        let uid = self.state.mailbox(mailbox)?.uid_next;
        if uid == u32::MAX {
            return Err(AccountError::Limit(
                "the mailbox has used up its UIDs: move its messages to a new one",
            ));
        }
        row.modseq = self.modseq();
        row.create_modseq = row.modseq;
        self.edit(mailbox, |m| {
            m.uid_next = uid + 1;
            m.counts.add(row.flags, row.size);
            add_keywords(&mut m.keywords, &row.keywords);
        })?;
        self.state.record.size += row.size;
        self.state.record.messages += 1;
        self.judged.note(&row.message_id, 0, row.flags);
        self.put(keys::row(self.account(), mailbox, uid), row.encode_to_vec());
        self.note(mailbox, uid, Some(&row));
        Ok(uid)
    }

    /// Changes a row's flags and keywords. Sets the row's modification sequence.
    ///
    /// # Errors
    /// If the mailbox is gone.
    pub fn update_row(
        &mut self,
        mailbox: MailboxId,
        uid: u32,
        old: &record::Row,
        row: &mut record::Row,
    ) -> Result<(), AccountError> {
        row.modseq = self.modseq();
        if (old.flags ^ row.flags) & JUDGEMENT != 0 {
            self.train(&row.message_id);
            self.judged.note(&row.message_id, old.flags, row.flags);
        }
        self.edit(mailbox, |m| {
            m.counts.remove(old.flags, old.size);
            m.counts.add(row.flags, row.size);
            add_keywords(&mut m.keywords, &row.keywords);
        })?;
        self.put(keys::row(self.account(), mailbox, uid), row.encode_to_vec());
        self.note(mailbox, uid, Some(row));
        Ok(())
    }

    /// Writes a row with what is not part of its history: neither the log nor its modification sequence tells of it.
    pub fn complete_row(&mut self, mailbox: MailboxId, uid: u32, row: &record::Row) {
        self.put(keys::row(self.account(), mailbox, uid), row.encode_to_vec());
        let delta = Delta {
            uid,
            modseq: row.modseq,
            row: Some(IndexRow::new(uid, row)),
        };
        self.deltas.push((mailbox, delta));
    }

    /// Removes a row.
    ///
    /// # Errors
    /// If the mailbox is gone.
    pub fn delete_row(&mut self, mailbox: MailboxId, uid: u32, old: &record::Row) -> Result<(), AccountError> {
        self.edit(mailbox, |m| m.counts.remove(old.flags, old.size))?;
        self.judged.note(&old.message_id, old.flags, 0);
        let record = &mut self.state.record;
        record.size = record.size.saturating_sub(old.size);
        record.messages = record.messages.saturating_sub(1);
        self.delete(keys::row(self.account(), mailbox, uid));
        self.note(mailbox, uid, None);
        Ok(())
    }

    fn note(&mut self, mailbox: MailboxId, uid: u32, row: Option<&record::Row>) {
        let change = self.change(mailbox);
        match row {
            Some(_) => change.changed.push(uid),
            None => change.vanished.push(uid),
        }
        let modseq = self.modseq();
        let row = row.map(|row| IndexRow::new(uid, row));
        self.deltas.push((mailbox, Delta { uid, modseq, row }));
    }

    /// Records of messages, in the order asked; those that are gone are `None`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn messages(&self, ids: &[MessageId]) -> Result<Vec<Option<record::Message>>, AccountError> {
        let keys = ids.iter().map(|id| keys::message(self.account(), *id)).collect();
        let decode = |v: Bytes| record::Message::decode(v).map_err(|_| AccountError::Damaged("a message"));
        self.get_many(keys)
            .await?
            .into_iter()
            .map(|v| v.map(decode).transpose())
            .collect()
    }

    /// Whether nothing would be written.
    pub(super) fn is_empty(&self) -> bool {
        self.overlay.is_empty()
            && self.extra.operations.is_empty()
            && self.mailboxes.is_empty()
            && self.subscriptions.is_empty()
            && self.state.record == self.base.record
    }

    /// What to commit, on the condition that the account is as it was, the first one; and what the account is then.
    pub(super) fn finish(mut self) -> Finished {
        let account = self.account();
        let mut commit = Commit::new();
        commit.require_at(keys::account(account), self.base.version);
        let record = &mut self.state.record;
        if record.modseq - record.log_watermark > LOG_KEPT + LOG_SLACK {
            let watermark = record.modseq - LOG_KEPT;
            commit.delete_range(keys::change(account, record.log_watermark)..keys::change(account, watermark + 1));
            record.log_watermark = watermark;
        }
        for id in &self.mailboxes {
            let key = keys::mailbox(account, *id);
            match self.state.mailboxes.get(id) {
                Some(mailbox) => commit.put(key, mailbox.to_record().encode_to_vec()),
                None => commit.delete(key),
            };
        }
        for name in &self.subscriptions {
            let key = keys::subscription(account, name);
            match self.state.subscriptions.contains(name) {
                true => commit.put(key, Bytes::new()),
                false => commit.delete(key),
            };
        }
        for number in self.base.keywords.len()..self.state.keywords.len() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if let Some(text) = self.state.keywords.text(number) {
                commit.put(keys::keyword(account, number), Bytes::copy_from_slice(text.as_bytes()));
            }
        }
        for (key, value) in self.overlay {
            match value {
                Some(value) => commit.put(key, value),
                None => commit.delete(key),
            };
        }
        commit.put(keys::account(account), self.state.record.encode_to_vec());
        commit.append(self.extra);
        // A subscription or the server's metadata may have changed without any mailbox.
        let only_mailboxes = self.subscriptions.is_empty() && !self.anywhere;
        let touched = if only_mailboxes {
            self.mailboxes
        } else {
            BTreeSet::new()
        };
        Finished {
            touched: (self.base.record.modseq, touched),
            commit,
            numbers: self.state.record.next_number - self.base.record.next_number,
            state: self.state,
            deltas: self.deltas,
            training: self.training,
        }
    }
}

/// A transaction that is ready to be committed.
pub(super) struct Finished {
    /// Which mailboxes changed, after which modification sequence; none if that is not all that changed.
    pub touched: (u64, BTreeSet<MailboxId>),
    /// Its first condition is that of the account; those of operations follow.
    pub commit: Commit,
    /// The account then, with the version to be set.
    pub state: State,
    /// What to change in the index.
    pub deltas: Vec<(MailboxId, Delta)>,
    /// How many new texts the account has.
    pub numbers: u32,
    /// Whether its junk filter has something to learn.
    pub training: bool,
}

/// Adds numbers to an ascending list.
fn add_keywords(list: &mut Vec<u32>, more: &[u32]) {
    for number in more {
        if let Err(at) = list.binary_search(number) {
            list.insert(at, *number);
        }
    }
}

impl Reader for AccountTx {
    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, AccountError> {
        let mut values: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut missing = Vec::new();
        let mut places = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            match self.overlay.get(&key) {
                Some(value) => values[place].clone_from(value),
                None => {
                    places.push(place);
                    missing.push(key);
                }
            }
        }
        if !missing.is_empty() {
            for (place, value) in places.into_iter().zip(self.db.get_many(missing).await?) {
                values[place] = value.map(|v| v.data);
            }
        }
        Ok(values)
    }

    async fn scan(&self, range: Range<Bytes>, rows: usize) -> Result<Scanned, AccountError> {
        let page = self.db.scan(range.clone(), Limit::rows(rows), Order::Ascending).await?;
        // The page says nothing about what lies behind its last row, so changes from there on are for the next one.
        let rest = page.rest(&range);
        let end = rest.as_ref().map_or(range.end.clone(), |rest| rest.start.clone());
        let mut merged: BTreeMap<Bytes, Bytes> = page.rows.into_iter().map(|(k, v)| (k, v.data)).collect();
        for (key, value) in self.overlay.range(range.start..end) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok((merged.into_iter().collect(), rest))
    }
}
