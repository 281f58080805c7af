//! Records of messages.

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;
use tonic::Status;

use super::listing::check_ranges;
use super::{Mail, mailbox_id};
use crate::account::{AccountError, FromSnapshot, Reader, normalize, read_rows};
use crate::engine::Snapshot;
use crate::keys;

/// Bytes of messages in one answer, with room for one more, which its bounds keep below 3 MiB.
const PAGE_BYTES: usize = 900 << 10;
/// Messages that are read at a time.
const BATCH: usize = 200;

/// The UIDNEXT of a mailbox in a snapshot.
pub(super) async fn uid_next(
    snapshot: &dyn Snapshot,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<u32, AccountError> {
    let value = snapshot
        .get(keys::mailbox(account, mailbox))
        .await?
        .ok_or(AccountError::NoMailbox)?;
    let mailbox = record::Mailbox::decode(value.data).map_err(|_| AccountError::Damaged("a mailbox"))?;
    Ok(mailbox.uid_next)
}

/// The records of messages, in the order asked.
pub(super) async fn records(
    reader: &impl Reader,
    account: AccountId,
    ids: &[MessageId],
) -> Result<Vec<record::Message>, AccountError> {
    let damaged = || AccountError::Damaged("a message");
    let keys = ids.iter().map(|id| keys::message(account, *id)).collect();
    let values = reader.get_many(keys).await?;
    values
        .into_iter()
        .map(|v| record::Message::decode(v.ok_or_else(damaged)?).map_err(|_| damaged()))
        .collect()
}

/// The id of the message of a row.
pub(super) fn message_id(row: &record::Row) -> Result<MessageId, AccountError> {
    MessageId::try_from(&row.message_id).map_err(|_| AccountError::Damaged("a row"))
}

impl Mail {
    pub(super) async fn do_get_messages(
        &self,
        account: AccountId,
        request: &mail::GetMessagesRequest,
    ) -> Result<mail::GetMessagesResponse, Status> {
        check_ranges(&request.uids)?;
        let id = mailbox_id(&request.mailbox_id)?;
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let reader = FromSnapshot(&*snapshot);
        let uids = normalize(&request.uids, uid_next(&*snapshot, account, id).await?);
        // Read later than the snapshot, so that it has all keywords that are in it.
        let state = self.accounts.state(account, 0).await?;
        let mut answer = mail::GetMessagesResponse::default();
        let mut bytes = 0;
        let mut left = Some(uids);
        while let Some(uids) = left.take() {
            let (rows, next) = read_rows(&reader, account, id, &uids, BATCH).await?;
            let ids = rows
                .iter()
                .map(|(_, row)| message_id(row))
                .collect::<Result<Vec<_>, _>>()?;
            let messages = records(&reader, account, &ids).await?;
            let computed = match request.parts & !(mail::MessagePart::EmailId as u32 | mail::MessagePart::Record as u32)
            {
                0 => vec![None; ids.len()],
                _ => {
                    reader
                        .get_many(ids.iter().map(|id| keys::computed(account, *id)).collect())
                        .await?
                }
            };
            for (((uid, row), message), computed) in rows.into_iter().zip(messages).zip(computed) {
                if bytes > PAGE_BYTES {
                    answer.next_uid = uid;
                    return Ok(answer);
                }
                let computed = computed
                    .map(mail::Computed::decode)
                    .transpose()
                    .map_err(|_| AccountError::Damaged("a message's structure"))?;
                let shown = mail::Message {
                    id: row.message_id,
                    uid,
                    flags: Some(mail::Flags {
                        bits: row.flags,
                        keywords: state.keywords.texts(&row.keywords),
                    }),
                    modseq: row.modseq,
                    size: row.size,
                    received: row.received,
                    saved: message.saved,
                    computed: computed.map(|c| parts(c, request.parts)),
                    thread_id: message.thread_id.clone(),
                    create_modseq: row.create_modseq,
                    email_id: match has(request.parts, mail::MessagePart::EmailId) {
                        true => email_id(&message),
                        false => Bytes::new(),
                    },
                };
                bytes += shown.encoded_len() + 4;
                answer.messages.push(shown);
            }
            left = next.map(|next| crate::account::ranges_from(&uids, next));
        }
        Ok(answer)
    }
}

fn has(bits: u32, part: mail::MessagePart) -> bool {
    bits & part as u32 != 0
}

/// What was asked for of what was computed.
fn parts(mut computed: mail::Computed, bits: u32) -> mail::Computed {
    // For threading only.
    computed.references = None;
    if has(bits, mail::MessagePart::Computed) {
        return computed;
    }
    if !has(bits, mail::MessagePart::Structure) {
        computed.structure = None;
    }
    if !has(bits, mail::MessagePart::Envelope) {
        computed.envelope = None;
    }
    if !has(bits, mail::MessagePart::Preview) {
        computed.preview = None;
    }
    computed
}

/// What stands for the octets of a message (RFC 8474 §5.1): copies share their content and prefix, and so this. A
/// message that was delivered to several accounts, or twice to one, has a prefix of its own in each.
pub(super) fn email_id(message: &record::Message) -> Bytes {
    if message.prefix.is_empty() {
        return message.content_id.clone();
    }
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(&message.content_id);
    digest.update(&message.prefix);
    Bytes::copy_from_slice(&digest.finish().as_ref()[..16])
}
