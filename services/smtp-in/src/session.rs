//! A session: reads commands, keeps the state, and replies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mox_config::Listener;
use mox_service::{BoxStream, ConnInfo, Shutdown, TlsAcceptorConfig};
use mox_smtp::limits::{COMMAND_LINE, SERVER_IDLE};
use mox_smtp::{Command, Connection, HostName, ReadError, Reply};
use mox_telemetry::TraceKind;

use crate::transaction::Transaction;
use crate::{Shared, commands, limits};

/// Where sessions of one socket run.
pub(crate) struct Place {
    pub shared: Arc<Shared>,
    pub listener: Arc<Listener>,
    pub tls: Option<TlsAcceptorConfig>,
    pub hostname: String,
    pub shutdown: Shutdown,
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

/// How the client introduced itself.
pub(crate) struct Hello {
    pub name: HostName,
    /// By EHLO.
    pub extended: bool,
}

pub(crate) struct Session {
    pub place: Arc<Place>,
    pub info: ConnInfo,
    /// None only while TLS is being started.
    connection: Option<Connection<BoxStream>>,
    pub hello: Option<Hello>,
    pub transaction: Option<Transaction>,
    pub unknown_recipients: u32,
    /// Commands since there was a message.
    pub idle_commands: u32,
    /// It made mistakes, or sent what nobody wants: it gets its replies late.
    pub suspicious: bool,
    errors: u32,
    started: Instant,
}

impl Session {
    pub(crate) fn new(place: Arc<Place>, stream: BoxStream, info: ConnInfo) -> Self {
        Self {
            place,
            info,
            connection: Some(Connection::new(stream, SERVER_IDLE)),
            hello: None,
            transaction: None,
            unknown_recipients: 0,
            idle_commands: 0,
            suspicious: false,
            errors: 0,
            started: Instant::now(),
        }
    }

    /// Until the client or we have enough.
    pub(crate) async fn run(mut self) {
        tracing::debug!(remote = %self.info.remote, "connection");
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
        tracing::debug!("session ended");
    }

    /// The connection, which is there but while TLS is being started.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection<BoxStream>, Stop> {
        self.connection.as_mut().ok_or(Stop::Connection(ReadError::Closed))
    }

    /// Takes the connection, in order to make another one of it.
    pub(crate) fn take_connection(&mut self) -> Result<Connection<BoxStream>, Stop> {
        self.connection.take().ok_or(Stop::Connection(ReadError::Closed))
    }

    pub(crate) fn set_stream(&mut self, stream: BoxStream) {
        self.connection = Some(Connection::new(stream, SERVER_IDLE));
    }

    /// Puts a reply into the output. It is written when there is nothing left to read.
    pub(crate) fn say(&mut self, reply: &Reply) -> Result<(), Stop> {
        tracing::trace!(%reply, "S");
        self.connection()?.reply(reply);
        Ok(())
    }

    pub(crate) fn traces(&self, kind: TraceKind) -> bool {
        self.place.shared.telemetry.trace_enabled("smtp-in", kind)
    }

    /// Writes what is to be written, and waits; less long if the server is to stop.
    pub(crate) async fn pause(&mut self, duration: Duration) -> Result<(), Stop> {
        self.connection()?.flush().await?;
        tokio::select! {
            () = self.place.shared.clock.sleep(duration) => {}
            () = self.place.shutdown.begun() => {}
        }
        Ok(())
    }

    /// As [`Session::pause`], as long as the client is there: one that leaves meanwhile has not been told that its message
    /// was taken, so it sends the message again. If it has only said that it sends no more, it can read that.
    pub(crate) async fn pause_with_client(&mut self, duration: Duration) -> Result<(), Stop> {
        let place = Arc::clone(&self.place);
        let connection = self.connection()?;
        connection.flush().await?;
        tokio::select! {
            () = place.shared.clock.sleep(duration) => Ok(()),
            () = place.shutdown.begun() => Ok(()),
            error = connection.left() => {
                tracing::info!(remote = %self.info.remote, %error, "the client left before its message was taken");
                Err(Stop::Reply(Reply::new(421, (4, 2), "the connection was closed before the message was taken")))
            }
        }
    }

