//! Handshakes with servers whose certificates are right and wrong, over a pipe; and policies fetched from such.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use mox_dns::{Tlsa, ZoneResolver};
use mox_tlspolicy::dane::{Matching, Names, association};
use mox_tlspolicy::mtasts::{Connect, FetchError, Fetcher, Mode, POLICY_MAX, Stream};
use mox_tlspolicy::verify::{Checks, Findings, Require, client_config};
use mox_tlspolicy::{CertificateFault, ResultType, Trust, handshake_fault, subject_public_key_info};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority, and servers with certificates of it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

struct Server {
    certificate: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn server(&self, name: &str, until: i32) -> Server {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone(), self.certificate.clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Server {
            certificate,
            config: Arc::new(config),
        }
    }

    fn trust(&self) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Trust::new(roots).unwrap()
    }
}

const HOST: &str = "mx.example.org";

async fn shake(server: &Server, trust: &Trust, checks: Checks) -> (Result<(), (ResultType, String)>, Findings) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let acceptor = TlsAcceptor::from(server.config.clone());
    tokio::spawn(async move {
        if let Ok(mut stream) = acceptor.accept(theirs).await {
            let _ = stream.read_u8().await;
        }
    });
    let (config, outcome) = client_config(trust, checks).unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let done = TlsConnector::from(config).connect(name, ours).await;
    (done.map(drop).map_err(|e| handshake_fault(&e)), outcome.get())
}

fn of_host(server: &Server) -> Tlsa {
    let spki = subject_public_key_info(&server.certificate).unwrap();
    Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: association(Matching::Sha256, spki),
    }
}

fn checks(record: &Tlsa, require: Require) -> Checks {
    Checks {
        dane: Some((vec![record.clone()], Names(vec![HOST.into()]))),
        pkix: Some(HOST.into()),
        require,
    }
}

#[tokio::test]
async fn what_is_required_must_hold_and_everything_is_found() {
    let authority = Authority::new();
    let trust = authority.trust();
    let good = authority.server(HOST, 2040);
    let other_name = authority.server("other.example.org", 2040);
    let record = of_host(&good);
    for require in [Require::Nothing, Require::Dane, Require::Pkix] {
        let (done, found) = shake(&good, &trust, checks(&record, require)).await;
        assert_eq!(done, Ok(()));
        assert_eq!((found.dane, found.pkix), (Some(Ok(record.clone())), Some(Ok(()))));
        // A certificate of another key, of another name.
        let (done, found) = shake(&other_name, &trust, checks(&record, require)).await;
        assert!(matches!(found.dane, Some(Err(CertificateFault::NoMatch(_)))));
        assert!(matches!(found.pkix, Some(Err(CertificateFault::Name(_)))));
        let kind = done.map_err(|(kind, _)| kind);
        match require {
            Require::Nothing => assert_eq!(kind, Ok(())),
            Require::Dane => assert_eq!(kind, Err(ResultType::TlsaInvalid)),
            Require::Pkix => assert_eq!(kind, Err(ResultType::CertificateHostMismatch)),
        }
    }
}

#[tokio::test]
async fn failures_have_their_names() {
    let authority = Authority::new();
    let trust = authority.trust();
    let nobody = Trust::new(RootCertStore::empty()).unwrap();
    let pkix = || Checks {
        pkix: Some(HOST.into()),
        require: Require::Pkix,
        ..Checks::default()
    };
    let expired = authority.server(HOST, 2001);
    let (done, _) = shake(&expired, &trust, pkix()).await;
    assert_eq!(done.unwrap_err().0, ResultType::CertificateExpired);
    let good = authority.server(HOST, 2040);
    let (done, _) = shake(&good, &nobody, pkix()).await;
    assert_eq!(done.unwrap_err().0, ResultType::CertificateNotTrusted);
    // DANE asks for neither (RFC 7672 §3.1.1).
    let (done, _) = shake(&expired, &nobody, checks(&of_host(&expired), Require::Dane)).await;
    assert_eq!(done, Ok(()));
    // What is required and was not looked at does not hold.
    let nothing = Checks {
        require: Require::Dane,
        ..Checks::default()
    };
    assert!(shake(&good, &trust, nothing).await.0.is_err());
}

