//! Counting the messages of mailboxes anew.

use mox_proto::admin::v1::Level;
use mox_proto::record::v1::Row;
use mox_types::{AccountId, MailboxId};
use prost::Message as _;
use tonic::Status;

use super::report::Reporter;
use super::{Named, StoreAdmin};
use crate::account::ops::{CorrectCounts, Off};
use crate::account::{AccountError, Counts, State};
use crate::engine::{Limit, Order, Snapshot};
use crate::keys;

/// Times that it is counted: what saturated while counters were wrong shows at the next.
const ROUNDS: usize = 3;

impl StoreAdmin {
    /// `mox recalculatemailboxcounts`.
    pub(super) async fn do_recalculate_counts(&self, account: &Named, reporter: &Reporter) -> Result<(), Status> {
        let mut corrected = 0;
        for _ in 0..ROUNDS {
            let found = self.count_anew(account, reporter).await?;
            if found == 0 {
                break;
            }
            corrected += found;
        }
        if corrected == 0 {
            reporter
                .say(
                    Level::Info,
                    &account.name,
                    "",
                    "all counts are right",
                    &[("corrected", 0)],
                )
                .await?;
        }
        Ok(())
    }

    /// Counts once, and corrects what is wrong. Answers with how many counters sets were.
    async fn count_anew(&self, account: &Named, reporter: &Reporter) -> Result<usize, Status> {
        let snapshot = self.parts.db.snapshot().await?;
        let state = State::load(&*snapshot, account.id).await?;
        let total = state.record.messages;
        reporter.progress("messages", 0, total);
        let mut correct = CorrectCounts {
            mailboxes: Vec::new(),
            account: (0, 0),
        };
        let (mut messages, mut size) = (0u64, 0u64);
        let mut lines = Vec::new();
        for mailbox in state.mailboxes.values() {
            let counts = count(&*snapshot, account.id, mailbox.id, reporter).await?;
            messages += u64::from(counts.messages);
            size += counts.size;
            if counts != mailbox.counts {
                let off = Off::between(&mailbox.counts, &counts);
                correct.mailboxes.push((mailbox.id, off));
                lines.push((mailbox.name.to_string(), describe(&mailbox.counts, &counts), off));
            }
        }
        drop(snapshot);
        let off = |kept: u64, is: u64| i64::try_from(i128::from(is) - i128::from(kept)).unwrap_or_default();
        correct.account = (off(state.record.messages, messages), off(state.record.size, size));
        let found = correct.mailboxes.len() + usize::from(correct.account != (0, 0));
        if found == 0 {
            return Ok(0);
        }
        let by = correct.account;
        self.parts.accounts.submit(account.id, None, correct).await?;
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        for (mailbox, text, off) in lines {
            let numbers = [
                ("messages", off.messages),
                ("unseen", off.unseen),
                ("deleted", off.deleted),
                ("size", off.size),
                ("deleted_size", off.deleted_size),
            ];
            reporter
                .say(Level::Fixed, &account.name, &mailbox, text, &numbers)
                .await?;
        }
        if by != (0, 0) {
            let text = format!(
                "of the account: messages {} → {messages}, size {} → {size}",
                state.record.messages, state.record.size
            );
            let numbers = [("messages", by.0), ("size", by.1)];
            reporter.say(Level::Fixed, &account.name, "", text, &numbers).await?;
        }
        Ok(found)
    }
}

/// Counts the rows of a mailbox.
pub(super) async fn count(
    snapshot: &dyn Snapshot,
    account: AccountId,
    mailbox: MailboxId,
    reporter: &Reporter,
) -> Result<Counts, AccountError> {
    let mut counts = Counts::default();
    let mut left = Some(keys::rows(account, mailbox, 0, u32::MAX));
    while let Some(range) = left.take() {
        let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        left = page.rest(&range);
        reporter.advance(page.rows.len() as u64);
        for (_, value) in page.rows {
            let row = Row::decode(value.data).map_err(|_| AccountError::Damaged("a row"))?;
            counts.add(row.flags, row.size);
        }
    }
    Ok(counts)
}

/// What is wrong, of what it is to what it should be.
fn describe(kept: &Counts, is: &Counts) -> String {
    let pairs = [
        ("messages", u64::from(kept.messages), u64::from(is.messages)),
        ("unseen", u64::from(kept.unseen), u64::from(is.unseen)),
        ("deleted", u64::from(kept.deleted), u64::from(is.deleted)),
        ("size", kept.size, is.size),
        ("size of deleted", kept.deleted_size, is.deleted_size),
    ];
    let wrong: Vec<String> = pairs
        .iter()
        .filter(|(_, kept, is)| kept != is)
        .map(|(name, kept, is)| format!("{name} {kept} → {is}"))
        .collect();
    wrong.join(", ")
}
