//! A session's side of a connection: a stream of bytes, and what is known about it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions: plain TCP, TLS, or what a test makes.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite + ?Sized> AsyncReadWrite for T {}

/// What sessions run over.
pub type BoxStream = Box<dyn AsyncReadWrite + Send + Unpin>;

/// What is known about a connection.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Names the connection in the log and in Received fields. Random, so unique without a counter that would have to
    /// survive restarts.
    pub cid: u64,
    /// The client; behind a proxy, as its PROXY header says.
    pub remote: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The group of the configuration that the socket is of.
    pub listener_name: Arc<str>,
    /// Once there is TLS.
    pub tls: Option<TlsInfo>,
}

/// What is known about a connection's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLS1.2` or `TLS1.3`.
    pub version: &'static str,
    /// By its standard name, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The name that the client asked for.
    pub sni: Option<String>,
    /// For channel binding of type tls-exporter (RFC 9266). TLS 1.3 only: before, it is unique only with an extension
    /// that can't be relied on.
    pub exporter: Option<[u8; 32]>,
    /// For channel binding of type tls-server-end-point (RFC 5929 §4): a hash of the certificate that was shown. None
    /// for certificates whose signature has no single hash.
    pub server_end_point: Option<Vec<u8>>,
    /// What the client showed, its own first. It has the private key of that one; nothing else in them was verified.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}

impl TlsInfo {
    /// By what the client's own public key is known, if it showed a certificate.
    #[must_use]
    pub fn public_key(&self) -> Option<crate::PublicKeyDigest> {
        crate::public_key_digest(self.peer_certificates.first()?)
    }
}
