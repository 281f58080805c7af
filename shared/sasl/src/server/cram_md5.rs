//! CRAM-MD5 (RFC 2195).

use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng;

use super::{Failure, text, username};
use crate::credentials::CramMd5State;
use crate::md5;
use crate::scram::equal;

/// What the client is to make a digest of.
#[derive(Clone)]
pub(super) struct Challenge {
    pub(super) text: String,
}

/// What it answered.
pub(super) struct Response {
    pub(super) authcid: String,
    digest: String,
    challenge: String,
}

impl Challenge {
    /// `<random.seconds@host>`: never the same twice.
    pub(super) fn new(local_name: &str) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let random: u128 = rand::rng().random();
        Self {
            text: format!("<{random:032x}.{seconds}@{local_name}>"),
        }
    }

    pub(super) fn response(self, message: &[u8]) -> Result<Response, Failure> {
        // Names may have spaces, digests have none.
        let (name, digest) = text(message)?.rsplit_once(' ').ok_or(Failure::Malformed)?;
        if digest.len() != 32 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::Malformed);
        }
        // RFC 2195 has lower case; some clients print upper.
        Ok(Response {
            authcid: username(name)?,
            digest: digest.to_ascii_lowercase(),
            challenge: self.text,
        })
    }
}

impl Response {
    pub(super) fn verify(&self, state: &CramMd5State) -> bool {
        let expected = md5::hex(&md5::hmac(&state.inner, &state.outer, self.challenge.as_bytes()));
        equal(expected.as_bytes(), self.digest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_2195_section_2() {
        let challenge = Challenge {
            text: "<1896.697170952@postoffice.reston.mci.net>".into(),
        };
        let response = challenge.response(b"tim b913a602c7eda7a495b4e6e7334d3890").unwrap();
        assert_eq!(response.authcid, "tim");
        let (inner, outer) = md5::hmac_states(b"tanstaaftanstaaf");
        assert!(response.verify(&CramMd5State { inner, outer }));
        let (inner, outer) = md5::hmac_states(b"tanstaaftanstaag");
        assert!(!response.verify(&CramMd5State { inner, outer }));
    }
}
