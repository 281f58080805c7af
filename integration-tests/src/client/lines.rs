//! A connection, line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longer than any reply takes, also in a debug build on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a server that talks in lines.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    /// Connects.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            reader: BufReader::with_capacity(64 << 10, stream),
        })
    }

    /// How long reading waits for bytes.
    ///
    /// # Errors
    /// If it can't be set.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.reader.get_ref().set_read_timeout(Some(timeout))?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref()).context("sending")
    }

    /// The next line without its end.
    ///
    /// # Errors
    /// If the connection is gone, or nothing comes in time.
    pub fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).context("reading")?;
        if !line.ends_with(b"\n") {
            bail!("the connection was closed");
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Exactly so many bytes.
    ///
    /// # Errors
    /// If the connection is gone, or nothing comes in time.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).context("reading")?;
        Ok(bytes)
    }

    /// Everything until the other side closes the connection.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn rest(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Ok(_) => {}
            // With unread input, closing resets the connection.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(e) => return Err(e).context("waiting for the connection to be closed"),
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
