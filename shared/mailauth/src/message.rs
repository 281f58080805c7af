//! All verdicts about one message.

use std::sync::Arc;

use bytes::Bytes;
use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim::Canonicalization;
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

/// A message as far as signatures are about it: read once, and nothing of its body is needed after that.
#[derive(Debug, Clone)]
pub struct Signed {
    header: Bytes,
    hashes: Vec<(Canonicalization, HashAlgorithm, u64, Vec<u8>)>,
}

impl Signed {
    /// Reads all of a message, header and body as received, and hashes its body in each way that signatures ask for. It
    /// takes a moment for a large one. `None` if it has no header.
    #[must_use]
    pub fn of(message: &Bytes) -> Option<Self> {
        // With "strict", a signature that covers only a part of the body counts as misformed.
        let mut parsed = AuthenticatedMessage::parse_with_opts(message, None, true)?;
        mend_hashes(&mut parsed, message);
        Some(Self {
            header: message.slice(..message.len().min(parsed.body_offset as usize)),
            hashes: parsed.body_hashes,
        })
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
    let signed = if message.len() < LARGE {
        Signed::of(&message)
    } else {
        let reading = tokio::task::spawn_blocking(move || Signed::of(&message));
        reading.await.map_err(|e| Error::Setup(e.to_string()))?
    };
    match signed {
        Some(signed) => verify_signed(resolver, signed, mail_from_domain, spf).await,
        None => Ok(Verdicts::default()),
    }
}

/// As [`verify`], of a message that was read before.
///
/// # Errors
/// See there.
pub async fn verify_signed(
    resolver: Arc<dyn Resolver>,
    signed: Signed,
    mail_from_domain: &str,
    spf: &spf::Verdict,
) -> Result<Verdicts, Error> {
    if signed.header.len() < LARGE {
        return verify_here(resolver, &signed, mail_from_domain, spf).await;
    }
    let (mail_from_domain, spf) = (mail_from_domain.to_owned(), spf.clone());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(verify_here(resolver, &signed, &mail_from_domain, &spf)))
        .await
        .map_err(|e| Error::Setup(e.to_string()))?
}

async fn verify_here(
    resolver: Arc<dyn Resolver>,
    signed: &Signed,
    mail_from_domain: &str,
    spf: &spf::Verdict,
) -> Result<Verdicts, Error> {
    let answers = Answers::new(resolver)?;
    let Some(mut parsed) = AuthenticatedMessage::parse_with_opts(&signed.header, None, true) else {
        return Ok(Verdicts::default());
    };
    parsed.body_hashes.clone_from(&signed.hashes);
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

/// Hashes relaxed bodies without the lines at their end that have only white space, which `mail-auth` leaves in: they
/// become empty lines, and those at the end don't count (RFC 6376 §3.4.4).
fn mend_hashes(parsed: &mut AuthenticatedMessage<'_>, message: &[u8]) {
    let Some(shorter) = without_blank_end(message) else {
        return;
    };
    let Some(shorter) = AuthenticatedMessage::parse_with_opts(shorter, None, true) else {
        return;
    };
    let relaxed = |method: &Canonicalization| *method == Canonicalization::Relaxed;
    for (method, algorithm, length, hash) in parsed.body_hashes.iter_mut().filter(|(method, ..)| relaxed(method)) {
        let same = shorter
            .body_hashes
            .iter()
            .find(|(m, a, l, _)| m == method && a == algorithm && l == length);
        if let Some((.., right)) = same {
            hash.clone_from(right);
        }
    }
}

/// A message up to the last line of its body that has more than white space; None if all lines behind that are empty
/// anyway.
pub(crate) fn without_blank_end(message: &[u8]) -> Option<&[u8]> {
    let start = match message.strip_prefix(b"\r\n") {
        Some(_) => 2,
        None => message.windows(4).position(|four| four == b"\r\n\r\n")? + 4,
    };
    let body = message.get(start..)?;
    let mut end = body.len();
    while end > 0 {
        let line = body[..end].strip_suffix(b"\r\n").unwrap_or(&body[..end]);
        let spaces = line.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let rest = &line[..line.len() - spaces];
        if !rest.is_empty() && !rest.ends_with(b"\r\n") {
            break;
        }
        end = rest.len();
    }
    let blank = &body[end..];
    blank
        .iter()
        .any(|b| matches!(b, b' ' | b'\t'))
        .then(|| &message[..start + end])
}

#[cfg(test)]
mod tests;
