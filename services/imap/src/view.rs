//! What a session believes to be in its mailbox: which sequence number is which UID.
//!
//! Numbers change only when the client is told, so each session has its own map. It is kept as runs of consecutive
//! UIDs; maps that are equal share their memory through [`Interner`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use mox_imap_proto::NumberSet;
use parking_lot::Mutex;

/// Consecutive UIDs: `uid` has the sequence number `number`, and `length - 1` others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    uid: u32,
    number: u32,
    length: u32,
}

impl Run {
    fn last_uid(&self) -> u32 {
        self.uid + (self.length - 1)
    }

    fn last_number(&self) -> u32 {
        self.number + (self.length - 1)
    }
}

/// Sequence numbers and their UIDs.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    runs: Arc<Vec<Run>>,
}

impl View {
    /// How many messages.
    pub(crate) fn count(&self) -> u32 {
        self.runs.last().map_or(0, Run::last_number)
    }

    /// The highest UID, or 0.
    pub(crate) fn last_uid(&self) -> u32 {
        self.runs.last().map_or(0, Run::last_uid)
    }

    /// Adds a message with a UID above all others.
    pub(crate) fn push(&mut self, uid: u32) {
        let number = self.count() + 1;
        let runs = Arc::make_mut(&mut self.runs);
        match runs.last_mut() {
            Some(run) if run.last_uid().checked_add(1) == Some(uid) => run.length += 1,
            _ => runs.push(Run { uid, number, length: 1 }),
        }
    }

    /// Adds messages with UIDs above all others, both ends included; those that are not above are left out.
    pub(crate) fn push_range(&mut self, first: u32, last: u32) {
        let Some(above) = self.last_uid().checked_add(1) else {
            return;
        };
        let first = first.max(above);
        if first > last {
            return;
        }
        let number = self.count() + 1;
        let length = last - first + 1;
        let runs = Arc::make_mut(&mut self.runs);
        match runs.last_mut() {
            Some(run) if run.last_uid().checked_add(1) == Some(first) => run.length += length,
            _ => runs.push(Run {
                uid: first,
                number,
                length,
            }),
        }
    }

    /// The sequence number of a UID.
    pub(crate) fn number_of(&self, uid: u32) -> Option<u32> {
        let run = self.runs[..self.runs.partition_point(|r| r.uid <= uid)].last()?;
        (uid <= run.last_uid()).then(|| run.number + (uid - run.uid))
    }

    /// The UID of a sequence number.
    #[cfg(test)]
    pub(crate) fn uid_of(&self, number: u32) -> Option<u32> {
        let run = self.runs[..self.runs.partition_point(|r| r.number <= number)].last()?;
        (number <= run.last_number()).then(|| run.uid + (number - run.number))
    }

    /// The UIDs of sequence numbers; numbers that there are not are left out.
    pub(crate) fn uids_of(&self, numbers: &NumberSet) -> NumberSet {
        let mut out = NumberSet::default();
        for &(first, last) in numbers.ranges() {
            let start = self.runs.partition_point(|r| r.last_number() < first);
            for run in self.runs[start..].iter().take_while(|r| r.number <= last) {
                let from = run.uid + (first.max(run.number) - run.number);
                out.push_range(from, run.uid + (last.min(run.last_number()) - run.number));
            }
        }
        out
    }

    /// Those of the UIDs that are in the mailbox, as sequence numbers.
    pub(crate) fn numbers_of(&self, uids: &NumberSet) -> NumberSet {
        let mut out = NumberSet::default();
        for &(first, last) in uids.ranges() {
            let start = self.runs.partition_point(|r| r.last_uid() < first);
            for run in self.runs[start..].iter().take_while(|r| r.uid <= last) {
                let from = run.number + (first.max(run.uid) - run.uid);
                out.push_range(from, run.number + (last.min(run.last_uid()) - run.uid));
            }
        }
        out
    }

    /// Those of the UIDs that are in the mailbox.
    pub(crate) fn known(&self, uids: &NumberSet) -> NumberSet {
        self.uids_of(&self.numbers_of(uids))
    }

    /// Removes messages. `removed` is told each one's sequence number as EXPUNGE tells it: those before it are gone
    /// already.
    pub(crate) fn remove(&mut self, uids: &NumberSet, mut removed: impl FnMut(u32)) {
        let gone = self.numbers_of(uids);
        if gone.is_empty() {
            return;
        }
        for (before, number) in (0u32..).zip(gone.iter()) {
            removed(number - before);
        }
        let uids = self.uids_of(&gone);
        let mut left = Self::default();
        let mut ranges = uids.ranges().iter().copied().peekable();
        for run in self.runs.iter() {
            let mut from = run.uid;
            // Ranges of known UIDs don't reach over the end of a run of them unless the runs touch, which they don't.
            while let Some(&(first, last)) = ranges.peek().filter(|r| r.0 <= run.last_uid()) {
                left.push_run(from, first);
                from = last.saturating_add(1);
                ranges.next();
            }
            left.push_run(from, run.last_uid().saturating_add(1));
        }
        *self = left;
    }

    /// Adds the UIDs from `uid` to before `end`.
    fn push_run(&mut self, uid: u32, end: u32) {
        if uid < end {
            let number = self.count() + 1;
            Arc::make_mut(&mut self.runs).push(Run {
                uid,
                number,
                length: end - uid,
            });
        }
    }

