//! Connections: where commands begin and end does not depend on how the bytes arrive.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mox_imap_proto::append::{Next, parse_start};
use mox_imap_proto::framer::take_line;
use mox_imap_proto::{Event, Framer, FramingError, Names, limits};

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Command(Bytes),
    /// The message of an APPEND, or what is there of it.
    Message(Bytes, u64),
    End(FramingError),
}

/// A session without answers: takes what came, and leaves what is not whole.
fn listen(input: &[u8], piece: usize) -> (Vec<Seen>, BytesMut) {
    let (mut framer, mut buffer, mut seen) = (Framer::default(), BytesMut::new(), Vec::new());
    let mut skip = 0u64;
    for part in input.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            if skip > 0 {
                let n = skip.min(buffer.len() as u64);
                let _ = buffer.split_to(n as usize);
                skip -= n;
                if skip > 0 {
                    break;
                }
            }
            match framer.next(&mut buffer) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Command(command)) => seen.push(Seen::Command(command)),
                Ok(Event::Literal(header)) => {
                    let start = parse_start(framer.start(&buffer), Names::Utf7, true);
                    if start.is_some_and(|s| s.is_ok_and(|a| a.value.segment.next != Next::Accept)) {
                        seen.push(Seen::Message(framer.take_start(&mut buffer), header.size));
                        skip = header.size;
                        continue;
                    }
                    if let Err(error) = framer.accept(limits::COMMAND_LITERALS) {
                        seen.push(Seen::End(error));
                        return (seen, BytesMut::new());
                    }
                }
                Err(error) => {
                    seen.push(Seen::End(error));
                    return (seen, BytesMut::new());
                }
            }
        }
    }
    (seen, buffer)
}

fuzz_target!(|data: (u8, &[u8])| {
    let (piece, data) = (usize::from(data.0) + 1, data.1);
    assert_eq!(listen(data, piece), listen(data, usize::MAX));

    let mut buffer = BytesMut::from(data);
    while let Ok(Some(line)) = take_line(&mut buffer, limits::SASL_LINE) {
        assert!(!line.contains(&b'\n'));
    }
});
