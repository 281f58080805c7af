//! Counts of words that were looked up before, in memory: most words of a message are in many others, and each would be
//! read from as many tables as the database has.
//!
//! What is remembered is of a version of the account's filter, and every commit that learns puts a new one. So it is never
//! out of date, whoever learned: what is not known of the version that is asked for is to be read.

use mox_junk::{Counts, Token};
use mox_types::AccountId;
use parking_lot::Mutex;

/// Words that are remembered, of all accounts: 5 MiB once all places are taken.
const PLACES: usize = 1 << 17;

/// A word of an account's filter, as of a version of that. All 0 is nobody's, as no account has the id 0.
type Word = [u64; 4];

/// See the module. Each word has one place, where the latest of those that share it is, with its counts in one number.
pub(super) struct Remembered(Mutex<Vec<(Word, u64)>>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Mutex::new(vec![Default::default(); PLACES]))
    }
}

impl Remembered {
    /// Counts of words, in their order, as of a version of an account's filter; none for those that are to be read.
    pub(super) fn look_up(&self, account: AccountId, version: u64, tokens: &[Token]) -> Vec<Option<Counts>> {
        let places = self.0.lock();
        let counts = tokens.iter().map(|token| {
            let word = word(account, version, *token);
            let (there, counts) = places[place(&word)];
            (there == word).then(|| unpacked(counts))
        });
        counts.collect()
    }

    /// Remembers what was read of a version.
    pub(super) fn keep(&self, account: AccountId, version: u64, words: impl Iterator<Item = (Token, Counts)>) {
        let mut places = self.0.lock();
        for (token, counts) in words {
            let word = word(account, version, token);
            places[place(&word)] = (word, packed(counts));
        }
    }
}

fn word(account: AccountId, version: u64, token: Token) -> Word {
    let id = u128::from_be_bytes(*account.as_bytes());
    [(id >> 64) as u64, id as u64, u64::from_be_bytes(token), version]
}

/// Tokens are digests, and the ends of ids random.
fn place([_, account, token, _]: &Word) -> usize {
    (account ^ token) as usize % PLACES
}

fn packed(counts: Counts) -> u64 {
    u64::from(counts.junk) << 32 | u64::from(counts.ham)
}

fn unpacked(counts: u64) -> Counts {
    Counts {
        junk: (counts >> 32) as u32,
        ham: counts as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_of_an_account_and_a_version() {
        let remembered = Remembered::default();
        let (account, other) = (AccountId::new(), AccountId::new());
        let tokens: Vec<Token> = (0..100u64).map(|n| (n << 40 | n).to_be_bytes()).collect();
        let counts = |n: usize| Counts {
            junk: u32::MAX - n as u32,
            ham: n as u32,
        };
        let words = || tokens.iter().enumerate().map(|(n, token)| (*token, counts(n)));
        assert_eq!(remembered.look_up(account, 7, &tokens), vec![None; 100]);
        remembered.keep(account, 7, words().take(60));
        let found = remembered.look_up(account, 7, &tokens);
        assert!((0..60).all(|n| found[n] == Some(counts(n))) && found[60..].iter().all(Option::is_none));
        assert_eq!(remembered.look_up(account, 8, &tokens), vec![None; 100]);
        assert_eq!(remembered.look_up(other, 7, &tokens), vec![None; 100]);
        // Of those in one place, the latest stays.
        let there = place(&word(account, 7, tokens[0]));
        let same = (1u64..).map(|n| (u64::from_be_bytes(tokens[0]) + n * PLACES as u64).to_be_bytes());
        let same = same.take(1).next().unwrap();
        assert_eq!(place(&word(account, 7, same)), there);
        remembered.keep(account, 7, [(same, counts(3))].into_iter());
        assert_eq!(
            remembered.look_up(account, 7, &[tokens[0], same]),
            [None, Some(counts(3))]
        );
    }
}
