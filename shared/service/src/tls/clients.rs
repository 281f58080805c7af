//! Certificates of clients: asked for, never required, and taken for nothing but the public key in them.

use ring::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// SHA-256 of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7): what a client's key is known by.
pub type PublicKeyDigest = [u8; 32];

/// Octets of a client's certificate that are looked at: far more than those with the largest keys have.
pub const CERTIFICATE_MAX: usize = 64 << 10;

/// The digest of the public key in a certificate; None if it is not one.
#[must_use]
pub fn public_key_digest(certificate: &[u8]) -> Option<PublicKeyDigest> {
    if certificate.len() > CERTIFICATE_MAX {
        return None;
    }
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    digest(&SHA256, certificate.tbs_certificate.subject_pki.raw)
        .as_ref()
        .try_into()
        .ok()
}

/// Lets clients show any certificate. That a client has the private key is verified, as the handshake demands (RFC 8446
/// §4.4.3, RFC 5246 §7.4.8). Names, dates and issuer are nobody's claim here: whose key it is, the store knows.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: RFC 8446 §4.2.4 has a client choose freely then.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match public_key_digest(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
