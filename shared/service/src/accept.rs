//! From a bound socket to sessions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::limits::Permit;
use crate::stream::{BoxStream, ConnInfo};
use crate::{Bound, ConnectionLimits, Shutdown, proxy};

/// When accepting fails for lack of file descriptors or memory, sessions get time to end.
const PAUSE: Duration = Duration::from_millis(100);

/// For writing a refusal to a client that may not read.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client gets, in place of a greeting, when it can't be served. Protocols that begin with TLS get nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// There are too many connections from its network.
    pub busy: &'static [u8],
    /// The service is stopping.
    pub stopping: &'static [u8],
}

impl From<&'static [u8]> for Refusals {
    fn from(both: &'static [u8]) -> Self {
        Self {
            busy: both,
            stopping: both,
        }
    }
}

impl<const N: usize> From<&'static [u8; N]> for Refusals {
    fn from(both: &'static [u8; N]) -> Self {
        Self {
            busy: both,
            stopping: both,
        }
    }
}

/// Accepts at all of `sockets`, each with the sessions that `sessions` gives for it, until the shutdown is over; without
/// sockets too, as there may be sessions whose connections came another way.
///
/// # Errors
/// If accepting ended before.
pub async fn accept_all<F, Fut>(
    sockets: Vec<Bound>,
    limits: &ConnectionLimits,
    shutdown: &Shutdown,
    refuse: impl Into<Refusals>,
    sessions: impl Fn(&Bound) -> F,
) -> Result<(), JoinError>
where
    F: Fn(BoxStream, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let refusals = refuse.into();
    let mut listeners = JoinSet::new();
    for bound in sockets {
        let session = sessions(&bound);
        listeners.spawn(accept(bound, limits.clone(), shutdown.clone(), refusals, session));
    }
    while let Some(ended) = listeners.join_next().await {
        ended?;
    }
    shutdown.begun().await;
    Ok(())
}

/// Runs `session` for each connection until the shutdown begins; then refuses new ones while sessions end, and ends
/// those that are left at its deadline.
///
/// Kinds that begin with TLS are handshaken first, for at most 10 seconds. Connections from the listener's
/// `proxy_networks` must begin with a PROXY header; limits are for the client behind it. Each session is in a span with
/// its `cid`, so log lines within have it.
///
/// Returns when no session is left.
pub async fn accept<F, Fut>(
    bound: Bound,
    limits: ConnectionLimits,
    shutdown: Shutdown,
    refuse: impl Into<Refusals>,
    session: F,
) where
    F: Fn(BoxStream, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = match bound.socket.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, listener = bound.listener_name, kind = %bound.kind, "use a bound socket");
            return;
        }
    };
    let door = Arc::new(Door {
        listener_name: bound.listener_name.as_str().into(),
        bound,
        limits,
        refusals: refuse.into(),
        shutdown: shutdown.clone(),
        session,
    });
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.begun() => break,
            // Reaping as they end keeps the set no larger than what runs.
            Some(_) = sessions.join_next() => {}
            accepted = listener.accept() => door.admit(accepted, &mut sessions).await,
        }
    }
    while !sessions.is_empty() {
        tokio::select! {
            biased;
            () = shutdown.deadline() => break,
            _ = sessions.join_next() => {}
            accepted = listener.accept() => door.admit(accepted, &mut sessions).await,
        }
    }
    sessions.shutdown().await;
}

/// What connections come in by.
struct Door<F> {
    listener_name: Arc<str>,
    bound: Bound,
    limits: ConnectionLimits,
    refusals: Refusals,
    shutdown: Shutdown,
    session: F,
}

impl<F, Fut> Door<F>
where
    F: Fn(BoxStream, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    async fn admit(self: &Arc<Self>, accepted: io::Result<(TcpStream, SocketAddr)>, sessions: &mut JoinSet<()>) {
        match accepted {
            Ok((stream, remote)) => {
                let cid = rand::random::<u64>() >> 1;
                let kind = self.bound.kind.as_str();
                let span = tracing::info_span!("connection", cid = format_args!("{cid:x}"), kind);
                sessions.spawn(Arc::clone(self).connection(stream, remote, cid).instrument(span));
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(%error, listener = %self.listener_name, kind = %self.bound.kind, "accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// What is only needed at the beginning is boxed: the task keeps room for it as long as the session lasts.
    async fn connection(self: Arc<Self>, mut stream: TcpStream, remote: SocketAddr, cid: u64) {
        let Ok(local) = stream.local_addr() else { return };
        // Answers are written whole; waiting for more to send with them only delays them.
        let _ = stream.set_nodelay(true);
        let (remote, local) = match Box::pin(self.addresses(&mut stream, remote, local)).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::info!(%remote, %error, "refused a connection of a proxy");
                return;
            }
        };
        let permit = match self.limits.admit(remote.ip()) {
            Ok(permit) => permit,
            Err(why) => {
                tracing::info!(%remote, limit = ?why, "refused a connection over a limit");
                return Box::pin(self.refuse(stream, self.refusals.busy)).await;
            }
        };
        if self.shutdown.has_begun() {
            return Box::pin(self.refuse(stream, self.refusals.stopping)).await;
        }
        let info = ConnInfo {
            cid,
            remote,
            local,
            listener_name: Arc::clone(&self.listener_name),
            tls: None,
        };
        self.session(Box::new(stream), info, permit).await;
    }

    async fn session(&self, mut stream: BoxStream, mut info: ConnInfo, permit: Permit) {
        if self.bound.kind.is_implicit_tls() {
            let Some(tls) = &self.bound.tls else { return };
            stream = match Box::pin(crate::starttls(stream, tls, &mut info)).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(remote = %info.remote, %error, "connection ended before it began");
                    return;
                }
            };
        }
        tracing::debug!(remote = %info.remote, local = %info.local, "connection");
        (self.session)(stream, info).await;
        drop(permit);
    }

    /// Both ends of the connection, from the proxy if there is one before us.
    async fn addresses(
        &self,
        stream: &mut TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<(SocketAddr, SocketAddr)> {
        if !self
            .bound
            .listener
            .proxy_networks
            .iter()
            .any(|network| network.contains(remote.ip()))
        {
            return Ok((remote, local));
        }
        let header = tokio::time::timeout(proxy::TIMEOUT, proxy::read(stream)).await;
        Ok(header.map_err(|_| io::ErrorKind::TimedOut)??.unwrap_or((remote, local)))
    }

    async fn refuse(&self, mut stream: TcpStream, words: &[u8]) {
        if self.bound.kind.is_implicit_tls() {
            return;
        }
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, async {
            stream.write_all(words).await?;
            stream.shutdown().await
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
