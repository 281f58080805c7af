//! The server's side of an exchange.

mod cram_md5;
mod scram;

use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::mechanism::{ChannelBindings, Mechanism};
use crate::prepare::{PASSWORD_MAX, USERNAME_MAX, prepare_password, prepare_username};

/// Longest message of a client that is looked at, in octets, before base64: name, name and password of PLAIN, and more
/// than any other mechanism needs.
pub const MESSAGE_MAX: usize = 2 * USERNAME_MAX + PASSWORD_MAX + 1024;

/// What an exchange needs to know of its surroundings.
#[derive(Debug, Clone, Default)]
pub struct ServerSettings {
    /// Of the client's TLS connection. Must be empty if the mechanisms offered to it had no -PLUS: a client that knows
    /// channel binding and saw no -PLUS is refused when there are some, since then somebody took it out of the list
    /// (RFC 5802 §6).
    pub channel_bindings: ChannelBindings,
    /// Host name, in CRAM-MD5's challenge.
    pub local_name: String,
    /// Login name that the client's TLS certificate stands for: without one, EXTERNAL fails.
    pub external: Option<String>,
}

/// What the server is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this to the client, and call [`ServerExchange::step`] with its answer.
    Challenge(Vec<u8>),
    /// Find the credentials of `authcid`, and call [`ServerExchange::supply`] with them, or with none.
    Lookup {
        /// The name that the client gave, prepared.
        authcid: String,
    },
    /// The client is who it says it is.
    Success {
        /// The name that was looked up.
        authcid: String,
        /// Additional data with success (RFC 4422 §4): SCRAM's proof of the server. Empty if there is none. Protocols
        /// that can't carry it with the success itself send it as a challenge, and expect an empty response.
        data: Vec<u8>,
    },
    /// It is not. The exchange is over.
    Failure(Failure),
}

/// Why an exchange failed. What is told to the client should not say more than these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Name or password are wrong: never which.
    #[error("name or password is wrong")]
    Credentials,
    /// The client's message does not follow its mechanism.
    #[error("message is malformed")]
    Malformed,
    /// The authorization identity is not the one authenticated.
    #[error("acting for another is not supported")]
    Authorization,
    /// The connection is not the one that the client means, or channel binding was hidden from it.
    #[error("channel binding does not fit")]
    ChannelBinding,
    /// It was called out of turn.
    #[error("exchange is over")]
    Over,
}

/// One exchange. The order is `start`, then `step` after each challenge and `supply` after the look-up.
pub struct ServerExchange {
    mechanism: Mechanism,
    settings: ServerSettings,
    state: State,
}

enum State {
    Fresh,
    /// PLAIN or EXTERNAL had no initial response, and got an empty challenge; so did SCRAM.
    Initial,
    LoginName,
    LoginPassword(String),
    Password {
        authcid: String,
        password: Zeroizing<String>,
    },
    CramMd5(cram_md5::Challenge),
    CramMd5Digest(cram_md5::Response),
    ScramLookup(Box<scram::First>),
    ScramProof(Box<scram::Final>),
    External(String),
    Over,
}

impl ServerExchange {
    /// An exchange of this mechanism, not begun.
    #[must_use]
    pub fn new(mechanism: Mechanism, settings: ServerSettings) -> Self {
        Self {
            mechanism,
            settings,
            state: State::Fresh,
        }
    }

    /// The mechanism it was made for.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Begins, with the client's initial response if it sent one; an empty one is `Some(b"")`.
    pub fn start(&mut self, initial: Option<&[u8]>) -> Step {
        if !matches!(self.state, State::Fresh) {
            return self.fail(Failure::Over);
        }
        match (self.mechanism, initial) {
            // RFC 4422 §5: the server sends the first message.
            (Mechanism::CramMd5, Some(_)) => self.fail(Failure::Malformed),
            (Mechanism::CramMd5, None) => {
                let challenge = cram_md5::Challenge::new(&self.settings.local_name);
                self.challenge(State::CramMd5(challenge.clone()), challenge.text.into_bytes())
            }
            (Mechanism::Login, None) => self.challenge(State::LoginName, b"Username:".to_vec()),
            (Mechanism::Login, Some(name)) => {
                self.state = State::LoginName;
                self.step(name)
            }
            (_, None) => self.challenge(State::Initial, Vec::new()),
            (_, Some(message)) => {
                self.state = State::Initial;
                self.step(message)
            }
        }
    }

