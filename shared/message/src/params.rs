//! Structured MIME values: Content-Type, Content-Disposition, Content-Transfer-Encoding (RFC 2045 §5, RFC 2183).

use bytes::Bytes;
use mox_proto::mail::v1::Parameter;

use crate::charset;
use crate::transfer::hex;

/// A value and its parameters, the value in lower case.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Structured {
    pub(crate) value: String,
    pub(crate) parameters: Vec<Parameter>,
}

/// Reads `value; name=value; …`. Parameters that are not well-formed are left out. Continuations and charsets of
/// RFC 2231 stay as written: `filename*0*`. `max` bounds how many are given.
pub(crate) fn structured(raw: &[u8], max: usize) -> Structured {
    let mut lexer = Lexer { rest: raw };
    let value = lexer.until(b";");
    let mut parameters = Vec::new();
    while lexer.skip(b';') && parameters.len() < max {
        let name = lexer.until(b"=;");
        if !lexer.skip(b'=') {
            continue;
        }
        let value = lexer.value();
        let name = name.to_ascii_lowercase();
        if is_token(&name) {
            // is_token allows ASCII only, so this loses nothing.
            let name = String::from_utf8_lossy(&name).into_owned();
            parameters.push(Parameter {
                name,
                value: Bytes::from(value),
            });
        }
    }
    let value = value.to_ascii_lowercase();
    let value = if value.iter().all(u8::is_ascii_graphic) {
        String::from_utf8_lossy(&value).into_owned()
    } else {
        String::new()
    };
    Structured { value, parameters }
}

/// RFC 2045 §5.1.
pub(crate) fn is_token(s: &[u8]) -> bool {
    !s.is_empty()
        && s.iter()
            .all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(b))
}

struct Lexer<'a> {
    rest: &'a [u8],
}

impl Lexer<'_> {
    fn skip(&mut self, wanted: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Text up to one of `ends`, without white space and comments.
    fn until(&mut self, ends: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(b) = self.rest.first().copied() {
            match b {
                b'(' => self.comment(),
                b if ends.contains(&b) => break,
                b' ' | b'\t' => {
                    self.next();
                }
                b => {
                    out.push(b);
                    self.next();
                }
            }
        }
        out
    }

    fn comment(&mut self) {
        let mut depth = 0u32;
        while let Some(b) = self.next() {
            match b {
                b'\\' => drop(self.next()),
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }

    /// A quoted string, or anything up to the next semicolon: file names are often written without quotes.
    fn value(&mut self) -> Vec<u8> {
        self.rest = self.rest.trim_ascii_start();
        if !self.skip(b'"') {
            let end = self.rest.iter().position(|b| *b == b';').unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            let end = value
                .windows(2)
                .position(|w| matches!(w, b" (" | b"\t("))
                .unwrap_or(value.len());
            return value[..end].trim_ascii().to_vec();
        }
        let mut out = Vec::new();
        while let Some(b) = self.next() {
            match b {
                b'\\' => out.extend(self.next()),
                b'"' => break,
                b => out.push(b),
            }
        }
        self.until(b";");
        out
    }
}

/// The value of a parameter as text, with the continuations and charsets of RFC 2231 resolved, and the encoded words
/// that some writers put there. `name` is in lower case.
#[must_use]
pub fn parameter(parameters: &[Parameter], name: &str) -> Option<String> {
    if let Some(plain) = parameters.iter().find(|p| p.name == name) {
        return Some(crate::decode_header(&plain.value));
    }
    // name*, name*0, name*0*, name*1, …: RFC 2231 §3 and §4.
    let mut pieces: Vec<(u32, bool, &[u8])> = parameters
        .iter()
        .filter_map(|p| {
            let suffix = p.name.strip_prefix(name)?.strip_prefix('*')?;
            let (number, encoded) = match suffix.strip_suffix('*') {
                Some(number) => (number, true),
                None => (suffix, suffix.is_empty()),
            };
            let number = if number.is_empty() { 0 } else { number.parse().ok()? };
            Some((number, encoded, p.value.as_ref()))
        })
        .collect();
    pieces.sort_by_key(|(number, ..)| *number);
    let mut label = String::new();
    let mut out = Vec::new();
    for (wanted, (number, encoded, value)) in pieces.iter().enumerate() {
        if *number as usize != wanted {
            break;
        }
        let mut value = *value;
        if wanted == 0 && *encoded {
            let mut parts = value.splitn(3, |b| *b == b'\'');
            if let (Some(charset), Some(_), Some(rest)) = (parts.next(), parts.next(), parts.next()) {
                label = String::from_utf8_lossy(charset).into_owned();
                value = rest;
            }
        }
        if *encoded {
            percent(value, &mut out);
        } else {
            out.extend_from_slice(value);
        }
    }
    (!pieces.is_empty()).then(|| charset::decode(&label, &out))
}

fn percent(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                out.push(hex(*a) << 4 | hex(*b));
                rest = after;
            }
            (other, _) => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(raw: &str) -> String {
        let s = structured(raw.as_bytes(), 100);
        let mut out = s.value;
        for p in s.parameters {
            out += &format!(";{}={}", p.name, String::from_utf8_lossy(&p.value));
        }
        out
    }

    #[test]
    fn values_and_parameters_are_read_forgivingly() {
        for (given, expected) in [
            (
                "text/plain; charset=us-ascii (Plain text)",
                "text/plain;charset=us-ascii",
            ),
            ("Text / HTML ;Charset = \"UTF-8\" ; x", "text/html;charset=UTF-8"),
            (
                "multipart/mixed; boundary=\"a;\\\"b\"; y=2",
                "multipart/mixed;boundary=a;\"b;y=2",
            ),
            (
                "attachment; filename=my file.txt; size=3",
                "attachment;filename=my file.txt;size=3",
            ),
            ("a/b(c(d);e);n*0*=utf-8''x%20;N*1=y", "a/b;n*0*=utf-8''x%20;n*1=y"),
            ("a/b;;;=x;ä=y;z=", "a/b;z="),
            ("ä/b; c=d", ";c=d"),
            ("", ""),
        ] {
            assert_eq!(shown(given), expected, "{given}");
        }
    }

    #[test]
    fn parameters_of_rfc_2231_are_put_together() {
        let get = |raw: &str| parameter(&structured(raw.as_bytes(), 100).parameters, "filename");
        assert_eq!(get("x; filename*=iso-8859-1'de'%E4.txt").as_deref(), Some("ä.txt"));
        assert_eq!(
            get("x; filename*1=b; filename*0*=UTF-8''%C3%A4; filename*2*=%20c").as_deref(),
            Some("äb c")
        );
        assert_eq!(get("x; filename*0=a; filename*2=c").as_deref(), Some("a"));
        assert_eq!(get("x; filename==?utf-8?q?=C3=A4?=").as_deref(), Some("ä"));
        assert_eq!(get("x; file=y"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(s in "[a-c=;*'%0-3()\\\\\" \u{e4}]{0,60}") {
            let s = structured(s.as_bytes(), 20);
            let _ = parameter(&s.parameters, "a");
        }
    }
}
