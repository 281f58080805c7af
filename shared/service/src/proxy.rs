//! Reading the PROXY header, by which a proxy says who its client is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mox_proxy_header::{Step, step};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A proxy sends its header at once.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Who connected to whom, as far as the proxy says: its own health checks come without.
pub(crate) type Addresses = Option<(SocketAddr, SocketAddr)>;

/// Reads the header, and nothing past it.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Addresses> {
    let mut header = Vec::new();
    loop {
        let next =
            step(&header).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("PROXY header: {why}")))?;
        match next {
            Step::Read(more) => {
                let start = header.len();
                header.resize(start + more, 0);
                stream.read_exact(&mut header[start..]).await?;
            }
            Step::Done(addresses) => return Ok(addresses.map(|a| (a.client, a.server))),
        }
    }
}
