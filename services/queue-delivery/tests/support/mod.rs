//! A store, hosts and a world around the service, all in this process.

#![allow(dead_code, reason = "each test uses a part")]

pub mod hosts;
pub mod receivers;
pub mod store;
pub mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hosts::Hosts;
use mox_config::{Dynamic, Static};
use mox_dns::ZoneResolver;
use mox_events::{Bus, Event};
use mox_queue_delivery::{Dialer, Service, World};
use mox_rpc::{Channel, Identity};
use mox_service::{Clock, ConfigWatch, Deps, ManualClock, Peers, Shutdown, ShutdownTrigger};
use mox_telemetry::Telemetry;
use store::FakeStore;
use tokio::task::JoinHandle;
use webhooks::FakeHooks;

/// A round time, for the eye.
pub const START: Duration = Duration::from_secs(1_700_000_000);

/// Everything around workers.
pub struct Scene {
    pub store: Arc<FakeStore>,
    pub hosts: Arc<Hosts>,
    pub hooks: Arc<FakeHooks>,
    /// In place of the hosts.
    pub dialer: Option<Arc<dyn Dialer>>,
    pub clock: Clock,
    pub hand: ManualClock,
    pub bus: Bus,
    pub fixed: Static,
    pub dynamic: Dynamic,
    zone: String,
    dir: tempfile::TempDir,
    stop: Vec<(ShutdownTrigger, JoinHandle<()>)>,
}

impl Scene {
    pub fn new(zone: &str) -> Self {
        let (clock, hand) = Clock::manual(start());
        let dir = tempfile::tempdir().unwrap();
        let fixed = Static::new(dir.path().join("data"), "mail.ours.example".parse().unwrap());
        Self {
            store: Arc::new(FakeStore::new(clock.clone())),
            hosts: Arc::default(),
            hooks: Arc::new(FakeHooks::new(clock.clone())),
            dialer: None,
            clock,
            hand,
            bus: Bus::in_process(),
            fixed,
            dynamic: Dynamic::default(),
            zone: zone.to_owned(),
            dir,
            stop: Vec::new(),
        }
    }

    /// Starts another worker.
    pub async fn worker(&mut self) {
        let (stop, shutdown) = Shutdown::new();
        let deps = Deps {
            service: "queue-delivery",
            static_config: Arc::new(self.fixed.clone()),
            config_dir: self.dir.path().to_owned(),
            config: ConfigWatch::fixed(self.dynamic.clone()),
            store: Channel::in_process(self.hooks.add_to(self.store.routes()), Identity::new("queue-delivery")),
            peers: Peers::default(),
            bus: self.bus.clone(),
            telemetry: Telemetry::detached(),
            clock: self.clock.clone(),
            sockets: Vec::new(),
            stop: stop.clone(),
        };
        let random = AtomicU64::new(1);
        let world = World {
            resolver: Arc::new(ZoneResolver::parse(&self.zone).unwrap()),
            dialer: self.dialer.clone().unwrap_or_else(|| self.hosts.clone()),
            random: Arc::new(move || random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)),
            smtp_port: 25,
        };
        let service = Service::build_in(deps, world).unwrap();
        let task = tokio::spawn(async move { service.serve(shutdown).await.unwrap() });
        self.stop.push((stop, task));
    }

    /// Tells workers that there is something.
    pub fn tell(&self) {
        self.bus.publish(&Event::QueueDue);
    }

    /// Waits until something holds; tokio's time may pass meanwhile.
    pub async fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(3600);
        while !holds(self) {
            assert!(tokio::time::Instant::now() < end, "waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the queue is empty.
    pub async fn drained(&self) {
        self.wait("an empty queue", |scene| scene.store.is_empty()).await;
    }

    /// Stops all workers.
    pub async fn end(self) -> Arc<FakeStore> {
        for (stop, task) in self.stop {
            stop.begin();
            task.await.unwrap();
        }
        self.store
    }
}

pub fn start() -> SystemTime {
    UNIX_EPOCH + START
}
