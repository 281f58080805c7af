//! Any byte stream: TCP, TLS over it, or a pipe of a test.

use tokio::io::{AsyncRead, AsyncWrite};

/// What can be read from and written to.
pub trait AsyncStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncStream for T {}

/// One of them, whichever it is.
pub type Stream = Box<dyn AsyncStream>;
