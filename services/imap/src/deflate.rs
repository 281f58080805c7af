//! A stream that is compressed in both directions (RFC 4978): raw DEFLATE (RFC 1951), with a flush for each response.
//!
//! Memory is bounded whatever a client sends: output is decompressed only as far as it is asked for. A stream that has
//! been silent for a while gives its tables (about 330 KiB) back ([`PARK`]): what is needed to go on is only what the
//! client sent last, to which it may refer (at most 32 KiB, and of a client that only waits, the few commands it sent).
//! Streams hand tables on to each other through [`Tables`], so that the process has as many as were used at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use mox_service::BoxStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long nothing arrives before tables are given back.
const PARK: Duration = Duration::from_secs(1);
/// How much effort goes into compressing: text gets nearly as small as with more of it, in half the time.
const LEVEL: u32 = 4;
/// How far back compressed data refers (RFC 1951 §2).
const WINDOW: usize = 32 << 10;
/// Octets that are read from the network at a time.
const INPUT: usize = 4 << 10;
/// Compressed octets that wait for the network before more is taken.
const OUTPUT: usize = 16 << 10;
/// Octets that are compressed at a time.
const PIECE: usize = 16 << 10;
/// What a flush ends in (RFC 1951 §3.2.4): an empty block, so that what follows starts with a block, at an octet.
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Tables of each kind that nobody uses now and are kept.
const KEPT: usize = 64;

/// Tables for compressing and decompressing that nobody uses now.
#[derive(Default)]
pub(crate) struct Tables(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    deflate: Vec<Compress>,
    inflate: Vec<Decompress>,
}

impl Tables {
    fn deflate(&self) -> Compress {
        let kept = self.0.lock().deflate.pop();
        kept.unwrap_or_else(|| Compress::new(Compression::new(LEVEL), false))
    }

    fn inflate(&self) -> Decompress {
        let kept = self.0.lock().inflate.pop();
        kept.unwrap_or_else(|| Decompress::new(false))
    }

    fn take_back(&self, deflate: Option<Compress>, inflate: Option<Decompress>) {
        let deflate = deflate.map(|mut tables| {
            tables.reset();
            tables
        });
        let inflate = inflate.map(|mut tables| {
            tables.reset(false);
            tables
        });
        let mut idle = self.0.lock();
        if idle.deflate.len() < KEPT {
            idle.deflate.extend(deflate);
        }
        if idle.inflate.len() < KEPT {
            idle.inflate.extend(inflate);
        }
    }
}

/// See the module.
pub(crate) struct Deflated {
    stream: BoxStream,
    tables: Arc<Tables>,
    reader: Reader,
    writer: Writer,
    silence: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct Reader {
    input: BytesMut,
    inflate: Option<Decompress>,
    /// What came last.
    history: Vec<u8>,
    /// The last compressed octets.
    tail: [u8; 4],
    ended: bool,
}

#[derive(Default)]
struct Writer {
    deflate: Option<Compress>,
    out: Vec<u8>,
    /// Octets of `out` that were sent.
    sent: usize,
    /// Something was written since the last flush.
    dirty: bool,
}

impl Deflated {
    /// Over a stream, of which what was read already, and is compressed, is given.
    pub(crate) fn new(stream: BoxStream, read: BytesMut, tables: Arc<Tables>) -> Self {
        Self {
            stream,
            tables,
            reader: Reader {
                input: read,
                ..Reader::default()
            },
            writer: Writer::default(),
            silence: None,
        }
    }

    /// While nothing arrives: gives tables back after a while.
    fn silent(&mut self, cx: &mut Context<'_>) {
        if self.reader.inflate.is_none() && self.writer.deflate.is_none() {
            self.silence = None;
            return;
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(PARK)));
        if silence.as_mut().poll(cx).is_ready() {
            self.silence = None;
            let (inflate, deflate) = (self.reader.park(), self.writer.park());
            self.tables.take_back(deflate, inflate);
        }
    }
}

impl Drop for Deflated {
    fn drop(&mut self) {
        self.tables
            .take_back(self.writer.deflate.take(), self.reader.inflate.take());
    }
}

