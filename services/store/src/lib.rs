//! Store: keeps every durable byte of the system.
//!
//! **Purpose.** Accounts and their credentials, mailboxes, messages and their change log, the outgoing queue, webhooks,
//! and the committed configuration. What it answered with success is on disk, and is kept exactly once, whatever is killed at
//! whatever moment.
//!
//! **Owns** the folder `store` of the data directory, mode 0700: a lock file with the pid of the process that uses it,
//! and the database. Only one process opens it.
//!
//! **Calls** nobody. It never reaches outside, and does not ask DNS. It publishes events that something changed, as
//! hints.
//!
//! **Trusts** the transport for who calls ([`mox_rpc`]), and nobody's claim of an account: calls about mail and sending
//! carry a token that [`auth`] gave for a password, bound to the account and to the service that asked.
//!
//! **On failure.** When the disk has less free than `reserve_bytes`, whatever would take more is refused with
//! `RESOURCE_EXHAUSTED` ("disk"), and deleting still works. When a write fails for any other reason, the process ends
//! with status 74 ([`engine::EXIT_IO`]), since nothing it would answer from then on could be promised; the next start
//! recovers all that was acknowledged. Sessions survive a restart, but for those of the last quarter of a second.
//!
//! ```text
//! auth  registry  mail  delivery  queue  hook  admin  gRPC services
//!       search                                 which messages have a text, kept up in the background
//!            account                           one writer an account, change log, index
//!       content   idempotency                  bytes of messages; results of changes
//!                engine                        ordered keys, snapshots, synced conditional commits
//! ```

pub mod account;
pub mod admin;
pub mod auth;
pub mod content;
pub mod delivery;
pub mod engine;
pub mod hook;
pub mod idempotency;
pub mod junk;
pub mod keys;
pub mod mail;
mod maintenance;
mod metrics;
pub mod policy;
pub mod queue;
pub mod registry;
pub mod report;
mod schema;
pub mod search;
pub mod verify;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mox_config::Static;
use mox_events::Bus;
use mox_proto::delivery::v1::delivery_service_server::DeliveryServiceServer;
use mox_proto::mail::v1::mail_service_server::MailServiceServer;
use mox_rpc::Identity;
use mox_service::{CidKey, Clock, Deps, Shutdown};
use mox_telemetry::Telemetry;
use tonic::Status;
use tonic::service::Routes;

use crate::account::Accounts;
use crate::admin::StoreAdmin;
use crate::auth::{AuthAdminApi, AuthApi, Authenticator, Hasher, Journal, Limits, Logins, Sessions};
use crate::content::{Collector, Contents, EngineBlobs};
use crate::delivery::Delivery;
use crate::engine::{Db, OpenError, Options, RocksEngine};
use crate::hook::HookApi;
use crate::junk::Junk;
use crate::mail::Mail;
use crate::policy::Policies;
use crate::queue::{AdminApi, Queue, QueueApi, SubmitApi};
use crate::registry::{ConfigAdminApi, ConfigApi, Registry, RegistryError};
use crate::report::{ReportAdminApi, ReportApi, ReportJobApi, Reports};
use crate::search::Indexer;

