//! Merging segments into one, a block of each at a time.

use std::sync::Arc;

use bytes::Bytes;
use mox_proto::record::v1::SearchSegment;
use mox_types::AccountId;
use roaring::RoaringBitmap;

use super::block::{Postings, Terms, damaged};
use super::segment::{Head, Kind, MESSAGES_MAX, SegmentWriter};
use super::terms::Field;
use crate::account::AccountError;
use crate::engine::{Commit, Db};
use crate::keys;

/// Segments of about the same size that are merged into one: how often a message is written again is the logarithm of
/// the account's messages to this base.
const FAN: usize = 8;
/// Bytes of a new segment that are committed at a time.
const COMMIT_BYTES: usize = 1 << 20;
/// A place of a message that is gone.
const GONE: u32 = u32::MAX;

/// Which segments should become one, by their index: those of a size that there are too many of.
pub fn due(segments: &[SearchSegment]) -> Option<Vec<usize>> {
    let tier = |s: &SearchSegment| s.messages.max(1).ilog(u32::try_from(FAN).unwrap_or(u32::MAX));
    let mut tiers: Vec<Vec<usize>> = Vec::new();
    for (n, segment) in segments.iter().enumerate() {
        let tier = tier(segment) as usize;
        tiers.resize_with(tiers.len().max(tier + 1), Vec::new);
        tiers[tier].push(n);
        let size = |n: &usize| segments[*n].messages as usize;
        let chosen = &mut tiers[tier];
        if chosen.len() >= FAN {
            // The largest segments stay as they are.
            while chosen.iter().map(size).sum::<usize>() > MESSAGES_MAX {
                chosen.pop();
            }
            if chosen.len() >= FAN / 2 {
                return Some(std::mem::take(chosen));
            }
            chosen.clear();
        }
    }
    None
}

/// A segment that is read in order.
struct Source<'a> {
    db: &'a Db,
    account: AccountId,
    segment: u64,
    blocks: u32,
    /// By place: that in the new segment.
    map: Vec<u32>,
    next: u32,
    block: Option<(Terms, Postings)>,
    at: usize,
}

impl Source<'_> {
    async fn load(&mut self) -> Result<(), AccountError> {
        self.at = 0;
        self.block = None;
        while self.next < self.blocks && self.block.as_ref().is_none_or(|(terms, _)| terms.len() == 0) {
            let key = |kind: Kind| keys::search_part(self.account, self.segment, kind as u8, self.next);
            let mut values = self
                .db
                .get_many(vec![key(Kind::Terms), key(Kind::Postings)])
                .await?
                .into_iter();
            let (Some(Some(terms)), Some(Some(postings))) = (values.next(), values.next()) else {
                return Err(damaged());
            };
            self.block = Some((Terms::decode(&terms.data)?, Postings::decode(&postings.data)?));
            self.next += 1;
        }
        Ok(())
    }

    fn term(&self) -> Option<(Field, &[u8])> {
        let (terms, _) = self.block.as_ref()?;
        Some((terms.field(self.at), terms.term(self.at)))
    }

    /// Takes the places of the term, and answers whether the block is at its end.
    fn take(&mut self, scratch: &mut Vec<u32>, places: &mut Vec<u32>) -> Result<bool, AccountError> {
        let Some((terms, postings)) = &self.block else {
            return Ok(false);
        };
        scratch.clear();
        postings.places(self.at, scratch)?;
        for place in scratch.iter() {
            let new = *self.map.get(*place as usize).ok_or_else(damaged)?;
            places.extend((new != GONE).then_some(new));
        }
        self.at += 1;
        Ok(self.at >= terms.len())
    }
}

/// Merges segments, of which the records and heads are given, into a new one. Messages whose numbers are not `live` are
/// left out. What is written meanwhile goes to `commit`; what is left is answered, with what to say of the segment.
pub async fn merge<F>(
    db: &Db,
    account: AccountId,
    id: u64,
    inputs: &[(SearchSegment, Arc<Head>)],
    live: Option<&RoaringBitmap>,
    commit: impl Fn(Commit) -> F,
) -> Result<(Commit, SearchSegment), AccountError>
where
    F: Future<Output = Result<(), AccountError>>,
{
    let (mut numbers, mut partial) = (Vec::new(), Vec::new());
    let mut sources = Vec::new();
    for (segment, head) in inputs {
        let mut map = Vec::with_capacity(head.numbers.len());
        for (place, number) in (0u32..).zip(&head.numbers) {
            if live.is_some_and(|live| !live.contains(*number)) {
                map.push(GONE);
                continue;
            }
            let new = u32::try_from(numbers.len()).unwrap_or(GONE);
            if head.partial.binary_search(&place).is_ok() {
                partial.push(new);
            }
            map.push(new);
            numbers.push(*number);
        }
        let mut source = Source {
            db,
            account,
            segment: segment.id,
            blocks: segment.blocks,
            map,
            next: 0,
            block: None,
            at: 0,
        };
        source.load().await?;
        sources.push(source);
    }
    let mut writer = SegmentWriter::new(account, id);
    let (mut term, mut places, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((field, least)) = sources.iter().filter_map(Source::term).min() {
        term.clear();
        term.extend_from_slice(least);
        places.clear();
        for source in &mut sources {
            if source.term() == Some((field, &term)) && source.take(&mut scratch, &mut places)? {
                source.load().await?;
                tokio::task::yield_now().await;
            }
        }
        writer.push(field, &term, &places);
        if writer.ready_bytes() >= COMMIT_BYTES {
            commit(writer.take_ready()).await?;
        }
    }
    Ok(writer.finish(numbers, partial))
}

/// The keys of all parts of a segment.
pub fn parts(account: AccountId, segment: &SearchSegment) -> impl Iterator<Item = Bytes> {
    let id = segment.id;
    let block = move |kind: Kind| (0..segment.blocks).map(move |n| keys::search_part(account, id, kind as u8, n));
    std::iter::once(keys::search_part(account, id, Kind::Head as u8, 0))
        .chain(block(Kind::Terms))
        .chain(block(Kind::Postings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(sizes: &[u32]) -> Vec<SearchSegment> {
        let segment = |n: &u32| SearchSegment {
            messages: *n,
            ..Default::default()
        };
        sizes.iter().map(segment).collect()
    }

    #[test]
    fn segments_of_a_size_are_merged_when_there_are_many() {
        assert_eq!(due(&segments(&[1; 7])), None);
        assert_eq!(due(&segments(&[1; 8])), Some((0..8).collect()));
        assert_eq!(
            due(&segments(&[9, 1, 1, 1, 1, 1, 1, 1, 100, 1])),
            Some(vec![1, 2, 3, 4, 5, 6, 7, 9])
        );
        assert_eq!(due(&segments(&[40_000; 8])), None, "the sum would be too large");
        assert_eq!(due(&segments(&[20_000; 8])), Some((0..6).collect()));
    }

    #[test]
    fn the_number_of_segments_stays_small() {
        let mut sizes: Vec<u32> = Vec::new();
        let mut written = 0u64;
        for _ in 0..20_000 {
            sizes.extend([1]);
            while let Some(chosen) = due(&segments(&sizes)) {
                let sum: u32 = chosen.iter().map(|n| sizes[*n]).sum();
                written += u64::from(sum);
                let mut n = 0;
                sizes.retain(|_| {
                    n += 1;
                    !chosen.contains(&(n - 1))
                });
                sizes.push(sum);
            }
        }
        assert!(sizes.len() < 50 && written < 6 * 20_000, "{} {written}", sizes.len());
    }
}
