//! Keys of webhooks.

use super::*;

/// Webhooks in the queue: `e`, id.
const HOOK_ENTRIES: u8 = b'e';
/// What is due of each source: `d`, account, direction, time, id.
const HOOK_DUE: u8 = b'd';
/// The webhook that is in the queue for a message that was sent: `m`, queue id.
const HOOK_OF_MESSAGE: u8 = b'm';
/// The next id: this one key.
const HOOK_NEXT: u8 = b'n';
/// Webhooks that left the queue: `r`, id.
const HOOK_RETIRED: u8 = b'r';
/// Until when they are kept: `k`, time, id.
const HOOK_RETIRED_UNTIL: u8 = b'k';
/// Those of accounts: `c`, account, id.
const HOOK_RETIRED_OF: u8 = b'c';

/// What is called in turn: one URL of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookSource {
    /// Whose.
    pub account: AccountId,
    /// For messages that arrive, or for those that were sent.
    pub incoming: bool,
}

fn hook(table: u8) -> Builder {
    Builder::new(HOOK).u8(table)
}

fn millis(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// A webhook in the queue, [`mox_proto::hook::v1::HookRecord`].
#[must_use]
pub fn hook_entry(id: u64) -> Bytes {
    hook(HOOK_ENTRIES).u64(id).build()
}

/// All webhooks in the queue.
#[must_use]
pub fn hook_entries() -> Range<Bytes> {
    hook(HOOK_ENTRIES).prefix()
}

/// A webhook in the order that those of its source become due.
#[must_use]
pub fn hook_due(source: HookSource, due: i64, id: u64) -> Bytes {
    hook(HOOK_DUE)
        .raw(source.account.as_bytes())
        .u8(source.incoming.into())
        .u64(millis(due))
        .u64(id)
        .build()
}

/// All webhooks in the queue, by source.
#[must_use]
pub fn hook_due_all() -> Range<Bytes> {
    hook(HOOK_DUE).prefix()
}

/// Those of an account.
#[must_use]
pub fn hook_due_of_account(account: AccountId) -> Range<Bytes> {
    hook(HOOK_DUE).raw(account.as_bytes()).prefix()
}

/// Those of a source.
#[must_use]
pub fn hook_due_of(source: HookSource) -> Range<Bytes> {
    hook(HOOK_DUE)
        .raw(source.account.as_bytes())
        .u8(source.incoming.into())
        .prefix()
}

/// The source, the time and the webhook in a key of [`hook_due`].
#[must_use]
pub fn parse_hook_due(key: &[u8]) -> Option<(HookSource, i64, u64)> {
    let (account, rest) = key.get(2..)?.split_at_checked(16)?;
    let (incoming, rest) = rest.split_first()?;
    let (due, id) = rest.split_first_chunk::<8>()?;
    let source = HookSource {
        account: AccountId::try_from(account).ok()?,
        incoming: *incoming != 0,
    };
    let due = i64::try_from(u64::from_be_bytes(*due)).ok()?;
    Some((source, due, u64::from_be_bytes(id.try_into().ok()?)))
}

/// The webhook that is in the queue for a message that was sent: a number of 8 bytes.
#[must_use]
pub fn hook_of_message(queue_id: u64) -> Bytes {
    hook(HOOK_OF_MESSAGE).u64(queue_id).build()
}

/// All of them.
#[must_use]
pub fn hooks_of_messages() -> Range<Bytes> {
    hook(HOOK_OF_MESSAGE).prefix()
}

/// The next id of a webhook: a number of 8 bytes.
#[must_use]
pub fn hook_next() -> Bytes {
    hook(HOOK_NEXT).build()
}

/// A webhook that left the queue, [`mox_proto::hook::v1::RetiredHook`].
#[must_use]
pub fn hook_retired(id: u64) -> Bytes {
    hook(HOOK_RETIRED).u64(id).build()
}

/// All webhooks that left the queue.
#[must_use]
pub fn hooks_retired() -> Range<Bytes> {
    hook(HOOK_RETIRED).prefix()
}

/// Until when one is kept.
#[must_use]
pub fn hook_retired_until(time: i64, id: u64) -> Bytes {
    hook(HOOK_RETIRED_UNTIL).u64(millis(time)).u64(id).build()
}

/// Those that are not to be kept after a time.
#[must_use]
pub fn hooks_retired_over(time: i64) -> Range<Bytes> {
    hook(HOOK_RETIRED_UNTIL).build()..hook(HOOK_RETIRED_UNTIL).u64(millis(time).saturating_add(1)).build()
}

/// A webhook of an account that left the queue.
#[must_use]
pub fn hook_retired_of(account: AccountId, id: u64) -> Bytes {
    hook(HOOK_RETIRED_OF).raw(account.as_bytes()).u64(id).build()
}

/// Those of an account.
#[must_use]
pub fn hooks_retired_of(account: AccountId) -> Range<Bytes> {
    hook(HOOK_RETIRED_OF).raw(account.as_bytes()).prefix()
}

/// The webhook at the end of a key.
#[must_use]
pub fn parse_hook_id(key: &[u8]) -> Option<u64> {
    let (_, id) = key.get(2..)?.split_last_chunk::<8>()?;
    Some(u64::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_back_and_sort_by_time() {
        let account = AccountId::new();
        for incoming in [false, true] {
            let source = HookSource { account, incoming };
            let key = hook_due(source, 300, 7);
            assert_eq!(parse_hook_due(&key), Some((source, 300, 7)));
            assert_eq!(parse_hook_id(&key), Some(7));
            assert!(key > hook_due(source, 299, u64::MAX) && key < hook_due(source, 301, 0));
            assert!(hook_due_of(source).contains(&key) && hook_due_of_account(account).contains(&key));
            let other = HookSource {
                incoming: !incoming,
                ..source
            };
            assert!(hook_due_all().contains(&key) && !hook_due_of(other).contains(&key));
        }
        assert_eq!(parse_hook_id(&hook_entry(9)), Some(9));
        assert_eq!(parse_hook_id(&hook_retired_of(account, 9)), Some(9));
        assert!(hooks_retired_over(5).contains(&hook_retired_until(5, 1)));
        assert!(!hooks_retired_over(4).contains(&hook_retired_until(5, 1)));
        assert_eq!(parse_hook_due(b"hd"), None);
    }
}
