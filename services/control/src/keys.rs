//! New private keys, as PKCS#8 in PEM.

use std::path::Path;

use pem::{EncodeConfig, LineEnding, Pem};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};

/// RFC 8301 §3.2: at least 1024, and verifiers need not take more than 4096. With 2048, records fit everywhere.
const RSA_BITS: usize = 2048;
/// RFC 8410 §7: what comes before the 32 octets of an Ed25519 key in PKCS#8.
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// RFC 5480 §2: what comes before the 65 octets of a point of P-256 in SubjectPublicKeyInfo.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The machine gives no randomness, or the algorithm failed.
    #[error("making a private key: {0}")]
    Make(String),
    /// A file has none that is understood.
    #[error("reading private key {file}: {reason}; expected RSA, Ed25519 or ECDSA P-256 as PKCS#8 in PEM")]
    Read {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

fn to_pem(der: Vec<u8>) -> String {
    pem::encode_config(
        &Pem::new("PRIVATE KEY", der),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}

/// A new RSA key. Takes up to seconds: not on a runtime's thread.
///
/// # Errors
/// If the machine gives no randomness.
pub fn new_rsa() -> Result<String, KeyError> {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS);
    let key = key.map_err(|e| KeyError::Make(e.to_string()))?;
    let der = key.to_pkcs8_der().map_err(|e| KeyError::Make(e.to_string()))?;
    Ok(to_pem(der.as_bytes().to_vec()))
}

/// A new Ed25519 key.
///
/// # Errors
/// If the machine gives no randomness.
pub fn new_ed25519() -> Result<String, KeyError> {
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|e| KeyError::Make(e.to_string()))?;
    Ok(to_pem([ED25519_PKCS8_PREFIX.as_slice(), &seed].concat()))
}

/// A new ECDSA key on P-256.
///
/// # Errors
/// If the machine gives no randomness.
pub fn new_ecdsa_p256() -> Result<String, KeyError> {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let der = der.map_err(|e| KeyError::Make(e.to_string()))?;
    Ok(to_pem(der.as_ref().to_vec()))
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// As SubjectPublicKeyInfo.
    Rsa(Vec<u8>),
    /// The 32 octets.
    Ed25519(Vec<u8>),
    /// As SubjectPublicKeyInfo.
    EcdsaP256(Vec<u8>),
}

impl PublicKey {
    /// Of a private key as PKCS#8 in PEM. `file` is for the error.
    ///
    /// # Errors
    /// If it is none, or of another kind.
    pub fn of(private_pem: &str, file: &Path) -> Result<Self, KeyError> {
        let fail = |reason: String| KeyError::Read {
            file: file.display().to_string(),
            reason,
        };
        let pem = pem::parse(private_pem).map_err(|e| fail(e.to_string()))?;
        if pem.tag() != "PRIVATE KEY" {
            return Err(fail(format!("it has a {:?}", pem.tag())));
        }
        let der = pem.contents();
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(key.public_key().as_ref().to_vec()));
        }
        let rng = SystemRandom::new();
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &rng) {
            return Ok(Self::EcdsaP256(
                [P256_SPKI_PREFIX.as_slice(), key.public_key().as_ref()].concat(),
            ));
        }
        let key = rsa::RsaPrivateKey::from_pkcs8_der(der).map_err(|e| fail(e.to_string()))?;
        let spki = key
            .to_public_key()
            .to_public_key_der()
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self::Rsa(spki.as_bytes().to_vec()))
    }

    /// What the TXT record of a DKIM selector says (RFC 6376 §3.6.1, RFC 8463 §4). There is none for ECDSA.
    #[must_use]
    pub fn dkim_record(&self) -> Option<String> {
        use base64::Engine as _;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        match self {
            Self::Rsa(spki) => Some(format!("v=DKIM1;h=sha256;p={}", base64(spki))),
            Self::Ed25519(key) => Some(format!("v=DKIM1;h=sha256;k=ed25519;p={}", base64(key))),
            Self::EcdsaP256(_) => None,
        }
    }

    /// As SubjectPublicKeyInfo, whose hash TLSA records have (RFC 6698 §2.1.2).
    #[must_use]
    pub fn spki(&self) -> Option<&[u8]> {
        match self {
            Self::Rsa(spki) | Self::EcdsaP256(spki) => Some(spki),
            Self::Ed25519(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_read_back() {
        let public = |pem: &str| PublicKey::of(pem, Path::new("key.pem")).unwrap();
        let ed = public(&new_ed25519().unwrap());
        assert!(matches!(&ed, PublicKey::Ed25519(k) if k.len() == 32));
        assert!(ed.dkim_record().unwrap().starts_with("v=DKIM1;h=sha256;k=ed25519;p="));
        let rsa = public(&new_rsa().unwrap());
        // A 2048-bit key makes a SubjectPublicKeyInfo of 294 octets.
        assert!(matches!(&rsa, PublicKey::Rsa(spki) if spki.len() == 294));
        assert_eq!(rsa.dkim_record().unwrap().len(), "v=DKIM1;h=sha256;p=".len() + 392);
        let ec = public(&new_ecdsa_p256().unwrap());
        assert_eq!(ec.spki().unwrap().len(), 91);
        assert_eq!(ec.dkim_record(), None);
        assert!(
            PublicKey::of("no key", Path::new("key.pem"))
                .unwrap_err()
                .to_string()
                .contains("key.pem")
        );
    }
}
