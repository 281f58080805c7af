//! Fetching a policy (RFC 8461 §3.3).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mox_dns::{Resolver, host_addresses};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{POLICY_MAX, Policy, PolicyError};
use crate::fault::handshake_fault;
use crate::report::ResultType;

/// All of it. RFC 8461 §3.3 suggests a minute.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// One address, to the end of the handshake: another one may answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses that are tried.
const ADDRESSES_MAX: usize = 4;
/// Octets of the header of a response.
const HEADER_MAX: usize = 16 << 10;
/// Where the policy is (RFC 8461 §3.2).
const PATH: &str = "/.well-known/mta-sts.txt";
/// The port of HTTPS.
const PORT: u16 = 443;

/// A byte stream.
pub trait AsyncStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncStream for T {}

/// One of them, whichever it is.
pub type Stream = Box<dyn AsyncStream>;

/// Makes connections.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// Connects to an address.
    async fn connect(&self, to: SocketAddr) -> io::Result<Stream>;
}

/// Why there is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The host has no address, or DNS did not answer.
    #[error("{0}")]
    Dns(#[from] mox_dns::Error),
    /// It could not be reached, or did not answer as it should.
    #[error("fetching {0}: {1}")]
    Http(String, String),
    /// Its certificate is not valid.
    #[error("fetching {0}: {1}")]
    Certificate(String, String),
    /// What it answered is no policy.
    #[error("what {0} answers is no policy: {1}")]
    Policy(String, PolicyError),
}

impl FetchError {
    /// What it is called in a report.
    #[must_use]
    pub fn result_type(&self) -> ResultType {
        match self {
            Self::Dns(_) | Self::Http(..) => ResultType::StsPolicyFetchError,
            Self::Certificate(..) => ResultType::StsWebpkiInvalid,
            Self::Policy(..) => ResultType::StsPolicyInvalid,
        }
    }
}

/// A policy, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The policy.
    pub policy: Policy,
    /// As it was sent.
    pub text: Bytes,
}

/// The host that has a domain's policy.
#[must_use]
pub fn host_of(domain: &str) -> String {
    format!("mta-sts.{}", domain.trim_end_matches('.'))
}

/// Fetches policies.
#[derive(Clone)]
pub struct Fetcher {
    /// Finds hosts.
    pub resolver: Arc<dyn Resolver>,
    /// Reaches them.
    pub connect: Arc<dyn Connect>,
    /// Verifies them: certificates must be valid, for the name that is asked for.
    pub tls: Arc<ClientConfig>,
    /// Their port.
    pub port: u16,
}

impl Fetcher {
    /// As the world has it.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, connect: Arc<dyn Connect>, tls: Arc<ClientConfig>) -> Self {
        Self {
            resolver,
            connect,
            tls,
            port: PORT,
        }
    }

    /// The policy of a domain, whose name is of A-labels.
    ///
    /// # Errors
    /// If there is none, or it can't be had.
    pub async fn fetch(&self, domain: &str) -> Result<Fetched, FetchError> {
        let host = host_of(domain);
        let url = format!("https://{host}{PATH}");
        let late = |_| FetchError::Http(url.clone(), "it took too long".into());
        timeout(FETCH_TIMEOUT, self.within(&host, &url)).await.map_err(late)?
    }

    async fn within(&self, host: &str, url: &str) -> Result<Fetched, FetchError> {
        let addresses = host_addresses(self.resolver.as_ref(), host).await?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| FetchError::Http(url.to_owned(), e.to_string()))?;
        let mut last = None;
        for ip in addresses.records.into_iter().take(ADDRESSES_MAX) {
            let to = SocketAddr::new(ip, self.port);
            match timeout(CONNECT_TIMEOUT, self.connect(to, name.clone(), url)).await {
                Ok(Ok(stream)) => return get(stream, host, url).await,
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    let text = format!("{to} does not answer in time");
                    last = Some(FetchError::Http(url.to_owned(), text));
                }
            }
        }
        Err(last.unwrap_or_else(|| FetchError::Http(url.to_owned(), "the host has no address".into())))
    }

    async fn connect(
        &self,
        to: SocketAddr,
        name: ServerName<'static>,
        url: &str,
    ) -> Result<tokio_rustls::client::TlsStream<Stream>, FetchError> {
        let stream = self.connect.connect(to).await;
        let stream = stream.map_err(|e| FetchError::Http(url.to_owned(), format!("connecting to {to}: {e}")))?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        handshake.map_err(|e| match handshake_fault(&e) {
            (ResultType::ValidationFailure, text) => FetchError::Http(url.to_owned(), format!("TLS: {text}")),
            (_, text) => FetchError::Certificate(url.to_owned(), text),
        })
    }
}

async fn get(stream: tokio_rustls::client::TlsStream<Stream>, host: &str, url: &str) -> Result<Fetched, FetchError> {
    let http = |text: String| FetchError::Http(url.to_owned(), text);
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(HEADER_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| http(e.to_string()))?;
    let request = Request::get(PATH)
        .header(HOST, host)
        .header(ACCEPT, "text/plain")
        .header(USER_AGENT, "mox")
        .body(Empty::<Bytes>::new())
        .map_err(|e| http(e.to_string()))?;
    // Ends with this function, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| http(e.to_string()))?;
    let text = read(response, url).await?;
    let policy = Policy::parse(&text).map_err(|e| FetchError::Policy(url.to_owned(), e))?;
    Ok(Fetched { policy, text })
}

async fn read(response: Response<hyper::body::Incoming>, url: &str) -> Result<Bytes, FetchError> {
    let http = |text: String| FetchError::Http(url.to_owned(), text);
    let status = response.status();
    // RFC 8461 §3.3: redirects are not followed.
    if status.as_u16() != 200 {
        return Err(http(format!("the host answers {status}, not 200")));
    }
    let media = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media = media.map(|m| m.split(';').next().unwrap_or_default().trim());
    // RFC 8461 §3.2: so that a host where users can put files is not taken for one that has a policy.
    if !media.is_some_and(|m| m.eq_ignore_ascii_case("text/plain")) {
        return Err(http(format!(
            "the answer is {}, not text/plain",
            media.unwrap_or("of no type")
        )));
    }
    let body = Limited::new(response.into_body(), POLICY_MAX).collect().await;
    let body = body.map_err(|e| {
        http(match e.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("the answer is larger than {POLICY_MAX} octets"),
            None => e.to_string(),
        })
    })?;
    Ok(body.to_bytes())
}
