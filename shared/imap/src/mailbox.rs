//! Mailbox names, and the patterns of LIST.

use bytes::BufMut;

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::{limits, utf7, write};

/// What parts the levels of a name.
pub const SEPARATOR: char = '/';

/// Parses a mailbox name, giving UTF-8.
///
/// A name with octets above 127 where modified UTF-7 is expected is taken as UTF-8: no UTF-7 name has any.
///
/// # Errors
/// If there is none, or it is badly encoded or too long.
pub fn parse(c: &mut Cursor<'_>) -> Result<String, ParseError> {
    let start = c.clone();
    let name = c.astring()?;
    decode(&name, &start)
}

/// Parses a pattern of LIST, giving UTF-8.
///
/// # Errors
/// As [`parse`].
pub fn parse_pattern(c: &mut Cursor<'_>) -> Result<String, ParseError> {
    let start = c.clone();
    let name = c.list_mailbox()?;
    decode(&name, &start)
}

fn decode(name: &[u8], at: &Cursor<'_>) -> Result<String, ParseError> {
    if name.len() > limits::MAILBOX_NAME {
        return Err(at.limit("the mailbox name is too long"));
    }
    let text = std::str::from_utf8(name).map_err(|_| at.expected("a mailbox name in UTF-8 or modified UTF-7"))?;
    if at.names() == Names::Utf8 || !text.is_ascii() {
        return Ok(text.to_owned());
    }
    utf7::decode(text).map_err(|_| at.expected("a mailbox name in modified UTF-7"))
}

/// Serializes a name as an astring.
pub fn write(name: &str, names: Names, out: &mut impl BufMut) {
    match names {
        Names::Utf8 => write::put_astring(out, name.as_bytes(), true),
        Names::Utf7 => write::put_astring(out, utf7::encode(name).as_bytes(), false),
    }
}

/// Whether the name is that of the inbox, in any case (RFC 9051 §5.1).
#[must_use]
pub fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

/// A pattern of LIST: `*` stands for any text, `%` for any text without separators (RFC 9051 §6.3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Element>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Char(char),
    Any,
    Level,
}

impl Pattern {
    /// Of a reference and a pattern: they are joined, unless the pattern is empty.
    #[must_use]
    pub fn new(reference: &str, pattern: &str) -> Self {
        // The first level being the inbox in any case is its name.
        let whole = format!("{reference}{pattern}");
        let (first, rest) = whole
            .find(SEPARATOR)
            .map_or((whole.as_str(), ""), |i| whole.split_at(i));
        let whole = if is_inbox(first) { format!("INBOX{rest}") } else { whole };
        let mut elements: Vec<Element> = Vec::new();
        for c in whole.chars() {
            let element = match c {
                '*' => Element::Any,
                '%' => Element::Level,
                c => Element::Char(c),
            };
            match (elements.last_mut(), element) {
                // Wildcards side by side are one: the wider.
                (Some(last @ (Element::Any | Element::Level)), Element::Any) => *last = Element::Any,
                (Some(Element::Any | Element::Level), Element::Level) => {}
                _ => elements.push(element),
            }
        }
        Self(elements)
    }

    /// Whether the pattern stands for `name`. The inbox is called "INBOX" here.
    ///
    /// All the places that a prefix of the name can lead to are followed at once, so that no pattern costs more than
    /// its length times the name's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let n = self.0.len();
        let mut now = vec![false; n + 1];
        now[0] = true;
        self.skip_wildcards(&mut now);
        let mut next = vec![false; n + 1];
        for c in name.chars() {
            next.fill(false);
            for (i, element) in self.0.iter().enumerate() {
                if !now[i] {
                    continue;
                }
                match element {
                    Element::Char(want) if *want == c => next[i + 1] = true,
                    Element::Any => next[i] = true,
                    Element::Level if c != SEPARATOR => next[i] = true,
                    _ => {}
                }
            }
            self.skip_wildcards(&mut next);
            std::mem::swap(&mut now, &mut next);
        }
        now[n]
    }

    fn skip_wildcards(&self, places: &mut [bool]) {
        for (i, element) in self.0.iter().enumerate() {
            if places[i] && matches!(element, Element::Any | Element::Level) {
                places[i + 1] = true;
            }
        }
    }

    /// Whether the pattern ends in `%`: then LSUB names parents of names that match below it (RFC 3501 §6.3.9).
    #[must_use]
    pub fn ends_in_level(&self) -> bool {
        self.0.last() == Some(&Element::Level)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_text() {
        for (reference, pattern, name, want) in [
            ("", "*", "INBOX", true),
            ("", "*", "a/b/c", true),
            ("", "%", "a", true),
            ("", "%", "a/b", false),
            ("", "%/%", "a/b", true),
            ("", "a*c", "a/b/c", true),
            ("", "a%c", "a/c", false),
            ("", "a%c", "abc", true),
            ("", "*%", "a/b", true),
            ("a/", "%", "a/b", true),
            ("a/", "%", "b", false),
            ("", "inbox", "INBOX", true),
            ("", "inBox/x", "INBOX/x", true),
            ("", "inb%", "INBOX", false),
            ("", "", "a", false),
            ("", "Entwürfe", "Entwürfe", true),
        ] {
            assert_eq!(
                Pattern::new(reference, pattern).matches(name),
                want,
                "{reference:?} {pattern:?} {name:?}"
            );
        }
    }

    #[test]
    fn a_bad_pattern_costs_little() {
        let pattern = Pattern::new("", &"*a".repeat(500));
        assert!(!pattern.matches(&"a".repeat(499)));
        assert!(pattern.matches(&"a".repeat(500)));
    }

    #[test]
    fn names_are_decoded() {
        let p = |s: &str, names| parse(&mut Cursor::new(s.as_bytes(), names));
        assert_eq!(p("Entw&APw-rfe", Names::Utf7).unwrap(), "Entwürfe");
        assert_eq!(p("\"Entwürfe\"", Names::Utf7).unwrap(), "Entwürfe");
        assert_eq!(p("\"Entwürfe\"", Names::Utf8).unwrap(), "Entwürfe");
        assert_eq!(p("Entw&APw-rfe", Names::Utf8).unwrap(), "Entw&APw-rfe");
        assert!(p("a&b", Names::Utf7).is_err());
        assert!(p(&"a".repeat(2000), Names::Utf7).is_err());
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_the_star(name in "[a-c/]{0,12}") {
            prop_assert!(Pattern::new("", &name).matches(&name));
            prop_assert!(Pattern::new("", "*").matches(&name));
            prop_assert_eq!(Pattern::new("", "%").matches(&name), !name.contains('/'));
        }

        #[test]
        fn names_survive_printing(name in "[^\u{0}]{1,20}", utf8: bool) {
            let names = if utf8 { Names::Utf8 } else { Names::Utf7 };
            let mut out = Vec::new();
            write(&name, names, &mut out);
            prop_assert_eq!(parse(&mut Cursor::new(&out, names)).unwrap(), name);
        }
    }
}
