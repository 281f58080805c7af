//! Messages with sections: their octets go from the store to the client in pieces, so that neither a large message nor a
//! slow reader holds memory.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::section::Partial;
use mox_imap_proto::write::put_literal_header;
use mox_proto::mail::v1::{ContentPiece, ContentRange, ReadContentsRequest, ReadContentsResponse};
use mox_rpc::with_deadline;
use tonic::{Status, Streaming};

use crate::Shared;
use crate::connection::Connection;
use crate::enabled::Enabled;
use crate::fetch::plan::{Item, SectionItem};
use crate::fetch::section::{Found, find};
use crate::fetch::write::{self, Facts, FlagWriter};
use crate::fetch::{binary, header};
use crate::limits;
use crate::notices;
use crate::reply::{Failed, Stop};

/// A message to be told: its number, what is known, and what to tell of it.
pub(crate) struct Told<'a> {
    pub number: u32,
    pub facts: Facts<'a>,
    /// Its flags changed, and are told although they may not have been asked for.
    pub changed: bool,
}

/// Where contents are read from.
pub(crate) struct Source<'a> {
    pub shared: &'a Shared,
    pub token: &'a Bytes,
    pub mailbox: &'a Bytes,
}

/// How messages could not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Untold {
    /// They were gone.
    pub gone: u64,
    /// They have parts whose transfer encoding we don't know (RFC 3516 §4.3).
    pub undecodable: u64,
}

/// Tells messages with their sections.
pub(crate) async fn send(
    source: &Source<'_>,
    connection: &mut Connection,
    items: &[Item],
    messages: &[Told<'_>],
    enabled: Enabled,
) -> Result<Untold, Failed> {
    let mut untold = Untold::default();
    // A large part that is to be decoded is read twice.
    let sections = items
        .iter()
        .filter(|item| matches!(item, Item::Section(_) | Item::Binary(_)));
    let most = limits::CONTENT_RANGES / (2 * sections.count()).max(1);
    let mut batches = messages.chunks(most.clamp(1, limits::CONTENT_BATCH)).peekable();
    let Some(first) = batches.peek() else {
        return Ok(untold);
    };
    let mut contents = open(source, items, first).await?;
    while let Some(batch) = batches.next() {
        // While a batch is sent, the next is on its way.
        let next = async {
            match batches.peek() {
                Some(next) => open(source, items, next).await,
                None => Ok(Contents::default()),
            }
        };
        let (sent, next) = futures::join!(send_batch(connection, items, batch, contents, enabled), next);
        let sent = sent?;
        untold.gone += sent.gone;
        untold.undecodable += sent.undecodable;
        contents = next?;
    }
    Ok(untold)
}

/// Asks for the contents of a batch.
async fn open(source: &Source<'_>, items: &[Item], batch: &[Told<'_>]) -> Result<Contents, Failed> {
    let ranges: Vec<ContentRange> = batch.iter().flat_map(|told| ranges(items, &told.facts)).collect();
    let mut contents = Contents {
        ranges: ranges.len(),
        ..Contents::default()
    };
    if !ranges.is_empty() {
        let request = ReadContentsRequest {
            session: source.token.clone(),
            mailbox_id: source.mailbox.clone(),
            ranges,
            batched: true,
        };
        // The stream waits for as long as the client may take to read what is before it.
        let request = with_deadline(request, limits::INACTIVE);
        contents.stream = Some(source.shared.mail().read_contents(request).await?.into_inner());
    }
    Ok(contents)
}

