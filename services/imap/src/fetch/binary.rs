//! BINARY and BINARY.SIZE (RFC 3516, RFC 9051 §6.4.5): parts without their transfer encoding.
//!
//! A literal begins with its size, and how many octets a part decodes to is known only when all of it was read. A small
//! part is held in memory; a large one is read twice.

use bytes::{BufMut, BytesMut};
use mox_imap_proto::section::Section;
use mox_imap_proto::write::{put_literal_header, put_number, put_string};
use mox_proto::mail::v1::Part;
use tonic::Status;

use crate::connection::Connection;
use crate::fetch::body::{Contents, clip, cut_off};
use crate::fetch::plan::BinaryItem;
use crate::fetch::section::{Found, find, part_of};
use crate::fetch::transfer::{Decoder, Encoding};
use crate::fetch::write::Facts;
use crate::limits;
use crate::reply::Failed;

/// Where the octets of a part come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// There is no such part.
    Absent,
    /// As they are; whether any octet may be among them.
    Raw { offset: u64, length: u64, any: bool },
    /// To be decoded.
    Encoded {
        offset: u64,
        length: u64,
        encoding: Encoding,
    },
    /// By an encoding that we don't know.
    Unknown,
}

fn source(item: &BinaryItem, facts: &Facts<'_>) -> Source {
    let root = facts.computed.and_then(|c| c.structure.as_ref());
    let Found::Range { offset, length } = find(&item.section, root, facts.size) else {
        return Source::Absent;
    };
    // RFC 3516 §4.2: a message as a whole, and what has parts, is not encoded.
    let part = root.and_then(|root| part_of(&item.section, root));
    let any = part.is_none_or(has_binary);
    let encoding = match part {
        Some(part) if item.section != Section::default() => encoding(part),
        _ => return Source::Raw { offset, length, any },
    };
    match encoding {
        Some(None) => Source::Raw { offset, length, any },
        Some(Some(encoding)) => Source::Encoded {
            offset,
            length,
            encoding,
        },
        None => Source::Unknown,
    }
}

/// The encoding of a part; `Some(None)` if it has none, `None` if we don't know it.
fn encoding(part: &Part) -> Option<Option<Encoding>> {
    if part.media_type == "multipart" {
        return Some(None);
    }
    match part.encoding.as_str() {
        "" | "7BIT" | "8BIT" | "BINARY" => Some(None),
        "BASE64" => Some(Some(Encoding::Base64)),
        "QUOTED-PRINTABLE" => Some(Some(Encoding::QuotedPrintable)),
        _ => None,
    }
}

/// Whether the part, or one in it, may have any octets. As deep as parts are parsed.
fn has_binary(part: &Part) -> bool {
    part.encoding == "BINARY" || part.parts.iter().any(has_binary) || part.message.as_deref().is_some_and(has_binary)
}

/// Whether the part has an encoding that we don't know.
pub(super) fn is_unknown(item: &BinaryItem, facts: &Facts<'_>) -> bool {
    // RFC 3516 §4.3: also its size can't be told then.
    source(item, facts) == Source::Unknown
}

/// The ranges of octets that have to be read, in this order.
pub(super) fn wanted(item: &BinaryItem, facts: &Facts<'_>) -> Vec<(u64, u64)> {
    match source(item, facts) {
        Source::Absent | Source::Unknown => Vec::new(),
        Source::Raw { .. } if item.size => Vec::new(),
        Source::Raw { offset, length, .. } => {
            let (skip, length) = clip(item.partial, length);
            // To the store, no length is all that is left.
            Some((offset + skip, length)).filter(|r| r.1 > 0).into_iter().collect()
        }
        Source::Encoded { length: 0, .. } => Vec::new(),
        Source::Encoded { offset, length, .. } if item.size || length <= limits::DECODED_IN_MEMORY => {
            vec![(offset, length)]
        }
        Source::Encoded { offset, length, .. } => vec![(offset, length); 2],
    }
}

impl Contents {
    /// Writes the value of an item; answers false if the message is gone, and nothing was written.
    pub(super) async fn binary(
        &mut self,
        connection: &mut Connection,
        item: &BinaryItem,
        facts: &Facts<'_>,
    ) -> Result<bool, Failed> {
        let out = &mut connection.out;
        match source(item, facts) {
            Source::Absent | Source::Unknown if item.size => put_number(out, 0),
            Source::Absent | Source::Unknown => out.put_slice(b"NIL"),
            Source::Raw { length, .. } if item.size => put_number(out, length),
            Source::Raw { length, any, .. } => {
                let (_, length) = clip(item.partial, length);
                if length == 0 {
                    out.put_slice(b"\"\"");
                    return Ok(true);
                }
                return self.stream(connection, length, any).await;
            }
            Source::Encoded { length: 0, .. } if item.size => put_number(out, 0),
            Source::Encoded { length: 0, .. } => out.put_slice(b"\"\""),
            Source::Encoded { length, encoding, .. } if item.size || length <= limits::DECODED_IN_MEMORY => {
                return self.decode_small(connection, item, length, encoding).await;
            }
            Source::Encoded { encoding, .. } => return self.decode_large(connection, item, encoding).await,
        }
        Ok(true)
    }

