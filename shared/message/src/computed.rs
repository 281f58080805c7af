//! What is computed once for a message, when it is delivered.

use mox_proto::mail::v1::Computed;

use crate::{limits, preview, structure};

/// Envelope, structure, preview and references of a message. See [`computed_with_prefix`].
#[must_use]
pub fn computed(message: &[u8]) -> Computed {
    computed_with_prefix(b"", message)
}

/// Envelope, structure, preview and references of a message that consists of `prefix`, which is whole header fields, and
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
        references: Some(references(content)),
    }
}

/// The References field, unfolded, or nothing: with the envelope it is all that threading by references needs. Of a
/// very long one the end is kept, as the nearest messages are named last.
#[must_use]
pub fn references(content: &[u8]) -> bytes::Bytes {
    let Some(field) = crate::headers(content).find(|field| field.is("references")) else {
        return bytes::Bytes::new();
    };
    let value = field.value();
    let start = value.len().saturating_sub(limits::VALUE);
    bytes::Bytes::copy_from_slice(&value[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_kept_for_threading() {
        let message = b"Subject: a\r\nReferences: <a@b>\r\n <c@d>\r\n\r\nReferences: <e@f>\r\n";
        assert_eq!(references(message), "<a@b> <c@d>");
        assert_eq!(computed(b"\r\nx").references.as_deref(), Some(&b""[..]));
        let long = format!("References: {}<last@b>\r\n\r\n", "<x@y> ".repeat(10_000));
        let kept = references(long.as_bytes());
        assert!(kept.len() == limits::VALUE && kept.ends_with(b"<last@b>"));
    }
}
