//! From texts to tokens.

use std::collections::HashSet;

use ring::digest::{Context, SHA256};

/// Changes when the same text makes other tokens than before: what was learned is of no use then.
pub const VERSION: u32 = 1;
/// Most tokens of a message: more than letters have, fewer than would make one message the most of what is known.
pub const TOKENS_MAX: usize = 4096;
/// Most words of a message that are looked at.
const WORDS_MAX: usize = 20_000;
/// Characters of a word: fewer say nothing by themselves, more are data, not language.
const WORD_CHARS: std::ops::RangeInclusive<usize> = 2..=40;

/// A digest of a word, or of several that follow each other.
pub type Token = [u8; 8];

/// Which runs of words become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Grams {
    /// Single words.
    pub one: bool,
    /// Pairs.
    pub two: bool,
    /// Triples.
    pub three: bool,
}

impl Grams {
    /// As a number, to be kept.
    #[must_use]
    pub fn bits(self) -> u32 {
        u32::from(self.one) | u32::from(self.two) << 1 | u32::from(self.three) << 2
    }

    /// From what was kept.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self {
            one: bits & 1 != 0,
            two: bits & 2 != 0,
            three: bits & 4 != 0,
        }
    }

    /// As they are, or single words if none are wanted: a filter without any knows nothing.
    #[must_use]
    pub fn or_words(self) -> Self {
        if self == Self::default() {
            Self { one: true, ..self }
        } else {
            self
        }
    }
}

/// The tokens of a message: each once, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Token] {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Token> for Tokens {
    fn from_iter<T: IntoIterator<Item = Token>>(tokens: T) -> Self {
        let mut all: Vec<Token> = tokens.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

/// Takes the texts of a message, the important ones first, and makes its tokens.
#[derive(Debug)]
pub struct Tokenizer {
    grams: Grams,
    words: usize,
    tokens: HashSet<Token>,
}

impl Tokenizer {
    /// For such tokens.
    #[must_use]
    pub fn new(grams: Grams) -> Self {
        Self {
            grams: grams.or_words(),
            words: 0,
            tokens: HashSet::new(),
        }
    }

    /// Whether more text changes nothing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.words >= WORDS_MAX || self.tokens.len() >= TOKENS_MAX
    }

    /// A text that a reader sees.
    pub fn text(&mut self, text: &str) {
        self.add("", text);
    }

    /// A text as HTML: what a reader sees of it, and the hosts that it links to.
    pub fn html(&mut self, html: &str) {
        self.text(&crate::html_to_text(html));
    }

    /// The decoded value of a header field. Its words are not those of the text: who wrote, and about what, is known by
    /// other words.
    pub fn header(&mut self, name: &str, value: &str) {
        self.add(&name.to_ascii_lowercase(), value);
    }

    /// The tokens.
    #[must_use]
    pub fn finish(self) -> Tokens {
        self.tokens.into_iter().collect()
    }

    fn add(&mut self, context: &str, text: &str) {
        let mut before: [String; 2] = Default::default();
        let mut rest = text;
        while let Some((word, after)) = next_word(rest) {
            rest = after;
            if self.is_full() {
                return;
            }
            self.words += 1;
            let [first, second] = &before;
            let mut found: [Option<Token>; 3] = [None; 3];
            if self.grams.one {
                found[0] = Some(digest(context, &[&word]));
            }
            if self.grams.two && !second.is_empty() {
                found[1] = Some(digest(context, &[second, &word]));
            }
            if self.grams.three && !first.is_empty() {
                found[2] = Some(digest(context, &[first, second, &word]));
            }
            for token in found.into_iter().flatten() {
                if self.tokens.len() < TOKENS_MAX {
                    self.tokens.insert(token);
                }
            }
            before.swap(0, 1);
            before[1] = word;
        }
    }
}

fn digest(context: &str, words: &[&str]) -> Token {
    let mut digest = Context::new(&SHA256);
    digest.update(context.as_bytes());
    for word in words {
        // In no word.
        digest.update(&[0]);
        digest.update(word.as_bytes());
    }
    let mut token = Token::default();
    let digest = digest.finish();
    for (to, from) in token.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    token
}