impl Reader {
    /// Decompresses what there is into `out`; answers whether there was anything.
    fn inflate(&mut self, out: &mut ReadBuf<'_>, tables: &Tables) -> io::Result<bool> {
        let mut inflate = match self.inflate.take() {
            Some(inflate) => inflate,
            None if self.input.is_empty() => return Ok(false),
            None => resume(tables.inflate(), &self.history)?,
        };
        let before = (inflate.total_in(), inflate.total_out());
        let room = out.initialize_unfilled();
        let status = inflate
            .decompress(&self.input, room, FlushDecompress::None)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "what the client sent is not compressed"))?;
        let read = usize::try_from(inflate.total_in() - before.0).unwrap_or_default();
        let written = usize::try_from(inflate.total_out() - before.1).unwrap_or_default();
        self.remember(read, &room[..written]);
        out.advance(written);
        self.ended = matches!(status, Status::StreamEnd);
        if read == 0 && written == 0 && !self.input.is_empty() && !self.ended {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.input.advance(read);
        self.inflate = Some(inflate);
        Ok(written > 0)
    }

    fn remember(&mut self, read: usize, written: &[u8]) {
        for octet in &self.input[read.saturating_sub(self.tail.len())..read] {
            self.tail.rotate_left(1);
            self.tail[3] = *octet;
        }
        if written.len() >= WINDOW {
            self.history.clear();
        }
        self.history
            .extend_from_slice(&written[written.len().saturating_sub(WINDOW)..]);
        // Twice as much, so that moving it is rare.
        if self.history.len() > 2 * WINDOW {
            self.history.drain(..self.history.len() - WINDOW);
        }
    }

    /// Only where the client flushed, behind a line: a new block begins there.
    fn park(&mut self) -> Option<Decompress> {
        if self.input.is_empty() && self.tail == FLUSHED && self.history.last() == Some(&b'\n') {
            self.history.drain(..self.history.len().saturating_sub(WINDOW));
            self.history.shrink_to_fit();
            self.input = BytesMut::new();
            return self.inflate.take();
        }
        None
    }
}

/// Goes on behind a flush: what the client may refer to is given as a block without compression (RFC 1951 §3.2.4).
fn resume(mut inflate: Decompress, history: &[u8]) -> io::Result<Decompress> {
    let known = &history[history.len().saturating_sub(WINDOW)..];
    let length = u16::try_from(known.len()).unwrap_or_default();
    if length == 0 {
        return Ok(inflate);
    }
    let mut block = vec![0];
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(&(!length).to_le_bytes());
    block.extend_from_slice(known);
    // With room for one more, so that the block is read to its end.
    let mut out = vec![0; known.len() + 1];
    let mut at = 0;
    while at < block.len() {
        let before = (inflate.total_in(), inflate.total_out());
        let written = usize::try_from(before.1).unwrap_or_default().min(known.len());
        inflate
            .decompress(&block[at..], &mut out[written..], FlushDecompress::None)
            .map_err(io::Error::other)?;
        let read = usize::try_from(inflate.total_in() - before.0).unwrap_or_default();
        if read == 0 {
            return Err(io::Error::other("what was known can't be read again"));
        }
        at += read;
    }
    Ok(inflate)
}

impl Writer {
    fn deflate(&mut self, data: &[u8], tables: &Tables) -> io::Result<()> {
        let Self { deflate, out, .. } = self;
        let deflate = deflate.get_or_insert_with(|| tables.deflate());
        let mut at = 0;
        while at < data.len() {
            out.reserve(data.len() - at + 64);
            let before = deflate.total_in();
            deflate
                .compress_vec(&data[at..], out, FlushCompress::None)
                .map_err(io::Error::other)?;
            at += usize::try_from(deflate.total_in() - before).unwrap_or_default();
        }
        self.dirty = true;
        Ok(())
    }

    /// Ends the block, so that the client can read all that was written.
    fn flush(&mut self) -> io::Result<()> {
        let Self { deflate, out, .. } = self;
        if let (true, Some(deflate)) = (self.dirty, deflate) {
            loop {
                out.reserve(1 << 10);
                deflate
                    .compress_vec(&[], out, FlushCompress::Sync)
                    .map_err(io::Error::other)?;
                // Room that is left says that it is complete.
                if out.len() < out.capacity() {
                    break;
                }
            }
        }
        self.dirty = false;
        Ok(())
    }