    async fn decode_small(
        &mut self,
        connection: &mut Connection,
        item: &BinaryItem,
        length: u64,
        encoding: Encoding,
    ) -> Result<bool, Failed> {
        if item.size {
            let Some((size, _)) = self.measure(encoding).await? else {
                return Ok(false);
            };
            put_number(&mut connection.out, size);
            return Ok(true);
        }
        let Some(all) = self.collect(length).await? else {
            return Ok(false);
        };
        let mut decoded = Vec::new();
        let mut decoder = Decoder::new(encoding);
        decoder.push(&all, &mut decoded);
        decoder.finish(&mut decoded);
        let (skip, length) = clip(item.partial, decoded.len() as u64);
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let part = decoded.get(at(skip)..at(skip + length)).unwrap_or_default();
        value(part, &mut connection.out);
        Ok(true)
    }

    /// How many octets a range decodes to, and whether NUL is among them. None if the message is gone.
    async fn measure(&mut self, encoding: Encoding) -> Result<Option<(u64, bool)>, Failed> {
        let mut decoder = Decoder::new(encoding);
        let mut decoded = Vec::new();
        let (mut size, mut nul) = (0, false);
        loop {
            let piece = self.next().await?;
            if piece.missing {
                return Ok(None);
            }
            decoder.push(&piece.data, &mut decoded);
            if piece.end {
                decoder.finish(&mut decoded);
            }
            size += decoded.len() as u64;
            nul |= decoded.contains(&0);
            decoded.clear();
            if piece.end {
                return Ok(Some((size, nul)));
            }
        }
    }

    async fn decode_large(
        &mut self,
        connection: &mut Connection,
        item: &BinaryItem,
        encoding: Encoding,
    ) -> Result<bool, Failed> {
        let Some((size, nul)) = self.measure(encoding).await? else {
            return Ok(false);
        };
        let (mut skip, mut left) = clip(item.partial, size);
        literal_header(left, nul, &mut connection.out);
        connection.in_literal = true;
        let mut decoder = Decoder::new(encoding);
        loop {
            let piece = self.next().await.map_err(|status| cut_off(&status))?;
            if piece.missing {
                return Err(cut_off(&Status::data_loss("the message is gone")));
            }
            let mut decoded = Vec::new();
            decoder.push(&piece.data, &mut decoded);
            if piece.end {
                decoder.finish(&mut decoded);
            }
            let mut decoded = bytes::Bytes::from(decoded);
            let passed = skip.min(decoded.len() as u64);
            skip -= passed;
            let _ = decoded.split_to(usize::try_from(passed).unwrap_or_default());
            decoded.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= decoded.len() as u64;
            connection.send(&decoded).await?;
            if piece.end {
                break;
            }
        }
        if left > 0 {
            return Err(cut_off(&Status::data_loss(
                "a part decoded to another size than before",
            )));
        }
        connection.in_literal = false;
        Ok(true)
    }
}

/// RFC 3516 §4.2: a literal with NUL is announced as such.
fn literal_header(length: u64, nul: bool, out: &mut BytesMut) {
    if nul {
        out.put_u8(b'~');
    }
    put_literal_header(out, length);
}

fn value(part: &[u8], out: &mut BytesMut) {
    if part.is_empty() {
        put_string(out, b"", false);
        return;
    }
    literal_header(part.len() as u64, part.contains(&0), out);
    out.put_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_needs_its_own_kind_of_literal() {
        let text = |part: &[u8]| {
            let mut out = BytesMut::new();
            value(part, &mut out);
            out.to_vec()
        };
        assert_eq!(text(b""), b"\"\"");
        assert_eq!(text(b"ab"), b"{2}\r\nab");
        assert_eq!(text(b"a\0"), b"~{2}\r\na\0");
    }

    #[test]
    fn encodings_are_known_or_not() {
        let part = |media_type: &str, encoding: &str| Part {
            media_type: media_type.into(),
            encoding: encoding.into(),
            ..Part::default()
        };
        assert_eq!(encoding(&part("text", "8BIT")), Some(None));
        assert_eq!(encoding(&part("image", "BASE64")), Some(Some(Encoding::Base64)));
        assert_eq!(encoding(&part("multipart", "BASE64")), Some(None));
        assert_eq!(encoding(&part("text", "X-UUENCODE")), None);
    }
}
