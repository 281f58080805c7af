//! The change log: what changed in a mailbox since a modification sequence.

use std::collections::HashMap;

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

/// Ranges of UIDs that are told of a mailbox when all mailboxes are asked about.
const RANGES_TOLD: usize = 16;
/// Mailboxes of one answer: with what is told of each, they have to fit into a page.
const MAILBOXES_TOLD: usize = 1000;
/// Octets of names of one answer, about.
const NAMES_TOLD: usize = 128 << 10;

/// Changes of an account.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct AccountChanges {
    /// In the order of their last changes.
    pub mailboxes: Vec<MailboxChanges>,
    /// Names that were subscribed, or no longer.
    pub subscriptions: Vec<String>,
    /// Entries of the server's metadata.
    pub server_metadata: Vec<String>,
    /// All up to and including this.
    pub modseq: u64,
    /// There are later ones.
    pub more: bool,
}

/// Changes of one of its mailboxes.
#[derive(Debug, Clone, PartialEq)]
pub struct MailboxChanges {
    /// Which.
    pub id: MailboxId,
    /// The mailbox itself changed.
    pub itself: bool,
    /// Entries of its metadata.
    pub metadata: Vec<String>,
    /// New or with other flags; of many ranges, one around them.
    pub changed: Vec<UidRange>,
    /// Gone; likewise.
    pub vanished: Vec<UidRange>,
}

/// Reads the log of all mailboxes from after `since`, which is not below its watermark.
///
/// # Errors
/// If it cannot be read.
pub async fn account_changes(
    snapshot: &dyn Snapshot,
    account: AccountId,
    since: u64,
) -> Result<AccountChanges, AccountError> {
    let range = keys::change(account, since.saturating_add(1))..keys::account_table(account, keys::TABLE_LOG).end;
    let page = snapshot.scan(range, Limit::rows(ENTRIES_MAX), Order::Ascending).await?;
    let mut found = AccountChanges {
        modseq: since,
        more: page.more,
        ..AccountChanges::default()
    };
    let mut places: HashMap<MailboxId, usize> = HashMap::new();
    let mut names = 0;
    for (key, value) in page.rows {
        if found.mailboxes.len() >= MAILBOXES_TOLD || names >= NAMES_TOLD {
            found.more = true;
            break;
        }
        let damaged = || AccountError::Damaged("the change log");
        let entry = record::Change::decode(value.data).map_err(|_| damaged())?;
        found.modseq = keys::parse_change(&key).ok_or_else(damaged)?;
        let of_mailboxes = entry.mailboxes.iter().flat_map(|m| &m.metadata);
        let all = entry
            .subscriptions
            .iter()
            .chain(&entry.server_metadata)
            .chain(of_mailboxes);
        names += all.map(|name| name.len() + 8).sum::<usize>();
        add_names(&mut found.subscriptions, entry.subscriptions);
        add_names(&mut found.server_metadata, entry.server_metadata);
        for change in entry.mailboxes {
            let id = MailboxId::try_from(&change.mailbox_id).map_err(|_| damaged())?;
            let place = *places.entry(id).or_insert_with(|| {
                found.mailboxes.push(MailboxChanges {
                    id,
                    itself: false,
                    metadata: Vec::new(),
                    changed: Vec::new(),
                    vanished: Vec::new(),
                });
                found.mailboxes.len() - 1
            });
            let mailbox = &mut found.mailboxes[place];
            mailbox.itself |= change.mailbox_changed;
            add_names(&mut mailbox.metadata, change.metadata);
            add_ranges(&mut mailbox.changed, change.changed);
            add_ranges(&mut mailbox.vanished, change.vanished);
        }
    }
    for mailbox in &mut found.mailboxes {
        mailbox.changed = ranges::normalize(&mailbox.changed, u32::MAX);
        mailbox.vanished = ranges::normalize(&mailbox.vanished, u32::MAX);
    }
    Ok(found)
}

fn add_names(list: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !list.contains(&name) {
            list.push(name);
        }
    }
}

fn add_ranges(list: &mut Vec<UidRange>, more: Vec<UidRange>) {
    list.extend(more);
    if list.len() > RANGES_TOLD {
        *list = ranges::normalize(list, u32::MAX);
    }
    if let (true, Some(first), Some(last)) = (list.len() > RANGES_TOLD, list.first(), list.last()) {
        *list = vec![UidRange {
            first: first.first,
            last: last.last,
        }];
    }
}
