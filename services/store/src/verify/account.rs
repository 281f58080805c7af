//! One account: its mailboxes and their counters, and what belongs to its messages.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use mox_proto::mail::v1::Computed;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MailboxId, MessageId};
use prost::Message as _;

use super::{About, Verifier, VerifyError};
use crate::account::ops::{CorrectCounts, Off, RaiseUids, Reparse, Reparsed};
use crate::account::{Counts, INBOX, State, canonical, ingest, thread_entries};
use crate::content::{self, Owner};
use crate::engine::Commit;
use crate::keys;

/// What was counted in a mailbox.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub counts: Counts,
    pub last_uid: u32,
}

/// What the rows of an account say.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub mailboxes: BTreeMap<MailboxId, Counted>,
}

impl Verifier<'_> {
    pub(super) async fn account(&self, name: &str, id: AccountId) -> Result<(), VerifyError> {
        let about = About::account(name);
        let snapshot = self.parts.db.snapshot().await?;
        let state = match State::load(&*snapshot, id).await {
            Ok(state) => state,
            Err(error) => {
                self.wrong(about, format!("the account cannot be opened: {error}"));
                return Ok(());
            }
        };
        drop(snapshot);
        if let Some(value) = self.parts.db.get(keys::credentials(id)).await?
            && record::Credentials::decode(value.data).is_err()
        {
            self.wrong(
                about,
                "its password cannot be read: set it again with mox setaccountpassword",
            );
        }
        let deleted = self.deleted(id).await?;
        self.mailboxes(about, &state);
        self.rows(about, &state, &deleted).await?;
        self.messages(about, &state, &deleted).await?;
        self.derived(about, id).await?;
        self.found_by(about, id, keys::TABLE_MESSAGE_IDS).await?;
        self.found_by(about, id, keys::TABLE_SUBJECTS).await?;
        self.senders(about, id).await?;
        self.log(about, &state).await?;
        // Last, since rows may have come or gone.
        let tally = self.tally(&state).await?;
        self.counters(about, id, &tally).await
    }

    /// Mailboxes that were deleted and whose messages are still to be removed.
    async fn deleted(&self, id: AccountId) -> Result<HashSet<MailboxId>, VerifyError> {
        let mut found = HashSet::new();
        let mut left = Some(keys::deleted_mailboxes());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let parsed = rows.iter().filter_map(|(key, _)| keys::parse_deleted_mailbox(key));
            found.extend(parsed.filter(|(account, _)| *account == id).map(|(_, mailbox)| mailbox));
        }
        Ok(found)
    }

    fn mailboxes(&self, about: About<'_>, state: &State) {
        if state.named(INBOX).is_none() {
            self.wrong(about, "it has no Inbox");
        }
        if state.names.size() != state.mailboxes.size() {
            self.wrong(about, "two mailboxes have one name");
        }
        for mailbox in state.mailboxes.values() {
            let about = About {
                mailbox: &mailbox.name,
                ..about
            };
            if canonical(&mailbox.name).ok().as_deref() != Some(&*mailbox.name) {
                self.wrong(about, "its name is not valid");
            }
            if mailbox.modseq > state.modseq() || mailbox.create_modseq > mailbox.modseq {
                self.wrong(
                    about,
                    format!(
                        "its modification sequences {} and {} are not within those of the account, up to {}",
                        mailbox.create_modseq,
                        mailbox.modseq,
                        state.modseq()
                    ),
                );
            }
            if mailbox.keywords.iter().any(|k| state.keywords.text(*k).is_none()) {
                self.wrong(about, "it has a keyword without a text");
            }
        }
    }

    /// The counters, UIDNEXT and UIDVALIDITY against what there is.
    async fn counters(&self, about: About<'_>, id: AccountId, tally: &Tally) -> Result<(), VerifyError> {
        let state = self.parts.accounts.state(id, 0).await?;
        let mut correct = CorrectCounts {
            mailboxes: Vec::new(),
            account: (0, 0),
        };
        let mut raise = RaiseUids { mailboxes: Vec::new() };
        let (mut messages, mut size) = (0u64, 0u64);
        let mut uid_validity = false;
        for mailbox in state.mailboxes.values() {
            let about = About {
                mailbox: &mailbox.name,
                ..about
            };
            let counted = tally.mailboxes.get(&mailbox.id).cloned().unwrap_or_default();
            messages += u64::from(counted.counts.messages);
            size += counted.counts.size;
            if counted.counts != mailbox.counts
                && self.fixable(
                    about,
                    format!(
                        "wrong counts: {:?} are kept, {:?} there are",
                        mailbox.counts, counted.counts
                    ),
                )
            {
                let off = Off::between(&mailbox.counts, &counted.counts);
                correct.mailboxes.push((mailbox.id, off));
            }
            if counted.last_uid >= mailbox.uid_next
                && self.fixable(
                    about,
                    format!(
                        "UIDNEXT is {}, and there is a message with UID {}",
                        mailbox.uid_next, counted.last_uid
                    ),
                )
            {
                raise.mailboxes.push((mailbox.id, counted.last_uid.saturating_add(1)));
            }
            if mailbox.uid_validity == 0 {
                self.wrong(about, "UIDVALIDITY is 0: run mox bumpuidvalidity");
            }
            if mailbox.uid_validity >= state.record.next_uid_validity {
                uid_validity |= self.fixable(
                    about,
                    format!(
                        "UIDVALIDITY is {}, and the next one of the account {}",
                        mailbox.uid_validity, state.record.next_uid_validity
                    ),
                );
            }
        }
        let kept = (state.record.messages, state.record.size);
        if kept != (messages, size)
            && self.fixable(
                about,
                format!(
                    "wrong totals: {} messages of {} bytes are kept, {messages} of {size} there are",
                    kept.0, kept.1
                ),
            )
        {
            let off = |kept: u64, is: u64| i64::try_from(i128::from(is) - i128::from(kept)).unwrap_or_default();
            correct.account = (off(kept.0, messages), off(kept.1, size));
        }
        if !correct.mailboxes.is_empty() || correct.account != (0, 0) {
            self.parts.accounts.submit(id, None, correct).await?;
        }
        if !raise.mailboxes.is_empty() || uid_validity {
            self.parts.accounts.submit(id, None, raise).await?;
        }
        Ok(())
    }

    /// What was computed from messages, which are to be there.
    async fn derived(&self, about: About<'_>, id: AccountId) -> Result<(), VerifyError> {
        let mut left = Some(keys::account_table(id, keys::TABLE_COMPUTED));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let wanted = rows
                .iter()
                .map(|(key, _)| keys::Builder::account(id, keys::TABLE_MESSAGES).raw(keys::in_account_table(key)));
            let messages = self
                .parts
                .db
                .get_many(wanted.map(keys::Builder::build).collect())
                .await?;
            let mut commit = Commit::new();
            for ((key, _), message) in rows.into_iter().zip(messages) {
                if message.is_none() && self.fixable(about, format!("structure of a message that is gone: {key:02x?}"))
                {
                    commit.delete(key);
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    /// Message-IDs and base subjects lead to messages that have them.
    async fn found_by(&self, about: About<'_>, id: AccountId, table: u8) -> Result<(), VerifyError> {
        let what = match table {
            keys::TABLE_MESSAGE_IDS => "a Message-ID",
            _ => "a subject",
        };
        let mut left = Some(keys::account_table(id, table));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let parse = |key: &[u8]| match table {
                keys::TABLE_MESSAGE_IDS => {
                    MessageId::try_from(keys::in_account_table(key).get(keys::MESSAGE_ID_DIGEST..)?).ok()
                }
                _ => keys::parse_base_subject(key),
            };
            let wanted = rows
                .iter()
                .map(|(key, _)| parse(key).map_or_else(keys::schema, |m| keys::message(id, m)))
                .collect();
            let messages = self.parts.db.get_many(wanted).await?;
            let mut commit = Commit::new();
            for ((key, _), message) in rows.into_iter().zip(messages) {
                let message = message.and_then(|m| record::Message::decode(m.data).ok());
                let right = message.is_some_and(|m| thread_entries(id, &m).any(|entry| entry == key));
                if !right && self.fixable(about, format!("{what} leads to a message without it: {key:02x?}")) {
                    commit.delete(key);
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    async fn log(&self, about: About<'_>, state: &State) -> Result<(), VerifyError> {
        let mut left = Some(keys::account_table(state.account, keys::TABLE_LOG));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                let modseq = keys::parse_change(&key);
                if modseq.is_none_or(|m| m > state.modseq()) || record::Change::decode(value.data).is_err() {
                    self.wrong(
                        about,
                        format!("an entry of the change log cannot be read or is of the future: {modseq:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Messages have a row, a structure, a Message-ID that leads to them, and a content that they refer to.
    async fn messages(&self, about: About<'_>, state: &State, deleted: &HashSet<MailboxId>) -> Result<(), VerifyError> {
        let id = state.account;
        let (mut done, total) = (0, state.record.messages);
        let mut left = Some(keys::messages(id));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let mut messages = Vec::with_capacity(rows.len());
            for (key, value) in rows {
                done += 1;
                let message = record::Message::decode(value.data).ok();
                let ids = message.as_ref().and_then(|m| {
                    Some((
                        MessageId::try_from(&m.id).ok()?,
                        MailboxId::try_from(&m.mailbox_id).ok()?,
                        ContentId::try_from(&m.content_id).ok()?,
                    ))
                });
                match (message, ids) {
                    (Some(message), Some(ids)) if keys::message(id, ids.0) == key => messages.push((message, ids)),
                    _ => self.wrong(about, format!("a message cannot be read: {key:02x?}")),
                }
            }
            self.message_page(about, state, deleted, messages).await?;
            self.progress("messages", done, total);
        }
        Ok(())
    }

    async fn message_page(
        &self,
        about: About<'_>,
        state: &State,
        deleted: &HashSet<MailboxId>,
        messages: Vec<(record::Message, (MessageId, MailboxId, ContentId))>,
    ) -> Result<(), VerifyError> {
        let account = state.account;
        let keys_of = |(message, (id, mailbox, content)): &(record::Message, (MessageId, MailboxId, ContentId))| {
            [
                keys::row(account, *mailbox, message.uid),
                keys::computed(account, *id),
                keys::content(*content),
                keys::reference(*content, Owner::message(account, *id).as_bytes()),
            ]
        };
        let wanted: Vec<Bytes> = messages.iter().flat_map(keys_of).collect();
        let found = self.parts.db.get_many(wanted).await?;
        for ((message, (id, mailbox, content)), found) in messages.into_iter().zip(found.chunks(4)) {
            let [row, computed, bytes, reference] = found else {
                continue;
            };
            let name = state.mailbox(mailbox).ok().map(|m| m.name.clone());
            let about = About {
                mailbox: name.as_deref().unwrap_or(""),
                ..about
            };
            let which = format!("message with UID {}", message.uid);
            let mut commit = Commit::new();
            let row = row.as_ref().and_then(|v| record::Row::decode(v.data.clone()).ok());
            let has_row = row.as_ref().is_some_and(|row| row.message_id == message.id);
            if name.is_none() && !deleted.contains(&mailbox) {
                // Nobody can see it, and nothing would ever remove it.
                if self.fixable(about, format!("message {id} is in a mailbox that is gone")) {
                    commit
                        .delete(keys::message(account, id))
                        .delete(keys::computed(account, id));
                    thread_entries(account, &message).for_each(|entry| {
                        commit.delete(entry);
                    });
                    content::release(&mut commit, content, &Owner::message(account, id), self.now_millis());
                    self.commit(commit).await?;
                }
                continue;
            }
            if !has_row
                && name.is_some()
                && self.fixable(
                    about,
                    format!("{which} is in no list of its mailbox: it is out of sight"),
                )
            {
                self.add_row(account, mailbox, id).await?;
            }
            let Some(bytes) = bytes else {
                self.wrong(
                    about,
                    format!("{which} has no content: its bytes are lost, and it can only be deleted"),
                );
                continue;
            };
            if reference.is_none()
                && self.fixable(
                    about,
                    format!("{which} does not count among those that need its content"),
                )
            {
                content::refer(&mut commit, content, &Owner::message(account, id));
            }
            let entries: Vec<Bytes> = thread_entries(account, &message).collect();
            let entered = self.parts.db.get_many(entries.clone()).await?;
            if entered.iter().any(Option::is_none)
                && self.fixable(about, format!("{which} is not found by its Message-ID or subject"))
            {
                for entry in entries {
                    commit.put(entry, Bytes::new());
                }
            }
            if message.thread_id.len() != 16 {
                self.wrong(about, format!("{which} is in no thread: run mox reassignthreads"));
            }
            self.commit(commit).await?;
            let size = record::Content::decode(bytes.data.clone()).ok().map(|c| c.size);
            let right = size.map(|size| size + message.prefix.len() as u64);
            let wrong_size = right.filter(|right| !self.skip_sizes && *right != message.size);
            if let Some(right) = wrong_size {
                let text = format!("{which} has size {}, and its bytes are {right}", message.size);
                if self.fixable(about, text) {
                    self.parse(account, id, content, &message, Some(right)).await?;
                }
            }
            let parsed = computed.as_ref().and_then(|c| Computed::decode(c.data.clone()).ok());
            if parsed.is_none_or(|c| c.structure.is_none())
                && wrong_size.is_none()
                && self.fixable(about, format!("{which} has no structure that can be read"))
            {
                self.parse(account, id, content, &message, None).await?;
            }
        }
        Ok(())
    }

    /// Computes what a message's record and structure say from its content.
    async fn parse(
        &self,
        account: AccountId,
        id: MessageId,
        content: ContentId,
        message: &record::Message,
        size: Option<u64>,
    ) -> Result<(), VerifyError> {
        // That it is damaged is told where contents are looked at.
        let Ok(whole) = self.parts.contents.whole(content).await else {
            return Ok(());
        };
        let read = ingest(whole.clone()).await?;
        drop(whole);
        let reparsed = Reparsed {
            id,
            computed: read.computed(message.prefix.len() as u64),
            facts: None,
            size,
        };
        let op = Reparse {
            messages: vec![reparsed],
        };
        self.parts.accounts.submit(account, None, op).await?;
        Ok(())
    }
}
