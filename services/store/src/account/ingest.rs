//! What is found out about a message's content before it is added.

use bytes::Bytes;
use mox_message::HeaderSummary;
use mox_proto::mail::v1::{Computed, Part};
use prost::Message as _;

use super::AccountError;
use crate::engine::EngineError;

/// Contents from this size on are read on a thread of their own, so that they do not hold up the runtime's.
const OFF_THREAD_BYTES: usize = 64 << 10;

/// The header's facts that the message's record keeps.
pub type Facts = HeaderSummary;

/// A content, read once for all who get it.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// Of the header.
    pub facts: Facts,
    /// Without a prefix.
    computed: Computed,
    /// Bytes, without a prefix.
    pub size: u64,
}

/// Reads a content.
///
/// # Errors
/// If reading it was given up as the process is ending.
pub async fn ingest(content: Bytes) -> Result<Ingested, AccountError> {
    let large = content.len() >= OFF_THREAD_BYTES;
    let read = move || Ingested {
        facts: HeaderSummary::of(&content),
        computed: mox_message::computed(&content),
        size: content.len() as u64,
    };
    if !large {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| AccountError::Engine(EngineError::Closed))
}

impl Ingested {
    /// What is kept for the message that has `prefix` bytes of header fields above the content.
    #[must_use]
    pub fn computed(&self, prefix: u64) -> Bytes {
        if prefix == 0 {
            return self.computed.encode_to_vec().into();
        }
        let mut computed = self.computed.clone();
        if let Some(structure) = &mut computed.structure {
            shift(structure, prefix);
            // The prefix belongs to the header.
            structure.header_offset = 0;
        }
        computed.encode_to_vec().into()
    }
}

fn shift(part: &mut Part, by: u64) {
    part.header_offset += by;
    part.body_offset += by;
    part.end_offset += by;
    part.parts.iter_mut().for_each(|p| shift(p, by));
    if let Some(message) = &mut part.message {
        shift(message, by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_prefix_moves_the_parts() {
        let content = b"Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\
            Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntwo\r\n--b--\r\n";
        let prefix = b"Return-Path: <a@b>\r\nDelivered-To: c@d\r\n";
        let read = ingest(Bytes::from_static(content)).await.unwrap();
        let moved = Computed::decode(read.computed(prefix.len() as u64)).unwrap();
        assert_eq!(moved, mox_message::computed_with_prefix(prefix, content));
        assert_eq!(
            Computed::decode(read.computed(0)).unwrap(),
            mox_message::computed(content)
        );
    }
}
