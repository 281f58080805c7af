//! Changing flags and keywords.

use mox_proto::mail::v1::store_flags_request::Mode;
use mox_proto::mail::v1::{StoreFlagsResponse, UidRange};
use mox_types::MailboxId;

use super::STEP_MESSAGES;
use crate::account::flags::{DELETED, MESSAGE_KEYWORDS_MAX};
use crate::account::pack::{Columns, Packer};
use crate::account::ranges::Collector;
use crate::account::{AccountError, AccountTx, Op, Wanted, normalize, read_rows};

/// Changes the flags of at most [`STEP_MESSAGES`] messages.
pub struct StoreFlags {
    /// Where they are.
    pub mailbox: MailboxId,
    /// Which.
    pub uids: Vec<UidRange>,
    /// How.
    pub mode: Mode,
    /// With what.
    pub flags: Wanted,
    /// RFC 7162 §3.1.3: only those that have not changed since.
    pub unchanged_since: Option<u64>,
}

impl Op for StoreFlags {
    type Output = StoreFlagsResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let uid_next = tx.state().mailbox(self.mailbox)?.uid_next;
        let uids = normalize(&self.uids, uid_next);
        let (rows, next) = read_rows(tx, tx.account(), self.mailbox, &uids, STEP_MESSAGES).await?;
        // RFC 9051 §6.4.6: a keyword that is not known can be left out when it is to be removed.
        let keywords = match self.mode {
            Mode::Remove => {
                let known = |k: &String| tx.state().keywords.number(k);
                let mut known: Vec<u32> = self.flags.keywords.iter().filter_map(known).collect();
                known.sort_unstable();
                known
            }
            Mode::Add | Mode::Replace if rows.is_empty() => Vec::new(),
            Mode::Add | Mode::Replace => tx.keywords(&self.flags)?,
        };
        let before = tx.state().modseq();
        let mut modified = Collector::default();
        let mut stored = Vec::with_capacity(rows.len());
        for (uid, row) in rows {
            if self.unchanged_since.is_some_and(|since| row.modseq > since) {
                modified.push(uid);
                stored.push((uid, row));
                continue;
            }
            let mut new = row.clone();
            match self.mode {
                Mode::Replace => {
                    new.flags = self.flags.bits;
                    new.keywords.clone_from(&keywords);
                }
                Mode::Add => {
                    new.flags |= self.flags.bits;
                    new.keywords.extend(&keywords);
                    new.keywords.sort_unstable();
                    new.keywords.dedup();
                }
                Mode::Remove => {
                    new.flags &= !self.flags.bits;
                    new.keywords.retain(|k| keywords.binary_search(k).is_err());
                }
            }
            if new.keywords.len() > MESSAGE_KEYWORDS_MAX {
                return Err(AccountError::Limit("at most 100 keywords a message"));
            }
            if (new.flags, &new.keywords) != (row.flags, &row.keywords) {
                tx.update_row(self.mailbox, uid, &row, &mut new)?;
            }
            stored.push((uid, new));
        }
        let mut packer = Packer::new(
            Columns {
                flags: true,
                modseq: true,
                size: false,
                received: false,
            },
            &tx.state().keywords,
        );
        for (uid, row) in &stored {
            packer.push(*uid, row.flags, &row.keywords, row.modseq, row.size, row.received);
        }
        Ok(StoreFlagsResponse {
            rows: Some(packer.finish()),
            modified: modified.into_ranges(),
            modseq: tx.state().modseq(),
            next_uid: next.unwrap_or(0),
            made: Some(tx.state().modseq())
                .filter(|now| *now > before)
                .into_iter()
                .collect(),
        })
    }

    fn size(&self) -> usize {
        128 * crate::account::ranges::span(&self.uids).min(STEP_MESSAGES as u64) as usize
    }

    /// Marking as deleted is how a client begins to make room.
    fn frees(&self) -> bool {
        self.flags.bits & DELETED != 0 && !matches!(self.mode, Mode::Remove)
    }
}
