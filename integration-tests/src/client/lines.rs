//! A connection, line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::client::deflate::Deflated;
use crate::client::tls;

/// Longer than any reply takes, also in a debug build on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What bytes travel over.
pub trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

/// A connection to a server that talks in lines.
pub struct Lines {
    reader: BufReader<Box<dyn Transport>>,
    /// The same socket, for its settings.
    socket: TcpStream,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Connects.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
        Self::of(stream)
    }

    /// Connects from an address of this host.
    ///
    /// # Errors
    /// If nothing listens there, or the address is not of this host.
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        let connect = || {
            let family = match address {
                SocketAddr::V4(_) => AddressFamily::INET,
                SocketAddr::V6(_) => AddressFamily::INET6,
            };
            let socket = socket(family, SocketType::STREAM, None)?;
            bind(&socket, &SocketAddr::new(from, 0))?;
            rustix::net::connect(&socket, &address)?;
            Ok::<_, rustix::io::Errno>(TcpStream::from(socket))
        };
        Self::of(connect().with_context(|| format!("connecting to {address} from {from}"))?)
    }

    fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let socket = stream.try_clone().context("duplicating a file descriptor")?;
        Ok(Self::over(Box::new(stream), socket))
    }

    /// Connects, and speaks TLS from the first byte. The server's certificate is not verified.
    ///
    /// # Errors
    /// If nothing listens there, or the handshake fails.
    pub fn connect_tls(address: SocketAddr) -> Result<Self> {
        let mut lines = Self::connect(address)?;
        lines.start_tls()?;
        Ok(lines)
    }

    fn over(transport: Box<dyn Transport>, socket: TcpStream) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, transport),
            socket,
        }
    }

    /// Speaks TLS from here on, as after STARTTLS. The server's certificate is not verified.
    ///
    /// # Errors
    /// If the handshake fails, or the server sent something in the clear that was not read.
    pub fn start_tls(&mut self) -> Result<()> {
        let socket = self.socket.try_clone().context("duplicating a file descriptor")?;
        let encrypted = tls::handshake(socket)?;
        self.change_transport(|_| Box::new(encrypted))
    }

    /// Compresses from here on, as after COMPRESS DEFLATE (RFC 4978).
    ///
    /// # Errors
    /// If the server sent something that was not read.
    pub fn deflate(&mut self) -> Result<()> {
        self.change_transport(|transport| Box::new(Deflated::new(transport)))
    }

    /// Puts another transport in place of, or around, the present one.
    ///
    /// # Errors
    /// If the server sent something that was not read.
    pub fn change_transport(&mut self, change: impl FnOnce(Box<dyn Transport>) -> Box<dyn Transport>) -> Result<()> {
        let unread = self.reader.buffer();
        if !unread.is_empty() {
            bail!("unread: {:?}", String::from_utf8_lossy(unread));
        }
        let nothing = BufReader::with_capacity(0, Box::new(std::io::empty()) as Box<dyn Transport>);
        let before = std::mem::replace(&mut self.reader, nothing).into_inner();
        self.reader = BufReader::with_capacity(64 << 10, change(before));
        Ok(())
    }

    /// How long reading waits for bytes.
    ///
    /// # Errors
    /// If it can't be set.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.socket.set_read_timeout(Some(timeout))?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let transport = self.reader.get_mut();
        transport.write_all(bytes.as_ref()).context("sending")?;
        transport.flush().context("sending")
    }

    /// The next line without its end.
    ///
    /// # Errors
    /// If the connection is gone, or nothing comes in time.
    pub fn line(&mut self) -> Result<String> {
        let line = self.line_bytes()?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The next line without its end, as it is.
    ///
    /// # Errors
    /// If the connection is gone, or nothing comes in time.
    pub fn line_bytes(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).context("reading")?;
        if line.pop() != Some(b'\n') {
            bail!("the connection was closed");
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
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
            // With unread input, closing resets the connection; and not everybody says goodbye in TLS.
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
                ) => {}
            Err(e) => return Err(e).context("waiting for the connection to be closed"),
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
