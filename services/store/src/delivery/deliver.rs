//! Delivering: one commit for all recipients of a transaction.

use std::collections::HashMap;

use bytes::Bytes;
use mox_proto::delivery::v1 as api;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use ring::digest;
use tonic::Status;

use super::notice::Notice;
use super::sender::{mark_forwarded, of_envelope, split};
use super::{Delivery, RECIPIENTS_MAX, check_recipients, is_upload};
use crate::account::ops::{self, NewMessage};
use crate::account::{AccountError, Key, SEEN, Wanted, canonical, find_thread, ingest};
use crate::hook::arrival::Arriving;
use crate::idempotency;
use crate::junk::MESSAGE_BYTES;
use crate::mail::{KEY_BYTES, of_content};

/// Most bytes of the header fields that are put above a content.
const PREFIX_MAX: usize = 64 << 10;
/// Bytes of what a copy among the rejects is known by.
const REJECT_DIGEST: usize = 16;
/// Times that a delivery is planned anew, while others change what a notification is about.
const ATTEMPTS: usize = 32;
/// Scope of smtp-in's keys.
const SCOPE: &[u8] = b"d";

impl Delivery {
    pub(super) async fn do_deliver(&self, request: api::DeliverRequest) -> Result<api::DeliverResponse, Status> {
        check_recipients(request.deliveries.len())?;
        if request.notified.len() > RECIPIENTS_MAX {
            return Err(Status::invalid_argument("a transaction has at most 1000 recipients"));
        }
        if request.key.len() != KEY_BYTES {
            return Err(Status::invalid_argument("idempotency key must be 16 bytes"));
        }
        let digest = idempotency::digest(&request);
        let key = Key {
            scope: Bytes::from_static(SCOPE),
            key: request.key.clone(),
            digest,
        };
        for _ in 0..ATTEMPTS {
            if let Some(response) = self.deliver_once(request.clone(), key.clone()).await? {
                return Ok(response);
            }
        }
        Err(Status::unavailable("changed by others at the same time, try again"))
    }

