//! Whose certificate the server may have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mox_config::Sendmail;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Where systems keep the certificates of authorities, as one file.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS as the settings want it.
///
/// # Errors
/// If there are no certificates of authorities, or they can't be read.
pub fn config(settings: &Sendmail) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if settings.tls_insecure_skip_verify {
        let anybody = Arc::new(Anybody(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let mut roots = RootCertStore::empty();
    for file in &settings.tls_cert_files {
        for certificate in read(file)? {
            let added = roots.add(certificate);
            added.with_context(|| format!("using a certificate of {}", file.display()))?;
        }
    }
    if settings.tls_cert_files.is_empty() {
        let Some(file) = SYSTEM_FILES.iter().map(PathBuf::from).find(|file| file.exists()) else {
            bail!("there are no certificates of authorities: install ca-certificates, or set tls_cert_files");
        };
        roots.add_parsable_certificates(read(&file)?);
    }
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let doing = || format!("reading certificates of authorities from {}", file.display());
    let text = std::fs::read(file).with_context(doing)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.with_context(doing)
}

/// Accepts every certificate, as the settings say.
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
