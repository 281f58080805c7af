//! TLS on the sending side.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mox_sasl::ChannelBindings;
use rustls::pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ClientError;
use crate::stream::Stream;

/// RFC 9266 §2: the label, with an empty context, and 32 octets.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const EXPORTER_LENGTH: usize = 32;

/// What a handshake agreed on.
#[derive(Debug, Clone)]
pub struct TlsDetails {
    /// "TLS1.3", "TLS1.2".
    pub version: &'static str,
    /// Cipher suite, as its standard names it.
    pub cipher: String,
    /// For mechanisms that bind to the connection: the exporter, of TLS 1.3 only (RFC 9266 §1).
    pub channel_bindings: ChannelBindings,
    /// The server's certificate, and those that it sent with it.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}

/// Makes a TLS connection of `stream`. What is verified is up to `config`.
///
/// # Errors
/// If the handshake fails or takes longer than `limit`.
pub async fn handshake(
    stream: Stream,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    limit: Duration,
) -> Result<(Stream, TlsDetails), ClientError> {
    let stream = timeout(limit, TlsConnector::from(config).connect(name, stream))
        .await
        .map_err(|_| ClientError::Tls(io::Error::new(io::ErrorKind::TimedOut, "handshake took too long")))?
        .map_err(ClientError::Tls)?;
    let (_, session) = stream.get_ref();
    let tls13 = session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    let exporter = tls13.then(|| {
        session
            .export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, Some(&[]))
            .ok()
    });
    let details = TlsDetails {
        version: if tls13 { "TLS1.3" } else { "TLS1.2" },
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|s| s.suite().as_str())
            .unwrap_or_default()
            // rustls names those of TLS 1.3 apart.
            .replace("TLS13_", "TLS_"),
        channel_bindings: ChannelBindings {
            tls_exporter: exporter.flatten().map(|e| e.to_vec()),
            tls_server_end_point: None,
        },
        peer_certificates: session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
    };
    Ok((Box::new(stream), details))
}
