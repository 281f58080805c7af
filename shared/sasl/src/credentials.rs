//! What a server keeps of a password: nothing that it can be read from, and something for each mechanism.

use argon2::password_hash::{Output, ParamsString, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use rand::RngCore;

use crate::md5;
use crate::prepare::{PrepareError, prepare_password};
use crate::scram::Hash;

/// Iterations of new SCRAM keys. RFC 7677 §4 asks for 4096 or more; each costs the client the same.
const SCRAM_ITERATIONS: u32 = 10_000;
/// Octets of salt.
const SALT: usize = 16;

/// The verifiers of one password, for all mechanisms. Everything in it is secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A PHC string, for PLAIN and LOGIN.
    pub argon2id: String,
    /// For SCRAM-SHA-1.
    pub scram_sha_1: Option<ScramKeys>,
    /// For SCRAM-SHA-256.
    pub scram_sha_256: Option<ScramKeys>,
    /// For CRAM-MD5.
    pub cram_md5: Option<CramMd5State>,
}

/// RFC 5802 §3.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Sent to whoever asks for the name.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// `H(ClientKey)`.
    pub stored_key: Vec<u8>,
    /// What the server shows that it has.
    pub server_key: Vec<u8>,
}

/// MD5 states after HMAC's two padded key blocks: 16 octets each, words least significant octet first.
#[derive(Clone, PartialEq, Eq)]
pub struct CramMd5State {
    /// After the block of key and ipad.
    pub inner: [u8; 16],
    /// After the block of key and opad.
    pub outer: [u8; 16],
}

/// Why there are no credentials of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The password is not one.
    #[error("password is not valid: {0}")]
    Password(#[from] PrepareError),
    /// argon2 failed, which it does for lack of memory.
    #[error("hashing a password: {0}")]
    Hash(String),
}

impl Credentials {
    /// New ones, with new salts. Takes tens of milliseconds and 19 MiB: not on a runtime's thread.
    ///
    /// # Errors
    /// If PRECIS doesn't allow the password, or there is no memory.
    pub fn derive(password: &str) -> Result<Self, DeriveError> {
        let password = prepare_password(password)?;
        let argon2_salt = SaltString::encode_b64(&salt()).map_err(|e| DeriveError::Hash(e.to_string()))?;
        let argon2id = Argon2::default()
            .hash_password(password.as_bytes(), &argon2_salt)
            .map_err(|e| DeriveError::Hash(e.to_string()))?
            .to_string();
        let (inner, outer) = md5::hmac_states(password.as_bytes());
        Ok(Self {
            argon2id,
            scram_sha_1: Some(ScramKeys::derive(Hash::Sha1, password.as_bytes())),
            scram_sha_256: Some(ScramKeys::derive(Hash::Sha256, password.as_bytes())),
            cram_md5: Some(CramMd5State { inner, outer }),
        })
    }

    /// Credentials of a name that doesn't exist: the same for each asking, no password fits them, and checking one
    /// takes as long as for a name that does exist. `secret` is the server's own, and kept through restarts, or else
    /// salts would tell who exists.
    #[must_use]
    pub fn dummy(secret: &[u8], name: &str) -> Self {
        // Case is folded, since a real account keeps its salt whatever the case its name is given in.
        let name = name.to_lowercase();
        let bytes = |purpose: &str| Hash::Sha256.hmac(secret, format!("{purpose}\0{name}").as_bytes());
        let scram = |hash: Hash, purpose: &str| ScramKeys {
            salt: bytes(&format!("{purpose} salt"))[..SALT].to_vec(),
            iterations: SCRAM_ITERATIONS,
            stored_key: bytes(&format!("{purpose} stored"))[..hash.len()].to_vec(),
            server_key: bytes(&format!("{purpose} server"))[..hash.len()].to_vec(),
        };
        let state = |purpose: &str| {
            let mut out = [0; 16];
            out.copy_from_slice(&bytes(purpose)[..16]);
            out
        };
        Self {
            argon2id: dummy_argon2id(&bytes("argon2 salt")[..SALT], &bytes("argon2 hash")),
            scram_sha_1: Some(scram(Hash::Sha1, "sha1")),
            scram_sha_256: Some(scram(Hash::Sha256, "sha256")),
            cram_md5: Some(CramMd5State {
                inner: state("inner"),
                outer: state("outer"),
            }),
        }
    }

