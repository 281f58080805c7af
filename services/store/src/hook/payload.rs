//! The JSON object of a webhook.

use bytes::Bytes;
use mox_proto::hook::v1::{Arrival, Hook};
use mox_webhook::{Incoming, Meta, Outgoing, moment};

use super::{Hooks, gone, record};
use crate::engine::EngineError;
use crate::queue::QueueError;

impl Hooks {
    /// Of a webhook in the queue.
    ///
    /// # Errors
    /// If it left the queue, or its content or a record cannot be read.
    pub async fn payload_of(&self, id: u64) -> Result<Bytes, QueueError> {
        let stored = record::load(self.db().as_ref(), &[id]).await?.pop().flatten();
        self.payload(stored.ok_or(gone(id))?.hook()?).await
    }

    pub(super) async fn payload(&self, hook: &Hook) -> Result<Bytes, QueueError> {
        let (Some(arrival), Some(content)) = (&hook.arrival, record::content_of(hook)?) else {
            return outgoing(hook);
        };
        let closed = |_| QueueError::Engine(EngineError::Closed);
        let _turn = self.0.composing.acquire().await.map_err(closed)?;
        let message = self.0.contents.bytes(content).await.map_err(tonic::Status::from)?;
        let meta = meta(arrival);
        // Linear in the message's length, which can be large.
        let composing = tokio::task::spawn_blocking(move || json(&Incoming::of(&message, meta)));
        composing.await.map_err(|_| QueueError::Engine(EngineError::Closed))?
    }
}

/// Of a message that was sent: it needs nothing but its record.
pub(super) fn outgoing(hook: &Hook) -> Result<Bytes, QueueError> {
    json(&Outgoing {
        version: mox_webhook::VERSION,
        event: hook.event.clone(),
        dsn: hook.dsn,
        suppressing: hook.suppressing,
        queue_msg_id: hook.queue_id,
        from_id: hook.fromid.clone(),
        message_id: hook.message_id.clone(),
        subject: hook.subject.clone(),
        webhook_queued: moment(hook.queued),
        smtp_code: hook.smtp_code,
        smtp_enhanced_code: hook.enhanced_code.clone(),
        error: hook.error.clone(),
        extra: hook.extra.clone().into_iter().collect(),
    })
}

fn meta(arrival: &Arrival) -> Meta {
    Meta {
        msg_id: arrival.msg_id,
        mail_from: arrival.mail_from.clone(),
        mail_from_validated: arrival.mail_from_validated,
        msg_from_validated: arrival.msg_from_validated,
        rcpt_to: arrival.rcpt_to.clone(),
        dkim_verified_domains: arrival.dkim_domains.clone(),
        remote_ip: arrival.remote_ip.clone(),
        received: moment(arrival.received.saturating_mul(1000)),
        mailbox_name: arrival.mailbox.clone(),
        automated: false,
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Bytes, QueueError> {
    let written = serde_json::to_vec(value);
    written
        .map(Bytes::from)
        .map_err(|e| QueueError::Invalid(format!("writing JSON: {e}")))
}
