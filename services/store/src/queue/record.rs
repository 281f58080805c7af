//! Reading and writing entries with all that is derived from them.

use bytes::Bytes;
use mox_proto::queue::v1::Entry;
use mox_proto::record::v1::QueueState;
use mox_types::{AccountId, Address, ContentId};
use prost::Message;

use super::QueueError;
use super::index::Listed;
use crate::content::{self, Owner};
use crate::engine::{Commit, Engine, Snapshot, Value};
use crate::keys;

/// An entry as it was read.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub entry: Entry,
    pub entry_version: u64,
    pub state: QueueState,
    pub state_version: u64,
}

fn pair(ids: &[u64]) -> Vec<Bytes> {
    ids.iter()
        .flat_map(|id| [keys::queue_entry(*id), keys::queue_state(*id)])
        .collect()
}

fn decode_pairs(values: &[Option<Value>]) -> Result<Vec<Option<Stored>>, QueueError> {
    values
        .chunks_exact(2)
        .map(|two| match two {
            [Some(entry), Some(state)] => Ok(Some(Stored {
                entry: decode_entry(&entry.data)?,
                entry_version: entry.version,
                state: QueueState::decode(state.data.clone()).map_err(|_| QueueError::Damaged("a queue state"))?,
                state_version: state.version,
            })),
            [None, None] => Ok(None),
            _ => Err(QueueError::Damaged("a queue entry without state, or the reverse")),
        })
        .collect()
}

/// An entry from its record.
pub(super) fn decode_entry(data: &Bytes) -> Result<Entry, QueueError> {
    Entry::decode(data.clone()).map_err(|_| QueueError::Damaged("a queue entry"))
}

/// Entries in the order asked; those that left the queue are `None`.
pub(super) async fn load(db: &dyn Engine, ids: &[u64]) -> Result<Vec<Option<Stored>>, QueueError> {
    decode_pairs(&db.get_many(pair(ids)).await?)
}

/// As [`load`], as of a moment.
pub(super) async fn load_at(snapshot: &dyn Snapshot, ids: &[u64]) -> Result<Vec<Option<Stored>>, QueueError> {
    decode_pairs(&snapshot.get_many(pair(ids)).await?)
}

/// The recipient's domain as the indices have it. What is no address has none; it is found by that, too.
pub(super) fn domain_of(entry: &Entry) -> String {
    entry
        .recipient
        .parse::<Address>()
        .map(|a| a.domain.ascii().to_owned())
        .unwrap_or_default()
}

pub(super) fn account_of(entry: &Entry) -> Result<AccountId, QueueError> {
    AccountId::try_from(&entry.account_id).map_err(|_| QueueError::Damaged("a queue entry's account"))
}

pub(super) fn content_of(entry: &Entry) -> Result<ContentId, QueueError> {
    ContentId::try_from(&entry.content_id).map_err(|_| QueueError::Damaged("a queue entry's content"))
}

/// Makes a domain be looked at no later than when an entry of it is due. Everything that makes an entry due later, or
/// sooner, goes through here.
pub(super) fn schedule(commit: &mut Commit, domain: &str, due: i64, id: u64) {
    commit.put(keys::queue_due(domain, due, id), Bytes::new());
    commit.put(keys::queue_ticket(due, domain), Bytes::new());
}

/// Adds an entry that was not there.
pub(super) fn insert(commit: &mut Commit, entry: &Entry) -> Result<(), QueueError> {
    let state = QueueState {
        due: entry.next_attempt,
        ..QueueState::default()
    };
    commit.require_absent(keys::queue_entry(entry.id));
    commit.put(keys::queue_entry(entry.id), entry.encode_to_vec());
    commit.put(keys::queue_state(entry.id), state.encode_to_vec());
    let account = account_of(entry)?;
    commit.put(keys::queue_of_account(account, entry.id), Bytes::new());
    enter_into_lists(commit, entry);
    if !entry.hold {
        schedule(commit, &domain_of(entry), state.due, entry.id);
    }
    Ok(())
}

