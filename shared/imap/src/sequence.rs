//! Sets of message numbers.
//!
//! A [`SequenceSet`] is what a client wrote, with `*` for the largest number and `$` for the saved search result. A
//! [`NumberSet`] is ascending ranges of known numbers: what a sequence set resolves to, and what responses carry.

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::limits;
use crate::write::put_number;

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A number from 1.
    Number(u32),
    /// `*`: the largest in use.
    Largest,
}

impl Bound {
    fn resolve(self, largest: u32) -> u32 {
        match self {
            Bound::Number(n) => n,
            Bound::Largest => largest,
        }
    }
}

/// RFC 9051 §9, sequence-set: as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceSet {
    /// `$`: the result that SEARCH saved (RFC 5182).
    Saved,
    /// Ranges with both ends, in any order; a single number is a range with equal ends.
    Ranges(Vec<(Bound, Bound)>),
}

impl SequenceSet {
    /// Parses a set.
    ///
    /// # Errors
    /// If there is none, or it has too many ranges.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        if c.take(b'$') {
            return Ok(Self::Saved);
        }
        let mut ranges = Vec::new();
        loop {
            if ranges.len() >= limits::SET_RANGES {
                return Err(c.limit("the sequence set has too many ranges"));
            }
            let first = bound(c)?;
            let last = if c.take(b':') { bound(c)? } else { first };
            ranges.push((first, last));
            if !c.take(b',') {
                return Ok(Self::Ranges(ranges));
            }
        }
    }

    /// Serializes the set.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self::Ranges(ranges) = self else {
            out.push(b'$');
            return;
        };
        for (i, &(first, last)) in ranges.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_bound(first, out);
            if first != last {
                out.push(b':');
                write_bound(last, out);
            }
        }
    }

    /// Whether `*` is in it: then it means something whatever there is.
    #[must_use]
    pub fn has_largest(&self) -> bool {
        let Self::Ranges(ranges) = self else { return false };
        ranges.iter().any(|(a, b)| [a, b].contains(&&Bound::Largest))
    }

    /// The numbers meant, with `largest` for `*`; `None` for `$`. Numbers above `largest` stay in the set.
    ///
    /// RFC 9051 §9: the ends of a range may come in any order, and `5:*` holds the largest number even if that is
    /// below 5.
    #[must_use]
    pub fn resolve(&self, largest: u32) -> Option<NumberSet> {
        let Self::Ranges(ranges) = self else { return None };
        let ranges = ranges.iter().map(|&(a, b)| {
            let (a, b) = (a.resolve(largest), b.resolve(largest));
            (a.min(b), a.max(b))
        });
        // 0 is no message: `*` of an empty mailbox.
        Some(NumberSet::from_ranges(
            ranges.map(|(a, b)| (a.max(1), b)).filter(|(a, b)| a <= b),
        ))
    }
}

fn bound(c: &mut Cursor<'_>) -> Result<Bound, ParseError> {
    if c.take(b'*') {
        Ok(Bound::Largest)
    } else {
        c.nz_number("a number or * of a sequence set").map(Bound::Number)
    }
}

fn write_bound(bound: Bound, out: &mut Vec<u8>) {
    match bound {
        Bound::Number(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Bound::Largest => out.push(b'*'),
    }
}

/// Numbers as ascending ranges that don't touch, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumberSet(Vec<(u32, u32)>);

impl NumberSet {
    /// Of ranges in any order, also overlapping ones. Each must have its lower end first.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all: Vec<_> = ranges.into_iter().collect();
        all.sort_unstable();
        let mut out = Self::default();
        for (first, last) in all {
            out.push_range(first, last);
        }
        out
    }

    /// Adds a number that is not below the last range's start.
    pub fn push(&mut self, n: u32) {
        self.push_range(n, n);
    }

    /// Adds a range that does not start below the last range's start.
    pub fn push_range(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether there is no number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(a, b)| u64::from(b - a) + 1).sum()
    }

    /// Whether `n` is in the set.
    #[must_use]
    pub fn contains(&self, n: u32) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= n);
        after > 0 && self.0[after - 1].1 >= n
    }

    /// The smallest.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|r| r.0)
    }

    /// The largest.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|r| r.1)
    }

    /// Every number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(a, b)| a..=b)
    }

    /// What both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let (mut i, mut j) = (0, 0);
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                out.push_range(first, last);
            }
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        out
    }

    /// The numbers at these positions in ascending order, from 0.
    #[must_use]
    pub fn slice(&self, positions: std::ops::Range<u64>) -> Self {
        let mut out = Self::default();
        let mut before = 0;
        for &(first, last) in &self.0 {
            let length = u64::from(last - first) + 1;
            let from = positions.start.max(before);
            let to = positions.end.min(before + length);
            if from < to {
                // Both lie within the range, so that they fit.
                let at = |position: u64| first + (position - before) as u32;
                out.push_range(at(from), at(to - 1));
            }
            before += length;
            if before >= positions.end {
                break;
            }
        }
        out
    }

    /// What either has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self.0.last(), other.0.first()) {
            (None, _) => other.clone(),
            (_, None) => self.clone(),
            _ => Self::from_ranges(self.0.iter().chain(&other.0).copied()),
        }
    }

    /// What this has and `other` has not.
    #[must_use]
    pub fn subtraction(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let mut others = other.0.as_slice();
        for &(first, last) in &self.0 {
            others = &others[others.partition_point(|o| o.1 < first)..];
            let mut from = Some(first);
            for &(a, b) in others.iter().take_while(|o| o.0 <= last) {
                if let Some(start) = from.filter(|start| *start < a) {
                    out.push_range(start, a - 1);
                }
                from = b.checked_add(1);
            }
            if let Some(start) = from.filter(|start| *start <= last) {
                out.push_range(start, last);
            }
        }
        out
    }

    /// Serializes the set: `1:3,5`.
    pub fn write(&self, out: &mut impl bytes::BufMut) {
        write_runs(self.0.iter().copied(), out);
    }
}