/// A host that answers every connection with the same bytes, in TLS.
struct Web {
    server: Arc<ServerConfig>,
    answer: Vec<u8>,
}

#[async_trait]
impl Connect for Web {
    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        assert_eq!(to.port(), 443);
        if to.ip().to_string() != "192.0.2.1" {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let (acceptor, answer) = (TlsAcceptor::from(self.server.clone()), self.answer.clone());
        tokio::spawn(async move {
            let mut stream = acceptor.accept(theirs).await?;
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await?;
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(
                request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(request.contains("host: mta-sts.example.org\r\n"), "{request}");
            stream.write_all(&answer).await?;
            stream.shutdown().await
        });
        Ok(Box::new(ours))
    }
}

async fn fetch(authority: &Authority, name: &str, answer: &[u8]) -> Result<Mode, FetchError> {
    let zone = "
        mta-sts.example.org AAAA 2001:db8::1
        mta-sts.example.org A 192.0.2.1
    ";
    let web = Web {
        server: authority.server(name, 2040).config,
        answer: answer.to_vec(),
    };
    let fetcher = Fetcher::new(
        Arc::new(ZoneResolver::parse(zone).unwrap()),
        Arc::new(web),
        authority.trust().verified(),
    );
    fetcher.fetch("example.org").await.map(|fetched| fetched.policy.mode)
}

const POLICY: &str = "version: STSv1\r\nmode: testing\r\nmx: mx.example.org\r\nmax_age: 86400\r\n";

fn response(status: &str, media: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn policies_are_fetched_from_hosts_that_are_verified() {
    let authority = Authority::new();
    let name = "mta-sts.example.org";
    let good = response("200 OK", "text/plain; charset=utf-8", POLICY);
    assert_eq!(fetch(&authority, name, &good).await, Ok(Mode::Testing));
    // Until the end of the connection.
    let until_end = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{POLICY}");
    assert_eq!(fetch(&authority, name, until_end.as_bytes()).await, Ok(Mode::Testing));
    let wrong = fetch(&authority, "www.example.org", &good).await.unwrap_err();
    assert_eq!(wrong.result_type(), ResultType::StsWebpkiInvalid);
}

#[tokio::test]
async fn what_is_no_policy_is_not_taken() {
    let authority = Authority::new();
    let name = "mta-sts.example.org";
    let large = format!("{POLICY}{}", "x: y\n".repeat(POLICY_MAX / 5));
    let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://www.example.org/\r\nContent-Length: 0\r\n\r\n";
    for (answer, kind, text) in [
        (redirect.as_bytes().to_vec(), ResultType::StsPolicyFetchError, "301"),
        (
            response("404 Not Found", "text/plain", POLICY),
            ResultType::StsPolicyFetchError,
            "404",
        ),
        (
            response("200 OK", "text/html", POLICY),
            ResultType::StsPolicyFetchError,
            "text/html",
        ),
        (
            response("200 OK", "text/plain", &large),
            ResultType::StsPolicyFetchError,
            "larger",
        ),
        (
            response("200 OK", "text/plain", "hello"),
            ResultType::StsPolicyInvalid,
            "hello",
        ),
        (b"hello\r\n".to_vec(), ResultType::StsPolicyFetchError, ""),
        (Vec::new(), ResultType::StsPolicyFetchError, ""),
        (good_but_short(), ResultType::StsPolicyFetchError, ""),
    ] {
        let error = fetch(&authority, name, &answer).await.unwrap_err();
        assert_eq!(error.result_type(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

fn good_but_short() -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 500\r\n\r\n{POLICY}").into_bytes()
}
