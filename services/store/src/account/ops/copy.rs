//! Copying and moving messages. A copy is a message of its own that shares the content; a moved one stays itself.

use bytes::Bytes;
use mox_proto::mail::v1::{CopyResponse, UidRange};
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{ContentId, MailboxId, MessageId};
use prost::Message as _;

use super::STEP_MESSAGES;
use crate::account::threads;
use crate::account::{AccountError, AccountTx, Op, Reader, is_sent, lesson, normalize, read_rows, record_recipients};
use crate::content::{self, Owner};
use crate::keys;

/// Copies or moves at most [`STEP_MESSAGES`] messages.
pub struct Copy {
    /// Where they are.
    pub mailbox: MailboxId,
    /// Which.
    pub uids: Vec<UidRange>,
    /// Where to, by canonical name.
    pub destination: String,
    /// Whether they are then no longer where they were.
    pub moving: bool,
}

impl Op for Copy {
    type Output = CopyResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let uid_next = tx.state().mailbox(self.mailbox)?.uid_next;
        let destination = tx.state().named(&self.destination).ok_or(AccountError::NoMailbox)?;
        let mut answer = CopyResponse {
            uid_validity: destination.uid_validity,
            destination_id: destination.id.to_bytes(),
            ..CopyResponse::default()
        };
        // What is moved from one such mailbox to another was recorded before.
        let learns = is_sent(destination) && !is_sent(tx.state().mailbox(self.mailbox)?);
        let destination = destination.id;
        let uids = normalize(&self.uids, uid_next);
        let (rows, next) = read_rows(tx, tx.account(), self.mailbox, &uids, STEP_MESSAGES).await?;
        if !self.moving {
            tx.check_quota(rows.iter().map(|(_, row)| row.size).sum())?;
        }
        let ids: Vec<MessageId> = rows
            .iter()
            .map(|(_, row)| id(&row.message_id))
            .collect::<Result<_, _>>()?;
        let messages = tx.messages(&ids).await?;
        let computed = match self.moving && !learns {
            true => vec![None; ids.len()],
            false => {
                let keys = ids.iter().map(|id| keys::computed(tx.account(), *id)).collect();
                tx.get_many(keys).await?
            }
        };
        if learns {
            let sent: Vec<(Bytes, i64)> = computed
                .iter()
                .zip(&rows)
                .filter_map(|(computed, (_, row))| Some((computed.clone()?, row.received)))
                .collect();
            record_recipients(tx, &sent).await?;
        }
        for (((uid, row), message), computed) in rows.into_iter().zip(messages).zip(computed) {
            let message = message.ok_or(AccountError::Damaged("a message"))?;
            let new_uid = match self.moving {
                true => self.move_one(tx, destination, uid, row, message)?,
                false => copy_one(tx, destination, row, message, computed)?,
            };
            answer.source_uids.push(uid);
            answer.destination_uids.push(new_uid);
        }
        answer.modseq = tx.state().modseq();
        answer.next_uid = next.unwrap_or(0);
        Ok(answer)
    }

    fn size(&self) -> usize {
        2048 * crate::account::ranges::span(&self.uids).min(STEP_MESSAGES as u64) as usize
    }
}

impl Copy {
    fn move_one(
        &self,
        tx: &mut AccountTx,
        destination: MailboxId,
        uid: u32,
        mut row: record::Row,
        mut message: record::Message,
    ) -> Result<u32, AccountError> {
        tx.delete_row(self.mailbox, uid, &row)?;
        let id = id(&row.message_id)?;
        row.saved = tx.now;
        row.flags = tx.flags_in(destination, row.flags, false);
        if lesson(row.flags) != message.trained() {
            tx.train(&row.message_id);
        }
        let new_uid = tx.insert_row(destination, row)?;
        message.uid = new_uid;
        message.mailbox_id = destination.to_bytes();
        message.saved = tx.now;
        tx.put(keys::message(tx.account(), id), message.encode_to_vec());
        Ok(new_uid)
    }
}

fn copy_one(
    tx: &mut AccountTx,
    destination: MailboxId,
    mut row: record::Row,
    mut message: record::Message,
    computed: Option<Bytes>,
) -> Result<u32, AccountError> {
    let id = MessageId::new();
    row.message_id = id.to_bytes();
    row.saved = tx.now;
    row.flags = tx.flags_in(destination, row.flags, false);
    message.set_trained(Training::None);
    message.reject_digest = Bytes::new();
    if lesson(row.flags) != Training::None {
        tx.train(&row.message_id);
    }
    let uid = tx.insert_row(destination, row)?;
    message.id = id.to_bytes();
    message.uid = uid;
    message.mailbox_id = destination.to_bytes();
    message.mailbox_original_id = destination.to_bytes();
    message.create_modseq = tx.modseq();
    message.saved = tx.now;
    let content = ContentId::try_from(&message.content_id).map_err(|_| AccountError::Damaged("a message"))?;
    let account = tx.account();
    // The message that is copied refers to it: that it does is what the account's version stands for.
    content::refer(tx.extra(), content, &Owner::message(account, id));
    threads::enter(tx, &message);
    tx.put(keys::message(account, id), message.encode_to_vec());
    if let Some(computed) = computed {
        tx.put(keys::computed(account, id), computed);
    }
    Ok(uid)
}

fn id(bytes: &Bytes) -> Result<MessageId, AccountError> {
    MessageId::try_from(bytes).map_err(|_| AccountError::Damaged("a row"))
}
