//! A verifier of certificates that goes by DANE, by the usual authorities, by both or none, and says what it found.

use std::sync::{Arc, Mutex, PoisonError};

use mox_dns::Tlsa;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::dane::{self, Names};
use crate::fault::CertificateFault;
use crate::trust::Trust;

/// What must hold for a handshake to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Require {
    /// Nothing: that of an unknown host keeps out who only listens (RFC 7435).
    #[default]
    Nothing,
    /// A TLSA record must match.
    Dane,
    /// An authority that is trusted must have signed the certificate, for the name.
    Pkix,
}

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// Usable TLSA records, and the names that count for them.
    pub dane: Option<(Vec<Tlsa>, Names)>,
    /// The name that a certificate by the usual authorities must have.
    pub pkix: Option<String>,
    /// What must hold.
    pub require: Require,
}

/// What was found of a certificate, whether it was required or not. Empty before the handshake, and if it did not come
/// to a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The TLSA record that matched.
    pub dane: Option<Result<Tlsa, CertificateFault>>,
    /// By the usual authorities.
    pub pkix: Option<Result<(), CertificateFault>>,
}

/// Where findings are left.
#[derive(Debug, Clone, Default)]
pub struct Outcome(Arc<Mutex<Findings>>);

impl Outcome {
    /// What was found.
    #[must_use]
    pub fn get(&self) -> Findings {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A configuration for one handshake, and where its findings will be. Sessions are not resumed: a certificate that was
/// verified for other demands would not be looked at.
///
/// # Errors
/// If the library can't.
pub fn client_config(trust: &Trust, checks: Checks) -> Result<(Arc<ClientConfig>, Outcome), Error> {
    let outcome = Outcome::default();
    let verifier = Verifier {
        trust: trust.clone(),
        checks,
        outcome: outcome.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(trust.provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), outcome))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    checks: Checks,
    outcome: Outcome,
}

impl Verifier {
    fn pkix(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &str,
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        let fault = |e: webpki::Error| CertificateFault::from_library(&e, name);
        let server = ServerName::try_from(name).map_err(|_| CertificateFault::Name(name.to_owned()))?;
        let certificate = EndEntityCert::try_from(leaf).map_err(fault)?;
        certificate
            .verify_for_usage(
                self.trust.provider.signature_verification_algorithms.all,
                &self.trust.roots.roots,
                rest,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(fault)?;
        certificate.verify_is_valid_for_subject_name(&server).map_err(fault)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let dane = self.checks.dane.as_ref().map(|(records, names)| {
            let algorithms = self.trust.provider.signature_verification_algorithms.all;
            dane::check(records, leaf, rest, names, &self.trust.roots, now, algorithms)
        });
        let pkix = self.checks.pkix.as_ref().map(|name| self.pkix(leaf, rest, name, now));
        let missing = || CertificateFault::Invalid("it was not verified".into());
        let verdict = match self.checks.require {
            Require::Nothing => Ok(()),
            Require::Dane => dane.clone().map_or_else(|| Err(missing()), |d| d.map(drop)),
            Require::Pkix => pkix.clone().unwrap_or_else(|| Err(missing())),
        };
        *self.outcome.0.lock().unwrap_or_else(PoisonError::into_inner) = Findings { dane, pkix };
        verdict?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust
            .provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
