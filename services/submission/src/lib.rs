//! The submission service: mail from users who logged in (RFC 6409).
//!
//! **Does.** Takes connections of the listeners' `submission` and `submissions` services, logs users in, checks that From
//! and MAIL FROM are addresses of theirs, completes the header, and puts the message into the outgoing queue.
//!
//! **Owns** nothing durable: a message is in its spool until the store has it.
//!
//! **Calls** the store: `AuthService` to log in and to keep the session alive, `SubmitService` with the session's token.
//!
//! **Trusts** no client: lines, errors, recipients, sizes and times have bounds (`limits.rs` here and in `mox-smtp`).
//! Nobody logs in without TLS, unless the listener says so. Address ownership is checked here for a clear answer, and
//! by the store inside the commit for good.
//!
//! **On failure** of the store, clients are told to try again. 250 after DATA means that the queue has it, on disk. On
//! shutdown, clients that wait are told so at once, and transactions may finish until the deadline.

mod auth;
mod chunks;
mod data;
mod limits;
mod metrics;
mod session;
mod transaction;

use std::sync::Arc;

use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_rpc::Channel;
use mox_service::{Bound, Clock, ConfigWatch, ConnectionLimits, Deps, Kind, Refusals, Shutdown};
use mox_spool::Budget;
use mox_submit::{Sender, Signing};
use mox_telemetry::Telemetry;

use crate::metrics::Metrics;
use crate::session::{Place, Session};

/// The sockets that the service listens on.
pub const KINDS: &[Kind] = &[Kind::Submission, Kind::Submissions];

/// In place of a greeting.
const REFUSALS: Refusals = Refusals {
    busy: b"421 4.7.0 too many connections from your network, try again later\r\n",
    stopping: b"421 4.3.2 the server is shutting down, try again later\r\n",
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
    sender: Sender,
    signing: Signing,
    config: ConfigWatch,
    spool: Budget,
    clock: Clock,
    telemetry: Telemetry,
    metrics: Metrics,
    pedantic: bool,
}

impl Shared {
    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.store.clone())
    }
}

/// The service.
pub struct Service {
    shared: Arc<Shared>,
    sockets: Vec<Bound>,
    limits: ConnectionLimits,
}

impl Service {
    /// Builds the service.
    ///
    /// # Errors
    /// None at present.
    pub async fn build(deps: Deps) -> Result<Self, Error> {
        let limits = deps.static_config.limits(deps.service);
        let limits = ConnectionLimits::measured(&limits, deps.service, &deps.telemetry);
        let folder = deps.spool_folder();
        let shared = Shared {
            sender: Sender::new(deps.store.clone()),
            store: deps.store,
            signing: Signing::default(),
            config: deps.config,
            spool: Budget::new(limits::SPOOL_BYTES, folder),
            clock: deps.clock,
            metrics: Metrics::register(&deps.telemetry),
            telemetry: deps.telemetry,
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
            let place = Arc::new(Place {
                shared: Arc::clone(&self.shared),
                listener: Arc::clone(&bound.listener),
                tls: bound.tls.clone(),
                hostname: bound.hostname.ascii().to_owned(),
                shutdown: shutdown.clone(),
            });
            move |stream, info| Session::new(Arc::clone(&place), stream, info).run()
        };
        mox_service::accept_all(self.sockets, &self.limits, &shutdown, REFUSALS, sessions).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
