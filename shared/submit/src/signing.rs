//! Signing with the keys of the sender's domain (RFC 6376).

use std::collections::HashMap;
use std::sync::Arc;

use mox_config::Dynamic;
use mox_mailauth::sign::{Key, SignError, Signer};
use mox_spool::Excerpt;
use mox_types::Domain;
use parking_lot::Mutex;

use crate::Prepared;

/// Why a message was not signed. It must not be sent: receivers may refuse what is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signing for {domain} with selector {selector}: {cause}")]
pub struct SigningError {
    domain: String,
    selector: String,
    cause: String,
}

/// Signs messages with the keys of the configuration, which it keeps ready for use.
#[derive(Debug, Default)]
pub struct Signing(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    /// Of the configuration that the keys are from.
    version: u64,
    domains: HashMap<Domain, Arc<Vec<Signer>>>,
}

impl Signing {
    /// Puts signatures of the From address's domain above the fields that were added to a message: one for each of its
    /// selectors that sign, none if it has none. `version` tells configurations apart.
    ///
    /// # Errors
    /// If the domain has keys, and one can't be used.
    pub async fn sign(&self, config: &Dynamic, version: u64, message: &mut Prepared) -> Result<(), SigningError> {
        let signers = self.signers(config, version, &message.msg_from.domain)?;
        if signers.is_empty() {
            return Ok(());
        }
        let (added, content) = (message.added.clone(), message.content.clone());
        // An RSA signature takes about a millisecond, and hashing a large message more.
        let signed = message
            .content
            .message()
            .read_on_thread(move |_| all(&signers, &added, &content));
        let fields = signed.await.unwrap_or_else(|error| {
            Err(SigningError {
                domain: message.msg_from.domain.to_string(),
                selector: String::new(),
                cause: error.to_string(),
            })
        })?;
        message.added.insert_str(0, &fields);
        Ok(())
    }

    fn signers(&self, config: &Dynamic, version: u64, domain: &Domain) -> Result<Arc<Vec<Signer>>, SigningError> {
        let mut ready = self.0.lock();
        if ready.version != version {
            *ready = Ready {
                version,
                domains: HashMap::new(),
            };
        }
        if let Some(signers) = ready.domains.get(domain) {
            return Ok(Arc::clone(signers));
        }
        let Some(settings) = config.domains.get(domain) else {
            // Addresses of others are not kept: there is no end of them.
            return Ok(Arc::default());
        };
        let signers = settings.dkim.sign.iter().map(|name| {
            let fail = |cause: String| SigningError {
                domain: domain.to_string(),
                selector: name.clone(),
                cause,
            };
            let selector = settings
                .dkim
                .selectors
                .get(name)
                .ok_or_else(|| fail("there is no such selector".to_owned()))?;
            let pem = selector.private_key.as_ref().map_or("", |key| key.expose());
            Ok(Signer {
                domain: domain.ascii().to_owned(),
                selector: name.clone(),
                key: Key::from_pem(pem).map_err(|error: SignError| fail(error.to_string()))?,
                headers: selector.headers.clone(),
                seal: !selector.dont_seal_headers,
                header_relaxed: selector.canonicalization.header_relaxed,
                body_relaxed: selector.canonicalization.body_relaxed,
                expiration: selector.expiration.map(Into::into),
            })
        });
        let signers = Arc::new(signers.collect::<Result<Vec<_>, _>>()?);
        ready.domains.insert(domain.clone(), Arc::clone(&signers));
        Ok(signers)
    }
}

fn all(signers: &[Signer], added: &str, content: &Excerpt) -> Result<String, SigningError> {
    let mut fields = String::new();
    // Header fields that were added come first, and of the others those above what was left out, so that the message is
    // one.
    let Some((rest, above)) = content.slices().split_last() else {
        return Ok(fields);
    };
    let top = [added.as_bytes(), &above.concat()].concat();
    for signer in signers {
        let field = signer.sign(&[&top, rest]).map_err(|error| SigningError {
            domain: signer.domain.clone(),
            selector: signer.selector.clone(),
            cause: error.to_string(),
        })?;
        fields.push_str(&field);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mox_dns::{Record, ZoneResolver};
    use mox_mailauth::{dkim, message, spf};

    use bytes::Bytes;

    use super::*;

    /// RFC 8032 §7.1, test 1, whose public key RFC 8463 has, too.
    const CONFIG: &str = r#"
[domains."example.org".dkim]
sign = ["s1"]
[domains."example.org".dkim.selectors.s1]
private_key = """
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""
[domains."broken.example".dkim]
sign = ["s1"]
[domains."broken.example".dkim.selectors.s1]
private_key = "nonsense"
"#;

    fn prepared(from: &str) -> Prepared {
        let message = Bytes::from(format!("From: {from}\r\nSubject: hi\r\n\r\nhi\r\n"));
        crate::prepare(&message.into(), "mail.example.org", SystemTime::UNIX_EPOCH).unwrap()
    }

    async fn verified(message: &Prepared) -> Vec<dkim::Outcome> {
        let mut zone = ZoneResolver::new();
        let key = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        zone.add("s1._domainkey.example.org", Record::Txt(key.to_vec()));
        let whole = [message.added.as_bytes(), &message.content.to_bytes()].concat();
        let verdicts = message::verify(Arc::new(zone), whole.into(), "", &spf::Verdict::default()).await;
        verdicts.unwrap().dkim.iter().map(|v| v.outcome).collect()
    }

    #[tokio::test]
    async fn messages_are_signed_for_their_domain() {
        let config: Dynamic = toml::from_str(CONFIG).unwrap();
        let signing = Signing::default();
        for version in [1, 1, 2] {
            let mut message = prepared("joe@example.org");
            signing.sign(&config, version, &mut message).await.unwrap();
            assert!(message.added.starts_with("DKIM-Signature: "), "{}", message.added);
            assert_eq!(verified(&message).await, [dkim::Outcome::Pass]);
        }
        let mut other = prepared("joe@other.example");
        let before = other.added.clone();
        signing.sign(&config, 2, &mut other).await.unwrap();
        assert_eq!(other.added, before);
    }

    #[tokio::test]
    async fn a_message_without_what_was_left_out_is_signed() {
        let config: Dynamic = toml::from_str(CONFIG).unwrap();
        for header in [
            "Bcc: a@b\r\nFrom: joe@example.org\r\nBcc: b@b\r\nSubject: hi\r\nX-Mox-Extra-A: 1\r\n",
            "From: joe@example.org\r\nBcc: b@b\r\nX-Mox-Extra-A: 1\r\nBcc: b@b\r\nSubject: hi\r\nBcc: b@b\r\n",
        ] {
            let message = Bytes::from(format!("{header}\r\nhi\r\n"));
            let mut message = crate::prepare(&message.into(), "h", SystemTime::UNIX_EPOCH).unwrap();
            Signing::default().sign(&config, 1, &mut message).await.unwrap();
            let outcomes = verified(&message).await;
            assert_eq!(outcomes, [dkim::Outcome::Pass], "{header}");
        }
    }

    #[tokio::test]
    async fn a_key_that_can_not_be_used_is_an_error() {
        let config: Dynamic = toml::from_str(CONFIG).unwrap();
        let mut message = prepared("joe@broken.example");
        let error = Signing::default().sign(&config, 1, &mut message).await.unwrap_err();
        assert!(
            error.to_string().contains("broken.example") && error.to_string().contains("s1"),
            "{error}"
        );
    }
}
