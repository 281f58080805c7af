//! The IMAP service: sessions of mail clients (RFC 3501, and what today's clients use beside it).
//!
//! **Does.** Takes connections of the listeners' `imap` and `imaps` services, speaks IMAP4rev1 with the extensions that
//! it announces, and shows the mailboxes of the account that a session is logged in to.
//!
//! **Owns** nothing durable. A session holds its view of the selected mailbox (which sequence number is which UID, as
//! runs of UIDs that equal sessions share), and at most one buffer of output: lists come from the store in pages,
//! messages in streams, and are read no faster than the client reads.
//!
//! **Calls** the store: `AuthService` to log in and to keep sessions alive, `MailService` with the session's token. One
//! `Watch` stream tells all sessions of the process what changed.
//!
//! **Trusts** no client: commands, literals, nesting, sets, times and mistakes have bounds (`limits.rs` here and in the
//! grammar). A session reaches only the account of its token.
//!
//! **On failure** of the store a command is answered with `NO [UNAVAILABLE]` and the session goes on. What was answered
//! with OK is durable. On shutdown, idle sessions get BYE at once and others at the deadline.
//!
//! Decisions: no message is ever `\Recent` (RECENT is 0; RFC 9051 abolished it). A message is kept as the octets that
//! APPEND gave, bare CR or LF included: signatures stay valid, and what is fetched is what was stored. Messages that
//! another session expunged are left out of FETCH and STORE, whose sequence-number forms then end with
//! `NO [EXPUNGEISSUED]`. When the selected mailbox is deleted by another session, the connection ends.

mod changes;
mod commands;
mod connection;
mod contexts;
mod deflate;
mod enabled;
mod esearch;
mod fetch;
mod filters;
mod limits;
mod metrics;
mod names;
mod news;
mod notices;
mod notify;
mod progress;
mod reply;
mod rights;
mod rows;
mod searching;
mod selected;
mod session;
mod view;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use mox_config::ServiceLimits;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::mail::v1::get_mailbox_request::Which;
use mox_proto::mail::v1::mail_service_client::MailServiceClient;
use mox_proto::mail::v1::{GetMailboxRequest, ListMailboxesRequest, Mailbox};
use mox_rpc::Channel;
use mox_service::{Bound, ConfigWatch, ConnectionLimits, Deps, Kind, Refusals, Shutdown};
use mox_telemetry::Telemetry;
use tokio::sync::Semaphore;

use crate::deflate::Tables;
use crate::metrics::Metrics;
use crate::reply::{Failed, Reply};
use crate::session::Session;
use crate::view::Interner;
use crate::watch::Hub;

/// The sockets that the service listens on.
pub const KINDS: &[Kind] = &[Kind::Imap, Kind::Imaps];

/// Before login, the answer to who can't be served: try again later (RFC 9051 §7.1.5, RFC 5530).
const REFUSALS: Refusals = Refusals {
    busy: b"* BYE [UNAVAILABLE] Too many connections from your network, try again later\r\n",
    stopping: b"* BYE [UNAVAILABLE] The server is shutting down, try again later\r\n",
};

/// Why the service can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task of it panicked.
    #[error("the sessions of a listener ended unexpectedly: {0}")]
    Listener(#[from] tokio::task::JoinError),
}

/// What the sessions share.
struct Shared {
    store: Channel,
    hub: Hub,
    views: Interner,
    config: ConfigWatch,
    telemetry: Telemetry,
    metrics: Metrics,
    tables: Arc<Tables>,
    conversions: Semaphore,
    hostname: String,
    pedantic: bool,
}

