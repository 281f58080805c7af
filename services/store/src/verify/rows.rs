//! The rows of mailboxes, and the messages that they are of.

use std::collections::HashSet;

use mox_proto::record::v1 as record;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;

use super::account::{Counted, Tally};
use super::{About, Verifier, VerifyError};
use crate::account::ops::{Mend, MendRows};
use crate::account::{ALL_BITS, State};
use crate::keys;

impl Verifier<'_> {
    pub(super) async fn rows(
        &self,
        about: About<'_>,
        state: &State,
        deleted: &HashSet<MailboxId>,
    ) -> Result<(), VerifyError> {
        let account = state.account;
        let mut left = Some(keys::account_table(account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let (page, rest) = self.page(range).await?;
            left = rest;
            let mut mend = MendRows { steps: Vec::new() };
            let mut rows = Vec::with_capacity(page.len());
            for (key, value) in page {
                let Some((mailbox, uid)) = keys::parse_row_of(&key) else {
                    self.wrong(about, format!("a row of no mailbox: {key:02x?}"));
                    continue;
                };
                let row = record::Row::decode(value.data).ok();
                let id = row.as_ref().and_then(|r| MessageId::try_from(&r.message_id).ok());
                match (row, id) {
                    (Some(row), Some(id)) => rows.push((mailbox, uid, row, id)),
                    _ => {
                        if self.fixable(
                            about,
                            format!("the row of UID {uid} of mailbox {mailbox} cannot be read"),
                        ) {
                            mend.steps.push(Mend::DropRow(mailbox, uid));
                        }
                    }
                }
            }
            let wanted = rows.iter().map(|(_, _, _, id)| keys::message(account, *id)).collect();
            let messages = self.parts.db.get_many(wanted).await?;
            for ((mailbox, uid, row, id), message) in rows.into_iter().zip(messages) {
                let name = state.mailbox(mailbox).ok().map(|m| m.name.clone());
                let about = About {
                    mailbox: name.as_deref().unwrap_or(""),
                    ..about
                };
                let message = message.and_then(|m| record::Message::decode(m.data).ok());
                let Some(message) = message else {
                    if self.fixable(about, format!("UID {uid} has no message: it is in a list only")) {
                        mend.steps.push(Mend::DropRow(mailbox, uid));
                    }
                    continue;
                };
                if name.is_none() {
                    // What was deleted is being removed.
                    if !deleted.contains(&mailbox)
                        && self.fixable(about, format!("UID {uid} is of mailbox {mailbox}, which is gone"))
                    {
                        mend.steps.push(Mend::DropRow(mailbox, uid));
                    }
                    continue;
                }
                self.row(about, state, (mailbox, uid), &row, (id, &message), &mut mend)
                    .await?;
            }
            if !mend.steps.is_empty() {
                self.parts.accounts.submit(account, None, mend).await?;
            }
        }
        Ok(())
    }

    /// One row with its message.
    async fn row(
        &self,
        about: About<'_>,
        state: &State,
        (mailbox, uid): (MailboxId, u32),
        row: &record::Row,
        (id, message): (MessageId, &record::Message),
        mend: &mut MendRows,
    ) -> Result<(), VerifyError> {
        if (&message.mailbox_id, message.uid) != (&mailbox.to_bytes(), uid) {
            // The message knows one place. If it is there too, this one is too many.
            let other = MailboxId::try_from(&message.mailbox_id).ok();
            let elsewhere = match other {
                Some(other) => {
                    let key = keys::row(state.account, other, message.uid);
                    let found = self.parts.db.get(key).await?;
                    found.is_some_and(|v| record::Row::decode(v.data).is_ok_and(|r| r.message_id == row.message_id))
                }
                None => false,
            };
            let text = format!(
                "the message of UID {uid} says that it is elsewhere, with UID {}",
                message.uid
            );
            if self.fixable(about, text) {
                mend.steps.push(if elsewhere {
                    Mend::DropRow(mailbox, uid)
                } else {
                    Mend::PlaceMessage(mailbox, uid, id)
                });
            }
            if elsewhere {
                return Ok(());
            }
        }
        let mut differs = Vec::new();
        if row.size != message.size && !self.skip_sizes {
            differs.push(format!("size {} is {} in its message", row.size, message.size));
        }
        if row.received != message.received {
            differs.push(format!("time {} is {} in its message", row.received, message.received));
        }
        if row.flags & !ALL_BITS != 0 {
            differs.push(format!("flags {:#x} are not known", row.flags & !ALL_BITS));
        }
        if row.keywords.iter().any(|k| state.keywords.text(*k).is_none()) {
            differs.push("a keyword has no text".to_owned());
        }
        if !differs.is_empty() && self.fixable(about, format!("row of UID {uid}: {}", differs.join(", "))) {
            mend.steps.push(Mend::FitRow(mailbox, uid));
        }
        if row.modseq > state.modseq() || row.create_modseq > row.modseq {
            self.wrong(
                about,
                format!(
                    "row of UID {uid}: modification sequences {} and {} are not within those of the account, up to {}",
                    row.create_modseq,
                    row.modseq,
                    state.modseq()
                ),
            );
        }
        Ok(())
    }

    /// Counts all rows.
    pub(super) async fn tally(&self, state: &State) -> Result<Tally, VerifyError> {
        let mut tally = Tally::default();
        let mut left = Some(keys::account_table(state.account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let (page, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in page {
                if let (Some((mailbox, uid)), Ok(row)) = (keys::parse_row_of(&key), record::Row::decode(value.data)) {
                    let counted: &mut Counted = tally.mailboxes.entry(mailbox).or_default();
                    counted.counts.add(row.flags, row.size);
                    counted.last_uid = counted.last_uid.max(uid);
                }
            }
        }
        Ok(tally)
    }

    /// Puts a message into the list of its mailbox, at the end.
    pub(super) async fn add_row(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        id: MessageId,
    ) -> Result<(), VerifyError> {
        let op = MendRows {
            steps: vec![Mend::AddRow(mailbox, id)],
        };
        self.parts.accounts.submit(account, None, op).await?;
        Ok(())
    }
}
