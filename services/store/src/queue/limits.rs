//! How much an account may send in a day.

use bytes::Bytes;
use mox_config::Account;
use mox_types::{AccountId, Address};

use super::{Queue, QueueError};
use crate::engine::{Commit, Limit, Order, Snapshot};
use crate::keys;

/// A day, in milliseconds: the window slides.
const DAY: i64 = 24 * 3600 * 1000;
/// Records of earlier days that are removed along with each submission: more than it adds, so that they get fewer.
const CLEAN_ROWS: usize = 64;
/// Rows that are counted at once.
const COUNT_ROWS: usize = 4096;

/// The value of a recipient that was written to for the first time.
const FIRST: &[u8] = &[1];

/// Counts recipients against the limits of their account, in the commit that adds them. Those who send from one account
/// at the same time wait for each other, so that the limits hold exactly.
pub(super) async fn count(
    queue: &Queue,
    commit: &mut Commit,
    account: AccountId,
    settings: &Account,
    recipients: &[(u64, Address)],
    now: i64,
) -> Result<(), QueueError> {
    let snapshot = queue.db().snapshot().await?;
    let known_keys: Vec<Bytes> = recipients
        .iter()
        .map(|(_, to)| keys::queue_known(account, &to.to_string().to_lowercase()))
        .collect();
    let mut values = snapshot
        .get_many([known_keys.clone(), vec![keys::queue_meter(account)]].concat())
        .await?;
    let meter = values.pop().flatten();
    let (sent, first) = sent(snapshot.as_ref(), account, now).await?;
    let new = values.iter().filter(|known| known.is_none()).count() as u64;
    let wanted = recipients.len() as u64;
    let max = settings.max_outgoing_messages_per_day;
    if sent + wanted > max {
        return Err(QueueError::Limit(format!(
            "account may send {max} messages a day and has sent {sent}; try again later, or have its \
             max_outgoing_messages_per_day raised"
        )));
    }
    let max = settings.max_first_time_recipients_per_day;
    if first + new > max {
        return Err(QueueError::Limit(format!(
            "account may write to {max} new recipients a day and has written to {first}; try again later, or have its \
             max_first_time_recipients_per_day raised"
        )));
    }
    commit.require_unchanged(keys::queue_meter(account), meter.as_ref());
    commit.put(keys::queue_meter(account), Bytes::new());
    for (((id, _), key), known) in recipients.iter().zip(known_keys).zip(values) {
        let first = known.is_none();
        commit.put(
            keys::queue_sent(account, now, *id),
            if first { Bytes::from_static(FIRST) } else { Bytes::new() },
        );
        if first {
            commit.put(key, Bytes::new());
        }
    }
    let past = keys::queue_sent_between(account, 0, now - DAY);
    for (key, _) in snapshot
        .scan(past, Limit::rows(CLEAN_ROWS), Order::Ascending)
        .await?
        .rows
    {
        commit.delete(key);
    }
    Ok(())
}

/// How many recipients an account sent to within a day, and how many of them for the first time.
async fn sent(snapshot: &dyn Snapshot, account: AccountId, now: i64) -> Result<(u64, u64), QueueError> {
    let mut range = keys::queue_sent_between(account, now - DAY, i64::MAX);
    let (mut all, mut first) = (0, 0);
    loop {
        let page = snapshot
            .scan(range.clone(), Limit::rows(COUNT_ROWS), Order::Ascending)
            .await?;
        all += page.rows.len() as u64;
        first += page.rows.iter().filter(|(_, value)| value.data == FIRST).count() as u64;
        match page.rest(&range) {
            Some(rest) => range = rest,
            None => return Ok((all, first)),
        }
    }
}
