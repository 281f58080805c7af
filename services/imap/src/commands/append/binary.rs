//! Binary data in messages that are appended as literal8 (RFC 3516 §4.4).
//!
//! What is stored can be fetched by every client: a part of a message that contains NUL, and says that it is binary, is
//! kept in base64. NUL elsewhere, where nothing says how to encode it, is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_proto::mail::v1::Part;

use crate::reply::Reply;

/// Octets of a line of base64 (RFC 2045 §6.8 has 76 characters), before encoding.
const LINE: usize = 57;

/// The refusal of NUL where it can't be.
pub(super) fn unknown() -> Reply {
    Reply::no("The message has NUL in what is not a part with binary encoding").code("UNKNOWN-CTE")
}

/// The message with its binary parts in base64; nothing, if it has NUL elsewhere.
pub(super) fn convert(message: &[u8]) -> Option<Vec<u8>> {
    let structure = mox_message::computed(message).structure?;
    let mut out = Vec::with_capacity(message.len() + message.len() / 2);
    let mut at = 0;
    for part in leaves(&structure) {
        let (header, body, end) = (
            offset(part.header_offset),
            offset(part.body_offset),
            offset(part.end_offset),
        );
        let binary = part.encoding.eq_ignore_ascii_case("BINARY");
        // What overlaps is no structure to rely on.
        if !binary || header < at || body < header || !message.get(body..end)?.contains(&0) {
            continue;
        }
        out.extend_from_slice(message.get(at..header)?);
        rewrite_header(message.get(header..body)?, &mut out);
        encode(message.get(body..end)?, end == message.len(), &mut out);
        at = end;
    }
    out.extend_from_slice(message.get(at..)?);
    (!out.contains(&0)).then_some(out)
}

fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The parts without others below, in order.
fn leaves(root: &Part) -> Vec<&Part> {
    let mut out = Vec::new();
    let mut left = vec![root];
    while let Some(part) = left.pop() {
        match &part.message {
            Some(message) => left.push(message),
            None if part.parts.is_empty() => out.push(part),
            None => left.extend(part.parts.iter().rev()),
        }
    }
    out
}

/// Copies a header, with another Content-Transfer-Encoding.
fn rewrite_header(header: &[u8], out: &mut Vec<u8>) {
    let mut skipping = false;
    for line in header.split_inclusive(|&b| b == b'\n') {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if !folded {
            let name = line.split(|&b| b == b':').next().unwrap_or_default().trim_ascii_end();
            skipping = line.contains(&b':') && name.eq_ignore_ascii_case(b"content-transfer-encoding");
            if skipping {
                out.extend_from_slice(b"Content-Transfer-Encoding: base64\r\n");
            }
        }
        if !skipping {
            out.extend_from_slice(line);
        }
    }
}

/// Encodes a body. The line end behind the last line of a part belongs to the boundary that follows.
fn encode(body: &[u8], last: bool, out: &mut Vec<u8>) {
    for (n, line) in body.chunks(LINE).enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
    }
    if last {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_parts_are_encoded() {
        let message =
            b"Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\
            text\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding:\r\n binary\r\nX: y\r\n\r\n\
            \x00\x01\r\n\x02\r\n--b--\r\n";
        let want = b"Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\
            text\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nX: y\r\n\r\n\
            AAENCgI=\r\n--b--\r\n";
        let got = convert(message).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(want));
    }

    #[test]
    fn a_binary_message_is_encoded_in_lines() {
        let mut message = b"Content-Transfer-Encoding: BINARY\r\nContent-Type: application/x\r\n\r\n".to_vec();
        message.extend_from_slice(&[0; 60]);
        let got = String::from_utf8(convert(&message).unwrap()).unwrap();
        let (header, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(header.starts_with("Content-Transfer-Encoding: base64\r\n"), "{header}");
        assert_eq!(body, format!("{}\r\nAAAA\r\n", "A".repeat(76)));
    }

    #[test]
    fn nul_elsewhere_is_refused() {
        for bad in [
            &b"Subject: a\0\r\n\r\nx\r\n"[..],
            b"Subject: a\r\n\r\n\0\r\n",
            b"Content-Transfer-Encoding: x-own\r\n\r\n\0",
            b"\0",
        ] {
            assert_eq!(convert(bad), None, "{bad:?}");
        }
    }
}
