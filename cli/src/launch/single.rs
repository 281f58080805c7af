//! Builds the services, connects them, and runs them until the end.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use mox_config::Static;
use mox_events::Bus;
use mox_proto::config::v1::config_admin_service_client::ConfigAdminServiceClient;
use mox_proto::config::v1::{ListAccountsRequest, SetPasswordRequest};
use mox_rpc::{Channel, Identity};
use mox_service::{Bound, Clock, ConfigWatch, Deps, GRACE, Kind, Node, Peers, Shutdown, ShutdownTrigger};
use mox_telemetry::Telemetry;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::context::folder_of;
use crate::launch::local;

/// From the deadline of a shutdown to the end of a service that does not end.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// The configuration is in the store before anybody asks for it, so this only bounds a defect.
const CONFIG_WAIT: Duration = Duration::from_secs(30);

/// What the process is for.
pub enum Purpose {
    /// A server.
    Serve,
    /// A developer's server.
    Local {
        /// What is printed when it serves.
        banner: String,
    },
}

/// Runs all services on these sockets until SIGTERM, SIGINT, or `mox stop`.
///
/// # Errors
/// If a service does not start, or ends before it should.
pub fn run(file: &Path, fixed: Static, sockets: Vec<Bound>, purpose: Purpose) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let fixed = Arc::new(fixed);
        let telemetry = Telemetry::start(&mox_service::settings("mox", &fixed)?)?;
        let (stop, shutdown) = Shutdown::new();
        mox_service::on_signals(stop.clone())?;
        let world = World {
            config_dir: folder_of(file),
            fixed,
            bus: Bus::in_process(),
            telemetry: telemetry.clone(),
            stop,
            shutdown,
        };
        let result = world.run(sockets, purpose).await;
        telemetry.stop().await;
        result
    })
}

/// What all services share.
struct World {
    config_dir: std::path::PathBuf,
    fixed: Arc<Static>,
    bus: Bus,
    telemetry: Telemetry,
    stop: ShutdownTrigger,
    shutdown: Shutdown,
}

impl World {
    fn deps(&self, service: &'static str, store: &Routes, config: &ConfigWatch, sockets: Vec<Bound>) -> Deps {
        Deps {
            service,
            static_config: Arc::clone(&self.fixed),
            config_dir: self.config_dir.clone(),
            config: config.clone(),
            store: Channel::in_process(store.clone(), Identity::new(service)),
            peers: Peers::default(),
            bus: self.bus.clone(),
            telemetry: self.telemetry.clone(),
            clock: Clock::system(),
            sockets,
            stop: self.stop.clone(),
        }
    }

    async fn run(self, sockets: Vec<Bound>, purpose: Purpose) -> Result<()> {
        // The store stops last, since the others finish with its help.
        let (stop_store, store_shutdown) = Shutdown::new();
        let nothing = ConfigWatch::none();
        let store = mox_store::Service::build(self.deps("store", &Routes::default(), &nothing, Vec::new())).await;
        let store = store.context("starting store")?;
        let routes = store.routes();
        let mut storing = tokio::spawn(store.serve(store_shutdown));

        let served = tokio::select! {
            served = self.run_on(&routes, sockets, purpose) => served,
            ended = &mut storing => {
                self.stop.finish();
                return Err(early("store", ended));
            }
        };
        stop_store.finish();
        let ended = tokio::time::timeout(LAST_WAIT, storing)
            .await
            .map_err(|_| anyhow!("the store did not end in time"));
        served.and(ended?.context("the store panicked")?.context("ending store"))
    }

