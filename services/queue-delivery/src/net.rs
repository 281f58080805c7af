//! Connections out: made here, so that tests can put theirs in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mox_smtp::Stream;
use mox_tlspolicy::mtasts;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socks;

/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes connections.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to an address, through a proxy if one is given.
    async fn dial(&self, target: SocketAddr, proxy: Option<SocketAddr>) -> io::Result<Stream>;
}

/// Over TCP.
pub struct TcpDialer;

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, target: SocketAddr, proxy: Option<SocketAddr>) -> io::Result<Stream> {
        let connect = async {
            let mut stream = TcpStream::connect(proxy.unwrap_or(target)).await?;
            // Commands and replies are short, and wait for each other.
            stream.set_nodelay(true)?;
            if proxy.is_some() {
                socks::connect(&mut stream, target).await?;
            }
            Ok(Box::new(stream) as Stream)
        };
        timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")))
    }
}

/// For fetching policies, which is never done through a proxy.
pub(crate) struct ViaDialer(pub Arc<dyn Dialer>);

#[async_trait]
impl mtasts::Connect for ViaDialer {
    async fn connect(&self, to: SocketAddr) -> io::Result<mtasts::Stream> {
        Ok(Box::new(self.0.dial(to, None).await?))
    }
}
