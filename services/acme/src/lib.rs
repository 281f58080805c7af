//! The process for certificates.
//!
//! Purpose: to get and renew certificates (RFC 8555). As yet listeners take theirs from files (`key_certs`), and this
//! process says in the log which listeners ask for ACME in vain.
//!
//! Owns: nothing durable.
//!
//! Calls: the store, for the configuration.
//!
//! Trusts: the store and control, no one else: it listens on no public socket.
//!
//! On failure: nothing depends on it but renewals.

use mox_service::{ConfigWatch, Deps, Kind, Shutdown};

/// The sockets that this service takes.
pub const KINDS: &[Kind] = &[];

/// Why the service can't be built or go on. There is no reason yet.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// The built service.
pub struct Service {
    config: ConfigWatch,
}

impl Service {
    /// Builds it.
    ///
    /// # Errors
    /// None yet.
    #[allow(clippy::unused_async)] // As every service's.
    pub async fn build(deps: Deps) -> Result<Service, Error> {
        for (listener, config) in &deps.static_config.listeners {
            if let Some(provider) = config.tls.as_ref().and_then(|tls| tls.acme.as_deref()) {
                tracing::warn!(
                    listener,
                    provider,
                    "this version gets no certificates: use tls.key_certs in mox.toml"
                );
            }
        }
        Ok(Service { config: deps.config })
    }

    /// Runs until the shutdown begins.
    ///
    /// # Errors
    /// None yet.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let mut config = self.config;
        loop {
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                () = config.changed() => tracing::debug!(version = config.version(), "new configuration"),
            }
        }
    }
}