    /// `None`, and nothing is kept, if what a notification is about changed since it was looked at.
    async fn deliver_once(
        &self,
        request: api::DeliverRequest,
        key: Key,
    ) -> Result<Option<api::DeliverResponse>, Status> {
        if is_upload(request.content.as_ref()) {
            // The upload of a delivery that took place is gone, so what was answered is looked for first.
            let now = self.accounts.now();
            let kept = idempotency::find(self.accounts.db(), now, &key.scope, &key.key, &key.digest).await?;
            if let Some(kept) = kept {
                let damaged = |_| Status::from(AccountError::Damaged("a kept result"));
                return api::DeliverResponse::decode(kept).map(Some).map_err(damaged);
            }
        }
        let staged = self
            .contents
            .stage(&request.content.clone().unwrap_or_default())
            .await?;
        let bytes = match staged.bytes() {
            Some(bytes) => bytes.clone().into(),
            None => self.contents.whole(staged.id()).await?,
        };
        let message_id = mox_webhook::message_id(&bytes);
        let read = ingest(bytes.clone()).await?;
        let digest = digest_of(read.facts.message_id.as_deref(), &bytes);
        let millis = self.accounts.now().saturating_mul(1000);
        let report = crate::report::arrived(&self.registry.current(), &request, millis);
        let envelope = request.envelope.unwrap_or_default();
        let notice = Notice {
            mail_from: envelope.mail_from.clone(),
            smtputf8: envelope.smtputf8,
            envid: envelope.dsn_envid.clone(),
            ret: envelope.dsn_ret.clone(),
            trace_id: envelope.trace_id.clone(),
            arrival: request.received,
            hostname: request.reporting_host,
            notified: request.notified,
        };
        let common = record::Message {
            received: request.received,
            saved: self.accounts.now(),
            ..of_envelope(&envelope, of_content(&read))
        };
        let mut computed: HashMap<usize, Bytes> = HashMap::new();
        let mut deliveries = Vec::with_capacity(request.deliveries.len());
        for delivery in request.deliveries {
            if delivery.prefix.len() > PREFIX_MAX {
                let text = "header fields above a content have at most 65536 bytes";
                return Err(Status::invalid_argument(text));
            }
            let recipient = delivery.recipient.unwrap_or_default();
            let account = AccountId::try_from(&recipient.account_id)
                .map_err(|e| Status::invalid_argument(format!("delivering to a recipient: {e}")))?;
            let (localpart, domain) = split(&recipient.rcpt_to);
            let computed = computed
                .entry(delivery.prefix.len())
                .or_insert_with_key(|prefix| read.computed(*prefix as u64));
            let mut message = record::Message {
                size: read.size + delivery.prefix.len() as u64,
                prefix: delivery.prefix,
                rcpt_to_localpart: localpart,
                rcpt_to_domain: domain,
                list: common.list || delivery.list,
                reject: delivery.reject || delivery.accepted_reject,
                reason: delivery.reason,
                reason_detail: delivery.detail,
                ..common.clone()
            };
            if delivery.forwarded {
                mark_forwarded(&mut message, &delivery.forwarder);
            }
            let mut flags = Wanted::new(&delivery.flags.unwrap_or_default())?;
            if delivery.accepted_reject {
                // It is there, and asks for no attention.
                flags.bits |= SEEN;
            }
            let mailbox = canonical(if delivery.mailbox.is_empty() {
                crate::account::INBOX
            } else {
                &delivery.mailbox
            })?;
            let committed = self.registry.current();
            let told = match (&self.queue, committed.named(account)) {
                (Some(queue), Some((name, settings))) if !delivery.reject => {
                    let arriving = Arriving {
                        account,
                        name,
                        settings,
                        config: &committed.dynamic,
                        rcpt_to: &recipient.rcpt_to,
                        mailbox: &mailbox,
                        message: &message,
                        facts: &read.facts,
                        message_id: &message_id,
                        bytes: &bytes,
                        content: &staged,
                    };
                    queue.hooks().on_delivery(queue, &arriving).await?
                }
                _ => None,
            };
            deliveries.push(ops::Delivery {
                account,
                mailbox,
                destined: delivery.reject.then(|| crate::account::INBOX.to_owned()),
                digest: digest.clone(),
                message: NewMessage {
                    record: message,
                    flags,
                    computed: computed.clone(),
                    thread: find_thread(self.accounts.db(), account, &read.facts).await?,
                    content: staged.clone(),
                },
                told,
            });
        }
        let telling = deliveries.iter().any(|d| d.told.is_some());
        let besides = self.notification(&notice, &bytes).await?;
        // Others may have their turn.
        drop(bytes);
        let notifies = besides.is_some();
        let mut besides = besides.unwrap_or_default();
        if let Some((key, recorded)) = report {
            besides.put(key, recorded);
        }
        let op = ops::Deliver { deliveries, besides };
        let kept = match self.accounts.submit_many(&op.accounts(), Some(key), op).await {
            Err(AccountError::Contended) => return Ok(None),
            kept => kept?,
        };
        if let Some(queue) = &self.queue {
            if notifies {
                queue.publish();
            }
            if telling {
                queue.hooks().publish();
            }
        }
        Ok(Some(kept))
    }
}

/// By what a copy of a message among the rejects is known when it is sent again: its Message-ID, or its bytes.
fn digest_of(message_id: Option<&str>, content: &[u8]) -> Bytes {
    let mut context = digest::Context::new(&digest::SHA256);
    match message_id {
        Some(id) => {
            context.update(b"i");
            context.update(id.as_bytes());
        }
        None => {
            context.update(b"c");
            context.update(&content.len().to_be_bytes());
            context.update(&content[..content.len().min(MESSAGE_BYTES)]);
        }
    }
    Bytes::copy_from_slice(&context.finish().as_ref()[..REJECT_DIGEST])
}
