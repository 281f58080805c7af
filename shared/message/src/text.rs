//! The text of a message, for searching: decoded header fields and decoded bodies.

use mox_proto::mail::v1::Part;

use crate::charset::{self, Charset};
use crate::fields::Field;
use crate::limits::{PIECE, PIECE_OVERLAP};
use crate::transfer::{Decoder, Encoding};
use crate::{params, structure};

/// Encoded octets that are decoded at a time.
const STEP: usize = 64 << 10;

/// Calls `visit` with all text of a message: each header field as `Name: value`, with encoded words decoded, then the
/// bodies as [`decoded_body`] does.
pub fn decoded_text(message: &[u8], visit: &mut dyn FnMut(&str)) {
    for field in crate::headers(message) {
        visit_field(&field, visit);
    }
    decoded_body(message, visit);
}

/// Calls `visit` with the text of the body: text parts and delivery status in whatever encoding and charset, the
/// headers of parts and of messages within. Other media types are not text. A long text comes in pieces of about
/// [`PIECE`] octets, each beginning with the last [`PIECE_OVERLAP`] of the one before, so that what is searched for is
/// not missed where they meet.
pub fn decoded_body(message: &[u8], visit: &mut dyn FnMut(&str)) {
    let (_, part) = structure::scan(message);
    visit_part(message, &part, visit);
}

fn visit_field(field: &Field<'_>, visit: &mut dyn FnMut(&str)) {
    visit(&format!("{}: {}", String::from_utf8_lossy(field.name), field.text()));
}

fn visit_part(message: &[u8], part: &Part, visit: &mut dyn FnMut(&str)) {
    for inner in part.parts.iter().chain(part.message.as_deref()) {
        let header = &message[inner.header_offset as usize..inner.body_offset as usize];
        for field in crate::headers(header) {
            visit_field(&field, visit);
        }
        visit_part(message, inner, visit);
    }
    let is_leaf = part.parts.is_empty() && part.message.is_none();
    if is_leaf && matches!(part.media_type.as_str(), "text" | "message") {
        decode_part_to(message, 0, part, usize::MAX, visit);
    }
}

/// The whole decoded text of one part of a message's structure, whose offsets must be those of `message`.
#[must_use]
pub fn decode_part(message: &[u8], part: &Part) -> String {
    let mut out = String::new();
    let (start, end) = range(message, 0, part);
    let bytes = crate::transfer::decode(Encoding::from_name(&part.encoding), &message[start..end]);
    out.push_str(&charset::decode(&charset_label(part), &bytes));
    out
}

/// The beginning of the decoded text of one part, as [`decode_part`] does, of at most `max` octets.
#[must_use]
pub fn decode_part_start(message: &[u8], part: &Part, max: usize) -> String {
    let (start, end) = range(message, 0, part);
    // Quoted-printable needs most: three octets for one.
    let enough = start.saturating_add(max.saturating_mul(4)).min(end);
    let whole = enough == end;
    let mut decoder = Decoder::new(Encoding::from_name(&part.encoding));
    let mut bytes = Vec::new();
    decoder.feed(&message[start..enough], &mut bytes);
    if whole {
        decoder.finish(&mut bytes);
    }
    let mut text = charset::decode(&charset_label(part), &bytes);
    text.truncate(text.floor_char_boundary(max));
    text
}

/// How many octets the body of one part of a message's structure has once its transfer encoding is taken off.
#[must_use]
pub fn decoded_size(message: &[u8], part: &Part) -> u64 {
    let (start, end) = range(message, 0, part);
    let encoding = Encoding::from_name(&part.encoding);
    if encoding == Encoding::Identity {
        return (end - start) as u64;
    }
    let mut decoder = Decoder::new(encoding);
    let mut bytes = Vec::with_capacity(STEP);
    let mut size = 0;
    for chunk in message[start..end].chunks(STEP) {
        bytes.clear();
        decoder.feed(chunk, &mut bytes);
        size += bytes.len() as u64;
    }
    bytes.clear();
    decoder.finish(&mut bytes);
    size + bytes.len() as u64
}

/// The octets of one part of a message's structure, whose offsets must be those of `message`; None if they are more than
/// `max` when decoded.
#[must_use]
pub fn decode_octets(message: &[u8], part: &Part, max: usize) -> Option<Vec<u8>> {
    let (start, end) = range(message, 0, part);
    let mut octets = Vec::new();
    let mut decoder = Decoder::new(Encoding::from_name(&part.encoding));
    for chunk in message[start..end].chunks(STEP) {
        decoder.feed(chunk, &mut octets);
        if octets.len() > max {
            return None;
        }
    }
    decoder.finish(&mut octets);
    Some(octets).filter(|octets| octets.len() <= max)
}

fn charset_label(part: &Part) -> String {
    params::parameter(&part.parameters, "charset").unwrap_or_default()
}

fn range(message: &[u8], base: usize, part: &Part) -> (usize, usize) {
    let place = |offset: u64| (offset as usize).saturating_sub(base).min(message.len());
    let start = place(part.body_offset);
    (start, place(part.end_offset).max(start))
}

