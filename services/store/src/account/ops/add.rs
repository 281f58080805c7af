//! Adding messages: by clients, and by delivery.

use std::collections::BTreeMap;

use bytes::Bytes;
use mox_proto::delivery::v1::{DeliverResponse, DeliveryResult};
use mox_proto::mail::v1::{AppendResponse, UidRange};
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;

use super::rejects;
use crate::account::{
    AccountError, AccountTx, JUDGEMENT, NOT_JUNK, Op, SEEN, Thread, Wanted, is_sent, lesson, read_rows,
    record_recipients, threads,
};
use crate::content::{self, Owner, Staged};
use crate::engine::Commit;
use crate::hook::arrival::Planned;
use crate::keys;

/// A message to be added.
#[derive(Clone)]
pub struct NewMessage {
    /// All that is known of it but where it comes to be: its ids, UID, mailbox and thread are filled in.
    pub record: record::Message,
    /// Flags and keywords.
    pub flags: Wanted,
    /// What was computed, encoded, for its prefix and content.
    pub computed: Bytes,
    /// What it says of the conversation that it belongs to.
    pub thread: Thread,
    /// The bytes.
    pub content: Staged,
}

impl NewMessage {
    fn size(&self) -> usize {
        self.record.prefix.len() + self.computed.len() + self.content.bytes().map_or(0, Bytes::len) + 1024
    }

    /// Adds it to a mailbox, and answers with its UID and id. The quota is the caller's concern.
    ///
    /// # Errors
    /// If the mailbox is gone or cannot take it.
    pub async fn add(&self, tx: &mut AccountTx, mailbox: MailboxId) -> Result<(u32, MessageId), AccountError> {
        let added = self.add_one_of(tx, mailbox, true).await?;
        Ok((added.uid, added.id))
    }

    /// As [`NewMessage::add`]. `introduce`: no other message that the operation added has the same content.
    async fn add_one_of(&self, tx: &mut AccountTx, mailbox: MailboxId, introduce: bool) -> Result<Added, AccountError> {
        let id = MessageId::new();
        let account = tx.account();
        let mut message = self.record.clone();
        message.id = id.to_bytes();
        let place = self.thread.link(tx, account, &message).await?.place();
        place.set(&mut message);
        message.thread_muted = place.muted;
        message.thread_collapsed = place.collapsed;
        let number = tx.number();
        let row = record::Row {
            message_id: id.to_bytes(),
            flags: self.judged_in(tx, mailbox) | if place.muted { SEEN } else { 0 },
            keywords: tx.keywords(&self.flags)?,
            size: message.size,
            received: message.received,
            saved: message.saved,
            sent_day: message.sent_day,
            number,
            ..record::Row::default()
        };
        if lesson(row.flags) != Training::None {
            tx.train(&row.message_id);
        }
        let uid = tx.insert_row(mailbox, row)?;
        message.uid = uid;
        message.mailbox_id = mailbox.to_bytes();
        message.mailbox_original_id = mailbox.to_bytes();
        message.create_modseq = tx.modseq();
        message.content_id = self.content.id().to_bytes();
        threads::enter(tx, &message);
        tx.put(keys::message(account, id), message.encode_to_vec());
        tx.put(keys::computed(account, id), self.computed.clone());
        if introduce {
            self.content.introduce(tx.extra());
        }
        content::refer(tx.extra(), self.content.id(), &Owner::message(account, id));
        Ok(Added { uid, id, number })
    }

    /// The flags that it has in a mailbox. That a message which was refused is kept somewhere says nothing good of it:
    /// its user has not seen it yet.
    fn judged_in(&self, tx: &AccountTx, mailbox: MailboxId) -> u32 {
        let flags = tx.flags_in(mailbox, self.flags.bits, true);
        match self.record.reject && self.flags.bits & JUDGEMENT == 0 {
            true => flags & !NOT_JUNK,
            false => flags,
        }
    }
}

/// How a message that was added is known.
struct Added {
    uid: u32,
    id: MessageId,
    number: u32,
}

/// Adds messages to a mailbox, all or none.
pub struct Append {
    /// Canonical; has to exist (RFC 9051 §6.3.12).
    pub mailbox: String,
    /// In the order in which they get their UIDs.
    pub messages: Vec<NewMessage>,
    /// RFC 8508: this one, in this mailbox, is then gone.
    pub replaces: Option<(MailboxId, u32)>,
}

impl Op for Append {
    type Output = AppendResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let mailbox = tx.state().named(&self.mailbox).ok_or(AccountError::NoMailbox)?;
        let (id, uid_validity) = (mailbox.id, mailbox.uid_validity);
        let sent = is_sent(mailbox);
        let mut more: u64 = self.messages.iter().map(|m| m.record.size).sum();
        let mut replaced = None;
        if let Some((mailbox, uid)) = self.replaces {
            tx.state().mailbox(mailbox).map_err(|_| AccountError::NoMessage)?;
            let range = [UidRange { first: uid, last: uid }];
            let (mut rows, _) = read_rows(tx, tx.account(), mailbox, &range, 1).await?;
            let row = rows.pop().ok_or(AccountError::NoMessage)?;
            // RFC 8508 §3.2: a client at its quota can make a message smaller.
            more = more.saturating_sub(row.1.size);
            replaced = Some((mailbox, row));
        }
        if more > 0 {
            tx.check_quota(more)?;
        }
        let mut uids = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            uids.push(message.add(tx, id).await?.0);
        }
        if sent {
            let messages: Vec<(Bytes, i64)> = self
                .messages
                .iter()
                .map(|m| (m.computed.clone(), m.record.received))
                .collect();
            record_recipients(tx, &messages).await?;
        }
        if let Some((mailbox, row)) = replaced {
            let (uid, row) = row;
            super::expunge::remove(tx, &[(uid, row.clone())]).await?;
            tx.delete_row(mailbox, uid, &row)?;
        }
        Ok(AppendResponse {
            mailbox_id: id.to_bytes(),
            uid_validity,
            uids,
            modseq: tx.state().modseq(),
        })
    }

    fn size(&self) -> usize {
        self.messages.iter().map(NewMessage::size).sum()
    }

    fn conflict(&self) -> AccountError {
        AccountError::NoContent
    }
}

