//! Data: the end is at the first CRLF.CRLF and nowhere else, however the input is cut, and what was sent is what arrives.

use mox_smtp::{DataDecoder, DataEncoder, Lines};

/// The message and the octets behind its end, if it has one.
fn decode(input: &[u8], lines: Lines, piece: usize) -> Option<(Vec<u8>, usize)> {
    let mut decoder = DataDecoder::new(lines);
    let (mut message, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let end = (at + piece).min(input.len());
        let step = decoder.decode(&input[at..end]);
        message.extend_from_slice(step.data);
        at += step.consumed;
        if step.done {
            return Some((message, input.len() - at));
        }
    }
    None
}

/// See the top.
pub fn run(input: &[u8]) {
    let Some((first, data)) = input.split_first() else {
        return;
    };
    let piece = usize::from(*first) + 1;
    for lines in [Lines::Strict, Lines::Mend] {
        assert_eq!(decode(data, lines, piece), decode(data, lines, usize::MAX / 2));
    }
    let framed = [b"\r\n", data].concat();
    let end = framed
        .windows(5)
        .position(|w| w == b"\r\n.\r\n")
        .map(|i| data.len() - (i + 3));
    assert_eq!(decode(data, Lines::Strict, piece).map(|(_, rest)| rest), end);

    let mut sent = Vec::new();
    let mut encoder = DataEncoder::new();
    for part in data.chunks(piece) {
        encoder.encode(part, &mut sent);
    }
    encoder.finish(&mut sent);
    assert_eq!(decode(&sent, Lines::Mend, piece).map(|(_, rest)| rest), Some(0));
}
