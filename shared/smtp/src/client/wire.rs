//! Lines out, replies in.

use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ClientError;
use crate::limits;
use crate::reply::{Reply, parse_line};
use crate::stream::Stream;

/// How long a server that no longer reads is listened to; a bound of ours.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The stream with its buffers. After an error it is broken: nobody knows where in the session it is.
pub(super) struct Wire {
    stream: Stream,
    input: Vec<u8>,
    start: usize,
    broken: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            start: 0,
            broken: false,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn set_broken(&mut self) {
        self.broken = true;
    }

    /// The session is where it should be after all.
    pub(super) fn mend(&mut self) {
        self.broken = false;
    }

    /// The stream, or an error if there is input that was not used.
    pub(super) fn into_stream(self) -> Result<Stream, ()> {
        if self.start < self.input.len() {
            Err(())
        } else {
            Ok(self.stream)
        }
    }

    pub(super) async fn close(&mut self, limit: Duration) {
        let _ = timeout(limit, self.stream.shutdown()).await;
    }

    /// Writes octets as they are. If the server closed the connection, it may have said why: that is the error then.
    pub(super) async fn write(
        &mut self,
        during: &'static str,
        octets: &[u8],
        limit: Duration,
    ) -> Result<(), ClientError> {
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(octets).await?;
            stream.flush().await
        };
        match timeout(limit, write).await {
            Err(_) => {
                self.broken = true;
                Err(ClientError::Timeout { during })
            }
            Ok(Err(source)) => {
                let said = timeout(LAST_WORDS, self.read_reply(during)).await;
                self.broken = true;
                match said {
                    Ok(Ok(reply)) if !reply.is_success() => Err(ClientError::Refused { during, reply }),
                    _ => Err(ClientError::Io { during, source }),
                }
            }
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Writes one or more commands, without the last one's CRLF.
    pub(super) async fn send(&mut self, lines: &str, limit: Duration) -> Result<(), ClientError> {
        for line in lines.split("\r\n") {
            tracing::trace!(line, "client to server");
        }
        self.write("sending a command", format!("{lines}\r\n").as_bytes(), limit)
            .await
    }

    /// Writes a line that is logged as something else.
    pub(super) async fn send_secret(&mut self, shown: &str, line: &str, limit: Duration) -> Result<(), ClientError> {
        tracing::trace!(line = shown, "client to server");
        self.write("AUTH", format!("{line}\r\n").as_bytes(), limit).await
    }

    /// The next reply, all of it within `limit`.
    pub(super) async fn reply(&mut self, during: &'static str, limit: Duration) -> Result<Reply, ClientError> {
        if self.broken {
            return Err(ClientError::Closed { during });
        }
        let reply = timeout(limit, self.read_reply(during))
            .await
            .unwrap_or(Err(ClientError::Timeout { during }));
        match &reply {
            Ok(reply) => {
                tracing::trace!(%reply, "server to client");
                // RFC 5321 §3.8: with 421 the server closes the connection.
                self.broken = reply.code == 421;
            }
            Err(_) => self.broken = true,
        }
        reply
    }

    async fn read_reply(&mut self, during: &'static str) -> Result<Reply, ClientError> {
        let malformed = |why: String| ClientError::Malformed { during, why };
        let mut lines: Vec<Vec<u8>> = Vec::new();
        loop {
            let line = self.read_line(during).await?;
            let (_, last, _) = parse_line(&line).map_err(|e| malformed(e.to_string()))?;
            lines.push(line);
            if last {
                return Reply::parse(lines.iter().map(Vec::as_slice)).map_err(|e| malformed(e.to_string()));
            }
            if lines.len() == limits::REPLY_LINES {
                return Err(malformed(format!("it has more than {} lines", limits::REPLY_LINES)));
            }
        }
    }

    async fn read_line(&mut self, during: &'static str) -> Result<Vec<u8>, ClientError> {
        loop {
            let waiting = &self.input[self.start..];
            if let Some(lf) = memchr(b'\n', waiting) {
                // A bare LF is taken for a line end here: nothing of a reply is passed on as a line.
                let line = waiting[..lf].strip_suffix(b"\r").unwrap_or(&waiting[..lf]).to_vec();
                self.start += lf + 1;
                if self.start == self.input.len() {
                    self.input.clear();
                    self.start = 0;
                }
                return Ok(line);
            }
            if waiting.len() > limits::REPLY_LINE {
                let why = format!("a line is longer than {} octets", limits::REPLY_LINE);
                return Err(ClientError::Malformed { during, why });
            }
            self.input.drain(..self.start);
            self.start = 0;
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(ClientError::Closed { during }),
                Ok(_) => {}
                Err(source) => return Err(ClientError::Io { during, source }),
            }
        }
    }
}
