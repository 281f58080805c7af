//! The web server's process.
//!
//! Purpose: HTTP and HTTPS listeners, and what is reached by them. As yet these are the metrics of the configuration's
//! `metrics_http` listeners; other HTTP services that are enabled are named in the log as not served.
//!
//! Owns: nothing durable.
//!
//! Calls: the store, for the configuration.
//!
//! Trusts: nobody on its sockets. Metrics are given to whoever can connect, so the listener belongs on addresses that
//! are not reachable from outside.
//!
//! On failure: without store and control it waits for its first configuration, and later goes on with the one it has.

mod unserved;

use mox_service::{Bound, Deps, Kind, Shutdown};
use mox_telemetry::Telemetry;
use tokio::task::JoinSet;

/// The sockets that this service takes.
pub const KINDS: &[Kind] = &[Kind::Metrics];

/// Why the service can't be built or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket can't be used.
    #[error("use the socket for {kind} of listener \"{listener}\": {error}")]
    Socket {
        /// What for.
        kind: Kind,
        /// Of which listener.
        listener: String,
        /// Why not.
        error: std::io::Error,
    },
}

/// The built service.
pub struct Service {
    telemetry: Telemetry,
    config: mox_service::ConfigWatch,
    sockets: Vec<Bound>,
}

impl Service {
    /// Builds it.
    ///
    /// # Errors
    /// None yet; a socket that can't be used is one of [`Service::serve`].
    #[allow(clippy::unused_async)] // As every service's.
    pub async fn build(deps: Deps) -> Result<Service, Error> {
        for (listener, name) in unserved::of(&deps.static_config) {
            tracing::warn!(
                listener,
                service = name,
                "enabled in mox.toml, but not served by this version"
            );
        }
        Ok(Service {
            telemetry: deps.telemetry,
            config: deps.config,
            sockets: deps.sockets,
        })
    }

    /// Serves until the shutdown begins.
    ///
    /// # Errors
    /// If a socket fails for good.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        let mut serving = JoinSet::new();
        for bound in self.sockets {
            let (telemetry, shutdown) = (self.telemetry.clone(), shutdown.clone());
            serving.spawn(async move { metrics(&telemetry, bound, shutdown).await });
        }
        let mut config = self.config;
        loop {
            tokio::select! {
                () = shutdown.begun() => break,
                () = config.changed() => tracing::debug!(version = config.version(), "new configuration"),
                Some(ended) = serving.join_next() => {
                    if let Ok(Err(error)) = ended {
                        return Err(error);
                    }
                }
            }
        }
        // Requests that are being answered are finished; connections that idle are not waited for.
        tokio::select! {
            () = shutdown.deadline() => {}
            () = async { while serving.join_next().await.is_some() {} } => {}
        }
        Ok(())
    }
}

async fn metrics(telemetry: &Telemetry, bound: Bound, shutdown: Shutdown) -> Result<(), Error> {
    let failed = |error| Error::Socket {
        kind: bound.kind,
        listener: bound.listener_name.clone(),
        error,
    };
    let socket = bound.socket.try_clone().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
    telemetry
        .serve_metrics(listener, async move { shutdown.begun().await })
        .await
        .map_err(failed)
}