/// Numbers in the order given, as runs: RFC 4315 §3's sets in COPYUID pair up by position, so they are not sorted.
pub fn write_in_order(numbers: &[u32], out: &mut impl bytes::BufMut) {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    write_runs(runs.filter_map(|run| Some((*run.first()?, *run.last()?))), out);
}

fn write_runs(runs: impl Iterator<Item = (u32, u32)>, out: &mut impl bytes::BufMut) {
    for (i, (first, last)) in runs.enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        put_number(out, u64::from(first));
        if last != first {
            out.put_u8(b':');
            put_number(out, u64::from(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Names;

    fn parse(s: &str) -> Result<SequenceSet, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let set = SequenceSet::parse(&mut c)?;
        c.end()?;
        Ok(set)
    }

    fn text(set: &NumberSet) -> String {
        let mut out = Vec::new();
        set.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sets_resolve_against_the_largest_number() {
        for (given, largest, want) in [
            ("1:*", 10, "1:10"),
            ("*", 10, "10"),
            ("*:4", 10, "4:10"),
            ("20:*", 10, "10:20"),
            ("5,3,4,1", 10, "1,3:5"),
            ("2:4,3:7", 10, "2:7"),
            ("4294967295:*", 10, "10:4294967295"),
            ("1:*", 0, "1"),
            ("*", 0, ""),
        ] {
            assert_eq!(text(&parse(given).unwrap().resolve(largest).unwrap()), want, "{given}");
        }
        assert_eq!(parse("$").unwrap().resolve(1), None);
        for bad in ["", "0", "1,", ",1", "1:", ":1", "a", "1:2:3", "$,1", "4294967296"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn runs_keep_their_order() {
        let mut out = Vec::new();
        write_in_order(&[5, 6, 7, 2, 9, 8, 9], &mut out);
        assert_eq!(out, b"5:7,2,9,8:9");
    }

    proptest! {
        #[test]
        fn number_sets_are_sets(a in proptest::collection::vec((0u32..60, 0u32..8), 0..10), b in proptest::collection::vec((0u32..60, 0u32..8), 0..10)) {
            let make = |v: &[(u32, u32)]| NumberSet::from_ranges(v.iter().map(|&(f, n)| (f, f + n)));
            let model = |v: &[(u32, u32)]| v.iter().flat_map(|&(f, n)| f..=f + n).collect::<BTreeSet<_>>();
            let (x, y) = (make(&a), make(&b));
            prop_assert_eq!(x.iter().collect::<BTreeSet<_>>(), model(&a));
            prop_assert_eq!(x.count(), model(&a).len() as u64);
            prop_assert!(x.ranges().windows(2).all(|w| w[0].1 + 1 < w[1].0));
            for n in 0..70 {
                prop_assert_eq!(x.contains(n), model(&a).contains(&n));
            }
            let both: BTreeSet<_> = model(&a).intersection(&model(&b)).copied().collect();
            prop_assert_eq!(x.intersection(&y).iter().collect::<BTreeSet<_>>(), both);
            let all: Vec<u32> = x.iter().collect();
            for (from, to) in [(0, all.len()), (all.len() / 3, all.len() / 2), (all.len() / 2, all.len())] {
                let part = x.slice(from as u64..to as u64);
                prop_assert_eq!(part.iter().collect::<Vec<_>>(), all[from..to].to_vec());
            }
            prop_assert!(x.slice(1000..2000).is_empty());
            let either: BTreeSet<_> = model(&a).union(&model(&b)).copied().collect();
            prop_assert_eq!(x.union(&y), NumberSet::from_ranges(either.into_iter().map(|n| (n, n))));
            let left: BTreeSet<_> = model(&a).difference(&model(&b)).copied().collect();
            prop_assert_eq!(x.subtraction(&y), NumberSet::from_ranges(left.into_iter().map(|n| (n, n))));
        }
    }
}
