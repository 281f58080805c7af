//! Flags and keywords: which are allowed, and the account's table of keywords.

use std::sync::Arc;

use mox_proto::mail::v1::{Flag, Flags};
use rpds::{HashTrieMapSync, VectorSync};

use super::AccountError;

/// All bits of [`Flag`].
pub const ALL_BITS: u32 = 0x7ff;
/// `\Seen`.
pub const SEEN: u32 = Flag::Seen as u32;
/// `\Deleted`.
pub const DELETED: u32 = Flag::Deleted as u32;

/// Most octets of a keyword; clients make them from tags that people type.
pub const KEYWORD_BYTES_MAX: usize = 128;
/// Most keywords of a message.
pub const MESSAGE_KEYWORDS_MAX: usize = 100;
/// Most keywords of an account, over its life: the table is kept in memory and goes to clients on SELECT.
pub const ACCOUNT_KEYWORDS_MAX: usize = 2000;

/// Keywords that have a bit of their own (RFC 9051 §2.3.2, RFC 5788 registry).
const KEYWORD_BITS: [(&str, Flag); 6] = [
    ("$forwarded", Flag::Forwarded),
    ("$junk", Flag::Junk),
    ("$notjunk", Flag::Notjunk),
    ("$phishing", Flag::Phishing),
    ("$mdnsent", Flag::Mdnsent),
    ("$important", Flag::Important),
];

/// Flags as asked for, checked: lower case, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Bits of [`Flag`].
    pub bits: u32,
    /// Keywords that have no bit.
    pub keywords: Vec<String>,
}

impl Wanted {
    /// Checks flags from a client.
    ///
    /// # Errors
    /// If there are unknown bits, too many keywords, or one that is no atom.
    pub fn new(flags: &Flags) -> Result<Self, AccountError> {
        if flags.bits & !ALL_BITS != 0 {
            return Err(AccountError::Invalid(format!(
                "flags {:#x} are not known",
                flags.bits & !ALL_BITS
            )));
        }
        if flags.keywords.len() > MESSAGE_KEYWORDS_MAX {
            return Err(AccountError::Limit("at most 100 keywords a message"));
        }
        let mut wanted = Self {
            bits: flags.bits,
            keywords: Vec::new(),
        };
        for keyword in &flags.keywords {
            let keyword = keyword_form(keyword)?;
            match KEYWORD_BITS.iter().find(|(name, _)| *name == keyword) {
                Some((_, bit)) => wanted.bits |= *bit as u32,
                None => wanted.keywords.push(keyword),
            }
        }
        wanted.keywords.sort_unstable();
        wanted.keywords.dedup();
        Ok(wanted)
    }
}

/// RFC 9051 §9: flag-keyword is an atom, and flags are compared without regard to case.
fn keyword_form(keyword: &str) -> Result<String, AccountError> {
    if keyword.is_empty() || keyword.len() > KEYWORD_BYTES_MAX {
        return Err(AccountError::Limit("keywords are 1 to 128 octets long"));
    }
    let special = |b: u8| b"(){%*\"\\]".contains(&b);
    if keyword.bytes().any(|b| !b.is_ascii_graphic() || special(b)) {
        return Err(AccountError::Invalid(format!("keyword {keyword:?} is not an atom")));
    }
    Ok(keyword.to_ascii_lowercase())
}

/// The keywords that an account has used: messages refer to them by number. They stay.
#[derive(Clone, Default)]
pub struct KeywordTable {
    texts: VectorSync<Arc<str>>,
    numbers: HashTrieMapSync<Arc<str>, u32>,
}

impl KeywordTable {
    /// How many there are; also the number of the next one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The text of a number.
    #[must_use]
    pub fn text(&self, number: u32) -> Option<&Arc<str>> {
        self.texts.get(number as usize)
    }

    /// The number of a keyword in lower case.
    #[must_use]
    pub fn number(&self, keyword: &str) -> Option<u32> {
        self.numbers.get(keyword).copied()
    }

    /// The number of a keyword, a new one if it has none.
    ///
    /// # Errors
    /// If the table is full.
    pub fn ensure(&mut self, keyword: &str) -> Result<u32, AccountError> {
        if let Some(number) = self.number(keyword) {
            return Ok(number);
        }
        if self.texts.len() >= ACCOUNT_KEYWORDS_MAX {
            return Err(AccountError::Limit("at most 2000 different keywords an account"));
        }
        let text: Arc<str> = keyword.into();
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push_back_mut(text.clone());
        self.numbers.insert_mut(text, number);
        Ok(number)
    }

    /// The texts of numbers, sorted.
    #[must_use]
    pub fn texts(&self, numbers: &[u32]) -> Vec<String> {
        let mut texts: Vec<String> = numbers
            .iter()
            .filter_map(|n| self.text(*n))
            .map(ToString::to_string)
            .collect();
        texts.sort_unstable();
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(keywords: &[&str]) -> Result<Wanted, AccountError> {
        Wanted::new(&Flags {
            bits: SEEN,
            keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
        })
    }

    #[test]
    fn keywords_are_folded_and_registered_ones_become_bits() {
        let w = wanted(&["Work", "$Junk", "work", "a"]).unwrap();
        assert_eq!(w.bits, SEEN | Flag::Junk as u32);
        assert_eq!(w.keywords, ["a", "work"]);
    }

    #[test]
    fn what_is_no_keyword_is_refused() {
        for bad in ["", "a b", "\\Seen", "a(", "é", "a\r", &"x".repeat(129)] {
            assert!(wanted(&[bad]).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..101).map(|n| format!("k{n}")).collect();
        assert!(wanted(&many.iter().map(String::as_str).collect::<Vec<_>>()).is_err());
        assert!(
            Wanted::new(&Flags {
                bits: 1 << 20,
                keywords: vec![]
            })
            .is_err()
        );
    }

    #[test]
    fn the_table_keeps_numbers_and_is_bounded() {
        let mut table = KeywordTable::default();
        for n in 0..ACCOUNT_KEYWORDS_MAX {
            assert_eq!(table.ensure(&format!("k{n}")).unwrap() as usize, n);
        }
        assert_eq!(table.ensure("k7").unwrap(), 7);
        assert!(table.ensure("more").is_err());
        assert_eq!(table.texts(&[2, 1]), ["k1", "k2"]);
    }
}
