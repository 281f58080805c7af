//! One HTTP/2 connection to a service, made when needed and made again when lost.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::server::CALLER_HEADER;
use crate::{ClientTls, Endpoint, Identity};

/// How long a call waits for a connection, within its deadline: long enough for a service that restarts, short enough
/// for a peer that waits for an answer.
pub const CONNECT_WAIT: Duration = Duration::from_secs(4);

/// For one attempt: name, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses between attempts double from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// An idle connection to a host that is gone is noticed after the sum of both.
pub(crate) const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// What one stream, and all of a connection, may have in flight: several pages.
pub(crate) const WINDOWS: (u32, u32) = (2 << 20, 8 << 20);
/// Bytes of a frame: a page takes few of them, and others of the connection still get their turn.
pub(crate) const FRAME_BYTES: u32 = 256 << 10;

#[derive(Clone)]
enum State {
    /// Nobody has needed it since it was made or lost.
    Idle,
    /// A task is connecting; why its last attempt failed.
    Connecting(Option<Arc<str>>),
    Ready(SendRequest<Body>),
}

pub(crate) struct Connection {
    endpoint: Endpoint,
    caller: HeaderValue,
    tls: Option<Arc<ClientTls>>,
    /// Scheme and authority for requests, as HTTP/2 wants them.
    origin: Uri,
    state: watch::Sender<State>,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, caller: &Identity, tls: Option<Arc<ClientTls>>) -> Arc<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let authority = match &endpoint {
            Endpoint::Tcp(address) => address.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let origin = format!("{scheme}://{authority}/")
            .parse()
            .unwrap_or_else(|_| Uri::from_static("http://localhost/"));
        let caller = HeaderValue::from_str(caller.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
        Arc::new(Self {
            endpoint,
            caller,
            tls,
            origin,
            state: watch::Sender::new(State::Idle),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends the request, once more if the connection was closing and certainly did not take it.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
        ends: Option<Instant>,
    ) -> Result<Response<Incoming>, Status> {
        self.address(&mut request);
        let wait = Instant::now() + CONNECT_WAIT;
        let wait = ends.map_or(wait, |ends| ends.min(wait));
        let mut again = true;
        loop {
            let mut sender = self.ready(wait).await?;
            let mut error = match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) if again => {
                    request = unsent;
                    again = false;
                    self.lost(&sender);
                }
                _ => return Err(self.failed(&error.into_error())),
            }
        }
    }

    fn address(&self, request: &mut Request<Body>) {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(CALLER_HEADER);
        if self.tls.is_none() && matches!(self.endpoint, Endpoint::Tcp(_)) {
            request.headers_mut().insert(CALLER_HEADER, self.caller.clone());
        }
    }

    /// The error of a call that was sent: what came of it is not known.
    fn failed(&self, error: &hyper::Error) -> Status {
        Status::unavailable(format!("connection to {}: {}", self.endpoint, Chain(error)))
    }

    /// The error of an answer that broke off. What the transport can't tell better is a lost connection.
    pub(crate) fn broken(&self, error: hyper::Error) -> Status {
        let lost = self.failed(&error);
        let status = Status::from_error(Box::new(error));
        match status.code() {
            Code::Unknown | Code::Internal => lost,
            _ => status,
        }
    }

    /// Waits for a connection, and starts making one if nobody does.
    async fn ready(self: &Arc<Self>, wait: Instant) -> Result<SendRequest<Body>, Status> {
        let mut state = self.state.subscribe();
        loop {
            let current = state.borrow_and_update().clone();
            match current {
                State::Ready(sender) if !sender.is_closed() => return Ok(sender),
                State::Ready(sender) => self.lost(&sender),
                State::Idle => self.connect(),
                State::Connecting(_) => {}
            }
            if !matches!(timeout_at(wait, state.changed()).await, Ok(Ok(()))) {
                let why = match &*self.state.borrow() {
                    State::Connecting(Some(why)) => why.to_string(),
                    _ => "no connection yet".to_owned(),
                };
                return Err(Status::unavailable(format!("connect to {}: {why}", self.endpoint)));
            }
        }
    }

    /// Forgets a connection that ended, unless it was replaced already.
    fn lost(&self, sender: &SendRequest<Body>) {
        let closed = sender.is_closed();
        self.state.send_if_modified(|state| {
            let stale = matches!(state, State::Ready(now) if now.is_closed() || !closed);
            if stale {
                *state = State::Idle;
            }
            stale
        });
    }

    /// Starts the task that connects, which goes on until it succeeds or nobody holds a channel any more.
    fn connect(self: &Arc<Self>) {
        let begun = self.state.send_if_modified(|state| {
            let idle = matches!(state, State::Idle);
            if idle {
                *state = State::Connecting(None);
            }
            idle
        });
        if begun {
            tokio::spawn(connect(Arc::downgrade(self)));
        }
    }

    async fn attempt(&self) -> Result<SendRequest<Body>, String> {
        match &self.endpoint {
            Endpoint::Unix(path) => handshake(UnixStream::connect(path).await.map_err(|e| e.to_string())?).await,
            Endpoint::Tcp(address) => {
                let Some(tls) = &self.tls else {
                    return handshake(plaintext(address).await?).await;
                };
                let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
                let _ = stream.set_nodelay(true);
                let host = Endpoint::host_port(address).map_or(address.as_str(), |(host, _)| host);
                handshake(tls.connect(host, stream).await?).await
            }
        }
    }
}

/// Connects without TLS, which is for loopback only: a name that leads elsewhere is not even tried.
async fn plaintext(address: &str) -> Result<TcpStream, String> {
    let found: Vec<_> = tokio::net::lookup_host(address)
        .await
        .map_err(|e| e.to_string())?
        .collect();
    if let Some(elsewhere) = found.iter().find(|found| !found.ip().is_loopback()) {
        return Err(format!(
            "{} is not a loopback address, so plaintext is refused; configure [rpc.tls]",
            elsewhere.ip()
        ));
    }
    let stream = TcpStream::connect(&*found).await.map_err(|e| e.to_string())?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects and publishes the result, with growing pauses. Holds the connection only while it works on it.
async fn connect(connection: Weak<Connection>) {
    let mut pause = BACKOFF.0;
    loop {
        let Some(this) = connection.upgrade() else { return };
        let attempt = timeout(CONNECT_TIMEOUT, this.attempt()).await;
        match attempt.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_TIMEOUT:?}"))) {
            Ok(sender) => {
                tracing::debug!(endpoint = %this.endpoint, "connected");
                this.state.send_replace(State::Ready(sender));
                return;
            }
            Err(why) => {
                tracing::debug!(endpoint = %this.endpoint, why, "not connected, trying again");
                this.state.send_replace(State::Connecting(Some(why.into())));
            }
        }
        drop(this);
        // Jitter keeps the clients of a service that restarted from coming back in step.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Chain(&e).to_string())?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = %Chain(&error), "connection ended");
        }
    });
    Ok(sender)
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let why = error.to_string();
            // Some errors say their cause themselves.
            if !text.ends_with(&why) {
                text.push_str(": ");
                text.push_str(&why);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}
