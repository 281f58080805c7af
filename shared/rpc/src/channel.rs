//! The client's side of every call.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::connection::Connection;
use crate::deadline::{self, Clock, ResponseBody};
use crate::gate::{Gate, GateLayer};
use crate::methods::{self, Kind};
use crate::{ClientTls, Endpoint, Identity, trace};

/// Reaches one other service, in this process or over the network: what generated clients are built on, as in
/// `MailServiceClient::new(channel)`. Cheap to clone; clones share a connection.
#[derive(Clone)]
pub struct Channel(Inner);

#[derive(Clone)]
enum Inner {
    InProcess { gate: Gate, caller: Identity },
    Network(Arc<Connection>),
}

impl Channel {
    /// Calls `routes` directly: no socket, no HTTP/2, on the caller's task. The same table of who may call what applies.
    #[must_use]
    pub fn in_process(routes: Routes, caller: Identity) -> Channel {
        Channel(Inner::InProcess {
            gate: GateLayer.layer(routes.prepare()),
            caller,
        })
    }

    /// Calls a service over the network, from its first use on. Without `tls`, a TCP endpoint must be on loopback, or
    /// calls fail; with it, the server's certificate must be valid for the endpoint's host.
    ///
    /// `caller` is what a plaintext loopback server takes this side for; others see the certificate, or the peer's user.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // As in-process, so that what builds channels treats both shapes alike.
    pub fn connect(endpoint: Endpoint, caller: Identity, tls: Option<Arc<ClientTls>>) -> Channel {
        Channel(Inner::Network(Connection::new(endpoint, &caller, tls)))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::InProcess { caller, .. } => write!(f, "Channel(in-process, as {caller})"),
            Inner::Network(connection) => write!(f, "Channel({})", connection.endpoint()),
        }
    }
}

/// The future of one call.
type Call = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Call {
        let path: Arc<str> = request.uri().path().into();
        // The gate refuses what has no row; which clock it would have had does not matter.
        let kind = methods::method(&path).map_or(Kind::Unary, |method| method.kind);
        let clock = Clock::new(kind, deadline::take(request.headers_mut()));
        // What a caller keeps in its extensions is its own: over the network they don't travel either.
        *request.extensions_mut() = Extensions::new();
        let (mut request, ending) = {
            let (parts, body) = request.into_parts();
            let (body, ending) = deadline::tie(body, kind, &clock);
            (Request::from_parts(parts, body), ending)
        };
        match &mut self.0 {
            Inner::InProcess { gate, caller } => {
                request.extensions_mut().insert(caller.clone());
                let answer = gate.call(request);
                Box::pin(async move {
                    let answer = clock
                        .bound(&path, async {
                            answer.await.map_err(|never: Infallible| match never {})
                        })
                        .await?;
                    Ok(answer.map(|body| Body::new(ResponseBody::new(body, clock, path, ending))))
                })
            }
            Inner::Network(connection) => {
                let connection = Arc::clone(connection);
                trace::inject(request.headers_mut());
                if kind == Kind::Unary
                    && let Some(limit) = clock.limit()
                    && let Ok(value) = HeaderValue::try_from(deadline::format(limit))
                {
                    request.headers_mut().insert(deadline::HEADER, value);
                }
                Box::pin(async move {
                    let answer = clock.bound(&path, connection.send(request, clock.ends())).await?;
                    Ok(answer.map(|body| {
                        let body = body.map_err(move |error| connection.broken(error));
                        Body::new(ResponseBody::new(Body::new(body), clock, path, ending))
                    }))
                })
            }
        }
    }
}