    /// For looking up many UIDs in ascending order.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk {
            runs: &self.runs,
            at: 0,
        }
    }

    /// Every UID.
    pub(crate) fn uids(&self) -> NumberSet {
        NumberSet::from_ranges(self.runs.iter().map(|r| (r.uid, r.last_uid())))
    }
}

/// See [`View::walk`].
pub(crate) struct Walk<'a> {
    runs: &'a [Run],
    at: usize,
}

impl Walk<'_> {
    /// The sequence number of `uid`, which is above the one asked for before.
    #[inline]
    pub(crate) fn number_of(&mut self, uid: u32) -> Option<u32> {
        loop {
            let run = self.runs.get(self.at)?;
            if uid < run.uid {
                return None;
            }
            if uid - run.uid < run.length {
                return Some(run.number + (uid - run.uid));
            }
            self.at += 1;
        }
    }
}

/// Runs from which on sharing them is worth a comparison.
const SHARED_RUNS: usize = 64;

/// Shares the memory of maps that are equal, as those of sessions on the same mailbox mostly are.
#[derive(Debug, Default)]
pub(crate) struct Interner(Mutex<HashMap<Bytes, Weak<Vec<Run>>>>);

impl Interner {
    /// Makes `view`, of this mailbox, share memory with an equal one.
    pub(crate) fn share(&self, mailbox: &Bytes, view: &mut View) {
        if view.runs.len() < SHARED_RUNS {
            return;
        }
        let mut known = self.0.lock();
        match known.get(mailbox).and_then(Weak::upgrade) {
            Some(other) if Arc::ptr_eq(&other, &view.runs) => {}
            Some(other) if *other == *view.runs => view.runs = other,
            _ => {
                known.retain(|_, runs| runs.strong_count() > 0);
                known.insert(mailbox.clone(), Arc::downgrade(&view.runs));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(uids: &[u32]) -> View {
        let mut view = View::default();
        for &uid in uids {
            view.push(uid);
        }
        view
    }

    fn set(uids: &[u32]) -> NumberSet {
        NumberSet::from_ranges(uids.iter().map(|&n| (n, n)))
    }

    #[test]
    fn an_expunge_moves_what_follows() {
        let mut v = view(&[2, 3, 4, 7, 9]);
        let mut told = Vec::new();
        v.remove(&set(&[3, 4, 5, 9]), |n| told.push(n));
        assert_eq!(told, [2, 2, 3]);
        assert_eq!(v.uids().iter().collect::<Vec<_>>(), [2, 7]);
        assert_eq!((v.number_of(7), v.number_of(9), v.uid_of(2)), (Some(2), None, Some(7)));
    }

    #[test]
    fn ranges_are_added_at_the_end() {
        let mut v = View::default();
        for (first, last) in [(2, 4), (5, 5), (5, 6), (9, 9), (3, 8)] {
            v.push_range(first, last);
        }
        assert_eq!(v.uids().iter().collect::<Vec<_>>(), [2, 3, 4, 5, 6, 9]);
        assert_eq!((v.runs.len(), v.count()), (2, 6));
        v.push_range(u32::MAX, u32::MAX);
        v.push_range(u32::MAX, u32::MAX);
        assert_eq!((v.last_uid(), v.count()), (u32::MAX, 7));
    }

    #[test]
    fn equal_views_share() {
        let interner = Interner::default();
        let uids: Vec<u32> = (1..400).step_by(2).collect();
        let (mut a, mut b) = (view(&uids), view(&uids));
        let mailbox = Bytes::from_static(b"m");
        interner.share(&mailbox, &mut a);
        interner.share(&mailbox, &mut b);
        assert!(Arc::ptr_eq(&a.runs, &b.runs));
        b.push(1000);
        assert_eq!((a.count(), b.count()), (200, 201));
    }

    proptest! {
        #[test]
        fn a_view_is_a_list(uids in proptest::collection::btree_set(1u32..80, 0..50), gone in proptest::collection::btree_set(1u32..80, 0..30)) {
            let mut list: Vec<u32> = uids.into_iter().collect();
            let mut v = view(&list);
            let gone: Vec<u32> = gone.into_iter().collect();
            let check = |v: &View, list: &[u32]| {
                assert_eq!(v.count() as usize, list.len());
                assert_eq!(v.last_uid(), list.last().copied().unwrap_or(0));
                let mut walk = v.walk();
                for uid in 1..90 {
                    let want = list.iter().position(|&u| u == uid).map(|i| i as u32 + 1);
                    assert_eq!(v.number_of(uid), want);
                    assert_eq!(walk.number_of(uid), want);
                    assert_eq!(v.uid_of(uid), list.get(uid as usize - 1).copied());
                }
                let all = NumberSet::from_ranges([(1, 100)]);
                assert_eq!(v.known(&all).iter().collect::<Vec<_>>(), list);
                assert_eq!(v.numbers_of(&all).count(), list.len() as u64);
            };
            check(&v, &list);
            let mut model = list.clone();
            v.remove(&set(&gone), |number| {
                model.remove(number as usize - 1);
            });
            list.retain(|u| !gone.contains(u));
            prop_assert_eq!(&model, &list);
            check(&v, &list);
        }
    }
}
