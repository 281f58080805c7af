//! The service.

use std::sync::Arc;

use mox_dns::{Resolver, Settings, SettingsError, SystemResolver};
use mox_proto::hook::v1::hook_service_client::HookServiceClient;
use mox_proto::queue::v1::queue_service_client::QueueServiceClient;
use mox_service::{Deps, Shutdown};
use mox_spool::Budget;
use mox_tlspolicy::mtasts::Fetcher;
use mox_tlspolicy::{Trust, TrustError};
use rand::Rng;

use crate::hooks::{self, Caller, Client, HookMetrics};
use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::net::{Dialer, TcpDialer, ViaDialer};
use crate::reports::{Jobs, Poster};
use crate::secure::{Memory, Policies, SecurityMetrics};
use crate::session::{Outside, Random};
use crate::worker::{Inner, Worker};

/// Bytes of messages that are being sent.
const BUDGET_BYTES: u64 = 2 << 30;

/// Why the service can't be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The resolver.
    #[error("{0}; see [dns] in mox.toml")]
    Dns(#[from] SettingsError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TrustError),
}

/// What of the world outside can be replaced, for tests.
pub struct World {
    /// DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Connections.
    pub dialer: Arc<dyn Dialer>,
    /// A number, another at each call.
    pub random: Random,
    /// The port of a recipient's hosts.
    pub smtp_port: u16,
}

/// Brings messages of the outgoing queue to where they belong.
pub struct Service {
    worker: Worker,
    caller: Caller,
    policies: Arc<Policies>,
    reports: Jobs,
}

impl Service {
    /// From the settings and the store.
    ///
    /// # Errors
    /// If the settings can't be used.
    pub async fn build(deps: Deps) -> Result<Self, Error> {
        let dns = &deps.static_config.dns;
        let resolver = SystemResolver::new(&Settings {
            servers: dns.servers.clone(),
            // Either is enough; who trusts a resolver has no need of another validation.
            validate: dns.validate && !dns.trust_ad,
            trust_ad: dns.trust_ad,
            trust_anchor_file: dns.trust_anchor_file.as_ref().map(|file| deps.config_dir.join(file)),
        })?;
        let world = World {
            resolver: Arc::new(resolver),
            dialer: Arc::new(TcpDialer),
            random: Arc::new(|| rand::rng().random()),
            smtp_port: 25,
        };
        Self::build_in(deps, world)
    }

    /// As [`Service::build`], in another world.
    ///
    /// # Errors
    /// As there.
    pub fn build_in(deps: Deps, world: World) -> Result<Self, Error> {
        let folder = deps.spool_folder();
        let fixed = deps.static_config;
        let trust = Trust::load(&fixed.tls.ca, &deps.config_dir)?;
        let security = SecurityMetrics::new(&mut deps.telemetry.registry.lock());
        let policies = Arc::new(Policies::new(
            world.resolver.clone(),
            Fetcher::new(
                world.resolver.clone(),
                Arc::new(ViaDialer(world.dialer.clone())),
                trust.verified(),
            ),
            Arc::new(Memory::new(deps.store.clone(), deps.clock.clone())),
            security.clone(),
        ));
        let hostname = fixed.hostname.ascii().to_owned();
        let name = format!(
            "queue-delivery-{:016x}{:016x}",
            rand::rng().random::<u64>(),
            rand::rng().random::<u64>()
        );
        let reports = Jobs::new(
            name.clone(),
            deps.store.clone(),
            Arc::clone(&fixed),
            deps.config.clone(),
            Arc::clone(&world.resolver),
            deps.clock.clone(),
            Poster::new(world.resolver.clone(), world.dialer.clone(), &trust.verified()),
            &mut deps.telemetry.registry.lock(),
        );
        let mut outside = Outside::new(
            hostname,
            world.resolver,
            world.dialer,
            trust,
            policies.clone(),
            security,
            world.random.clone(),
        );
        outside.smtp_port = world.smtp_port;
        let metrics = Metrics::new(&mut deps.telemetry.registry.lock());
        let caller = Caller::new(hooks::Inner {
            name: name.clone(),
            store: HookServiceClient::new(deps.store.clone()),
            bus: deps.bus.clone(),
            clock: deps.clock.clone(),
            config: deps.config.clone(),
            client: Client::new(outside.dialer.clone(), &outside.trust.verified()),
            metrics: HookMetrics::new(&mut deps.telemetry.registry.lock()),
            random: world.random.clone(),
        });
        let worker = Worker::new(Inner {
            name,
            store: QueueServiceClient::new(deps.store),
            bus: deps.bus,
            clock: deps.clock,
            fixed,
            config: deps.config,
            outside,
            leases: Leases::default(),
            budget: Budget::new(BUDGET_BYTES, folder),
            metrics,
            random: world.random,
            given_back: std::sync::atomic::AtomicI64::new(i64::MAX),
        });
        Ok(Self {
            worker,
            caller,
            policies,
            reports,
        })
    }

    /// Works until shutdown.
    ///
    /// # Errors
    /// None so far.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let work = async {
            tokio::join!(
                self.worker.run(shutdown.clone()),
                self.caller.run(shutdown.clone()),
                self.reports.run(shutdown)
            )
        };
        tokio::select! {
            _ = work => {}
            () = self.policies.refresh() => {}
        }
        Ok(())
    }
}
