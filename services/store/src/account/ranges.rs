//! Sets of UIDs as ranges.

use mox_proto::mail::v1::UidRange;

/// Most ranges of a request: what fits into an IMAP command line.
pub const RANGES_MAX: usize = 200_000;

/// Ascending, without overlaps; ranges that touch are joined. 0 stands for the highest UID, as either end.
#[must_use]
pub fn normalize(ranges: &[UidRange], uid_next: u32) -> Vec<UidRange> {
    let highest = uid_next.saturating_sub(1);
    let end = |uid: u32| if uid == 0 { highest } else { uid };
    let mut sorted: Vec<UidRange> = ranges
        .iter()
        .map(|r| {
            let (a, b) = (end(r.first), end(r.last));
            // RFC 9051 §9, seq-range: the order of the ends does not matter.
            UidRange {
                first: a.min(b).max(1),
                last: a.max(b).min(highest),
            }
        })
        .filter(|r| r.first <= r.last)
        .collect();
    sorted.sort_unstable_by_key(|r| r.first);
    let mut out: Vec<UidRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match out.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => out.push(range),
        }
    }
    out
}

/// What is left of normalized ranges from a UID on.
#[must_use]
pub fn from(ranges: &[UidRange], uid: u32) -> Vec<UidRange> {
    ranges
        .iter()
        .filter(|r| r.last >= uid)
        .map(|r| UidRange {
            first: r.first.max(uid),
            last: r.last,
        })
        .collect()
}

/// Whether a UID is in normalized ranges.
#[must_use]
pub fn contains(ranges: &[UidRange], uid: u32) -> bool {
    let at = ranges.partition_point(|r| r.last < uid);
    ranges.get(at).is_some_and(|r| r.first <= uid)
}

/// What is in `ranges` and not in `others`, both normalized.
#[must_use]
pub fn subtract(ranges: &[UidRange], others: &[UidRange]) -> Vec<UidRange> {
    let mut out = Vec::new();
    let mut others = others.iter().peekable();
    for range in ranges {
        let mut first = u64::from(range.first);
        while let Some(other) = others.peek() {
            if first > u64::from(range.last) {
                break;
            }
            if u64::from(other.last) < first {
                others.next();
                continue;
            }
            if other.first > range.last {
                break;
            }
            if first < u64::from(other.first) {
                out.push(UidRange {
                    first: first as u32,
                    last: other.first - 1,
                });
            }
            first = u64::from(other.last) + 1;
        }
        if first <= u64::from(range.last) {
            out.push(UidRange {
                first: first as u32,
                last: range.last,
            });
        }
    }
    out
}

/// How many UIDs ranges span.
#[must_use]
pub fn span(ranges: &[UidRange]) -> u64 {
    ranges.iter().map(|r| u64::from(r.last - r.first) + 1).sum()
}

/// Collects ascending UIDs.
#[derive(Debug, Default, Clone)]
pub struct Collector(Vec<UidRange>);

impl Collector {
    /// Adds a UID, higher than those before.
    pub fn push(&mut self, uid: u32) {
        match self.0.last_mut() {
            Some(last) if uid == last.last.wrapping_add(1) => last.last = uid,
            _ => self.0.push(UidRange { first: uid, last: uid }),
        }
    }

    /// How many ranges there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges.
    #[must_use]
    pub fn into_ranges(self) -> Vec<UidRange> {
        self.0
    }
}

/// UIDs in any order, each once or more, as ranges.
#[must_use]
pub fn of(uids: impl IntoIterator<Item = u32>) -> Vec<UidRange> {
    let mut uids: Vec<u32> = uids.into_iter().collect();
    uids.sort_unstable();
    uids.dedup();
    let mut collector = Collector::default();
    for uid in uids {
        collector.push(uid);
    }
    collector.into_ranges()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[(u32, u32)]) -> Vec<UidRange> {
        list.iter()
            .map(|(first, last)| UidRange {
                first: *first,
                last: *last,
            })
            .collect()
    }

    #[test]
    fn ranges_are_put_in_order() {
        assert_eq!(
            normalize(&ranges(&[(5, 3), (1, 2), (9, 0)]), 8),
            ranges(&[(1, 5), (7, 7)])
        );
        assert_eq!(normalize(&ranges(&[(0, 0)]), 1), ranges(&[]));
        assert_eq!(normalize(&ranges(&[(1, u32::MAX)]), 4), ranges(&[(1, 3)]));
        assert_eq!(from(&ranges(&[(1, 5), (7, 9)]), 4), ranges(&[(4, 5), (7, 9)]));
    }

    proptest! {
        #[test]
        fn ranges_are_the_same_set(list in prop::collection::vec((1u32..50, 1u32..50), 0..20)) {
            let set: BTreeSet<u32> = list.iter().flat_map(|(a, b)| *a.min(b)..=*a.max(b)).collect();
            let normal = normalize(&ranges(&list), 100);
            for uid in 0..60 {
                prop_assert_eq!(contains(&normal, uid), set.contains(&uid));
            }
            prop_assert_eq!(of(set), normal);
        }

        #[test]
        fn subtracting_is_that_of_sets(a in prop::collection::btree_set(1u32..40, 0..30),
            b in prop::collection::btree_set(1u32..40, 0..30)) {
            let left = subtract(&of(a.clone()), &of(b.clone()));
            prop_assert_eq!(span(&left), a.difference(&b).count() as u64);
            prop_assert_eq!(left, of(a.difference(&b).copied()));
        }
    }
}
