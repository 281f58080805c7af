//! What a service is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mox_rpc::Channel;

use crate::{Bound, Clock, ConfigWatch, ShutdownTrigger};

/// A service's world.
#[derive(Debug)]
pub struct Deps {
    /// Its name, which is also the identity it calls others with.
    pub service: &'static str,
    /// `mox.toml`.
    pub static_config: Arc<mox_config::Static>,
    /// The folder of `mox.toml`, where its relative paths start.
    pub config_dir: PathBuf,
    /// The dynamic configuration, kept current. Empty (version 0) for the store and for control, which have their own.
    pub config: ConfigWatch,
    /// The store, called as this service. The store itself must not use it.
    pub store: Channel,
    /// The other services, as far as this one knows where they are.
    pub peers: Peers,
    /// Events.
    pub bus: mox_events::Bus,
    /// Log levels, metrics, readiness.
    pub telemetry: mox_telemetry::Telemetry,
    /// Time.
    pub clock: Clock,
    /// Sockets of the kinds that the service asked for.
    pub sockets: Vec<Bound>,
    /// Stops the whole process.
    pub stop: ShutdownTrigger,
}

impl Deps {
    /// Where large messages are kept while they come: on the disk of the data, which is no file system in memory, or
    /// where the system has such files if this process has no data folder.
    #[must_use]
    pub fn spool_folder(&self) -> PathBuf {
        let folder = self.static_config.data_dir(&self.config_dir).join("tmp");
        match folder.parent().is_some_and(Path::is_dir) && std::fs::create_dir_all(&folder).is_ok() {
            true => folder,
            false => std::env::temp_dir(),
        }
    }
}

/// Channels to services by their name.
#[derive(Clone, Debug, Default)]
pub struct Peers(BTreeMap<String, Channel>);

impl Peers {
    /// Of these.
    #[must_use]
    pub fn new(channels: impl IntoIterator<Item = (String, Channel)>) -> Self {
        Self(channels.into_iter().collect())
    }

    /// The channel to one service.
    #[must_use]
    pub fn get(&self, service: &str) -> Option<Channel> {
        self.0.get(service).cloned()
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Channel)> {
        self.0.iter().map(|(name, channel)| (name.as_str(), channel))
    }
}