    /// Everything but the store.
    async fn run_on(&self, store: &Routes, mut sockets: Vec<Bound>, purpose: Purpose) -> Result<()> {
        let channel = Channel::in_process(store.clone(), Identity::new("control"));
        let mut deps = self.deps("control", store, &ConfigWatch::none(), Vec::new());
        let config = ConfigWatch::follow(channel.clone(), &self.bus);
        let node = Node {
            service: mox_control::SINGLE.to_owned(),
            levels: self.telemetry.levels.clone(),
            config: config.clone(),
            transports: self.fixed.transports.keys().cloned().collect(),
            stop: self.stop.clone(),
        };
        let node = mox_service::node(Routes::default(), node);
        let node = Channel::in_process(node, Identity::new("control"));
        deps.peers = Peers::new([(mox_control::SINGLE.to_owned(), node)]);
        let control = mox_control::Service::build(deps);
        control.commit().await.context("taking over the configuration")?;
        let received = tokio::time::timeout(CONFIG_WAIT, config.received()).await;
        received.map_err(|_| anyhow!("the store did not give back the configuration"))?;
        if matches!(purpose, Purpose::Local { .. }) {
            first_password(channel)
                .await
                .context("setting the password of the account mox")?;
        }

        let mut services = Services::new(self.shutdown.clone());
        let mut take = |kinds: &[Kind]| -> Vec<Bound> {
            let (taken, rest) = std::mem::take(&mut sockets)
                .into_iter()
                .partition(|b| kinds.contains(&b.kind));
            sockets = rest;
            taken
        };
        macro_rules! start {
            ($name:literal, $service:ident, $kinds:expr) => {{
                let deps = self.deps($name, store, &config, take($kinds));
                let built = $service::Service::build(deps).await;
                services.spawn(
                    $name,
                    built.context(concat!("starting ", $name))?,
                    $service::Service::serve,
                );
            }};
        }
        start!("queue-delivery", mox_queue_delivery, &[]);
        start!("submission", mox_submission, &[Kind::Submission, Kind::Submissions]);
        start!("smtp-in", mox_smtp_in, &[Kind::Smtp]);
        start!("imap", mox_imap, &[Kind::Imap, Kind::Imaps]);
        start!("acme", mox_acme, &[]);
        start!("web", mox_web, &[Kind::Metrics]);
        services.spawn("control", control, mox_control::Service::serve);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
        if let Purpose::Local { banner } = purpose {
            print!("{banner}");
        }
        let result = services.until_end(&self.stop).await;
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }
}

/// Gives the account of localserve its password, unless it has one.
async fn first_password(channel: Channel) -> Result<()> {
    let mut store = ConfigAdminServiceClient::new(channel);
    let accounts = store.list_accounts(ListAccountsRequest {}).await?.into_inner().accounts;
    if accounts
        .iter()
        .any(|a| a.name == local::ACCOUNT && !a.disabled && !a.has_password)
    {
        let (account, password) = (local::ACCOUNT.to_owned(), local::PASSWORD.to_owned());
        store
            .set_password(SetPasswordRequest {
                key: mox_rpc::key(),
                account,
                password,
            })
            .await?;
    }
    Ok(())
}

/// A service that ended though nobody asked it to.
fn early<E: Into<anyhow::Error>>(name: &str, ended: Result<Result<(), E>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Err(panic) => anyhow::Error::from(panic).context(format!("{name} failed")),
        Ok(Err(error)) => error.into().context(format!("{name} failed")),
        Ok(Ok(())) => anyhow!("{name} ended though nobody asked it to"),
    }
}

/// The services that run.
struct Services {
    shutdown: Shutdown,
    running: JoinSet<(&'static str, Result<()>)>,
}

impl Services {
    fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            running: JoinSet::new(),
        }
    }

    fn spawn<S, F, Fut, E>(&mut self, name: &'static str, service: S, serve: F)
    where
        F: FnOnce(S, Shutdown) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let serving = serve(service, self.shutdown.clone());
        self.running
            .spawn(async move { (name, serving.await.map_err(Into::into)) });
    }

    /// Waits until all have ended: when the shutdown was begun, or one fails.
    async fn until_end(mut self, stop: &ShutdownTrigger) -> Result<()> {
        let mut result = Ok(());
        let shutdown = self.shutdown.clone();
        let give_up = async {
            shutdown.begun().await;
            tracing::info!("stopping");
            tokio::time::sleep(GRACE + LAST_WAIT).await;
        };
        let mut give_up = std::pin::pin!(give_up);
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next() => ended,
                () = &mut give_up => {
                    tracing::error!(services = self.running.len(), "services did not end in time, and are ended");
                    return result;
                }
            };
            let Some(ended) = ended else { return result };
            let (name, ended) = match ended {
                Ok((name, ended)) => (name, Ok(ended)),
                Err(panic) => ("a service", Err(panic)),
            };
            let unasked = !self.shutdown.has_begun();
            let failed = !matches!(ended, Ok(Ok(())));
            if unasked || failed {
                let error = early(name, ended);
                tracing::error!(error = format!("{error:#}"), "stopping, since a service is missing");
                if result.is_ok() {
                    result = Err(error);
                }
                stop.begin();
            }
        }
    }
}
