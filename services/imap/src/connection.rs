//! The client's byte stream: what it sent and we have not looked at yet, and what we have to say and not sent yet.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mox_imap_proto::framer::take_line;
use mox_service::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::deflate::{Deflated, Tables};
use crate::limits;
use crate::reply::Stop;

/// A connection. Its input buffer starts where the last command ended.
pub(crate) struct Connection {
    /// None only while TLS is being started.
    stream: Option<BoxStream>,
    pub input: BytesMut,
    /// To be flushed whenever the client is waited for.
    pub out: BytesMut,
    /// Part of a literal was sent: nothing can be said until the rest was.
    pub in_literal: bool,
}

impl Connection {
    pub(crate) fn new(stream: BoxStream) -> Self {
        Self {
            stream: Some(stream),
            input: BytesMut::new(),
            out: BytesMut::new(),
            in_literal: false,
        }
    }

    fn stream(&mut self) -> io::Result<&mut BoxStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The stream, for starting TLS on it.
    pub(crate) fn take_stream(&mut self) -> io::Result<BoxStream> {
        self.stream.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The stream that TLS was started on.
    pub(crate) fn put_stream(&mut self, stream: BoxStream) {
        self.stream = Some(stream);
    }

    /// From here on both sides send compressed. What was read behind the command is so already.
    pub(crate) fn compress(&mut self, tables: Arc<Tables>) -> io::Result<()> {
        let stream = self.take_stream()?;
        let read = std::mem::take(&mut self.input);
        self.put_stream(Box::new(Deflated::new(stream, read, tables)));
        Ok(())
    }

    /// Reads what has arrived into at least `room` octets of room. Cancelling loses nothing.
    pub(crate) async fn fill(&mut self, room: usize) -> Result<(), Stop> {
        if self.input.is_empty() && self.input.capacity() > 4 * room {
            self.input = BytesMut::new();
        }
        self.input.reserve(room);
        let Self { stream, input, .. } = self;
        let stream = stream
            .as_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        match stream.read_buf(input).await? {
            0 => Err(Stop::Closed(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// [`Connection::fill`] for what the client is to send at once.
    pub(crate) async fn fill_soon(&mut self, room: usize) -> Result<(), Stop> {
        self.flush().await?;
        match timeout(limits::INPUT, self.fill(room)).await {
            Ok(result) => result,
            Err(_) => Err(Stop::Bye("Too slow".into())),
        }
    }

    /// Sends what was gathered. Room that was only needed for a large answer is given back.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.send_gathered().await?;
        let stream = self.stream()?;
        limited(limits::OUTPUT, stream.flush()).await?;
        Ok(())
    }

    /// Gives back the room of buffers that hold nothing: before waiting for long.
    pub(crate) fn shrink(&mut self) {
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    async fn send_gathered(&mut self) -> Result<(), Stop> {
        let Self { stream, out, .. } = self;
        let stream = stream
            .as_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        write(stream, out).await?;
        out.clear();
        Ok(())
    }

    /// Sends what was gathered if it is much.
    pub(crate) async fn flush_if_large(&mut self) -> Result<(), Stop> {
        if self.out.len() >= limits::OUTPUT_BYTES {
            self.send_gathered().await
        } else {
            Ok(())
        }
    }

    /// Adds a piece of a message to the output: as soon as it is large, it is sent, so that a slow reader holds no more
    /// than one piece.
    pub(crate) async fn send(&mut self, piece: &Bytes) -> Result<(), Stop> {
        if piece.len() < limits::DIRECT_BYTES {
            self.out.put_slice(piece);
            return self.flush_if_large().await;
        }
        self.send_gathered().await?;
        write(self.stream()?, piece).await?;
        Ok(())
    }

    /// A line that answers a continuation.
    pub(crate) async fn line(&mut self, most: usize) -> Result<Bytes, Stop> {
        loop {
            match take_line(&mut self.input, most) {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => self.fill_soon(limits::COMMAND_ROOM).await?,
                Err(_) => return Err(Stop::Bye("The line is too long".into())),
            }
        }
    }

    /// The next octets of a literal, at least one and at most `most`.
    pub(crate) async fn piece(&mut self, most: u64) -> Result<Bytes, Stop> {
        if self.input.is_empty() {
            self.fill_soon(
                limits::LITERAL_ROOM
                    .min(usize::try_from(most).unwrap_or(usize::MAX))
                    .max(1),
            )
            .await?;
        }
        let n = self.input.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(self.input.split_to(n).freeze())
    }

    /// Reads a literal and throws it away.
    pub(crate) async fn discard(&mut self, size: u64) -> Result<(), Stop> {
        let mut left = size;
        while left > 0 {
            left -= self.piece(left).await?.len() as u64;
        }
        Ok(())
    }

    /// A last line, if the client takes it.
    pub(crate) async fn bye(&mut self, text: &str) {
        if self.in_literal || self.stream.is_none() {
            return;
        }
        self.out.put_slice(b"* BYE ");
        crate::reply::write_text(text, &mut self.out);
        self.out.put_slice(b"\r\n");
        let _ = timeout(limits::BYE, self.flush()).await;
    }

    /// Ends the stream: for TLS, with its closing alert.
    pub(crate) async fn close(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = timeout(limits::BYE, stream.shutdown()).await;
        }
    }
}

async fn write(stream: &mut BoxStream, mut data: &[u8]) -> io::Result<()> {
    while data.has_remaining() {
        let n = limited(limits::OUTPUT, stream.write(data)).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data.advance(n);
    }
    Ok(())
}

async fn limited<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
