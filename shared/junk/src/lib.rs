//! Telling junk from mail by its words, as a user's own judgements teach: a Bayesian filter.
//!
//! No I/O, and no mail: whoever uses it gives texts, keeps counts, and looks words up.
//!
//! - [`Tokenizer`] makes [`Tokens`] of a message's texts: each word, pair and triple of words that is in it, once, as a
//!   digest of 8 bytes. Bounded, and the same for the same message always.
//! - [`Counts`] says in how many messages a token was: junk, and not junk. Training adds one, and untraining takes it
//!   away again, so counts are a sum over messages, whatever the order.
//! - [`score`] weighs the tokens of a message by their counts.
//!
//! How far a word speaks for junk is how much likelier it is in junk than in other mail. Words that say little are left
//! out, rare ones say less, none says more than a bound, and of the others only those that say most count, for junk and
//! against it. They are taken for independent of each other (naive Bayes), which they are not, and which works.

mod html;
mod score;
mod tokens;

pub use html::html_to_text;
pub use score::{Counts, Params, Score, Totals, score};
pub use tokens::{Grams, TOKENS_MAX, Token, Tokenizer, Tokens, VERSION};
