//! Administration of what the store keeps: by the running server, or on the data of a stopped one.
//!
//! Commands see one client, whatever is behind it. When nothing answers on the server's socket, this process opens the
//! data itself, as the only one, and closes it in the end.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use mox_config::Static;
use mox_control::{Admin, ConfigFiles};
use mox_events::Bus;
use mox_proto::admin::v1::admin_service_client::AdminServiceClient;
use mox_rpc::{Channel, Endpoint, Identity};
use mox_service::Clock;
use mox_telemetry::Telemetry;
use rustix::process::geteuid;
use tonic::service::Routes;

use crate::context::{Context, folder_of};

/// A client, as generated.
pub type Client = AdminServiceClient<Channel>;

/// The folder of the store within a data directory.
pub const STORE: &str = mox_store::FOLDER;

/// Who does what is asked.
pub struct Admins {
    client: Client,
    /// Open as long as this is.
    _store: Option<mox_store::Service>,
}

impl Admins {
    /// The server that has this configuration, or else its data.
    ///
    /// # Errors
    /// If neither can be had.
    pub async fn open(context: &Context) -> Result<Self> {
        let (file, fixed) = context.load_static()?;
        let data = fixed.data_dir(&folder_of(&file));
        let socket = data.join(mox_control::SOCKET);
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Self::running(socket)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                if !data.join(STORE).is_dir() {
                    bail!(
                        "mox is not running with configuration {}, and {} has no data of mox: start it, or name its \
                         configuration with -config or MOXCONF",
                        file.display(),
                        data.display()
                    );
                }
                Self::stopped(&data, fixed, Some(folder_of(&file))).await
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => bail!(
                "connecting to {}: {e}: run this as the user that mox runs as, or as root",
                socket.display()
            ),
            Err(e) => bail!("connecting to {}: {e}", socket.display()),
        }
    }

    fn running(socket: PathBuf) -> Self {
        let channel = Channel::connect(Endpoint::Unix(socket), Identity::CLI, None);
        Self {
            client: Client::new(channel),
            _store: None,
        }
    }

    /// The data of a stopped server, and the folder of its configuration if that is known.
    ///
    /// # Errors
    /// If it is in use, or cannot be read.
    pub async fn stopped(data: &Path, fixed: Static, config_dir: Option<PathBuf>) -> Result<Self> {
        let config = config_dir.map(|dir| ConfigFiles::new(Arc::new(fixed.clone()), dir));
        let store = open_data(data, fixed).await?;
        let to_store = Channel::in_process(store.routes(), Identity::new("control"));
        let routes = Routes::new(Admin::new(to_store, config).server());
        Ok(Self {
            client: Client::new(Channel::in_process(routes, Identity::CLI)),
            _store: Some(store),
        })
    }

    /// A client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Opens the data of a stopped server, as the only one that uses it.
///
/// # Errors
/// If it is in use, or cannot be read.
pub async fn open_data(data: &Path, fixed: Static) -> Result<mox_store::Service> {
    let owner = std::fs::metadata(data.join(STORE))
        .with_context(|| format!("looking at {}", data.join(STORE).display()))?
        .uid();
    if geteuid().is_root() && owner != 0 {
        bail!(
            "{} belongs to user {owner}, and files that root writes there could not be read by mox: run this as that user \
             (su -s /bin/sh -c 'mox …' NAME)",
            data.display()
        );
    }
    mox_store::Service::open(mox_store::Config {
        data_dir: data.to_owned(),
        static_config: Arc::new(fixed),
        bus: Bus::in_process(),
        telemetry: Telemetry::detached(),
        clock: Clock::system(),
    })
    .await
    .with_context(|| format!("opening the data in {}", data.display()))
}

/// Runs work that needs a runtime.
///
/// # Errors
/// The work's.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(work)
}

/// What a refusal says.
pub fn told(status: &tonic::Status) -> anyhow::Error {
    if status.message().is_empty() {
        anyhow!("{}", status.code())
    } else {
        anyhow!("{}", status.message())
    }
}
