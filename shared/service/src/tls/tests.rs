use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

const ASK: TlsOptions = TlsOptions {
    resumption: true,
    client_certificates: true,
};

struct Site {
    folder: tempfile::TempDir,
    roots: RootCertStore,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            roots: RootCertStore::empty(),
        }
    }

    /// Writes a self-signed certificate, trusts it, and gives its DER.
    fn write(&mut self, file: &str, names: &[&str]) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.folder.path().join(format!("{file}.crt")), cert.pem()).unwrap();
        std::fs::write(self.folder.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
        self.roots.add(cert.der().clone()).unwrap();
        cert.der().clone()
    }

    fn listener(files: &[&str]) -> ListenerTls {
        let key_certs = files.iter().map(|file| mox_config::KeyCert {
            cert_file: format!("{file}.crt").into(),
            key_file: format!("{file}.key").into(),
        });
        ListenerTls {
            key_certs: key_certs.collect(),
            ..ListenerTls::default()
        }
    }

    fn load(&self, files: &[&str]) -> Result<TlsAcceptorConfig, TlsError> {
        TlsAcceptorConfig::load(&Self::listener(files), self.folder.path(), ASK)
    }

    /// Connects as `name`; gives both sides' view, after an echo.
    async fn handshake(
        &self,
        tls: &TlsAcceptorConfig,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (TlsInfo, Vec<u8>, Option<[u8; 32]>) {
        self.handshake_with(tls, name, versions, None).await
    }

    /// As `handshake`, with a certificate of the client.
    async fn handshake_with(
        &self,
        tls: &TlsAcceptorConfig,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: Option<(CertificateDer<'static>, &KeyPair)>,
    ) -> (TlsInfo, Vec<u8>, Option<[u8; 32]>) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let config = match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let serving = async {
            let (mut stream, info) = tls.accept(Box::new(server)).await.unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
            stream.flush().await.unwrap();
            info
        };
        let connecting = async {
            let connector = TlsConnector::from(Arc::new(config));
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let mut stream = connector.connect(name, client).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"hello");
            let connection = stream.get_ref().1;
            let cert = connection.peer_certificates().unwrap()[0].to_vec();
            let exporter = connection
                .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
                .ok();
            (cert, exporter)
        };
        let (info, (cert, exporter)) = tokio::join!(serving, connecting);
        (info, cert, exporter)
    }
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

#[tokio::test]
async fn certificate_is_chosen_by_name() {
    let mut site = Site::new();
    let first = site.write("first", &["mail.example.org"]);
    let second = site.write("second", &["*.example.net"]);
    let tls = site.load(&["first", "second"]).unwrap();
    for (name, expected) in [("mail.example.org", &first), ("MX.example.net", &second)] {
        let (info, shown, _) = site.handshake(&tls, name, TLS13).await;
        assert_eq!(&shown, &expected.to_vec(), "{name}");
        assert_eq!(info.sni.unwrap().to_lowercase(), name.to_lowercase());
    }
}

#[tokio::test]
async fn both_sides_agree_on_channel_bindings() {
    let mut site = Site::new();
    let cert = site.write("first", &["localhost"]);
    let tls = site.load(&["first"]).unwrap();
    let (info, _, exporter) = site.handshake(&tls, "localhost", TLS13).await;
    assert_eq!(info.version, "TLS1.3");
    assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
    assert!(exporter.is_some() && info.exporter == exporter);
    // The test's certificates are signed with ECDSA and SHA-256.
    let hash = ring::digest::digest(&ring::digest::SHA256, &cert);
    assert_eq!(info.server_end_point.as_deref(), Some(hash.as_ref()));
    let (info, ..) = site.handshake(&tls, "localhost", TLS12).await;
    assert_eq!((info.version, info.exporter), ("TLS1.2", None));
    assert!(
        info.server_end_point.is_some() && info.cipher.starts_with("TLS_ECDHE_"),
        "{info:?}"
    );
}

#[tokio::test]
async fn files_are_read_again_and_bad_ones_ignored() {
    let mut site = Site::new();
    let old = site.write("first", &["localhost"]);
    let tls = site.load(&["first"]).unwrap();
    let expire = || *tls.0.checked.lock() = Instant::now().checked_sub(CHECK_INTERVAL).unwrap();
    let new = site.write("first", &["localhost", "other"]);
    assert_eq!(
        site.handshake(&tls, "localhost", TLS13).await.1,
        old.to_vec(),
        "not looked at yet"
    );
    expire();
    assert_eq!(site.handshake(&tls, "localhost", TLS13).await.1, new.to_vec());
    std::fs::write(site.folder.path().join("first.crt"), "nonsense").unwrap();
    expire();
    assert_eq!(site.handshake(&tls, "localhost", TLS13).await.1, new.to_vec());
}

#[test]
fn errors_name_the_file() {
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    site.write("second", &["localhost"]);
    let error = site.load(&["missing"]).unwrap_err().to_string();
    assert!(
        error.contains("missing.crt") && error.contains("No such file"),
        "{error}"
    );
    std::fs::write(site.folder.path().join("first.key"), "").unwrap();
    let error = site.load(&["first"]).unwrap_err().to_string();
    assert!(error.contains("first.key"), "{error}");
    std::fs::copy(
        site.folder.path().join("second.key"),
        site.folder.path().join("first.key"),
    )
    .unwrap();
    let error = site.load(&["first"]).unwrap_err().to_string();
    assert!(error.contains("first.key") && error.contains("first.crt"), "{error}");
}

