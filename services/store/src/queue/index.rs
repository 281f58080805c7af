//! The indices that lists are filtered and sorted by.
//!
//! An entry, and a retired message, stands in one index for each of its fields and each order, so that a page of
//! whatever filter is read from where it begins, however much there is. What is in the indices follows from the record
//! alone.

use bytes::Bytes;
use mox_proto::queue::v1::{Entry, Retired};
use mox_types::{Address, Domain};

use crate::engine::Commit;
use crate::keys::{self, QueueList, QueueOrder};

/// Octets of a value in a key: addresses are shorter.
const VALUE_MAX: usize = 512;

/// Fields that there are indices of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Field {
    /// "1" for entries on hold, and for retired messages that were delivered; "0" for others. So these two indices
    /// together have everything.
    Mark = b'm',
    Account = b'a',
    From = b'f',
    FromDomain = b'g',
    To = b't',
    ToDomain = b'u',
    /// Only where one was set.
    Transport = b'p',
}

/// Both values of [`Field::Mark`].
pub(super) const MARKS: [&str; 2] = ["0", "1"];

/// The text of a mark.
pub(super) fn mark(on: bool) -> &'static str {
    MARKS[usize::from(on)]
}

/// What is in the indices of an entry, or a retired message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    list: QueueList,
    id: u64,
    activity: i64,
    queued: i64,
    values: Vec<(Field, String)>,
}

impl Listed {
    pub(super) fn entry(entry: &Entry) -> Self {
        Self::new(QueueList::Entries, entry, entry.next_attempt, entry.hold)
    }

    pub(super) fn retired(retired: &Retired) -> Self {
        let none = Entry::default();
        let entry = retired.entry.as_ref().unwrap_or(&none);
        Self::new(QueueList::Retired, entry, retired.last_activity, retired.success)
    }

    fn new(list: QueueList, entry: &Entry, activity: i64, marked: bool) -> Self {
        let (from, from_domain) = normal(&entry.mail_from);
        let (to, to_domain) = normal(&entry.recipient);
        let mut values = vec![
            (Field::Mark, mark(marked).to_owned()),
            (Field::Account, value(&entry.account)),
            (Field::From, from),
            (Field::FromDomain, from_domain),
            (Field::To, to),
            (Field::ToDomain, to_domain),
        ];
        if !entry.transport.is_empty() {
            values.push((Field::Transport, value(&entry.transport)));
        }
        Self {
            list,
            id: entry.id,
            activity,
            queued: entry.queued,
            values,
        }
    }

    /// Its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = Bytes> {
        self.values.iter().flat_map(|(field, value)| {
            [(QueueOrder::Activity, self.activity), (QueueOrder::Queued, self.queued)]
                .map(|(order, time)| keys::queue_index(self.list, *field as u8, order, value, (time, self.id)))
        })
    }

    /// Whether it has all of these values.
    pub(super) fn has_all(&self, wanted: &[(Field, String)]) -> bool {
        wanted.iter().all(|wanted| self.values.contains(wanted))
    }

    /// Enters it.
    pub(super) fn insert(&self, commit: &mut Commit) {
        for key in self.keys() {
            commit.put(key, Bytes::new());
        }
    }

    pub(super) fn remove(&self, commit: &mut Commit) {
        for key in self.keys() {
            commit.delete(key);
        }
    }

    /// From what it was to what it is.
    pub(super) fn replace(before: &Self, after: &Self, commit: &mut Commit) {
        if before == after {
            return;
        }
        let new: Vec<Bytes> = after.keys().collect();
        let old: Vec<Bytes> = before.keys().collect();
        for key in old.iter().filter(|key| !new.contains(key)) {
            commit.delete(key.clone());
        }
        for key in new.into_iter().filter(|key| !old.contains(key)) {
            commit.put(key, Bytes::new());
        }
    }
}

/// A value as it is in keys.
pub(super) fn value(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    text[..text.floor_char_boundary(VALUE_MAX)].to_owned()
}

/// An address and its domain as they are compared: without regard to case, with the domain in ASCII. The null
/// reverse-path is empty. What begins with "@" is a domain, with an empty address.
pub(super) fn normal(address: &str) -> (String, String) {
    if let Some(domain) = address.strip_prefix('@') {
        let domain = domain
            .parse::<Domain>()
            .map_or_else(|_| domain.to_lowercase(), |domain| domain.ascii().to_owned());
        return (String::new(), value(&domain));
    }
    match address.parse::<Address>() {
        Ok(address) => {
            let domain = address.domain.ascii();
            let localpart = address.localpart.as_str().to_lowercase();
            (value(&format!("{localpart}@{domain}")), value(domain))
        }
        Err(_) => {
            let lower = address.to_lowercase();
            let domain = lower.rsplit_once('@').map(|(_, domain)| value(domain));
            (value(&lower), domain.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_case_and_as_ascii() {
        assert_eq!(
            normal("Jö@Straße.Example"),
            ("jö@xn--strae-oqa.example".into(), "xn--strae-oqa.example".into())
        );
        assert_eq!(
            normal("@Straße.example"),
            (String::new(), "xn--strae-oqa.example".into())
        );
        assert_eq!(normal(""), (String::new(), String::new()));
        assert_eq!(normal("none"), ("none".into(), String::new()));
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = Entry {
            id: 1,
            recipient: "a@b.example".into(),
            next_attempt: 5,
            ..Entry::default()
        };
        let after = Entry {
            next_attempt: 6,
            ..before.clone()
        };
        let mut commit = Commit::new();
        Listed::replace(&Listed::entry(&before), &Listed::entry(&before), &mut commit);
        assert!(commit.operations.is_empty());
        Listed::replace(&Listed::entry(&before), &Listed::entry(&after), &mut commit);
        assert_eq!(
            commit.operations.len(),
            12,
            "one out and one in for six fields in one order"
        );
    }
}
