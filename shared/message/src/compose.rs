//! Building messages: header fields, texts, attachments, multiparts.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use time::OffsetDateTime;

use crate::edit::{has_long_line, is_eight_bit, to_crlf};

/// RFC 5322 §2.1.1: lines should be no longer.
const LINE: usize = 78;
/// RFC 2047 §2: a line with an encoded word is at most 76 long. Of it, `=?utf-8?b?` and `?=` take 12, the field's name
/// is given as many, and base64 takes 4 for 3.
const WORD_OCTETS: usize = 39;

/// A message's header under construction. Values can't break out of their field: line ends in them are removed.
#[derive(Debug, Clone, Default)]
pub struct Header {
    out: Vec<u8>,
    smtputf8: bool,
}

impl Header {
    /// With `smtputf8`, text stays UTF-8 (RFC 6532); without, it becomes encoded words (RFC 2047).
    #[must_use]
    pub fn new(smtputf8: bool) -> Self {
        Self {
            out: Vec::new(),
            smtputf8,
        }
    }

    /// A structured field, folded where it has spaces.
    pub fn field(&mut self, name: &str, value: &str) -> &mut Self {
        let words = value
            .split_ascii_whitespace()
            .map(|w| w.replace(char::is_control, ""))
            .collect::<Vec<_>>();
        self.folded(name, &words);
        self
    }

    /// An unstructured field, such as Subject.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let words = self.encoded(value);
        self.folded(name, &words);
        self
    }

    /// An address list of (display name, address). Nothing is written for an empty list.
    pub fn addresses(&mut self, name: &str, addresses: &[(&str, &str)]) -> &mut Self {
        let mut words = Vec::new();
        for (n, (display, address)) in addresses.iter().enumerate() {
            let comma = if n + 1 < addresses.len() { "," } else { "" };
            let address = address.replace(|c: char| c.is_control() || "<>".contains(c), "");
            words.extend(self.phrase(display));
            words.push(format!("<{address}>{comma}"));
        }
        if !words.is_empty() {
            self.folded(name, &words);
        }
        self
    }

    /// The fields written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// The whole message: this header, MIME-Version, and a part.
    #[must_use]
    pub fn message(mut self, body: &Part) -> Vec<u8> {
        self.field("MIME-Version", "1.0");
        body.write(&mut self);
        self.out
    }

    fn folded(&mut self, name: &str, words: &[String]) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        let mut column = name.len() + 1;
        for (n, word) in words.iter().enumerate() {
            if n > 0 && column + 1 + word.len() > LINE {
                self.out.extend_from_slice(b"\r\n");
                column = 0;
            }
            self.out.push(b' ');
            self.out.extend_from_slice(word.as_bytes());
            column += 1 + word.len();
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Words of a text, encoded as far as needed.
    fn encoded(&self, value: &str) -> Vec<String> {
        let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let plain = self.smtputf8 || clean.is_ascii();
        if plain && !clean.contains("=?") && clean.split(' ').all(|w| w.len() < 900) {
            return clean.split_ascii_whitespace().map(str::to_owned).collect();
        }
        let mut words = Vec::new();
        let mut rest = clean.trim();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest.floor_char_boundary(WORD_OCTETS));
            words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
            rest = after;
        }
        words
    }

    /// A display name: atoms, a quoted string, or encoded words.
    fn phrase(&self, name: &str) -> Vec<String> {
        let encoded = self.encoded(name);
        let is_atom = |w: &String| {
            w.chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii())
        };
        if encoded.iter().all(is_atom) {
            return encoded;
        }
        let quoted = encoded.join(" ").replace('\\', "\\\\").replace('"', "\\\"");
        vec![format!("\"{quoted}\"")]
    }
}

/// A body: a text, something else, or several.
#[derive(Debug, Clone)]
pub struct Part {
    fields: Vec<(String, String)>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// With line ends as CRLF, and encoded already.
    Encoded(Vec<u8>),
    Multipart {
        boundary: String,
        parts: Vec<Part>,
    },
}

impl Part {
    /// Text, as text/plain in UTF-8; any line ends will do.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::text_of("plain", text)
    }

    /// Text of another subtype, such as "html".
    #[must_use]
    pub fn text_of(subtype: &str, text: &str) -> Self {
        let bytes = to_crlf(text.as_bytes()).into_owned();
        let content_type = format!("text/{subtype}; charset=utf-8");
        if is_eight_bit(&bytes) || has_long_line(&bytes) {
            Self::encoded(&content_type, "quoted-printable", quoted_printable(&bytes))
        } else {
            Self::encoded(&content_type, "7bit", bytes)
        }
    }

    /// A file, in base64.
    #[must_use]
    pub fn attachment(content_type: &str, filename: &str, data: &[u8]) -> Self {
        let filename: String = filename
            .chars()
            .map(|c| {
                if c.is_ascii_graphic() && !"\"\\%".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let disposition = format!("attachment; filename=\"{filename}\"");
        Self::encoded(content_type, "base64", base64_lines(data)).with("Content-Disposition", &disposition)
    }

    /// Bytes that are encoded already, and have CRLF as line ends. 7bit, 8bit and the like.
    #[must_use]
    pub fn encoded(content_type: &str, encoding: &str, content: Vec<u8>) -> Self {
        let fields = vec![
            ("Content-Type".to_owned(), content_type.to_owned()),
            ("Content-Transfer-Encoding".to_owned(), encoding.to_owned()),
        ];
        Self {
            fields,
            content: Content::Encoded(content),
        }
    }

    /// `multipart/<subtype>` of parts. `parameters` come before the boundary: `report-type=delivery-status`, or none.
    #[must_use]
    pub fn multipart(subtype: &str, parameters: &str, parts: Vec<Self>) -> Self {
        // Random, and with characters that no encoding leaves as they are ("=_" is not in quoted-printable).
        let boundary = format!("=_{}", token());
        let parameters = if parameters.is_empty() {
            String::new()
        } else {
            format!(" {parameters};")
        };
        let content_type = format!("multipart/{subtype};{parameters} boundary=\"{boundary}\"");
        Self {
            fields: vec![("Content-Type".to_owned(), content_type)],
            content: Content::Multipart { boundary, parts },
        }
    }

    /// With a further field in its header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn write(&self, header: &mut Header) {
        for (name, value) in &self.fields {
            header.field(name, value);
        }
        header.out.extend_from_slice(b"\r\n");
        match &self.content {
            Content::Encoded(bytes) => header.out.extend_from_slice(bytes),
            Content::Multipart { boundary, parts } => {
                for part in parts {
                    header.out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                    part.write(header);
                    header.out.extend_from_slice(b"\r\n");
                }
                header.out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            }
        }
    }
}

