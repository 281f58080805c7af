//! The smtp-in service: mail from other servers (RFC 5321).
//!
//! **Does.** Takes connections of the listeners' `smtp` services, asks the store who the recipients are, receives the
//! message, finds out about its sender, lets the store decide, and delivers.
//!
//! **Owns** nothing durable: a message is in its spool until the store has it, within one budget of bytes.
//!
//! **Calls** the store: `DeliveryService`. It can deliver, and read nothing. It asks DNS about who sends, and blocklists
//! about a client whose message would be accepted otherwise.
//!
//! **Trusts** no client: lines, errors, recipients, sizes and times have bounds (`limits.rs` here and in `mox-smtp`).
//! Lines end in CRLF and messages in CRLF.CRLF, or they are refused: there is nothing to smuggle. What is sent behind
//! STARTTLS in the clear closes the connection. Networks have limits on connections, messages and bytes; who makes
//! mistakes or sends what nobody wants is answered late.
//!
//! **Tells** nobody which addresses exist before they have sent a message, and sends notifications only to senders that
//! SPF confirms: see `commands/rcpt.rs`.
//!
//! **On failure** of the store, clients are told to try again. 250 after DATA means that every recipient's copy is on
//! disk: one commit, by one key, which is repeated with the same key while the store is away. On shutdown, clients that
//! wait are told so at once, and transactions may finish until the deadline.
//!
//! In developer's mode (`[localserve]`) every recipient of every domain is accepted, unknown ones for one address, and
//! special localparts make errors: see `localserve.rs`.

mod analyze;
mod blocklists;
mod check;
mod commands;
mod decision;
mod deliver;
mod foreign;
mod incoming;
mod limits;
mod localserve;
mod metrics;
mod outcome;
mod reports;
mod sender;
mod session;
mod trace;
mod transaction;

use std::sync::Arc;

use mox_config::Static;
use mox_dns::{Resolver, Settings, SettingsError, SystemResolver};
use mox_proto::delivery::v1::delivery_service_client::DeliveryServiceClient;
use mox_rpc::Channel;
use mox_service::{Bound, Clock, ConfigWatch, ConnectionLimits, Deps, Kind, MessageRates, Refusals, Shutdown};
use mox_spool::Budget;
use mox_telemetry::Telemetry;

use crate::blocklists::Blocklists;
use crate::metrics::Metrics;
use crate::reports::{Recorder, Reports};
use crate::session::{Place, Session};

/// The sockets that the service listens on.
pub const KINDS: &[Kind] = &[Kind::Smtp];

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
    /// DNS can't be asked as the settings say.
    #[error(transparent)]
    Dns(#[from] SettingsError),
}

/// What the sessions share.
struct Shared {
    store: DeliveryServiceClient<Channel>,
    config: Arc<Static>,
    /// Names under which a listener of this host tells what was found out.
    hostnames: Vec<String>,
    /// For the key that hides ids of connections.
    cids: ConfigWatch,
    spool: Budget,
    /// None in developer's mode: nobody is asked.
    resolver: Option<Arc<dyn Resolver>>,
    blocklists: Blocklists,
    /// Reports that messages carry, and what is to be reported of messages.
    reports: Reports,
    /// What networks send.
    rates: MessageRates,
    clock: Clock,
    telemetry: Telemetry,
    metrics: Metrics,
}

/// The service.
pub struct Service {
    shared: Arc<Shared>,
    recorder: Recorder,
    sockets: Vec<Bound>,
    limits: ConnectionLimits,
}

impl Service {
    /// Builds the service.
    ///
    /// # Errors
    /// If the settings for DNS can't be used.
    pub async fn build(deps: Deps) -> Result<Self, Error> {
        let dns = &deps.static_config.dns;
        let resolver: Option<Arc<dyn Resolver>> = match deps.static_config.localserve {
            Some(_) => None,
            None => Some(Arc::new(SystemResolver::new(&Settings {
                servers: dns.servers.clone(),
                // Either is enough; who trusts a resolver has no need of another validation.
                validate: dns.validate && !dns.trust_ad,
                trust_ad: dns.trust_ad,
                trust_anchor_file: dns.trust_anchor_file.as_ref().map(|file| deps.config_dir.join(file)),
            })?)),
        };
        let limits = deps.static_config.limits(deps.service);
        let rates = MessageRates::new(&limits);
        let limits = ConnectionLimits::measured(&limits, deps.service, &deps.telemetry);
        let folder = deps.spool_folder();
        let (reports, recorder) = Reports::new(
            deps.store.clone(),
            !deps.static_config.no_outgoing_dmarc_reports,
            deps.clock.clone(),
            &deps.telemetry,
        );
        let shared = Shared {
            store: DeliveryServiceClient::new(deps.store),
            reports,
            spool: Budget::new(limits::SPOOL_BYTES, folder),
            resolver,
            rates,
            hostnames: hostnames(&deps.static_config),
            config: deps.static_config,
            blocklists: Blocklists::default(),
            cids: deps.config,
            clock: deps.clock,
            metrics: Metrics::register(&deps.telemetry),
            telemetry: deps.telemetry,
        };
        let sockets = deps.sockets.into_iter().filter(|b| KINDS.contains(&b.kind)).collect();
        Ok(Self {
            shared: Arc::new(shared),
            recorder,
            sockets,
            limits,
        })
    }

    /// Serves until the shutdown is over.
    ///
    /// # Errors
    /// If accepting connections ended before.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let recorder = tokio::spawn(self.recorder.run());
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
        // When the last session is gone, what is still to be recorded is.
        drop(self.shared);
        let _ = tokio::time::timeout(limits::RECORD_TIME, recorder).await;
        Ok(())
    }
}

/// The names of this host, and of its listeners that have their own.
fn hostnames(config: &Static) -> Vec<String> {
    let own = config
        .listeners
        .values()
        .filter_map(|listener| listener.hostname.as_ref());
    let all = own.chain([&config.hostname]).map(|name| name.ascii().to_owned());
    all.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
