//! Bytes that travel compressed (RFC 4978): one stream of raw DEFLATE in each direction.

use std::io::{Read, Result, Write};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::lines::Transport;

const BUFFER: usize = 16 << 10;

/// A transport within another.
pub(super) struct Deflated {
    inner: Box<dyn Transport>,
    compress: Compress,
    decompress: Decompress,
    /// Arrived, and not decompressed yet.
    arrived: Vec<u8>,
}

impl Deflated {
    pub(super) fn new(inner: Box<dyn Transport>) -> Self {
        Self {
            inner,
            compress: Compress::new(Compression::default(), false),
            decompress: Decompress::new(false),
            arrived: Vec::new(),
        }
    }

    fn send(&mut self, mut data: &[u8], flush: FlushCompress) -> Result<()> {
        let mut out = [0; BUFFER];
        loop {
            let (had_in, had_out) = (self.compress.total_in(), self.compress.total_out());
            self.compress
                .compress(data, &mut out, flush)
                .map_err(std::io::Error::other)?;
            let (taken, made) = (self.compress.total_in() - had_in, self.compress.total_out() - had_out);
            data = &data[taken as usize..];
            self.inner.write_all(&out[..made as usize])?;
            if data.is_empty() && (made as usize) < BUFFER {
                return Ok(());
            }
        }
    }
}

impl Read for Deflated {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            let (had_in, had_out) = (self.decompress.total_in(), self.decompress.total_out());
            self.decompress
                .decompress(&self.arrived, out, FlushDecompress::Sync)
                .map_err(std::io::Error::other)?;
            self.arrived.drain(..(self.decompress.total_in() - had_in) as usize);
            let made = (self.decompress.total_out() - had_out) as usize;
            if made > 0 || out.is_empty() {
                return Ok(made);
            }
            let mut more = [0; BUFFER];
            let n = self.inner.read(&mut more)?;
            if n == 0 {
                return Ok(0);
            }
            self.arrived.extend_from_slice(&more[..n]);
        }
    }
}

impl Write for Deflated {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        self.send(data, FlushCompress::None)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.send(&[], FlushCompress::Sync)?;
        self.inner.flush()
    }
}
