//! The columns of mailboxes that were sorted of late, within a bound of bytes; and reading those that are not there.
//!
//! Values never change, and UIDs only grow: what is kept of a mailbox stays right, and is extended by the messages that
//! came since. Those that went are dropped when they are many.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mox_types::{AccountId, ContentId, MailboxId};
use parking_lot::Mutex;
use prost::Message as _;
use tonic::Status;

use super::facts::{Column, Headers, Values};
use crate::account::{AccountError, FromSnapshot, Index, Reader as _, ranges_of, read_rows};
use crate::keys;
use crate::mail::Mail;
use crate::mail::messages::{message_id, records};

/// Bytes of columns that are kept.
const KEPT_BYTES: usize = 32 << 20;
/// Messages that are read at a time.
const BATCH: usize = 1000;
/// A search that finds fewer than one in so many messages reads those alone, and nothing is kept.
const SPARSE: usize = 4;
/// Octets of a message in which its header is looked for, for one that was added before references were kept.
const HEADER_BYTES: u64 = 64 << 10;

/// Whose, which mailbox with which UIDVALIDITY, and what.
pub(crate) type Key = (AccountId, MailboxId, u32, Column);

/// See the module.
#[derive(Default)]
pub struct Columns {
    kept: Mutex<HashMap<Key, Kept>>,
    tick: AtomicU64,
}

struct Kept {
    values: Arc<Values>,
    used: u64,
}

impl Columns {
    fn get(&self, key: &Key) -> Option<Arc<Values>> {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let kept = kept.get_mut(key)?;
        kept.used = tick;
        Some(kept.values.clone())
    }

    fn put(&self, key: Key, values: &Arc<Values>) {
        let used = self.tick.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let values = values.clone();
        kept.insert(key, Kept { values, used });
        while kept.values().map(|k| k.values.bytes()).sum::<usize>() > KEPT_BYTES {
            let Some(oldest) = kept.iter().min_by_key(|(_, k)| k.used).map(|(key, _)| *key) else {
                return;
            };
            kept.remove(&oldest);
        }
    }
}

/// Called now and then while much is read; an error ends the reading.
pub trait Progress: Send {
    async fn go_on(&mut self) -> Result<(), Status>;
}

impl Mail {
    /// A column for at least these messages, ascending, of those that are still there.
    pub(crate) async fn column(
        &self,
        key: Key,
        index: &Index,
        uids: &[u32],
        progress: &mut impl Progress,
    ) -> Result<Arc<Values>, Status> {
        let (account, mailbox, _, column) = key;
        let kept = self.columns.get(&key);
        if kept.is_none() && uids.len() < index.len() / SPARSE {
            let mut values = Values::new(column);
            self.read_column(account, mailbox, column, uids, &mut values, progress)
                .await?;
            return Ok(Arc::new(values));
        }
        // Many that are gone: begin again.
        let mut values = kept
            .filter(|v| v.uids.len() <= 2 * index.len() + BATCH)
            .unwrap_or_else(|| Arc::new(Values::new(column)));
        let last = values.uids.last().copied().unwrap_or(0);
        let missing: Vec<u32> = index
            .range(last.saturating_add(1), u32::MAX)
            .map(|(chunk, at)| chunk.uids[at])
            .filter(|uid| *uid > last)
            .collect();
        if !missing.is_empty() {
            self.read_column(account, mailbox, column, &missing, Arc::make_mut(&mut values), progress)
                .await?;
            self.columns.put(key, &values);
        }
        Ok(values)
    }

    async fn read_column(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        column: Column,
        uids: &[u32],
        values: &mut Values,
        progress: &mut impl Progress,
    ) -> Result<(), Status> {
        for batch in uids.chunks(BATCH) {
            progress.go_on().await?;
            let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
            let reader = FromSnapshot(&*snapshot);
            let (rows, _) = read_rows(&reader, account, mailbox, &ranges_of(batch.iter().copied()), usize::MAX).await?;
            let ids = rows
                .iter()
                .map(|(_, row)| message_id(row))
                .collect::<Result<Vec<_>, _>>()?;
            let computed = reader
                .get_many(ids.iter().map(|id| keys::computed(account, *id)).collect())
                .await?;
            let mut headers = Vec::with_capacity(rows.len());
            for computed in computed {
                let computed = computed.unwrap_or_default();
                headers.push(Headers::decode(computed).map_err(|_| AccountError::Damaged("a message's structure"))?);
            }
            if column == Column::Ids {
                let old: Vec<usize> = (0..headers.len())
                    .filter(|n| headers[*n].references.is_none())
                    .collect();
                let old_ids: Vec<_> = old.iter().map(|n| ids[*n]).collect();
                for (n, message) in old.into_iter().zip(records(&reader, account, &old_ids).await?) {
                    let content = ContentId::try_from(&message.content_id);
                    let content = content.map_err(|_| AccountError::Damaged("a message"))?;
                    headers[n].references = Some(self.references(content).await?);
                }
            }
            for ((uid, _), headers) in rows.iter().zip(&headers) {
                values.push(column, *uid, headers);
            }
        }
        Ok(())
    }

    /// The References field of a message, from its header.
    async fn references(&self, content: ContentId) -> Result<bytes::Bytes, Status> {
        let mut start = Vec::new();
        let mut pieces = self.contents.read(content, 0..HEADER_BYTES);
        while let Some(piece) = futures::StreamExt::next(&mut pieces).await {
            match piece {
                Ok(piece) => start.extend_from_slice(&piece),
                // Gone meanwhile.
                Err(crate::content::ContentError::Gone(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(mox_message::references(&start))
    }
}
