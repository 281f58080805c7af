//! Certificates that are signed by themselves.

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

/// A certificate and its key.
pub struct Certificate {
    /// The certificate.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// With a new key.
///
/// # Errors
/// If a name is not one.
pub fn self_signed(names: Vec<String>, days: i64) -> Result<Certificate> {
    let key = KeyPair::generate().context("making a private key")?;
    with_key(names, days, &key)
}

/// With a key that exists, as PKCS#8 in PEM.
///
/// # Errors
/// If a name is not one, or the key is no good.
pub fn self_signed_with(names: Vec<String>, days: i64, key_pem: &str) -> Result<Certificate> {
    let key = KeyPair::from_pem(key_pem).context("reading the private key")?;
    with_key(names, days, &key)
}

fn with_key(names: Vec<String>, days: i64, key: &KeyPair) -> Result<Certificate> {
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).context("naming the host in the certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = OffsetDateTime::now_utc();
    // Clocks of clients may be behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days);
    let certificate = params.self_signed(key).context("signing the certificate")?;
    Ok(Certificate {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_with_new_and_given_keys() {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let made = self_signed(names.clone(), 10).unwrap();
        assert!(made.cert_pem.contains("BEGIN CERTIFICATE") && made.key_pem.contains("BEGIN PRIVATE KEY"));
        let key = mox_control::new_ecdsa_p256().unwrap();
        assert!(
            self_signed_with(names, 10, &key)
                .unwrap()
                .cert_pem
                .contains("BEGIN CERTIFICATE")
        );
        assert!(self_signed_with(Vec::new(), 10, "no key").is_err());
    }
}
