//! ARC (RFC 8617): what earlier hops found out about a message, sealed by them.

use mail_auth::AuthenticatedMessage;
use mail_auth::common::verify::VerifySignature as _;

use crate::answers::Answers;
use crate::dkim::{self, Outcome};

/// Most sets of a chain that are verified. RFC 8617 §4.2.1 allows 50; who has a message pass so many hops is a loop.
pub const SETS: usize = 20;

/// About the chain of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// None, Pass, Fail or an error.
    pub outcome: Outcome,
    /// Domains that sealed, the last one first. Only with a pass do they mean anything.
    pub sealers: Vec<String>,
    /// Of the last set: the value of its ARC-Authentication-Results, as written.
    pub results: Option<String>,
    /// Why it is not a pass.
    pub problem: Option<String>,
}

/// Octets of a sealed result that are kept.
const RESULTS_BYTES: usize = 8 << 10;

/// Verifies the chain of a message.
pub(crate) async fn verify(answers: &Answers, message: &AuthenticatedMessage<'_>) -> Verdict {
    if message.ams_headers.len().max(message.as_headers.len()) > SETS {
        return Verdict {
            outcome: Outcome::Fail,
            problem: Some(format!("the chain has more than {SETS} sets")),
            ..Verdict::default()
        };
    }
    answers.register(message.ams_headers.iter().map(|h| h.header.domain_key()));
    answers.register(message.as_headers.iter().map(|h| h.header.domain_key()));
    loop {
        let out = answers.authenticator().verify_arc(answers.parameters(message)).await;
        if answers.ask().await {
            continue;
        }
        let (outcome, problem) = dkim::outcome(out.result());
        let sets = out.sets();
        let results = sets.last().map(|set| {
            let value = set.results.value;
            let value = String::from_utf8_lossy(value.get(..RESULTS_BYTES).unwrap_or(value));
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        return Verdict {
            outcome,
            sealers: sets
                .iter()
                .rev()
                .map(|set| set.seal.header.d.to_ascii_lowercase())
                .collect(),
            results,
            problem,
        };
    }
}
