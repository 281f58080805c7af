//! BODY and BODYSTRUCTURE (RFC 9051 §7.5.2).

use bytes::{BufMut, BytesMut};
use mox_imap_proto::write::{put_number, put_string};
use mox_proto::mail::v1::{Parameter, Part};

use crate::fetch::envelope;

/// Deeper than messages are parsed; here only so that what the store says can't exhaust the stack.
const DEPTH: usize = 200;

/// Writes a structure, with extension data (BODYSTRUCTURE) or without (BODY). One that is not known is empty text.
pub(super) fn write(part: Option<&Part>, extended: bool, utf8: bool, out: &mut BytesMut) {
    let nothing = Part {
        media_type: "text".to_owned(),
        media_subtype: "plain".to_owned(),
        ..Default::default()
    };
    let form = Form { extended, utf8 };
    body(part.unwrap_or(&nothing), form, 0, out);
}

/// How a structure is written.
#[derive(Clone, Copy)]
struct Form {
    /// With extension data.
    extended: bool,
    /// Quoted strings may be UTF-8.
    utf8: bool,
}

fn body(part: &Part, form: Form, depth: usize, out: &mut BytesMut) {
    out.put_u8(b'(');
    if part.media_type == "multipart" && !part.parts.is_empty() && depth < DEPTH {
        for child in &part.parts {
            body(child, form, depth + 1, out);
        }
        out.put_u8(b' ');
        upper(&part.media_subtype, out);
        if form.extended {
            out.put_u8(b' ');
            parameters(&part.parameters, form, out);
            tail(part, form, out);
        }
    } else {
        single(part, form, depth, out);
    }
    out.put_u8(b')');
}

fn single(part: &Part, form: Form, depth: usize, out: &mut BytesMut) {
    // A multipart without parts is told as what it is for the reader: text. Others could not be parsed by clients.
    let empty = part.media_type == "multipart";
    let (media, subtype) = if empty {
        ("text", "plain")
    } else {
        (&*part.media_type, &*part.media_subtype)
    };
    upper(media, out);
    out.put_u8(b' ');
    upper(subtype, out);
    out.put_u8(b' ');
    parameters(if empty { &[] } else { &part.parameters }, form, out);
    out.put_u8(b' ');
    envelope::string(part.content_id.as_ref(), form.utf8, out);
    out.put_u8(b' ');
    envelope::string(part.description.as_ref(), form.utf8, out);
    out.put_u8(b' ');
    upper(
        if part.encoding.is_empty() {
            "7BIT"
        } else {
            &part.encoding
        },
        out,
    );
    out.put_u8(b' ');
    put_number(out, part.end_offset.saturating_sub(part.body_offset));
    let message = media == "message" && matches!(subtype, "rfc822" | "global");
    if let (true, Some(inner)) = (message && depth < DEPTH, &part.message) {
        out.put_u8(b' ');
        envelope::write(part.envelope.as_ref(), form.utf8, out);
        out.put_u8(b' ');
        body(inner, form, depth + 1, out);
        out.put_u8(b' ');
        put_number(out, part.lines);
    } else if message {
        // The grammar needs an envelope and a body in any case.
        out.put_u8(b' ');
        envelope::write(part.envelope.as_ref(), form.utf8, out);
        out.put_slice(b" (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 0 0) ");
        put_number(out, part.lines);
    } else if media == "text" {
        out.put_u8(b' ');
        put_number(out, part.lines);
    }
    if form.extended {
        out.put_u8(b' ');
        envelope::string(part.md5.as_ref(), form.utf8, out);
        tail(part, form, out);
    }
}

/// Disposition, language and location.
fn tail(part: &Part, form: Form, out: &mut BytesMut) {
    match &part.disposition {
        Some(disposition) => {
            out.put_slice(b" (");
            upper(disposition, out);
            out.put_u8(b' ');
            parameters(&part.disposition_parameters, form, out);
            out.put_u8(b')');
        }
        None => out.put_slice(b" NIL"),
    }
    out.put_u8(b' ');
    match part.languages.as_slice() {
        [] => out.put_slice(b"NIL"),
        [one] => put_string(out, one.as_bytes(), false),
        many => {
            for (i, language) in many.iter().enumerate() {
                out.put_u8(if i == 0 { b'(' } else { b' ' });
                put_string(out, language.as_bytes(), false);
            }
            out.put_u8(b')');
        }
    }
    out.put_u8(b' ');
    envelope::string(part.location.as_ref(), form.utf8, out);
}

fn parameters(parameters: &[Parameter], form: Form, out: &mut BytesMut) {
    if parameters.is_empty() {
        out.put_slice(b"NIL");
        return;
    }
    for (i, parameter) in parameters.iter().enumerate() {
        out.put_u8(if i == 0 { b'(' } else { b' ' });
        upper(&parameter.name, out);
        out.put_u8(b' ');
        put_string(out, &parameter.value, form.utf8);
    }
    out.put_u8(b')');
}

/// In capitals, as most servers write what is compared without regard to case, and some clients expect.
fn upper(text: &str, out: &mut BytesMut) {
    let plain = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if !plain {
        put_string(out, text.to_ascii_uppercase().as_bytes(), false);
        return;
    }
    out.put_u8(b'"');
    for b in text.bytes() {
        out.put_u8(b.to_ascii_uppercase());
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mox_proto::mail::v1::Envelope;

    use super::*;

    fn text(part: &Part, extended: bool) -> String {
        let mut out = BytesMut::new();
        write(Some(part), extended, false, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn plain(size: u64) -> Part {
        Part {
            media_type: "text".into(),
            media_subtype: "plain".into(),
            parameters: vec![Parameter {
                name: "charset".into(),
                value: Bytes::from_static(b"utf-8"),
            }],
            encoding: "8BIT".into(),
            lines: 2,
            end_offset: size,
            ..Default::default()
        }
    }

    #[test]
    fn structures_are_written() {
        assert_eq!(
            text(&plain(20), false),
            r#"("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" 20 2)"#
        );
        let image = Part {
            media_type: "image".into(),
            media_subtype: "png".into(),
            encoding: "BASE64".into(),
            end_offset: 9,
            disposition: Some("attachment".into()),
            languages: vec!["en".into(), "de".into()],
            ..Default::default()
        };
        let mixed = Part {
            media_type: "multipart".into(),
            media_subtype: "mixed".into(),
            parts: vec![plain(3), image],
            ..Default::default()
        };
        assert_eq!(
            text(&mixed, true),
            concat!(
                r#"(("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" 3 2 NIL NIL NIL NIL)"#,
                r#"("IMAGE" "PNG" NIL NIL NIL "BASE64" 9 NIL ("ATTACHMENT" NIL) ("en" "de") NIL)"#,
                r#" "MIXED" NIL NIL NIL NIL)"#
            )
        );
        let message = Part {
            media_type: "message".into(),
            media_subtype: "rfc822".into(),
            envelope: Some(Envelope::default()),
            message: Some(Box::new(plain(3))),
            lines: 7,
            end_offset: 30,
            ..Default::default()
        };
        assert_eq!(
            text(&message, false),
            concat!(
                r#"("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 30 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"#,
                r#" ("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" 3 2) 7)"#
            )
        );
    }
}
