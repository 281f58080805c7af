//! The sending side: one session with another server.
//!
//! A [`Client`] is made over any byte stream. It says EHLO (or HELO, to those that know no better), can go over to TLS
//! and log in, and then delivers message after message, with a reply for each recipient. Every wait has the limit that
//! RFC 5321 §4.5.3.2 names, and everything that the server sends is bounded.

mod deliver;
mod error;
mod extensions;
mod tls;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mox_sasl::{ChannelBindings, Mechanism};
use rustls_pki_types::ServerName;

pub use deliver::{Transaction, TransactionRecipient};
pub use error::ClientError;
pub use extensions::Extensions;
pub use tls::{TlsDetails, handshake};

use crate::reply::Reply;
use crate::stream::Stream;
use wire::Wire;

/// How long to wait for what (RFC 5321 §4.5.3.2).
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the greeting, and the answers to EHLO, MAIL, RCPT, AUTH and others.
    pub command: Duration,
    /// For the answer to DATA.
    pub data_start: Duration,
    /// For the server to take each piece of the message.
    pub data_block: Duration,
    /// For the answer to the end of the message.
    pub data_end: Duration,
    /// For a TLS handshake; a bound of ours.
    pub handshake: Duration,
    /// For the answer to QUIT, which nobody needs; a bound of ours.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(5 * 60),
            data_start: Duration::from_secs(2 * 60),
            data_block: Duration::from_secs(3 * 60),
            data_end: Duration::from_secs(10 * 60),
            handshake: Duration::from_secs(60),
            quit: Duration::from_secs(5),
        }
    }
}

/// A session, after the server's greeting.
pub struct Client {
    wire: Wire,
    timeouts: Timeouts,
    hello: String,
    extensions: Extensions,
    tls: Option<TlsDetails>,
    remote_name: String,
    /// A transaction was begun, and not ended: RSET first.
    open: bool,
}

impl Client {
    /// Waits for the greeting, and says EHLO with `hello`, our host name (or HELO if EHLO is not known). `tls` is what
    /// the [`handshake`] gave if `stream` is TLS already.
    ///
    /// # Errors
    /// If the server refuses, fails, or is none.
    pub async fn connect(
        stream: Stream,
        tls: Option<TlsDetails>,
        hello: &str,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let mut wire = Wire::new(stream);
        let greeting = wire.reply("greeting", timeouts.command).await?;
        // RFC 5321 §3.1: 220, or 554 (or 421) from a host that doesn't take mail.
        if greeting.code != 220 {
            return Err(ClientError::Refused {
                during: "greeting",
                reply: greeting,
            });
        }
        let remote_name = greeting.text.split_whitespace().next().unwrap_or_default().to_owned();
        let extensions = Extensions::default();
        let mut client = Self {
            wire,
            timeouts,
            hello: hello.to_owned(),
            extensions,
            tls,
            remote_name,
            open: false,
        };
        client.hello().await?;
        Ok(client)
    }

    async fn hello(&mut self) -> Result<(), ClientError> {
        let hello = format!("EHLO {}", self.hello);
        let reply = self.command("EHLO", &hello).await?;
        if reply.is_success() {
            self.extensions = Extensions::parse(&reply);
            return Ok(());
        }
        // RFC 5321 §3.2: a server that doesn't know EHLO gets HELO.
        if !reply.is_permanent() {
            return Err(ClientError::Refused { during: "EHLO", reply });
        }
        let hello = format!("HELO {}", self.hello);
        let reply = self.command("HELO", &hello).await?;
        if !reply.is_success() {
            return Err(ClientError::Refused { during: "HELO", reply });
        }
        self.extensions = Extensions::default();
        Ok(())
    }

