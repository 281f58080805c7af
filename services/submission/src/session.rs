//! A session: reads commands, keeps the state, and replies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mox_config::Listener;
use mox_proto::auth::v1::{EndSessionRequest, RenewSessionsRequest};
use mox_service::{BoxStream, ConnInfo, Shutdown, TlsAcceptorConfig};
use mox_smtp::limits::{AUTH_LINE, COMMAND_LINE, SERVER_IDLE};
use mox_smtp::{Command, Connection, Hold, HostName, ReadError, Reply};
use mox_submit::FUTURE_RELEASE;
use mox_telemetry::TraceKind;

use crate::transaction::Transaction;
use crate::{Shared, auth, chunks, data, limits, transaction};

/// Where sessions of one socket run.
pub(crate) struct Place {
    pub shared: Arc<Shared>,
    pub listener: Arc<Listener>,
    pub tls: Option<TlsAcceptorConfig>,
    pub hostname: String,
    pub shutdown: Shutdown,
}

/// Who logged in.
pub(crate) struct Login {
    pub token: Bytes,
    pub address: String,
    renewed: Instant,
}

/// Why a session ends.
pub(crate) enum Stop {
    /// The connection is of no further use.
    Connection(ReadError),
    /// After this reply.
    Reply(Reply),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            // RFC 5321 §4.5.3.2.7 and §3.8: 421, and close.
            ReadError::Timeout => Self::Reply(Reply::new(421, (4, 2), "too slow, closing the connection")),
            ReadError::Endless => Self::Reply(Reply::new(421, (5, 2), "line does not end, closing the connection")),
            error => Self::Connection(error),
        }
    }
}

pub(crate) struct Session {
    pub place: Arc<Place>,
    pub info: ConnInfo,
    /// None only while TLS is being started.
    connection: Option<Connection<BoxStream>>,
    pub ehlo: Option<HostName>,
    pub login: Option<Login>,
    pub transaction: Option<Transaction>,
    pub failed_logins: u32,
    errors: u32,
}

impl Session {
    pub(crate) fn new(place: Arc<Place>, stream: BoxStream, info: ConnInfo) -> Self {
        Self {
            place,
            info,
            connection: Some(Connection::new(stream, SERVER_IDLE)),
            ehlo: None,
            login: None,
            transaction: None,
            failed_logins: 0,
            errors: 0,
        }
    }

    /// Until the client or we have enough.
    pub(crate) async fn run(mut self) {
        tracing::debug!(remote = %self.info.remote, tls = self.info.tls.is_some(), "connection");
        let greeting = Reply::plain(220, format!("{} ESMTP mox", self.place.hostname));
        let stop = match self.say(&greeting) {
            Ok(()) => self.converse().await,
            Err(stop) => stop,
        };
        match stop {
            Stop::Reply(reply) => {
                let _ = self.say(&reply);
            }
            Stop::Connection(ReadError::Closed) => {}
            Stop::Connection(error) => tracing::debug!(%error, "connection ended"),
        }
        if let Some(mut connection) = self.connection.take() {
            connection.close().await;
        }
        self.log_out().await;
        tracing::debug!("session ended");
    }

