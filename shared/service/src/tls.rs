//! TLS towards clients: certificates from files, chosen by the name that the client asks for, read again when they
//! change. Clients may show certificates of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use mox_config::{ListenerTls, TlsVersion};
use parking_lot::Mutex;
use rustls::ProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::stream::{BoxStream, ConnInfo, TlsInfo};

mod clients;

pub use clients::{CERTIFICATE_MAX, PublicKeyDigest, public_key_digest};

/// For a handshake: far more than any client on any network needs, far less than an attacker wants.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, at most, the files are looked at. The look happens at a handshake.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// RFC 9266 §3.1.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file can't be read or used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(#[from] io::Error),
    /// The client was too slow.
    #[error("TLS handshake: not done within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

/// What a listener needs for TLS. Clones share the certificates.
#[derive(Clone)]
pub struct TlsAcceptorConfig(Arc<Inner>);

impl std::fmt::Debug for TlsAcceptorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.files.iter().map(|files| &files.cert))
            .finish()
    }
}

struct Inner {
    files: Vec<Files>,
    options: Options,
    current: ArcSwap<Loaded>,
    checked: Mutex<Instant>,
}

/// What a listener's service wants of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether clients can resume sessions.
    pub resumption: bool,
    /// Whether clients are asked for certificates, which they need not have.
    pub client_certificates: bool,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    min_version: TlsVersion,
    service: TlsOptions,
}

#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

struct Loaded {
    certificates: Vec<Certificate>,
    stamps: Vec<Stamp>,
}

/// Modification time and size.
type Stamp = (Option<SystemTime>, u64);

/// One certificate, ready to be shown.
struct Certificate {
    /// Lower-case DNS names, some beginning with `*.`.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
}

impl TlsAcceptorConfig {
    /// Reads the certificates of a listener, of which there is at least one. Relative paths start at `folder`.
    ///
    /// # Errors
    /// If one can't be read or used.
    pub fn load(tls: &ListenerTls, folder: &Path, service: TlsOptions) -> Result<Self, TlsError> {
        let files: Vec<Files> = tls
            .key_certs
            .iter()
            .map(|pair| Files {
                cert: folder.join(&pair.cert_file),
                key: folder.join(&pair.key_file),
            })
            .collect();
        let options = Options {
            min_version: tls.min_version,
            service,
        };
        let loaded = read(&files, options)?;
        Ok(Self(Arc::new(Inner {
            files,
            options,
            current: ArcSwap::from_pointee(loaded),
            checked: Mutex::new(Instant::now()),
        })))
    }

    /// The certificates in force: read again if files changed, kept as they were if those can't be used.
    async fn current(&self) -> Arc<Loaded> {
        let due = {
            let mut checked = self.0.checked.lock();
            let due = checked.elapsed() >= CHECK_INTERVAL;
            if due {
                *checked = Instant::now();
            }
            due
        };
        if due {
            let this = self.clone();
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
        self.0.current.load_full()
    }

    fn reload(&self) {
        let inner = &*self.0;
        if stamps(&inner.files) == inner.current.load().stamps {
            return;
        }
        match read(&inner.files, inner.options) {
            Ok(loaded) => {
                inner.current.store(Arc::new(loaded));
                tracing::info!(certificates = ?self, "certificates were reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "changed certificates can't be used; the previous ones stay in force");
            }
        }
    }

    /// The server's side of a handshake.
    pub(crate) async fn accept(&self, stream: BoxStream) -> Result<(BoxStream, TlsInfo), TlsError> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let loaded = self.current().await;
            let Some(certificate) = loaded.choose(&start.client_hello()) else {
                return Err(io::Error::other("there is no certificate"));
            };
            let stream = start.into_stream(Arc::clone(&certificate.config)).await?;
            let info = info(&stream, certificate);
            Ok((Box::new(stream) as BoxStream, info))
        };
        Ok(tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| TlsError::Timeout)??)
    }
}

/// Upgrades a plain stream, from which nothing may have been read past the command that asked for it, to TLS, and notes
/// the details in `info`. For at most 10 seconds.
///
/// # Errors
/// If the handshake fails. The connection can't be used any more then.
pub async fn starttls(stream: BoxStream, tls: &TlsAcceptorConfig, info: &mut ConnInfo) -> Result<BoxStream, TlsError> {
    let (stream, details) = tls.accept(stream).await?;
    info.tls = Some(details);
    Ok(stream)
}

