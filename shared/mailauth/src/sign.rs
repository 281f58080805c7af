//! Signing with DKIM (RFC 6376, RFC 8463).

use std::time::Duration;

use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{Canonicalization, DkimSigner, Signature};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Header fields that are signed where nothing else is configured: those that matter to readers and to who handles the
/// message (RFC 6376 §5.4.1).
pub const HEADERS: [&str; 18] = [
    "From",
    "To",
    "Cc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "TLS-Required",
];

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key is none.
    #[error("reading a private key for DKIM: {0}; expected RSA or Ed25519 as PKCS#8 in PEM")]
    Key(String),
    /// The message has none of the fields that are to be signed, and so no From.
    #[error("signing a message: it has no header field that is to be signed")]
    Unsigned,
    /// The algorithm failed.
    #[error("signing a message: {0}")]
    Sign(String),
}

/// A private key.
pub enum Key {
    /// RSA with SHA-256.
    Rsa(Box<RsaKey<Sha256>>),
    /// Ed25519 with SHA-256.
    Ed25519(Ed25519Key),
}

impl std::fmt::Debug for Key {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "Rsa",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

impl Key {
    /// From PKCS#8 in PEM.
    ///
    /// # Errors
    /// If it is neither RSA nor Ed25519.
    pub fn from_pem(pem: &str) -> Result<Self, SignError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| SignError::Key(e.to_string()))?;
        if let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()) {
            return Ok(Self::Ed25519(key));
        }
        RsaKey::from_key_der(PrivateKeyDer::Pkcs8(der))
            .map(|key| Self::Rsa(Box::new(key)))
            .map_err(|e| SignError::Key(e.to_string()))
    }
}

/// How to sign.
#[derive(Debug)]
pub struct Signer {
    /// Whose signature it is, as A-labels.
    pub domain: String,
    /// Under which the public key is published.
    pub selector: String,
    /// The private key.
    pub key: Key,
    /// Fields to sign; [`HEADERS`] if empty.
    pub headers: Vec<String>,
    /// Sign each field once more than it is there, so that none can be added (RFC 6376 §5.4).
    pub seal: bool,
    /// The header's white space and case may change.
    pub header_relaxed: bool,
    /// The body's white space may change.
    pub body_relaxed: bool,
    /// How long the signature is valid.
    pub expiration: Option<Duration>,
}

impl Signer {
    /// The DKIM-Signature field of a message that is given in pieces, header first, with CRLF line ends. The field has its
    /// line end, and belongs on top of the message.
    ///
    /// # Errors
    /// If there is nothing to sign, or the key can't.
    pub fn sign(&self, pieces: &[&[u8]]) -> Result<String, SignError> {
        let mut pieces = pieces.to_vec();
        // What a relaxed body ends with does not count, and not all who sign and verify know.
        if let Some(last) = pieces.last_mut().filter(|_| self.body_relaxed)
            && let Some(shorter) = crate::message::without_blank_end(last)
        {
            *last = shorter;
        }
        match &self.key {
            Key::Rsa(key) => self.sign_with(&**key, &pieces),
            Key::Ed25519(key) => self.sign_with(key, &pieces),
        }
    }

    fn sign_with<K: SigningKey>(&self, key: &K, pieces: &[&[u8]]) -> Result<String, SignError> {
        let mut names: Vec<String> = match self.headers.as_slice() {
            [] => HEADERS.map(str::to_owned).to_vec(),
            some => some.to_vec(),
        };
        if self.seal {
            // A name that is there twice is signed once for each field, and once for the one that is not there.
            names.extend(names.clone());
        }
        let relaxed = |yes| match yes {
            true => Canonicalization::Relaxed,
            false => Canonicalization::Simple,
        };
        let mut signer = DkimSigner::from_key(Borrowed(key))
            .domain(self.domain.as_str())
            .selector(self.selector.as_str())
            .headers(names)
            .header_canonicalization(relaxed(self.header_relaxed))
            .body_canonicalization(relaxed(self.body_relaxed));
        if let Some(expiration) = self.expiration {
            signer = signer.expiration(expiration.as_secs());
        }
        let signature: Signature = signer
            .sign_chained(pieces.iter().copied())
            .map_err(|error| match error {
                mail_auth::Error::NoHeadersFound => SignError::Unsigned,
                other => SignError::Sign(other.to_string()),
            })?;
        Ok(signature.to_header())
    }
}

/// A key that stays its owner's.
struct Borrowed<'a, K>(&'a K);

impl<K: SigningKey> SigningKey for Borrowed<'_, K> {
    type Hasher = K::Hasher;

    fn sign(&self, input: impl mail_auth::common::headers::Writable) -> mail_auth::Result<Vec<u8>> {
        self.0.sign(input)
    }

    fn algorithm(&self) -> mail_auth::common::crypto::Algorithm {
        self.0.algorithm()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use mox_dns::{Record, ZoneResolver};

    use super::*;
    use crate::{dkim, message, spf};

    /// RFC 8032 §7.1, test 1, whose public key RFC 8463 has, too.
    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn signer() -> Signer {
        Signer {
            domain: "example.org".into(),
            selector: "s1".into(),
            key: Key::from_pem(ED25519).unwrap(),
            headers: Vec::new(),
            seal: true,
            header_relaxed: true,
            body_relaxed: true,
            expiration: Some(Duration::from_secs(3600)),
        }
    }

    async fn check(message: String) -> Vec<dkim::Outcome> {
        let mut zone = ZoneResolver::new();
        let key = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        zone.add("s1._domainkey.example.org", Record::Txt(key.to_vec()));
        let verdicts = message::verify(Arc::new(zone), Bytes::from(message), "", &spf::Verdict::default()).await;
        verdicts.unwrap().dkim.iter().map(|v| v.outcome).collect()
    }

    #[tokio::test]
    async fn what_is_signed_verifies() {
        let header = "From: Joe <joe@example.org>\r\nSubject: hi\r\n";
        let rest = "To: a@example.com\r\n\r\nHello  \r\n\r\n";
        for (header_relaxed, body_relaxed) in [(true, true), (true, false), (false, true), (false, false)] {
            let signer = Signer {
                header_relaxed,
                body_relaxed,
                ..signer()
            };
            let field = signer.sign(&[header.as_bytes(), rest.as_bytes()]).unwrap();
            assert!(
                field.ends_with("\r\n") && field.starts_with("DKIM-Signature: v=1;"),
                "{field}"
            );
            let signed = format!("{field}{header}{rest}");
            assert_eq!(check(signed.clone()).await, [dkim::Outcome::Pass], "{field}");
            assert_eq!(check(signed.replace("Hello", "Hallo")).await, [dkim::Outcome::Fail]);
            // Sealed: nothing can be added.
            let added = signed.replace("To: a", "Subject: other\r\nTo: a");
            assert_eq!(check(added).await, [dkim::Outcome::Fail], "{field}");
            let added = signed.replace("To: a", "Cc: other@example.org\r\nTo: a");
            assert_eq!(check(added).await, [dkim::Outcome::Fail], "{field}");
        }
    }

    #[test]
    fn what_can_not_be_signed_is_said() {
        assert_eq!(
            signer().sign(&[b"X-Other: a\r\n\r\nb\r\n"]).map(drop),
            Ok(()),
            "sealed as not there"
        );
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(Key::from_pem(bad), Err(SignError::Key(_))));
        }
        assert_eq!(format!("{:?}", signer().key), "Ed25519");
    }
}