    /// Whether `password` (prepared already) is the one. Takes as long as [`Credentials::derive`].
    pub(crate) fn verify_prepared(&self, password: &str) -> bool {
        let Ok(hash) = PasswordHash::new(&self.argon2id) else {
            return false;
        };
        // The parameters are those in the PHC string, so older hashes stay valid when the defaults change.
        let verifier = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
        verifier.verify_password(password.as_bytes(), &hash).is_ok()
    }

    /// Whether `password` is the one, for callers without an exchange (HTTP Basic authentication).
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        match prepare_password(password) {
            Ok(password) => self.verify_prepared(&password),
            Err(_) => {
                self.verify_prepared("");
                false
            }
        }
    }
}

fn salt() -> [u8; SALT] {
    let mut salt = [0; SALT];
    rand::rng().fill_bytes(&mut salt);
    salt
}

fn dummy_argon2id(salt: &[u8], output: &[u8]) -> String {
    let build = || -> argon2::password_hash::Result<String> {
        let salt = SaltString::encode_b64(salt)?;
        Ok(PasswordHash {
            algorithm: argon2::ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&Params::default())?,
            salt: Some(salt.as_salt()),
            hash: Some(Output::new(output)?),
        }
        .to_string())
    };
    build().unwrap_or_default()
}

impl ScramKeys {
    fn derive(hash: Hash, password: &[u8]) -> Self {
        Self::with_salt(hash, password, salt().to_vec(), SCRAM_ITERATIONS)
    }

    pub(crate) fn with_salt(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.pbkdf2(password, &salt, iterations);
        let stored_key = hash.digest(&hash.hmac(&salted, b"Client Key"));
        let server_key = hash.hmac(&salted, b"Server Key");
        Self {
            salt,
            iterations,
            stored_key,
            server_key,
        }
    }
}

macro_rules! secret {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}
secret!(Credentials, ScramKeys, CramMd5State);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_verifies_in_every_composition() {
        let credentials = Credentials::derive("caf\u{e9} moxmox").unwrap();
        assert!(
            credentials.argon2id.starts_with("$argon2id$v=19$m="),
            "{}",
            credentials.argon2id
        );
        assert!(credentials.verify("cafe\u{301} moxmox"));
        assert!(!credentials.verify("cafe moxmox"));
        assert!(!credentials.verify(""));
        assert!(Credentials::derive("").is_err());
        assert_eq!(format!("{credentials:?}"), "Credentials(secret)");
    }

    #[test]
    fn dummies_are_steady_and_look_real() {
        let real = Credentials::derive("x").unwrap();
        let a = Credentials::dummy(b"secret", "a@example.org");
        assert_eq!(a, Credentials::dummy(b"secret", "A@example.org"));
        assert_ne!(a, Credentials::dummy(b"secret", "b@example.org"));
        assert_ne!(a, Credentials::dummy(b"other", "a@example.org"));
        assert_eq!(
            a.argon2id.len(),
            real.argon2id.len(),
            "{} {}",
            a.argon2id,
            real.argon2id
        );
        let parts = |c: &Credentials| {
            let p = PasswordHash::new(&c.argon2id).map(|h| h.params.to_string());
            let k = |k: &Option<ScramKeys>| k.as_ref().map(|k| (k.salt.len(), k.iterations, k.stored_key.len()));
            (p, k(&c.scram_sha_1), k(&c.scram_sha_256))
        };
        assert_eq!(parts(&a), parts(&real));
        assert!(!a.verify("x"));
    }
}
