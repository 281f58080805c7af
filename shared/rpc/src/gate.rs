//! The one layer in front of every service, in both shapes: who calls, whether they may, for how long, in which trace.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::deadline::{self, Clock};
use crate::identity::Identity;
use crate::methods::{self, Kind};
use crate::trace;

/// Puts a [`Gate`] in front of a service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GateLayer;

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner }
    }
}

/// Lets through what the table allows. The transport has put the caller's [`Identity`] in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Gate<S = Routes> {
    inner: S,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let path = request.uri().path();
        let kind = match permitted(request.extensions().get::<Identity>(), path) {
            Ok(kind) => kind,
            Err(status) => return refuse(status),
        };
        let span = tracing::debug_span!("rpc", otel.kind = "server", rpc.method = path);
        trace::extract(request.headers(), &span);
        // The deadline is here only if the request came over the network; the channel holds it in-process.
        let clock = deadline::take(request.headers_mut())
            .filter(|_| kind == Kind::Unary)
            .map(|limit| (Clock::new(kind, Some(limit)), request.uri().path().to_owned()));
        let handled = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(
            async move {
                let answer = async {
                    match handled.await {
                        Ok(Ok(answer)) => Ok(answer),
                        Err(panic) => Err(panicked(panic.as_ref())),
                    }
                };
                let answer = match clock {
                    Some((clock, path)) => clock.bound(&path, answer).await,
                    None => answer.await,
                };
                Ok(answer.unwrap_or_else(Status::into_http))
            }
            .instrument(span),
        )
    }
}

fn permitted(caller: Option<&Identity>, path: &str) -> Result<Kind, Status> {
    let Some(caller) = caller else {
        return Err(Status::unauthenticated("the transport did not establish who calls"));
    };
    match methods::method(path) {
        Some(method) if method.allows(caller) => Ok(method.kind),
        _ => {
            tracing::warn!(caller = %caller, method = path, "refused a call that the caller may not make");
            Err(Status::permission_denied(format!("{caller} may not call {path}")))
        }
    }
}

fn refuse(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// A handler's bug ends its own call, in both shapes, and never its caller's task.
fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or(panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("without text"), "a handler panicked");
    Status::internal("the handler panicked; its service's log has the details")
}
