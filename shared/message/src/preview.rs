//! A message in a line (RFC 8970).

use mox_proto::mail::v1::Part;

use crate::limits;
use crate::text;

/// The first text that a reader would see, at most [`limits::PREVIEW_CHARS`] characters, white space collapsed, quoted
/// lines left out. Empty if there is none. `base` is what the part's offsets count beyond the start of `message`.
pub(crate) fn preview(message: &[u8], base: usize, structure: &Part) -> String {
    let Some(part) = find(structure, "plain").or_else(|| find(structure, "html")) else {
        return String::new();
    };
    let mut decoded = String::new();
    text::decode_part_to(message, base, part, limits::PREVIEW_OCTETS, &mut |piece| {
        if decoded.len() < limits::PREVIEW_OCTETS {
            decoded.push_str(piece);
        }
    });
    if part.media_subtype == "html" {
        return shorten(mail_parser::decoders::html::html_to_text(&decoded).lines());
    }
    // RFC 3676 §4.3: text behind the signature separator is no content.
    let own = decoded
        .lines()
        .take_while(|line| *line != "-- ")
        .filter(|line| !line.starts_with('>'));
    let text = shorten(own);
    if text.is_empty() {
        shorten(decoded.lines())
    } else {
        text
    }
}

/// The first text part of that subtype that is no attachment, looking into messages too. Recursion is bounded by the
/// depth of the structure.
fn find<'a>(part: &'a Part, subtype: &str) -> Option<&'a Part> {
    if part.disposition.as_deref() == Some("attachment") {
        return None;
    }
    if part.media_type == "text" && part.media_subtype == subtype {
        return Some(part);
    }
    part.parts
        .iter()
        .chain(part.message.as_deref())
        .find_map(|p| find(p, subtype))
}

fn shorten<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    let mut count = 0;
    for word in lines
        .flat_map(|l| l.split(|c: char| c.is_whitespace() || c.is_control()))
        .filter(|w| !w.is_empty())
    {
        if count > 0 {
            out.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= limits::PREVIEW_CHARS {
                return out.trim_end().to_owned();
            }
            out.push(c);
            count += 1;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    fn preview(message: &str) -> String {
        crate::computed(message.as_bytes()).preview.unwrap()
    }

    #[test]
    fn the_first_own_text_is_shown() {
        assert_eq!(
            preview("A: b\r\n\r\n> quoted\r\nHello\r\n\t there\r\n-- \r\nme\r\n"),
            "Hello there"
        );
        assert_eq!(preview("A: b\r\n\r\n> only quoted\r\n"), "> only quoted");
        assert_eq!(preview("A: b\r\n\r\n"), "");
        assert_eq!(
            preview(
                "Content-Type: text/html; charset=utf-8\r\n\r\n<head><title>x</title></head><p>Gr\u{fc}n &amp; mehr</p>"
            ),
            "Grün & mehr"
        );
        let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\
            Content-Disposition: attachment\r\n\r\nno\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>yes</b>\r\n--b--\r\n";
        assert_eq!(preview(mixed), "yes");
    }

    #[test]
    fn it_is_cut_at_200_characters() {
        assert_eq!(preview(&format!("A: b\r\n\r\n{}", "ä".repeat(500))), "ä".repeat(200));
        assert!(preview(&format!("A: b\r\n\r\n{}", "wort ".repeat(50_000))).len() <= 200);
    }
}