    async fn converse(&mut self) -> Stop {
        loop {
            let command = match self.command().await {
                Ok(command) => command,
                Err(stop) => return stop,
            };
            let started = Instant::now();
            let (name, outcome) = match command {
                Ok(command) => (command.name(), commands::execute(self, command).await),
                Err(reply) => ("unknown", Ok(Some(reply))),
            };
            let reply = match outcome {
                Ok(Some(reply)) => reply,
                // What it was about was said.
                Ok(None) => continue,
                Err(stop) => return stop,
            };
            let seconds = started.elapsed().as_secs_f64();
            self.place.shared.metrics.command(name, reply.code, seconds);
            if self.suspicious
                && let Err(stop) = self.slow_down().await
            {
                return stop;
            }
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
            // What is not understood, and what is out of order. A refused address or message is no such mistake, and
            // neither is what was sent together with a MAIL that was refused (RFC 2920 §3.1).
            let follows = reply.code == 503 && matches!(name, "rcpt" | "data" | "bdat");
            if matches!(reply.code, 500..=504 | 555) && !follows {
                self.errors += 1;
                self.suspicious |= self.errors >= limits::SUSPICIOUS_ERRORS;
                if self.errors >= limits::ERRORS {
                    return Stop::Reply(Reply::new(421, (7, 0), "too many errors, closing the connection"));
                }
            }
            let progress = name == "rcpt" || name == "bdat" && reply.is_success();
            self.idle_commands += u32::from(!progress);
            if self.idle_commands > limits::IDLE_COMMANDS {
                return Stop::Reply(Reply::new(
                    421,
                    (7, 0),
                    "too many commands without a message, closing the connection",
                ));
            }
            if self.unknown_recipients >= limits::UNKNOWN_RECIPIENTS {
                return Stop::Reply(Reply::new(
                    421,
                    (7, 0),
                    "too many unknown recipients, closing the connection",
                ));
            }
        }
    }

    /// Holds the reply back. In developer's mode nobody is suspicious.
    async fn slow_down(&mut self) -> Result<(), Stop> {
        if self.place.shared.config.localserve.is_some() {
            return Ok(());
        }
        self.place.shared.metrics.delayed();
        self.pause(limits::SUSPICIOUS_DELAY).await
    }

    /// The next command, or what to say to what is none.
    async fn command(&mut self) -> Result<Result<Command, Reply>, Stop> {
        let traces = self.traces(TraceKind::Protocol);
        let place = Arc::clone(&self.place);
        let transaction = self.transaction.is_some();
        // What has begun may be finished, in the time that a message may take.
        let more = if transaction { limits::DATA_TIME } else { Duration::ZERO };
        if self.started.elapsed() > limits::SESSION_TIME + more {
            return Err(Stop::Reply(Reply::new(
                421,
                (4, 2),
                "the session is too long, connect again",
            )));
        }
        let connection = self.connection()?;
        // Between transactions the session ends as soon as the server is to stop. Within one, the client may finish,
        // until the deadline.
        let line = if transaction || (connection.has_input() && !place.shutdown.has_begun()) {
            connection.read_line(COMMAND_LINE).await
        } else {
            tokio::select! {
                biased;
                () = place.shutdown.begun() => {
                    return Err(Stop::Reply(Reply::new(421, (3, 2), "the server is shutting down, try again later")));
                }
                line = connection.read_line(COMMAND_LINE) => line,
            }
        };
        let line = match line {
            Ok(line) => line,
            Err(error) if error.is_of_the_line() => return Ok(Err(Reply::new(500, (5, 2), error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        if traces {
            tracing::trace!(line = %String::from_utf8_lossy(line), "C");
        }
        let parse = if place.shared.config.pedantic {
            Command::parse_strict
        } else {
            Command::parse
        };
        match parse(line) {
            Err(error) if error.is_final() => Err(Stop::Reply(error.reply())),
            parsed => Ok(parsed.map_err(|error| error.reply())),
        }
    }
}
