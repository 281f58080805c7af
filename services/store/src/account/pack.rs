//! Rows as they travel: in columns, within the size of a page.

use std::collections::HashMap;

use mox_proto::mail::v1::{Column, KeywordSet, Rows};

use super::flags::KeywordTable;

/// Bytes that rows of one answer may take: a page of 1 MiB, with room for what else is in it.
pub const ROWS_BYTES: usize = 900 << 10;

/// Which columns were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// With keywords.
    pub flags: bool,
    /// Modification sequences.
    pub modseq: bool,
    /// Sizes.
    pub size: bool,
    /// INTERNALDATEs.
    pub received: bool,
}

impl Columns {
    /// Of bits of [`Column`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let has = |column: Column| bits & column as u32 != 0;
        Self {
            flags: has(Column::Flags),
            modseq: has(Column::Modseq),
            size: has(Column::Size),
            received: has(Column::Received),
        }
    }
}

/// Collects rows, ascending by UID.
pub struct Packer<'a> {
    columns: Columns,
    table: &'a KeywordTable,
    rows: Rows,
    sets: HashMap<Vec<u32>, u32>,
    any_keywords: bool,
    last_uid: u32,
    last_modseq: u64,
    bytes: usize,
}

impl<'a> Packer<'a> {
    /// For some columns.
    #[must_use]
    pub fn new(columns: Columns, table: &'a KeywordTable) -> Self {
        Self {
            columns,
            table,
            rows: Rows::default(),
            sets: HashMap::new(),
            any_keywords: false,
            last_uid: 0,
            last_modseq: 0,
            bytes: 0,
        }
    }

    /// Whether an answer should end here.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= ROWS_BYTES
    }

    /// Adds a row.
    pub fn push(&mut self, uid: u32, flags: u32, keywords: &[u32], modseq: u64, size: u64, received: i64) {
        let delta = uid.wrapping_sub(self.last_uid);
        self.rows.uid_delta.push(delta);
        self.last_uid = uid;
        self.bytes += length(delta.into());
        if self.columns.flags {
            let set = self.set(keywords);
            self.rows.flags.push(flags);
            self.rows.keyword_set.push(set);
            self.bytes += length(flags.into()) + length(set.into());
        }
        if self.columns.modseq {
            let delta = (modseq as i64).wrapping_sub(self.last_modseq as i64);
            self.rows.modseq_delta.push(delta);
            self.last_modseq = modseq;
            self.bytes += length(zigzag(delta));
        }
        if self.columns.size {
            self.rows.size.push(size);
            self.bytes += length(size);
        }
        if self.columns.received {
            self.rows.received.push(received);
            self.bytes += length(zigzag(received));
        }
    }

    fn set(&mut self, keywords: &[u32]) -> u32 {
        if keywords.is_empty() {
            return 0;
        }
        self.any_keywords = true;
        if let Some(number) = self.sets.get(keywords) {
            return *number;
        }
        let set = KeywordSet {
            keywords: self.table.texts(keywords),
        };
        self.bytes += 4 + set.keywords.iter().map(|k| k.len() + 2).sum::<usize>();
        self.rows.keyword_sets.push(set);
        let number = u32::try_from(self.rows.keyword_sets.len()).unwrap_or(u32::MAX);
        self.sets.insert(keywords.to_vec(), number);
        number
    }

    /// The rows.
    #[must_use]
    pub fn finish(mut self) -> Rows {
        if !self.any_keywords {
            self.rows.keyword_set.clear();
        }
        self.rows
    }
}

