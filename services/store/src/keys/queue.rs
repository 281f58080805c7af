//! Keys of the outgoing queue.

use super::*;

/// Entries: `e`, id.
const QUEUE_ENTRIES: u8 = b'e';
/// States of entries: `s`, id.
const QUEUE_STATES: u8 = b's';
/// What is due at each recipient domain: `d`, domain, 0, time, id.
const QUEUE_DUE: u8 = b'd';
/// When to look at which recipient domain: `t`, time, domain.
const QUEUE_TICKETS: u8 = b't';
/// Entries of accounts: `a`, account, id.
const QUEUE_ACCOUNTS: u8 = b'a';
/// The next id: this one key.
const QUEUE_NEXT: u8 = b'n';
/// Recipients that accounts sent to of late: `o`, account, time, id.
const QUEUE_SENT: u8 = b'o';
/// Recipients that accounts have sent to before: `f`, account, address.
const QUEUE_KNOWN: u8 = b'f';
/// Makes those who count what an account sent wait for each other: `m`, account.
const QUEUE_METER: u8 = b'm';

fn queue(table: u8) -> Builder {
    Builder::new(QUEUE).u8(table)
}

/// Milliseconds since 1970, as they sort.
fn millis(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// A queue entry, [`mox_proto::queue::v1::Entry`].
#[must_use]
pub fn queue_entry(id: u64) -> Bytes {
    queue(QUEUE_ENTRIES).u64(id).build()
}

/// All queue entries.
#[must_use]
pub fn queue_entries() -> Range<Bytes> {
    queue(QUEUE_ENTRIES).prefix()
}

/// The state of a queue entry, [`mox_proto::record::v1::QueueState`].
#[must_use]
pub fn queue_state(id: u64) -> Bytes {
    queue(QUEUE_STATES).u64(id).build()
}

/// All states of queue entries.
#[must_use]
pub fn queue_states() -> Range<Bytes> {
    queue(QUEUE_STATES).prefix()
}

/// An entry in the order that those of its recipient domain become due.
#[must_use]
pub fn queue_due(domain: &str, due: i64, id: u64) -> Bytes {
    queue(QUEUE_DUE)
        .raw(domain.as_bytes())
        .u8(0)
        .u64(millis(due))
        .u64(id)
        .build()
}

/// All entries of a recipient domain in the order that they become due.
#[must_use]
pub fn queue_due_all(domain: &str) -> Range<Bytes> {
    queue(QUEUE_DUE).raw(domain.as_bytes()).u8(0).prefix()
}

/// The time and the entry in a key of [`queue_due`].
#[must_use]
pub fn parse_queue_due(key: &[u8]) -> Option<(i64, u64)> {
    let (_, numbers) = key.get(2..)?.split_last_chunk::<16>()?;
    let (due, id) = numbers.split_at(8);
    let due = u64::from_be_bytes(due.try_into().ok()?);
    Some((i64::try_from(due).ok()?, u64::from_be_bytes(id.try_into().ok()?)))
}

/// When to look at a recipient domain.
#[must_use]
pub fn queue_ticket(time: i64, domain: &str) -> Bytes {
    queue(QUEUE_TICKETS).u64(millis(time)).raw(domain.as_bytes()).build()
}

/// All tickets from one time on, to another and with it.
#[must_use]
pub fn queue_tickets(from: i64, to: i64) -> Range<Bytes> {
    queue(QUEUE_TICKETS).u64(millis(from)).build()..queue(QUEUE_TICKETS).u64(millis(to).saturating_add(1)).build()
}

/// The time and the domain in a key of [`queue_ticket`].
#[must_use]
pub fn parse_queue_ticket(key: &[u8]) -> Option<(i64, &str)> {
    let (time, domain) = key.get(2..)?.split_first_chunk::<8>()?;
    Some((
        i64::try_from(u64::from_be_bytes(*time)).ok()?,
        std::str::from_utf8(domain).ok()?,
    ))
}

/// An entry of an account.
#[must_use]
pub fn queue_of_account(account: AccountId, id: u64) -> Bytes {
    queue(QUEUE_ACCOUNTS).raw(account.as_bytes()).u64(id).build()
}

/// All entries of an account.
#[must_use]
pub fn queue_of_account_all(account: AccountId) -> Range<Bytes> {
    queue(QUEUE_ACCOUNTS).raw(account.as_bytes()).prefix()
}

/// The entry in a key of [`queue_of_account`].
#[must_use]
pub fn parse_queue_of_account(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(18..)?.try_into().ok()?))
}

/// The next id of an entry: a number of 8 bytes.
#[must_use]
pub fn queue_next() -> Bytes {
    queue(QUEUE_NEXT).build()
}

/// A recipient that an account sent to; the value is 1 if it was for the first time.
#[must_use]
pub fn queue_sent(account: AccountId, time: i64, id: u64) -> Bytes {
    queue(QUEUE_SENT)
        .raw(account.as_bytes())
        .u64(millis(time))
        .u64(id)
        .build()
}

/// All recipients that an account sent to, from one time on to before another.
#[must_use]
pub fn queue_sent_between(account: AccountId, from: i64, to: i64) -> Range<Bytes> {
    let at = |time| queue(QUEUE_SENT).raw(account.as_bytes()).u64(millis(time)).build();
    at(from)..at(to)
}

/// A recipient that an account has sent to before.
#[must_use]
pub fn queue_known(account: AccountId, address: &str) -> Bytes {
    queue(QUEUE_KNOWN)
        .raw(account.as_bytes())
        .raw(address.as_bytes())
        .build()
}

/// What those who count what an account sent hold on to.
#[must_use]
pub fn queue_meter(account: AccountId) -> Bytes {
    queue(QUEUE_METER).raw(account.as_bytes()).build()
}

/// What is kept of what an account sent.
#[must_use]
pub fn queue_history(account: AccountId) -> [Range<Bytes>; 3] {
    [QUEUE_SENT, QUEUE_KNOWN, QUEUE_METER].map(|table| queue(table).raw(account.as_bytes()).prefix())
}
