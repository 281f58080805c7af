//! Many small messages at once: their contents are read together, and travel together.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::ContentId;
use tonic::Status;

use super::contents::{Messages, Sender, bounds, send_range};
use crate::account::AccountError;
use crate::content::{Contents, INLINE_BYTES};

/// About the bytes of an answer: large enough that what an answer costs does not matter, small enough that the client can
/// be sent one while the next is read.
const BATCH_BYTES: u64 = 128 << 10;
/// Most pieces of an answer, as each takes some bytes beside its data.
const BATCH_PIECES: usize = 512;
/// Batches that are read at once.
const AT_ONCE: usize = 2;

/// What is read together: ranges of small messages; or one range that is read on its own.
enum Batch {
    Small(std::ops::Range<usize>),
    Large(usize),
}

/// Sends ranges in their order.
pub(super) async fn send(
    contents: &Contents,
    messages: &Messages,
    ranges: &[mail::ContentRange],
    sender: &Sender,
) -> Result<(), Option<Status>> {
    let read = |batch| read(contents, messages, ranges, batch);
    let mut batches = futures::stream::iter(batches(messages, ranges))
        .map(read)
        .buffered(AT_ONCE);
    while let Some(batch) = batches.next().await {
        match batch? {
            Read::Pieces(pieces) => {
                let answer = mail::ReadContentsResponse {
                    pieces,
                    ..Default::default()
                };
                sender.send(Ok(answer)).await.map_err(|_| None)?;
            }
            Read::Streamed(at) => {
                if let Some(message) = messages.get(&ranges[at].uid) {
                    send_range(contents, message, number(at), &ranges[at], sender).await?;
                }
            }
        }
    }
    Ok(())
}

/// Which ranges are read together.
fn batches(messages: &Messages, ranges: &[mail::ContentRange]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (at, range) in ranges.iter().enumerate() {
        // All of a content is read, however little of it is asked for.
        let size = messages.get(&range.uid).map_or(0, |m| m.size);
        let large = size > INLINE_BYTES as u64;
        if at > first && (large || bytes + size > BATCH_BYTES || at - first >= BATCH_PIECES) {
            batches.push(Batch::Small(first..at));
            (first, bytes) = (at, 0);
        }
        if large {
            batches.push(Batch::Large(at));
            first = at + 1;
        } else {
            bytes += size;
        }
    }
    if first < ranges.len() {
        batches.push(Batch::Small(first..ranges.len()));
    }
    batches
}

enum Read {
    Pieces(Vec<mail::ContentPiece>),
    Streamed(usize),
}

/// Reads a batch.
async fn read(
    contents: &Contents,
    messages: &Messages,
    ranges: &[mail::ContentRange],
    batch: Batch,
) -> Result<Read, Option<Status>> {
    let range = match batch {
        Batch::Small(range) => range,
        Batch::Large(at) => return Ok(Read::Streamed(at)),
    };
    // Those that have nothing but their prefix to give need no content.
    let needed = |message: &record::Message, range: &mail::ContentRange| {
        let (start, end) = bounds(message, range);
        end > start && end > message.prefix.len() as u64
    };
    let mut ids = Vec::with_capacity(range.len());
    for range in &ranges[range.clone()] {
        if let Some(message) = messages.get(&range.uid).filter(|m| needed(m, range)) {
            let id = ContentId::try_from(&message.content_id).map_err(|_| damaged())?;
            ids.push(id);
        }
    }
    let read = contents.small_many(&ids).await.map_err(|error| Some(error.into()))?;
    let mut read = ids.into_iter().zip(read);
    let mut pieces = Vec::with_capacity(range.len());
    for at in range {
        let mut piece = mail::ContentPiece {
            range: number(at),
            end: true,
            ..Default::default()
        };
        match messages.get(&ranges[at].uid) {
            None => piece.missing = true,
            Some(message) => {
                let content = match needed(message, &ranges[at]).then(|| read.next()).flatten() {
                    None => Bytes::new(),
                    Some((_, Some(content))) => content,
                    // An uploaded one may be kept in a chunk, though it is small.
                    Some((id, None)) => contents.bytes(id).await.map_err(|error| Some(error.into()))?,
                };
                piece.data = part(message, &ranges[at], &content).ok_or_else(damaged)?;
            }
        }
        pieces.push(piece);
    }
    Ok(Read::Pieces(pieces))
}

/// A range of a message: of its prefix, then of its content.
fn part(message: &record::Message, range: &mail::ContentRange, content: &Bytes) -> Option<Bytes> {
    let (start, end) = bounds(message, range);
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    let prefix = &message.prefix;
    if start >= prefix.len() {
        let (start, end) = (start - prefix.len(), end - prefix.len());
        return (start == end || end <= content.len())
            .then(|| content.slice(start.min(content.len())..end.min(content.len())));
    }
    if end <= prefix.len() {
        return Some(prefix.slice(start..end));
    }
    let rest = content.get(..end - prefix.len())?;
    let mut joined = BytesMut::with_capacity(end - start);
    joined.extend_from_slice(&prefix[start..]);
    joined.extend_from_slice(rest);
    Some(joined.freeze())
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn damaged() -> Option<Status> {
    Some(AccountError::Damaged("a message").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: u64) -> record::Message {
        record::Message {
            size,
            prefix: Bytes::from_static(b"abc"),
            ..Default::default()
        }
    }

    #[test]
    fn large_ones_are_apart_and_all_are_in_order() {
        let sizes = [10, 200 << 10, 100 << 10, 300 << 10, 5, 5];
        let messages: Messages = (1..).zip(sizes.map(message)).collect();
        let ranges: Vec<_> = [1, 2, 3, 9, 4, 5, 6]
            .map(|uid| mail::ContentRange {
                uid,
                offset: 0,
                length: 0,
            })
            .into();
        let found: Vec<_> = batches(&messages, &ranges)
            .into_iter()
            .map(|batch| match batch {
                Batch::Small(range) => (range.start, range.end),
                Batch::Large(at) => (at, at),
            })
            .collect();
        assert_eq!(found, [(0, 1), (1, 2), (2, 4), (4, 4), (5, 7)]);
        assert!(batches(&messages, &[]).is_empty());
    }

    #[test]
    fn a_range_is_of_the_prefix_and_the_content() {
        let content = Bytes::from_static(b"defgh");
        let part = |offset, length| {
            let range = mail::ContentRange { uid: 1, offset, length };
            part(&message(8), &range, &content).map(|b| String::from_utf8(b.to_vec()).unwrap())
        };
        for (offset, length, expected) in [
            (0, 0, "abcdefgh"),
            (1, 1, "b"),
            (2, 3, "cde"),
            (3, 2, "de"),
            (5, 99, "fgh"),
            (8, 1, ""),
            (20, 0, ""),
        ] {
            assert_eq!(part(offset, length).as_deref(), Some(expected), "{offset} {length}");
        }
        let short = Bytes::from_static(b"d");
        let range = mail::ContentRange {
            uid: 1,
            offset: 0,
            length: 0,
        };
        assert_eq!(super::part(&message(8), &range, &short), None);
    }
}
