//! Blocks of a segment: some terms of the dictionary, and beside them where they occur.
//!
//! A segment's messages are numbered from 0; postings are lists of these
//! *places*. Terms are kept as they are, one after the other, so that one pass over a block finds all that have
//! something in them; a byte that UTF-8 does not have ends each. Blocks are compressed.

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::terms::{Field, Fields};
use crate::account::AccountError;

/// Octets of terms of a block.
pub const TERMS_BYTES: usize = 64 << 10;
/// Octets of postings of a block.
pub const POSTINGS_BYTES: usize = 128 << 10;
/// More than any part of a segment has, decompressed.
const DECOMPRESSED_MAX: usize = 4 << 20;
/// Of zstd: beyond this, it takes more time than it saves space.
const LEVEL: i32 = 3;
/// Ends a term: never a byte of UTF-8.
const END: u8 = 0xff;

pub fn damaged() -> AccountError {
    AccountError::Damaged("the search index")
}

/// Compresses a part of a segment.
pub fn compress(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() / 2 + 16);
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    match zstd::bulk::compress(bytes, LEVEL) {
        Ok(compressed) => out.extend_from_slice(&compressed),
        // Only for want of memory; what cannot be read is found to be damaged, and made again.
        Err(error) => tracing::error!(%error, "compressing a part of a search index"),
    }
    out.into()
}

/// Decompresses a part of a segment.
pub fn decompress(bytes: &[u8]) -> Result<Bytes, AccountError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > DECOMPRESSED_MAX {
        return Err(damaged());
    }
    let out = zstd::bulk::decompress(rest, length).map_err(|_| damaged())?;
    if out.len() == length {
        Ok(out.into())
    } else {
        Err(damaged())
    }
}

/// Reads a number.
pub fn number(from: &mut &[u8]) -> Result<usize, AccountError> {
    let value = decode_varint(from).map_err(|_| damaged())?;
    usize::try_from(value).map_err(|_| damaged())
}

/// Writes a number.
pub fn put(to: &mut Vec<u8>, value: usize) {
    encode_varint(value as u64, to);
}

/// Terms of one field in a block.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Which.
    pub field: Field,
    /// Index of its first term in the block.
    pub first: usize,
    /// Index after its last.
    pub end: usize,
}

/// Some terms of a dictionary.
#[derive(Debug)]
pub struct Terms {
    /// Ascending by field.
    pub sections: Vec<Section>,
    text: Bytes,
    /// Where each term begins, and at last where the text ends.
    starts: Vec<u32>,
}

impl Terms {
    pub fn decode(bytes: &[u8]) -> Result<Self, AccountError> {
        let all = decompress(bytes)?;
        let mut rest = &all[..];
        let count = number(&mut rest)?;
        let mut sections = Vec::new();
        let mut first = 0;
        for _ in 0..count {
            let field = rest.try_get_u8().ok().filter(|f| *f < 16).ok_or_else(damaged)?;
            let end = number(&mut rest)?.checked_add(first).ok_or_else(damaged)?;
            sections.push(Section { field, first, end });
            first = end;
        }
        let text = all.slice(all.len() - rest.len()..);
        let mut starts = vec![0];
        starts.extend(memchr::memchr_iter(END, &text).filter_map(|at| u32::try_from(at + 1).ok()));
        if starts.len() != first + 1 || text.last().is_some_and(|b| *b != END) {
            return Err(damaged());
        }
        Ok(Self { sections, text, starts })
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.starts.len() * 4 + 128
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn term(&self, at: usize) -> &[u8] {
        &self.text[self.starts[at] as usize..self.starts[at + 1] as usize - 1]
    }

    /// The field of a term.
    pub fn field(&self, at: usize) -> Field {
        let section = self.sections.partition_point(|s| s.end <= at);
        self.sections.get(section).map_or(0, |s| s.field)
    }

    /// The terms of a section that have `wanted` in them, where `accept` takes the term and the place of an occurrence.
    pub fn find(
        &self,
        section: Section,
        wanted: &memchr::memmem::Finder<'_>,
        accept: impl Fn(&[u8], usize) -> bool,
        found: &mut Vec<u32>,
    ) {
        let (mut from, end) = (self.starts[section.first] as usize, self.starts[section.end] as usize);
        let mut term = section.first;
        if wanted.needle().is_empty() {
            found.extend((section.first..section.end).filter_map(|t| u32::try_from(t).ok()));
            return;
        }
        while let Some(at) = wanted.find(&self.text[from..end]).map(|at| at + from) {
            // Often it is the term that was just looked at or the next; else those between are skipped at once.
            if self.starts[term + 1] as usize <= at {
                term += 1;
                if self.starts[term + 1] as usize <= at {
                    term += self.starts[term..].partition_point(|s| *s as usize <= at) - 1;
                }
            }
            if accept(self.term(term), at - self.starts[term] as usize) {
                found.extend(u32::try_from(term));
                from = self.starts[term + 1] as usize;
            } else {
                from = at + 1;
            }
        }
    }
}

/// Where the terms of a block occur.
#[derive(Debug)]
pub struct Postings {
    data: Bytes,
    /// Where the list of each term begins, and where it ends, doubled, plus one if it is a bitmap.
    lists: Vec<(u32, u32)>,
}

impl Postings {
    pub fn decode(bytes: &[u8]) -> Result<Self, AccountError> {
        let data = decompress(bytes)?;
        let mut lists = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let head = number(&mut rest)?;
            let at = data.len() - rest.len();
            if rest.len() < head >> 1 {
                return Err(damaged());
            }
            rest.advance(head >> 1);
            let narrow = |n: usize| u32::try_from(n).map_err(|_| damaged());
            lists.push((narrow(at)?, narrow((at + (head >> 1)) << 1 | head & 1)?));
        }
        Ok(Self { data, lists })
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.lists.len() * 8 + 96
    }

