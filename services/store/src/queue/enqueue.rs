//! Putting messages into the queue.

use bytes::Bytes;
use mox_config::Dynamic;
use mox_proto::mail::v1 as mail;
use mox_proto::queue::v1::{EnqueueRequest, EnqueueResponse, Entry};
use mox_types::{AccountId, Address};
use prost::Message;

use super::fromid::{Sender, senders};
use super::submit::may_send_as;
use super::suppress::base_address;
use super::{ATTEMPTS, Queue, QueueError, hold, limits, record};
use crate::content::{ContentError, Owner, Staged};
use crate::engine::{Commit, EngineError};
use crate::{idempotency, keys};

/// Recipients of one submission: what RFC 5321 §4.5.3.1.8 asks for at least is 100.
const RECIPIENTS_MAX: usize = 1000;
/// Header fields above the content: Received and a few signatures.
const PREFIX_MAX: usize = 64 << 10;
/// Octets of a parameter of MAIL FROM or RCPT TO. RFC 3461 §4.4 bounds ENVID by 100 and §4.2 ORCPT by 500.
const PARAMETER_MAX: usize = 600;
/// Octets of subject and Message-ID that an entry keeps, for lists.
const TEXT_MAX: usize = 1000;
/// Extra fields, and octets of their names and values together.
const EXTRA_MAX: usize = 64;
const EXTRA_BYTES_MAX: usize = 16 << 10;
/// A day more than what submission announces (RFC 4865 §4): the clocks of two processes differ.
const RELEASE_MAX_MILLIS: i64 = 61 * 24 * 3600 * 1000;

/// Who submits.
#[derive(Debug, Clone)]
pub struct Submitter {
    /// The account.
    pub id: AccountId,
    /// Its name in the configuration.
    pub name: String,
    /// The address that was logged in with.
    pub login: String,
}

fn check(holds: bool, what: &str) -> Result<(), QueueError> {
    if holds {
        Ok(())
    } else {
        Err(QueueError::Invalid(what.to_owned()))
    }
}

pub(super) fn address(text: &str, what: &str) -> Result<Address, QueueError> {
    text.parse().map_err(|e| QueueError::Invalid(format!("{what}: {e}")))
}

/// The beginning of a text.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

fn check_request(request: &EnqueueRequest) -> Result<Vec<Address>, QueueError> {
    check((8..=64).contains(&request.key.len()), "a key must have 8 to 64 bytes")?;
    check(!request.recipients.is_empty(), "there must be a recipient")?;
    check(
        request.recipients.len() <= RECIPIENTS_MAX,
        "at most 1000 recipients a message",
    )?;
    check(
        request.prefix.len() <= PREFIX_MAX,
        "the header fields above the content are more than 64 KiB",
    )?;
    let extra: usize = request.extra.iter().map(|(name, value)| name.len() + value.len()).sum();
    check(
        request.extra.len() <= EXTRA_MAX && extra <= EXTRA_BYTES_MAX,
        "too many extra fields",
    )?;
    let parameters = [
        &request.dsn_ret,
        &request.dsn_envid,
        &request.transport,
        &request.trace_id,
        &request.fromid,
    ];
    check(
        parameters.iter().all(|p| p.len() <= PARAMETER_MAX),
        "a parameter is too long",
    )?;
    let mut recipients = Vec::with_capacity(request.recipients.len());
    for recipient in &request.recipients {
        let parameters = [&recipient.dsn_notify, &recipient.dsn_orcpt];
        check(
            parameters.iter().all(|p| p.len() <= PARAMETER_MAX),
            "a parameter of a recipient is too long",
        )?;
        recipients.push(address(&recipient.address, "recipient")?);
    }
    Ok(recipients)
}

impl Queue {
    /// Puts a message into the queue, with the content that the request names.
    ///
    /// # Errors
    /// As [`Queue::enqueue`], and if the content is gone.
    pub async fn submit(
        &self,
        submitter: &Submitter,
        config: &Dynamic,
        request: &EnqueueRequest,
    ) -> Result<EnqueueResponse, QueueError> {
        let none = mail::Content::default();
        let staged = match self.0.contents.stage(request.content.as_ref().unwrap_or(&none)).await {
            Ok(staged) => staged,
            Err(error) => return Err(tonic::Status::from(error).into()),
        };
        self.enqueue(submitter, config, request, &staged).await
    }

