//! SCRAM (RFC 5802, RFC 7677).

use super::{Failure, authorized, text, username};
use crate::credentials::{Credentials, ScramKeys};
use crate::mechanism::{ChannelBindings, Mechanism};
use crate::scram::{Hash, attribute, decode, encode, equal, is_nonce, nonce, unescape, xor};

/// The client's first message.
pub(super) struct First {
    pub(super) authcid: String,
    hash: Hash,
    /// Header and channel binding data, as the client's last message must repeat them.
    binding: Vec<u8>,
    bare: String,
    client_nonce: String,
    server_nonce: String,
}

/// What the client's last message is checked against.
pub(super) struct Final {
    authcid: String,
    hash: Hash,
    binding: Vec<u8>,
    nonce: String,
    /// The first two messages, with a comma after each.
    messages: String,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    /// Whether the keys are those of somebody.
    real: bool,
}

impl First {
    /// RFC 5802 §7, `client-first-message`.
    pub(super) fn parse(mechanism: Mechanism, bindings: &ChannelBindings, message: &[u8]) -> Result<Self, Failure> {
        Self::parse_with_nonce(mechanism, bindings, message, nonce())
    }

    pub(super) fn parse_with_nonce(
        mechanism: Mechanism,
        bindings: &ChannelBindings,
        message: &[u8],
        server_nonce: String,
    ) -> Result<Self, Failure> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Failure::Malformed);
        };
        let data = match (flag.split_once('='), flag) {
            (Some(("p", name)), _) if mechanism.is_bound() => bindings.get(name).ok_or(Failure::ChannelBinding)?,
            (_, "n") if !mechanism.is_bound() => &[],
            // RFC 5802 §6: the client knows channel binding, and thinks that we don't. If we do, it was misled.
            (_, "y") if !mechanism.is_bound() => {
                if bindings.is_empty() {
                    &[]
                } else {
                    return Err(Failure::ChannelBinding);
                }
            }
            (Some(("p", _)), _) | (_, "n" | "y") => return Err(Failure::ChannelBinding),
            _ => return Err(Failure::Malformed),
        };
        let authzid = match authzid.strip_prefix("a=") {
            Some(name) => unescape(name).ok_or(Failure::Malformed)?,
            None if authzid.is_empty() => String::new(),
            None => return Err(Failure::Malformed),
        };
        // `m=` in front would be an extension that must be understood (§5.1): there is none, so it is an error.
        let mut attributes = bare.split(',');
        let name = attribute(&mut attributes, "n")
            .and_then(unescape)
            .ok_or(Failure::Malformed)?;
        let client_nonce = attribute(&mut attributes, "r")
            .filter(|r| is_nonce(r))
            .ok_or(Failure::Malformed)?;
        let authcid = username(&name)?;
        authorized(&authzid, &authcid)?;
        let header = &message.as_bytes()[..message.len() - bare.len()];
        Ok(Self {
            authcid,
            hash: match mechanism {
                Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => Hash::Sha1,
                _ => Hash::Sha256,
            },
            binding: [header, data].concat(),
            bare: bare.to_owned(),
            client_nonce: client_nonce.to_owned(),
            server_nonce,
        })
    }

    pub(super) fn keys(&self, credentials: &Credentials) -> Option<ScramKeys> {
        match self.hash {
            Hash::Sha1 => credentials.scram_sha_1.clone(),
            Hash::Sha256 => credentials.scram_sha_256.clone(),
        }
    }

    /// `server-first-message`.
    pub(super) fn challenge(self, keys: ScramKeys, real: bool) -> (String, Final) {
        let nonce = format!("{}{}", self.client_nonce, self.server_nonce);
        let challenge = format!("r={nonce},s={},i={}", encode(&keys.salt), keys.iterations);
        let last = Final {
            authcid: self.authcid,
            hash: self.hash,
            binding: self.binding,
            nonce,
            messages: format!("{},{challenge},", self.bare),
            stored_key: keys.stored_key,
            server_key: keys.server_key,
            real,
        };
        (challenge, last)
    }
}

