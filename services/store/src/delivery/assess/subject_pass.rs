//! Stages of the subject pass: what looks like junk is refused with a word that, put into the subject, lets the message
//! through.
//!
//! The word has a time and a keyed digest of it with the address in From and the recipient's. Nothing is kept of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_proto::delivery::v1::Verdict;
use ring::hmac;

use super::verdict::refuse;
use super::{Case, Delivery};
use crate::account::AccountError;

/// What a word begins with.
const PREFIX: &str = "pass:";
/// Bytes of the digest: a word has 16 letters after the prefix, which people can copy.
const TAG: usize = 8;
/// Words in a subject that are looked at.
const WORDS_MAX: usize = 10;
/// How far ahead of ours the clock may be that made a word: another replica's.
const AHEAD_MINUTES: u32 = 5;

impl Delivery {
    /// What words of an account are made with; None if it has no subject pass.
    async fn pass_key(&self, case: &Case<'_>) -> Result<Option<Pass>, AccountError> {
        let period = case.settings.subject_pass.period.0;
        if period.is_zero() || case.from.is_empty() {
            return Ok(None);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret().await?);
        let mut of_account = b"subject-pass".to_vec();
        of_account.extend_from_slice(case.account.as_bytes());
        let key = hmac::sign(&key, &of_account);
        let seconds = self.accounts.now();
        Ok(Some(Pass {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            whose: format!("{}\0{}", case.from.to_lowercase(), case.recipient.address),
            now: u32::try_from(seconds / 60).unwrap_or(0),
            minutes: u32::try_from(period.as_secs().div_ceil(60)).unwrap_or(u32::MAX),
        }))
    }

    /// Whether the subject has a word that lets the message through.
    pub(super) async fn has_pass(&self, case: &Case<'_>) -> Result<bool, AccountError> {
        let subject = &case.letter.summary().subject;
        if !subject.contains(PREFIX) {
            return Ok(false);
        }
        Ok(self.pass_key(case).await?.is_some_and(|pass| pass.is_in(subject)))
    }

    /// The refusal that offers a word, in place of another one.
    pub(super) async fn offer_pass(&self, case: &Case<'_>, refusal: Verdict) -> Result<Verdict, AccountError> {
        let Some(pass) = self.pass_key(case).await? else {
            return Ok(refusal);
        };
        let text = format!(
            "the message looks like junk. If it is not, send it again with this word added to its subject: {}",
            pass.word(pass.now)
        );
        Ok(Verdict {
            detail: format!("{}: {}", refusal.reason, refusal.detail),
            ..refuse("subject-pass-offered", 451, "4.7.1", text)
        })
    }
}

struct Pass {
    key: hmac::Key,
    whose: String,
    /// Minutes since 1970.
    now: u32,
    /// How long a word is good.
    minutes: u32,
}

impl Pass {
    fn word(&self, at: u32) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&at.to_be_bytes());
        context.update(self.whose.as_bytes());
        let tag = context.sign();
        let word = [&at.to_be_bytes()[..], &tag.as_ref()[..TAG]].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(word))
    }

    fn is_in(&self, subject: &str) -> bool {
        let words = subject.match_indices(PREFIX).take(WORDS_MAX);
        words.into_iter().any(|(at, _)| {
            let word: String = subject[at + PREFIX.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
                .take(16)
                .collect();
            self.is_good(&word)
        })
    }

    fn is_good(&self, word: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(word) else {
            return false;
        };
        let Some((at, tag)) = bytes.split_first_chunk::<4>() else {
            return false;
        };
        if tag.len() != TAG {
            return false;
        }
        let at = u32::from_be_bytes(*at);
        let timely = at <= self.now.saturating_add(AHEAD_MINUTES) && self.now.saturating_sub(at) <= self.minutes;
        // As long for every word: how far it is right must not be told by time.
        let (right, given) = (self.word(at), format!("{PREFIX}{word}"));
        let pairs = right.bytes().zip(given.bytes());
        let differs = pairs.fold(0, |differs, (a, b)| differs | (a ^ b));
        timely && right.len() == given.len() && differs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(whose: &str, now: u32) -> Pass {
        Pass {
            key: hmac::Key::new(hmac::HMAC_SHA256, b"key"),
            whose: whose.into(),
            now,
            minutes: 60,
        }
    }

    #[test]
    fn words_are_good_for_a_time_and_a_sender() {
        let word = pass("joe", 1000).word(1000);
        assert_eq!(word.len(), PREFIX.len() + 16);
        let subject = format!("Re: hello ({word})");
        assert!(pass("joe", 1000).is_in(&subject) && pass("joe", 1060).is_in(&subject));
        assert!(!pass("joe", 1061).is_in(&subject));
        assert!(!pass("jane", 1000).is_in(&subject));
        assert!(pass("joe", 996).is_in(&subject) && !pass("joe", 990).is_in(&subject));
    }

    #[test]
    fn what_is_no_word_is_passed_over() {
        let good = pass("joe", 1000).word(1000);
        for bad in [
            "pass:",
            "pass:é",
            "pass:AAAAAAAAAAAAAAAA",
            "pass:AAAA",
            &good[..good.len() - 1],
        ] {
            assert!(!pass("joe", 1000).is_in(bad), "{bad}");
        }
        assert!(pass("joe", 1000).is_in(&format!("pass:x {good}")));
        assert!(!pass("joe", 1000).is_in(&format!("{} {good}", "pass:x ".repeat(WORDS_MAX))));
    }
}
