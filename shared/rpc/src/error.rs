//! What can go wrong while setting up a side of a connection.

use std::path::PathBuf;

/// Why a listener, a channel or its certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address in the configuration is neither `host:port` nor `unix:/path`.
    #[error("address {0:?} is not understood: write host:port, [ipv6]:port or unix:/path/of/socket")]
    Endpoint(String),
    /// The address can't be listened on.
    #[error("listen on {endpoint} for calls of other services: {error}")]
    Bind {
        /// Where.
        endpoint: String,
        /// Why not.
        error: std::io::Error,
    },
    /// Another process answers on the unix socket.
    #[error("listen on {}: another process answers there already; stop it first", .0.display())]
    SocketInUse(PathBuf),
    /// Plaintext is for loopback only.
    #[error("{0} is not a loopback address: plaintext calls between services are refused there; configure [rpc.tls]")]
    PlaintextOutsideLoopback(String),
    /// The listener and the way of authenticating don't fit, such as TLS on a unix socket.
    #[error("a listener on {0} can't authenticate its callers in this way")]
    Mismatch(&'static str),
    /// A certificate, key or CA file can't be read or used.
    #[error("{what} {}: {why}", .path.display())]
    TlsFile {
        /// Which of the three files.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key, each well-formed, don't work together.
    #[error("certificate {} with key {}: {why}", .cert.display(), .key.display())]
    TlsPair {
        /// Of the certificate chain.
        cert: PathBuf,
        /// Of its key.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Accepting connections failed for good.
    #[error("accept a connection of another service: {0}")]
    Accept(std::io::Error),
}