    /// Puts an entry for each recipient into the queue, in one commit. `content` is the request's, made ready.
    ///
    /// # Errors
    /// If the account may not send this, the request makes no sense, or the engine fails. Nothing is kept then.
    pub async fn enqueue(
        &self,
        submitter: &Submitter,
        config: &Dynamic,
        request: &EnqueueRequest,
        content: &Staged,
    ) -> Result<EnqueueResponse, QueueError> {
        let recipients = check_request(request)?;
        // The session is another after logging in again.
        let digest = idempotency::digest(&EnqueueRequest {
            session: Bytes::new(),
            ..request.clone()
        });
        let scope = submitter.id.as_bytes();
        let settings = config
            .accounts
            .get(&submitter.name)
            .ok_or_else(|| QueueError::NoAccount(submitter.name.clone()))?;
        let size = request.prefix.len() as u64 + content.size();
        check(
            request.size == 0 || request.size == size,
            "size is not that of prefix and content",
        )?;
        let (senders, fromids) = senders(config, settings, submitter, request)?;
        let limits = config
            .host
            .as_ref()
            .is_none_or(|host| host.localserve.is_none())
            .then_some(settings);
        let mut ids = Vec::new();
        for attempt in 0..ATTEMPTS {
            let now = self.now();
            if let Some(kept) = idempotency::find(self.db(), now / 1000, scope, &request.key, &digest).await? {
                return EnqueueResponse::decode(kept).map_err(|_| QueueError::Damaged("a kept result"));
            }
            check_senders(config, &submitter.name, request)?;
            if attempt > 0 && content.bytes().is_none() && self.db().get(keys::upload(content.id())).await?.is_none() {
                return Err(tonic::Status::from(ContentError::NoUpload).into());
            }
            if ids.is_empty() {
                let first = self.0.ids.take(recipients.len() as u64).await?;
                ids = (first..first + recipients.len() as u64).collect();
            }
            let mut commit = Commit::new();
            let sending = limits::Sending {
                submitter,
                limits,
                recipients: &recipients,
                remember: !request.mail_from.is_empty(),
                now,
            };
            limits::count(self, &mut commit, &sending).await?;
            let mut entries = Vec::with_capacity(ids.len());
            for (index, (id, recipient)) in ids.iter().zip(&recipients).enumerate() {
                let mut entry = entry(submitter, request, index, *id, ids[0], recipient, content, size, now)?;
                if let Some(Sender { mail_from, fromid }) = senders.get(index) {
                    entry.mail_from.clone_from(mail_from);
                    entry.fromid.clone_from(fromid);
                }
                entries.push(entry);
            }
            self.mark(submitter, request, &recipients, &mut entries).await?;
            for entry in &entries {
                record::insert(&mut commit, entry)?;
            }
            let owners: Vec<Owner> = ids.iter().map(|id| Owner::queue(*id)).collect();
            content.reference(&mut commit, &owners);
            let response = EnqueueResponse {
                ids: ids.clone(),
                fromids: fromids.clone(),
            };
            let kept = response.encode_to_vec().into();
            idempotency::record(&mut commit, now / 1000, scope, &request.key, &digest, &kept);
            match self.db().commit(commit).await {
                Ok(_) => {
                    self.publish();
                    return Ok(response);
                }
                // Another of the account's messages was counted first, the key was used meanwhile, or the upload is gone.
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }
}

impl Queue {
    /// Puts on hold what the rules say, and marks what goes to addresses on the account's suppression list.
    async fn mark(
        &self,
        submitter: &Submitter,
        request: &EnqueueRequest,
        recipients: &[Address],
        entries: &mut [Entry],
    ) -> Result<(), QueueError> {
        let mut wanted = vec![keys::queue_hold_rules()];
        // Notifications and reports are not what the list is about.
        let listed = !request.mail_from.is_empty() && !request.from_report;
        if listed {
            let bases = recipients.iter().map(base_address);
            wanted.extend(bases.map(|base| keys::queue_suppression(submitter.id, &base)));
        }
        let found = self.db().get_many(wanted).await?;
        let rules = hold::decode(found.first().and_then(Option::as_ref))?;
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.suppressed = found.get(index + 1).is_some_and(Option::is_some);
            entry.hold = hold::holds(&rules, entry);
        }
        Ok(())
    }
}

fn check_senders(config: &Dynamic, account: &str, request: &EnqueueRequest) -> Result<(), QueueError> {
    // RFC 5321 §4.5.5: notifications have no reverse-path.
    let senders = [("MAIL FROM", &request.mail_from), ("From", &request.msg_from)];
    for (what, text) in senders.into_iter().filter(|(_, text)| !text.is_empty()) {
        if !may_send_as(config, account, &address(text, what)?)? {
            return Err(QueueError::NotOwned(format!("{what} <{text}>")));
        }
    }
    Ok(())
}

fn entry(
    submitter: &Submitter,
    request: &EnqueueRequest,
    index: usize,
    id: u64,
    base_id: u64,
    recipient: &Address,
    content: &Staged,
    size: u64,
    now: i64,
) -> Result<Entry, QueueError> {
    let asked = request.recipients.get(index).cloned().unwrap_or_default();
    let release = request.release_at.map(|seconds| seconds.saturating_mul(1000));
    check(
        release.is_none_or(|at| at - now <= RELEASE_MAX_MILLIS),
        "release_at is more than 60 days ahead",
    )?;
    Ok(Entry {
        id,
        base_id,
        fromid: request.fromid.clone(),
        account_id: submitter.id.to_bytes(),
        account: submitter.name.clone(),
        mail_from: request.mail_from.clone(),
        recipient: recipient.to_string(),
        content_id: content.id().to_bytes(),
        prefix: request.prefix.clone(),
        size,
        eight_bit: request.eight_bit,
        smtputf8: request.smtputf8,
        dsn_ret: request.dsn_ret.clone(),
        dsn_envid: request.dsn_envid.clone(),
        dsn_notify: asked.dsn_notify,
        dsn_orcpt: asked.dsn_orcpt,
        transport: request.transport.clone(),
        requiretls: request.requiretls,
        queued: now,
        next_attempt: release.unwrap_or(now).max(now),
        release_at: request.release_at,
        extra: request.extra.clone(),
        subject: shortened(&request.subject),
        message_id: shortened(&request.message_id),
        trace_id: request.trace_id.clone(),
        msg_from: request.msg_from.clone(),
        // A report must not cause others.
        dsn: request.mail_from.is_empty(),
        ..Entry::default()
    })
}
