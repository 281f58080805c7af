//! Keeping what was computed from messages anew, as a repair.

use bytes::Bytes;
use mox_proto::mail::v1::CopyResponse;
use mox_proto::record::v1 as record;
use mox_types::{MailboxId, MessageId};
use prost::Message as _;

use crate::account::{AccountError, AccountTx, Op, Reader as _, history, threads};
use crate::keys;

/// What a message says, read again.
pub struct Reparsed {
    /// Which.
    pub id: MessageId,
    /// For its prefix and content, encoded.
    pub computed: Bytes,
    /// What its record says that comes from its content; none if that stays.
    pub facts: Option<record::Message>,
    /// Its size, if that was wrong.
    pub size: Option<u64>,
}

/// Changes messages. Those that are gone are passed over.
pub struct Reparse {
    /// Which, and to what.
    pub messages: Vec<Reparsed>,
}

impl Op for Reparse {
    type Output = CopyResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let ids: Vec<MessageId> = self.messages.iter().map(|m| m.id).collect();
        let account = tx.account();
        for (new, message) in self.messages.iter().zip(tx.messages(&ids).await?) {
            let Some(mut message) = message else { continue };
            let before = message.clone();
            if let Some(facts) = &new.facts {
                message.date = facts.date;
                message.sent_day = facts.sent_day;
                message.base_subject.clone_from(&facts.base_subject);
                message.msg_from_localpart.clone_from(&facts.msg_from_localpart);
                message.msg_from_domain.clone_from(&facts.msg_from_domain);
                message.dsn = facts.dsn;
                message.list = facts.list;
                message.message_id.clone_from(&facts.message_id);
                // Its place in a conversation stays, until threads are assigned anew.
                if (&message.message_id, &message.base_subject) != (&before.message_id, &before.base_subject) {
                    threads::leave(tx, &before);
                    threads::enter(tx, &message);
                }
                history::rename(tx, &before, &message).await?;
            }
            if let Some(size) = new.size {
                message.size = size;
            }
            fit_row(tx, &message).await?;
            if message != before {
                tx.put(keys::message(account, new.id), message.encode_to_vec());
            }
            tx.put(keys::computed(account, new.id), new.computed.clone());
        }
        Ok(CopyResponse::default())
    }

    fn size(&self) -> usize {
        self.messages.iter().map(|m| m.computed.len() + 1024).sum()
    }
}

/// Makes a message's row say what the message does, and counts with its size.
async fn fit_row(tx: &mut AccountTx, message: &record::Message) -> Result<(), AccountError> {
    let mailbox = MailboxId::try_from(&message.mailbox_id).map_err(|_| AccountError::Damaged("a message"))?;
    let key = keys::row(tx.account(), mailbox, message.uid);
    let Some(value) = tx.get_many(vec![key]).await?.pop().flatten() else {
        return Ok(());
    };
    let row = record::Row::decode(value).map_err(|_| AccountError::Damaged("a row"))?;
    if tx.state().mailbox(mailbox).is_err() {
        return Ok(());
    }
    let mut new = row.clone();
    new.size = message.size;
    // A row without a number gets all of this with it.
    if new.number != 0 {
        new.sent_day = message.sent_day;
    }
    if new.size != row.size {
        tx.update_row(mailbox, message.uid, &row, &mut new)?;
        let (old, new) = (row.size, new.size);
        tx.repair_account(|account| account.size = account.size.saturating_sub(old).saturating_add(new));
    } else if new != row {
        tx.complete_row(mailbox, message.uid, &new);
    }
    Ok(())
}