impl Final {
    /// `client-final-message`. Answers the name, and `server-final-message`.
    pub(super) fn verify(&self, message: &[u8]) -> Result<(String, Vec<u8>), Failure> {
        let message = text(message)?;
        // The proof is the last attribute, whatever extensions are in front of it.
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let proof = decode(proof)
            .filter(|p| p.len() == self.hash.len())
            .ok_or(Failure::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(&mut attributes, "c")
            .and_then(decode)
            .ok_or(Failure::Malformed)?;
        let nonce = attribute(&mut attributes, "r").ok_or(Failure::Malformed)?;
        if !equal(&binding, &self.binding) {
            return Err(Failure::ChannelBinding);
        }
        if !equal(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(Failure::Malformed);
        }
        // RFC 5802 §3.
        let auth_message = format!("{}{without_proof}", self.messages);
        let client_signature = self.hash.hmac(&self.stored_key, auth_message.as_bytes());
        let client_key = xor(&proof, &client_signature);
        let fits = equal(&self.hash.digest(&client_key), &self.stored_key);
        let server_signature = self.hash.hmac(&self.server_key, auth_message.as_bytes());
        if fits && self.real {
            Ok((
                self.authcid.clone(),
                format!("v={}", encode(&server_signature)).into_bytes(),
            ))
        } else {
            Err(Failure::Credentials)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchanges of RFC 5802 §5 and RFC 7677 §3.
    fn exchange(mechanism: Mechanism, hash: Hash, [first, server, last, done]: [&str; 4], salt: &str) {
        let server_nonce = server.split(',').next().unwrap().len();
        let client_nonce = first.rsplit_once("r=").unwrap().1;
        let nonce = &server[2 + client_nonce.len()..server_nonce];
        let none = ChannelBindings::default();
        let parsed = First::parse_with_nonce(mechanism, &none, first.as_bytes(), nonce.into()).unwrap();
        assert_eq!(parsed.authcid, "user");
        let keys = ScramKeys::with_salt(hash, b"pencil", decode(salt).unwrap(), 4096);
        let (challenge, check) = parsed.challenge(keys, true);
        assert_eq!(challenge, server);
        assert_eq!(
            check.verify(last.as_bytes()),
            Ok(("user".into(), done.as_bytes().to_vec()))
        );
        let forged = last.replace("p=", "p=AA");
        assert!(check.verify(forged.as_bytes()).is_err());
    }

    #[test]
    fn example_of_rfc_5802() {
        exchange(
            Mechanism::ScramSha1,
            Hash::Sha1,
            [
                "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
            "QSXCR+Q6sek8bf92",
        );
    }

    #[test]
    fn example_of_rfc_7677() {
        exchange(
            Mechanism::ScramSha256,
            Hash::Sha256,
            [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
            "W22ZaJ0SNY7soEsUEjb6gQ==",
        );
    }

    #[test]
    fn messages_that_are_none() {
        let none = ChannelBindings::default();
        let some = ChannelBindings {
            tls_exporter: Some(vec![7; 32]),
            tls_server_end_point: None,
        };
        let parse = |m, b: &ChannelBindings, s: &str| First::parse(m, b, s.as_bytes()).map(|f| f.authcid);
        use Mechanism::{ScramSha256 as Bare, ScramSha256Plus as Plus};
        assert_eq!(parse(Bare, &none, "n,,n=user,r=abc"), Ok("user".into()));
        assert_eq!(parse(Bare, &none, "y,,n=us=2Cer,r=abc,x=1"), Ok("us,er".into()));
        assert_eq!(parse(Bare, &none, "n,a=user,n=user,r=abc"), Ok("user".into()));
        assert_eq!(
            parse(Bare, &none, "n,a=other,n=user,r=abc"),
            Err(Failure::Authorization)
        );
        assert_eq!(parse(Bare, &some, "y,,n=user,r=abc"), Err(Failure::ChannelBinding));
        assert_eq!(parse(Bare, &some, "n,,n=user,r=abc"), Ok("user".into()));
        assert_eq!(
            parse(Bare, &some, "p=tls-exporter,,n=user,r=abc"),
            Err(Failure::ChannelBinding)
        );
        assert_eq!(parse(Plus, &some, "p=tls-exporter,,n=user,r=abc"), Ok("user".into()));
        assert_eq!(
            parse(Plus, &some, "p=tls-server-end-point,,n=user,r=abc"),
            Err(Failure::ChannelBinding)
        );
        assert_eq!(parse(Plus, &some, "n,,n=user,r=abc"), Err(Failure::ChannelBinding));
        for bad in [
            "",
            "n",
            "n,,",
            "n,,r=abc",
            "n,,n=user",
            "n,,n=,r=abc",
            "n,,m=1,n=user,r=abc",
            "q,,n=user,r=abc",
            "n,x,n=user,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=user,r=",
            "n,,n=user,r=a b",
        ] {
            assert_eq!(parse(Bare, &none, bad), Err(Failure::Malformed), "{bad}");
        }
    }
}
