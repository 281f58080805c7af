//! The index of a mailbox in memory: the columns that clients ask for often, in shared chunks.
//!
//! An [`Index`] is a value: a reader's copy stays as it is while the writer's goes on. A change copies at most the chunks
//! that it touches and that a reader holds; adding a message touches the last chunk only.

use std::collections::HashMap;
use std::sync::Arc;

use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1::Row;

/// Most rows of a chunk: what a change copies when a reader holds the chunk.
pub const CHUNK_ROWS: usize = 4096;

/// Bytes of memory that a row takes.
const ROW_BYTES: usize = 48;
/// Bytes of memory that an index without rows takes, about.
const INDEX_BYTES: usize = 256;
/// Bytes of memory that a set of keywords takes beside its numbers, about.
const SET_BYTES: usize = 64;

/// The columns of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// In its mailbox.
    pub uid: u32,
    /// Bits of [`mox_proto::mail::v1::Flag`].
    pub flags: u32,
    /// Numbers of keywords, ascending.
    pub keywords: Arc<[u32]>,
    /// Of its last change.
    pub modseq: u64,
    /// Bytes.
    pub size: u64,
    /// INTERNALDATE, seconds since 1970.
    pub received: i64,
    /// By which the search index knows its text; 0 is none.
    pub number: u32,
    /// Into the mailbox, seconds since 1970; not known without a number.
    pub saved: u32,
    /// Days since 1970 in the Date field; [`NO_DAY`] if it has none. Not known without a number.
    pub sent_day: i32,
}

/// No Date field, or none that is one.
pub const NO_DAY: i32 = i32::MIN;

impl IndexRow {
    /// Of a record.
    #[must_use]
    pub fn new(uid: u32, row: &Row) -> Self {
        Self {
            uid,
            flags: row.flags,
            keywords: row.keywords.as_slice().into(),
            modseq: row.modseq,
            size: row.size,
            received: row.received,
            number: row.number,
            saved: u32::try_from(row.saved.max(0)).unwrap_or(u32::MAX),
            sent_day: row.sent_day.unwrap_or(NO_DAY),
        }
    }
}

/// A change of a mailbox's rows: a row that is new or other than before, or none where one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Of the message.
    pub uid: u32,
    /// When.
    pub modseq: u64,
    /// What it is now.
    pub row: Option<IndexRow>,
}

/// Rows in columns, ascending by UID.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// UIDs.
    pub uids: Vec<u32>,
    /// Bits.
    pub flags: Vec<u32>,
    /// Index into the sets of keywords plus one; 0 is none.
    pub keywords: Vec<u32>,
    /// Modification sequences.
    pub modseqs: Vec<u64>,
    /// Sizes.
    pub sizes: Vec<u64>,
    /// INTERNALDATEs.
    pub received: Vec<i64>,
    /// See [`IndexRow::number`].
    pub numbers: Vec<u32>,
    /// See [`IndexRow::saved`].
    pub saved: Vec<u32>,
    /// See [`IndexRow::sent_day`].
    pub sent_days: Vec<i32>,
}

impl Chunk {
    fn push(&mut self, row: &IndexRow, keywords: u32) {
        self.uids.push(row.uid);
        self.flags.push(row.flags);
        self.keywords.push(keywords);
        self.modseqs.push(row.modseq);
        self.sizes.push(row.size);
        self.received.push(row.received);
        self.numbers.push(row.number);
        self.saved.push(row.saved);
        self.sent_days.push(row.sent_day);
    }

    fn set(&mut self, at: usize, row: &IndexRow, keywords: u32) {
        self.flags[at] = row.flags;
        self.keywords[at] = keywords;
        self.modseqs[at] = row.modseq;
        self.sizes[at] = row.size;
        self.received[at] = row.received;
        self.numbers[at] = row.number;
        self.saved[at] = row.saved;
        self.sent_days[at] = row.sent_day;
    }

    fn copy_row(&mut self, from: &Chunk, at: usize) {
        self.uids.push(from.uids[at]);
        self.flags.push(from.flags[at]);
        self.keywords.push(from.keywords[at]);
        self.modseqs.push(from.modseqs[at]);
        self.sizes.push(from.sizes[at]);
        self.received.push(from.received[at]);
        self.numbers.push(from.numbers[at]);
        self.saved.push(from.saved[at]);
        self.sent_days.push(from.sent_days[at]);
    }

    fn last(&self) -> u32 {
        self.uids.last().copied().unwrap_or(0)
    }
}

/// The sets of keywords that occur in a mailbox.
#[derive(Debug, Clone, Default)]
struct Sets {
    list: Vec<Arc<[u32]>>,
    numbers: HashMap<Arc<[u32]>, u32>,
    bytes: usize,
}