/// Decodes a part to pieces of text, from at most `max` encoded octets.
pub(crate) fn decode_part_to(message: &[u8], base: usize, part: &Part, max: usize, visit: &mut dyn FnMut(&str)) {
    let (start, end) = range(message, base, part);
    let encoded = &message[start..end.min(start.saturating_add(max))];
    let mut decoder = Decoder::new(Encoding::from_name(&part.encoding));
    let mut bytes = Vec::new();
    let mut charset = match Charset::from_label(&charset_label(part)) {
        Charset::Known(encoding) => Some(encoding.new_decoder_without_bom_handling()),
        Charset::Guess => None,
        Charset::Whole(decode) => {
            decoder.feed(encoded, &mut bytes);
            decoder.finish(&mut bytes);
            return pieces(&decode(&bytes), visit);
        }
    };
    let mut text = String::new();
    let mut chunks = encoded.chunks(STEP).peekable();
    while let Some(chunk) = chunks.next() {
        bytes.clear();
        decoder.feed(chunk, &mut bytes);
        let last = chunks.peek().is_none();
        if last {
            decoder.finish(&mut bytes);
        }
        let charset =
            charset.get_or_insert_with(|| charset::guess_encoding(&bytes, last).new_decoder_without_bom_handling());
        text.reserve(charset.max_utf8_buffer_length(bytes.len()).unwrap_or(0));
        let _ = charset.decode_to_string(&bytes, &mut text, last);
        if text.len() >= PIECE {
            visit(&text);
            let keep = text.ceil_char_boundary(text.len() - PIECE_OVERLAP);
            text.drain(..keep);
        }
    }
    if !text.is_empty() {
        visit(&text);
    }
}

fn pieces(mut text: &str, visit: &mut dyn FnMut(&str)) {
    while text.len() > PIECE {
        let end = text.floor_char_boundary(PIECE);
        visit(&text[..end]);
        text = &text[text.floor_char_boundary(end - PIECE_OVERLAP)..];
    }
    if !text.is_empty() {
        visit(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        decoded_text(message, &mut |t| out.push(t.to_owned()));
        out
    }

    #[test]
    fn headers_and_texts_are_decoded_and_other_media_left_out() {
        let m = "Subject: =?utf-8?q?Gr=C3=BCn?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
            Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8NLJ\r\n--b\r\n\
            Content-Type: image/png\r\n\r\nbinary\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nh=e4\r\n--b--\r\n";
        assert_eq!(
            all(m.as_bytes()),
            [
                "Subject: Grün",
                "Content-Type: multipart/mixed; boundary=b",
                "Content-Type: text/plain; charset=koi8-r",
                "Content-Transfer-Encoding: base64",
                "При",
                "Content-Type: image/png",
                "Content-Type: message/rfc822",
                "Subject: in",
                "h=e4",
            ]
        );
    }

    #[test]
    fn undeclared_text_is_utf_8_or_windows_1252() {
        assert_eq!(all("A: b\r\n\r\nä".as_bytes())[1], "ä");
        assert_eq!(all(b"A: b\r\n\r\n\xe4")[1], "ä");
    }

    #[test]
    fn beginnings_and_sizes_are_those_of_the_decoded_part() {
        let body = "Grün ".repeat(100_000);
        let encoded: String = body.bytes().map(|b| format!("={b:02X}")).collect::<String>();
        let lines = encoded
            .as_bytes()
            .chunks(72)
            .map(|l| String::from_utf8_lossy(l).into_owned() + "=\r\n");
        let message = format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            lines.collect::<String>()
        );
        let (_, part) = structure::scan(message.as_bytes());
        for max in [0, 1, 3, 1000, body.len(), body.len() + 1] {
            let start = decode_part_start(message.as_bytes(), &part, max);
            assert_eq!(start, body[..body.floor_char_boundary(max)], "{max}");
        }
        assert_eq!(decoded_size(message.as_bytes(), &part), body.len() as u64);
        let message = b"Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\nZGU=\r\n";
        assert_eq!(decoded_size(message, &structure::scan(message).1), 5);
        let message = b"A: b\r\n\r\nabc\r\n";
        assert_eq!(decoded_size(message, &structure::scan(message).1), 5);
    }

    #[test]
    fn pieces_of_a_long_text_overlap() {
        for charset in ["utf-8", "utf-7"] {
            let body = "ab cd\r\n".repeat(500_000);
            let m = format!("Content-Type: text/plain; charset={charset}\r\n\r\n{body}");
            let mut pieces: Vec<String> = Vec::new();
            decoded_body(m.as_bytes(), &mut |t| pieces.push(t.to_owned()));
            assert!(pieces.len() > 2 && pieces.iter().all(|p| p.len() < 2 * PIECE));
            let mut joined = pieces[0].clone();
            for p in &pieces[1..] {
                let overlap = &p[..PIECE_OVERLAP];
                assert!(joined.ends_with(overlap));
                joined.push_str(&p[PIECE_OVERLAP..]);
            }
            assert_eq!(joined, body);
        }
    }
}
