//! What of a message is in the index: its terms, by field.
//!
//! Searching is for substrings of folded text. Text of bodies and of most header fields is split into *tokens*, the
//! longest runs of letters and digits: what is looked for, if it is of letters and digits only, is in the text exactly
//! if it is in one of its tokens. The values of header fields that are often searched, and the names of all, are terms
//! as a whole, so that anything can be looked for in them.
//!
//! A long token or value becomes several terms that overlap, so that any part of it up to some length is in one of them.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Which text a term is of. Terms of a segment are sorted by it.
pub type Field = u8;

/// Tokens of the body: decoded text parts, headers of parts and of messages within.
pub const BODY: Field = 0;
/// Tokens of the values of header fields that have no [`Field`] of their own.
pub const OTHER: Field = 1;
/// Names of header fields, whole.
pub const NAME: Field = 2;
/// The first of [`VALUES`].
const FIRST_VALUE: Field = 3;
/// Header fields whose values are terms as a whole: those that have a search key of their own, and those that clients
/// and filters look for.
const VALUES: [&str; 10] = [
    "subject",
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "reply-to",
    "message-id",
    "in-reply-to",
    "list-id",
];

/// Set of fields, a bit each.
pub type Fields = u16;
/// All of them.
pub const ALL_FIELDS: Fields = (1 << (FIRST_VALUE as usize + VALUES.len())) - 1;
/// Those whose terms are tokens.
pub const TOKENS: Fields = 1 << BODY | 1 << OTHER;

/// Octets of a term that is a part of a longer token, about; most tokens are much shorter.
const TOKEN: Window = Window { size: 64 };
/// The same for values and names.
const VALUE: Window = Window { size: 256 };
/// Octets up to which a part of a token is always in one term.
pub const TOKEN_EXACT: usize = TOKEN.exact();
/// Octets up to which a part of a value or a name is always in one term.
pub const VALUE_EXACT: usize = VALUE.exact();

/// How long texts are cut: into pieces of about this size that begin at each half of it.
struct Window {
    size: usize,
}

impl Window {
    /// Octets up to which any part of a text is in one piece, as are its beginning and its end.
    const fn exact(&self) -> usize {
        self.size / 2
    }

    fn pieces(&self, text: &str, visit: &mut dyn FnMut(&str)) {
        let step = self.size / 2;
        let mut start = 0;
        loop {
            let end = text.ceil_char_boundary(text.len().min(start + self.size));
            visit(&text[text.floor_char_boundary(start)..end]);
            if end == text.len() {
                return;
            }
            start += step;
        }
    }
}

/// The field of the values of a header field, if it has one; its name in lower case.
pub fn value_field(name: &str) -> Option<Field> {
    let at = VALUES.iter().position(|n| *n == name)?;
    Some(FIRST_VALUE + Field::try_from(at).unwrap_or(0))
}

/// The form in which texts are compared: composed, and in lower case (as RFC 5051 i;unicode-casemap, which compares
/// title case of what is decomposed, but seen as people see it).
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        };
    }
    text.nfc().flat_map(char::to_lowercase).collect::<String>().into()
}

/// The longest runs of letters and digits.
pub fn tokens(folded: &str) -> impl Iterator<Item = &str> {
    folded
        .split(|c: char| {
            if c.is_ascii() {
                !c.is_ascii_alphanumeric()
            } else {
                !c.is_alphanumeric()
            }
        })
        .filter(|token| !token.is_empty())
}

/// Calls `add` with all terms of a message, the same ones more than once.
pub fn of_message(message: &[u8], add: &mut dyn FnMut(Field, &str)) {
    for field in mox_message::headers(message) {
        let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
        VALUE.pieces(&name, &mut |piece| add(NAME, piece));
        let text = field.text();
        let folded = fold(&text);
        match value_field(&name) {
            Some(field) => VALUE.pieces(&folded, &mut |piece| add(field, piece)),
            None => add_tokens(OTHER, &folded, add),
        }
    }
    mox_message::decoded_body(message, &mut |text| add_tokens(BODY, &fold(text), add));
}

fn add_tokens(field: Field, folded: &str, add: &mut dyn FnMut(Field, &str)) {
    for token in tokens(folded) {
        TOKEN.pieces(token, &mut |piece| add(field, piece));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_becomes_terms() {
        let mut found = Vec::new();
        let message = "Subject: Grüße, Welt\r\nX-Foo: a_b C1\r\n\r\nEin SCHÖNER tag-\r\nÄ1\r\n";
        of_message(message.as_bytes(), &mut |field, term| {
            found.push((field, term.to_owned()));
        });
        let subject = value_field("subject").unwrap();
        let expected = [
            (NAME, "subject"),
            (subject, "grüße, welt"),
            (NAME, "x-foo"),
            (OTHER, "a"),
            (OTHER, "b"),
            (OTHER, "c1"),
            (BODY, "ein"),
            (BODY, "schöner"),
            (BODY, "tag"),
            (BODY, "ä1"),
        ];
        let found: Vec<(Field, &str)> = found.iter().map(|(f, t)| (*f, t.as_str())).collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn any_short_part_of_a_long_text_is_in_one_piece(text in "[aä€😀]{1,150}", at in 0usize..600, length in 0usize..=32) {
            let start = text.floor_char_boundary(at % text.len());
            let part = &text[start..text.floor_char_boundary((start + length).min(text.len()))];
            let mut pieces = Vec::new();
            TOKEN.pieces(&text, &mut |p| pieces.push(p.to_owned()));
            prop_assert!(pieces.iter().any(|p| p.contains(part)));
            let first = &text[..text.floor_char_boundary(text.len().min(TOKEN_EXACT))];
            prop_assert!(pieces.iter().any(|p| p.starts_with(first)));
            let last = &text[text.ceil_char_boundary(text.len().saturating_sub(TOKEN_EXACT))..];
            prop_assert!(pieces.iter().any(|p| p.ends_with(last)));
            prop_assert!(pieces.iter().all(|p| p.len() <= TOKEN.size + 6));
        }
    }
}
