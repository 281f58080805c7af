//! control: configuration and operations.
//!
//! **Purpose.** Takes the configuration from its files into the store, and does what the command line and the
//! administration pages ask for: accounts, addresses and domains, passwords, log levels, looking at the queue, stopping.
//!
//! **Owns** `domains.toml` and the file of the administrator's password, beside `mox.toml`. It validates the whole of a
//! changed file before any of it takes effect, looks for changes made by hand every second, and replaces files
//! atomically, with comments kept.
//!
//! **Calls** the store, which keeps the validated configuration for all services, accounts and the queue; and the
//! node service of every process.
//!
//! **Trust.** Callers are the command line, on a unix socket in the data directory that only the user of the server can
//! use, and `web` for its administrators. What it is told by them it still checks.
//!
//! **Failure.** Nothing but changes needs it to run. A file with errors is logged, line by line, and the old
//! configuration stays in force. While the store is away, a change stays in the file and is tried every second. A file
//! that is read-only makes changes fail with an error that says so.

mod admin;
mod admin_password;
mod aliases;
mod api;
mod config_files;
mod configuration;
mod domain;
mod edit;
mod file;
mod hooks;
mod keys;
mod nodes;
mod queue;
mod records;
mod reports;

use std::path::PathBuf;
use std::sync::Arc;

use mox_proto::auth::v1::auth_admin_service_client::AuthAdminServiceClient;
use mox_proto::control::v1::control_service_server::ControlServiceServer;
use mox_proto::queue::v1::queue_admin_service_client::QueueAdminServiceClient;
use mox_rpc::{Channel, Endpoint, Identity, Listener, ServerAuth};
use mox_service::{Deps, Shutdown};
use tonic::service::Routes;

pub use admin::Admin;
pub use admin_password::{
    ADMIN_PASSWORD_FILE, PASSWORD_MIN, PasswordError, admin_password_file, check_password, write_admin_password,
};
pub use config_files::ConfigFiles;
pub use configuration::{ChangeError, Configuration, InForce, check_keys};
pub use domain::{MadeKeys, MakeError, make_keys, make_private_dir, policy_id};
pub use edit::{Edit, EditError, NewDomain, NewSelector};
pub use file::{WriteError, replace};
pub use keys::{KeyError, PublicKey, new_ecdsa_p256, new_ed25519, new_rsa};
pub use records::{Records, RecordsError};

/// The command line's socket, in the data directory.
pub const SOCKET: &str = "ctl.sock";

/// The service's own name.
const NAME: &str = "control";

/// Name that the node of a process with all services has.
pub const SINGLE: &str = "mox";

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line's socket cannot be had.
    #[error("socket for the command line")]
    Socket(#[from] mox_rpc::Error),
    /// The data directory cannot be made.
    #[error("making data directory {folder}")]
    DataDir {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first configuration was not taken.
    #[error(transparent)]
    Configuration(#[from] ChangeError),
}

/// The service.
pub struct Service {
    api: api::Api,
    admin: Admin,
    queue: queue::QueueControl,
    hooks: hooks::Hooks,
    reports: reports::Reports,
    socket: PathBuf,
}

impl Service {
    /// Builds it. Nothing happens before [`Service::serve`], or [`Service::commit`]. The peers are the processes that it
    /// looks after; a single process is one, called [`SINGLE`].
    #[must_use]
    pub fn build(deps: Deps) -> Self {
        let mut nodes: Vec<nodes::Node> = deps
            .peers
            .iter()
            .filter(|(name, _)| *name != deps.service)
            .map(|(name, channel)| nodes::Node {
                name: name.to_owned(),
                channel: channel.clone(),
            })
            .collect();
        if deps.peers.get(SINGLE).is_none() {
            let own = mox_service::Node {
                service: deps.service.to_owned(),
                levels: deps.telemetry.levels.clone(),
                config: deps.config,
                transports: deps.static_config.transports.keys().cloned().collect(),
                stop: deps.stop.clone(),
            };
            let routes = mox_service::node(Routes::default(), own);
            let channel = Channel::in_process(routes, Identity::new(deps.service));
            nodes.push(nodes::Node {
                name: deps.service.to_owned(),
                channel,
            });
        }
        let socket = deps.static_config.data_dir(&deps.config_dir).join(SOCKET);
        let nodes: Arc<[nodes::Node]> = nodes.into();
        let queue_control = queue::QueueControl::new(deps.store.clone(), Arc::clone(&nodes));
        let config_files = ConfigFiles::new(Arc::clone(&deps.static_config), deps.config_dir.clone());
        let admin = Admin::new(deps.store.clone(), Some(config_files));
        let configuration = Arc::new(Configuration::new(
            deps.static_config,
            deps.config_dir,
            deps.store.clone(),
        ));
        let auth = AuthAdminServiceClient::new(deps.store.clone());
        let hooks = hooks::Hooks::new(deps.store.clone());
        let reports = reports::Reports::new(deps.store.clone());
        let queue = QueueAdminServiceClient::new(deps.store);
        Self {
            admin,
            queue: queue_control,
            hooks,
            reports,
            api: api::Api {
                configuration,
                queue,
                auth,
                nodes,
                stop: deps.stop,
            },
            socket,
        }
    }

    /// What it answers.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(ControlServiceServer::new(self.api.clone()))
            .add_service(self.admin.clone().server())
            .add_service(self.queue.clone().server())
            .add_service(aliases::Aliases::new(Arc::clone(&self.api.configuration)).server())
            .add_service(self.hooks.clone().server())
            .add_service(self.reports.clone().server())
    }

    /// Puts the file into force now, so that services that are started next have it. Answers its version.
    ///
    /// # Errors
    /// If it has errors, or the store does not take it.
    pub async fn commit(&self) -> Result<u64, Error> {
        Ok(self.api.configuration.reload().await?)
    }

    /// Watches the file, and answers on the command line's socket, until the shutdown begins and calls are done.
    ///
    /// # Errors
    /// If the socket cannot be had.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), Error> {
        if let Some(folder) = self.socket.parent() {
            make_private_dir(folder).map_err(|source| Error::DataDir {
                folder: folder.to_owned(),
                source,
            })?;
        }
        let listener = Listener::bind(&Endpoint::Unix(self.socket.clone())).await?;
        let begun = shutdown.clone();
        let serving = mox_rpc::serve(listener, self.routes(), ServerAuth::UnixPeer, async move {
            begun.begun().await;
        });
        tokio::select! {
            served = serving => served?,
            () = self.api.configuration.watch() => {}
        }
        Ok(())
    }
}
