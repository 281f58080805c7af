//! Certificates of others: verified where a transport or message demands it, else only for the sake of encryption.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mox_config::Ca;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Where systems keep the certificates of authorities, as one file.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates that is configured.
    #[error("reading certificates of authorities from {}: {cause}; see [tls.ca] cert_files in mox.toml", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The library.
    #[error("preparing TLS: {0}")]
    Library(#[from] Error),
}

/// What clients of this process use.
#[derive(Clone)]
pub struct TlsConfigs {
    /// Verifies that the certificate is the host's.
    pub verified: Arc<ClientConfig>,
    /// Encrypts, with whoever it is.
    pub unverified: Arc<ClientConfig>,
}

impl TlsConfigs {
    /// From settings.
    ///
    /// # Errors
    /// If a file that is configured can't be read.
    pub fn new(ca: &Ca, config_dir: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for file in &ca.cert_files {
            let path = config_dir.join(file);
            let certificates = read(&path).map_err(|e| TlsError::File {
                path: path.clone(),
                cause: e.to_string(),
            })?;
            for certificate in certificates {
                roots.add(certificate).map_err(|e| TlsError::File {
                    path: path.clone(),
                    cause: e.to_string(),
                })?;
            }
        }
        if ca.cert_files.is_empty() || ca.additional_to_system {
            add_system(&mut roots);
        }
        let verified = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let anybody = Arc::new(Anybody(provider.clone()));
        let unverified = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth();
        Ok(Self {
            verified: Arc::new(verified),
            unverified: Arc::new(unverified),
        })
    }
}

/// The system's authorities. Without any, no certificate is valid; that is seen by who needs one.
fn add_system(roots: &mut RootCertStore) {
    let chosen = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let files = chosen.into_iter().chain(SYSTEM_FILES.iter().map(PathBuf::from));
    for file in files {
        if let Ok(certificates) = read(&file) {
            let (added, ignored) = roots.add_parsable_certificates(certificates);
            tracing::debug!(file = %file.display(), added, ignored, "certificates of authorities");
            if added > 0 {
                return;
            }
        }
    }
    tracing::warn!("no certificates of authorities were found; install ca-certificates, or set [tls.ca] cert_files");
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = std::fs::read(path)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| io::Error::other(e.to_string()))
}

/// Accepts every certificate: that of an unknown host keeps out who only listens (RFC 7435).
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
