//! Reading rows of a mailbox from the engine.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1::Row;
use mox_types::{AccountId, MailboxId};
use prost::Message as _;

use super::AccountError;
use crate::engine::{Limit, Order, Snapshot};
use crate::keys;

/// Ranges up to this length are read by key rather than scanned.
const BY_KEY_MAX: u32 = 16;
/// Most keys of one read.
const KEYS_MAX: usize = 1000;

/// Where keys are read from: a snapshot, or a transaction that sees its own changes.
pub trait Reader: Sync {
    /// Values of keys, in the order asked.
    fn get_many(&self, keys: Vec<Bytes>) -> impl Future<Output = Result<Vec<Option<Bytes>>, AccountError>> + Send;
    /// About so many rows of a range from its start, and what is left of the range if there is more.
    fn scan(&self, range: Range<Bytes>, rows: usize) -> impl Future<Output = Result<Scanned, AccountError>> + Send;
}

/// Keys and values, and what is left of the range that was scanned.
pub type Scanned = (Vec<(Bytes, Bytes)>, Option<Range<Bytes>>);

/// A snapshot to read from.
pub struct FromSnapshot<'a>(pub &'a dyn Snapshot);

impl Reader for FromSnapshot<'_> {
    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, AccountError> {
        Ok(self
            .0
            .get_many(keys)
            .await?
            .into_iter()
            .map(|v| v.map(|v| v.data))
            .collect())
    }

    async fn scan(&self, range: Range<Bytes>, rows: usize) -> Result<Scanned, AccountError> {
        let page = self.0.scan(range.clone(), Limit::rows(rows), Order::Ascending).await?;
        let rest = page.rest(&range);
        Ok((
            page.rows.into_iter().map(|(key, value)| (key, value.data)).collect(),
            rest,
        ))
    }
}

/// Rows of normalized ranges, ascending, at most so many; and the UID to go on from if there may be more.
///
/// # Errors
/// If they cannot be read.
pub async fn read(
    reader: &impl Reader,
    account: AccountId,
    mailbox: MailboxId,
    ranges: &[UidRange],
    most: usize,
) -> Result<(Vec<(u32, Row)>, Option<u32>), AccountError> {
    let mut rows = Vec::new();
    let mut todo: VecDeque<UidRange> = ranges.iter().copied().collect();
    while let Some(range) = todo.pop_front() {
        let room = most.saturating_sub(rows.len());
        if room == 0 {
            return Ok((rows, Some(range.first)));
        }
        if range.last - range.first < BY_KEY_MAX {
            let mut uids: Vec<u32> = (range.first..=range.last).collect();
            while let Some(range) = todo.front().copied() {
                let many = (range.last - range.first) as usize + 1;
                if many > BY_KEY_MAX as usize || uids.len() + many > room.min(KEYS_MAX) {
                    break;
                }
                uids.extend(range.first..=range.last);
                todo.pop_front();
            }
            let keys = uids.iter().map(|uid| keys::row(account, mailbox, *uid)).collect();
            for (uid, value) in uids.into_iter().zip(reader.get_many(keys).await?) {
                if let Some(value) = value {
                    rows.push((uid, decode(value)?));
                }
            }
            continue;
        }
        let mut left = Some(keys::rows(account, mailbox, range.first, range.last));
        while let Some(range) = left.take() {
            let (found, rest) = reader.scan(range, most.saturating_sub(rows.len())).await?;
            for (key, value) in found {
                rows.push((
                    keys::parse_row(&key).ok_or(AccountError::Damaged("a row"))?,
                    decode(value)?,
                ));
            }
            left = rest;
            if let (true, Some((last, _)), true) = (rows.len() >= most, rows.last(), left.is_some()) {
                let next = last.saturating_add(1);
                return Ok((rows, Some(next)));
            }
        }
    }
    Ok((rows, None))
}

fn decode(value: Bytes) -> Result<Row, AccountError> {
    Row::decode(value).map_err(|_| AccountError::Damaged("a row"))
}
