//! One request over HTTP, on a connection of its own, of whose answer little is read.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mox_smtp::Stream;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the text of an answer is waited for: its status is what counts.
const ANSWER: Duration = Duration::from_secs(10);
/// Octets of an answer's text that are read.
const ANSWER_MAX: usize = 512;
/// Octets of an answer's header, and how many fields it may have.
const HEADER_MAX: usize = 32 << 10;
const FIELDS_MAX: usize = 100;

/// Sends a request, and gives the status of the answer with the beginning of its text, as much as comes before `end`.
/// `to` is for errors. Redirects are not followed.
///
/// # Errors
/// In words, if there is no answer.
pub(crate) async fn exchange(
    stream: Stream,
    request: Request<Full<Bytes>>,
    to: &str,
    end: Instant,
) -> Result<(StatusCode, String), String> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEADER_MAX).max_headers(FIELDS_MAX);
    let failed = |e: hyper::Error| format!("posting to {to}: {}", whole(&e));
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let code = response.status();
        Ok((code, text(response.into_body(), end).await))
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match timeout(Duration::ZERO, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ended.err().map_or_else(|| "connection was closed".to_owned(), failed)),
        },
    }
}

/// The beginning of an answer's text, as much as comes in time.
async fn text(mut body: Incoming, end: Instant) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < ANSWER_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                let room = ANSWER_MAX - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
    };
    let _ = timeout_at(end.min(Instant::now() + ANSWER), reading).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An error with what caused it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