    /// Goes on with the client's answer to the last challenge.
    pub fn step(&mut self, message: &[u8]) -> Step {
        if message.len() > MESSAGE_MAX {
            return self.fail(Failure::Malformed);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Initial => match self.mechanism {
                Mechanism::Plain => self.plain(message),
                Mechanism::External => self.external(message),
                Mechanism::ScramSha1
                | Mechanism::ScramSha1Plus
                | Mechanism::ScramSha256
                | Mechanism::ScramSha256Plus => {
                    match scram::First::parse(self.mechanism, &self.settings.channel_bindings, message) {
                        Ok(first) => self.lookup(first.authcid.clone(), |_| State::ScramLookup(Box::new(first))),
                        Err(failure) => Step::Failure(failure),
                    }
                }
                Mechanism::Login | Mechanism::CramMd5 => Step::Failure(Failure::Over),
            },
            State::LoginName => match text(message).and_then(username) {
                Ok(name) => self.challenge(State::LoginPassword(name), b"Password:".to_vec()),
                Err(failure) => Step::Failure(failure),
            },
            State::LoginPassword(authcid) => match text(message) {
                Ok(password) => self.password(authcid, password),
                Err(failure) => Step::Failure(failure),
            },
            State::CramMd5(challenge) => match challenge.response(message) {
                Ok(response) => self.lookup(response.authcid.clone(), |_| State::CramMd5Digest(response)),
                Err(failure) => Step::Failure(failure),
            },
            State::ScramProof(last) => match last.verify(message) {
                Ok((authcid, data)) => Step::Success { authcid, data },
                Err(failure) => Step::Failure(failure),
            },
            _ => Step::Failure(Failure::Over),
        }
    }

    /// Goes on with the credentials that [`Step::Lookup`] asked for, or none if there is no such name. `secret` is the
    /// server's own, see [`Credentials::dummy`].
    ///
    /// For PLAIN and LOGIN this takes tens of milliseconds of processor time and 19 MiB: not on a runtime's thread.
    pub fn supply(&mut self, credentials: Option<&Credentials>, secret: &[u8]) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        let authcid = match &state {
            State::Password { authcid, .. } | State::External(authcid) => authcid,
            State::CramMd5Digest(response) => &response.authcid,
            State::ScramLookup(first) => &first.authcid,
            _ => return Step::Failure(Failure::Over),
        };
        let dummy = Credentials::dummy(secret, authcid);
        let known = credentials.is_some();
        let verifiers = credentials.unwrap_or(&dummy);
        let passed = match state {
            State::Password { authcid, password } => verifiers.verify_prepared(&password).then_some(authcid),
            State::CramMd5Digest(response) => {
                // A name without a state for it (or SCRAM keys, below) is treated as one that doesn't exist.
                let own = verifiers.cram_md5.as_ref();
                let passed = own
                    .or(dummy.cram_md5.as_ref())
                    .is_some_and(|state| response.verify(state));
                (passed && own.is_some()).then_some(response.authcid)
            }
            State::ScramLookup(first) => {
                let keys = |c: &Credentials| first.keys(c);
                let own = keys(verifiers);
                let real = known && own.is_some();
                let Some(keys) = own.or_else(|| keys(&dummy)) else {
                    return Step::Failure(Failure::Credentials);
                };
                let (challenge, last) = first.challenge(keys, real);
                return self.challenge(State::ScramProof(Box::new(last)), challenge.into_bytes());
            }
            State::External(authcid) => Some(authcid),
            _ => None,
        };
        match passed {
            Some(authcid) if known => Step::Success {
                authcid,
                data: Vec::new(),
            },
            _ => Step::Failure(Failure::Credentials),
        }
    }

    /// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`.
    fn plain(&mut self, message: &[u8]) -> Step {
        let parsed = text(message).and_then(|message| {
            let mut parts = message.split('\0');
            let (Some(authzid), Some(authcid), Some(password), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(Failure::Malformed);
            };
            let authcid = username(authcid)?;
            authorized(authzid, &authcid)?;
            Ok((authcid, password))
        });
        match parsed {
            Ok((authcid, password)) => self.password(authcid, password),
            Err(failure) => self.fail(failure),
        }
    }

    fn password(&mut self, authcid: String, password: &str) -> Step {
        match prepare_password(password) {
            Ok(password) => self.lookup(authcid, |authcid| State::Password {
                authcid: authcid.to_owned(),
                password,
            }),
            // Nobody has such a password: setting it was refused too.
            Err(_) => self.fail(Failure::Credentials),
        }
    }

    fn external(&mut self, message: &[u8]) -> Step {
        let Some(identity) = self.settings.external.clone() else {
            return self.fail(Failure::Credentials);
        };
        let parsed = text(message).and_then(|authzid| {
            let authcid = username(&identity)?;
            authorized(authzid, &authcid)?;
            Ok(authcid)
        });
        match parsed {
            Ok(authcid) => self.lookup(authcid, |authcid| State::External(authcid.to_owned())),
            Err(failure) => self.fail(failure),
        }
    }

    fn lookup(&mut self, authcid: String, state: impl FnOnce(&str) -> State) -> Step {
        self.state = state(&authcid);
        Step::Lookup { authcid }
    }

    fn challenge(&mut self, state: State, data: Vec<u8>) -> Step {
        self.state = state;
        Step::Challenge(data)
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failure(failure)
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(message).map_err(|_| Failure::Malformed)
}

fn username(name: &str) -> Result<String, Failure> {
    prepare_username(name).map_err(|_| Failure::Malformed)
}

/// There is no acting for others: the authorization identity is absent, or the same.
fn authorized(authzid: &str, authcid: &str) -> Result<(), Failure> {
    if authzid.is_empty() || username(authzid)? == authcid {
        Ok(())
    } else {
        Err(Failure::Authorization)
    }
}

#[cfg(test)]
mod tests;
