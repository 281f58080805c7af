//! The server's side of a byte stream: lines in, replies out.

use std::io;
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::data::Decode;
use crate::limits;
use crate::reply::Reply;
use crate::stream::AsyncStream;

/// Octets of the input buffer of a connection that has not sent much: idle ones should cost little.
const INPUT_MIN: usize = 4 * 1024;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The client closed the connection.
    #[error("connection closed by the client")]
    Closed,
    /// Nothing came in time.
    #[error("no data from the client in time")]
    Timeout,
    /// The client doesn't take what is sent to it.
    #[error("client does not read its replies")]
    WriteTimeout,
    /// The line is too long. It was read to its end, and the next one can be read.
    #[error("line is longer than {0} octets")]
    TooLong(usize),
    /// The line is so much too long that its end was not looked for: there is nothing to go on with.
    #[error("line does not end")]
    Endless,
    /// The line ends in LF alone, or has a CR within. It was read to its end, and the next one can be read.
    #[error("line does not end in CRLF")]
    LineEnd,
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// Whether the next line can be read.
    #[must_use]
    pub fn is_of_the_line(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::LineEnd)
    }
}

/// A connection with its buffers. Dropping a future of it loses nothing: what was read stays, and what was to be written
/// is written by the next call.
pub struct Connection<S> {
    stream: S,
    input: Vec<u8>,
    /// What of the input was read and not yet used.
    start: usize,
    end: usize,
    output: Vec<u8>,
    /// How much of the output was written.
    written: usize,
    unflushed: bool,
    idle: Duration,
    /// Octets of an overlong line that were thrown away: its end is still to be found.
    skipping: usize,
}

impl<S: AsyncStream> Connection<S> {
    /// With empty buffers. `idle` is how long each read may take.
    pub fn new(stream: S, idle: Duration) -> Self {
        Self {
            stream,
            input: Vec::new(),
            start: 0,
            end: 0,
            output: Vec::new(),
            written: 0,
            unflushed: false,
            idle,
            skipping: 0,
        }
    }

    /// Whether there is input that was not used yet: the client sent commands in advance.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// The stream, for a TLS handshake over it. Input that was not used and output that was not flushed are lost, see
    /// [`Connection::has_input`].
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Puts a reply into the output. It is written before the next read that has to wait, or by
    /// [`Connection::flush`].
    pub fn reply(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
    }

    /// Writes the output.
    ///
    /// # Errors
    /// If the connection failed, or the client doesn't read.
    pub async fn flush(&mut self) -> Result<(), ReadError> {
        if self.output.is_empty() && !self.unflushed {
            return Ok(());
        }
        timeout(limits::SERVER_WRITE, self.write_all())
            .await
            .map_err(|_| ReadError::WriteTimeout)??;
        Ok(())
    }

    async fn write_all(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            self.unflushed = true;
            match self.stream.write(&self.output[self.written..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.written += n,
            }
        }
        self.output.clear();
        self.written = 0;
        self.stream.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// Waits until the client closes the connection, or it fails, and says which. What the client sends meanwhile is kept
    /// for the next read, up to as much as is read at once; beyond that, its end can't be seen any more, and this never
    /// answers.
    ///
    /// A client that closes its side only, and still reads, looks the same. It can be told what becomes of it.
    pub async fn left(&mut self) -> ReadError {
        loop {
            let waiting = self.end - self.start;
            if waiting >= limits::READ {
                return std::future::pending().await;
            }
            self.make_room();
            match self.stream.read(&mut self.input[self.end..]).await {
                Ok(0) => return ReadError::Closed,
                Ok(n) => self.end += n,
                Err(error) => return error.into(),
            }
        }
    }

    /// Flushes, and tells the client that nothing more will come.
    pub async fn close(&mut self) {
        if self.flush().await.is_ok() {
            let _ = timeout(limits::SERVER_WRITE, self.stream.shutdown()).await;
        }
    }

    /// So that there is room behind the input.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.input.len() {
            if self.start > 0 {
                self.input.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                // Full, or not there yet.
                let larger = (self.input.len() * 2).clamp(INPUT_MIN, limits::READ);
                self.input.resize(larger.max(self.input.len() + 1), 0);
            }
        }
    }

    /// Reads more input, after writing the output.
    async fn fill(&mut self) -> Result<(), ReadError> {
        self.flush().await?;
        self.make_room();
        let read = timeout(self.idle, self.stream.read(&mut self.input[self.end..])).await;
        match read.map_err(|_| ReadError::Timeout)?? {
            0 => Err(ReadError::Closed),
            n => {
                self.end += n;
                // Whoever fills the buffer has more: fewer and larger reads.
                if self.end == self.input.len() && self.input.len() < limits::READ {
                    let larger = (self.input.len() * 4).min(limits::READ);
                    self.input.resize(larger, 0);
                }
                Ok(())
            }
        }
    }

    /// The next line, without its CRLF, of at most `max` octets with it. All of it has to come within the time that one
    /// read may take: who sends an octet now and then holds a connection no longer than who sends none.
    ///
    /// # Errors
    /// See [`ReadError`]; after those [of the line](ReadError::is_of_the_line) the next one can be read.
    pub async fn read_line(&mut self, max: usize) -> Result<&[u8], ReadError> {
        let idle = self.idle;
        timeout(idle, self.line(max)).await.map_err(|_| ReadError::Timeout)?
    }

    async fn line(&mut self, max: usize) -> Result<&[u8], ReadError> {
        let mut searched = 0;
        loop {
            let waiting = &self.input[self.start..self.end];
            if let Some(i) = memchr(b'\n', &waiting[searched..]) {
                let length = searched + i + 1;
                let line = self.start..self.start + length - 1;
                self.start += length;
                if std::mem::take(&mut self.skipping) > 0 || length > max {
                    return Err(ReadError::TooLong(max));
                }
                // RFC 5321 §2.3.8: only CRLF ends a line, and CR is nowhere else.
                return match self.input[line].split_last() {
                    Some((b'\r', line)) if memchr(b'\r', line).is_none() => Ok(line),
                    _ => Err(ReadError::LineEnd),
                };
            }
            searched = waiting.len();
            if self.skipping > 0 || searched > max {
                self.skipping += searched;
                self.start = self.end;
                searched = 0;
                if self.skipping > limits::OVERLONG_LINE {
                    return Err(ReadError::Endless);
                }
            }
            self.fill().await?;
        }
    }

    /// The next piece of a message, or None at its end, or at that of a chunk.
    ///
    /// # Errors
    /// If the connection failed, was closed, or nothing came in time.
    pub async fn read_data(&mut self, decoder: &mut impl Decode) -> Result<Option<&[u8]>, ReadError> {
        loop {
            if decoder.is_done() {
                return Ok(None);
            }
            if self.start == self.end {
                self.fill().await?;
            }
            let step = decoder.decode(&self.input[self.start..self.end]);
            self.start += step.consumed;
            if step.done {
                return Ok(None);
            }
            if !step.data.is_empty() {
                // Found again by its place, since a borrow can't leave a loop that goes on.
                let data = step.data.as_ptr_range();
                let input = self.input.as_ptr_range();
                if input.contains(&data.start) {
                    let at = data.start as usize - input.start as usize;
                    let length = step.data.len();
                    return Ok(Some(&self.input[at..at + length]));
                }
                return Ok(Some(if step.data == b"\r" { b"\r" } else { b"\r\n" }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