    fn list(&self, term: usize) -> Result<(&[u8], bool), AccountError> {
        let (start, end) = *self.lists.get(term).ok_or_else(damaged)?;
        Ok((&self.data[start as usize..end as usize >> 1], end & 1 == 1))
    }

    /// Adds the places of a term to a set.
    pub fn add_to(&self, term: usize, set: &mut Places) -> Result<(), AccountError> {
        let (mut list, bitmap) = self.list(term)?;
        if bitmap {
            set.add_bitmap(list);
            return Ok(());
        }
        let mut place = 0;
        while !list.is_empty() {
            place = number(&mut list)?.checked_add(place).ok_or_else(damaged)?;
            set.insert(place);
        }
        Ok(())
    }

    /// The places of a term, ascending.
    pub fn places(&self, term: usize, out: &mut Vec<u32>) -> Result<(), AccountError> {
        let (mut list, bitmap) = self.list(term)?;
        if bitmap {
            for (n, byte) in list.iter().enumerate() {
                out.extend(
                    (0..8u32)
                        .filter(|bit| byte >> bit & 1 == 1)
                        .map(|bit| n as u32 * 8 + bit),
                );
            }
            return Ok(());
        }
        let mut place = 0;
        while !list.is_empty() {
            place = number(&mut list)?.checked_add(place).ok_or_else(damaged)?;
            out.push(u32::try_from(place).map_err(|_| damaged())?);
        }
        Ok(())
    }
}

/// A set of places in a segment.
#[derive(Debug, Clone)]
pub struct Places {
    words: Vec<u64>,
    size: usize,
}

impl Places {
    /// None of so many.
    pub fn new(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)],
            size,
        }
    }

    pub fn insert(&mut self, place: usize) {
        if let Some(word) = self.words.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    fn add_bitmap(&mut self, bytes: &[u8]) {
        for (word, bytes) in self.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word |= u64::from_le_bytes(whole);
        }
    }

    pub fn contains(&self, place: usize) -> bool {
        self.words
            .get(place / 64)
            .is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Whether all are in it.
    pub fn is_full(&self) -> bool {
        self.words.iter().map(|w| w.count_ones() as usize).sum::<usize>() >= self.size
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(n, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    n * 64 + bit
                })
            })
        })
    }
}

/// A block in the making. Terms come ascending by field and text.
#[derive(Debug, Default)]
pub struct BlockWriter {
    sections: Vec<(Field, usize)>,
    text: Vec<u8>,
    postings: Vec<u8>,
}

