//! SCRAM (RFC 5802, RFC 7677).

use super::ClientError;
use crate::mechanism::{ChannelBindings, Mechanism};
use crate::scram::{Hash, attribute, decode, encode, equal, escape, is_nonce, nonce, xor};

/// Fewest iterations that are accepted (RFC 5802 §5.1, RFC 7677 §4): fewer would make guessing from our proof easy.
const ITERATIONS_MIN: u32 = 4096;
/// Most that are accepted, a bound of ours: a server does not choose how long we compute.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest salt; a bound of ours.
const SALT_MAX: usize = 1024;

pub(super) struct Exchange {
    mechanism: Mechanism,
    hash: Hash,
    header: String,
    /// Header and channel binding data.
    binding: Vec<u8>,
    bare: String,
    nonce: String,
    state: State,
}

enum State {
    Fresh,
    Sent,
    /// The proof was sent; this is what the server has to answer.
    Proved {
        server_signature: Vec<u8>,
    },
    Done,
    Failed,
}

impl Exchange {
    pub(super) fn new(
        mechanism: Mechanism,
        bindings: &ChannelBindings,
        plus_offered: bool,
        username: &str,
    ) -> Result<Self, ClientError> {
        Self::with_nonce(mechanism, bindings, plus_offered, username, nonce())
    }

    fn with_nonce(
        mechanism: Mechanism,
        bindings: &ChannelBindings,
        plus_offered: bool,
        username: &str,
        nonce: String,
    ) -> Result<Self, ClientError> {
        let (header, data) = match (mechanism.is_bound(), bindings.best()) {
            (true, Some((name, data))) => (format!("p={name},,"), data),
            (true, None) => return Err(ClientError::NoChannelBinding(mechanism)),
            // RFC 5802 §6.
            (false, Some(_)) if !plus_offered => ("y,,".to_owned(), &[][..]),
            (false, _) => ("n,,".to_owned(), &[][..]),
        };
        Ok(Self {
            mechanism,
            hash: match mechanism {
                Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => Hash::Sha1,
                _ => Hash::Sha256,
            },
            binding: [header.as_bytes(), data].concat(),
            header,
            bare: format!("n={},r={nonce}", escape(username)),
            nonce,
            state: State::Fresh,
        })
    }

    pub(super) fn step(&mut self, challenge: &[u8], password: &str) -> Result<Vec<u8>, ClientError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Fresh if challenge.is_empty() => {
                self.state = State::Sent;
                Ok(format!("{}{}", self.header, self.bare).into_bytes())
            }
            State::Sent => self.prove(challenge, password),
            // Protocols that can't send data with success send it as a challenge, to be answered by nothing.
            State::Proved { server_signature } => {
                self.verify(challenge, &server_signature)?;
                self.state = State::Done;
                Ok(Vec::new())
            }
            _ => Err(self.malformed("it is out of turn")),
        }
    }

    pub(super) fn finish(&mut self, data: Option<&[u8]>) -> Result<(), ClientError> {
        match (std::mem::replace(&mut self.state, State::Failed), data) {
            (State::Done, _) => self.state = State::Done,
            (State::Proved { server_signature }, Some(data)) => {
                self.verify(data, &server_signature)?;
                self.state = State::Done;
            }
            _ => return Err(ClientError::ServerUnproven),
        }
        Ok(())
    }

    fn malformed(&self, why: &'static str) -> ClientError {
        ClientError::Malformed {
            mechanism: self.mechanism,
            why,
        }
    }

    fn prove(&mut self, challenge: &[u8], password: &str) -> Result<Vec<u8>, ClientError> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| self.malformed("it is not UTF-8"))?;
        if let Some(error) = challenge.strip_prefix("e=") {
            return Err(ClientError::Refused(error.to_owned()));
        }
        let mut attributes = challenge.split(',');
        let nonce = attribute(&mut attributes, "r")
            // RFC 5802 §5.1: ours, and more.
            .filter(|r| is_nonce(r) && r.starts_with(&self.nonce) && r.len() > self.nonce.len())
            .ok_or_else(|| self.malformed("its nonce is not an extension of ours"))?;
        let salt = attribute(&mut attributes, "s")
            .and_then(decode)
            .filter(|s| !s.is_empty() && s.len() <= SALT_MAX)
            .ok_or_else(|| self.malformed("it has no usable salt"))?;
        let iterations = attribute(&mut attributes, "i")
            .and_then(|i| i.parse::<u32>().ok())
            .filter(|i| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(i))
            .ok_or_else(|| self.malformed("its number of iterations is not within bounds"))?;
        let without_proof = format!("c={},r={nonce}", encode(&self.binding));
        let auth_message = format!("{},{challenge},{without_proof}", self.bare);
        let salted = self.hash.pbkdf2(password.as_bytes(), &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let client_signature = self.hash.hmac(&self.hash.digest(&client_key), auth_message.as_bytes());
        let proof = encode(&xor(&client_key, &client_signature));
        let server_key = self.hash.hmac(&salted, b"Server Key");
        self.state = State::Proved {
            server_signature: self.hash.hmac(&server_key, auth_message.as_bytes()),
        };
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    fn verify(&self, data: &[u8], server_signature: &[u8]) -> Result<(), ClientError> {
        let text = std::str::from_utf8(data).map_err(|_| self.malformed("it is not UTF-8"))?;
        let mut attributes = text.split(',');
        if let Some(error) = text.strip_prefix("e=") {
            return Err(ClientError::Refused(error.to_owned()));
        }
        let given = attribute(&mut attributes, "v")
            .and_then(decode)
            .ok_or(ClientError::ServerUnproven)?;
        if equal(&given, server_signature) {
            Ok(())
        } else {
            Err(ClientError::ServerUnproven)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc_7677() -> Exchange {
        let none = ChannelBindings::default();
        Exchange::with_nonce(
            Mechanism::ScramSha256,
            &none,
            false,
            "user",
            "rOprNGfwEbeRWgbNEkqO".into(),
        )
        .unwrap()
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn example_of_rfc_7677() {
        for final_as_challenge in [true, false] {
            let mut client = rfc_7677();
            assert_eq!(client.step(b"", "pencil").unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
            let proof = client.step(SERVER_FIRST.as_bytes(), "pencil").unwrap();
            assert_eq!(
                String::from_utf8(proof).unwrap(),
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            );
            if final_as_challenge {
                assert_eq!(client.step(SERVER_FINAL, "pencil").unwrap(), b"");
                assert_eq!(client.finish(None), Ok(()));
            } else {
                assert_eq!(client.finish(Some(SERVER_FINAL)), Ok(()));
            }
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        let proved = || {
            let mut client = rfc_7677();
            client.step(b"", "pencil").unwrap();
            client.step(SERVER_FIRST.as_bytes(), "pencil").unwrap();
            client
        };
        assert_eq!(proved().finish(None), Err(ClientError::ServerUnproven));
        assert_eq!(proved().finish(Some(b"v=AAAA")), Err(ClientError::ServerUnproven));
        assert_eq!(
            proved().finish(Some(b"e=invalid-proof")),
            Err(ClientError::Refused("invalid-proof".into()))
        );
        assert_eq!(rfc_7677().finish(Some(SERVER_FINAL)), Err(ClientError::ServerUnproven));
    }

    #[test]
    fn weak_or_foreign_challenges_are_not_answered() {
        for bad in [
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            "",
        ] {
            let mut client = rfc_7677();
            client.step(b"", "pencil").unwrap();
            assert!(client.step(bad.as_bytes(), "pencil").is_err(), "{bad}");
        }
    }
}
