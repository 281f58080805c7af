//! Rows and changes of a mailbox.

use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use tonic::Status;

use super::{Mail, mailbox_id};
use crate::account::{
    AccountError, Chunk, Columns, FromSnapshot, Index, Packer, RANGES_MAX, account_changes, changes, normalize,
    ranges_from, read_rows,
};
use crate::keys;

/// Refuses more ranges than any client needs to send.
pub(super) fn check_ranges(ranges: &[UidRange]) -> Result<(), Status> {
    if ranges.len() > RANGES_MAX {
        return Err(Status::invalid_argument("at most 200000 ranges of UIDs in a request"));
    }
    Ok(())
}

/// The UIDs that a request is about, normalized.
pub(super) fn wanted(request: &mail::ListRowsRequest, uid_next: u32) -> Vec<UidRange> {
    let all = [UidRange {
        first: request.first_uid.max(1),
        last: request.last_uid,
    }];
    let asked = if request.uids.is_empty() {
        &all[..]
    } else {
        &request.uids
    };
    // "1:*" of an empty range would be turned around; what starts above the end is nothing.
    ranges_from(&normalize(asked, uid_next), request.first_uid)
}

/// Most ranges of an answer: each takes up to 14 bytes.
const RANGES_PAGE: usize = 50_000;

/// Ascending UIDs as ranges, as many as an answer takes; and the UID to go on from, or 0.
fn joined(uids: impl Iterator<Item = u32>) -> (Vec<UidRange>, u32) {
    let mut ranges: Vec<UidRange> = Vec::new();
    for uid in uids {
        let full = ranges.len() >= RANGES_PAGE;
        match ranges.last_mut() {
            Some(last) if last.last.checked_add(1) == Some(uid) => last.last = uid,
            _ if full => return (ranges, uid),
            _ => ranges.push(UidRange { first: uid, last: uid }),
        }
    }
    (ranges, 0)
}

/// All UIDs of a mailbox, and the first without \Seen or 0; None if they are too many ranges for one answer.
pub(super) fn uids(index: &Index, uid_next: u32, unseen: u32) -> Option<(Vec<UidRange>, u32)> {
    let all = normalize(
        &[UidRange {
            first: 1,
            last: u32::MAX,
        }],
        uid_next,
    );
    let (ranges, next) = joined(index.ranges(&all).map(|(chunk, at)| chunk.uids[at]));
    if next != 0 {
        return None;
    }
    let is_unseen = |(chunk, at): &(&Chunk, usize)| chunk.flags[*at] & mail::Flag::Seen as u32 == 0;
    let first_unseen = match unseen {
        0 => None,
        _ => index.ranges(&all).find(is_unseen).map(|(chunk, at)| chunk.uids[at]),
    };
    Some((ranges, first_unseen.unwrap_or(0)))
}

impl Mail {
    pub(super) async fn do_list_rows(
        &self,
        account: AccountId,
        request: &mail::ListRowsRequest,
    ) -> Result<mail::ListRowsResponse, Status> {
        check_ranges(&request.uids)?;
        if request.columns & mail::Column::Computed as u32 != 0 {
            return self.list_computed(account, request).await;
        }
        let id = mailbox_id(&request.mailbox_id)?;
        let (state, index) = self.accounts.view(account, id, request.seen_modseq).await?;
        let mailbox = state.mailbox(id)?;
        let uid_next = mailbox.uid_next;
        let ranges = wanted(request, uid_next);
        let mut packer = Packer::new(Columns::from_bits(request.columns), &state.keywords);
        let mut answer = mail::ListRowsResponse {
            modseq: state.modseq(),
            uid_next,
            highest_modseq: mailbox.modseq,
            ..Default::default()
        };
        if request.as_ranges {
            (answer.ranges, answer.next_uid) = joined(index.ranges(&ranges).map(|(chunk, at)| chunk.uids[at]));
            return Ok(answer);
        }
        for (chunk, at) in index.ranges(&ranges) {
            if packer.is_full() {
                answer.next_uid = chunk.uids[at];
                break;
            }
            let keywords = index.keyword_set(chunk.keywords[at]);
            let (flags, modseq) = (chunk.flags[at], chunk.modseqs[at]);
            packer.push(
                chunk.uids[at],
                flags,
                keywords,
                modseq,
                chunk.sizes[at],
                chunk.received[at],
            );
        }
        answer.rows = Some(packer.finish());
        Ok(answer)
    }

