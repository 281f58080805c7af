//! The authorities that are trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mox_config::Ca;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Where systems keep the certificates of authorities, as one file.
pub const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why TLS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
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
    Library(#[from] rustls::Error),
}

/// The authorities that are trusted, and the cryptography that is used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Authorities.
    pub roots: Arc<RootCertStore>,
    /// Cryptography.
    pub provider: Arc<CryptoProvider>,
    verified: Arc<ClientConfig>,
}

impl Trust {
    /// Of these authorities.
    ///
    /// # Errors
    /// If the library can't.
    pub fn new(roots: RootCertStore) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots);
        let verified = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Ok(Self {
            roots,
            provider,
            verified: Arc::new(verified),
        })
    }

    /// From settings: those of the system, others, or both. Relative paths start at `config_dir`.
    ///
    /// # Errors
    /// If a file that is configured can't be read.
    pub fn load(ca: &Ca, config_dir: &Path) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for file in &ca.cert_files {
            let path = config_dir.join(file);
            let wrong = |cause: String| TrustError::File {
                path: path.clone(),
                cause,
            };
            for certificate in read(&path).map_err(|e| wrong(e.to_string()))? {
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
        }
        if ca.cert_files.is_empty() || ca.additional_to_system {
            add_system(&mut roots);
        }
        Self::new(roots)
    }

    /// For clients that want a valid certificate for the name they ask for, as HTTPS does.
    #[must_use]
    pub fn verified(&self) -> Arc<ClientConfig> {
        self.verified.clone()
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
