//! Mail in files, as other programs keep and exchange it: [`mbox`] and [`maildir`], and how they write [`flags`].
//!
//! Parsers and writers of bytes and names; whoever uses them opens the files. Messages within have lines that end in LF,
//! ours end in CRLF.

pub mod flags;
pub mod maildir;
pub mod mbox;

/// A message's lines as files of other programs have them: CRLF becomes LF, all else stays.
pub fn to_lf(bytes: &[u8], out: &mut Vec<u8>) {
    let mut kept = 0;
    for at in memchr::memmem::find_iter(bytes, b"\r\n") {
        out.extend_from_slice(&bytes[kept..at]);
        kept = at + 1;
    }
    out.extend_from_slice(&bytes[kept..]);
}

/// Makes lines end in CRLF, piece by piece: LF becomes CRLF, all else stays.
#[derive(Debug, Default)]
pub struct ToCrlf {
    after_cr: bool,
}

impl ToCrlf {
    /// Adds a piece to `out`.
    pub fn piece(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut kept = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let crlf = if at == 0 { self.after_cr } else { bytes[at - 1] == b'\r' };
            if !crlf {
                out.extend_from_slice(&bytes[kept..at]);
                out.push(b'\r');
                kept = at;
            }
        }
        out.extend_from_slice(&bytes[kept..]);
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_come_back(lines in prop::collection::vec("[a-z\r ]{0,9}[a-z ]", 0..9), cuts in prop::collection::vec(0usize..60, 0..6)) {
            let message = lines.join("\r\n").into_bytes();
            let mut lf = Vec::new();
            to_lf(&message, &mut lf);
            let (mut crlf, mut out) = (ToCrlf::default(), Vec::new());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(lf.len())).chain([0, lf.len()]).collect();
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                crlf.piece(&lf[pair[0]..pair[1]], &mut out);
            }
            prop_assert_eq!(&out, &message);
            // What ends in CRLF already stays, however it is cut.
            let (mut crlf, mut out) = (ToCrlf::default(), Vec::new());
            message.chunks(3).for_each(|piece| crlf.piece(piece, &mut out));
            prop_assert_eq!(&out, &message);
        }
    }
}
