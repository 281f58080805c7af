//! A stream of BDAT commands and chunks: a chunk ends where its command says, however the input is cut, and the message
//! is what was sent, or faulty, or with its line ends mended.

use mox_smtp::{ChunkDecoder, Command, Decode, Fault, Lines};

/// Chunks that one input may have.
const CHUNKS: usize = 64;

/// The chunks of an input: lines that are BDAT, each with its octets behind it.
fn chunks(mut input: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while all.len() < CHUNKS {
        let Some(end) = input.windows(2).position(|w| w == b"\r\n") else {
            break;
        };
        let (line, rest) = (&input[..end], &input[end + 2..]);
        match Command::parse(line) {
            Ok(Command::Bdat(octets, last)) => {
                let Some((chunk, rest)) = usize::try_from(octets).ok().and_then(|n| rest.split_at_checked(n)) else {
                    break;
                };
                all.push(chunk);
                input = rest;
                if last {
                    break;
                }
            }
            Ok(_) => input = rest,
            Err(error) if error.is_final() => break,
            Err(_) => input = rest,
        }
    }
    all
}

/// The message and its fault.
fn decode(chunks: &[&[u8]], lines: Lines, piece: usize) -> (Vec<u8>, Option<Fault>) {
    let mut decoder = ChunkDecoder::new(lines);
    let mut message = Vec::new();
    for chunk in chunks {
        let input = [chunk, &b"QUIT\r\n"[..]].concat();
        decoder.begin(chunk.len() as u64);
        let mut at = 0;
        while !decoder.is_done() {
            let end = (at + piece).min(input.len());
            let step = decoder.decode(&input[at..end]);
            message.extend_from_slice(step.data);
            at += step.consumed;
        }
        assert_eq!(at, chunk.len());
    }
    message.extend_from_slice(decoder.finish());
    (message, decoder.fault())
}

/// See the top.
pub fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let piece = usize::from(*first) + 1;
    let chunks = chunks(rest);
    let whole = chunks.concat();
    for lines in [Lines::Strict, Lines::Mend] {
        let (message, fault) = decode(&chunks, lines, piece);
        assert_eq!((&message, fault), (&decode(&[&whole], lines, usize::MAX / 2).0, fault));
        assert!(message.is_empty() || message.ends_with(b"\n"));
        let bare_lf = |i: usize| message[i] == b'\n' && (i == 0 || message[i - 1] != b'\r');
        match lines {
            Lines::Strict => {
                assert!(message.starts_with(&whole));
                assert!(fault.is_some() || !(0..message.len()).any(bare_lf));
            }
            Lines::Mend => assert!(!(0..message.len()).any(bare_lf)),
        }
    }
}
