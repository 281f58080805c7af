//! SASL (RFC 4422): both sides of the mechanisms that mail uses, and the credentials that a server keeps for them.
//!
//! Nothing here does I/O, and nothing here knows how a protocol frames an exchange: base64, `334` and `+ ` are the
//! caller's. A server holds a [`ServerExchange`] and feeds it what the client sends; in the middle it asks for the
//! credentials of a name ([`Step::Lookup`]) and goes on with what [`ServerExchange::supply`] was given. A client holds
//! a [`Client`].
//!
//! | mechanism | source | the server keeps |
//! | --- | --- | --- |
//! | PLAIN, LOGIN | RFC 4616, draft-murchison-sasl-login | argon2id (RFC 9106) |
//! | CRAM-MD5 | RFC 2195 | two MD5 states, from which the password can't be read but an exchange can be made |
//! | SCRAM-SHA-1, SCRAM-SHA-256, and their -PLUS | RFC 5802, RFC 7677 | salt, iterations, StoredKey, ServerKey |
//! | EXTERNAL | RFC 4422 Appendix A | nothing: the caller names the identity |
//!
//! Names that do not exist take the same steps and the same time as those that do: see [`Credentials::dummy`].

mod client;
mod credentials;
mod md5;
mod mechanism;
mod prepare;
mod scram;
mod server;

pub use client::{Client, ClientError};
pub use credentials::{CramMd5State, Credentials, DeriveError, ScramKeys};
pub use mechanism::{ChannelBindings, Mechanism, UnknownMechanism};
pub use prepare::{PrepareError, prepare_password, prepare_username};
pub use server::{Failure, MESSAGE_MAX, ServerExchange, ServerSettings, Step};
