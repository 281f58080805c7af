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
/// Not written any more, and removed: recipients that accounts sent to of late.
const QUEUE_SENT: u8 = b'o';
/// Not written any more, and removed: recipients that accounts have sent to before.
const QUEUE_KNOWN: u8 = b'f';
/// What an account sent of late: `m`, account.
const QUEUE_METER: u8 = b'm';
/// Entries by what lists are filtered and sorted by: `i`, field, order, value, 0, time, id.
const QUEUE_INDEX: u8 = b'i';
/// Retired messages: `r`, id.
const QUEUE_RETIRED: u8 = b'r';
/// The same as of entries, of retired messages: `j`, field, order, value, 0, time, id.
const QUEUE_RETIRED_INDEX: u8 = b'j';
/// Retired messages in the order that they are removed: `k`, time, id.
const QUEUE_RETIRED_UNTIL: u8 = b'k';
/// Retired messages of accounts: `c`, account, id.
const QUEUE_RETIRED_OF: u8 = b'c';
/// Rules by which messages are held: this one key.
const QUEUE_HOLD_RULES: u8 = b'h';
/// Addresses that accounts do not send to: `u`, account, base address.
const QUEUE_SUPPRESSIONS: u8 = b'u';
/// Entries and retired messages by what is in their sender's address to tell them apart, and by their Message-ID in
/// brackets: `w`, account, fromid, 0, id.
const QUEUE_FROMIDS: u8 = b'w';

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

/// How much an account sent of late, [`mox_proto::record::v1::SentMeter`].
#[must_use]
pub fn queue_meter(account: AccountId) -> Bytes {
    queue(QUEUE_METER).raw(account.as_bytes()).build()
}

/// What earlier versions kept of what an account sent.
#[must_use]
pub fn queue_sent_rows(account: AccountId) -> [Range<Bytes>; 2] {
    [QUEUE_SENT, QUEUE_KNOWN].map(|table| queue(table).raw(account.as_bytes()).prefix())
}

/// What is kept of what an account sent, by this and earlier versions, and of whom it does not send to.
#[must_use]
pub fn queue_history(account: AccountId) -> [Range<Bytes>; 5] {
    [QUEUE_SENT, QUEUE_KNOWN, QUEUE_METER, QUEUE_SUPPRESSIONS, QUEUE_FROMIDS]
        .map(|table| queue(table).raw(account.as_bytes()).prefix())
}

/// What lists are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueList {
    /// Entries.
    Entries,
    /// Retired messages.
    Retired,
}

/// What lists are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOrder {
    /// When an entry is tried next; when something last happened to a retired message.
    Activity,
    /// When it was submitted.
    Queued,
}

/// An index of a list: all that have a value in a field, in an order. Values have no NUL.
fn queue_index_of(list: QueueList, field: u8, order: QueueOrder, value: &str) -> Builder {
    let table = match list {
        QueueList::Entries => QUEUE_INDEX,
        QueueList::Retired => QUEUE_RETIRED_INDEX,
    };
    let order = match order {
        QueueOrder::Activity => b'a',
        QueueOrder::Queued => b'q',
    };
    queue(table).u8(field).u8(order).raw(value.as_bytes()).u8(0)
}

/// One place in an index of a list.
#[must_use]
pub fn queue_index(list: QueueList, field: u8, order: QueueOrder, value: &str, (time, id): (i64, u64)) -> Bytes {
    queue_index_of(list, field, order, value)
        .u64(millis(time))
        .u64(id)
        .build()
}

/// The places in an index of a list from one to before another.
#[must_use]
pub fn queue_index_range(
    list: QueueList,
    field: u8,
    order: QueueOrder,
    value: &str,
    places: Range<(i64, u64)>,
) -> Range<Bytes> {
    queue_index(list, field, order, value, places.start)..queue_index(list, field, order, value, places.end)
}

/// The time and the id at the end of a key of an index.
#[must_use]
pub fn parse_queue_index(key: &[u8]) -> Option<(i64, u64)> {
    parse_queue_due(key)
}

/// A retired message, [`mox_proto::queue::v1::Retired`].
#[must_use]
pub fn queue_retired(id: u64) -> Bytes {
    queue(QUEUE_RETIRED).u64(id).build()
}

/// All retired messages.
#[must_use]
pub fn queue_retired_all() -> Range<Bytes> {
    queue(QUEUE_RETIRED).prefix()
}

/// When a retired message is removed.
#[must_use]
pub fn queue_retired_until(time: i64, id: u64) -> Bytes {
    queue(QUEUE_RETIRED_UNTIL).u64(millis(time)).u64(id).build()
}

/// The retired messages that are to be removed at a time, or before.
#[must_use]
pub fn queue_retired_over(time: i64) -> Range<Bytes> {
    queue(QUEUE_RETIRED_UNTIL).build()..queue(QUEUE_RETIRED_UNTIL).u64(millis(time).saturating_add(1)).build()
}

/// The id in a key of [`queue_retired_until`].
#[must_use]
pub fn parse_queue_retired_until(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(10..)?.try_into().ok()?))
}

/// A retired message of an account.
#[must_use]
pub fn queue_retired_of(account: AccountId, id: u64) -> Bytes {
    queue(QUEUE_RETIRED_OF).raw(account.as_bytes()).u64(id).build()
}

/// All retired messages of an account. Their keys parse as those of [`queue_of_account`].
#[must_use]
pub fn queue_retired_of_all(account: AccountId) -> Range<Bytes> {
    queue(QUEUE_RETIRED_OF).raw(account.as_bytes()).prefix()
}

/// The rules by which messages are held, [`mox_proto::record::v1::HoldRules`].
#[must_use]
pub fn queue_hold_rules() -> Bytes {
    queue(QUEUE_HOLD_RULES).build()
}

/// An address that an account does not send to, [`mox_proto::queue::v1::Suppression`].
#[must_use]
pub fn queue_suppression(account: AccountId, base: &str) -> Bytes {
    queue(QUEUE_SUPPRESSIONS)
        .raw(account.as_bytes())
        .raw(base.as_bytes())
        .build()
}

/// All addresses that an account does not send to.
#[must_use]
pub fn queue_suppressions(account: AccountId) -> Range<Bytes> {
    queue(QUEUE_SUPPRESSIONS).raw(account.as_bytes()).prefix()
}

/// All addresses that any account does not send to.
#[must_use]
pub fn queue_suppressions_all() -> Range<Bytes> {
    queue(QUEUE_SUPPRESSIONS).prefix()
}

/// An entry, or a retired message, by its fromid, or its Message-ID in brackets.
#[must_use]
pub fn queue_fromid(account: AccountId, fromid: &str, id: u64) -> Bytes {
    queue(QUEUE_FROMIDS)
        .raw(account.as_bytes())
        .raw(fromid.as_bytes())
        .u8(0)
        .u64(id)
        .build()
}

/// All entries and retired messages with a fromid.
#[must_use]
pub fn queue_fromid_all(account: AccountId, fromid: &str) -> Range<Bytes> {
    queue(QUEUE_FROMIDS)
        .raw(account.as_bytes())
        .raw(fromid.as_bytes())
        .u8(0)
        .prefix()
}

/// The id in a key of [`queue_fromid`].
#[must_use]
pub fn parse_queue_fromid(key: &[u8]) -> Option<u64> {
    let (_, id) = key.split_last_chunk::<8>()?;
    Some(u64::from_be_bytes(*id))
}