/// The next word of a text, in lower case, and the text behind it. Words are runs of letters and digits, with single
/// marks within (`don't`, `e-mail`, `mail.example.org`, `a@b`) and money signs; in scripts without spaces, two characters
/// that follow each other. Numbers alone are none.
fn next_word(mut text: &str) -> Option<(String, &str)> {
    loop {
        text = text.trim_start_matches(|c: char| !is_part(c));
        let first = text.chars().next()?;
        if is_unspaced(first) {
            let step = first.len_utf8();
            let second = text[step..].chars().next().filter(|c| is_unspaced(*c));
            match second {
                Some(second) => return Some(([first, second].iter().collect(), &text[step..])),
                None => text = &text[step..],
            }
            continue;
        }
        let end = word_end(text);
        let (word, rest) = text.split_at(end);
        text = rest;
        let chars = word.chars().count();
        let telling = word.chars().any(|c| c.is_alphabetic() || is_money(c));
        if WORD_CHARS.contains(&chars) && telling {
            return Some((word.to_lowercase(), rest));
        }
    }
}

/// Where the word ends that a text begins with.
fn word_end(text: &str) -> usize {
    let mut end = 0;
    let mut marked = false;
    for (at, c) in text.char_indices() {
        if is_part(c) && !is_unspaced(c) {
            end = at + c.len_utf8();
            marked = false;
        } else if matches!(c, '\'' | '\u{2019}' | '-' | '.' | '@' | '_') && !marked {
            // Belongs to the word if another part follows.
            marked = true;
        } else {
            break;
        }
    }
    end
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || is_money(c)
}

fn is_money(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥' | '₿')
}

/// Scripts that are written without spaces: Thai, Hiragana, Katakana and Han.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut rest = text;
        let mut words = Vec::new();
        while let Some((word, after)) = next_word(rest) {
            words.push(word);
            rest = after;
        }
        words
    }

    fn tokens(grams: u32, text: &str) -> Tokens {
        let mut tokenizer = Tokenizer::new(Grams::from_bits(grams));
        tokenizer.text(text);
        tokenizer.finish()
    }

    #[test]
    fn words_are_what_people_see_as_such() {
        assert_eq!(
            words("Don't WAIT: e-mail me@Example.org... 100% for $5, 2024-01-02 x"),
            ["don't", "wait", "e-mail", "me@example.org", "for", "$5"]
        );
        assert_eq!(words("ÜBER straße"), ["über", "straße"]);
        assert_eq!(words("日本語 です"), ["日本", "本語", "です"]);
        assert_eq!(words("abc日本def"), ["abc", "日本", "def"]);
        assert!(words(&"x".repeat(41)).is_empty() && words("!!! 12 345 -").is_empty());
    }

    #[test]
    fn runs_of_words_are_tokens_of_their_own() {
        assert_eq!(tokens(1, "buy now buy now").len(), 2);
        assert_eq!(tokens(2, "buy now buy now").len(), 2);
        assert_eq!(tokens(4, "buy now buy now").len(), 2);
        assert_eq!(tokens(7, "buy now buy now").len(), 6);
        assert_eq!(
            tokens(0, "buy now"),
            tokens(1, "now buy"),
            "without any, words are taken"
        );
        let mut tokenizer = Tokenizer::new(Grams::from_bits(1));
        tokenizer.header("Subject", "buy");
        assert_ne!(tokenizer.finish(), tokens(1, "buy"));
    }

    #[test]
    fn a_message_has_a_bounded_number_of_tokens() {
        let long: String = (0..100_000).map(|n| format!("word{n}x ")).collect();
        assert_eq!(tokens(7, &long).len(), TOKENS_MAX);
        let same = "same words ".repeat(1_000_000);
        assert_eq!(tokens(7, &same).len(), 6);
    }

    proptest! {
        #[test]
        fn any_text_gives_the_same_tokens_each_time(text in "\\PC*", grams in 0u32..8) {
            let all = tokens(grams, &text);
            prop_assert_eq!(&all, &tokens(grams, &text));
            prop_assert!(all.as_slice().is_sorted());
        }

        #[test]
        fn order_does_not_matter_to_single_words(mut list in prop::collection::vec("[a-z]{2,8}", 0..40)) {
            let first = tokens(1, &list.join(" "));
            list.reverse();
            prop_assert_eq!(first, tokens(1, &list.join(" ")));
        }
    }
}