    fn send(&mut self, stream: &mut BoxStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, &self.out[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.sent = 0;
        self.out.clear();
        Poll::Ready(Ok(()))
    }

    /// A compressor that begins anew only never refers to what was before.
    fn park(&mut self) -> Option<Compress> {
        if self.dirty || !self.out.is_empty() {
            return None;
        }
        std::mem::take(self).deflate
    }
}

impl AsyncRead for Deflated {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.reader.ended || this.reader.inflate(out, &this.tables)? {
                this.silence = None;
                return Poll::Ready(Ok(()));
            }
            if this.reader.ended {
                continue;
            }
            let mut room = [0; INPUT];
            let mut read = ReadBuf::new(&mut room);
            match Pin::new(&mut this.stream).poll_read(cx, &mut read) {
                Poll::Pending => {
                    this.silent(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.reader.input.extend_from_slice(read.filled()),
            }
        }
    }
}

impl AsyncWrite for Deflated {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writer.out.len() >= OUTPUT {
            ready!(this.writer.send(&mut this.stream, cx))?;
        }
        let piece = &data[..data.len().min(PIECE)];
        this.writer.deflate(piece, &this.tables)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.writer.flush()?;
        ready!(this.writer.send(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.writer.flush()?;
        ready!(this.writer.send(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Two ends that compress for each other.
    fn pair() -> (Deflated, Deflated) {
        let (a, b) = duplex(4096);
        let over = |stream| {
            let tables = Arc::new(Tables::default());
            Deflated::new(Box::new(stream) as BoxStream, BytesMut::new(), tables)
        };
        (over(a), over(b))
    }

    async fn say(from: &mut Deflated, to: &mut Deflated, text: &[u8]) {
        let write = async {
            from.write_all(text).await.unwrap();
            from.flush().await.unwrap();
        };
        let mut got = vec![0; text.len()];
        let read = to.read_exact(&mut got);
        let (_, read) = tokio::join!(write, read);
        read.unwrap();
        assert!(got == text);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_streams_give_their_tables_back_and_go_on() {
        let (mut client, mut server) = pair();
        let line = b"a1 UID FETCH 1:* (FLAGS BODY.PEEK[HEADER])\r\n".repeat(20);
        for _ in 0..3 {
            say(&mut client, &mut server, &line).await;
            say(&mut server, &mut client, b"* OK\r\n").await;
            assert!(server.reader.inflate.is_some() && server.writer.deflate.is_some());
            let waited = tokio::time::timeout(2 * PARK, server.read_u8()).await;
            assert!(waited.is_err());
            assert!(server.reader.inflate.is_none() && server.writer.deflate.is_none());
            assert_eq!(server.tables.0.lock().deflate.len(), 1, "for others");
            assert!(server.reader.history.capacity() <= WINDOW);
        }
        // The client, which did not forget, refers to what it sent before.
        assert!(client.writer.deflate.is_some());
        say(&mut client, &mut server, &line).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_given_back_within_a_line() {
        let (mut client, mut server) = pair();
        say(&mut client, &mut server, b"a1 LOGIN").await;
        let waited = tokio::time::timeout(2 * PARK, server.read_u8()).await;
        assert!(waited.is_err() && server.reader.inflate.is_some());
        say(&mut client, &mut server, b" x y\r\n").await;
    }

    #[tokio::test]
    async fn what_is_not_compressed_is_an_error() {
        let (mut client, server) = duplex(100);
        let read = BytesMut::from(&b"a1 NOOP\r\n"[..]);
        let mut server = Deflated::new(Box::new(server), read, Arc::default());
        client.write_all(b"a2 NOOP\r\na3 NOOP\r\n").await.unwrap();
        let mut out = [0; 10];
        assert!(server.read(&mut out).await.is_err());
    }

    #[tokio::test]
    async fn the_end_is_the_end() {
        let (client, mut server) = pair();
        drop(client);
        assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn much_from_little_comes_in_pieces() {
        let (mut client, mut server) = pair();
        let zeroes = vec![0; 10 << 20];
        let write = async {
            client.write_all(&zeroes).await.unwrap();
            client.flush().await.unwrap();
        };
        let read = async {
            let mut left = zeroes.len();
            let mut piece = vec![0; 1000];
            while left > 0 {
                left -= server.read(&mut piece).await.unwrap();
                assert!(server.reader.history.capacity() <= 4 * WINDOW && server.reader.input.capacity() <= 4 * INPUT);
            }
        };
        tokio::join!(write, read);
    }

    proptest! {
        #[test]
        fn everything_arrives(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 1..8)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (mut client, mut server) = pair();
                for piece in &pieces {
                    say(&mut client, &mut server, piece).await;
                    let twice = [&piece[..], &piece[..]].concat();
                    say(&mut server, &mut client, &twice).await;
                }
            });
        }
    }
}
