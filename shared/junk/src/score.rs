//! From counts to a probability.

use crate::tokens::Token;

/// In how many messages a token was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Of junk.
    pub junk: u32,
    /// Of other mail.
    pub ham: u32,
}

impl Counts {
    /// With one message more, of a kind.
    #[must_use]
    pub fn trained(self, junk: bool) -> Self {
        if junk {
            Self {
                junk: self.junk.saturating_add(1),
                ..self
            }
        } else {
            Self {
                ham: self.ham.saturating_add(1),
                ..self
            }
        }
    }

    /// With one message less, of a kind.
    #[must_use]
    pub fn untrained(self, junk: bool) -> Self {
        if junk {
            Self {
                junk: self.junk.saturating_sub(1),
                ..self
            }
        } else {
            Self {
                ham: self.ham.saturating_sub(1),
                ..self
            }
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// How many messages were learned from: junk, and other mail.
pub type Totals = Counts;

/// How words are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// How close to certainty a single word can come: its probability is between this and one less this.
    pub max_power: f64,
    /// Words that count, for junk, and as many against it.
    pub top_words: usize,
    /// Words that are closer than this to a half are left out.
    pub ignore_words: f64,
    /// Words that were in fewer messages than this count less.
    pub rare_words: u32,
}

/// How a message looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// That it is junk, from 0 to 1. A half if nothing is known.
    pub probability: f64,
    /// Words that spoke for junk.
    pub for_junk: usize,
    /// Words that spoke against it.
    pub against: usize,
}

/// How a message looks whose tokens have these counts. The order of the tokens does not matter, and tokens that are not
/// known may be left out.
#[must_use]
pub fn score(params: &Params, totals: Totals, words: impl IntoIterator<Item = (Token, Counts)>) -> Score {
    let unknown = Score {
        probability: 0.5,
        for_junk: 0,
        against: 0,
    };
    // With one kind only, every word speaks for it.
    if totals.junk == 0 || totals.ham == 0 {
        return unknown;
    }
    let (mut junk, mut ham) = (Vec::new(), Vec::new());
    for (token, counts) in words {
        let Some(p) = probability(params, totals, counts) else {
            continue;
        };
        let distance = (p - 0.5).abs();
        if distance < params.ignore_words || distance == 0.0 {
            continue;
        }
        if p > 0.5 {
            junk.push((distance, token));
        } else {
            ham.push((distance, token));
        }
    }
    for side in [&mut junk, &mut ham] {
        // Of words that say as much, which are taken must not depend on their order.
        side.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        side.truncate(params.top_words);
    }
    // Products of many probabilities are too small for a number; sums of their logarithms are not.
    let odds = |side: &[(f64, Token)]| -> f64 { side.iter().map(|(d, _)| ((0.5 + d) / (0.5 - d)).ln()).sum() };
    let log_odds = odds(&junk) - odds(&ham);
    Score {
        probability: 1.0 / (1.0 + (-log_odds).exp()),
        for_junk: junk.len(),
        against: ham.len(),
    }
}

/// That a message with this word is junk, if junk and other mail were as frequent.
fn probability(params: &Params, totals: Totals, counts: Counts) -> Option<f64> {
    if counts.is_zero() {
        return None;
    }
    let rate = |count: u32, total: u32| (f64::from(count) / f64::from(total)).min(1.0);
    let (junk, ham) = (rate(counts.junk, totals.junk), rate(counts.ham, totals.ham));
    let mut p = junk / (junk + ham);
    let seen = u64::from(counts.junk) + u64::from(counts.ham);
    if seen < u64::from(params.rare_words) {
        p = 0.5 + (p - 0.5) * seen as f64 / f64::from(params.rare_words);
    }
    // Certainty of one word would outweigh all others.
    let bound = params.max_power.clamp(1e-6, 0.5);
    Some(p.clamp(bound, 1.0 - bound))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tokens::{Grams, Tokenizer, Tokens};

    const PARAMS: Params = Params {
        max_power: 0.01,
        top_words: 10,
        ignore_words: 0.1,
        rare_words: 2,
    };

    #[derive(Default, Clone, PartialEq, Debug)]
    struct Filter {
        words: HashMap<Token, Counts>,
        totals: Totals,
    }

    impl Filter {
        fn change(&mut self, tokens: &Tokens, change: impl Fn(Counts) -> Counts) {
            for token in tokens.as_slice() {
                let counts = self.words.entry(*token).or_default();
                *counts = change(*counts);
                if counts.is_zero() {
                    self.words.remove(token);
                }
            }
            self.totals = change(self.totals);
        }

        fn score(&self, text: &str) -> Score {
            let tokens = tokens(text);
            let known = tokens
                .as_slice()
                .iter()
                .filter_map(|token| Some((*token, *self.words.get(token)?)));
            score(&PARAMS, self.totals, known)
        }
    }

    fn tokens(text: &str) -> Tokens {
        let mut tokenizer = Tokenizer::new(Grams::from_bits(3));
        tokenizer.text(text);
        tokenizer.finish()
    }

    fn taught() -> Filter {
        let mut filter = Filter::default();
        for n in 0..20 {
            let junk = format!("cheap pills buy now limited offer {n}x click here");
            let ham = format!("hello the meeting about project {n}x is tomorrow regards");
            filter.change(&tokens(&junk), |c| c.trained(true));
            filter.change(&tokens(&ham), |c| c.trained(false));
        }
        filter
    }

    #[test]
    fn what_was_learned_is_told_apart() {
        let filter = taught();
        assert!(filter.score("buy cheap pills now, click here").probability > 0.99);
        assert!(filter.score("is the meeting about the project tomorrow?").probability < 0.01);
        assert_eq!(filter.score("quite unrelated words").probability, 0.5);
        let mixed = filter.score("cheap offer meeting project").probability;
        assert!((0.01..0.99).contains(&mixed), "{mixed}");
    }

    #[test]
    fn knowing_one_kind_only_is_knowing_nothing() {
        let mut filter = Filter::default();
        filter.change(&tokens("cheap pills"), |c| c.trained(true));
        assert_eq!(filter.score("cheap pills").probability, 0.5);
    }

    #[test]
    fn rare_words_say_less_and_none_says_everything() {
        let totals = Totals { junk: 100, ham: 100 };
        let p = |junk, ham| probability(&PARAMS, totals, Counts { junk, ham }).unwrap();
        assert_eq!(p(1, 0), 0.75);
        assert_eq!(p(2, 0), 0.99);
        assert_eq!(p(0, 50), 0.01);
        assert_eq!(p(50, 50), 0.5);
    }

    #[test]
    fn as_many_words_count_on_both_sides() {
        let filter = taught();
        let score = filter.score(&"cheap pills buy now limited offer click here ".repeat(3));
        assert!(score.for_junk <= PARAMS.top_words && score.against == 0);
    }

    proptest! {
        #[test]
        fn untraining_undoes_training_in_any_order(
            texts in prop::collection::vec(("[a-f ]{0,40}", any::<bool>()), 1..20),
            kept in 0usize..20,
        ) {
            let kept = kept.min(texts.len());
            let mut filter = Filter::default();
            for (text, junk) in &texts {
                filter.change(&tokens(text), |c| c.trained(*junk));
            }
            for (text, junk) in texts[kept..].iter().rev() {
                filter.change(&tokens(text), |c| c.untrained(*junk));
            }
            let mut expected = Filter::default();
            for (text, junk) in texts[..kept].iter().rev() {
                expected.change(&tokens(text), |c| c.trained(*junk));
            }
            prop_assert_eq!(&filter, &expected);
        }

        #[test]
        fn a_score_is_a_probability_whatever_the_counts_and_their_order(
            mut words in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 0..50),
            junk in any::<u32>(), ham in any::<u32>(),
            max_power in 0.0f64..0.6, ignore_words in 0.0f64..0.6, rare_words in any::<u32>(), top_words in 0usize..20,
        ) {
            let params = Params { max_power, top_words, ignore_words, rare_words };
            // Tokens are told apart by themselves.
            words.sort_unstable();
            words.dedup_by_key(|w| w.0);
            let counts = |words: &[(u64, u32, u32)]| -> Vec<(Token, Counts)> {
                words.iter().map(|(t, junk, ham)| (t.to_be_bytes(), Counts { junk: *junk, ham: *ham })).collect()
            };
            let totals = Totals { junk, ham };
            let first = score(&params, totals, counts(&words));
            prop_assert!((0.0..=1.0).contains(&first.probability), "{first:?}");
            words.reverse();
            prop_assert_eq!(first, score(&params, totals, counts(&words)));
        }

        #[test]
        fn one_more_junk_message_never_makes_its_words_look_better(text in "[a-f ]{2,40}", other in "[a-f ]{2,40}") {
            let mut filter = taught();
            filter.change(&tokens(&other), |c| c.trained(false));
            let word = |filter: &Filter, token: &Token| {
                probability(&PARAMS, filter.totals, filter.words.get(token).copied().unwrap_or_default()).unwrap_or(0.5)
            };
            let mut more = filter.clone();
            more.change(&tokens(&text), |c| c.trained(true));
            for token in tokens(&text).as_slice() {
                prop_assert!(word(&more, token) >= word(&filter, token) - 1e-12);
            }
        }
    }
}