    pub(super) async fn do_list_changes(
        &self,
        account: AccountId,
        request: &mail::ListChangesRequest,
    ) -> Result<mail::ListChangesResponse, Status> {
        let id = mailbox_id(&request.mailbox_id)?;
        let since = request.since_modseq;
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let records = vec![keys::account(account), keys::mailbox(account, id)];
        let mut records = snapshot
            .get_many(records)
            .await
            .map_err(AccountError::from)?
            .into_iter()
            .flatten();
        let (Some(account_record), mailbox) = (records.next(), records.next()) else {
            return Err(AccountError::AccountGone.into());
        };
        let damaged = |_| AccountError::Damaged("an account");
        let account_record = record::Account::decode(account_record.data).map_err(damaged)?;
        let modseq = account_record.modseq;
        let Some(mailbox) = mailbox else {
            return Ok(mail::ListChangesResponse {
                modseq,
                mailbox_gone: true,
                ..Default::default()
            });
        };
        let mailbox = record::Mailbox::decode(mailbox.data).map_err(damaged)?;
        let (uid_next, uid_validity) = (mailbox.uid_next, mailbox.uid_validity);
        if since > modseq {
            return Err(AccountError::Behind.into());
        }
        if since < account_record.log_watermark {
            return Ok(mail::ListChangesResponse {
                modseq,
                resync: true,
                uid_next,
                highest_modseq: mailbox.modseq,
                uid_validity,
                ..Default::default()
            });
        }
        let found = changes(&*snapshot, account, id, since).await?;
        let reader = FromSnapshot(&*snapshot);
        let (rows, _) = read_rows(&reader, account, id, &found.changed, usize::MAX).await?;
        drop(snapshot);
        // Read later than the snapshot, so that it has all keywords that are in it.
        let state = self.accounts.state(account, 0).await?;
        let mut packer = Packer::new(Columns::from_bits(request.columns), &state.keywords);
        for (uid, row) in rows {
            packer.push(uid, row.flags, &row.keywords, row.modseq, row.size, row.received);
        }
        let modseq = if found.more { found.modseq } else { modseq };
        Ok(mail::ListChangesResponse {
            rows: Some(packer.finish()),
            vanished: found.vanished,
            modseq,
            highest_modseq: mailbox.modseq.min(modseq),
            more: found.more,
            uid_next,
            uid_validity,
            ..Default::default()
        })
    }

    pub(super) async fn do_list_account_changes(
        &self,
        account: AccountId,
        request: &mail::ListAccountChangesRequest,
    ) -> Result<mail::ListAccountChangesResponse, Status> {
        let since = request.since_modseq;
        // Most of the time there is nothing, which the state says without reading the log.
        let state = self.accounts.state(account, 0).await?;
        if since > state.modseq() {
            return Err(AccountError::Behind.into());
        }
        if since == state.modseq() {
            return Ok(mail::ListAccountChangesResponse {
                modseq: since,
                ..Default::default()
            });
        }
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let value = snapshot.get(keys::account(account)).await.map_err(AccountError::from)?;
        let value = value.ok_or(AccountError::AccountGone)?;
        let account_record = record::Account::decode(value.data).map_err(|_| AccountError::Damaged("an account"))?;
        if since < account_record.log_watermark {
            return Ok(mail::ListAccountChangesResponse {
                modseq: account_record.modseq,
                resync: true,
                ..Default::default()
            });
        }
        let found = account_changes(&*snapshot, account, since).await?;
        drop(snapshot);
        // Read later than the log, so that it has all mailboxes that the log names, unless they are gone by now.
        let state = self.accounts.state(account, 0).await?;
        let mut answer = mail::ListAccountChangesResponse {
            subscribed: found
                .subscriptions
                .iter()
                .map(|name| state.subscriptions.contains(name.as_str()))
                .collect(),
            subscriptions: found.subscriptions,
            server_metadata: found.server_metadata,
            modseq: found.modseq,
            more: found.more,
            ..Default::default()
        };
        for changes in found.mailboxes {
            answer
                .mailboxes
                .push(mail::list_account_changes_response::ChangedMailbox {
                    mailbox_id: changes.id.to_bytes(),
                    mailbox: state.mailboxes.get(&changes.id).map(|m| state.shown(m)),
                    itself: changes.itself,
                    metadata: changes.metadata,
                    changed: changes.changed,
                    vanished: changes.vanished,
                });
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_joined_page_by_page() {
        let range = |first, last| UidRange { first, last };
        assert_eq!(joined([].into_iter()), (vec![], 0));
        assert_eq!(
            joined([1, 2, 3, 5, 7, 8, u32::MAX].into_iter()),
            (
                vec![range(1, 3), range(5, 5), range(7, 8), range(u32::MAX, u32::MAX)],
                0
            )
        );
        let odd = || (1..).step_by(2);
        let (page, next) = joined(odd().take(RANGES_PAGE + 1));
        assert_eq!((page.len(), next), (RANGES_PAGE, 2 * RANGES_PAGE as u32 + 1));
        assert_eq!(joined(odd().take(RANGES_PAGE)).1, 0);
    }
}
