//! Talking to the running server, through its socket in the data directory.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use mox_proto::control::v1::alias_service_client::AliasServiceClient;
use mox_proto::control::v1::control_service_client::ControlServiceClient;
use mox_proto::hook::v1::hook_control_service_client::HookControlServiceClient;
use mox_proto::queue::v1::queue_control_service_client::QueueControlServiceClient;
use mox_proto::report::v1::report_control_service_client::ReportControlServiceClient;
use mox_rpc::{Channel, Endpoint, Identity};

use crate::context::{Context, folder_of};

/// A client for the server, as generated.
pub type Client = ControlServiceClient<Channel>;
/// The same, for the queue.
pub type QueueClient = QueueControlServiceClient<Channel>;

/// The socket of the server that has this configuration.
///
/// # Errors
/// If the configuration cannot be read.
pub fn socket(context: &Context) -> Result<PathBuf> {
    let (file, fixed) = context.load_static()?;
    Ok(fixed.data_dir(&folder_of(&file)).join(mox_control::SOCKET))
}

/// Connects to the server, to see whether it runs.
///
/// # Errors
/// If it does not.
pub fn connect(context: &Context) -> Result<UnixStream> {
    let socket = socket(context)?;
    let config = context.config_file();
    UnixStream::connect(&socket).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "mox is not running with configuration {}: nothing answers on {}; start it, or name its configuration with \
             -config or MOXCONF",
            config.display(),
            socket.display()
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "connecting to {}: {e}: run this as the user that mox runs as, or as root",
            socket.display()
        ),
        _ => anyhow!("connecting to {}: {e}", socket.display()),
    })
}

/// Calls the server. What it refuses becomes an error with its text.
///
/// # Errors
/// If it does not run, or refuses.
pub fn call<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(Client) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    call_on(context, |channel| work(ControlServiceClient::new(channel)))
}

/// As [`call`], about the queue.
///
/// # Errors
/// As there.
pub fn call_queue<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(QueueClient) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    call_on(context, |channel| work(QueueControlServiceClient::new(channel)))
}

/// As [`call`], about aliases.
///
/// # Errors
/// As there.
pub fn call_alias<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(AliasServiceClient<Channel>) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    call_on(context, |channel| work(AliasServiceClient::new(channel)))
}

/// As [`call`], about webhooks.
///
/// # Errors
/// As there.
pub fn call_hooks<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(HookControlServiceClient<Channel>) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    call_on(context, |channel| work(HookControlServiceClient::new(channel)))
}

/// As [`call`], about reports.
///
/// # Errors
/// As there.
pub fn call_reports<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(ReportControlServiceClient<Channel>) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    call_on(context, |channel| work(ReportControlServiceClient::new(channel)))
}

fn call_on<T, F, Fut>(context: &Context, work: F) -> Result<T>
where
    F: FnOnce(Channel) -> Fut,
    Fut: Future<Output = Result<T, tonic::Status>>,
{
    connect(context)?;
    let socket = socket(context)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let channel = Channel::connect(Endpoint::Unix(socket), Identity::CLI, None);
        work(channel).await.map_err(|status| anyhow!("{}", told(&status)))
    })
}

/// What a refusal says.
fn told(status: &tonic::Status) -> String {
    if status.message().is_empty() {
        status.code().to_string()
    } else {
        status.message().to_owned()
    }
}
