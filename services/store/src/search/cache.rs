//! Decoded parts of segments, within a number of bytes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::block::{Postings, Terms};
use super::segment::{Head, Kind};

/// Memory that decoded parts take, of all accounts.
const CACHE_BYTES: usize = 32 << 20;

/// A decoded part. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Part {
    Head(Arc<Head>),
    Terms(Arc<Terms>),
    Postings(Arc<Postings>),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Part::Head(head) => head.bytes(),
            Part::Terms(terms) => terms.bytes(),
            Part::Postings(postings) => postings.bytes(),
        }
    }
}

/// Which part: segment, kind, number. Ids of segments are random, and segments do not change.
pub type PartId = (u64, Kind, u32);

#[derive(Default)]
struct Kept {
    parts: HashMap<PartId, (Part, u64)>,
    bytes: usize,
    tick: u64,
}

/// What was used last.
#[derive(Default)]
pub struct Cache(Mutex<Kept>);

impl Cache {
    pub fn get(&self, id: PartId) -> Option<Part> {
        let mut kept = self.0.lock();
        kept.tick += 1;
        let tick = kept.tick;
        let (part, used) = kept.parts.get_mut(&id)?;
        *used = tick;
        Some(part.clone())
    }

    pub fn put(&self, id: PartId, part: &Part) {
        let bytes = part.bytes();
        let mut kept = self.0.lock();
        kept.tick += 1;
        let tick = kept.tick;
        if let Some((old, _)) = kept.parts.insert(id, (part.clone(), tick)) {
            kept.bytes -= old.bytes();
        }
        kept.bytes += bytes;
        if kept.bytes > CACHE_BYTES {
            // A quarter at a time, so that it is rare.
            let mut ages: Vec<u64> = kept.parts.values().map(|(_, used)| *used).collect();
            let quarter = ages.len() / 4;
            let (_, oldest, _) = ages.select_nth_unstable(quarter);
            let oldest = *oldest;
            let Kept { parts, bytes, .. } = &mut *kept;
            parts.retain(|_, (part, used)| {
                let keep = *used > oldest;
                if !keep {
                    *bytes -= part.bytes();
                }
                keep
            });
        }
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        self.0.lock().bytes
    }
}
