//! How long a call may take.
//!
//! Three clocks, chosen by the kind of the method (see `methods.rs`): a unary call has a deadline for the whole; a
//! stream has a time without messages in either direction; a watch has none unless its caller sets one, as silence is
//! its normal state. Timers are made only where something has to be waited for: an in-process call that answers at once
//! costs none.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::{IntoRequest, Request, Status};

use crate::methods::Kind;

/// For calls that don't say.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The longest that can be asked for: what the header can carry, and still far from overflowing a clock.
const LONGEST: Duration = Duration::from_secs(100 * 24 * 3600);

/// gRPC over HTTP/2, "Timeout": at most eight digits and a unit.
pub(crate) const HEADER: &str = "grpc-timeout";

/// Sets how long this call may take; for streams, how long they may go without a message.
pub fn with_deadline<T>(request: impl IntoRequest<T>, deadline: Duration) -> Request<T> {
    let mut request = request.into_request();
    request.set_timeout(deadline);
    request
}

/// Takes the deadline that the caller set off the headers.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<Duration> {
    let value = headers.remove(HEADER)?;
    parse(value.to_str().ok()?)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    let duration = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    };
    Some(duration.min(LONGEST))
}

/// As the header wants it, in the finest unit that fits.
pub(crate) fn format(duration: Duration) -> String {
    let limit = 99_999_999;
    let millis = duration.as_millis();
    if millis <= limit {
        format!("{millis}m")
    } else {
        format!("{}S", u128::from(duration.as_secs()).min(limit))
    }
}

/// When a call ends, shared by its request, its future and its answer.
#[derive(Clone)]
pub(crate) struct Clock {
    started: Instant,
    limit: Option<Duration>,
    idle: bool,
    /// Milliseconds from `started` to the last message, for streams.
    last: Arc<AtomicU64>,
}

impl Clock {
    pub(crate) fn new(kind: Kind, asked: Option<Duration>) -> Self {
        let limit = match kind {
            Kind::Watch => asked,
            Kind::Unary | Kind::Stream => Some(asked.unwrap_or(DEFAULT_DEADLINE)),
        };
        Self {
            started: Instant::now(),
            limit,
            idle: kind != Kind::Unary,
            last: Arc::default(),
        }
    }

    /// What is left of the whole call's time; of a stream's, all of its idle time.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    fn touch(&self) {
        if self.idle {
            let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.store(now, Ordering::Relaxed);
        }
    }

    /// When it ends unless another message comes.
    pub(crate) fn ends(&self) -> Option<Instant> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        Some(self.started + last + self.limit?)
    }

    fn exceeded(&self, path: &str) -> Status {
        let limit = self.limit.unwrap_or_default();
        Status::deadline_exceeded(if self.idle {
            format!("{path}: no message for {limit:?}")
        } else {
            format!("{path}: no answer within {limit:?}")
        })
    }

    /// Runs `call` until the clock ends.
    pub(crate) async fn bound<T>(
        &self,
        path: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut call = std::pin::pin!(call);
        loop {
            let Some(ends) = self.ends() else { return call.await };
            match tokio::time::timeout_at(ends, &mut call).await {
                Ok(done) => {
                    self.touch();
                    return done;
                }
                // A message of the request may have moved the end meanwhile.
                Err(_) if self.ends().is_some_and(|ends| ends > Instant::now()) => {}
                Err(_) => return Err(self.exceeded(path)),
            }
        }
    }
}

/// The body of a request, whose messages keep a stream alive. It ends with the call that it is of: HTTP/2 would keep
/// the other side's handler for as long as there may be more of a request, though nobody waits for its answer.
struct RequestBody {
    inner: Body,
    clock: Clock,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Ends the request body when dropped.
pub(crate) struct Ending {
    _guard: Option<DropGuard>,
}

/// Ties the body of a request to its call: to what is returned, which moves on to the answer. A unary request is sent
/// whole, so it needs no tie.
pub(crate) fn tie(inner: Body, kind: Kind, clock: &Clock) -> (Body, Ending) {
    if kind == Kind::Unary {
        return (inner, Ending { _guard: None });
    }
    let token = CancellationToken::new();
    let ended = Box::pin(token.clone().cancelled_owned());
    let body = Body::new(RequestBody {
        inner,
        clock: clock.clone(),
        ended,
    });
    (
        body,
        Ending {
            _guard: Some(token.drop_guard()),
        },
    )
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::cancelled("the call ended"))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.clock.touch();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, which fails when the clock ends.
pub(crate) struct ResponseBody {
    inner: Option<Body>,
    clock: Clock,
    path: Arc<str>,
    sleep: Option<Pin<Box<Sleep>>>,
    ending: Option<Ending>,
}

impl ResponseBody {
    pub(crate) fn new(inner: Body, clock: Clock, path: Arc<str>, ending: Ending) -> Self {
        Self {
            inner: Some(inner),
            clock,
            path,
            sleep: None,
            ending: Some(ending),
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            this.clock.touch();
            return Poll::Ready(frame);
        }
        loop {
            let Some(ends) = this.clock.ends() else {
                return Poll::Pending;
            };
            let sleep = this
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends)));
            if sleep.deadline() != ends {
                sleep.as_mut().reset(ends);
            }
            std::task::ready!(sleep.as_mut().poll(cx));
            if this.clock.ends().is_none_or(|ends| ends <= Instant::now()) {
                // Dropping the inner body drops the handler, here or on the other side.
                this.inner = None;
                this.ending = None;
                return Poll::Ready(Some(Err(this.clock.exceeded(&this.path))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_tonic_writes() {
        for seconds in [0.5, 30.0, 3600.0, 90_000.0] {
            let asked = Duration::from_secs_f64(seconds);
            let request = with_deadline((), asked);
            let mut headers = request.metadata().clone().into_headers();
            assert_eq!(take(&mut headers), Some(asked));
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn refuses_what_is_no_timeout() {
        for text in ["", "S", "1", "123456789S", "-1S", "+1S", "1s", "1é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("99999999H"), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn formatting_keeps_milliseconds(millis in 0u64..99_999_999) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn long_ones_keep_seconds(seconds in 100_000u64..8_640_000) {
            prop_assert_eq!(parse(&format(Duration::from_secs(seconds))), Some(Duration::from_secs(seconds)));
        }
    }
}
