//! One POST, on a connection of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Request, StatusCode};
use http_body_util::Full;
use mox_smtp::Stream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::target::{Receiver, Target};
use crate::exchange::exchange;
use crate::net::Dialer;

/// How long an attempt takes at most, with all there is to it.
const TOTAL: Duration = Duration::from_secs(60);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Names that are looked up at once: each holds a thread for as long as the system's resolver takes.
const LOOKUPS_MAX: usize = 32;

/// Our names of the fields that tell calls apart.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("x-mox-webhook-id");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("x-mox-webhook-attempt");

/// What is posted.
pub(super) struct Post<'a> {
    pub target: &'a Target,
    /// The number of the webhook, and of the attempt, from 1.
    pub id: u64,
    pub attempt: u32,
    pub authorization: Option<&'a str>,
    pub payload: Bytes,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 if there was none.
    pub code: u16,
    /// Empty if it was 200.
    pub error: String,
    /// The beginning of its text.
    pub text: String,
}

impl Answer {
    fn none(error: String) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }

    pub(super) fn success(&self) -> bool {
        self.error.is_empty()
    }
}

/// Posts.
pub(crate) struct Client {
    dialer: Arc<dyn Dialer>,
    tls: TlsConnector,
    lookups: Semaphore,
}

impl Client {
    /// `tls` verifies who it connects to.
    pub(crate) fn new(dialer: Arc<dyn Dialer>, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            dialer,
            tls: Arc::new(tls).into(),
            lookups: Semaphore::new(LOOKUPS_MAX),
        }
    }

    /// Posts, and waits for the answer, for a bounded time.
    pub(super) async fn post(&self, post: &Post<'_>) -> Answer {
        let end = Instant::now() + TOTAL;
        match timeout_at(end, self.exchange(post, end)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::none(error),
            Err(_) => Answer::none(format!("no answer within {} seconds", TOTAL.as_secs())),
        }
    }

    async fn exchange(&self, post: &Post<'_>, end: Instant) -> Result<Answer, String> {
        let request = request(post)?;
        let stream = self.connect(&post.target.receiver).await?;
        let (code, text) = exchange(stream, request, &post.target.authority, end).await?;
        let error = match code {
            StatusCode::OK => String::new(),
            // Redirects, too: they are not followed.
            code => format!("answer was {code}, not 200 OK"),
        };
        Ok(Answer {
            code: code.as_u16(),
            error,
            text,
        })
    }

    async fn connect(&self, receiver: &Receiver) -> Result<Stream, String> {
        let mut error = format!("{} has no address", receiver.host);
        for address in self.addresses(receiver).await?.into_iter().take(ADDRESSES_MAX) {
            match self.connect_to(receiver, address).await {
                Ok(stream) => return Ok(stream),
                Err(e) => error = format!("connecting to {address}: {e}"),
            }
        }
        Err(error)
    }

    async fn connect_to(&self, receiver: &Receiver, address: SocketAddr) -> io::Result<Stream> {
        let stream = self.dialer.dial(address, None).await?;
        if !receiver.tls {
            return Ok(stream);
        }
        let name = ServerName::try_from(receiver.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }

    /// By the system's own resolver: receivers are often known to this host or its neighbours only.
    async fn addresses(&self, receiver: &Receiver) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = receiver.host.parse::<IpAddr>() {
            return Ok(vec![(ip, receiver.port).into()]);
        }
        let _turn = self.lookups.acquire().await.map_err(|e| e.to_string())?;
        let found = tokio::net::lookup_host((receiver.host.as_str(), receiver.port)).await;
        let found = found.map_err(|e| format!("looking up {}: {e}", receiver.host))?;
        Ok(found.collect())
    }
}

fn request(post: &Post<'_>) -> Result<Request<Full<Bytes>>, String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut request = Request::post(&post.target.path)
        .header(HOST, &post.target.authority)
        .header(USER_AGENT, format!("mox/{version} (webhook)"))
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(CONTENT_LENGTH, post.payload.len())
        .header(CONNECTION, "close")
        .header(WEBHOOK_ID, post.id)
        .header(WEBHOOK_ATTEMPT, post.attempt);
    if let Some(authorization) = post.authorization {
        // Its text must not be in an error, which is kept.
        let mut value = HeaderValue::from_str(authorization)
            .map_err(|_| "authorization has characters that no header field can have".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = Full::new(post.payload.clone());
    request.body(body).map_err(|e| format!("making a request: {e}"))
}
