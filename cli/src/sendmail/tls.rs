//! Whose certificate the server may have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mox_config::Sendmail;
use mox_tlspolicy::verify::{Checks, client_config};
use mox_tlspolicy::{SYSTEM_FILES, Trust};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// TLS as the settings want it.
///
/// # Errors
/// If there are no certificates of authorities, or they can't be read.
pub fn config(settings: &Sendmail) -> Result<Arc<ClientConfig>> {
    if settings.tls_insecure_skip_verify {
        let (config, _) = client_config(&Trust::new(RootCertStore::empty())?, Checks::default())?;
        return Ok(config);
    }
    let mut roots = RootCertStore::empty();
    for file in &settings.tls_cert_files {
        for certificate in read(file)? {
            let added = roots.add(certificate);
            added.with_context(|| format!("using a certificate of {}", file.display()))?;
        }
    }
    if settings.tls_cert_files.is_empty() {
        // Not those that the environment names: it is that of whoever calls, and this may run with more rights.
        let Some(file) = SYSTEM_FILES.iter().map(PathBuf::from).find(|file| file.exists()) else {
            bail!("there are no certificates of authorities: install ca-certificates, or set tls_cert_files");
        };
        roots.add_parsable_certificates(read(&file)?);
    }
    Ok(Trust::new(roots)?.verified())
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let doing = || format!("reading certificates of authorities from {}", file.display());
    let text = std::fs::read(file).with_context(doing)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.with_context(doing)
}
