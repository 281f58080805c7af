//! Segments: immutable parts of an index, each of some messages.
//!
//! A segment is a head, with the numbers of its messages and which fields are in which block, and blocks of terms in
//! order, each beside the block of their postings. All are values of their own, of bounded size.

use bytes::Bytes;
use mox_proto::record::v1::SearchSegment;
use mox_types::AccountId;

use super::block::{BlockWriter, compress, damaged, decompress, number, put};
use super::terms::{Field, Fields};
use crate::account::AccountError;
use crate::engine::Commit;
use crate::keys;

/// Most messages of a segment: bounds its head, and the lists of a term.
pub const MESSAGES_MAX: usize = 1 << 17;

/// What a part of a segment is, in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Head = b'h',
    Terms = b't',
    Postings = b'p',
}

/// What a segment is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Of its messages, each once, in any order; the place of a message is its index here.
    pub numbers: Vec<u32>,
    /// Places of messages that have too many terms: not all are in it.
    pub partial: Vec<u32>,
    /// Of each block.
    pub fields: Vec<Fields>,
}

impl Head {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        for list in [&self.numbers, &self.partial] {
            put(&mut out, list.len());
            let mut last = 0;
            for number in list {
                // The difference, which may be negative.
                let more = i64::from(*number) - last;
                put(&mut out, ((more << 1) ^ (more >> 63)) as usize);
                last = i64::from(*number);
            }
        }
        put(&mut out, self.fields.len());
        for fields in &self.fields {
            put(&mut out, (*fields).into());
        }
        compress(&out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, AccountError> {
        let bytes = decompress(bytes)?;
        let mut rest = &bytes[..];
        let mut list = || {
            let count = number(&mut rest)?;
            let mut last = 0i64;
            (0..count)
                .map(|_| {
                    let more = number(&mut rest)? as u64;
                    last = ((more >> 1) as i64 ^ -((more & 1) as i64)).wrapping_add(last);
                    u32::try_from(last).map_err(|_| damaged())
                })
                .collect::<Result<Vec<u32>, AccountError>>()
        };
        let (numbers, partial) = (list()?, list()?);
        let blocks = number(&mut rest)?;
        let fields = (0..blocks)
            .map(|_| Fields::try_from(number(&mut rest)?).map_err(|_| damaged()))
            .collect::<Result<_, AccountError>>()?;
        Ok(Self {
            numbers,
            partial,
            fields,
        })
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.numbers.len() * 4 + self.partial.len() * 4 + self.fields.len() * 2 + 128
    }
}

/// A segment in the making. Terms come ascending by field and text.
pub struct SegmentWriter {
    account: AccountId,
    id: u64,
    block: BlockWriter,
    fields: Vec<Fields>,
    terms: u64,
    bytes: u64,
    ready: Commit,
    ready_bytes: usize,
}

impl SegmentWriter {
    pub fn new(account: AccountId, id: u64) -> Self {
        Self {
            account,
            id,
            block: BlockWriter::default(),
            fields: Vec::new(),
            terms: 0,
            bytes: 0,
            ready: Commit::new(),
            ready_bytes: 0,
        }
    }

    /// Adds a term with the places where it occurs, ascending. None: it is left out.
    pub fn push(&mut self, field: Field, term: &[u8], places: &[u32]) {
        if places.is_empty() {
            return;
        }
        self.block.push(field, term, places);
        self.terms += 1;
        if self.block.is_full() {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let (terms, postings, fields) = self.block.finish();
        let number = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        self.fields.push(fields);
        self.put(Kind::Terms, number, terms);
        self.put(Kind::Postings, number, postings);
    }

    fn put(&mut self, kind: Kind, number: u32, value: Bytes) {
        self.bytes += value.len() as u64;
        self.ready_bytes += value.len();
        self.ready
            .put(keys::search_part(self.account, self.id, kind as u8, number), value);
    }

    /// Bytes that wait to be committed.
    pub fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// What is to be committed so far.
    pub fn take_ready(&mut self) -> Commit {
        self.ready_bytes = 0;
        std::mem::take(&mut self.ready)
    }

    /// The rest of what is to be committed, and what to say of the segment.
    pub fn finish(mut self, numbers: Vec<u32>, partial: Vec<u32>) -> (Commit, SearchSegment) {
        if !self.block.is_empty() {
            self.end_block();
        }
        let head = Head {
            numbers,
            partial,
            fields: std::mem::take(&mut self.fields),
        };
        self.put(Kind::Head, 0, head.encode());
        let segment = SearchSegment {
            id: self.id,
            messages: u32::try_from(head.numbers.len()).unwrap_or(u32::MAX),
            blocks: u32::try_from(head.fields.len()).unwrap_or(u32::MAX),
            bytes: self.bytes,
            terms: self.terms,
        };
        (self.ready, segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        for head in [
            Head::default(),
            Head {
                numbers: vec![1, 2, 3, 900, u32::MAX, 7],
                partial: vec![0, 4],
                fields: vec![1, 0x1fff],
            },
        ] {
            assert_eq!(Head::decode(&head.encode()).unwrap(), head);
        }
        assert!(Head::decode(b"").is_err() && Head::decode(&compress(b"\x05")).is_err());
    }
}
