//! The collation i;unicode-casemap (RFC 5051), which SORT and THREAD must use (RFC 5256 §7): texts are mapped to octets
//! that compare as the texts do.

use unicode_normalization::UnicodeNormalization as _;

/// What a text compares as: in titlecase and decomposed, as UTF-8.
pub fn casemap(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_uppercase().into_bytes();
    }
    // RFC 5051 §2: the decomposition of Unicode's table, of compatibility too.
    text.chars().map(titlecase).nfkd().collect::<String>().into_bytes()
}

/// The simple titlecase mapping: one character for one. Rust has only the full uppercase mapping.
fn titlecase(c: char) -> char {
    match c {
        // Digraphs, whose titlecase is not their uppercase.
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        // Georgian has no titlecase.
        '\u{10d0}'..='\u{10ff}' => c,
        // Greek with iota below; its full uppercase writes the iota out.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => offset(c, 8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => offset(c, 9),
        c => {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                // What becomes several is itself in the simple mapping.
                _ => c,
            }
        }
    }
}

fn offset(c: char, by: u32) -> char {
    char::from_u32(u32::from(c) + by).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_composition_do_not_matter() {
        for (a, b) in [
            ("Hello", "hELLO"),
            ("Ärger", "a\u{308}RGER"),
            ("\u{1c6}", "\u{1c4}"),
            ("ᾳ", "ᾼ"),
            ("straße", "STRAßE"),
        ] {
            assert_eq!(casemap(a), casemap(b), "{a} {b}");
        }
        // RFC 5051 §2's example: U+01C4 is "D", "z" and a caron.
        assert_eq!(casemap("\u{1c4}"), "\u{44}\u{7a}\u{30c}".as_bytes());
        assert_ne!(casemap("ß"), casemap("ss"));
    }

    #[test]
    fn texts_are_in_order() {
        let mut texts = ["b", "A", "", "a_", "Z", "ä", "aB"];
        texts.sort_by_key(|t| casemap(t));
        assert_eq!(texts, ["", "A", "aB", "a_", "ä", "b", "Z"]);
    }
}
