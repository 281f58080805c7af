//! Notifications to senders elsewhere, about incoming mail: put into the queue by the commit that delivers the rest.

use bytes::Bytes;
use mox_proto::queue::v1::Entry;
use mox_types::{AccountId, Address};

use super::{Queue, QueueError, hold, record};
use crate::content::Owner;
use crate::engine::Commit;
use crate::keys;

/// A whole message for a sender elsewhere.
pub(crate) struct Outgoing<'a> {
    /// Whose the entry is: the postmaster's.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Whom it is for.
    pub to: &'a Address,
    pub content: Bytes,
    pub smtputf8: bool,
    pub eight_bit: bool,
    pub subject: &'a str,
    pub trace_id: &'a str,
}

impl Queue {
    /// What puts a notification into the queue, for a commit of the caller's. [`Queue::publish`] is to be called after it.
    ///
    /// # Errors
    /// If the engine fails.
    pub(crate) async fn outgoing(&self, outgoing: Outgoing<'_>) -> Result<Commit, QueueError> {
        let now = self.now();
        let size = outgoing.content.len() as u64;
        let content = self
            .0
            .contents
            .upload_bytes(outgoing.content)
            .await
            .map_err(tonic::Status::from)?;
        let id = self.0.ids.take(1).await?;
        let mut entry = Entry {
            id,
            base_id: id,
            account_id: outgoing.account.to_bytes(),
            account: outgoing.name,
            recipient: outgoing.to.to_string(),
            content_id: content.id().to_bytes(),
            size,
            eight_bit: outgoing.eight_bit,
            smtputf8: outgoing.smtputf8,
            // RFC 3461 §5.2.9 (b): a notification asks for none.
            dsn_notify: "NEVER".into(),
            queued: now,
            next_attempt: now,
            subject: outgoing.subject.to_owned(),
            trace_id: outgoing.trace_id.to_owned(),
            dsn: true,
            ..Entry::default()
        };
        let rules = self.db().get(keys::queue_hold_rules()).await?;
        entry.hold = hold::holds(&hold::decode(rules.as_ref())?, &entry);
        let mut commit = Commit::new();
        record::insert(&mut commit, &entry)?;
        content.reference(&mut commit, &[Owner::queue(id)]);
        Ok(commit)
    }
}