/// Tells the messages of a batch. Answers how many of them were gone.
async fn send_batch(
    connection: &mut Connection,
    items: &[Item],
    batch: &[Told<'_>],
    mut contents: Contents,
    enabled: Enabled,
) -> Result<Untold, Failed> {
    let mut untold = Untold::default();
    let mut flags = FlagWriter::new(enabled);
    for told in batch {
        if is_undecodable(items, &told.facts) {
            untold.undecodable += 1;
        } else if !one(connection, items, told, &mut contents, &mut flags).await? {
            untold.gone += 1;
        }
    }
    Ok(untold)
}

/// The octets that a section needs to be read.
fn wanted(item: &SectionItem, facts: &Facts<'_>) -> Option<(u64, u64)> {
    let root = facts.computed.and_then(|c| c.structure.as_ref());
    let (offset, length) = match find(&item.section, root, facts.size) {
        Found::Absent => return None,
        Found::Range { offset, length } => {
            let (skip, length) = clip(item.partial, length);
            (offset + skip, length)
        }
        Found::Fields { offset, length, .. } => (offset, length.min(limits::HEADER)),
    };
    // To the store, no length is all that is left.
    (length > 0).then_some((offset, length))
}

fn is_undecodable(items: &[Item], facts: &Facts<'_>) -> bool {
    items
        .iter()
        .any(|item| matches!(item, Item::Binary(part) if binary::is_unknown(part, facts)))
}

/// What has to be read of a message, in the order in which it is told.
fn ranges(items: &[Item], facts: &Facts<'_>) -> Vec<ContentRange> {
    if is_undecodable(items, facts) {
        return Vec::new();
    }
    let mut out = Vec::new();
    let range = |(offset, length)| ContentRange {
        uid: facts.uid,
        offset,
        length,
    };
    for item in items {
        match item {
            Item::Section(section) => out.extend(wanted(section, facts).map(range)),
            Item::Binary(part) => out.extend(binary::wanted(part, facts).into_iter().map(range)),
            _ => {}
        }
    }
    out
}

/// Where in so many octets a partial range starts, and how many it has.
pub(super) fn clip(partial: Option<Partial>, length: u64) -> (u64, u64) {
    let Some(partial) = partial else { return (0, length) };
    let offset = partial.offset.min(length);
    (offset, partial.length.min(length - offset))
}

/// Tells one message; answers false if it is gone.
async fn one(
    connection: &mut Connection,
    items: &[Item],
    told: &Told<'_>,
    contents: &mut Contents,
    flags: &mut FlagWriter,
) -> Result<bool, Failed> {
    // What is told of a message must be sent only when it is known to be there.
    let start = connection.out.len();
    let end = contents.at + ranges(items, &told.facts).len();
    let mut sent = false;
    notices::begin(told.number, told.facts.uid, flags.enabled, &mut connection.out);
    let extra = extra(items, told, flags.enabled);
    for (i, item) in items.iter().chain(&extra).enumerate() {
        if i > 0 {
            connection.out.put_u8(b' ');
        }
        let label = match item {
            Item::Section(section) => &section.label,
            Item::Binary(part) => &part.label,
            item => {
                write::item(item, &told.facts, flags, &mut connection.out);
                continue;
            }
        };
        connection.out.put_slice(label);
        let there = match item {
            Item::Binary(part) => contents.binary(connection, part, &told.facts).await?,
            Item::Section(section) => contents.section(connection, section, &told.facts).await?,
            _ => true,
        };
        if !there && !sent {
            connection.out.truncate(start);
            contents.skip_to(end).await?;
            return Ok(false);
        }
        if !there {
            // It went while it was told.
            connection.out.put_slice(b"NIL");
        }
        sent = true;
    }
    connection.out.put_slice(b")\r\n");
    connection.flush_if_large().await?;
    Ok(true)
}

/// What is told beside what was asked for, as it changed: flags, and for who resynchronizes what RFC 7162 §3.2 wants with
/// every change of them.
fn extra(items: &[Item], told: &Told<'_>, enabled: Enabled) -> Vec<Item> {
    if !told.changed {
        return Vec::new();
    }
    let uid = enabled.qresync && !enabled.uidonly;
    let all = [(Item::Uid, uid), (Item::Flags, true), (Item::ModSeq, enabled.condstore)];
    all.into_iter()
        .filter(|(item, wanted)| *wanted && !items.contains(item))
        .map(|(item, _)| item)
        .collect()
}

/// The ranges of a batch, as they are read one after the other.
#[derive(Default)]
pub(super) struct Contents {
    stream: Option<Streaming<ReadContentsResponse>>,
    ranges: usize,
    /// The range that is read next.
    at: usize,
    /// Read, and not yet looked at.
    ahead: VecDeque<ContentPiece>,
}

impl Contents {
    /// Writes a section's value; answers false if the message is gone, and nothing was written.
    async fn section(
        &mut self,
        connection: &mut Connection,
        item: &SectionItem,
        facts: &Facts<'_>,
    ) -> Result<bool, Failed> {
        let root = facts.computed.and_then(|c| c.structure.as_ref());
        let found = find(&item.section, root, facts.size);
        let Some((_, length)) = wanted(item, facts) else {
            match found {
                Found::Absent => connection.out.put_slice(b"NIL"),
                Found::Range { .. } => connection.out.put_slice(b"\"\""),
                Found::Fields { names, without, .. } => {
                    value(&header::filter(b"", names, without), item.partial, &mut connection.out);
                }
            }
            return Ok(true);
        };
        if let Found::Fields { names, without, .. } = found {
            let Some(all) = self.collect(length).await? else {
                return Ok(false);
            };
            value(&header::filter(&all, names, without), item.partial, &mut connection.out);
            return Ok(true);
        }
        self.stream(connection, length, false).await
    }

    /// Sends a range as a literal; `binary`: as one that may have NUL (RFC 3516 §4.2).
    pub(super) async fn stream(
        &mut self,
        connection: &mut Connection,
        length: u64,
        binary: bool,
    ) -> Result<bool, Failed> {
        let mut left = length;
        let mut begun = false;
        loop {
            let piece = match self.next().await {
                Ok(piece) => piece,
                Err(status) if !begun => return Err(status.into()),
                Err(status) => return Err(cut_off(&status)),
            };
            if piece.missing && !begun {
                return Ok(false);
            }
            if !begun {
                if binary {
                    connection.out.put_u8(b'~');
                }
                put_literal_header(&mut connection.out, length);
                connection.in_literal = true;
                begun = true;
            }
            left = match left.checked_sub(piece.data.len() as u64) {
                Some(left) if !piece.missing => left,
                // The literal's size has been told.
                _ => {
                    return Err(cut_off(&Status::data_loss(
                        "the message is not as long as its record says",
                    )));
                }
            };
            connection.send(&piece.data).await?;
            if piece.end {
                break;
            }
        }
        if left > 0 {
            return Err(cut_off(&Status::data_loss(
                "the message is shorter than its record says",
            )));
        }
        connection.in_literal = false;
        Ok(true)
    }

    /// Reads a range, which is small.
    pub(super) async fn collect(&mut self, length: u64) -> Result<Option<BytesMut>, Failed> {
        let mut all = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
        loop {
            let piece = self.next().await?;
            if piece.missing {
                return Ok(None);
            }
            all.extend_from_slice(&piece.data);
            if piece.end {
                return Ok(Some(all));
            }
        }
    }

    /// The next piece of the range that is read; with its last, the next range is on.
    pub(super) async fn next(&mut self) -> Result<ContentPiece, Status> {
        let piece = loop {
            if let Some(piece) = self.ahead.pop_front() {
                break piece;
            }
            let answer = match &mut self.stream {
                Some(stream) => stream.message().await?,
                None => None,
            };
            let answer = answer.ok_or_else(|| Status::unavailable("the contents ended early"))?;
            if answer.pieces.is_empty() {
                let ReadContentsResponse {
                    range,
                    data,
                    end,
                    missing,
                    ..
                } = answer;
                break ContentPiece {
                    range,
                    data,
                    end,
                    missing,
                };
            }
            self.ahead.extend(answer.pieces);
        };
        if usize::try_from(piece.range).ok() != Some(self.at) || self.at >= self.ranges {
            return Err(Status::internal(
                "contents came in another order than they were asked for",
            ));
        }
        if piece.end || piece.missing {
            self.at += 1;
        }
        Ok(piece)
    }

    /// Passes over what is left to be read of a message that is gone.
    async fn skip_to(&mut self, end: usize) -> Result<(), Failed> {
        while self.at < end {
            self.next().await?;
        }
        Ok(())
    }
}

/// A literal was begun that can't be completed: there is nothing to say but to end.
pub(super) fn cut_off(status: &Status) -> Failed {
    tracing::error!(error = %status, "a message can't be sent whole, ending the connection");
    Stop::Closed(std::io::Error::other(status.to_string())).into()
}

/// A value that is in memory.
fn value(all: &[u8], partial: Option<Partial>, out: &mut BytesMut) {
    let (skip, length) = clip(partial, all.len() as u64);
    let range = usize::try_from(skip).unwrap_or(usize::MAX)..usize::try_from(skip + length).unwrap_or(usize::MAX);
    let part = all.get(range).unwrap_or_default();
    put_literal_header(out, part.len() as u64);
    out.put_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_ranges_stay_within() {
        let p = |offset, length| Some(Partial { offset, length });
        assert_eq!(clip(None, 10), (0, 10));
        assert_eq!(clip(p(2, 3), 10), (2, 3));
        assert_eq!(clip(p(8, 5), 10), (8, 2));
        assert_eq!(clip(p(20, 5), 10), (10, 0));
        assert_eq!(clip(p(0, u64::MAX), 10), (0, 10));
    }
}