/// All rows of a mailbox.
#[derive(Debug, Clone, Default)]
pub struct Index {
    chunks: Arc<Vec<Arc<Chunk>>>,
    sets: Arc<Sets>,
    rows: usize,
}

impl Index {
    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows * ROW_BYTES + self.sets.bytes + INDEX_BYTES
    }

    /// The chunks, ascending.
    #[must_use]
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// The numbers of the keywords of a row's set.
    #[must_use]
    pub fn keyword_set(&self, set: u32) -> &[u32] {
        match set {
            0 => &[],
            set => self.sets.list.get(set as usize - 1).map_or(&[], |s| s),
        }
    }

    /// Where the first row with at least this UID is: chunk, and row in it.
    fn seek(&self, uid: u32) -> (usize, usize) {
        let chunk = self.chunks.partition_point(|c| c.last() < uid);
        let at = self
            .chunks
            .get(chunk)
            .map_or(0, |c| c.uids.partition_point(|u| *u < uid));
        (chunk, at)
    }

    /// The rows of a range of UIDs, both included, ascending: as chunk and row in it.
    pub fn range(&self, first: u32, last: u32) -> impl Iterator<Item = (&Chunk, usize)> {
        let (chunk, at) = self.seek(first);
        let chunks = self.chunks.get(chunk..).unwrap_or_default();
        chunks
            .iter()
            .enumerate()
            .flat_map(move |(n, c)| (if n == 0 { at } else { 0 }..c.uids.len()).map(move |at| (&**c, at)))
            .take_while(move |(c, at)| c.uids[*at] <= last)
    }

    /// The rows of ranges, which are to be normalized ([`super::ranges`]).
    pub fn ranges<'a>(&'a self, ranges: &'a [UidRange]) -> impl Iterator<Item = (&'a Chunk, usize)> {
        ranges.iter().flat_map(|r| self.range(r.first, r.last))
    }

    fn set_number(&mut self, keywords: &Arc<[u32]>) -> u32 {
        if keywords.is_empty() {
            return 0;
        }
        if let Some(number) = self.sets.numbers.get(keywords) {
            return *number;
        }
        let sets = Arc::make_mut(&mut self.sets);
        sets.list.push(keywords.clone());
        sets.bytes += SET_BYTES + keywords.len() * size_of::<u32>();
        let number = u32::try_from(sets.list.len()).unwrap_or(u32::MAX);
        sets.numbers.insert(keywords.clone(), number);
        number
    }

    /// Adds a row, which has the highest UID so far.
    pub fn push(&mut self, row: &IndexRow) {
        let set = self.set_number(&row.keywords);
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut() {
            Some(last) if last.uids.len() < CHUNK_ROWS => Arc::make_mut(last).push(row, set),
            _ => {
                let mut chunk = Chunk::default();
                chunk.push(row, set);
                chunks.push(Arc::new(chunk));
            }
        }
        self.rows += 1;
    }

    /// Takes over changes, in the order in which they were made.
    pub fn apply<'a>(&mut self, deltas: impl IntoIterator<Item = &'a Delta>) {
        // Of several changes of a row, only the last matters; new rows at the end are added at once.
        let mut others: HashMap<u32, &Option<IndexRow>> = HashMap::new();
        for delta in deltas {
            let last = self.chunks.last().map_or(0, |c| c.last());
            match &delta.row {
                Some(row) if row.uid > last => {
                    others.remove(&row.uid);
                    self.push(row);
                }
                row => {
                    others.insert(delta.uid, row);
                }
            }
        }
        let mut others: Vec<(u32, &Option<IndexRow>)> = others.into_iter().collect();
        others.sort_unstable_by_key(|(uid, _)| *uid);
        let mut rest = others.as_slice();
        while let Some((uid, _)) = rest.first() {
            // A row below the first of a chunk and above the last of the one before belongs into the later one.
            let at = self
                .chunks
                .partition_point(|c| c.last() < *uid)
                .min(self.chunks.len().saturating_sub(1));
            let end = match self.chunks.get(at + 1) {
                Some(_) => rest.partition_point(|(uid, _)| *uid <= self.chunks[at].last()).max(1),
                None => rest.len(),
            };
            let (now, later) = rest.split_at(end);
            self.change_chunk(at, now);
            rest = later;
        }
        if self.chunks.iter().any(|c| c.uids.is_empty()) {
            Arc::make_mut(&mut self.chunks).retain(|c| !c.uids.is_empty());
        }
    }

    /// Changes rows of one chunk, ascending.
    fn change_chunk(&mut self, at: usize, changes: &[(u32, &Option<IndexRow>)]) {
        let numbered: Vec<(u32, Option<(&IndexRow, u32)>)> = changes
            .iter()
            .map(|(uid, row)| (*uid, row.as_ref().map(|r| (r, self.set_number(&r.keywords)))))
            .collect();
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at) else {
            return; // No rows: what would be removed is not there, and what is new was added at the end.
        };
        let before = chunk.uids.len();
        let in_place = numbered
            .iter()
            .all(|(uid, row)| row.is_some() && chunk.uids.binary_search(uid).is_ok());
        if in_place {
            let chunk = Arc::make_mut(chunk);
            for (uid, row) in numbered {
                if let (Ok(at), Some((row, set))) = (chunk.uids.binary_search(&uid), row) {
                    chunk.set(at, row, set);
                }
            }
            return;
        }
        let mut merged = Chunk::default();
        let mut changes = numbered.into_iter().peekable();
        for old in 0..before {
            let uid = chunk.uids[old];
            while let Some((_, row)) = changes.next_if(|(u, _)| *u < uid) {
                if let Some((row, set)) = row {
                    merged.push(row, set);
                }
            }
            match changes.next_if(|(u, _)| *u == uid) {
                Some((_, Some((row, set)))) => merged.push(row, set),
                Some((_, None)) => {}
                None => merged.copy_row(chunk, old),
            }
        }
        for (_, row) in changes {
            if let Some((row, set)) = row {
                merged.push(row, set);
            }
        }
        self.rows = self.rows + merged.uids.len() - before;
        *chunk = Arc::new(merged);
    }

    /// One row.
    #[must_use]
    pub fn get(&self, uid: u32) -> Option<IndexRow> {
        let (chunk, at) = self.range(uid, uid).next()?;
        Some(self.row(chunk, at))
    }

    /// A row of a chunk.
    #[must_use]
    pub fn row(&self, chunk: &Chunk, at: usize) -> IndexRow {
        IndexRow {
            uid: chunk.uids[at],
            flags: chunk.flags[at],
            keywords: self.keyword_set(chunk.keywords[at]).into(),
            modseq: chunk.modseqs[at],
            size: chunk.sizes[at],
            received: chunk.received[at],
            number: chunk.numbers[at],
            saved: chunk.saved[at],
            sent_day: chunk.sent_days[at],
        }
    }

    /// All UIDs.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flat_map(|c| c.uids.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row(uid: u32, flags: u32, modseq: u64) -> IndexRow {
        let keywords: Vec<u32> = (0..flags % 3).collect();
        IndexRow {
            uid,
            flags,
            keywords: keywords.into(),
            modseq,
            size: u64::from(uid) * 7,
            received: i64::from(uid),
            number: uid + 1,
            saved: uid,
            sent_day: NO_DAY,
        }
    }

    #[test]
    fn rows_fill_chunks_and_readers_keep_theirs() {
        let mut index = Index::default();
        for uid in 1..=10_000 {
            index.push(&row(uid, 0, 1));
        }
        assert_eq!(
            index.chunks().iter().map(|c| c.uids[0]).collect::<Vec<_>>(),
            [1, 4097, 8193]
        );
        let reader = index.clone();
        index.apply(&[Delta {
            uid: 5000,
            modseq: 2,
            row: None,
        }]);
        assert_eq!((reader.len(), index.len()), (10_000, 9_999));
        assert!(reader.get(5000).is_some() && index.get(5000).is_none());
        assert!(
            Arc::ptr_eq(&reader.chunks[0], &index.chunks[0]),
            "chunks that did not change are shared"
        );
    }

    proptest! {
        #[test]
        fn the_index_equals_a_map(batches in prop::collection::vec(
            prop::collection::vec((1u32..60, 0u32..8, any::<bool>()), 0..20), 0..30)) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            let mut next = 1u32;
            for (n, batch) in batches.into_iter().enumerate() {
                let mut deltas = Vec::new();
                for (uid, flags, gone) in batch {
                    // Mostly what a mailbox does: rows are added at the end, and others change or vanish.
                    let uid = if uid > 40 { next += uid - 40; next } else { uid };
                    let row = (!gone).then(|| row(uid, flags, n as u64));
                    match &row {
                        Some(r) => { model.insert(uid, r.clone()); }
                        None => { model.remove(&uid); }
                    }
                    deltas.push(Delta { uid, modseq: n as u64, row });
                }
                index.apply(&deltas);
                let all: Vec<IndexRow> = index.range(0, u32::MAX).map(|(c, at)| index.row(c, at)).collect();
                prop_assert_eq!(&all, &model.values().cloned().collect::<Vec<_>>());
                prop_assert_eq!(index.len(), model.len());
                let some: Vec<u32> = index.range(10, 30).map(|(c, at)| c.uids[at]).collect();
                prop_assert_eq!(some, model.range(10..=30).map(|(u, _)| *u).collect::<Vec<_>>());
            }
        }
    }
}
