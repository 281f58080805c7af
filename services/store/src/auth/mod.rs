//! Who may be whom.
//!
//! An exchange of SASL runs here, step by step, so verifiers never leave the store. Its success is a session: an opaque
//! token that stands for the account, for calls of the service that asked. Sessions are answered from memory
//! ([`Sessions`]), since a store on RocksDB is one process, and written behind ([`Journal`]), so that clients stay logged
//! in when it restarts. With several replicas, they will be looked up: nothing but [`Sessions`] knows where they are.
//!
//! A client can also be known by the public key of its TLS certificate (`external`). That it has the private key is what
//! the service says that its TLS saw: for that, and for the address of the client, `imap`, `submission` and `web` are
//! trusted. Whose key it is, is decided here. Every login is recorded with its result (`logins`).
//!
//! What a guesser is met with: argon2id for every guess, the same work for names that do not exist, few guesses a
//! minute from one network ([`Failures`]), and a bound on how many are hashed at once ([`Hasher`]). A client that logs
//! in again and again does not pay for that each time ([`Recent`]).

mod admin;
mod authenticator;
mod exchange;
mod external;
mod hasher;
mod journal;
mod limits;
mod logins;
mod public_keys;
mod recent;
mod sessions;

#[cfg(test)]
mod external_tests;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_sasl::{CramMd5State, Credentials, ScramKeys};

pub use admin::AuthAdminApi;
pub(crate) use authenticator::secret;
pub use authenticator::{AuthApi, Authenticator, Limits};
pub use hasher::Hasher;
pub use journal::Journal;
pub use limits::{Failures, Tiers};
pub use logins::Logins;
pub(crate) use public_keys::of_account as public_keys_of_account;
pub use recent::Recent;
pub use sessions::{Basis, SESSION_LIFE, SessionInfo, Sessions};

/// As credentials are kept.
#[must_use]
pub fn credentials_record(credentials: &Credentials) -> record::Credentials {
    let scram = |keys: &Option<ScramKeys>| {
        keys.as_ref().map(|keys| record::credentials::Scram {
            salt: Bytes::copy_from_slice(&keys.salt),
            iterations: keys.iterations,
            stored_key: Bytes::copy_from_slice(&keys.stored_key),
            server_key: Bytes::copy_from_slice(&keys.server_key),
        })
    };
    let state = |part: fn(&CramMd5State) -> &[u8; 16]| {
        credentials
            .cram_md5
            .as_ref()
            .map_or_else(Bytes::new, |state| Bytes::copy_from_slice(part(state)))
    };
    record::Credentials {
        argon2id: credentials.argon2id.clone(),
        scram_sha_1: scram(&credentials.scram_sha_1),
        scram_sha_256: scram(&credentials.scram_sha_256),
        cram_md5_inner: state(|s| &s.inner),
        cram_md5_outer: state(|s| &s.outer),
    }
}

/// From how credentials are kept. What is missing or damaged cannot be logged in with.
#[must_use]
pub fn credentials(record: &record::Credentials) -> Credentials {
    let scram = |keys: &Option<record::credentials::Scram>| {
        keys.as_ref().map(|keys| ScramKeys {
            salt: keys.salt.to_vec(),
            iterations: keys.iterations,
            stored_key: keys.stored_key.to_vec(),
            server_key: keys.server_key.to_vec(),
        })
    };
    let state = |bytes: &Bytes| <[u8; 16]>::try_from(bytes.as_ref()).ok();
    let cram_md5 = state(&record.cram_md5_inner).zip(state(&record.cram_md5_outer));
    Credentials {
        argon2id: record.argon2id.clone(),
        scram_sha_1: scram(&record.scram_sha_1),
        scram_sha_256: scram(&record.scram_sha_256),
        cram_md5: cram_md5.map(|(inner, outer)| CramMd5State { inner, outer }),
    }
}