/// The keys by which an entry is found in lists, and by what comes back for it.
pub(crate) fn lists(entry: &Entry) -> Vec<Bytes> {
    let mut keys: Vec<Bytes> = Listed::entry(entry).keys().collect();
    keys.extend(links(entry));
    keys
}

/// The keys by which an entry, and a retired message, is found by what comes back for it: its fromid, and its Message-ID.
pub(super) fn links(entry: &Entry) -> impl Iterator<Item = Bytes> {
    let id = link_of(&entry.message_id);
    let links = [Some(entry.fromid.clone()), id].into_iter().flatten();
    let account = account_of(entry).ok();
    let links = links.filter(|link| !link.is_empty());
    links.filter_map(move |link| Some(keys::queue_fromid(account?, &link, entry.id)))
}

/// A Message-ID as it is looked for: in brackets, which no fromid has, and without regard to case.
pub(super) fn link_of(message_id: &str) -> Option<String> {
    let id = message_id.trim_matches(['<', '>']).to_lowercase();
    let plain = !id.is_empty() && !id.contains('\0');
    plain.then(|| format!("<{id}>"))
}

/// Lets an entry be found in lists, and by what comes back for it.
pub(crate) fn enter_into_lists(commit: &mut Commit, entry: &Entry) {
    for key in lists(entry) {
        commit.put(key, Bytes::new());
    }
}

/// Changes an entry, when it is due, and its lease. Its account, recipient, fromid and Message-ID stay.
pub(super) fn update(commit: &mut Commit, stored: &Stored, entry: &Entry, state: &QueueState) {
    let id = entry.id;
    commit.require_at(keys::queue_entry(id), stored.entry_version);
    commit.require_at(keys::queue_state(id), stored.state_version);
    commit.put(keys::queue_entry(id), entry.encode_to_vec());
    if stored.state != *state {
        commit.put(keys::queue_state(id), state.encode_to_vec());
    }
    Listed::replace(&Listed::entry(&stored.entry), &Listed::entry(entry), commit);
    if (stored.entry.hold, stored.state.due) == (entry.hold, state.due) {
        return;
    }
    let domain = domain_of(entry);
    if !stored.entry.hold {
        commit.delete(keys::queue_due(&domain, stored.state.due, id));
    }
    if !entry.hold {
        schedule(commit, &domain, state.due, id);
    }
}

/// Changes when an entry is due, and its lease.
pub(super) fn update_state(commit: &mut Commit, stored: &Stored, state: &QueueState) {
    let id = stored.entry.id;
    let domain = domain_of(&stored.entry);
    commit.require_at(keys::queue_state(id), stored.state_version);
    commit.put(keys::queue_state(id), state.encode_to_vec());
    if !stored.entry.hold {
        commit.delete(keys::queue_due(&domain, stored.state.due, id));
        schedule(commit, &domain, state.due, id);
    }
}

/// Removes an entry with all that is derived from it, but for what leads to it from what comes back. Tickets stay, and are found to
/// be for nothing.
pub(super) fn remove(commit: &mut Commit, stored: &Stored, now: i64) -> Result<(), QueueError> {
    let entry = &stored.entry;
    commit.require_at(keys::queue_entry(entry.id), stored.entry_version);
    commit.require_at(keys::queue_state(entry.id), stored.state_version);
    commit.delete(keys::queue_entry(entry.id));
    commit.delete(keys::queue_state(entry.id));
    commit.delete(keys::queue_due(&domain_of(entry), stored.state.due, entry.id));
    commit.delete(keys::queue_of_account(account_of(entry)?, entry.id));
    Listed::entry(entry).remove(commit);
    content::release(commit, content_of(entry)?, &Owner::queue(entry.id), now);
    Ok(())
}
