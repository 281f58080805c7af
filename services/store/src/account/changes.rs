//! The change log: what changed in a mailbox since a modification sequence.

use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MailboxId};
use prost::Message as _;

use super::{AccountError, ranges};
use crate::engine::{Limit, Order, Snapshot};
use crate::keys;

/// Most entries of the log that are read for one answer.
const ENTRIES_MAX: usize = 5000;
/// About the most changed messages and vanished ranges of one answer: they have to fit into a page.
const CHANGES_MAX: u64 = 30_000;

/// Changes of one mailbox.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Changes {
    /// New or with other flags, and not vanished by the end of this part of the log; may be gone by now.
    pub changed: Vec<UidRange>,
    /// Gone.
    pub vanished: Vec<UidRange>,
    /// The mailbox itself changed.
    pub itself: bool,
    /// All up to and including this.
    pub modseq: u64,
    /// There are later ones.
    pub more: bool,
}

/// Reads the log from after `since`, which is not below its watermark.
///
/// # Errors
/// If it cannot be read.
pub async fn changes(
    snapshot: &dyn Snapshot,
    account: AccountId,
    mailbox: MailboxId,
    since: u64,
) -> Result<Changes, AccountError> {
    let range = keys::change(account, since.saturating_add(1))..keys::account_table(account, keys::TABLE_LOG).end;
    let page = snapshot.scan(range, Limit::rows(ENTRIES_MAX), Order::Ascending).await?;
    let mut found = Changes {
        modseq: since,
        more: page.more,
        ..Changes::default()
    };
    let id = mailbox.to_bytes();
    let mut size = 0;
    for (key, value) in page.rows {
        if size >= CHANGES_MAX {
            found.more = true;
            break;
        }
        let entry = record::Change::decode(value.data).map_err(|_| AccountError::Damaged("the change log"))?;
        found.modseq = keys::parse_change(&key).ok_or(AccountError::Damaged("the change log"))?;
        for change in entry.mailboxes.into_iter().filter(|c| c.mailbox_id == id) {
            size += ranges::span(&change.changed) + change.vanished.len() as u64;
            found.changed.extend(change.changed);
            found.vanished.extend(change.vanished);
            found.itself |= change.mailbox_changed;
        }
    }
    found.vanished = ranges::normalize(&found.vanished, u32::MAX);
    found.changed = ranges::subtract(&ranges::normalize(&found.changed, u32::MAX), &found.vanished);
    Ok(found)
}