/// One recipient's message.
pub struct Delivery {
    /// Whose.
    pub account: AccountId,
    /// Canonical; made when missing.
    pub mailbox: String,
    /// For a rejected message: where it would have gone, canonical.
    pub destined: Option<String>,
    /// By what a copy of it among the rejects is known.
    pub digest: Bytes,
    /// Each with its own prefix, and one content for all.
    pub message: NewMessage,
    /// What the account, or whoever sent what this is about, is told of it.
    pub told: Option<Planned>,
}

/// Delivers to all recipients of a transaction.
pub struct Deliver {
    /// In the order of the answer.
    pub deliveries: Vec<Delivery>,
    /// What is committed besides, if every recipient has its copy: a notification to the sender, and a report that the
    /// message carries. Otherwise the reply has the sender try again, and they come with that.
    pub besides: Commit,
}

impl Deliver {
    /// The accounts that it needs.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountId> {
        self.deliveries.iter().map(|d| d.account).collect()
    }

    fn is_conditional(&self) -> bool {
        let told = self.deliveries.iter().filter_map(|d| d.told.as_ref());
        !self.besides.conditions.is_empty() || told.into_iter().any(Planned::is_conditional)
    }

    /// Answers with the message's id, and whether it is a new one.
    async fn one(tx: &mut AccountTx, delivery: &Delivery, introduce: bool) -> Result<(MessageId, bool), AccountError> {
        if delivery.destined.is_some() {
            if let Some(id) = rejects::find(tx, &delivery.mailbox, &delivery.digest).await? {
                return Ok((id, false));
            }
            rejects::tidy(tx, &delivery.mailbox).await?;
        } else {
            rejects::withdraw(tx, &delivery.digest).await?;
        }
        tx.check_quota(delivery.message.record.size)?;
        let (mailbox, created) = tx.ensure_mailbox(&delivery.mailbox)?;
        for name in &created {
            // What appears by itself is to be seen.
            tx.set_subscribed(name, true)?;
        }
        let destined = delivery
            .destined
            .as_ref()
            .and_then(|name| Some(tx.state().named(name)?.id));
        let added = match destined {
            None if delivery.destined.is_none() => delivery.message.add_one_of(tx, mailbox, introduce).await?,
            destined => {
                let mut message = delivery.message.clone();
                message.record.mailbox_destined_id = destined.map(MailboxId::to_bytes).unwrap_or_default();
                message.record.reject_digest.clone_from(&delivery.digest);
                let added = message.add_one_of(tx, mailbox, introduce).await?;
                rejects::enter(tx, &delivery.digest, added.id);
                added
            }
        };
        if let Some(told) = &delivery.told {
            let damaged = |_| AccountError::Damaged("a webhook");
            told.add_to(tx.extra(), added.number).map_err(damaged)?;
        }
        Ok((added.id, true))
    }
}

impl Op for Deliver {
    type Output = DeliverResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let places: BTreeMap<AccountId, usize> = accounts.iter().enumerate().map(|(n, tx)| (tx.account(), n)).collect();
        let mut results = Vec::with_capacity(self.deliveries.len());
        let mut introduced = false;
        for delivery in &self.deliveries {
            let place = places.get(&delivery.account).ok_or(AccountError::AccountGone)?;
            results.push(match Self::one(&mut accounts[*place], delivery, !introduced).await {
                Ok((id, new)) => {
                    introduced |= new;
                    DeliveryResult {
                        delivered: true,
                        message_id: id.to_bytes(),
                        ..DeliveryResult::default()
                    }
                }
                // One recipient's full mailbox is no reason not to deliver to the others (RFC 5321 §4.2.5 has one reply
                // for all, so smtp-in asked for the quota at RCPT; this is what happened since).
                Err(AccountError::OverQuota) => DeliveryResult {
                    smtp_code: 452,
                    enhanced_code: "4.2.2".into(),
                    text: "mailbox is full".into(),
                    ..DeliveryResult::default()
                },
                Err(error) => return Err(error),
            });
        }
        // A copy among the rejects is a courtesy.
        let mut wanted = self
            .deliveries
            .iter()
            .zip(&results)
            .filter(|(d, _)| d.destined.is_none());
        if let Some(tx) = accounts.first_mut()
            && wanted.all(|(_, result)| result.delivered)
        {
            tx.extra().append(self.besides.clone());
        }
        Ok(DeliverResponse { results })
    }

    fn size(&self) -> usize {
        let told = |d: &Delivery| d.told.as_ref().map_or(0, Planned::size);
        let messages: usize = self.deliveries.iter().map(|d| d.message.size() + told(d)).sum();
        messages + self.besides.size()
    }

    fn conflict(&self) -> AccountError {
        // Either the content is gone, or what a notification is about changed since it was looked at.
        if self.is_conditional() {
            AccountError::Contended
        } else {
            AccountError::NoContent
        }
    }
}
