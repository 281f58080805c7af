//! What is wrong with a certificate, or with a handshake.

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError};
use webpki::Error;

use crate::report::ResultType;

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It is for others.
    #[error("the certificate is not for {0}")]
    Name(String),
    /// No authority that is trusted stands behind it.
    #[error("no authority that is trusted has signed the certificate")]
    Issuer,
    /// Anything else.
    #[error("the certificate is not valid: {0}")]
    Invalid(String),
    /// DANE: no record speaks of it.
    #[error("none of the TLSA records ({0}) matches the certificate")]
    NoMatch(String),
}

impl CertificateFault {
    /// What it is called in a report.
    #[must_use]
    pub fn result_type(&self) -> ResultType {
        match self {
            Self::Expired | Self::NotYetValid => ResultType::CertificateExpired,
            Self::Name(_) => ResultType::CertificateHostMismatch,
            Self::Issuer | Self::Invalid(_) => ResultType::CertificateNotTrusted,
            // RFC 8460 §4.3.2.1: "none of the records in the RRset were found to be valid".
            Self::NoMatch(_) => ResultType::TlsaInvalid,
        }
    }

    /// From what the library says of a chain.
    pub(crate) fn from_library(error: &Error, name: &str) -> Self {
        match error {
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CertNotValidForName(_) => Self::Name(name.to_owned()),
            // A certificate that signed itself has no issuer that is trusted, whatever else it is.
            Error::UnknownIssuer | Error::CaUsedAsEndEntity => Self::Issuer,
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<CertificateFault> for rustls::Error {
    fn from(fault: CertificateFault) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
    }
}

/// What a failed handshake is called in a report, and in words.
#[must_use]
pub fn handshake_fault(error: &io::Error) -> (ResultType, String) {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            let fault = other.downcast_ref::<CertificateFault>();
            let kind = fault.map_or(ResultType::CertificateNotTrusted, CertificateFault::result_type);
            (kind, other.to_string())
        }
        Some(rustls::Error::InvalidCertificate(other)) => {
            let kind = match other {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => ResultType::CertificateExpired,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    ResultType::CertificateHostMismatch
                }
                _ => ResultType::CertificateNotTrusted,
            };
            (kind, other.to_string())
        }
        Some(other) => (ResultType::ValidationFailure, other.to_string()),
        None => (ResultType::ValidationFailure, error.to_string()),
    }
}

/// The SubjectPublicKeyInfo of a certificate, in DER; `None` if it is none.
#[must_use]
pub fn subject_public_key_info<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.tbs_certificate.subject_pki.raw)
}
