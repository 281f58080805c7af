//! What `{{…}}` in a text stands for, for sending and for matching.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use mox_integration_tests::client::base64;
use regex::bytes::Regex;

use crate::script::Text;

/// What a capture takes.
const TOKEN: &str = r#"[^\s()\[\]{}<>"]+"#;

/// Names and what they stand for.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, Vec<u8>>);

enum Piece<'t> {
    Plain(&'t str),
    Any,
    Regex(&'t str),
    Bytes(Vec<u8>),
    Name(&'t str),
}

fn hex(digits: &str) -> Result<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|i| {
            u8::from_str_radix(digits.get(i..i + 2).unwrap_or_default(), 16).context("x: takes hexadecimal digits")
        })
        .collect()
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (inside, after) = behind.split_once("}}").context("{{ without }}")?;
        // Of three braces the last belong together.
        let (inside, after) = match after.strip_prefix('}') {
            Some(more) if inside.starts_with('/') && !inside.ends_with('/') => (&behind[..=inside.len()], more),
            _ => (inside, after),
        };
        out.push(Piece::Plain(before));
        out.push(match inside.split_once(':') {
            Some(("x", digits)) => Piece::Bytes(hex(digits)?),
            Some(("base64", plain)) => Piece::Bytes(base64(plain).into_bytes()),
            Some(("repeat", rest)) => {
                let (count, what) = rest.split_once(':').context("repeat:count:text")?;
                Piece::Bytes(what.repeat(count.parse().context("repeat:count:text")?).into_bytes())
            }
            _ => match inside {
                "*" => Piece::Any,
                "crlf" => Piece::Bytes(b"\r\n".to_vec()),
                "nul" => Piece::Bytes(vec![0]),
                _ => match inside.strip_prefix('/').and_then(|r| r.strip_suffix('/')) {
                    Some(regex) => Piece::Regex(regex),
                    None => Piece::Name(inside),
                },
            },
        });
        rest = after;
    }
    out.push(Piece::Plain(rest));
    Ok(out)
}

fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => regex::escape(text),
        Err(_) => bytes.iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "(?-u:\\x{byte:02x})"); // writing to a String does not fail
            out
        }),
    }
}

/// Whether text for people may follow: behind a status, with or without a code.
fn is_status(text: &str) -> bool {
    if text == "+" {
        return true;
    }
    let mut words = text.splitn(3, ' ');
    let (_, status) = (words.next(), words.next());
    matches!(status, Some("OK" | "NO" | "BAD" | "BYE" | "PREAUTH"))
        && words
            .next()
            .is_none_or(|rest| rest.starts_with('[') && rest.ends_with(']'))
}

/// The text without the braces that announce a literal, and what to write in place of them.
fn announcement(text: &str) -> (&str, bool) {
    match text.strip_suffix("{+}") {
        Some(text) => (text, false),
        None => (text.strip_suffix("{}").unwrap_or(text), true),
    }
}

/// A piece of a command: after one that waits, the server must ask for more.
#[derive(Debug)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub waits: bool,
}