    /// What the server said that it can.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The TLS that is used, if any.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsDetails> {
        self.tls.as_ref()
    }

    /// How the server called itself in its greeting.
    #[must_use]
    pub fn remote_name(&self) -> &str {
        &self.remote_name
    }

    /// Whether another message can be sent: no error before has left the session in an unknown state.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.wire.is_broken()
    }

    /// Goes over to TLS, and says EHLO again, since what was said before it may be forged (RFC 3207 §4.2).
    ///
    /// # Errors
    /// If the server doesn't offer it, refuses, or the handshake fails. With [`ClientError::Tls`] the connection is of
    /// no more use; a new one without TLS may be.
    pub async fn starttls(
        mut self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, ClientError> {
        if !self.extensions.starttls {
            return Err(ClientError::Unsupported {
                what: "STARTTLS",
                code: (7, 0),
            });
        }
        let reply = self.command("STARTTLS", "STARTTLS").await?;
        if reply.code != 220 {
            return Err(ClientError::Refused {
                during: "STARTTLS",
                reply,
            });
        }
        // What a server (or somebody between) sent in advance would be taken for part of the protected session.
        let stream = self.wire.into_stream().map_err(|()| ClientError::Malformed {
            during: "STARTTLS",
            why: "data was sent before the TLS handshake".into(),
        })?;
        let (stream, details) = handshake(stream, config, name, self.timeouts.handshake).await?;
        self.wire = Wire::new(stream);
        self.tls = Some(details);
        self.hello().await?;
        Ok(self)
    }

    /// The connection, to go on otherwise. `None` if the server sent what nobody asked for.
    #[must_use]
    pub fn into_stream(self) -> Option<Stream> {
        self.wire.into_stream().ok()
    }

    /// Logs in, by the first of `preferred` that the server offers and that works on this connection.
    ///
    /// # Errors
    /// If there is none, or the server refuses.
    pub async fn authenticate(
        &mut self,
        preferred: &[Mechanism],
        username: &str,
        password: &str,
    ) -> Result<Mechanism, ClientError> {
        let bindings = self
            .tls
            .as_ref()
            .map_or_else(ChannelBindings::default, |t| t.channel_bindings.clone());
        let offered = self.extensions.auth.iter().map(String::as_str);
        let chosen = mox_sasl::Client::choose(preferred, offered, &bindings, username, password)?;
        let Some(mut exchange) = chosen else {
            return Err(ClientError::NoMechanism {
                offered: self.extensions.auth.join(" "),
            });
        };
        let mechanism = exchange.mechanism();
        let mut line = format!("AUTH {mechanism}");
        if let Some(initial) = exchange.initial() {
            line.push(' ');
            // RFC 4954 §4: an empty initial response is "=".
            line.push_str(&if initial.is_empty() {
                "=".to_owned()
            } else {
                STANDARD.encode(initial)
            });
        }
        self.wire
            .send_secret(&format!("AUTH {mechanism} ***"), &line, self.timeouts.command)
            .await?;
        loop {
            let reply = self.wire.reply("AUTH", self.timeouts.command).await?;
            match reply.code {
                235 => {
                    exchange.finish(None).inspect_err(|_| self.wire.set_broken())?;
                    return Ok(mechanism);
                }
                334 => {
                    let challenge = STANDARD.decode(reply.text.trim()).map_err(|_| ClientError::Malformed {
                        during: "AUTH",
                        why: "the challenge is not base64".into(),
                    });
                    match challenge.and_then(|c| Ok(exchange.step(&c)?)) {
                        Ok(answer) => {
                            self.wire
                                .send_secret("***", &STANDARD.encode(answer), self.timeouts.command)
                                .await?;
                        }
                        Err(error) => {
                            // RFC 4954 §4: "*" gives up.
                            self.command("AUTH", "*").await?;
                            return Err(error);
                        }
                    }
                }
                _ => return Err(ClientError::Refused { during: "AUTH", reply }),
            }
        }
    }

    /// Gives up a transaction that was begun.
    ///
    /// # Errors
    /// If the server refuses or fails.
    pub async fn reset(&mut self) -> Result<(), ClientError> {
        let reply = self.command("RSET", "RSET").await?;
        if !reply.is_success() {
            return Err(ClientError::Refused { during: "RSET", reply });
        }
        self.open = false;
        Ok(())
    }

    /// Ends the session. What goes wrong no longer matters.
    pub async fn quit(mut self) {
        if self.is_usable() && self.wire.send("QUIT", self.timeouts.quit).await.is_ok() {
            let _ = self.wire.reply("QUIT", self.timeouts.quit).await;
        }
        self.wire.close(self.timeouts.quit).await;
    }

    async fn command(&mut self, during: &'static str, line: &str) -> Result<Reply, ClientError> {
        self.wire.send(line, self.timeouts.command).await?;
        self.wire.reply(during, self.timeouts.command).await
    }
}

#[cfg(test)]
mod tests;
