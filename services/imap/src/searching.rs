//! What a client searches for, as the store takes it.

use bytes::Bytes;
use mox_imap_proto::datetime::Date;
use mox_imap_proto::search::SearchKey;
use mox_imap_proto::{NumberSet, SequenceSet};
use mox_proto::mail::v1::search_key::{All, Day, Header, Key, List, Modseq, Uids};
use mox_proto::mail::v1::{SearchKey as StoreKey, UidRange};

use crate::commands::uid_required;
use crate::names;
use crate::reply::Reply;
use crate::selected::{Selected, ranges};

/// The key as the store takes it: numbers become UIDs, and what is never true or always is said so.
pub(crate) fn translate(key: &SearchKey, selected: &Selected) -> Result<StoreKey, Reply> {
    let key = match key {
        SearchKey::All | SearchKey::Old => Key::All(All {}),
        // No message is \Recent.
        SearchKey::New | SearchKey::Recent => nothing(),
        SearchKey::Numbers(set) => {
            // RFC 9586 §3.4: the saved result is no sequence number.
            if selected.enabled.uidonly && *set != SequenceSet::Saved {
                return Err(uid_required());
            }
            let numbers = selected.resolve(set, false);
            Key::Uids(Uids {
                ranges: ranges(&selected.view.uids_of(&numbers)),
            })
        }
        SearchKey::Uids(set) => {
            let uids = selected.resolve(set, true);
            Key::Uids(Uids { ranges: ranges(&uids) })
        }
        SearchKey::Flag(flag) => match names::bit(flag) {
            Some(bit) => Key::Flag(bit),
            None => Key::Keyword(flag.as_str().to_ascii_lowercase()),
        },
        SearchKey::Header(name, value) => Key::Header(Header {
            name: name.clone(),
            value: value.clone(),
        }),
        SearchKey::Body(text) => Key::Body(text.clone()),
        SearchKey::Text(text) => Key::Text(text.clone()),
        SearchKey::Before(date) => Key::Before(day(date)),
        SearchKey::On(date) => Key::On(day(date)),
        SearchKey::Since(date) => Key::Since(day(date)),
        SearchKey::SentBefore(date) => Key::SentBefore(day(date)),
        SearchKey::SentOn(date) => Key::SentOn(day(date)),
        SearchKey::SentSince(date) => Key::SentSince(day(date)),
        SearchKey::Larger(n) => Key::Larger(*n),
        SearchKey::Smaller(n) => Key::Smaller(*n),
        SearchKey::Older(seconds) => Key::Older((*seconds).into()),
        SearchKey::Younger(seconds) => Key::Younger((*seconds).into()),
        SearchKey::ModSeq(at_least) => Key::Modseq(Modseq { at_least: *at_least }),
        SearchKey::SavedBefore(date) => Key::SavedBefore(day(date)),
        SearchKey::SavedOn(date) => Key::SavedOn(day(date)),
        SearchKey::SavedSince(date) => Key::SavedSince(day(date)),
        // RFC 8514 §4.3: every mailbox keeps it.
        SearchKey::SaveDateSupported => Key::All(All {}),
        SearchKey::EmailId(id) => object_id(id, names::EMAIL_ID).map_or_else(nothing, Key::EmailId),
        SearchKey::ThreadId(id) => object_id(id, names::THREAD_ID).map_or_else(nothing, Key::ThreadId),
        SearchKey::UidAfter(uid) => uids(uid.saturating_add(1), u32::MAX),
        SearchKey::UidBefore(uid) => uids(1, *uid - 1),
        SearchKey::And(keys) => Key::And(List {
            keys: keys.iter().map(|k| translate(k, selected)).collect::<Result<_, _>>()?,
        }),
        SearchKey::Or(a, b) => Key::Or(List {
            keys: vec![translate(a, selected)?, translate(b, selected)?],
        }),
        SearchKey::Not(key) => Key::Not(Box::new(translate(key, selected)?)),
    };
    Ok(StoreKey { key: Some(key) })
}

fn nothing() -> Key {
    Key::Not(Box::new(StoreKey {
        key: Some(Key::All(All {})),
    }))
}

fn uids(first: u32, last: u32) -> Key {
    Key::Uids(Uids {
        ranges: Some(UidRange { first, last })
            .filter(|r| r.first <= r.last)
            .into_iter()
            .collect(),
    })
}

/// The octets of an identifier that we made.
fn object_id(id: &str, prefix: char) -> Option<Bytes> {
    let digits = id.strip_prefix(prefix)?.as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let lower = digits.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    if !lower || digits.is_empty() || digits.len() % 2 != 0 {
        return None;
    }
    digits.chunks(2).map(octet).collect()
}

/// Whether modification sequences are asked for: then the highest of what is found is told.
pub(crate) fn asks_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::And(keys) => keys.iter().any(asks_modseq),
        SearchKey::Or(a, b) => asks_modseq(a) || asks_modseq(b),
        SearchKey::Not(key) => asks_modseq(key),
        _ => false,
    }
}

/// Whether messages are asked for by their sequence numbers.
pub(crate) fn asks_numbers(key: &SearchKey) -> bool {
    match key {
        SearchKey::Numbers(_) => true,
        SearchKey::And(keys) => keys.iter().any(asks_numbers),
        SearchKey::Or(a, b) => asks_numbers(a) || asks_numbers(b),
        SearchKey::Not(key) => asks_numbers(key),
        _ => false,
    }
}

/// Only messages with these UIDs.
pub(crate) fn within(set: &NumberSet, key: StoreKey) -> StoreKey {
    let uids = StoreKey {
        key: Some(Key::Uids(Uids { ranges: ranges(set) })),
    };
    StoreKey {
        key: Some(Key::And(List { keys: vec![uids, key] })),
    }
}

fn day(date: &Date) -> Day {
    Day {
        year: date.year.into(),
        month: date.month.into(),
        day: date.day.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_octets() {
        assert_eq!(object_id("M00ff", 'M'), Some(Bytes::from_static(&[0, 255])));
        for bad in ["M", "T00", "M0", "M0g", "M0F", "m00", "M+1", ""] {
            assert_eq!(object_id(bad, 'M'), None, "{bad}");
        }
    }

    #[test]
    fn modification_sequences_are_found_where_they_are_asked_for() {
        let key = SearchKey::Or(
            Box::new(SearchKey::All),
            Box::new(SearchKey::Not(Box::new(SearchKey::ModSeq(1)))),
        );
        assert!(asks_modseq(&SearchKey::And(vec![SearchKey::All, key])));
        assert!(!asks_modseq(&SearchKey::Old));
    }
}
