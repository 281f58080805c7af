//! DKIM (RFC 6376, RFC 8301, RFC 8463): which domains signed a message.

use mail_auth::common::crypto::{Algorithm, CryptoError};
use mail_auth::common::verify::VerifySignature as _;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, DnsError, Error};
use mox_dns::Status;

use crate::answers::Answers;

/// Most signatures that are looked at: RFC 6376 §8.4 asks for a bound. Those further down are of earlier hops.
pub const SIGNATURES: usize = 10;

/// RFC 8601 §2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// Not signed.
    #[default]
    None,
    /// Signed, and unchanged.
    Pass,
    /// Changed, or not signed by who it says.
    Fail,
    /// Signed in a way that is not accepted: SHA-1, or only a part of the body.
    Policy,
    /// Nothing can be said, as the signature is misformed.
    Neutral,
    /// The key could not be had at the moment.
    TempError,
    /// It can't be verified: no key, another kind of key, or expired.
    PermError,
}

impl Outcome {
    /// As in header fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// About one signature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What was found out.
    pub outcome: Outcome,
    /// `d=`, in lower case. "" if the signature is misformed, and so for the next.
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// `i=`, or "".
    pub identity: String,
    /// `a=`
    pub algorithm: &'static str,
    /// First characters of `b=`, as results about several signatures are told apart (RFC 6008).
    pub signature: String,
    /// Why it is not a pass.
    pub problem: Option<String>,
    /// Of the key.
    pub status: Status,
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RsaSha1 => "rsa-sha1",
        Algorithm::RsaSha256 => "rsa-sha256",
        Algorithm::Ed25519Sha256 => "ed25519-sha256",
    }
}

/// Takes from a message what is not acted upon, so that it costs nothing: signatures beyond the bound, and extensions.
pub(crate) fn limit(message: &mut AuthenticatedMessage<'_>) {
    message.dkim_headers.truncate(SIGNATURES);
    message.errors.truncate(SIGNATURES);
    for header in &mut message.dkim_headers {
        // RFC 6651 and RFC 6541: neither reports about failures nor signatures of third parties.
        header.header.r = false;
        header.header.atps = None;
    }
}

/// Checks the record of a public key (RFC 6376 §3.6.1).
///
/// # Errors
/// If it is none, with what is wrong.
pub fn check_record(text: &[u8]) -> Result<(), String> {
    use mail_auth::common::parse::TxtRecordParser as _;
    mail_auth::common::verify::DomainKey::parse(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

pub(crate) fn key_name(signature: &Signature) -> String {
    signature.domain_key()
}

/// Verifies the signatures of a message.
pub(crate) async fn verify<'m>(answers: &'m Answers, message: &'m AuthenticatedMessage<'m>) -> Vec<DkimOutput<'m>> {
    answers.register(message.dkim_headers.iter().map(|h| key_name(&h.header)));
    loop {
        let out = answers.authenticator().verify_dkim(answers.parameters(message)).await;
        if !answers.ask().await {
            return out;
        }
    }
}

/// In our words.
pub(crate) fn verdicts(answers: &Answers, outputs: &[DkimOutput<'_>]) -> Vec<Verdict> {
    outputs.iter().map(|output| verdict(answers, output)).collect()
}

fn verdict(answers: &Answers, output: &DkimOutput<'_>) -> Verdict {
    let (mut outcome, mut problem) = outcome(output.result());
    let Some(signature) = output.signature() else {
        return Verdict {
            outcome,
            problem,
            ..Verdict::default()
        };
    };
    // RFC 8301 §3.1: SHA-1 must not be counted on.
    if outcome == Outcome::Pass && signature.a == Algorithm::RsaSha1 {
        outcome = Outcome::Policy;
        problem = Some("signed with SHA-1".to_owned());
    }
    Verdict {
        outcome,
        domain: signature.d.to_ascii_lowercase(),
        selector: signature.s.clone(),
        identity: signature.i.clone(),
        algorithm: name(signature.a),
        signature: beginning(&signature.b),
        problem,
        status: answers.status([key_name(signature)]),
    }
}

/// RFC 6008: eight characters tell signatures apart.
fn beginning(signature: &[u8]) -> String {
    use base64::Engine as _;
    let first = signature.get(..6).unwrap_or(signature);
    base64::engine::general_purpose::STANDARD.encode(first)
}

/// What a result is in the terms of RFC 8601, which differ from those of `mail-auth` in places.
pub(crate) fn outcome(result: &DkimResult) -> (Outcome, Option<String>) {
    let (otherwise, error) = match result {
        DkimResult::Pass => return (Outcome::Pass, None),
        DkimResult::None => return (Outcome::None, None),
        DkimResult::Neutral(error) => (Outcome::Neutral, error),
        DkimResult::Fail(error) => (Outcome::Fail, error),
        DkimResult::PermError(error) => (Outcome::PermError, error),
        DkimResult::TempError(error) => (Outcome::TempError, error),
    };
    let outcome = match error {
        Error::Dns(DnsError::Resolver(_)) => Outcome::TempError,
        Error::Dns(_)
        | Error::Dkim(DkimError::SignatureExpired | DkimError::RevokedPublicKey | DkimError::UnsupportedKeyType)
        | Error::Crypto(CryptoError::IncompatibleAlgorithms) => Outcome::PermError,
        Error::Dkim(DkimError::SignatureLength) => Outcome::Policy,
        Error::Dkim(DkimError::FailedBodyHashMatch | DkimError::FailedAuidMatch) | Error::Crypto(_) => Outcome::Fail,
        _ => otherwise,
    };
    let problem = match error {
        Error::Dns(DnsError::Resolver(why)) => format!("the key could not be looked up: {why}"),
        Error::Dns(DnsError::RecordNotFound(_)) => "there is no key".to_owned(),
        Error::Dns(DnsError::InvalidRecordType) => "the key's record is misformed".to_owned(),
        Error::Dkim(DkimError::FailedBodyHashMatch) => "the body was changed".to_owned(),
        Error::Crypto(CryptoError::FailedVerification) => "the signature does not match".to_owned(),
        Error::Dkim(DkimError::SignatureLength) => "only a part of the body is signed".to_owned(),
        other => other.to_string(),
    };
    (outcome, Some(problem))
}