#[tokio::test]
async fn plain_text_is_an_error_and_silence_a_timeout() {
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    let tls = site.load(&["first"]).unwrap();
    let (mut client, server) = tokio::io::duplex(1000);
    client.write_all(b"EHLO localhost\r\nplease\r\n").await.unwrap();
    assert!(matches!(
        tls.accept(Box::new(server)).await,
        Err(TlsError::Handshake(_))
    ));
    tokio::time::pause();
    let (_client, server) = tokio::io::duplex(1000);
    assert!(matches!(tls.accept(Box::new(server)).await, Err(TlsError::Timeout)));
}

/// A certificate of a client, long out of date and for nothing.
fn client_certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1999, 1, 1);
    params.not_after = rcgen::date_time_ymd(2000, 1, 1);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, key)
}

#[tokio::test]
async fn clients_may_show_any_certificate_and_are_known_by_its_key() {
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    let tls = site.load(&["first"]).unwrap();
    for algorithm in [
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        let (certificate, key) = client_certificate(algorithm);
        for versions in [TLS12, TLS13] {
            let own = (certificate.clone(), &key);
            let (info, ..) = site.handshake_with(&tls, "localhost", versions, Some(own)).await;
            assert_eq!(info.peer_certificates, std::slice::from_ref(&certificate));
            assert!(info.public_key().is_some());
            assert_eq!(info.public_key(), public_key_digest(&certificate));
            let (info, ..) = site.handshake(&tls, "localhost", versions).await;
            assert_eq!(info.public_key(), None);
        }
    }
    // Another certificate for the same key is the same client.
    let (first, key) = client_certificate(&rcgen::PKCS_ED25519);
    let second = CertificateParams::new(vec!["other".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    assert_ne!(&first, second.der());
    assert_eq!(public_key_digest(&first), public_key_digest(second.der()));
    assert_eq!(public_key_digest(b"no certificate"), None);
}

#[tokio::test]
async fn clients_are_not_asked_where_that_is_off() {
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    let options = TlsOptions {
        client_certificates: false,
        ..ASK
    };
    let tls = TlsAcceptorConfig::load(&Site::listener(&["first"]), site.folder.path(), options).unwrap();
    let (certificate, key) = client_certificate(&rcgen::PKCS_ED25519);
    let (info, ..) = site
        .handshake_with(&tls, "localhost", TLS13, Some((certificate, &key)))
        .await;
    assert!(info.peer_certificates.is_empty());
}

#[tokio::test]
async fn who_has_not_the_private_key_is_refused() {
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    let tls = site.load(&["first"]).unwrap();
    let (certificate, _) = client_certificate(&rcgen::PKCS_ED25519);
    let (_, other) = client_certificate(&rcgen::PKCS_ED25519);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(other.serialize_der().into());
    let key = provider.key_provider.load_private_key(key).unwrap();
    for versions in [TLS12, TLS13] {
        let stolen = CertifiedKey::new(vec![certificate.clone()], key.clone());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(site.roots.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(stolen)));
        let (client, server) = tokio::io::duplex(1 << 16);
        let connecting = async {
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector
                .connect(ServerName::try_from("localhost").unwrap(), client)
                .await;
            if let Ok(mut stream) = stream {
                let _ = stream.read(&mut [0; 1]).await;
            }
        };
        let (accepted, ()) = tokio::join!(tls.accept(Box::new(server)), connecting);
        assert!(accepted.is_err());
    }
}

#[tokio::test]
async fn sessions_are_resumed_unless_that_is_off() {
    use rustls::HandshakeKind::{Full, Resumed};
    let mut site = Site::new();
    site.write("first", &["localhost"]);
    for (resumption, second) in [(true, Resumed), (false, Full)] {
        for versions in [TLS13, TLS12] {
            let options = TlsOptions {
                resumption,
                client_certificates: false,
            };
            let listener = Site::listener(&["first"]);
            let tls = TlsAcceptorConfig::load(&listener, site.folder.path(), options).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(site.roots.clone())
                .with_no_client_auth();
            let config = Arc::new(config);
            for kind in [Full, second] {
                let (client, server) = tokio::io::duplex(1 << 16);
                let serving = async {
                    let (mut stream, _) = tls.accept(Box::new(server)).await.unwrap();
                    stream.write_all(b"hello").await.unwrap();
                    stream.flush().await.unwrap();
                };
                let connecting = async {
                    let name = ServerName::try_from("localhost").unwrap();
                    let connector = TlsConnector::from(Arc::clone(&config));
                    let mut stream = connector.connect(name, client).await.unwrap();
                    let mut got = [0; 5];
                    stream.read_exact(&mut got).await.unwrap();
                    stream.get_ref().1.handshake_kind()
                };
                let ((), was) = tokio::join!(serving, connecting);
                assert_eq!(was, Some(kind), "{versions:?}, resumption: {resumption}");
            }
        }
    }
}
