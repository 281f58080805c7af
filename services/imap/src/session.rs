//! The state machine of a session (RFC 9051 §3): reads commands in order, runs them, and tells what changed meanwhile
//! after each.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use mox_imap_proto::append::{self, Append};
use mox_imap_proto::cursor::Names;
use mox_imap_proto::{Command, Cursor, ErrorKind, Event, Failure, Framer, LiteralHeader, Tagged, parse_command};
use mox_service::{BoxStream, ConnInfo, GRACE, Shutdown};
use mox_telemetry::TraceKind;

use crate::Shared;
use crate::commands;
use crate::connection::Connection;
use crate::enabled::{Enabled, Extension};
use crate::limits;
use crate::news::{self, Moment};
use crate::notify::Notify;
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::selected::Selected;
use crate::watch::Subscription;

/// Whom a session is.
pub(crate) struct Login {
    /// For every call to the store.
    pub token: Bytes,
    pub account: String,
    /// The address that was logged in with.
    pub address: String,
    pub subscription: Subscription,
}

/// A client's session.
pub(crate) struct Session {
    pub shared: Arc<Shared>,
    pub connection: Connection,
    pub info: ConnInfo,
    pub listener: Arc<mox_config::Listener>,
    pub tls: Option<mox_service::TlsAcceptorConfig>,
    pub framer: Framer,
    pub shutdown: Shutdown,
    /// After login.
    pub login: Option<Login>,
    /// After SELECT or EXAMINE.
    pub selected: Option<Selected>,
    /// What the client enabled.
    pub enabled: Enabled,
    /// How mailbox names travel: as [`Enabled::names`].
    pub names: Names,
    /// RFC 4978: from the client's COMPRESS on.
    pub compressed: bool,
    /// Up to where changes of annotations were told; none until that is known.
    pub metadata_modseq: Option<u64>,
    /// The session's own changes of annotations since then.
    pub own_metadata: Vec<u64>,
    /// What the client wants to be told of, once it said so (RFC 5465).
    pub notify: Option<Box<Notify>>,
    pub failed_logins: u32,
    /// What the client says it is, until it logs in.
    pub client_id: String,
    bad_commands: u32,
}

/// What a client sent.
enum Input {
    Command(Tagged<Command>),
    /// With the literal that is to be streamed, if there is one.
    Append(Tagged<Append>, Option<LiteralHeader>),
    Failure(Failure),
    /// A literal that is too large, and was declined.
    Declined(String),
}

