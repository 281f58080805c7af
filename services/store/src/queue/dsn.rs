//! Notifications to senders: put into the sender's account by the commit that changes the queue.

use bytes::Bytes;
use mox_proto::queue::v1::{CompleteResponse, Entry};
use mox_proto::record::v1 as rows;

use super::{Queue, QueueError, record};
use crate::account::{AccountError, AccountTx, Facts, INBOX, Key, Op, Wanted, canonical, find_thread, ingest, ops};
use crate::engine::Commit;

/// A whole message for the sender.
pub(super) struct Notification {
    pub content: Bytes,
    /// "" is the Inbox.
    pub mailbox: String,
    /// Seconds since 1970.
    pub received: i64,
}

/// Adds the message, and whatever the outcome changes in the queue.
struct Notify {
    mailbox: String,
    message: ops::NewMessage,
    commit: Commit,
    response: CompleteResponse,
}

impl Op for Notify {
    type Output = CompleteResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<CompleteResponse, AccountError> {
        let tx = &mut accounts[0];
        // Without a look at the quota: who learns that a message was not delivered writes fewer of them.
        let (mailbox, created) = tx.ensure_mailbox(&self.mailbox)?;
        for name in &created {
            tx.set_subscribed(name, true)?;
        }
        self.message.add(tx, mailbox).await?;
        tx.extra().append(self.commit.clone());
        Ok(self.response)
    }

    fn size(&self) -> usize {
        self.message.record.size as usize + self.commit.size() + 2048
    }

    fn frees(&self) -> bool {
        self.commit.frees
    }

    /// The entry changed since it was looked at.
    fn conflict(&self) -> AccountError {
        AccountError::Contended
    }
}

impl Queue {
    pub(super) async fn notify(
        &self,
        entry: &Entry,
        notification: Notification,
        commit: Commit,
        response: CompleteResponse,
        key: Key,
    ) -> Result<CompleteResponse, QueueError> {
        let account = record::account_of(entry)?;
        let read = ingest(notification.content.clone()).await?;
        let thread = find_thread(self.db(), account, &read.facts).await?;
        let content = self
            .0
            .contents
            .upload_bytes(notification.content)
            .await
            .map_err(tonic::Status::from)?;
        let mailbox = match notification.mailbox.as_str() {
            "" => INBOX.to_owned(),
            other => canonical(other)?,
        };
        let record = rows::Message {
            received: notification.received,
            saved: notification.received,
            size: read.size,
            rcpt_to_localpart: entry
                .mail_from
                .rsplit_once('@')
                .map(|(l, _)| l.to_owned())
                .unwrap_or_default(),
            rcpt_to_domain: entry
                .mail_from
                .rsplit_once('@')
                .map(|(_, d)| d.to_owned())
                .unwrap_or_default(),
            dsn: true,
            reason: "dsn".into(),
            ..facts(&read.facts)
        };
        let message = ops::NewMessage {
            record,
            flags: Wanted::default(),
            computed: read.computed(0),
            thread,
            content,
        };
        let op = Notify {
            mailbox,
            message,
            commit,
            response,
        };
        Ok(self.0.accounts.submit(account, Some(key), op).await?)
    }
}

/// What the header tells of a message.
fn facts(facts: &Facts) -> rows::Message {
    let from = facts.from.first().and_then(|a| a.address.as_ref());
    rows::Message {
        date: facts.date,
        sent_day: facts.sent_day,
        msg_from_localpart: from.map(|a| a.localpart.to_string()).unwrap_or_default(),
        msg_from_domain: from.map(|a| a.domain.to_string()).unwrap_or_default(),
        message_id: facts.message_id.clone().unwrap_or_default(),
        base_subject: facts.base_subject.clone(),
        ..rows::Message::default()
    }
}