/// Octets of a number on the wire.
fn length(value: u64) -> usize {
    (63 - (value | 1).leading_zeros() as usize) / 7 + 1
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Adds the rows of an answer to those of the ones before it; UIDs ascend over both.
pub fn join(rows: &mut Rows, more: Rows) {
    if rows.uid_delta.is_empty() {
        *rows = more;
        return;
    }
    let last_uid = rows.uid_delta.iter().fold(0u32, |uid, delta| uid.wrapping_add(*delta));
    let last_modseq = rows
        .modseq_delta
        .iter()
        .fold(0i64, |modseq, delta| modseq.wrapping_add(*delta));
    let before = rows.uid_delta.len();
    let added = more.uid_delta.len();
    rows.uid_delta.extend(
        more.uid_delta
            .iter()
            .enumerate()
            .map(|(n, d)| if n == 0 { d - last_uid } else { *d }),
    );
    rows.modseq_delta.extend(
        more.modseq_delta
            .iter()
            .enumerate()
            .map(|(n, d)| if n == 0 { d - last_modseq } else { *d }),
    );
    rows.flags.extend(more.flags);
    if !rows.keyword_set.is_empty() || !more.keyword_set.is_empty() {
        rows.keyword_set.resize(before, 0);
        let offset = u32::try_from(rows.keyword_sets.len()).unwrap_or(u32::MAX);
        rows.keyword_set.extend(
            more.keyword_set
                .iter()
                .map(|set| if *set == 0 { 0 } else { set + offset }),
        );
        rows.keyword_set.resize(before + added, 0);
        rows.keyword_sets.extend(more.keyword_sets);
    }
    rows.size.extend(more.size);
    rows.received.extend(more.received);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn pack(rows: &[(u32, u32, Vec<u32>, u64)], table: &KeywordTable) -> Rows {
        let mut packer = Packer::new(Columns::from_bits(15), table);
        for (uid, flags, keywords, modseq) in rows {
            packer.push(*uid, *flags, keywords, *modseq, 100, 1_700_000_000);
        }
        packer.finish()
    }

    /// Uid, flags, keywords, modseq.
    fn unpack(rows: &Rows) -> Vec<(u32, u32, Vec<String>, u64)> {
        let (mut uid, mut modseq) = (0, 0);
        (0..rows.uid_delta.len())
            .map(|n| {
                uid += rows.uid_delta[n];
                modseq += rows.modseq_delta[n];
                let set = rows.keyword_set.get(n).copied().unwrap_or(0) as usize;
                let keywords = if set == 0 {
                    vec![]
                } else {
                    rows.keyword_sets[set - 1].keywords.clone()
                };
                (uid, rows.flags[n], keywords, modseq as u64)
            })
            .collect()
    }

    #[test]
    fn rows_come_back_also_when_joined() {
        let mut table = KeywordTable::default();
        for k in ["b", "a"] {
            table.ensure(k).unwrap();
        }
        let rows = vec![
            (3, 1, vec![], 9),
            (4, 2, vec![0, 1], 7),
            (90, 3, vec![1], 7),
            (91, 0, vec![0, 1], 10),
        ];
        let packed = pack(&rows, &table);
        let expected: Vec<_> = rows.iter().map(|(u, f, k, m)| (*u, *f, table.texts(k), *m)).collect();
        assert_eq!(unpack(&packed), expected);
        assert_eq!(packed.keyword_sets.len(), 2);
        assert!(pack(&rows[..1], &table).keyword_set.is_empty());
        for at in 0..=rows.len() {
            let mut joined = pack(&rows[..at], &table);
            join(&mut joined, pack(&rows[at..], &table));
            assert_eq!(unpack(&joined), expected, "{at}");
        }
    }

    #[test]
    fn the_size_is_that_on_the_wire() {
        let table = KeywordTable::default();
        let mut packer = Packer::new(Columns::from_bits(15), &table);
        let mut n = 0;
        while !packer.is_full() {
            n += 1;
            packer.push(
                n,
                n % 2000,
                &[],
                u64::from(n) * 1000,
                u64::from(n) * 3000,
                1_700_000_000 - i64::from(n),
            );
        }
        let size = packer.finish().encoded_len();
        assert!((ROWS_BYTES / 10 * 9..1 << 20).contains(&size), "{size}");
    }
}
