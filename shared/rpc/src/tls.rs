//! Mutual TLS between services: certificates from files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::extensions::GeneralName;

use crate::connection::Chain;
use crate::{Error, Identity, identity};

/// How often, at most, the files are looked at. The look happens at a handshake, so a quiet process does none.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// HTTP/2 is all that is spoken.
const ALPN: &[u8] = b"h2";

/// Where certificate, key and trust anchors are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain of this process. A DNS name in it is the service's name, such as `store`: its identity.
    pub cert: PathBuf,
    /// The chain's private key.
    pub key: PathBuf,
    /// The authorities that may issue certificates of services.
    pub ca: PathBuf,
}

/// Both sides of mutual TLS with one certificate.
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<Loaded>,
    checked: parking_lot::Mutex<Instant>,
}

/// What a listener uses.
pub type ServerTls = Tls;
/// What a channel uses.
pub type ClientTls = Tls;

struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    stamps: Stamps,
}

/// Modification times and sizes of the three files.
type Stamps = [(Option<SystemTime>, u64); 3];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one can't be read, or is not what it should be; the error names it.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, Error> {
        let loaded = read(&files)?;
        Ok(Arc::new(Self {
            files,
            current: ArcSwap::from_pointee(loaded),
            checked: parking_lot::Mutex::new(Instant::now()),
        }))
    }

    /// What is in force: read again if files have changed, and kept as it was if they can't be used.
    async fn current(self: &Arc<Self>) -> Arc<Loaded> {
        let due = {
            let mut checked = self.checked.lock();
            let due = checked.elapsed() >= CHECK_INTERVAL;
            if due {
                *checked = Instant::now();
            }
            due
        };
        if due {
            let this = Arc::clone(self);
            let _ = tokio::task::spawn_blocking(move || this.reload()).await;
        }
        self.current.load_full()
    }

    fn reload(&self) {
        if stamps(&self.files) == self.current.load().stamps {
            return;
        }
        match read(&self.files) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!(cert = %self.files.cert.display(), "certificate for calls between services was reloaded");
            }
            Err(error) => tracing::error!(
                %error,
                "changed certificate files for calls between services can't be used; the previous ones stay in force"
            ),
        }
    }

    /// The server's handshake, and who the client is.
    pub(crate) async fn accept<S>(
        self: &Arc<Self>,
        stream: S,
    ) -> io::Result<(tokio_rustls::server::TlsStream<S>, Identity)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current().await.server);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let who = certificate.and_then(identity_of).ok_or_else(|| {
            io::Error::other(format!(
                "its certificate must have exactly one DNS name that is one of {}",
                identity::ALL.join(", ")
            ))
        })?;
        Ok((stream, who))
    }

    /// The client's handshake; the server's certificate must be valid for `host`.
    pub(crate) async fn connect<S>(
        self: &Arc<Self>,
        host: &str,
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current().await.client);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("host {host:?}: {e}"))?;
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|e| format!("TLS: {}", Chain(&e)))
    }
}

/// The identity that a verified certificate gives: the one DNS name in it that is the name of a service. Two such names
/// give none, as it would not be clear which one acts.
fn identity_of(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut found = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => identity::ALL.iter().find(|known| **known == *name),
        _ => None,
    });
    let first = found.next()?;
    found.next().is_none().then(|| Identity::new(first))
}

fn read(files: &TlsFiles) -> Result<Loaded, Error> {
    let stamps = stamps(files);
    let certificates = |what, path: &Path| -> Result<Vec<CertificateDer<'static>>, Error> {
        let bad = |why: String| Error::TlsFile {
            what,
            path: path.to_owned(),
            why,
        };
        let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
            .map_err(|e| bad(pem_error(&e)))?
            .collect();
        let found = found.map_err(|e| bad(pem_error(&e)))?;
        if found.is_empty() {
            Err(bad("there is no PEM certificate in it".into()))
        } else {
            Ok(found)
        }
    };
    let chain = certificates("certificate file", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| Error::TlsFile {
        what: "private key file",
        path: files.key.clone(),
        why: pem_error(&e),
    })?;
    let bad_ca = |why: String| Error::TlsFile {
        what: "CA file",
        path: files.ca.clone(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for anchor in certificates("CA file", &files.ca)? {
        roots.add(anchor).map_err(|e| bad_ca(e.to_string()))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |e: rustls::Error| Error::TlsPair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        why: e.to_string(),
    };

    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|e| bad_ca(e.to_string()))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(pair)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would keep an identity past its certificate's replacement.
    server.send_tls13_tickets = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(pair)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Loaded {
        server: Arc::new(server),
        client: Arc::new(client),
        stamps,
    })
}

fn pem_error(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    [&files.cert, &files.key, &files.ca].map(|path| match std::fs::metadata(path) {
        Ok(metadata) => (metadata.modified().ok(), metadata.len()),
        Err(_) => (None, 0),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority() -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    }

    fn write(files: &TlsFiles, ca: &str, issuer: &Issuer<'static, KeyPair>, name: &str) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([name.to_owned(), "localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, cert.signed_by(&key, issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.ca, ca).unwrap();
    }

    async fn handshake(server: &Arc<Tls>, client: &Arc<Tls>) -> Option<Identity> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (accepted, connected) = tokio::join!(server.accept(ours), client.connect("localhost", theirs));
        connected.ok()?;
        accepted.ok().map(|(_, who)| who)
    }

    #[tokio::test]
    async fn files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = |name: &str| TlsFiles {
            cert: path(&format!("{name}.crt")),
            key: path(&format!("{name}.key")),
            ca: path(&format!("{name}.ca")),
        };
        let expire = |tls: &Tls| *tls.checked.lock() = Instant::now().checked_sub(CHECK_INTERVAL).unwrap();
        let (server_files, client_files) = (files("server"), files("client"));
        let (ca, issuer) = authority();
        write(&server_files, &ca, &issuer, "store");
        write(&client_files, &ca, &issuer, "imap");
        let server = Tls::load(server_files.clone()).unwrap();
        let client = Tls::load(client_files.clone()).unwrap();
        assert_eq!(handshake(&server, &client).await, Some(Identity::new("imap")));

        // A new authority on one side only: neither trusts the other.
        let (ca, issuer) = authority();
        write(&server_files, &ca, &issuer, "store");
        expire(&server);
        assert_eq!(handshake(&server, &client).await, None);
        write(&client_files, &ca, &issuer, "web");
        expire(&client);
        assert_eq!(handshake(&server, &client).await, Some(Identity::new("web")));

        // What can't be used is not taken.
        std::fs::write(&client_files.key, "nonsense").unwrap();
        expire(&client);
        assert_eq!(handshake(&server, &client).await, Some(Identity::new("web")));
        let error = Tls::load(client_files).err().unwrap().to_string();
        assert!(
            error.contains("private key file") && error.contains("client.key"),
            "{error}"
        );
    }
}
