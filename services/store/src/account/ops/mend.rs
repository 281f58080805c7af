//! Making rows and messages agree again, as a repair.

use mox_proto::mail::v1::CopyResponse;
use mox_proto::record::v1 as record;
use mox_types::{MailboxId, MessageId};
use prost::Message as _;

use crate::account::{ALL_BITS, AccountError, AccountTx, Op, Reader as _};
use crate::keys;

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Remove a row whose message is gone, or which cannot be read.
    DropRow(MailboxId, u32),
    /// Add a row for a message that has none, without flags, at the end of its mailbox.
    AddRow(MailboxId, MessageId),
    /// Make a row say the size and time of its message, and only flags and keywords that there are.
    FitRow(MailboxId, u32),
    /// Make a message say where its row is.
    PlaceMessage(MailboxId, u32, MessageId),
}

/// Puts things right. The counters are counted anew afterwards.
pub struct MendRows {
    /// In order.
    pub steps: Vec<Mend>,
}

impl Op for MendRows {
    type Output = CopyResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        for step in &self.steps {
            match step {
                Mend::DropRow(mailbox, uid) => drop_row(tx, *mailbox, *uid).await?,
                Mend::AddRow(mailbox, id) => add_row(tx, *mailbox, *id).await?,
                Mend::FitRow(mailbox, uid) => fit_row(tx, *mailbox, *uid).await?,
                Mend::PlaceMessage(mailbox, uid, id) => {
                    if let Some(mut message) = message(tx, *id).await? {
                        message.mailbox_id = mailbox.to_bytes();
                        message.uid = *uid;
                        tx.put(keys::message(tx.account(), *id), message.encode_to_vec());
                    }
                }
            }
        }
        Ok(CopyResponse::default())
    }

    fn size(&self) -> usize {
        1024 * self.steps.len()
    }
}

async fn message(tx: &AccountTx, id: MessageId) -> Result<Option<record::Message>, AccountError> {
    Ok(tx.messages(&[id]).await?.pop().flatten())
}

async fn row(tx: &AccountTx, mailbox: MailboxId, uid: u32) -> Result<Option<record::Row>, AccountError> {
    let value = tx
        .get_many(vec![keys::row(tx.account(), mailbox, uid)])
        .await?
        .pop()
        .flatten();
    Ok(value.and_then(|v| record::Row::decode(v).ok()))
}

async fn drop_row(tx: &mut AccountTx, mailbox: MailboxId, uid: u32) -> Result<(), AccountError> {
    match row(tx, mailbox, uid).await? {
        Some(row) if tx.state().mailbox(mailbox).is_ok() => tx.delete_row(mailbox, uid, &row),
        _ => {
            tx.delete(keys::row(tx.account(), mailbox, uid));
            Ok(())
        }
    }
}

async fn add_row(tx: &mut AccountTx, mailbox: MailboxId, id: MessageId) -> Result<(), AccountError> {
    let Some(mut message) = message(tx, id).await? else {
        return Ok(());
    };
    let row = record::Row {
        message_id: id.to_bytes(),
        size: message.size,
        received: message.received,
        saved: message.saved,
        sent_day: message.sent_day,
        number: tx.number(),
        ..record::Row::default()
    };
    message.uid = tx.insert_row(mailbox, row)?;
    message.mailbox_id = mailbox.to_bytes();
    tx.put(keys::message(tx.account(), id), message.encode_to_vec());
    Ok(())
}

async fn fit_row(tx: &mut AccountTx, mailbox: MailboxId, uid: u32) -> Result<(), AccountError> {
    let Some(row) = row(tx, mailbox, uid).await? else {
        return Ok(());
    };
    let Ok(id) = MessageId::try_from(&row.message_id) else {
        return Ok(());
    };
    let Some(message) = message(tx, id).await? else {
        return Ok(());
    };
    let mut new = row.clone();
    new.size = message.size;
    new.received = message.received;
    new.flags &= ALL_BITS;
    let known = tx.state().keywords.clone();
    new.keywords.retain(|number| known.text(*number).is_some());
    tx.update_row(mailbox, uid, &row, &mut new)?;
    let (old, size) = (row.size, new.size);
    tx.repair_account(|account| account.size = account.size.saturating_sub(old).saturating_add(size));
    Ok(())
}
