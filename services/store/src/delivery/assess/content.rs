//! Stage: what the account's junk filter says of the words.

use std::fmt::Write as _;

use mox_config::Lookup;
use mox_proto::delivery::v1::Validation;
use mox_types::{AccountId, Address};
use ring::hmac;

use super::verdict::Draft;
use super::{Case, Delivery};
use crate::account::AccountError;
use crate::account::history::is_from_verified;
use crate::junk::Judgement;

/// The threshold for messages that something else speaks against.
const STRICT: f64 = 0.25;
/// How far the threshold is moved, at most: whoever tries which words pass learns less.
const JITTER: f64 = 0.05;
/// Messages of each kind that a filter has learned from before it decides: with fewer, words that happened to be in one
/// kind seem to tell.
const LEARNED: u32 = 5;
/// Words that must tell something, for either side: one or two can be chance.
const TELLING: usize = 5;

/// Addresses of a message that are compared with the recipient: a mailing to more is to nobody in particular.
const ADDRESSES_MAX: usize = 100;

/// What is moved by, from -1 to 1, for an account and the digest of a message.
pub type Jitter = dyn Fn(AccountId, &[u8]) -> f64 + Send + Sync;

/// The same for the same message, so that sending it again gains nothing, and known to nobody.
pub(in crate::delivery) fn jitter(secret: &[u8], account: AccountId, message: &[u8]) -> f64 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(b"jitter");
    context.update(account.as_bytes());
    context.update(message);
    let tag = context.sign();
    let number = tag
        .as_ref()
        .iter()
        .take(6)
        .fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    number as f64 / (1u64 << 47) as f64 - 1.0
}

/// What the filter says.
pub(super) struct Opinion {
    pub(super) junk: bool,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Delivery {
    /// None if the account has no filter, or it does not know enough.
    pub(super) async fn opinion(&self, case: &Case<'_>, draft: &Draft<'_>) -> Result<Option<Opinion>, AccountError> {
        let Some(judgement) = self.junk.judge(case.account, case.letter.looked()).await? else {
            return Ok(None);
        };
        let Judgement { score, .. } = judgement;
        let learned = judgement.learned.junk.min(judgement.learned.ham);
        if learned < LEARNED || score.for_junk + score.against < TELLING {
            return Ok(None);
        }
        let suspicion = suspicion(case, draft);
        let base = match suspicion {
            Some(_) => judgement.threshold.min(STRICT),
            None => judgement.threshold,
        };
        let room = JITTER.min((1.0 - base) / 2.0).min(base / 2.0);
        let threshold = base + self.jitter(case).await? * room;
        let mut detail = format!("words: {:.4} of {threshold:.3}", score.probability);
        if let Some(suspicion) = suspicion {
            let _ = write!(detail, ", strict as {suspicion}");
        }
        Ok(Some(Opinion {
            junk: score.probability > threshold,
            reason: match suspicion {
                Some(_) => "junk-content-strict",
                None => "junk-content",
            },
            detail,
        }))
    }
}

/// What else speaks against a message. What a forwarder or a list does says nothing about the sender.
fn suspicion(case: &Case<'_>, draft: &Draft<'_>) -> Option<&'static str> {
    let envelope = case.envelope;
    let sender = &case.sender;
    let authenticated = is_from_verified(sender)
        || !sender.dkim_domains.is_empty()
        || envelope.mail_from_validation() == Validation::Pass;
    if !authenticated {
        return Some("nothing shows who sent it");
    }
    if draft.forward || draft.list {
        return None;
    }
    if envelope.iprev_failed {
        return Some("the client's address has no name");
    }
    if envelope.tls_version.is_empty() {
        return Some("it came without TLS");
    }
    (!is_addressed(case)).then_some("the recipient is not in To or Cc")
}

/// Whether the message says that it is for the recipient, by the address that was written to or another of the account.
fn is_addressed(case: &Case<'_>) -> bool {
    let summary = case.letter.summary();
    let addresses = summary.to.iter().chain(&summary.cc).filter_map(|a| a.address.as_ref());
    let rcpt_to = case.rcpt_to.to_lowercase();
    let is_rcpt_to = |address: &Address| address.to_string().to_lowercase() == rcpt_to;
    addresses.take(ADDRESSES_MAX).any(|address| {
        is_rcpt_to(address)
            || matches!(case.dynamic.configured(address), Lookup::Account(r) if r.account == case.recipient.account)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_the_same_for_the_same_message_and_spread() {
        let account = AccountId::new();
        let of = |n: u32| jitter(b"secret", account, &n.to_be_bytes());
        assert_eq!(of(1).to_bits(), of(1).to_bits());
        let all: Vec<f64> = (0..1000).map(of).collect();
        assert!(all.iter().all(|j| (-1.0..1.0).contains(j)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!(mean.abs() < 0.1, "{mean}");
        assert!(all.iter().any(|j| *j < -0.9) && all.iter().any(|j| *j > 0.9));
    }
}