impl Shared {
    fn mail(&self) -> MailServiceClient<Channel> {
        MailServiceClient::new(self.store.clone())
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.store.clone())
    }

    /// A mailbox by the name that the store has for it.
    async fn mailbox(&self, token: &Bytes, name: &str) -> Result<Mailbox, Failed> {
        self.mailbox_by(token, Which::Name(name.to_owned())).await
    }

    /// A mailbox by its name or id.
    async fn mailbox_by(&self, token: &Bytes, which: Which) -> Result<Mailbox, Failed> {
        let request = GetMailboxRequest {
            session: token.clone(),
            which: Some(which),
            ..Default::default()
        };
        self.get_mailbox(request).await
    }

    /// A mailbox by its name, with its UIDs, not older than `seen_modseq`.
    async fn mailbox_with_uids(&self, token: &Bytes, name: &str, seen_modseq: u64) -> Result<Mailbox, Failed> {
        let request = GetMailboxRequest {
            session: token.clone(),
            which: Some(Which::Name(name.to_owned())),
            with_uids: true,
            seen_modseq,
        };
        self.get_mailbox(request).await
    }

    async fn get_mailbox(&self, request: GetMailboxRequest) -> Result<Mailbox, Failed> {
        let mailbox = self.mail().get_mailbox(request).await?.into_inner();
        if mailbox.exists {
            Ok(mailbox)
        } else {
            Err(Reply::no("There is no such mailbox").code("NONEXISTENT").into())
        }
    }

    /// All mailboxes.
    async fn mailboxes(&self, token: &Bytes) -> Result<Vec<Mailbox>, Failed> {
        let mut all = Vec::new();
        let mut request = ListMailboxesRequest {
            session: token.clone(),
            page_token: String::new(),
        };
        loop {
            let answer = self.mail().list_mailboxes(request.clone()).await?.into_inner();
            all.extend(answer.mailboxes);
            if answer.next_page_token.is_empty() {
                return Ok(all);
            }
            if all.len() >= limits::MAILBOXES {
                return Err(Reply::no("There are too many mailboxes to list").code("LIMIT").into());
            }
            request.page_token = answer.next_page_token;
        }
    }
}

/// The service.
pub struct Service {
    shared: Arc<Shared>,
    sockets: Vec<Bound>,
    limits: ConnectionLimits,
}

impl Service {
    /// Builds the service. Its hub starts watching when a session logs in.
    ///
    /// # Errors
    /// None at present.
    pub async fn build(deps: Deps) -> Result<Self, Error> {
        let metrics = Metrics::register(&deps.telemetry);
        let limits = match (
            &deps.static_config.localserve,
            deps.static_config.limits.get(deps.service),
        ) {
            (Some(_), _) => ServiceLimits::none(),
            (None, Some(limits)) => limits.clone(),
            (None, None) => ServiceLimits::default(),
        };
        let limits = ConnectionLimits::measured(&limits, deps.service, &deps.telemetry);
        let shared = Shared {
            hub: Hub::start(deps.store.clone()),
            store: deps.store,
            views: Interner::default(),
            config: deps.config,
            telemetry: deps.telemetry,
            metrics,
            tables: Arc::default(),
            conversions: Semaphore::new(limits::CONVERSIONS),
            hostname: deps.static_config.hostname.as_str().to_owned(),
            pedantic: deps.static_config.pedantic,
        };
        let sockets = deps.sockets.into_iter().filter(|b| KINDS.contains(&b.kind)).collect();
        Ok(Self {
            shared: Arc::new(shared),
            sockets,
            limits,
        })
    }

    /// Serves until the shutdown is over.
    ///
    /// # Errors
    /// If accepting connections ended before.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let sessions = |bound: &Bound| {
            let shared = Arc::clone(&self.shared);
            let (listener, tls) = (Arc::clone(&bound.listener), bound.tls.clone());
            let during = shutdown.clone();
            move |stream, info| {
                let (shared, listener, tls) = (shared.clone(), listener.clone(), tls.clone());
                Session::new(shared, stream, info, listener, tls, during.clone()).run()
            }
        };
        mox_service::accept_all(self.sockets, &self.limits, &shutdown, REFUSALS, sessions).await?;
        Ok(())
    }
}
