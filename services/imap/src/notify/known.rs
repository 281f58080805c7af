//! What a session that is told of several mailboxes last knew of them, so that it sees what is new.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use mox_imap_proto::acl::Right;
use mox_imap_proto::mailbox::SEPARATOR;
use mox_proto::mail::v1::Mailbox;

use crate::names;
use crate::rights;

/// All mailboxes, as of a modification sequence.
#[derive(Default)]
pub(crate) struct Known {
    /// All changes of the account up to here are in it.
    pub modseq: u64,
    mailboxes: HashMap<Bytes, One>,
    /// Mailboxes by name, as clients see it.
    names: BTreeMap<Box<str>, Bytes>,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct One {
    /// As clients see it.
    pub name: Box<str>,
    pub uid_next: u32,
    pub unseen: u32,
    pub subscribed: bool,
    pub special_use: Vec<String>,
}

impl One {
    pub(crate) fn of(mailbox: &Mailbox) -> Self {
        Self {
            name: names::shown(&mailbox.name).into(),
            uid_next: mailbox.uid_next,
            unseen: mailbox.unseen,
            subscribed: mailbox.subscribed,
            special_use: mailbox.special_use.clone(),
        }
    }
}

/// RFC 5465 §5.4: without the right to look a mailbox up, it is as if it were not there.
pub(crate) fn is_visible(mailbox: &Mailbox) -> bool {
    mailbox.exists && rights::of(mailbox).has(Right::Lookup)
}

impl Known {
    /// All that exist. `modseq` is of before they were read: what changed meanwhile is seen again, and is no change then.
    pub(crate) fn new(modseq: u64, mailboxes: &[Mailbox]) -> Self {
        let mut known = Self {
            modseq,
            ..Self::default()
        };
        for mailbox in mailboxes.iter().filter(|m| is_visible(m)) {
            known.put(mailbox.id.clone(), One::of(mailbox));
        }
        known
    }

    #[cfg(test)]
    pub(crate) fn get(&self, id: &Bytes) -> Option<&One> {
        self.mailboxes.get(id)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&One> {
        self.mailboxes.get(self.names.get(name)?)
    }

    /// Sets a mailbox; answers what it was.
    pub(crate) fn put(&mut self, id: Bytes, one: One) -> Option<One> {
        let name = one.name.clone();
        let before = self.mailboxes.insert(id.clone(), one);
        if let Some(before) = before.as_ref().filter(|b| b.name != name) {
            self.forget_name(&before.name.clone(), &id);
        }
        self.names.insert(name, id);
        before
    }

    pub(crate) fn remove(&mut self, id: &Bytes) -> Option<One> {
        let one = self.mailboxes.remove(id)?;
        self.forget_name(&one.name.clone(), id);
        Some(one)
    }

    /// Another mailbox may have the name by now.
    fn forget_name(&mut self, name: &str, id: &Bytes) {
        if self.names.get(name) == Some(id) {
            self.names.remove(name);
        }
    }

    /// Whether there is a mailbox below this name.
    pub(crate) fn has_children(&self, name: &str) -> bool {
        let start = format!("{name}{SEPARATOR}");
        let mut from = self
            .names
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        from.next().is_some_and(|(next, _)| next.starts_with(&start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(id: u8, name: &str) -> Mailbox {
        Mailbox {
            id: vec![id].into(),
            name: name.to_owned(),
            exists: true,
            rights: "lrswipkxtea".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn names_follow_their_mailboxes() {
        let mut known = Known::new(
            1,
            &[
                mailbox(1, "Inbox"),
                mailbox(2, "a"),
                mailbox(3, "a/b"),
                mailbox(4, "a.c"),
            ],
        );
        assert!(known.named("INBOX").is_some() && known.named("Inbox").is_none());
        assert!(known.has_children("a") && !known.has_children("a/b") && !known.has_children("a.c"));
        let was = known.put(vec![3].into(), One::of(&mailbox(3, "x")));
        assert_eq!(was.unwrap().name.as_ref(), "a/b");
        assert!(!known.has_children("a") && known.named("a/b").is_none());
        // Another takes over a name before its owner is seen to have left it.
        known.put(vec![2].into(), One::of(&mailbox(2, "x")));
        known.remove(&Bytes::from(vec![3]));
        assert!(known.named("x").is_some());
        assert!(known.get(&Bytes::from(vec![3])).is_none());
    }
}