/// A new Message-ID, with brackets.
#[must_use]
pub fn message_id(domain: &str) -> String {
    format!(
        "<{}@{}>",
        token(),
        domain.replace(|c: char| c.is_whitespace() || c.is_control() || "<>".contains(c), "")
    )
}

/// A time as RFC 5322 §3.3 writes it, in UTC.
#[must_use]
pub fn date(at: SystemTime) -> String {
    let t = OffsetDateTime::from(at);
    let (weekday, month) = (t.weekday().to_string(), t.month().to_string());
    format!(
        "{}, {} {} {:04} {:02}:{:02}:{:02} +0000",
        &weekday[..3],
        t.day(),
        &month[..3],
        t.year(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

fn token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>())
}

fn base64_lines(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 4 / 3 + data.len() / 28 + 4);
    for line in data.chunks(57) {
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// RFC 2045 §6.7, of text with CRLF as line ends.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3 / 2);
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\r\n");
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut column = 0;
        for (at, b) in line.iter().enumerate() {
            let is_last = at + 1 == line.len();
            let literal = matches!(b, 33..=60 | 62..=126) || (matches!(b, b' ' | b'\t') && !is_last);
            // A line holds 76, with room for the "=" of a soft break.
            if column + if literal { 1 } else { 3 } > 75 {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if literal {
                out.push(*b);
                column += 1;
            } else {
                out.extend_from_slice(format!("={b:02X}").as_bytes());
                column += 3;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeaderSummary, computed, decode_part};

    #[test]
    fn headers_survive_being_read() {
        for smtputf8 in [false, true] {
            let mut h = Header::new(smtputf8);
            let subject = format!("Grüße\r\nX: {}", "äöü wörter ".repeat(30));
            h.text("Subject", &subject)
                .addresses("From", &[("Jörg, \"der\" Große", "j@x.org")])
                .addresses("To", &[("", "a@b.c"), ("A. B", "c@d.e")])
                .addresses("Cc", &[]);
            let s = HeaderSummary::of(h.as_bytes());
            let words: Vec<&str> = subject.split_whitespace().collect();
            assert_eq!(s.subject.split_whitespace().collect::<Vec<_>>(), words);
            assert_eq!(s.from[0].name, "Jörg, \"der\" Große");
            assert_eq!((s.to[0].text.as_str(), s.to[1].name.as_str()), ("a@b.c", "A. B"));
            assert_eq!(crate::headers(h.as_bytes()).count(), 3);
            assert_eq!(h.as_bytes().is_ascii(), !smtputf8);
            let long = |l: &&[u8]| l.len() > LINE + 2;
            assert_eq!(h.as_bytes().split(|b| *b == b'\n').find(long), None);
        }
    }

    #[test]
    fn parts_survive_being_read() {
        let text = format!("Ein Täxt \n  = \n{}\nend", "x".repeat(2000));
        let parts = vec![
            Part::text(&text),
            Part::attachment("image/png", "a\"b.png", b"\0\x01data"),
        ];
        let m = Header::new(false).message(&Part::multipart("mixed", "", parts));
        let c = computed(&m);
        let root = c.structure.unwrap();
        assert_eq!(root.parts.len(), 2);
        assert_eq!(decode_part(&m, &root.parts[0]), text.replace('\n', "\r\n"));
        assert_eq!(root.parts[1].disposition.as_deref(), Some("attachment"));
        assert_eq!(decode_part(&m, &root.parts[1]), "\0\x01data");
    }

    proptest::proptest! {
        #[test]
        fn quoted_printable_is_undone(text in "[a =\t\u{e4}]{0,200}") {
            let encoded = quoted_printable(text.as_bytes());
            proptest::prop_assert!(encoded.split(|b| *b == b'\n').all(|l| l.len() <= 77));
            let decoded = crate::transfer::decode(crate::transfer::Encoding::QuotedPrintable, &encoded);
            proptest::prop_assert_eq!(decoded, text.into_bytes());
        }

        #[test]
        fn no_text_breaks_out_of_its_field(text in "\\PC{0,300}|[a\r\n: =?]{0,40}", name in "[ -~\r\n]{0,20}") {
            let mut h = Header::new(false);
            h.text("Subject", &text).addresses("From", &[(&name, &name)]).field("X", &name);
            proptest::prop_assert_eq!(crate::headers(h.as_bytes()).count(), 3);
        }
    }
}
