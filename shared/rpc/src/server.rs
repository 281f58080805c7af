//! Answering calls from other processes.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::connection::{FRAME_BYTES, KEEP_ALIVE, WINDOWS};
use crate::gate::{Gate, GateLayer};
use crate::{Endpoint, Error, Identity, ServerTls};

/// The caller's identity on plaintext loopback connections; everywhere else the header is dropped unread.
pub(crate) const CALLER_HEADER: &str = "mox-caller";

/// For a TLS handshake of another service.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Processes that call this one: far more than a deployment has, far fewer than file descriptors.
const MAX_CONNECTIONS: usize = 1024;

/// Calls at once on one connection: each session of the calling process may have a few.
const MAX_CALLS: u32 = 16_384;

/// Calls that a client gave up before they were begun. HTTP/2 servers take many of these for an attack and close the
/// connection, but clients here are ours, and sessions that end do just this.
const MAX_GIVEN_UP: usize = 16_384;

/// After shutdown began, calls that run get this long; streams that don't end by themselves are cut then.
const DRAIN: Duration = Duration::from_secs(3);

/// When accepting fails for lack of file descriptors, others are given time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where calls come in.
#[derive(Debug)]
pub enum Listener {
    /// From other hosts, or from this one.
    Tcp(TcpListener),
    /// From processes of this host; the file is removed when serving ends.
    Unix(UnixListener, PathBuf),
}

/// How callers prove who they are.
#[derive(Clone)]
pub enum ServerAuth {
    /// By the user of the process on the other end of a unix socket: ours or root, who act as [`Identity::CLI`].
    UnixPeer,
    /// By their word, on loopback only: see the crate's documentation.
    Loopback,
    /// By their certificate.
    MutualTls(Arc<ServerTls>),
}

impl Listener {
    /// Listens on an endpoint. A unix socket gets mode 0600; a file left behind by a process that is gone is replaced.
    ///
    /// # Errors
    /// If the address can't be used, or another process answers on the unix socket.
    pub async fn bind(endpoint: &Endpoint) -> Result<Listener, Error> {
        let failed = |error| Error::Bind {
            endpoint: endpoint.to_string(),
            error,
        };
        match endpoint {
            Endpoint::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await.map_err(failed)?)),
            Endpoint::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(Error::SocketInUse(path.clone()));
                }
                remove_socket(path).map_err(failed)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it listens, with the port that the system chose for port 0.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok().map(|a| Endpoint::Tcp(a.to_string())),
            Listener::Unix(_, path) => Some(Endpoint::Unix(path.clone())),
        }
    }
}

/// Removes what is at `path` if it is a socket; anything else is not ours to remove.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        )),
    }
}

/// Answers calls with `routes` until `shutdown` completes; then takes no new ones and gives those that run 3 seconds.
///
/// # Errors
/// If listener and authentication don't fit: plaintext on anything but loopback, above all.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    auth: ServerAuth,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    check(&listener, &auth)?;
    let server = Arc::new(Server {
        gate: GateLayer.layer(routes.prepare()),
        auth,
        draining: CancellationToken::new(),
        cut: CancellationToken::new(),
        room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    let connections = TaskTracker::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let Ok(permit) = Arc::clone(&server.room).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            biased;
            () = &mut shutdown => break,
            stream = accept(&listener) => stream,
        };
        match stream {
            Ok(stream) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    server.connection(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection of another service; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        let _ = std::fs::remove_file(path);
    }
    drop(listener);
    server.draining.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        server.cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// Whether [`serve`] would take this listener, so that a process can refuse to start.
///
/// # Errors
/// As [`serve`].
pub fn check(listener: &Listener, auth: &ServerAuth) -> Result<(), Error> {
    match (listener, auth) {
        (Listener::Unix(..), ServerAuth::UnixPeer) | (Listener::Tcp(_), ServerAuth::MutualTls(_)) => Ok(()),
        (Listener::Tcp(listener), ServerAuth::Loopback) => match listener.local_addr() {
            Ok(address) if address.ip().is_loopback() => Ok(()),
            Ok(address) => Err(Error::PlaintextOutsideLoopback(address.to_string())),
            Err(error) => Err(Error::Accept(error)),
        },
        (Listener::Unix(..), _) => Err(Error::Mismatch("a unix socket")),
        (Listener::Tcp(_), ServerAuth::UnixPeer) => Err(Error::Mismatch("TCP")),
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
    }
}

struct Server {
    gate: Gate,
    auth: ServerAuth,
    draining: CancellationToken,
    cut: CancellationToken,
    room: Arc<Semaphore>,
}

/// Where the identity of a connection's requests comes from.
#[derive(Clone)]
enum Who {
    Known(Identity),
    Header,
}

impl Server {
    async fn connection(&self, stream: Stream) {
        let result = match stream {
            Stream::Unix(stream) => match unix_peer(&stream) {
                Ok(()) => self.http(stream, Who::Known(Identity::CLI)).await,
                Err(error) => Err(error),
            },
            Stream::Tcp(stream) => match &self.auth {
                ServerAuth::MutualTls(tls) => {
                    let peer = stream.peer_addr().ok();
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok((stream, who))) => self.http(stream, Who::Known(who)).await,
                        Ok(Err(error)) => {
                            tracing::warn!(?peer, %error, "refused a connection of another service");
                            Ok(())
                        }
                        Err(_) => Err(io::ErrorKind::TimedOut.into()),
                    }
                }
                ServerAuth::Loopback | ServerAuth::UnixPeer => self.http(stream, Who::Header).await,
            },
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection of another service ended");
        }
    }

    async fn http<S>(&self, stream: S, who: Who) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let gate = self.gate.clone();
        let service =
            hyper::service::service_fn(move |request: Request<Incoming>| gate.clone().call(identified(request, &who)));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CALLS)
            .max_pending_accept_reset_streams(MAX_GIVEN_UP)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.cut.cancelled() => Ok(()),
                }
            }
        };
        ended.map_err(io::Error::other)
    }
}

/// The request with its caller's identity in the extensions.
fn identified(request: Request<Incoming>, who: &Who) -> Request<Body> {
    let mut request = request.map(Body::new);
    let header = request.headers_mut().remove(CALLER_HEADER);
    let identity = match who {
        Who::Known(identity) => Some(identity.clone()),
        Who::Header => header.and_then(|value| value.to_str().ok().map(Identity::new)),
    };
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    request
}

/// Lets in processes of our own user and of root.
fn unix_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    tracing::warn!(uid = peer, "refused a connection to the unix socket by another user");
    Err(io::ErrorKind::PermissionDenied.into())
}
