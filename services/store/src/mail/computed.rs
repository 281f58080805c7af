//! Rows of a mailbox together with what was computed of the messages at delivery.

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use tonic::Status;

use super::listing::wanted;
use super::messages::message_id;
use super::{Mail, mailbox_id};
use crate::account::{AccountError, Columns, FromSnapshot, Packer, Reader, ranges_from, read_rows};
use crate::keys;

/// Bytes after which a page ends: large enough that a call costs little beside it, and small enough that the caller can
/// write one while the next is read.
const PAGE_BYTES: usize = 192 << 10;
/// Bytes after which it ends at once, with room for one more, which its bounds keep below 3 MiB.
const PAGE_BYTES_MAX: usize = 900 << 10;
/// Messages that are read at a time.
const BATCH: usize = 256;

impl Mail {
    /// As it is kept: whoever asks for these has mailboxes full of messages to write.
    pub(super) async fn list_computed(
        &self,
        account: AccountId,
        request: &mail::ListRowsRequest,
    ) -> Result<mail::ListRowsResponse, Status> {
        let id = mailbox_id(&request.mailbox_id)?;
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let reader = FromSnapshot(&*snapshot);
        let records = reader
            .get_many(vec![keys::account(account), keys::mailbox(account, id)])
            .await?;
        let [Some(account_record), mailbox] = records.as_slice() else {
            return Err(AccountError::AccountGone.into());
        };
        let damaged = |_| AccountError::Damaged("an account");
        let account_record = record::Account::decode(account_record.clone()).map_err(damaged)?;
        let mailbox = mailbox.clone().ok_or(AccountError::NoMailbox)?;
        let mailbox = record::Mailbox::decode(mailbox).map_err(damaged)?;
        let uid_next = mailbox.uid_next;
        // Read later than the snapshot, so that it has all keywords that are in it.
        let state = self.accounts.state(account, request.seen_modseq).await?;
        let mut packer = Packer::new(Columns::from_bits(request.columns), &state.keywords);
        let mut answer = mail::ListRowsResponse {
            modseq: account_record.modseq,
            uid_next,
            highest_modseq: mailbox.modseq,
            ..Default::default()
        };
        let mut bytes = 0;
        let mut left = Some(wanted(request, uid_next)).filter(|uids| !uids.is_empty());
        'page: while let Some(uids) = left.take() {
            let (rows, next) = read_rows(&reader, account, id, &uids, BATCH).await?;
            let wanted = rows
                .iter()
                .map(|(_, row)| Ok(keys::computed(account, message_id(row)?)))
                .collect::<Result<Vec<_>, AccountError>>()?;
            let computed = reader.get_many(wanted).await?;
            for ((uid, row), computed) in rows.into_iter().zip(computed) {
                if bytes > PAGE_BYTES_MAX {
                    answer.next_uid = uid;
                    break 'page;
                }
                let computed: Bytes = computed.unwrap_or_default();
                bytes += computed.len() + 16;
                packer.push(uid, row.flags, &row.keywords, row.modseq, row.size, row.received);
                answer.computed.push(computed);
            }
            if let Some(next) = next {
                if bytes > PAGE_BYTES || packer.is_full() {
                    answer.next_uid = next;
                    break;
                }
                left = Some(ranges_from(&uids, next));
            }
        }
        answer.rows = Some(packer.finish());
        Ok(answer)
    }
}