impl BlockWriter {
    /// Adds a term with its places, ascending.
    pub fn push(&mut self, field: Field, term: &[u8], places: &[u32]) {
        match self.sections.last_mut() {
            Some((last, count)) if *last == field => *count += 1,
            _ => self.sections.push((field, 1)),
        }
        self.text.extend_from_slice(term);
        self.text.push(END);
        let mut list = Vec::with_capacity(places.len() + 4);
        let mut last = 0;
        for place in places {
            put(&mut list, (place - last) as usize);
            last = *place;
        }
        let bitmap = last as usize / 8 + 1;
        if bitmap < list.len() {
            list.clear();
            list.resize(bitmap, 0);
            for place in places {
                list[*place as usize / 8] |= 1 << (place % 8);
            }
            put(&mut self.postings, bitmap << 1 | 1);
        } else {
            put(&mut self.postings, list.len() << 1);
        }
        self.postings.extend_from_slice(&list);
    }

    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.text.len() >= TERMS_BYTES || self.postings.len() >= POSTINGS_BYTES
    }

    /// The terms, the postings, and which fields are in it.
    pub fn finish(&mut self) -> (Bytes, Bytes, Fields) {
        let mut head = Vec::new();
        let mut fields = 0;
        put(&mut head, self.sections.len());
        for (field, count) in self.sections.drain(..) {
            head.push(field);
            put(&mut head, count);
            fields |= 1 << field;
        }
        head.append(&mut self.text);
        let postings = compress(&self.postings);
        self.postings.clear();
        (compress(&head), postings, fields)
    }
}

#[cfg(test)]
mod tests {
    use memchr::memmem::Finder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_come_back(terms in prop::collection::btree_map((0u8..5, "[a-cä]{0,4}"),
            prop::collection::btree_set(0u32..500, 1..400), 0..30), wanted in "[a-cä]{0,2}") {
            let mut writer = BlockWriter::default();
            for ((field, term), places) in &terms {
                writer.push(*field, term.as_bytes(), &places.iter().copied().collect::<Vec<_>>());
            }
            let (text, postings, fields) = writer.finish();
            let (text, postings) = (Terms::decode(&text).unwrap(), Postings::decode(&postings).unwrap());
            prop_assert_eq!(text.len(), terms.len());
            let finder = Finder::new(wanted.as_bytes());
            let mut found = Vec::new();
            for section in &text.sections {
                prop_assert!(fields & 1 << section.field != 0);
                text.find(*section, &finder, |_, _| true, &mut found);
            }
            let mut expected = Vec::new();
            for (n, ((field, term), places)) in terms.iter().enumerate() {
                prop_assert_eq!((text.field(n), text.term(n)), (*field, term.as_bytes()));
                let mut out = Vec::new();
                postings.places(n, &mut out).unwrap();
                prop_assert_eq!(&out, &places.iter().copied().collect::<Vec<_>>());
                let mut set = Places::new(500);
                postings.add_to(n, &mut set).unwrap();
                prop_assert_eq!(set.iter().map(|p| p as u32).collect::<Vec<_>>(), out);
                if term.contains(&wanted) {
                    expected.push(n as u32);
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for bytes in [bytes.clone(), compress(&bytes).to_vec()] {
                let _ = Terms::decode(&bytes).map(|t| {
                    let mut found = Vec::new();
                    for section in &t.sections {
                        t.find(*section, &Finder::new(b"a"), |_, _| true, &mut found);
                    }
                });
                if let Ok(postings) = Postings::decode(&bytes) {
                    let mut set = Places::new(10);
                    for term in 0..postings.lists.len() + 1 {
                        let _ = postings.add_to(term, &mut set);
                        let _ = postings.places(term, &mut Vec::new());
                    }
                }
            }
        }
    }

    #[test]
    fn a_later_occurrence_may_be_the_one_that_counts() {
        let mut writer = BlockWriter::default();
        for term in ["abxab", "abxxx", "xabxx"] {
            writer.push(0, term.as_bytes(), &[1]);
        }
        let text = Terms::decode(&writer.finish().0).unwrap();
        let mut found = Vec::new();
        text.find(
            text.sections[0],
            &Finder::new("ab"),
            |term, at| at + 2 == term.len(),
            &mut found,
        );
        assert_eq!(found, [0]);
    }
}
