//! All verdicts about one message.

use std::sync::Arc;

use bytes::Bytes;
use mail_auth::AuthenticatedMessage;
use mox_dns::Resolver;

use crate::answers::Answers;
use crate::{Error, arc, dkim, dmarc, spf};

/// Octets of a message from which on it is hashed on a thread for such work, rather than beside other sessions.
const LARGE: usize = 64 << 10;

/// Verdicts about a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// One for each signature, at most [`dkim::SIGNATURES`] and as many misformed ones.
    pub dkim: Vec<dkim::Verdict>,
    /// About the domain in From.
    pub dmarc: dmarc::Verdict,
    /// About earlier hops.
    pub arc: arc::Verdict,
}

impl Verdicts {
    /// Domains with a valid signature, each once.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        let passed = |v: &&dkim::Verdict| v.outcome == dkim::Outcome::Pass;
        let all: Vec<&str> = self.dkim.iter().filter(passed).map(|v| v.domain.as_str()).collect();
        let mut seen = std::collections::BTreeSet::new();
        all.into_iter().filter(move |domain| seen.insert(*domain))
    }
}

/// Verifies a whole message, header and body as received. `spf` is the verdict for `mail_from_domain`: of MAIL FROM, or
/// of EHLO if that is null.
///
/// Every question ends, in time and number. A message without a header has no verdicts.
///
/// # Errors
/// If there is a fault in the server itself.
pub async fn verify(
    resolver: Arc<dyn Resolver>,
    message: Bytes,
    mail_from_domain: &str,
    spf: &spf::Verdict,
) -> Result<Verdicts, Error> {
    if message.len() < LARGE {
        return verify_here(resolver, &message, mail_from_domain, spf).await;
    }
    let (mail_from_domain, spf) = (mail_from_domain.to_owned(), spf.clone());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(verify_here(resolver, &message, &mail_from_domain, &spf)))
        .await
        .map_err(|e| Error::Setup(e.to_string()))?
}

async fn verify_here(
    resolver: Arc<dyn Resolver>,
    message: &[u8],
    mail_from_domain: &str,
    spf: &spf::Verdict,
) -> Result<Verdicts, Error> {
    let answers = Answers::new(resolver)?;
    // With "strict", a signature that covers only a part of the body counts as misformed.
    let Some(mut parsed) = AuthenticatedMessage::parse_with_opts(message, None, true) else {
        return Ok(Verdicts::default());
    };
    dkim::limit(&mut parsed);
    let outputs = dkim::verify(&answers, &parsed).await;
    let dkim = dkim::verdicts(&answers, &outputs);
    // What is not accepted of DKIM by us vouches for nobody.
    let accepted: Vec<_> = outputs
        .into_iter()
        .zip(&dkim)
        .filter(|(_, verdict)| matches!(verdict.outcome, dkim::Outcome::Pass | dkim::Outcome::TempError))
        .map(|(output, _)| output)
        .collect();
    let dmarc = dmarc::verify(&answers, &parsed, &accepted, mail_from_domain, spf).await;
    let arc = arc::verify(&answers, &parsed).await;
    Ok(Verdicts { dkim, dmarc, arc })
}

#[cfg(test)]
mod tests;
