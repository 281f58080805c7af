//! Collecting the terms of messages in memory, up to a bound.

use std::collections::HashMap;

use mox_proto::record::v1::SearchSegment;
use mox_types::AccountId;

use super::block::{number, put};
use super::segment::SegmentWriter;
use super::terms::{self, Field};
use crate::engine::Commit;

/// Memory that a collection takes, about, before it becomes a segment.
const MEMORY_BYTES: usize = 24 << 20;
/// Messages after which a collection becomes a segment.
const MESSAGES: usize = 8192;
/// Octets of different terms of one message. What has more is rare, and of little use to search by words (long lists of
/// numbers, files of data as text): it is read when it is searched.
const MESSAGE_BYTES: usize = 1 << 20;
/// Memory that a term takes beside its text, about.
const TERM_OVERHEAD: usize = 96;

#[derive(Debug, Default)]
struct List {
    last: u32,
    /// Differences; the first is the place plus one, so that there is always one.
    data: Vec<u8>,
}

/// Terms of some messages.
#[derive(Debug, Default)]
pub struct Builder {
    terms: HashMap<Vec<u8>, List>,
    numbers: Vec<u32>,
    partial: Vec<u32>,
    memory: usize,
}

impl Builder {
    /// Adds a message, once.
    pub fn add(&mut self, number: u32, message: &[u8]) {
        let place = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.push(number);
        let Self { terms, memory, .. } = self;
        let mut key = Vec::with_capacity(128);
        let mut left = MESSAGE_BYTES;
        let mut full = false;
        terms::of_message(message, &mut |field, term| {
            key.clear();
            key.push(field);
            key.extend_from_slice(term.as_bytes());
            let list = match terms.get_mut(key.as_slice()) {
                Some(list) if list.last == place + 1 => return,
                _ if full => return,
                Some(list) => list,
                None => {
                    *memory += key.len() + TERM_OVERHEAD;
                    terms.entry(key.clone()).or_default()
                }
            };
            put(&mut list.data, (place + 1 - list.last) as usize);
            list.last = place + 1;
            *memory += 1;
            match left.checked_sub(key.len()) {
                Some(rest) => left = rest,
                None => full = true,
            }
        });
        if full {
            self.partial.push(place);
        }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether it should become a segment now.
    pub fn is_full(&self) -> bool {
        self.memory >= MEMORY_BYTES || self.numbers.len() >= MESSAGES
    }

    /// Makes it a segment: what to commit, and what to say of it.
    pub fn finish(self, account: AccountId, id: u64) -> (Commit, SearchSegment) {
        let mut sorted: Vec<(Vec<u8>, List)> = self.terms.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut writer = SegmentWriter::new(account, id);
        let mut places = Vec::new();
        for (key, list) in sorted {
            places.clear();
            let mut rest = &list.data[..];
            let mut last = 0;
            while let Ok(more) = number(&mut rest) {
                last += u32::try_from(more).unwrap_or(0);
                places.push(last - 1);
            }
            let (field, term): (Field, &[u8]) = (key[0], &key[1..]);
            writer.push(field, term, &places);
        }
        writer.finish(self.numbers, self.partial)
    }
}