impl Loaded {
    /// The first certificate that has the client's name and a key it can verify; else the first with such a key; else
    /// the first, so that the client gets to see what is wrong.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Certificate> {
        let usable = |c: &&Certificate| c.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().map(str::to_ascii_lowercase);
        let named = named.and_then(|name| self.certificates.iter().filter(|c| c.has_name(&name)).find(usable));
        named
            .or_else(|| self.certificates.iter().find(usable))
            .or(self.certificates.first())
    }
}

impl Certificate {
    fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|known| match known.strip_prefix('*') {
            // RFC 9525 §6.3: a wildcard stands for exactly one label.
            Some(rest) => name
                .strip_suffix(rest)
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            None => known == name,
        })
    }
}

fn info(stream: &TlsStream<BoxStream>, certificate: &Certificate) -> TlsInfo {
    let connection = stream.get_ref().1;
    let is_1_3 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let cipher = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("unknown");
    // RFC 9266 §3.1: with an empty context, which for TLS 1.3 is the same as none (RFC 8446 §7.5).
    let exporter = is_1_3
        .then(|| connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok())
        .flatten();
    TlsInfo {
        version: if is_1_3 { "TLS1.3" } else { "TLS1.2" },
        // The library prefixes those of TLS 1.3 to tell them apart.
        cipher: cipher.replacen("TLS13_", "TLS_", 1),
        sni: connection.server_name().map(ToOwned::to_owned),
        exporter,
        server_end_point: certificate.end_point.clone(),
        peer_certificates: connection.peer_certificates().unwrap_or_default().to_vec(),
    }
}

fn read(files: &[Files], options: Options) -> Result<Loaded, TlsError> {
    let stamps = stamps(files);
    let certificates = files
        .iter()
        .map(|pair| certificate(pair, options))
        .collect::<Result<_, _>>()?;
    Ok(Loaded { certificates, stamps })
}

fn certificate(files: &Files, options: Options) -> Result<Certificate, TlsError> {
    let bad = |path: &Path, why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect);
    let chain: Vec<CertificateDer<'static>> = chain.map_err(|e| bad(&files.cert, pem(&e)))?;
    let Some(leaf) = chain.first() else {
        return Err(bad(&files.cert, "there is no certificate in PEM in it".into()));
    };
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|e| bad(&files.cert, format!("not a certificate: {e}")))?;
    let names = dns_names(&parsed);
    let end_point = end_point(leaf, &parsed);
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad(&files.key, pem(&e)))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|e| {
        bad(
            &files.key,
            format!("can't be used with certificate {}: {e}", files.cert.display()),
        )
    })?;
    let key = Arc::new(key);
    let versions: &[_] = match options.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(|e| bad(&files.cert, e.to_string()))?;
    let builder = if options.service.client_certificates {
        builder.with_client_cert_verifier(Arc::new(clients::AnyCertificate::new(algorithms)))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&key))));
    if !options.service.resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Certificate {
        names,
        key,
        config: Arc::new(config),
        end_point,
    })
}

fn pem(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "there is no item in PEM of the kind that is needed in it".into(),
        other => format!("not PEM: {other:?}"),
    }
}

fn stamps(files: &[Files]) -> Vec<Stamp> {
    let paths = files.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    paths
        .map(|path| match std::fs::metadata(path) {
            Ok(metadata) => (metadata.modified().ok(), metadata.len()),
            Err(_) => (None, 0),
        })
        .collect()
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some(name.to_ascii_lowercase())
            } else {
                None
            }
        })
        .collect()
}

/// RFC 5929 §4.1: the certificate's hash, by the hash function of its signature; SHA-256 where that one is MD5 or SHA-1.
/// Undefined for signatures without a hash function of their own.
fn end_point(der: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use ring::digest::{SHA256, SHA384, SHA512, digest};
    let algorithm = match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256 (RFC 8017 appendix C, RFC 5758 §3.2).
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &SHA512,
        _ => return None,
    };
    Some(digest(algorithm, der).as_ref().to_vec())
}

#[cfg(test)]
mod tests;