impl Names {
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The text with all names replaced.
    pub fn render(&self, text: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for piece in pieces(text)? {
            match piece {
                Piece::Plain(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                Piece::Name(name) => {
                    let value = self
                        .0
                        .get(name)
                        .with_context(|| format!("{{{{{name}}}}} has no value yet"))?;
                    out.extend_from_slice(value);
                }
                Piece::Any | Piece::Regex(_) => bail!("only what the server says can match"),
            }
        }
        Ok(out)
    }

    /// What is sent for a text.
    pub fn command(&self, text: &Text) -> Result<Vec<Chunk>> {
        let mut out = Vec::new();
        let mut bytes = Vec::new();
        for part in &text.0 {
            match &part.literal {
                None => bytes.extend(self.render(&part.text)?),
                Some(literal) => {
                    let literal = self.render(literal)?;
                    let (before, waits) = announcement(&part.text);
                    bytes.extend(self.render(before)?);
                    let plus = if waits { "" } else { "+" };
                    bytes.extend(format!("{{{}{plus}}}\r\n", literal.len()).into_bytes());
                    if waits {
                        let bytes = std::mem::take(&mut bytes);
                        out.push(Chunk { bytes, waits });
                    }
                    bytes.extend(literal);
                }
            }
        }
        bytes.extend_from_slice(b"\r\n");
        out.push(Chunk { bytes, waits: false });
        Ok(out)
    }

    fn regex_of(&self, text: &str, groups: &mut Vec<String>) -> Result<String> {
        let mut out = String::new();
        for piece in pieces(text)? {
            match piece {
                Piece::Plain(text) => out.push_str(&regex::escape(text)),
                Piece::Bytes(bytes) => out.push_str(&escaped(&bytes)),
                Piece::Any => out.push_str("(?s-u:.)*"),
                Piece::Regex(regex) => out.push_str(&format!("(?:{regex})")),
                Piece::Name(name) => match self.0.get(name) {
                    Some(value) => out.push_str(&escaped(value)),
                    // Twice in one text, before it is known: regular expressions can't compare.
                    None if groups.iter().any(|g| g == name) => bail!("{{{{{name}}}}} is twice in this text"),
                    None => {
                        out.push_str(&format!("({TOKEN})"));
                        groups.push(name.to_owned());
                    }
                },
            }
        }
        Ok(out)
    }

    /// What matches the text, and the names that it gives values to, in order of groups.
    pub fn pattern(&self, text: &Text) -> Result<(Regex, Vec<String>)> {
        let (mut out, mut groups) = (String::from("^"), Vec::new());
        for part in &text.0 {
            let Some(literal) = &part.literal else {
                out.push_str(&self.regex_of(&part.text, &mut groups)?);
                if is_status(&part.text) {
                    out.push_str("(?: (?s-u:.)*)?");
                }
                continue;
            };
            let (before, _) = announcement(&part.text);
            out.push_str(&self.regex_of(before, &mut groups)?);
            match self.render(literal) {
                Ok(bytes) => out.push_str(&format!("\\{{{}\\}}\r\n{}", bytes.len(), escaped(&bytes))),
                Err(_) => {
                    out.push_str("\\{\\d+\\}\r\n");
                    out.push_str(&self.regex_of(literal, &mut groups)?);
                }
            }
        }
        out.push('$');
        let regex = Regex::new(&out).with_context(|| format!("making a regular expression: {out}"))?;
        Ok((regex, groups))
    }

    /// Whether a response matches. Then its captures have values.
    pub fn matches(&mut self, text: &Text, response: &[u8]) -> Result<bool> {
        let (regex, groups) = self.pattern(text)?;
        let Some(found) = regex.captures(response) else {
            return Ok(false);
        };
        // Groups of the file's own regular expressions are not counted: they can't have any.
        for (n, name) in groups.into_iter().enumerate() {
            let value = found.get(n + 1).context("a group without a match")?;
            self.0.insert(name, value.as_bytes().to_vec());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Part;

    fn text(text: &str) -> Text {
        Text(vec![Part {
            text: text.to_owned(),
            literal: None,
        }])
    }

    #[test]
    fn captures_are_the_same_later() {
        let mut names = Names::default();
        assert!(
            names
                .matches(&text("* OK [UIDNEXT {{n}}]"), b"* OK [UIDNEXT 5] next")
                .unwrap()
        );
        assert!(names.matches(&text("* {{n}} {{*}}"), b"* 5 FETCH (FLAGS ())").unwrap());
        assert!(!names.matches(&text("* {{n}} {{*}}"), b"* 6 FETCH (FLAGS ())").unwrap());
        assert_eq!(names.render("a FETCH {{n}} x{{crlf}}").unwrap(), b"a FETCH 5 x\r\n");
    }

    #[test]
    fn text_for_people_may_be_left_out() {
        let mut names = Names::default();
        assert!(names.matches(&text("a NO"), b"a NO [X] no").unwrap());
        assert!(names.matches(&text("a NO [X]"), b"a NO [X] no").unwrap());
        assert!(!names.matches(&text("a NO [Y]"), b"a NO [X] no").unwrap());
        assert!(!names.matches(&text("* SEARCH 1"), b"* SEARCH 1 2").unwrap());
        assert!(!names.matches(&text("a OK"), b"a OKAY").unwrap());
    }

    #[test]
    fn regular_expressions_may_end_in_a_brace() {
        let mut names = Names::default();
        assert!(names.matches(&text("x {{/[0-9]{2}/}} y"), b"x 12 y").unwrap());
        assert!(!names.matches(&text("x {{/[0-9]{2}/}} y"), b"x 123 y").unwrap());
    }
}
