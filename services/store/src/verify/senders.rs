//! What is derived from flagged messages: the history of who sent them, and which copies are among the rejects.

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;

use super::{About, Verifier, VerifyError};
use crate::account::{history, lesson};
use crate::engine::Commit;
use crate::keys;

impl Verifier<'_> {
    pub(super) async fn senders(&self, about: About<'_>, account: AccountId) -> Result<(), VerifyError> {
        self.missing(about, account).await?;
        self.surplus(about, account).await?;
        self.rejects(about, account).await
    }

    /// Messages, and what they teach by their rows.
    async fn judged(
        &self,
        account: AccountId,
        ids: Vec<Option<MessageId>>,
    ) -> Result<Vec<Option<(record::Message, Training)>>, VerifyError> {
        // Where there is no id, a key of no message.
        let wanted = ids
            .iter()
            .map(|id| id.map_or_else(keys::schema, |id| keys::message(account, id)));
        let found = self.parts.db.get_many(wanted.collect()).await?;
        let messages: Vec<Option<record::Message>> = found
            .into_iter()
            .zip(&ids)
            .map(|(value, id)| id.and_then(|_| record::Message::decode(value?.data).ok()))
            .collect();
        let rows = messages.iter().map(|message| {
            let place = message
                .as_ref()
                .and_then(|m| Some((MailboxId::try_from(&m.mailbox_id).ok()?, m.uid)));
            place.map_or_else(keys::schema, |(mailbox, uid)| keys::row(account, mailbox, uid))
        });
        let rows = self.parts.db.get_many(rows.collect()).await?;
        Ok(messages
            .into_iter()
            .zip(rows)
            .map(|(message, row)| {
                let message = message?;
                let row = record::Row::decode(row?.data)
                    .ok()
                    .filter(|row| row.message_id == message.id)?;
                Some((message, lesson(row.flags)))
            })
            .collect())
    }

    /// Flagged messages that are not in the history of their senders.
    async fn missing(&self, about: About<'_>, account: AccountId) -> Result<(), VerifyError> {
        let mut left = Some(keys::account_table(account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let (page, rest) = self.page(range).await?;
            left = rest;
            let judged = page.into_iter().filter_map(|(_, value)| {
                let row = record::Row::decode(value.data).ok()?;
                (lesson(row.flags) != Training::None).then(|| MessageId::try_from(&row.message_id).ok())
            });
            let mut commit = Commit::new();
            for (message, lesson) in self.judged(account, judged.collect()).await?.into_iter().flatten() {
                let entries = history::entries(account, &message, lesson);
                let kept = self
                    .parts
                    .db
                    .get_many(entries.iter().map(|e| e.0.clone()).collect())
                    .await?;
                let right = entries
                    .iter()
                    .zip(kept)
                    .all(|(entry, kept)| kept.is_some_and(|k| k.data == entry.1));
                let text = format!("message with UID {} is not in the history of its sender", message.uid);
                if !right && self.fixable(about, text) {
                    for (key, value) in entries {
                        commit.put(key, value);
                    }
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    /// Histories of messages that are gone, or not flagged so.
    async fn surplus(&self, about: About<'_>, account: AccountId) -> Result<(), VerifyError> {
        let mut left = Some(keys::account_table(account, keys::TABLE_HISTORY));
        while let Some(range) = left.take() {
            let (page, rest) = self.page(range).await?;
            left = rest;
            let ids = page.iter().map(|(key, _)| keys::parse_history(key)).collect();
            let mut commit = Commit::new();
            for ((key, value), judged) in page.into_iter().zip(self.judged(account, ids).await?) {
                let entries = judged.map(|(message, lesson)| history::entries(account, &message, lesson));
                let right = entries.is_some_and(|entries| entries.contains(&(key.clone(), value.data)));
                let text = format!("the history of a sender has a message that does not belong there: {key:02x?}");
                if !right && self.fixable(about, text) {
                    commit.delete(key);
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    /// Copies among the rejects lead to messages that are known by it.
    async fn rejects(&self, about: About<'_>, account: AccountId) -> Result<(), VerifyError> {
        let mut left = Some(keys::account_table(account, keys::TABLE_REJECTS));
        while let Some(range) = left.take() {
            let (page, rest) = self.page(range).await?;
            left = rest;
            let ids = page
                .iter()
                .map(|(_, value)| MessageId::try_from(&value.data).ok())
                .collect();
            let mut commit = Commit::new();
            for ((key, _), judged) in page.into_iter().zip(self.judged(account, ids).await?) {
                let digest = judged.map(|(message, _)| message.reject_digest);
                let right = digest.is_some_and(|d| !d.is_empty() && keys::reject(account, &d) == key);
                let text = format!("a refused message leads to a copy that is not one: {key:02x?}");
                if !right && self.fixable(about, text) {
                    commit.delete(Bytes::clone(&key));
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }
}