/// Why waiting ended.
enum Woken {
    Input,
    News,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: BoxStream,
        info: ConnInfo,
        listener: Arc<mox_config::Listener>,
        tls: Option<mox_service::TlsAcceptorConfig>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            shared,
            connection: Connection::new(stream),
            info,
            listener,
            tls,
            framer: Framer::default(),
            shutdown,
            login: None,
            selected: None,
            enabled: Enabled::default(),
            names: Names::Utf7,
            compressed: false,
            metadata_modseq: None,
            own_metadata: Vec::new(),
            notify: None,
            failed_logins: 0,
            client_id: String::new(),
            bad_commands: 0,
        }
    }

    /// Runs the session to its end. What is only needed now and then is boxed: thousands of sessions do nothing but wait.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let stop = tokio::select! {
            stop = self.converse() => stop,
            () = last_moment(&shutdown) => Stop::Bye("The server is shutting down".into()),
        };
        match &stop {
            Stop::Closed(error) => tracing::debug!(%error, "connection closed"),
            Stop::Bye(text) => {
                tracing::debug!(text = %text, "ending the session");
                Box::pin(self.connection.bye(text)).await;
            }
            Stop::Logout => {}
        }
        self.connection.close().await;
        if let Some(login) = self.login.take() {
            let Login { token, .. } = login;
            let request = mox_proto::auth::v1::EndSessionRequest { session: token };
            // A token that is not ended expires.
            let _ = Box::pin(self.shared.auth().end_session(request)).await;
        }
    }

    async fn converse(&mut self) -> Stop {
        if let Err(stop) = Box::pin(self.greet()).await {
            return stop;
        }
        loop {
            let input = match self.input().await {
                Ok(input) => input,
                Err(stop) => return stop,
            };
            if let Err(stop) = self.answer(input).await {
                return stop;
            }
        }
    }

    /// RFC 9051 §7.1: says who we are, and whether the client has to log in.
    async fn greet(&mut self) -> Result<(), Stop> {
        let known = self.info.has_public_key() && commands::authenticate::preauth(self).await?;
        let state = if known { "PREAUTH" } else { "OK" };
        let capabilities = commands::capability::list(self);
        let host = self.shared.hostname.as_str();
        self.connection
            .out
            .put_slice(format!("* {state} [CAPABILITY {capabilities}] {host} ready\r\n").as_bytes());
        Ok(())
    }

    /// The next command.
    async fn input(&mut self) -> Result<Input, Stop> {
        loop {
            match self.framer.next(&mut self.connection.input) {
                Err(error) => return Err(Stop::Bye(error.to_string().into())),
                Ok(Event::NeedMore) => self.wait_for_input().await?,
                Ok(Event::Command(data)) => {
                    if self.login.is_some()
                        && let Some(append) = append::parse_start(&data, self.names, false)
                    {
                        return Ok(match append {
                            Ok(append) => Input::Append(append, None),
                            Err(failure) => Input::Failure(failure),
                        });
                    }
                    return Ok(match parse_command(&data, self.names) {
                        Ok(command) => Input::Command(command),
                        Err(failure) => Input::Failure(failure),
                    });
                }
                Ok(Event::Literal(header)) => {
                    if let Some(input) = self.literal(header)? {
                        return Ok(input);
                    }
                }
            }
        }
    }

    /// Decides about a literal that was announced.
    fn literal(&mut self, header: LiteralHeader) -> Result<Option<Input>, Stop> {
        if self.login.is_some()
            && let Some(Ok(append)) = append::parse_start(self.framer.start(&self.connection.input), self.names, true)
            && append.value.segment.next != append::Next::Accept
        {
            self.framer.take_start(&mut self.connection.input);
            return Ok(Some(Input::Append(append, Some(header))));
        }
        let most = if self.login.is_some() {
            mox_imap_proto::limits::COMMAND_LITERALS
        } else {
            mox_imap_proto::limits::LITERALS_BEFORE_LOGIN
        };
        match self.framer.accept(most) {
            Ok(()) => {
                if header.synchronizing {
                    self.connection.out.put_slice(b"+ Ready for literal data\r\n");
                }
                Ok(None)
            }
            // RFC 7888 §4: what is sent without asking can only be read or cut off.
            Err(error) if !header.synchronizing => Err(Stop::Bye(error.to_string().into())),
            Err(_) => {
                let start = self.framer.take_start(&mut self.connection.input);
                let tag = Cursor::new(&start, self.names).tag().unwrap_or("*").to_owned();
                Ok(Some(Input::Declined(tag)))
            }
        }
    }

    /// Waits for the client, and for reasons to end the session meanwhile.
    async fn wait_for_input(&mut self) -> Result<(), Stop> {
        self.connection.flush().await?;
        if !self.framer.is_idle(&self.connection.input) {
            return self.connection.fill_soon(limits::COMMAND_ROOM).await;
        }
        self.connection.shrink();
        let limit = if self.login.is_some() {
            limits::INACTIVE
        } else {
            limits::INACTIVE_BEFORE_LOGIN
        };
        let ends = tokio::time::Instant::now() + limit;
        loop {
            if let Woken::Input = self.wait(ends).await? {
                return Ok(());
            }
            // In a box, as in IDLE: what waits for long is kept small.
            Box::pin(news::tell_waiting(self, Moment::Between)).await?;
            self.connection.flush().await?;
            self.connection.shrink();
        }
    }

    /// Waits for input, or for something that a client is to be told without having asked now.
    async fn wait(&mut self, ends: tokio::time::Instant) -> Result<Woken, Stop> {
        let seen = match &self.notify {
            Some(_) if news::is_due(self) => return Ok(Woken::News),
            Some(_) => news::seen(self),
            None => u64::MAX,
        };
        let Self {
            connection,
            login,
            shutdown,
            ..
        } = self;
        let hint = async {
            match login {
                Some(login) => login.subscription.changed(seen).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.begun() => Err(Stop::Bye("The server is shutting down, try again later".into())),
            filled = connection.fill(limits::COMMAND_ROOM) => filled.map(|()| Woken::Input),
            hint = hint => match hint.revoked {
                true => Err(Stop::Bye("This session has ended, please log in again".into())),
                false => Ok(Woken::News),
            },
            () = tokio::time::sleep_until(ends) => Err(Stop::Bye("Inactive for too long".into())),
        }
    }

    async fn answer(&mut self, input: Input) -> Result<(), Stop> {
        let started = Instant::now();
        let (tag, name, outcome) = match input {
            Input::Command(Tagged { tag, value }) => {
                let name = value.name();
                self.trace(&tag, &value);
                let outcome = Box::pin(commands::run(self, &tag, value)).await;
                (tag, name, outcome)
            }
            Input::Append(Tagged { tag, value }, header) => {
                let name = value.verb.name();
                (tag, name, Box::pin(commands::append::run(self, value, header)).await)
            }
            Input::Declined(tag) => (
                tag,
                "",
                Err(Reply::bad("The literals of the command are too large")
                    .code("TOOBIG")
                    .into()),
            ),
            Input::Failure(failure) => {
                let tag = failure.tag.clone().unwrap_or_else(|| "*".to_owned());
                (tag, failure.name.unwrap_or_default(), Err(refuse(&failure).into()))
            }
        };
        let reply = Box::pin(self.settle(outcome, name)).await;
        let seconds = started.elapsed().as_secs_f64();
        let result = reply.as_ref().map_or("end", Reply::result);
        self.shared.metrics.command(name, result, seconds);
        tracing::debug!(command = name, result, seconds, "command");
        let reply = reply?;
        reply.write(&tag, &mut self.connection.out);
        self.connection.flush_if_large().await?;
        if reply.condition == crate::reply::Condition::Bad {
            self.bad_commands += 1;
            if self.bad_commands >= limits::BAD_COMMANDS {
                return Err(Stop::Bye("Too many bad commands".into()));
            }
        } else {
            self.bad_commands = 0;
        }
        Ok(())
    }

    /// A command's end: before its reply, what changed is told.
    async fn settle(&mut self, outcome: Outcome, name: &'static str) -> Result<Reply, Stop> {
        let reply = match outcome {
            Ok(reply) | Err(Failed::Reply(reply)) => reply,
            Err(Failed::Stop(stop)) => return Err(stop),
        };
        if self.enabled.metadata
            && let Err(Failed::Stop(stop)) = commands::metadata::tell_changes(self, name).await
        {
            return Err(stop);
        }
        match Box::pin(news::tell(self, Moment::Command(name))).await {
            Ok(()) => Ok(self.with_highest_modseq(reply)),
            Err(Failed::Reply(_)) => Ok(reply),
            Err(Failed::Stop(stop)) => Err(stop),
        }
    }

    /// RFC 7162 §3.2.7, §3.2.9: the reply to a command that removed messages has the mailbox's highest modification
    /// sequence, for who keeps it. By now everything up to it has been told, or it is not.
    fn with_highest_modseq(&self, reply: Reply) -> Reply {
        match &self.selected {
            Some(selected) if reply.highest_modseq && self.enabled.condstore && selected.is_all_told() => {
                reply.code(format!("HIGHESTMODSEQ {}", selected.highest))
            }
            _ => reply,
        }
    }

    /// Enables an extension with what it implies. Answers whether that is new.
    pub(crate) fn enable(&mut self, extension: Extension) -> bool {
        let had_condstore = self.enabled.condstore;
        let new = self.enabled.enable(extension);
        self.names = self.enabled.names();
        if let Some(selected) = &mut self.selected {
            selected.enabled = self.enabled;
            // RFC 7162 §3.1: from here on the client keeps modification sequences, so it needs to know where it is.
            if !had_condstore && self.enabled.condstore && selected.is_all_told() {
                let line = format!("* OK [HIGHESTMODSEQ {}] CONDSTORE is enabled\r\n", selected.highest);
                self.connection.out.put_slice(line.as_bytes());
            }
        }
        new
    }

    /// Forgets a login and all that came of it (RFC 8437 §2): what is selected is left without expunging, and what was
    /// enabled is no more; TLS and compression stay as they are. Answers with the login.
    pub(crate) fn forget_login(&mut self) -> Option<Login> {
        // Each field is named, so that a new one is thought of.
        let Self {
            shared: _,
            connection: _,
            info: _,
            listener: _,
            tls: _,
            framer: _,
            shutdown: _,
            login,
            selected,
            enabled,
            names,
            compressed: _,
            metadata_modseq,
            own_metadata,
            notify,
            failed_logins: _,
            client_id,
            bad_commands: _,
        } = self;
        *selected = None;
        *notify = None;
        *enabled = Enabled::default();
        *names = Names::default();
        *metadata_modseq = None;
        own_metadata.clear();
        client_id.clear();
        login.take()
    }

    /// The login, which the command needs.
    pub(crate) fn login(&self) -> Result<&Login, Failed> {
        self.login.as_ref().ok_or_else(|| Reply::bad("Log in first").into())
    }

    /// The session's token, which the command needs.
    pub(crate) fn token(&self) -> Result<Bytes, Failed> {
        Ok(self.login()?.token.clone())
    }

    /// The selected mailbox, which the command needs.
    pub(crate) fn selected(&self) -> Result<&Selected, Failed> {
        self.login()?;
        self.selected
            .as_ref()
            .ok_or_else(|| Reply::bad("Select a mailbox first").into())
    }

    /// The selected mailbox, to be changed.
    pub(crate) fn selected_mut(&mut self) -> Result<&mut Selected, Failed> {
        self.login()?;
        self.selected
            .as_mut()
            .ok_or_else(|| Reply::bad("Select a mailbox first").into())
    }

    /// The selected mailbox, if it may be changed.
    pub(crate) fn writable(&self) -> Result<&Selected, Failed> {
        let selected = self.selected()?;
        if selected.read_only {
            return Err(Reply::no("The mailbox was opened with EXAMINE, for reading only").into());
        }
        Ok(selected)
    }

    /// Whether passwords may be sent: over TLS, or where the listener allows it without.
    pub(crate) fn may_log_in(&self) -> bool {
        self.info.tls.is_some() || self.listener.imap.no_require_starttls
    }

    fn trace(&self, tag: &str, command: &Command) {
        let secret = matches!(command, Command::Login { .. } | Command::Authenticate { .. });
        let kind = if secret { TraceKind::Auth } else { TraceKind::Protocol };
        if self.shared.telemetry.trace_enabled("imap", kind) {
            tracing::trace!(tag, ?command, "client");
        }
    }
}

/// Before the deadline of a shutdown, at which sessions are cut off, there must be time for a last line.
async fn last_moment(shutdown: &Shutdown) {
    shutdown.begun().await;
    tokio::time::sleep(GRACE.saturating_sub(2 * limits::BYE)).await;
}

/// The reply to what is not a command.
fn refuse(failure: &Failure) -> Reply {
    let error = &failure.error;
    match (error.kind, failure.name) {
        (ErrorKind::Charset, _) => Reply::no(error.to_string()).code("BADCHARSET (US-ASCII UTF-8)"),
        (ErrorKind::Limit, _) => Reply::bad(error.to_string()).code("LIMIT"),
        (_, Some(name)) => Reply::bad(format!("{name}: {error}")),
        (_, None) => Reply::bad(error.to_string()),
    }
}
