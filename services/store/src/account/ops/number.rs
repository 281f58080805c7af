//! Completing rows that were written before they had all that searches ask for.

use mox_message::sent_day;
use mox_proto::mail::v1::{Computed, ExpungeResponse, UidRange};
use mox_types::{MailboxId, MessageId};
use prost::Message as _;

use super::STEP_MESSAGES;
use crate::account::{AccountError, AccountTx, Op, Reader, read_rows};
use crate::keys;

/// Gives numbers, and what goes with them, to those of at most [`STEP_MESSAGES`] messages that have none.
pub struct NumberRows {
    /// Where they are.
    pub mailbox: MailboxId,
    /// Which, normalized.
    pub uids: Vec<UidRange>,
}

impl Op for NumberRows {
    /// Says nothing.
    type Output = ExpungeResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        tx.state().mailbox(self.mailbox)?;
        let account = tx.account();
        let (mut rows, _) = read_rows(tx, account, self.mailbox, &self.uids, STEP_MESSAGES).await?;
        rows.retain(|(_, row)| row.number == 0);
        let ids = rows
            .iter()
            .map(|(_, row)| MessageId::try_from(&row.message_id).map_err(|_| AccountError::Damaged("a row")))
            .collect::<Result<Vec<_>, _>>()?;
        let messages = tx.messages(&ids).await?;
        let keys = ids.iter().map(|id| keys::computed(account, *id)).collect();
        let computed = tx.get_many(keys).await?;
        for (((uid, mut row), message), computed) in rows.into_iter().zip(messages).zip(computed) {
            // What is damaged stays as it is; a search that reads it says so.
            let (Some(message), Some(computed)) = (message, computed) else {
                continue;
            };
            let Ok(computed) = Computed::decode(computed) else {
                continue;
            };
            row.number = tx.number();
            row.saved = message.saved;
            let date = computed.envelope.and_then(|e| e.date);
            row.sent_day = date.and_then(|date| sent_day(&date));
            tx.complete_row(self.mailbox, uid, &row);
        }
        Ok(ExpungeResponse::default())
    }

    fn size(&self) -> usize {
        128 * STEP_MESSAGES
    }
}
