//! The client's side of an exchange: logging in to a relay.

mod scram;

use zeroize::Zeroizing;

use crate::md5;
use crate::mechanism::{ChannelBindings, Mechanism};
use crate::prepare::{PrepareError, prepare_password, prepare_username};

/// Longest message of a server that is looked at, in octets; a bound of ours.
const CHALLENGE_MAX: usize = 8 * 1024;

/// Why a client gives up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The name that the settings have is none.
    #[error("username is not valid: {0}")]
    Username(PrepareError),
    /// The password that the settings have is none.
    #[error("password is not valid: {0}")]
    Password(PrepareError),
    /// A -PLUS mechanism without TLS, or with a TLS that gives no binding.
    #[error("{0} needs a TLS connection with channel bindings")]
    NoChannelBinding(Mechanism),
    /// The server's message does not follow the mechanism.
    #[error("server's {mechanism} message is not valid: {why}")]
    Malformed {
        /// The mechanism of the exchange.
        mechanism: Mechanism,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server refused within the exchange.
    #[error("server refused: {0}")]
    Refused(String),
    /// The server did not prove that it knows the password: it is not the one that the settings mean.
    #[error("server did not prove that it knows the password")]
    ServerUnproven,
}

/// One exchange.
pub struct Client {
    mechanism: Mechanism,
    username: String,
    password: Zeroizing<String>,
    state: State,
}

enum State {
    /// PLAIN, EXTERNAL: one message. LOGIN, CRAM-MD5: by what was asked.
    Simple {
        answered: u8,
    },
    Scram(Box<scram::Exchange>),
}

impl Client {
    /// An exchange of the first of `preferred` that the server offers and that can be used here, or none.
    /// `offered` are the server's names, in any case.
    ///
    /// # Errors
    /// If name or password are none.
    pub fn choose<'a>(
        preferred: &[Mechanism],
        offered: impl IntoIterator<Item = &'a str>,
        bindings: &ChannelBindings,
        username: &str,
        password: &str,
    ) -> Result<Option<Self>, ClientError> {
        let offered: Vec<Mechanism> = offered.into_iter().filter_map(|name| name.parse().ok()).collect();
        let usable = |m: &&Mechanism| offered.contains(m) && !(m.is_bound() && bindings.is_empty());
        let Some(mechanism) = preferred.iter().find(usable) else {
            return Ok(None);
        };
        let plus_offered = offered.iter().any(|m| m.is_bound());
        Self::new(*mechanism, bindings, plus_offered, username, password).map(Some)
    }

    /// An exchange of this mechanism. `plus_offered` is whether the server's list has a -PLUS one: if not, and there
    /// are bindings, the server is told so, and can see whether somebody took it out (RFC 5802 §6).
    ///
    /// # Errors
    /// If name or password are none, or bindings are needed and missing.
    pub fn new(
        mechanism: Mechanism,
        bindings: &ChannelBindings,
        plus_offered: bool,
        username: &str,
        password: &str,
    ) -> Result<Self, ClientError> {
        let username = prepare_username(username).map_err(ClientError::Username)?;
        let password = match mechanism {
            Mechanism::External => Zeroizing::default(),
            _ => prepare_password(password).map_err(ClientError::Password)?,
        };
        let state = match mechanism {
            Mechanism::ScramSha1 | Mechanism::ScramSha1Plus | Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                State::Scram(Box::new(scram::Exchange::new(
                    mechanism,
                    bindings,
                    plus_offered,
                    &username,
                )?))
            }
            _ => State::Simple { answered: 0 },
        };
        Ok(Self {
            mechanism,
            username,
            password,
            state,
        })
    }

    /// The mechanism, to be named to the server.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, if the mechanism begins with one.
    #[must_use]
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match (self.mechanism, &mut self.state) {
            (Mechanism::Login | Mechanism::CramMd5, _) => None,
            _ => self.step(b"").ok(),
        }
    }

    /// The answer to the server's challenge. A challenge that is empty before anything was answered asks for the
    /// initial response.
    ///
    /// # Errors
    /// If the server doesn't follow the mechanism, or can't be who it should be.
    pub fn step(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ClientError> {
        let malformed = |why| ClientError::Malformed {
            mechanism: self.mechanism,
            why,
        };
        if challenge.len() > CHALLENGE_MAX {
            return Err(malformed("it is too long"));
        }
        match &mut self.state {
            State::Scram(exchange) => exchange.step(challenge, &self.password),
            State::Simple { answered } => {
                *answered += 1;
                match (self.mechanism, *answered) {
                    (Mechanism::Plain, 1) => Ok(format!("\0{}\0{}", self.username, *self.password).into_bytes()),
                    (Mechanism::External, 1) => Ok(Vec::new()),
                    // The texts of the prompts differ between servers; their order doesn't.
                    (Mechanism::Login, 1) => Ok(self.username.clone().into_bytes()),
                    (Mechanism::Login, 2) => Ok(self.password.as_bytes().to_vec()),
                    (Mechanism::CramMd5, 1) => {
                        let (inner, outer) = md5::hmac_states(self.password.as_bytes());
                        let digest = md5::hex(&md5::hmac(&inner, &outer, challenge));
                        Ok(format!("{} {digest}", self.username).into_bytes())
                    }
                    _ => Err(malformed("it is one too many")),
                }
            }
        }
    }

    /// The server said success, with this additional data. Must be called: only here SCRAM learns whether the server
    /// knows the password.
    ///
    /// # Errors
    /// If the server has not proved it.
    pub fn finish(&mut self, data: Option<&[u8]>) -> Result<(), ClientError> {
        match &mut self.state {
            State::Scram(exchange) => exchange.finish(data),
            State::Simple { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_one_is_chosen() {
        let bound = ChannelBindings {
            tls_exporter: Some(vec![1]),
            tls_server_end_point: None,
        };
        let choose = |preferred: &[Mechanism], offered: &str, bindings: &ChannelBindings| {
            let client = Client::choose(preferred, offered.split(' '), bindings, "u", "p").unwrap();
            client.map(|c| c.mechanism())
        };
        let default = &Mechanism::CLIENT_DEFAULT;
        let all = "LOGIN plain CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS XOAUTH2";
        assert_eq!(choose(default, all, &bound), Some(Mechanism::ScramSha256Plus));
        assert_eq!(
            choose(default, all, &ChannelBindings::default()),
            Some(Mechanism::ScramSha256)
        );
        assert_eq!(choose(default, "PLAIN LOGIN", &bound), None);
        assert_eq!(
            choose(&[Mechanism::Plain], "LOGIN PLAIN", &bound),
            Some(Mechanism::Plain)
        );
    }

    #[test]
    fn a_server_that_goes_on_asking_gets_nothing() {
        let mut client = Client::new(Mechanism::Login, &ChannelBindings::default(), false, "u", "p").unwrap();
        assert_eq!(client.initial(), None);
        assert_eq!(client.step(b"Username:").unwrap(), b"u");
        assert_eq!(client.step(b"Password:").unwrap(), b"p");
        assert!(client.step(b"Password:").is_err());
        let mut plain = Client::new(Mechanism::Plain, &ChannelBindings::default(), false, "u", "p").unwrap();
        assert_eq!(plain.initial().unwrap(), b"\0u\0p");
        assert!(plain.step(b"").is_err());
    }
}