/// The folder within the data directory.
pub const FOLDER: &str = "store";
/// Protocols whose logins have limits of their own, by the name of their section of the limits.
const PROTOCOLS: [&str; 3] = ["imap", "submission", "web"];
/// How long running calls get to finish, when the process stops, before the database is closed under them.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Why the store could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database is of another version.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// What is in it cannot be read.
    #[error("reading accounts and configuration: {0}")]
    Registry(#[from] RegistryError),
    /// The engine failed.
    #[error("reading the database: {0}")]
    Engine(#[from] engine::EngineError),
    /// A task of the runtime failed.
    #[error("opening the database: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What the store is built of.
pub struct Config {
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// `mox.toml`.
    pub static_config: Arc<Static>,
    /// Events.
    pub bus: Bus,
    /// Metrics and health.
    pub telemetry: Telemetry,
    /// Time.
    pub clock: Clock,
}

/// The store, open.
pub struct Service {
    parts: Parts,
    bus: Bus,
    clock: Clock,
}

/// What there is behind the services. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The key space.
    pub db: Db,
    /// Bytes of messages.
    pub contents: Contents,
    /// Mail of accounts.
    pub accounts: Accounts,
    /// The outgoing queue.
    pub queue: Queue,
    /// Accounts and configuration.
    pub registry: Registry,
    /// Reports of others, and what is to be reported to others.
    pub reports: Reports,
    /// Who is logged in.
    pub sessions: Sessions,
    /// Logging in.
    pub authenticator: Authenticator,
    /// What is written behind of sessions and logins.
    pub journal: Journal,
    /// Derives what is kept of passwords.
    pub hasher: Hasher,
    /// Telling junk by its words.
    pub junk: Junk,
    /// Hides ids of connections.
    pub cids: CidKey,
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
}

impl Service {
    /// Opens the store.
    ///
    /// # Errors
    /// If another process uses the data, or it cannot be read.
    pub async fn build(deps: Deps) -> Result<Self, Error> {
        let data_dir = deps.static_config.data_dir(&deps.config_dir);
        Self::open(Config {
            data_dir,
            static_config: deps.static_config,
            bus: deps.bus,
            telemetry: deps.telemetry,
            clock: deps.clock,
        })
        .await
    }

    /// As [`Service::build`], of what it needs only.
    ///
    /// # Errors
    /// As [`Service::build`].
    pub async fn open(config: Config) -> Result<Self, Error> {
        let Config {
            data_dir,
            static_config,
            bus,
            telemetry,
            clock,
        } = config;
        let settings = &static_config.store;
        let mut options = Options::new(data_dir.join(FOLDER));
        options.cache_bytes = usize::try_from(settings.cache_bytes).unwrap_or(usize::MAX);
        options.reserve_bytes = settings.reserve_bytes;
        options.prime_log = true;
        let engine = Arc::new(tokio::task::spawn_blocking(move || RocksEngine::open(&options)).await??);
        metrics::register(&engine, &mut telemetry.registry.lock());
        let db: Db = engine;
        schema::bring_up(&db, &data_dir.join(FOLDER), clock.now()).await?;
        admin::scratch::clear(&data_dir);

        let millis: content::NowMillis = {
            let clock = clock.clone();
            Arc::new(move || clock.unix_millis())
        };
        let seconds: account::Now = {
            let clock = clock.clone();
            Arc::new(move || clock.unix_millis().div_euclid(1000))
        };
        let sessions = Sessions::default();
        let hasher = Hasher::new();
        let registry = Registry::open(db.clone(), bus.clone(), millis.clone(), sessions.clone()).await?;
        let quota: account::Quota = {
            let registry = registry.clone();
            Arc::new(move |name| registry.current().quota(name))
        };
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), millis.clone());
        let accounts = Accounts::new(db.clone(), quota, seconds, account::INDEX_BYTES);
        metrics::register_search(accounts.text(), &mut telemetry.registry.lock());
        let queue = Queue::new(
            db.clone(),
            contents.clone(),
            accounts.clone(),
            bus.clone(),
            millis.clone(),
        );
        let settings = queue::Settings {
            config: {
                let registry = registry.clone();
                Arc::new(move || registry.current().dynamic.clone())
            },
            accounts: {
                let registry = registry.clone();
                Arc::new(move |name| registry.current().id(name))
            },
            hostname: static_config.hostname.ascii().to_owned(),
        };
        queue.configure(settings);
        let reports = Reports::new(db.clone(), queue.clone(), registry.clone(), millis.clone());
        reports.register(&mut telemetry.registry.lock());
        let logins = Logins::default();
        let journal = Journal::new(db.clone(), clock.clone(), sessions.clone(), logins.clone());
        journal.restore(&registry).await?;
        let authenticator = Authenticator::new(
            db.clone(),
            registry.clone(),
            sessions.clone(),
            hasher.clone(),
            logins,
            millis,
            login_limits(&static_config),
        )
        .await?;
        authenticator.register(&mut telemetry.registry.lock());
        let junk_rules: account::JunkRulesOf = {
            let registry = registry.clone();
            Arc::new(move |name| account::JunkRules::new(registry.current().dynamic.clone(), name))
        };
        accounts.set_junk_rules(junk_rules);
        let cids = CidKey::derive(&auth::secret(&db).await?);
        let junk = Junk::new(accounts.clone(), contents.clone(), registry.clone());
        let parts = Parts {
            db,
            contents,
            accounts,
            queue,
            registry,
            reports,
            sessions,
            authenticator,
            journal,
            hasher,
            junk,
            cids,
            data_dir,
        };
        Ok(Self { parts, bus, clock })
    }

    /// What is behind the services.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// All gRPC services.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let Parts {
            contents,
            accounts,
            queue,
            registry,
            reports,
            sessions,
            authenticator,
            journal,
            hasher,
            db,
            cids,
            ..
        } = self.parts.clone();
        let config: queue::Config = {
            let registry = registry.clone();
            Arc::new(move || registry.current().dynamic.clone())
        };
        let submitters = Arc::new(sessions.clone());
        let mut routes = Routes::builder();
        routes
            .add_service(ConfigApi::new(registry.clone(), cids).server())
            .add_service(ConfigAdminApi::new(registry.clone(), accounts.clone(), queue.clone(), hasher, cids).server())
            .add_service(AuthApi::new(authenticator).server())
            .add_service(
                AuthAdminApi::new(
                    db.clone(),
                    registry.clone(),
                    sessions.clone(),
                    journal,
                    self.clock.clone(),
                )
                .server(),
            )
            .add_service(DeliveryServiceServer::new(
                Delivery::new(accounts.clone(), contents.clone(), registry.clone()).notifying(queue.clone()),
            ))
            .add_service(HookApi::new(queue.hooks().clone()).server())
            .add_service(hook::AdminApi::new(queue.hooks().clone()).server())
            .add_service(MailServiceServer::new(Mail::new(accounts, contents, sessions)))
            .add_service(SubmitApi::new(queue.clone(), submitters, config).server())
            .add_service(QueueApi::new(queue.clone()).server())
            .add_service(Policies::new(db.clone(), self.clock.clone()).server())
            .add_service(AdminApi::new(queue).server())
            .add_service(ReportApi::server(reports.clone()))
            .add_service(ReportJobApi::server(reports.clone()))
            .add_service(ReportAdminApi::server(reports))
            .add_service(StoreAdmin::new(self.parts.clone()).server());
        routes.routes()
    }

    /// Does what is to be done in the background, until the process stops.
    ///
    /// # Errors
    /// None at present.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let Self { parts, bus, clock } = self;
        let collector = Collector::new(parts.contents.clone());
        let indexer = Indexer::new(parts.accounts.clone(), parts.contents.clone());
        let background = async {
            tokio::join!(
                parts.registry.follow(parts.accounts.clone(), parts.queue.clone()),
                parts.accounts.purge_when_asked(),
                parts.accounts.exchange_events(bus),
                indexer.run(),
                maintenance::collect(&parts.db, &collector, &parts.queue, &clock),
                maintenance::tidy_rejects(&parts.registry, &parts.accounts, &clock),
                parts.journal.keep(),
                parts.junk.run(),
                parts.reports.run(&clock),
            );
        };
        tokio::select! {
            () = background => {}
            () = shutdown.begun() => {}
        }
        // Sessions of the others are finishing their last calls.
        let _ = tokio::time::timeout(CLOSE_WAIT, shutdown.deadline()).await;
        if let Err(error) = parts.journal.write().await {
            tracing::warn!(%error, "writing sessions and logins at the end");
        }
        Ok(())
    }
}

/// Limits on logins by protocol; those of the empty name are for all others.
fn login_limits(config: &Static) -> HashMap<String, Limits> {
    let of = |name: &str| {
        let limits = config.limits(name);
        Limits {
            failures: limits.failed_logins_per_minute,
            sessions: limits.sessions_per_account,
        }
    };
    PROTOCOLS
        .iter()
        .chain(&[""])
        .map(|name| ((*name).to_owned(), of(name)))
        .collect()
}

#[async_trait]
impl queue::Sessions for Sessions {
    async fn submitter(&self, token: &[u8], caller: &Identity) -> Result<queue::Submitter, Status> {
        let session = self.check(token, caller).await?;
        Ok(queue::Submitter {
            id: session.account,
            name: session.name.to_string(),
            login: session.login_address.to_string(),
        })
    }
}