    /// The connection, which is there but while TLS is being started.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection<BoxStream>, Stop> {
        self.connection.as_mut().ok_or(Stop::Connection(ReadError::Closed))
    }

    /// Puts a reply into the output.
    pub(crate) fn say(&mut self, reply: &Reply) -> Result<(), Stop> {
        tracing::trace!(reply = %reply, "S");
        self.connection()?.reply(reply);
        Ok(())
    }

    pub(crate) fn traces(&self, kind: TraceKind) -> bool {
        self.place.shared.telemetry.trace_enabled("submission", kind)
    }

    async fn converse(&mut self) -> Stop {
        loop {
            let command = match self.command().await {
                Ok(command) => command,
                Err(stop) => return stop,
            };
            let started = Instant::now();
            let (name, outcome) = match command {
                Ok(command) => (command.name(), self.execute(command).await),
                Err(reply) => ("unknown", Ok(Some(reply))),
            };
            let reply = match outcome {
                Ok(Some(reply)) => reply,
                Ok(None) => continue,
                Err(stop) => return stop,
            };
            self.place
                .shared
                .metrics
                .command(name, reply.code, started.elapsed().as_secs_f64());
            if reply.code == 421 {
                // RFC 5321 §3.8: whoever says 421 closes the connection.
                return Stop::Reply(reply);
            }
            if let Err(stop) = self.say(&reply) {
                return stop;
            }
            if name == "quit" {
                return Stop::Connection(ReadError::Closed);
            }
            // What is not understood, and what is out of order. A refused address or message is no mistake of that kind,
            // and neither is what was sent together with a MAIL that was refused (RFC 2920 §3.1).
            let follows = reply.code == 503 && matches!(name, "rcpt" | "data" | "bdat");
            if matches!(reply.code, 500..=504) && !follows {
                self.errors += 1;
                if self.errors >= limits::ERRORS {
                    return Stop::Reply(Reply::new(421, (7, 0), "too many errors, closing the connection"));
                }
            }
        }
    }

    /// The next command, or what to say to what is none.
    async fn command(&mut self) -> Result<Result<Command, Reply>, Stop> {
        let shutdown = self.place.shutdown.clone();
        let idle = self.transaction.is_none();
        let traces = self.traces(TraceKind::Protocol);
        let secrets = self.traces(TraceKind::Auth);
        let pedantic = self.place.shared.pedantic;
        // RFC 4954 §4: AUTH can have a long initial response.
        let longest = if self.login.is_none() { AUTH_LINE } else { COMMAND_LINE };
        let connection = self.connection()?;
        // What was sent in advance is answered first.
        let waits = idle && !connection.has_input();
        let line = tokio::select! {
            biased;
            () = shutdown.begun(), if waits => {
                return Err(Stop::Reply(Reply::new(421, (3, 2), "the server is shutting down, try again later")));
            }
            line = connection.read_line(longest) => line,
        };
        let line = match line {
            Ok(line) => line,
            Err(error) if error.is_of_the_line() => return Ok(Err(Reply::new(500, (5, 2), error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        let parse = if pedantic {
            Command::parse_strict
        } else {
            Command::parse
        };
        let command = parse(line);
        if traces {
            match &command {
                Ok(Command::Auth(mechanism, Some(_))) if !secrets => tracing::trace!(mechanism, "C: AUTH with ***"),
                _ => tracing::trace!(line = %String::from_utf8_lossy(line), "C"),
            }
        }
        match command {
            Err(error) if error.is_final() => Err(Stop::Reply(error.reply())),
            command => Ok(command.map_err(|error| error.reply())),
        }
    }

    /// Does what a command says. No reply: it was given already.
    async fn execute(&mut self, command: Command) -> Result<Option<Reply>, Stop> {
        Ok(Some(match command {
            Command::Ehlo(name) => self.ehlo(name),
            Command::Helo(name) => {
                self.reset();
                self.ehlo = Some(name);
                Reply::plain(250, self.place.hostname.clone())
            }
            Command::StartTls => return self.starttls().await,
            Command::Auth(mechanism, initial) => auth::run(self, &mechanism, initial).await?,
            Command::Mail(path, params) => transaction::mail(self, path, params).await,
            Command::Rcpt(recipient, params) => transaction::rcpt(self, &recipient, &params),
            Command::Data => data::run(self).await?,
            Command::Bdat(octets, last) => chunks::run(self, octets, last).await?,
            Command::Rset => {
                self.transaction = None;
                Reply::new(250, (0, 0), "forgotten")
            }
            Command::Noop => Reply::new(250, (0, 0), "ok"),
            Command::Quit => Reply::new(221, (0, 0), "bye"),
            // RFC 5321 §7.3: nothing is said about who exists.
            Command::Vrfy(_) => Reply::new(252, (5, 0), "send a message to find out"),
            Command::Expn(_) => Reply::new(502, (5, 1), "lists are not shown"),
            Command::Help => Reply::new(214, (0, 0), "see RFC 6409; log in with AUTH, then MAIL, RCPT and DATA"),
        }))
    }

    /// What a new EHLO or TLS ends: the transaction.
    fn reset(&mut self) {
        self.transaction = None;
    }

    fn ehlo(&mut self, name: HostName) -> Reply {
        self.reset();
        self.ehlo = Some(name);
        let mut lines = vec![self.place.hostname.clone(), "PIPELINING".into()];
        lines.push(format!("SIZE {}", self.place.listener.smtp_max_message_size));
        if self.offers_tls() {
            lines.push("STARTTLS".into());
        }
        // RFC 4954 §4: not again after login.
        if self.login.is_none() && self.may_log_in() {
            lines.push(format!("AUTH {}", auth::mechanisms(self).join(" ")));
        }
        lines.extend(["8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING"].map(str::to_owned));
        // RFC 8689 §2: over TLS only.
        if self.info.tls.is_some() {
            lines.push("REQUIRETLS".into());
        }
        let now = self.place.shared.clock.unix_millis().div_euclid(1000);
        lines.push(Hold::announcement(now, FUTURE_RELEASE));
        lines.push(format!("LIMITS RCPTMAX={}", limits::RECIPIENTS));
        Reply::plain(250, lines.join("\n"))
    }

    fn offers_tls(&self) -> bool {
        self.info.tls.is_none() && self.place.tls.is_some()
    }

    /// Whether passwords may be sent over this connection.
    pub(crate) fn may_log_in(&self) -> bool {
        self.info.tls.is_some() || self.place.listener.submission.no_require_starttls
    }

    async fn starttls(&mut self) -> Result<Option<Reply>, Stop> {
        let Some(tls) = self.place.tls.clone().filter(|_| self.info.tls.is_none()) else {
            return Ok(Some(Reply::new(503, (5, 1), "TLS can't be started here")));
        };
        if self.login.is_some() {
            return Ok(Some(Reply::new(503, (5, 1), "TLS must be started before logging in")));
        }
        // Commands that were sent in advance were sent in the clear, by whoever is on the way (RFC 3207 §5).
        if self.connection()?.has_input() {
            tracing::warn!("data behind STARTTLS before the handshake, closing the connection");
            return Err(Stop::Connection(ReadError::Closed));
        }
        self.say(&Reply::new(220, (0, 0), "go ahead"))?;
        self.connection()?.flush().await?;
        let Some(connection) = self.connection.take() else {
            return Err(Stop::Connection(ReadError::Closed));
        };
        if connection.has_input() {
            tracing::warn!("data behind STARTTLS before the handshake, closing the connection");
            return Err(Stop::Connection(ReadError::Closed));
        }
        match mox_service::starttls(connection.into_stream(), &tls, &mut self.info).await {
            Ok(stream) => self.connection = Some(Connection::new(stream, SERVER_IDLE)),
            Err(error) => {
                tracing::debug!(%error, "TLS handshake failed");
                return Err(Stop::Connection(ReadError::Closed));
            }
        }
        // RFC 3207 §4.2: what was said before doesn't count.
        self.reset();
        self.ehlo = None;
        Ok(None)
    }

    pub(crate) fn log_in(&mut self, token: Bytes, address: String) {
        self.login = Some(Login {
            token,
            address,
            renewed: Instant::now(),
        });
    }

    /// Keeps the session's token alive. False: it ended, and the user must log in again.
    pub(crate) async fn keep_alive(&mut self) -> bool {
        let Some(login) = &mut self.login else { return false };
        if login.renewed.elapsed() < limits::RENEW {
            return true;
        }
        let request = RenewSessionsRequest {
            sessions: vec![login.token.clone()],
        };
        match self.place.shared.auth().renew_sessions(request).await {
            Ok(answer) => {
                login.renewed = Instant::now();
                answer.into_inner().valid == [true]
            }
            // The next call tells.
            Err(_) => true,
        }
    }

    async fn log_out(&mut self) {
        let Some(login) = self.login.take() else { return };
        let mut auth = self.place.shared.auth();
        let ended = auth.end_session(EndSessionRequest { session: login.token });
        // It expires by itself otherwise.
        let _ = tokio::time::timeout(limits::END_SESSION, ended).await;
    }

    /// Waits before answering a mistake that guessing programs make.
    pub(crate) async fn pause(&mut self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.place.shutdown.begun() => {}
        }
    }
}
