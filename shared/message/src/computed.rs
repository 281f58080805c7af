//! What is computed once for a message, when it is delivered.

use mox_proto::mail::v1::Computed;

use crate::{preview, structure};

/// Envelope, structure and preview of a message. See [`computed_with_prefix`].
#[must_use]
pub fn computed(message: &[u8]) -> Computed {
    computed_with_prefix(b"", message)
}

/// Envelope, structure and preview of a message that consists of `prefix`, which is whole header fields, and
/// `content`. Offsets count from the start of the prefix, so a prefix costs no copy of the content.
///
/// In the structure, a multipart has at least one part, and message/rfc822 and message/global have a message and an
/// envelope; where that can't be, the part is reported as application/octet-stream. What goes beyond [`crate::limits`]
/// is left out.
#[must_use]
pub fn computed_with_prefix(prefix: &[u8], content: &[u8]) -> Computed {
    let (envelope, part) = structure::scan_with_prefix(prefix, content);
    let preview = preview::preview(content, prefix.len(), &part);
    Computed {
        envelope: Some(envelope),
        structure: Some(part),
        preview: Some(preview),
    }
}
